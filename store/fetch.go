package store

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// fetchPauses are made before an archive is fetched again that is unusable but
// that nothing confirms to be what was published.
var fetchPauses = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second}

// Fetch downloads version v and unpacks it into dir, which is created and must
// be empty or absent. ErrChanged means that the object is another one by now.
//
// ErrUnsafe means that this version can never be unpacked. Only bytes that are
// surely the publisher's are judged so: a checksum or an ETag of the content
// confirms them, or a second download that is the same. An archive that ends too
// early is ErrUnsafe only when the store delivered all it has, since a download cut
// short may heal. Nor is anything unpacked that contradicts an ETag which looks like
// the MD5 of the content, until it arrives the same twice: some stores answer with
// the ETag of one version and the content of another while they replace it. On error
// dir may hold a part: the caller removes it.
func (r *Remote) Fetch(ctx context.Context, v Version, dir string) error {
	return r.FetchSigned(ctx, v, Archive{}, dir)
}

// Archive names the packed flake at the beginning of an object, before the frame of a release.
type Archive struct {
	SHA256 string // lower-case hex; "" for any
	Size   int64  // bytes
}

// FetchSigned is Fetch of a packed flake that must be the given one. Another one is ErrNotSigned. Nothing is unpacked
// before all of it was compared with what was signed, and no more is kept on disk than that has.
func (r *Remote) FetchSigned(ctx context.Context, v Version, want Archive, dir string) error {
	if err := r.fetch(ctx, v, want, dir); err != nil {
		return fmt.Errorf("fetch %s: %w", r.url, err)
	}
	return nil
}

func (r *Remote) fetch(ctx context.Context, v Version, want Archive, dir string) error {
	if v.ETag == "" {
		return errors.New("no version to fetch: it has no ETag")
	}
	if last := r.last(); v.Size == 0 && last.Same(v) {
		v.Size = last.Size
	}
	size := v.Size
	if want.SHA256 != "" {
		size = want.Size
		if err := want.holds(v.Size); err != nil {
			return err
		}
	}
	if size > r.limits.Bytes {
		return fmt.Errorf("%w: too large: %d bytes packed, more than the %d allowed unpacked", ErrUnsafe, size, r.limits.Bytes)
	}
	var seen []string // digests of what was in doubt
	for try := 0; ; try++ {
		get := r.backend.get
		if k := r.keptTail(); try == 0 && k.whole(v) {
			get = k.get
		}
		got, err := r.download(ctx, get, v, want, dir)
		switch {
		case err != nil && !errors.Is(err, ErrUnsafe), got.confirmed(v), slices.Contains(seen, got.digest()):
			return err
		case err == nil && !got.contradicts(v):
			return nil
		case try == len(fetchPauses):
			// Not ErrUnsafe: what was published is not known.
			return fmt.Errorf("%d downloads of one version differ, so the network or the store damages them (the last one: %v)", try+1, err)
		}
		seen = append(seen, got.digest())
		if err := removeAllIn(dir); err != nil {
			return err
		}
		if err := sleep(ctx, fetchPauses[try]); err != nil {
			return err
		}
	}
}

// CopyArchive writes the packed flake at the beginning of version v to w, as it is. If it is another one than
// want, the error is ErrNotSigned, and w has what is not to be used.
func (r *Remote) CopyArchive(ctx context.Context, v Version, want Archive, w io.Writer) error {
	ctx, watch := watchTransfer(ctx, v.Size)
	defer watch.stop()
	body, length, err := r.backend.get(ctx, "", v)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", r.url, watch.explain(err))
	}
	defer body.Close()

	got := newReceipt(want.Size)
	in := &download{r: body, watch: watch, want: length}
	if _, err := io.Copy(io.MultiWriter(w, got), io.LimitReader(in, want.Size)); err != nil {
		return fmt.Errorf("fetch %s: %w", r.url, watch.explain(err))
	}
	if got.archiveDigest() != want.SHA256 {
		return fmt.Errorf("fetch %s: %w", r.url, notSigned("the packed flake is not the one that was signed"))
	}

	return nil
}

// getter is a backend's get.
type getter func(ctx context.Context, suffix string, v Version) (io.ReadCloser, int64, error)

