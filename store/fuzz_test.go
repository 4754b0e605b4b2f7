package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fuzzSeeds are inputs of FuzzUnpack: bytes as they come, a tar, or lines like
// "type name|target" that make entries of one.
var fuzzSeeds = []struct {
	form byte
	data string
}{
	{2, "0 flake.nix\n5 a/\n0 a/b\n2 a/l|../flake.nix\n1 h|a/b"},
	{2, "2 l|../outside\n0 l/x"},
	{2, "2 a/b/top|../..\n2 l|a/b/top/../outside\n0 l/precious"},
	{2, "2 d/top|..\n2 d/l|top/../outside"},
	{2, "2 l|d\n2 d|..\n0 l/precious"},
	{2, "0 x\n2 x|../precious\n0 x"},
	{2, "5 d\n2 d|..\n0 d/precious"},
	{2, "1 h|../precious\n0 h"},
	{2, "0 /tmp/x\n0 ../precious\n0 a/../../precious"},
	{2, "6 p\n3 c\n4 b\ng g\n5 .\n0 .\n2 .|.."},
	{2, "0 x\n1 y|x\n1 x|y\n0 y"},
}

// FuzzUnpack checks, whatever the archive, that the unpacker asks its tree for nothing
// that leads out, that no link does, and that every error says whose fault it is.
func FuzzUnpack(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s.form, []byte(s.data))
		f.Add(byte(1), tarOfLines(s.data))
		f.Add(byte(0), compress(f, tarOfLines(s.data)))
	}
	limits := Limits{Entries: 200, Bytes: 1 << 20}
	// One for all, as to make one costs more than to unpack.
	zr, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(1<<16), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, form byte, data []byte) {
		var a *archive
		switch form % 3 {
		case 0:
			var err error
			if a, err = newArchive(zr, bytes.NewReader(data), limits.Bytes); err != nil {
				t.Fatal(err)
			}
		case 1:
			a = openTar(data, limits.Bytes)
		case 2:
			a = openTar(tarOfLines(string(data)), limits.Bytes)
		}
		tree := newMemory(t)
		err := newUnpacker(tree, limits).archive(t.Context(), a)
		if err != nil && !errors.Is(err, ErrUnsafe) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("nobody is to blame for %v", err)
		}
		if len(tree.nodes) > limits.Entries+1 {
			t.Errorf("%d entries were made", len(tree.nodes))
		}
		tree.checkLinks()
	})
}

// openTar is openArchive of what is not compressed.
func openTar(data []byte, limit int64) *archive {
	a := &archive{
		packed: source{n: int64(len(data)) + 4, err: io.EOF}, frames: &frameCounter{},
		plain: source{r: bytes.NewReader(data), limit: limit},
	}
	a.tr = tar.NewReader(&a.plain)
	return a
}

func compress(tb testing.TB, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return w.EncodeAll(data, nil)
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

// SeedArchives are the seeds as archives, for tests on disk.
func SeedArchives(tb testing.TB) [][]byte {
	var archives [][]byte
	for _, s := range fuzzSeeds {
		archives = append(archives, compress(tb, tarOfLines(s.data)))
	}
	return archives
}

// Frames are counted however the stream is cut.
func TestFramesAreCountedHoweverTheStreamIsCut(t *testing.T) {
	var stream []byte
	for range 100 {
		stream = append(stream, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0)
		stream = append(stream, 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0)
	}
	for size := 1; size < 30; size++ {
		c := &frameCounter{r: bytes.NewReader(stream)}
		for p := make([]byte, size); ; {
			if _, err := c.Read(p); err != nil {
				break
			}
		}
		if c.frames != 200 {
			t.Errorf("in pieces of %d bytes: %d frames, want 200", size, c.frames)
		}
	}
}
