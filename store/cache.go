package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ErrCacheKind means that the files of a cache can be neither listed nor deleted: it is no bucket and no directory.
var ErrCacheKind = errors.New("only the files of a cache in S3 or in a directory can be listed")

// maxCacheFile is the size in bytes up to which a file of a cache is read.
const maxCacheFile = 256 << 20

// CacheFile is a file in a binary cache.
type CacheFile struct {
	Name     string // below the cache's URL, such as "nar/….nar.xz"
	Size     int64  // bytes
	Modified time.Time
}

// Cache is the files of a binary cache of nix. It is safe for concurrent use.
type Cache struct {
	backend cacheBackend
	url     string
}

// cacheBackend is a backend whose suffixes are the names of files.
type cacheBackend interface {
	backend
	forgetter
	// files lists those whose names begin with the prefix, in any order.
	files(ctx context.Context, prefix string) ([]CacheFile, error)
	// removeAll deletes at most 1,000 files. What is not there is no error.
	removeAll(ctx context.Context, names []string) error
}

// OpenCache prepares a binary cache and makes no request. The URL is as nix takes it:
//
//	s3://BUCKET[?region=R&endpoint=E&scheme=https&profile=P&…] or file:///DIR[?…]
//
// The error is ErrCacheKind for caches of other kinds, and ErrURL for what is no URL.
func OpenCache(ctx context.Context, rawURL string, o Options) (*Cache, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%w: the cache's does not parse", ErrURL)
	}
	c := &Cache{url: redact(u)}
	switch {
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		c.backend = &fileBackend{path: filepath.Clean(u.Path) + "/"}
	case u.Scheme == "s3" && u.Hostname() != "":
		s, profile := s3OfNix(u)
		o.profile = profile
		b, err := openS3(ctx, s, o)
		if err != nil {
			return nil, fmt.Errorf("open the cache %s: %w", c.url, err)
		}
		c.backend = b
	case u.Scheme == "file", u.Scheme == "s3":
		return nil, fmt.Errorf("%w %q: want s3://BUCKET or file:///DIR", ErrURL, c.url)
	default:
		return nil, fmt.Errorf("%s: %w", c.url, ErrCacheKind)
	}

	return c, nil
}

// s3OfNix is a nix cache's URL in the form of a remote's, and the profile of the credentials. Parameters that are
// about nix alone, such as compression, say nothing of where the files are.
func s3OfNix(u *url.URL) (*url.URL, string) {
	given, q := u.Query(), url.Values{}
	if r := given.Get("region"); r != "" {
		q.Set("region", r)
	}
	if e := given.Get("endpoint"); e != "" {
		if !strings.Contains(e, "://") {
			e = cmp.Or(given.Get("scheme"), "https") + "://" + e
		}
		q.Set("endpoint", e)
		q.Set("path-style", fmt.Sprint(given.Get("addressing-style") != "virtual"))
	}
	s := &url.URL{Scheme: "s3", Host: u.Host, RawQuery: q.Encode()}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		s.Path = "/" + prefix + "/"
	}

	return s, given.Get("profile")
}

// URL returns the cache's printed form, see Redact.
func (c *Cache) URL() string { return c.url }

// List lists the files whose names begin with the prefix, in any order: one request for 1,000 files.
func (c *Cache) List(ctx context.Context, prefix string) ([]CacheFile, error) {
	found, err := c.backend.files(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list the cache %s: %w", c.url, err)
	}

	return found, nil
}

// Read returns the content of a file, and its version; ErrNotFound if there is none.
func (c *Cache) Read(ctx context.Context, name string) ([]byte, Version, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	v, err := c.backend.head(ctx, name, Version{})
	if err != nil {
		return nil, Version{}, fmt.Errorf("read %s of the cache %s: %w", name, c.url, err)
	}
	b, err := c.read(ctx, name, v)

	return b, v, err
}

// ReadAny is Read without the version, by one request.
func (c *Cache) ReadAny(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()

	return c.read(ctx, name, Version{})
}

func (c *Cache) read(ctx context.Context, name string, v Version) ([]byte, error) {
	body, _, err := c.backend.get(ctx, name, v)
	if err == nil {
		defer body.Close()
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(body, maxCacheFile+1)); err == nil && len(b) <= maxCacheFile {
			return b, nil
		}
		if err == nil {
			err = fmt.Errorf("it has more than %d bytes", maxCacheFile)
		}
	}

	return nil, fmt.Errorf("read %s of the cache %s: %w", name, c.url, err)
}

// Write replaces a file at once, or, with over, only if it still is that version (zero: if there is none); otherwise
// the error is ErrChanged. In a directory, two that write at the same moment can both succeed.
func (c *Cache) Write(ctx context.Context, name string, body []byte, over *Version) error {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	if _, err := c.backend.put(ctx, name, bytes.NewReader(body), int64(len(body)), over); err != nil {
		return fmt.Errorf("write %s of the cache %s: %w", name, c.url, err)
	}

	return nil
}

// deleteAtOnce is how many files one request can delete.
const deleteAtOnce = 1000

// Delete deletes files in their order, 1,000 by a request. What is not there is no error. If it fails, some are
// deleted.
func (c *Cache) Delete(ctx context.Context, names []string) error {
	for len(names) > 0 {
		n := min(len(names), deleteAtOnce)
		ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
		err := c.backend.removeAll(ctx, names[:n])
		cancel()
		if err != nil {
			return fmt.Errorf("delete from the cache %s: %w", c.url, err)
		}
		names = names[n:]
	}

	return nil
}

// Now returns the time by the clock that Modified goes by.
func (c *Cache) Now(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	now, err := c.backend.now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask the cache %s for the time: %w", c.url, err)
	}

	return now, nil
}

func (b *s3Backend) files(ctx context.Context, prefix string) (found []CacheFile, err error) {
	err = b.pages(ctx, prefix, func(name string, o types.Object) {
		found = append(found, CacheFile{prefix + name, aws.ToInt64(o.Size), aws.ToTime(o.LastModified)})
	})

	return found, err
}

func (b *s3Backend) removeAll(ctx context.Context, names []string) error {
	var all []types.ObjectIdentifier
	for _, name := range names {
		all = append(all, types.ObjectIdentifier{Key: aws.String(b.key + name)})
	}
	out, err := b.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.bucket, Delete: &types.Delete{Objects: all, Quiet: aws.Bool(true)}})
	if err != nil {
		return b.explain(err, "delete")
	}
	if len(out.Errors) == 0 {
		return nil
	}
	e := out.Errors[0]
	kind := errors.New(aws.ToString(e.Code))
	if aws.ToString(e.Code) == "AccessDenied" {
		kind = ErrForbidden
	}

	return fmt.Errorf("%d of %d files are not deleted, the first is %s: %w: %s", len(out.Errors), len(names), aws.ToString(e.Key), kind, aws.ToString(e.Message))
}

func (b *fileBackend) files(ctx context.Context, prefix string) (found []CacheFile, err error) {
	dir := b.path + prefix[:strings.LastIndex(prefix, "/")+1]
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since, or nothing was ever written
			return nil
		case err != nil:
			return explainFile(err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		name := strings.TrimPrefix(path, b.path)
		if !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) {
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return explainFile(err)
		}
		found = append(found, CacheFile{name, info.Size(), info.ModTime()})
		return nil
	})

	return found, err
}

func (b *fileBackend) removeAll(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := errors.Join(ctx.Err(), os.Remove(b.path+name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explainFile(err)
		}
	}

	return nil
}