// get opens what is kept.
func (k kept) get(context.Context, string, Version) (io.ReadCloser, int64, error) {
	return s3Body{io.NopCloser(bytes.NewReader(k.Data)), false, k.opaque}, k.Size, nil
}

// download makes one attempt, and returns what is known about the bytes it was given.
func (r *Remote) download(ctx context.Context, get getter, v Version, want Archive, dir string) (*receipt, error) {
	ctx, watch := watchTransfer(ctx, v.Size)
	defer watch.stop()
	got := newReceipt(want.Size)
	body, length, err := get(ctx, "", v)
	if err != nil {
		return got, watch.explain(err)
	}
	defer body.Close()
	if length >= 0 && v.Size > 0 && length != v.Size {
		return got, fmt.Errorf("the store announced %d bytes and sends %d: %w", v.Size, length, io.ErrUnexpectedEOF)
	}
	if length < 0 && v.Size > 0 {
		length = v.Size
	}
	bar := newBar(r.progress, "pull", length)
	defer bar.finish()
	in := &download{r: io.TeeReader(body, got), watch: watch, bar: bar, want: length}

	if want.SHA256 != "" {
		return got, watch.explain(r.unpackSigned(ctx, body, in, got, want, dir))
	}
	err = Unpack(ctx, in, dir, r.limits)
	if err == nil || errors.Is(err, ErrUnsafe) || errors.Is(err, io.ErrUnexpectedEOF) {
		// Only a body that arrived whole says something about the archive.
		if rest := in.drain(r.limits.Bytes); rest != nil {
			return got, watch.explain(rest)
		}
	}
	if judged, ok := body.(judgedBody); ok {
		got.verified, got.opaque = judged.verified(), judged.opaque()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrUnsafe) && in.whole() {
		return got, fmt.Errorf("%w: it was cut short before it was published; publish it again", ErrUnsafe)
	}
	return got, watch.explain(err)
}

// receipt is what is known of the bytes of one download.
type receipt struct {
	md5, sha256 hash.Hash
	verified    bool // by the backend
	opaque      bool // the ETag is not made of the content

	archive hash.Hash // of the first bytes,
	left    int64     // of which so many are to come
	header  []byte    // the first bytes after those, where the frame of a release begins
	rest    int64     // how many bytes came after the archive
}

// judgedBody is a body of which the backend knows more.
type judgedBody interface {
	verified() bool // it was compared with a checksum; asked at its end
	opaque() bool   // its ETag is not made of its content
}

// looksLikeMD5 matches the ETags that S3 makes of content which is not encrypted by
// a key of the customer's.
var looksLikeMD5 = regexp.MustCompile(`^[0-9a-f]{32}$`)

func newReceipt(archive int64) *receipt {
	return &receipt{md5: md5.New(), sha256: sha256.New(), archive: sha256.New(), left: archive}
}

func (g *receipt) Write(p []byte) (int, error) {
	g.md5.Write(p)
	first := p[:min(int64(len(p)), g.left)]
	g.archive.Write(first)
	g.left -= int64(len(first))
	rest := p[len(first):]
	g.header = append(g.header, rest[:min(len(rest), skippableHeader-len(g.header))]...)
	g.rest += int64(len(rest))
	return g.sha256.Write(p)
}

// archiveDigest is that of the packed flake; "" if it did not arrive whole.
func (g *receipt) archiveDigest() string {
	if g.left > 0 {
		return ""
	}
	return hex.EncodeToString(g.archive.Sum(nil))
}

func (g *receipt) digest() string { return hex.EncodeToString(g.sha256.Sum(nil)) }

// confirmed reports whether the bytes are surely those of the version: most stores
// make their ETags of content so.
func (g *receipt) confirmed(v Version) bool {
	return g.verified || v.ETag == hex.EncodeToString(g.md5.Sum(nil)) || v.ETag == g.digest()
}

// contradicts reports whether the bytes are hardly those of the version.
func (g *receipt) contradicts(v Version) bool {
	return !g.opaque && looksLikeMD5.MatchString(v.ETag) && !g.confirmed(v)
}

// removeAllIn empties a directory.
func removeAllIn(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
