package store_test

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// FuzzUnpack checks that nothing is ever written outside the directory, whatever
// the archive. The input is bytes as they come, or a tar to be compressed, or
// lines like "type name|target" that make entries of a tar.
func FuzzUnpack(f *testing.F) {
	good := tarOf(f, entry{name: "flake.nix", body: "one"}, entry{name: "a/l", kind: tar.TypeSymlink, link: "../flake.nix"})
	f.Add(byte(0), zst(f, good))
	f.Add(byte(1), good)
	f.Add(byte(1), tarOf(f, entry{name: "../precious", body: "x"}))
	for _, lines := range []string{
		"0 flake.nix\n5 a/\n0 a/b\n2 a/l|../flake.nix\n1 h|a/b",
		"2 l|../outside\n0 l/x",
		"2 a/b/top|../..\n2 l|a/b/top/../outside\n0 l/precious",
		"2 d/top|..\n2 d/l|top/../outside",
		"2 l|d\n2 d|..\n0 l/precious",
		"0 x\n2 x|../precious\n0 x",
		"5 d\n2 d|..\n0 d/precious",
		"1 h|../precious\n0 h",
		"0 /tmp/x\n0 ../precious\n0 a/../../precious",
		"6 p\n3 c\n4 b\ng g\n5 .\n0 .\n2 .|..",
	} {
		f.Add(byte(2), []byte(lines))
	}
	f.Fuzz(func(t *testing.T, form byte, data []byte) {
		switch form % 3 {
		case 1:
			data = zst(t, data)
		case 2:
			data = zst(t, tarOfLines(string(data)))
		}
		// The helper fails the test for what it finds outside.
		_, _ = unpackBeside(t, data, store.Limits{Entries: 200, Bytes: 1 << 20})
	})
}

func tarOfLines(lines string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for line := range strings.SplitSeq(lines, "\n") {
		kind, rest, _ := strings.Cut(line, " ")
		name, target, _ := strings.Cut(rest, "|")
		h := tar.Header{Typeflag: tar.TypeReg, Name: name, Linkname: target}
		if kind != "" {
			h.Typeflag = kind[0]
		}
		if h.Typeflag == tar.TypeReg {
			h.Size, h.Linkname = 1, ""
		}
		if w.WriteHeader(&h) == nil && h.Size == 1 {
			_, _ = w.Write([]byte("x"))
		}
	}
	_ = w.Close()
	return b.Bytes()
}
