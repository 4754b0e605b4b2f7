package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that an archive can demand from the decompressor. It
// is the default of the zstd command.
const maxWindow = 128 << 20

// archive reads a tar in zstd. Its errors tell apart the source, the compression,
// the tar and the size.
type archive struct {
	packed source // what the caller gave
	frames *frameCounter
	zr     *zstd.Decoder
	plain  source // the tar
	tr     *tar.Reader
	begun  bool // an entry was read
}

// source remembers how much was read, and the error at its end.
type source struct {
	r     io.Reader
	n     int64
	limit int64 // 0: none
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.limit > 0 && s.n > s.limit {
		n, err = 0, tooLarge(s.limit)
	}
	if err != nil {
		s.err = err
	}
	return n, err
}

func openArchive(r io.Reader, limit int64) (*archive, error) {
	zr, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return newArchive(zr, r, limit)
}

// newArchive has the decompressor read from r.
func newArchive(zr *zstd.Decoder, r io.Reader, limit int64) (*archive, error) {
	a := &archive{frames: &frameCounter{r: r}, zr: zr}
	a.packed = source{r: a.frames, limit: limit}
	if err := zr.Reset(&a.packed); err != nil {
		zr.Close()
		return nil, err
	}
	a.plain = source{r: zr, limit: limit}
	a.tr = tar.NewReader(&a.plain)
	return a, nil
}

func (a *archive) close() { a.zr.Close() }

// frameCounter refuses an archive of too many frames: even an empty frame costs time.
// It counts the magic numbers that begin them.
type frameCounter struct {
	r      io.Reader
	tail   []byte // bytes read last, which can begin a magic number
	frames int
	head   []byte // bytes read first
}

// How a frame begins; of one to be skipped, a byte comes before.
var (
	frameMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	skipMagic  = []byte{0x2a, 0x4d, 0x18}
)

func (c *frameCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if room := 128 - len(c.head); room > 0 {
		c.head = append(c.head, p[:min(n, room)]...)
	}
	c.count(p[:n])
	if c.frames > maxFrames {
		return 0, unsafe("more than %d zstd frames", maxFrames)
	}
	return n, err
}

func (c *frameCounter) count(p []byte) {
	c.frames += bytes.Count(p, frameMagic) + bytes.Count(p, skipMagic)
	for _, magic := range [][]byte{frameMagic, skipMagic} { // on the border to what was read before
		n := len(magic) - 1
		border := append(c.tail[max(0, len(c.tail)-n):len(c.tail):len(c.tail)], p[:min(n, len(p))]...)
		c.frames += bytes.Count(border, magic)
	}
	c.tail = append(c.tail, p[max(0, len(p)-len(frameMagic)):]...)
	c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-len(frameMagic)):]...)
}

// beginning returns the first bytes. It may be called when the decompressor has ended.
func (c *frameCounter) beginning() []byte {
	rest := make([]byte, 128-len(c.head))
	_, _ = io.ReadFull(c, rest) // what is missing then is not there
	return c.head
}

// next returns the next entry, whose content Read then gives; io.EOF after the last.
func (a *archive) next() (*tar.Header, error) {
	h, err := a.tr.Next()
	if err != nil {
		if err == io.EOF && a.plain.n > 0 {
			return nil, io.EOF
		}
		return nil, a.blame(err)
	}
	a.begun = true
	return h, nil
}

// Read reads the present entry's content.
func (a *archive) Read(p []byte) (int, error) {
	n, err := a.tr.Read(p)
	if err != nil && err != io.EOF {
		err = a.blame(err)
	}
	return n, err
}

// finish reads what follows the last entry, so that the checksum at the end is
// verified.
func (a *archive) finish() error {
	_, err := io.Copy(io.Discard, &a.plain)
	if err != nil {
		return a.blame(err)
	}
	if a.packed.err != io.EOF {
		return a.packed.err // which the decompressor may take for the end
	}
	return nil
}

// blame finds the layer that err comes from. It looks at the packed source only after
// the decompressor has ended, because that reads ahead until then.
func (a *archive) blame(err error) error {
	out := a.plain.err
	ended := out != nil && !errors.Is(out, ErrUnsafe)
	switch {
	case ended && a.packed.err != nil && a.packed.err != io.EOF:
		return a.packed.err
	case ended && (a.packed.n < 4 || a.packed.err == io.EOF && errors.Is(out, io.ErrUnexpectedEOF)):
		return fmt.Errorf("the archive ends too early: %w", io.ErrUnexpectedEOF)
	case errors.Is(out, ErrUnsafe):
		return out
	case errors.Is(out, zstd.ErrMagicMismatch) && a.plain.n == 0 && framing.Match(a.frames.beginning()):
		return unsafe("not a zstd archive: the store keeps the SDK's framing of checksums as content; publish with checksum=when-required in the remote's URL")
	case errors.Is(out, zstd.ErrMagicMismatch) && a.plain.n == 0:
		return unsafe("not a zstd archive")
	case errors.Is(out, zstd.ErrWindowSizeExceeded), errors.Is(out, zstd.ErrDecoderSizeExceeded):
		return unsafe("too large: needs more than %d bytes of memory to unpack", maxWindow)
	case ended && out != io.EOF:
		return unsafe("corrupt zstd: %v", out)
	case !a.begun:
		return unsafe("not a tar archive: %v", err)
	default:
		return unsafe("corrupt tar: %v", err)
	}
}
