package store

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Tail is the end of an object.
type Tail struct {
	Data []byte    // the last bytes: those asked for, or the whole object if it has no more
	Now  time.Time // by the store's clock; zero if the store does not tell

	opaque bool // the ETag is not made of the content
}

// tailSize is how many bytes [Remote.LatestAnnounced] asks for: the frame of a release with 230 systems.
const tailSize = 64 << 10

// tailer is a backend, as each is: see [Remote.Tail]. The answer may hold more than was asked for.
type tailer interface {
	tail(ctx context.Context, v Version, n int64) (Tail, error)
}

// looker is a backend that can answer with the version and the end of its object in one request. It returns
// have, and no tail, if the object is still that version; and no tail if the store sends the whole object instead
// and that is longer than n bytes.
type looker interface {
	look(ctx context.Context, have Version, n int64) (Version, Tail, error)
}

// kept is the end of the version that the store showed last, so that nobody asks for it again.
type kept struct {
	Version
	Tail
	at time.Time // when it was read, by this machine's clock
}

// whole reports whether it is all of v.
func (k kept) whole(v Version) bool { return k.Same(v) && k.Size > 0 && int64(len(k.Data)) == k.Size }

// Tail returns the last n bytes of version v, in one request or, if [Remote.LatestAnnounced] has brought them,
// in none. ErrChanged means that the object is another one by now.
func (r *Remote) Tail(ctx context.Context, v Version, n int64) (Tail, error) {
	if k := r.keptTail(); k.Same(v) && (int64(len(k.Data)) >= n || k.whole(v)) {
		t := k.Tail
		t.Data = t.Data[max(0, int64(len(t.Data))-n):]
		if !t.Now.IsZero() {
			t.Now = t.Now.Add(time.Since(k.at))
		}
		return t, nil
	}

	ctx, watch := watchTransfer(ctx, n)
	defer watch.stop()

	t, err := r.backend.(tailer).tail(ctx, v, n)
	if err != nil {
		return Tail{}, fmt.Errorf("read the end of %s: %w", r.url, watch.explain(err))
	}
	t.Data = t.Data[max(0, int64(len(t.Data))-n):]

	return t, nil
}

func (r *Remote) keptTail() kept {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.kept
}

// look is Latest that also keeps the end of a new version, if the store gives both in one answer.
func (r *Remote) look(ctx context.Context, have Version) (Version, error) {
	b, ok := r.backend.(looker)
	if !ok || r.headOnly.Load() {
		return r.Latest(ctx, have)
	}
	ctx, watch := watchTransfer(ctx, tailSize)
	defer watch.stop()

	// What is kept is no news either, such as of a version that the host has rejected.
	known := r.keptTail()
	if have.ETag == "" || known.ETag == "" {
		known.Version = have
	}
	v, t, err := b.look(ctx, known.Version, tailSize)
	if err != nil {
		return Version{}, fmt.Errorf("look at %s: %w", r.url, watch.explain(err))
	}
	r.remember(v)
	switch {
	case t.Data != nil:
		r.mu.Lock()
		r.kept = kept{v, t, time.Now()}
		r.mu.Unlock()
		if v.Same(known.Version) {
			r.headOnly.Store(true) // it ignores conditions
		}
	case !v.Same(known.Version):
		r.headOnly.Store(true) // it ignores ranges
	}
	if v.Same(have) {
		return have, nil
	}

	return v, nil
}

// lastBytes reads to the end and keeps the last n bytes: some servers ignore Range and send everything.
func lastBytes(r io.Reader, n int64) ([]byte, error) {
	kept := make([]byte, 0, 4<<10)
	for {
		switch {
		case len(kept) < cap(kept):
		case int64(len(kept)) < 2*n:
			kept = slices.Grow(kept, 1)
		default:
			kept = kept[:copy(kept, kept[int64(len(kept))-n:])]
		}
		got, err := r.Read(kept[len(kept):cap(kept)])
		kept = kept[:len(kept)+got]
		switch err {
		case nil:
		case io.EOF:
			return kept[max(0, int64(len(kept))-n):], nil
		default:
			return nil, err
		}
	}
}

// pinned returns ErrChanged if the store answered with another version than v.
func pinned(got, v Version) error {
	if v.ETag != "" && !got.Same(v) {
		return fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got.ETag, v.ETag)
	}

	return nil
}

