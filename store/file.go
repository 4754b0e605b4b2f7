package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// fileBackend is a file in a directory, which can be on a mounted share. Its ETag is
// the SHA-256 of its content in hex.
type fileBackend struct {
	path string

	mu    sync.Mutex
	known *hashedFile // the object when it was last hashed
}

type hashedFile struct {
	info fs.FileInfo
	etag string
}

// aged is how old a file's time must be before an equal time means equal
// content: file systems count in steps, some of two seconds.
const aged = 3 * time.Second

func (b *fileBackend) head(ctx context.Context, suffix string, _ Version) (Version, error) {
	f, err := b.open(ctx, suffix)
	if err != nil {
		return Version{}, err
	}
	defer f.Close()
	return b.version(ctx, f)
}

func (b *fileBackend) get(ctx context.Context, suffix string, v Version) (io.ReadCloser, int64, error) {
	f, err := b.open(ctx, suffix)
	if err != nil {
		return nil, 0, err
	}
	size, err := b.pin(ctx, f, v)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	h := sha256.New()
	return &verifiedFile{in: io.TeeReader(ctxReader{ctx, f}, h), Closer: f, hash: h, want: v.ETag}, size, nil
}

// pin returns the file's size, or ErrChanged if the file is not v.
func (b *fileBackend) pin(ctx context.Context, f *os.File, v Version) (int64, error) {
	if v.ETag == "" {
		return -1, nil
	}
	now, err := b.version(ctx, f)
	if err != nil {
		return 0, err
	}
	if !now.Same(v) {
		return 0, fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, now.ETag, v.ETag)
	}
	_, err = f.Seek(0, io.SeekStart)
	return now.Size, err
}

func (b *fileBackend) put(ctx context.Context, suffix string, body io.ReadSeeker, size int64, over *Version) (Version, error) {
	name := b.path + suffix
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return Version{}, explainFile(err)
	}
	if err := b.unchanged(ctx, suffix, over); err != nil {
		return Version{}, err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return Version{}, err
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return Version{}, fmt.Errorf("%s is not a file: a remote must be one, to be read by hosts", name)
	}
	out, err := CreateOutput(ctx, name)
	if err != nil {
		return Version{}, explainFile(err)
	}
	defer out.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), ctxReader{ctx, body})
	if err != nil {
		return Version{}, err
	}
	if n != size {
		return Version{}, fmt.Errorf("the archive holds %d bytes, not the %d announced", n, size)
	}
	if err := out.Commit(); err != nil {
		return Version{}, explainFile(err)
	}
	return Version{ETag: hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}

// list hashes each record: records are small, and size and time do not show every
// change.
func (b *fileBackend) list(ctx context.Context, suffix string) ([]RecordInfo, error) {
	dir := b.path + suffix
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explainFile(err)
	}
	var found []RecordInfo
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		info, err := b.stat(ctx, suffix+e.Name())
		switch {
		case errors.Is(err, ErrNotFound): // gone since
		case err != nil:
			return nil, err
		default:
			info.Host = e.Name()
			found = append(found, info)
		}
	}
	return found, nil
}

// stat is head without the remembered hash of the object.
func (b *fileBackend) stat(ctx context.Context, suffix string) (RecordInfo, error) {
	f, err := b.open(ctx, suffix)
	if err != nil {
		return RecordInfo{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return RecordInfo{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(ctxReader{ctx, f}, maxRecord)); err != nil {
		return RecordInfo{}, err
	}
	return RecordInfo{ETag: hex.EncodeToString(h.Sum(nil)), Modified: info.ModTime()}, nil
}

func (b *fileBackend) open(ctx context.Context, suffix string) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := os.Stat(b.path + suffix)
	if err != nil {
		return nil, explainFile(err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for a writer
		return nil, fmt.Errorf("%s is not a file", b.path+suffix)
	}
	f, err := os.Open(b.path + suffix)
	return f, explainFile(err)
}

// version hashes the file, unless it is the file hashed last: same inode, size and
// time. Afterwards the file can be at its end.
func (b *fileBackend) version(ctx context.Context, f *os.File) (Version, error) {
	info, err := f.Stat()
	if err != nil {
		return Version{}, err
	}
	v := Version{Size: info.Size(), Modified: info.ModTime()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.known; k != nil && unchanged(k.info, info) {
		v.ETag = k.etag
		return v, nil
	}
	h := sha256.New()
	if v.Size, err = io.Copy(h, ctxReader{ctx, f}); err != nil {
		return Version{}, err
	}
	v.ETag = hex.EncodeToString(h.Sum(nil))
	after, err := f.Stat()
	if err != nil {
		return Version{}, err
	}
	if unchanged(info, after) && time.Since(info.ModTime()) > aged {
		b.known = &hashedFile{info: info, etag: v.ETag}
	}
	return v, nil
}

func unchanged(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// verifiedFile hashes what is read. It ends with ErrChanged instead of io.EOF if that
// was not the wanted version.
type verifiedFile struct {
	in io.Reader
	io.Closer
	hash hash.Hash
	want string // empty: any
}

func (r *verifiedFile) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err == io.EOF && r.want != "" {
		if got := hex.EncodeToString(r.hash.Sum(nil)); got != r.want {
			err = fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got, r.want)
		}
	}
	return n, err
}

// verified holds at io.EOF, which Read returns only for the wanted version.
func (r *verifiedFile) verified() bool { return r.want != "" }
func (r *verifiedFile) opaque() bool   { return false }

// ctxReader ends when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func explainFile(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: publish it with npcnix push: %w", ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	return err
}

// Files are what stands on this machine's disk for a file remote: the object, and the directory of the records. A
// flake in a directory above it does not hold them.
func (r *Remote) Files() []fs.FileInfo {
	b, is := r.backend.(*fileBackend)
	if !is {
		return nil
	}
	var files []fs.FileInfo
	for _, suffix := range []string{"", recordsSuffix} {
		if info, err := os.Stat(b.path + suffix); err == nil {
			files = append(files, info)
		}
	}
	return files
}

// unchanged returns ErrChanged if the file is not the version over. Between this look and the write another
// publisher may write: a directory has no conditional write.
func (b *fileBackend) unchanged(ctx context.Context, suffix string, over *Version) error {
	if over == nil {
		return nil
	}
	now, err := b.head(ctx, suffix, Version{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if now.ETag != over.ETag {
		return fmt.Errorf("%w: it is %q by now, not %q", ErrChanged, now.ETag, over.ETag)
	}
	return nil
}
