package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A skippable frame of zstd begins with one of sixteen magics and the length of what follows (RFC 8878, section 3.1.2).
const (
	skippableHeader = 8
	skippableMagic  = 0x184D2A50
	magicVariant    = 0xF
)

const (
	maxFrame = skippableHeader + 4<<20 // bytes that can follow a packed flake: see package release
	inMemory = 1 << 20                 // bytes of a packed flake that are compared in memory
)

// unsigned is an ErrNotSigned in words.
type unsigned string

func (u unsigned) Error() string        { return string(u) }
func (u unsigned) Is(target error) bool { return target == ErrNotSigned }

func notSigned(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsafe, unsigned(fmt.Sprintf(format, args...)))
}

// holds returns nil if an object of so many bytes can be a and the frame of a release.
func (a Archive) holds(size int64) error {
	if size > a.Size+maxFrame {
		return notSigned("the object has %d bytes, and the packed flake %d", size, a.Size)
	}

	return nil
}

// unpackSigned unpacks what body has, which is read by way of in, once it is known to be what was signed. Anybody who
// can write the store can put anything there: until then it is neither decompressed nor kept beyond its size.
func (r *Remote) unpackSigned(ctx context.Context, body io.Reader, in *download, got *receipt, want Archive, dir string) error {
	if err := want.holds(in.want); err != nil {
		return err
	}
	var packed io.ReadWriter = new(bytes.Buffer)
	if want.Size > inMemory {
		file, err := os.CreateTemp(filepath.Dir(dir), ".npcnix-packed-*")
		if err != nil {
			return fmt.Errorf("keep the download: %w", err)
		}
		defer file.Close()
		_ = os.Remove(file.Name()) // nothing stays of it, whatever ends this process
		packed = file
	}

	if _, err := io.Copy(packed, io.LimitReader(in, want.Size)); err != nil {
		return err
	}
	if err := in.drain(want.Size + maxFrame); err != nil && in.err == nil {
		return notSigned("%v", err)
	} else if err != nil {
		return err
	}
	if judged, ok := body.(judgedBody); ok {
		got.verified, got.opaque = judged.verified(), judged.opaque()
	}
	if err := got.signed(want); err != nil {
		return err
	}

	if file, ok := packed.(*os.File); ok {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("keep the download: %w", err)
		}
	}
	err := Unpack(ctx, packed, dir, r.limits)
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrUnsafe) {
		return fmt.Errorf("%w: it was cut short before it was published; publish it again", ErrUnsafe)
	}

	return err
}

// signed returns nil if the object is the packed flake that was signed, and one frame that zstd skips.
func (g *receipt) signed(want Archive) error {
	if g.archiveDigest() != want.SHA256 {
		return notSigned("the packed flake is not the one that was signed")
	}
	if len(g.header) < skippableHeader || binary.LittleEndian.Uint32(g.header)&^magicVariant != skippableMagic ||
		int64(binary.LittleEndian.Uint32(g.header[4:])) != g.rest-skippableHeader {
		return notSigned("bytes that nobody signed follow the packed flake")
	}

	return nil
}
