package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// archive KIND FILE: writes what a stranger may put where a packed flake is expected.
func archiveCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, 2, "archive KIND FILE")
	content, err := hostile(args[0])
	ts.Check(err)
	if content == nil {
		ts.Fatalf("there is no archive of the kind %q", args[0])
	}
	file := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, content, 0o644))
}

func hostile(kind string) ([]byte, error) {
	switch kind {
	case "without-flake":
		return archived(file("readme", "x"))
	case "truncated":
		whole, err := archived(file("flake.nix", strings.Repeat("x", 1000)))
		return whole[:len(whole)/2], err
	case "web-page":
		return []byte("<html>Sign in</html>"), nil
	case "plain-tar":
		return tarOf(file("flake.nix", "{}"))
	case "no-tar":
		return compressed(bytes.Repeat([]byte("no tar "), 200))
	case "dotdot":
		return archived(file("flake.nix", "{}"), file("../outside", "x"))
	case "absolute":
		return archived(file("flake.nix", "{}"), file("/npcnix-outside", "x"))
	case "link-out":
		return archived(file("flake.nix", "{}"), link("l", "../outside"))
	case "link-away":
		return archived(file("flake.nix", "{}"), link("l", "/etc/passwd"))
	case "link-through":
		return archived(member{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir}}, link("l", "d"), file("l/x", "x"))
	case "device":
		return archived(member{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar}})
	case "pipe":
		return archived(member{Header: tar.Header{Name: "pipe", Typeflag: tar.TypeFifo}})
	case "million-entries":
		entry, err := tarOf(member{Header: tar.Header{Name: "d/", Typeflag: tar.TypeDir}})
		if err != nil {
			return nil, err
		}
		return repeated(bytes.Repeat(entry[:512], 1000), 1000)
	case "bomb": // 4 GiB of nothing behind a flake
		flake, err := archived(file("flake.nix", "{}"))
		if err != nil {
			return nil, err
		}
		zeros, err := repeated(make([]byte, 8<<20), 512)
		return append(flake, zeros...), err
	case "huge-file":
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "big", Typeflag: tar.TypeReg, Size: 1 << 40}); err != nil {
			return nil, err
		}
		return compressed(b.Bytes())
	}
	return nil, nil
}

// member of an archive.
type member struct {
	tar.Header
	body string
}

func file(name, body string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func link(name, target string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
}

func archived(members ...member) ([]byte, error) {
	plain, err := tarOf(members...)
	if err != nil {
		return nil, err
	}
	return compressed(plain)
}

func tarOf(members ...member) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(m.body)); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func compressed(plain []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(plain, nil), w.Close()
}

// repeated is what unpacks to many times the chunk.
func repeated(chunk []byte, times int) ([]byte, error) {
	frame, err := compressed(chunk)
	return slices.Concat(slices.Repeat([][]byte{frame}, times)...), err
}