func (b *s3Backend) tail(ctx context.Context, v Version, n int64) (Tail, error) {
	in := &s3.GetObjectInput{}
	if v.ETag != "" {
		in.IfMatch = aws.String(quoteETag(v.ETag))
	}
	got, t, err := b.end(ctx, in, n, true)
	if b.deniesItself(ctx, "", v, err) {
		in.IfMatch = nil
		got, t, err = b.end(ctx, in, n, true)
	}
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return Tail{}, nil // it is empty
	}
	if err != nil {
		return Tail{}, b.explain(err, "read")
	}

	return t, pinned(got, v)
}

func (b *s3Backend) look(ctx context.Context, have Version, n int64) (Version, Tail, error) {
	in := &s3.GetObjectInput{}
	if have.ETag != "" {
		in.IfNoneMatch = aws.String(quoteETag(have.ETag))
	}
	v, t, err := b.end(ctx, in, n, false)
	switch {
	case have.ETag != "" && status(err) == http.StatusNotModified:
		return have, Tail{}, nil
	case status(err) == http.StatusRequestedRangeNotSatisfiable: // it is empty
		v, err := b.head(ctx, "", Version{})
		return v, Tail{Data: []byte{}}, err
	case err != nil:
		return Version{}, Tail{}, b.explain(err, "read")
	}
	v, err = identified(v)

	return v, t, err
}

// end reads the last n bytes. If the store sends all of a longer object instead, that is read if patient says so.
func (b *s3Backend) end(ctx context.Context, in *s3.GetObjectInput, n int64, patient bool) (Version, Tail, error) {
	in.Bucket, in.Key, in.Range, in.VersionId = &b.bucket, &b.key, aws.String(fmt.Sprintf("bytes=-%d", n)), b.pinnedTo()
	out, err := b.api.GetObject(ctx, in)
	if err != nil {
		return Version{}, Tail{}, err
	}
	defer out.Body.Close()
	v, t := versionOfGet(out), Tail{opaque: ofOwnKey(out)}
	if out.ContentRange == nil && (v.Size == 0 || v.Size > n) && !patient {
		return v, t, nil
	}
	t.Now, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	t.Data, err = lastBytes(out.Body, n)

	return v, t, err
}

func (b *httpBackend) tail(ctx context.Context, v Version, n int64) (Tail, error) {
	got, t, err := b.end(ctx, Version{}, n, true)
	if err != nil || got.ETag == "" {
		return Tail{}, err
	}

	return t, pinned(got, v)
}

func (b *httpBackend) look(ctx context.Context, have Version, n int64) (Version, Tail, error) {
	v, t, err := b.end(ctx, have, n, false)
	if err == nil && v.ETag == "" { // it is empty
		v, err = b.head(ctx, "", Version{})
		t.Data = []byte{}
	}

	return v, t, err
}

// end reads the last n bytes, unless the object is have. If the server sends all of a longer object instead, that
// is read if patient says so. An empty object has no version.
func (b *httpBackend) end(ctx context.Context, have Version, n int64, patient bool) (Version, Tail, error) {
	resp, err := b.ask(ctx, http.MethodGet, "", have, fmt.Sprintf("bytes=-%d", n))
	if err != nil {
		return Version{}, Tail{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && have.ETag != "":
		return have, Tail{}, nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return Version{}, Tail{}, nil
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		return Version{}, Tail{}, refused(resp, "npcnix push publishes it")
	}

	v, err := versionOf(resp)
	if err != nil || resp.StatusCode == http.StatusOK && (v.Size == 0 || v.Size > n) && !patient {
		return v, Tail{}, err
	}
	t := Tail{}
	t.Now, _ = http.ParseTime(resp.Header.Get("Date")) // zero without one
	t.Data, err = lastBytes(resp.Body, n)

	return v, t, err
}

func (b *fileBackend) tail(ctx context.Context, v Version, n int64) (Tail, error) {
	f, err := b.open(ctx, "")
	if err != nil {
		return Tail{}, err
	}
	defer f.Close()
	if _, err := b.pin(ctx, f, v); err != nil {
		return Tail{}, err
	}

	return fileTail(ctx, f, n)
}

func fileTail(ctx context.Context, f *os.File, n int64) (Tail, error) {
	info, err := f.Stat()
	if err != nil {
		return Tail{}, explainFile(err)
	}
	if _, err := f.Seek(max(0, info.Size()-n), io.SeekStart); err != nil {
		return Tail{}, explainFile(err)
	}
	data, err := lastBytes(ctxReader{ctx, f}, n)

	return Tail{Data: data, Now: time.Now()}, err
}
