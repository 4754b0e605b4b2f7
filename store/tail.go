package store

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Tail is the end of an object.
type Tail struct {
	Data []byte    // the last bytes: those asked for, or the whole object if it has no more
	Now  time.Time // by the store's clock; zero if the store does not tell
}

// tailer is a backend, as each is: see [Remote.Tail]. The answer may hold more than was asked for.
type tailer interface {
	tail(ctx context.Context, v Version, n int64) (Tail, error)
}

// Tail returns the last n bytes of version v, in one request. ErrChanged means that the object is another
// one by now.
func (r *Remote) Tail(ctx context.Context, v Version, n int64) (Tail, error) {
	ctx, watch := watchTransfer(ctx, n)
	defer watch.stop()

	t, err := r.backend.(tailer).tail(ctx, v, n)
	if err != nil {
		return Tail{}, fmt.Errorf("read the end of %s: %w", r.url, watch.explain(err))
	}
	t.Data = t.Data[max(0, int64(len(t.Data))-n):]

	return t, nil
}

// lastBytes reads to the end and keeps the last n bytes: some servers ignore Range and send everything.
func lastBytes(r io.Reader, n int64) ([]byte, error) {
	var kept []byte
	chunk := make([]byte, 64<<10)
	for {
		got, err := r.Read(chunk)
		kept = append(kept, chunk[:got]...)
		if extra := int64(len(kept)) - n; extra > n {
			kept = append(kept[:0], kept[extra:]...)
		}
		switch err {
		case nil:
		case io.EOF:
			return kept[max(0, int64(len(kept))-n):], nil
		default:
			return nil, err
		}
	}
}

func (b *s3Backend) tail(ctx context.Context, v Version, n int64) (Tail, error) {
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: &b.key, Range: aws.String(fmt.Sprintf("bytes=-%d", n))}
	if v.ETag != "" {
		in.IfMatch = aws.String(quoteETag(v.ETag))
	}
	out, err := b.api.GetObject(ctx, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return Tail{}, nil // it is empty
	}
	if err != nil {
		return Tail{}, b.explain(err, "read")
	}
	defer out.Body.Close()
	if got := unquoteETag(aws.ToString(out.ETag)); v.ETag != "" && got != v.ETag {
		return Tail{}, fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got, v.ETag)
	}

	data, err := lastBytes(out.Body, n)
	now, _ := awsmiddleware.GetServerTime(out.ResultMetadata)

	return Tail{Data: data, Now: now}, err
}

func (b *httpBackend) tail(ctx context.Context, v Version, n int64) (Tail, error) {
	resp, err := b.do(ctx, http.MethodGet, "", func(req *http.Request) {
		req.Header.Set("Range", fmt.Sprintf("bytes=-%d", n))
	})
	if err != nil {
		return Tail{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
	case http.StatusRequestedRangeNotSatisfiable:
		return Tail{}, nil
	default:
		return Tail{}, refused(resp, "npcnix push publishes it")
	}

	got, err := versionOf(resp)
	if err == nil && v.ETag != "" && !got.Same(v) {
		err = fmt.Errorf("%w: it is %s by now, not %s", ErrChanged, got.ETag, v.ETag)
	}
	if err != nil {
		return Tail{}, err
	}
	data, err := lastBytes(resp.Body, n)
	now, _ := http.ParseTime(resp.Header.Get("Date")) // zero without one

	return Tail{Data: data, Now: now}, err
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
