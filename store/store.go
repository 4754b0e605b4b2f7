// Package store reads and publishes packed flakes.
//
// A [Remote] is one object in one store: an S3 bucket, a web server or a
// directory. The store is the truth about what hosts should run, so this
// package makes four promises:
//
//   - A [Version] names one content and never two.
//   - [Remote.Fetch] unpacks exactly that version, or returns an error: never a
//     newer version, never a part of one.
//   - [Remote.Publish] replaces the object at once. No reader sees half of it.
//   - An archive is untrusted data. Whatever it holds, [Unpack] writes within its
//     limits, inside the directory it was given, and nowhere else.
//
// [Pack] gives the same bytes for the same files on every machine, so
// publishing an unchanged flake leaves its version unchanged where the store
// derives ETags from content, as S3 (without KMS), file and most web servers do.
package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers branch on with errors.Is. They arrive wrapped, with what was
// tried and what an operator can do about it.
var (
	// ErrNotFound means that the store has no such object.
	ErrNotFound = errors.New("not found")
	// ErrChanged means that the object is no longer the version asked for.
	ErrChanged = errors.New("object has changed")
	// ErrForbidden means that the store refused the credentials, or that it wants some.
	ErrForbidden = errors.New("forbidden")
	// ErrCredentials means that there are no credentials for the store.
	ErrCredentials = errors.New("no AWS credentials")
	// ErrUnsafe means that the archive itself is unusable or hostile, and that
	// fetching the same version again cannot help.
	ErrUnsafe = errors.New("unsafe archive")
	// ErrNotSigned means that the object is not what the release was signed for: nobody whom the reader trusts
	// has published it, and it says nothing of the release. It comes with ErrUnsafe.
	ErrNotSigned = errors.New("not what was signed")
	// ErrURL means that a remote's URL is malformed or of an unknown scheme.
	ErrURL = errors.New("bad remote URL")
)

// errNoVersion means that the store's answer has nothing that identifies a version.
var errNoVersion = errors.New("versions cannot be told apart")

// Version names one state of a remote's object.
type Version struct {
	ETag     string // opaque, without quotes
	ID       string // S3 version id; empty where the store keeps no versions
	Size     int64  // bytes
	Modified time.Time
}

// Same reports whether v and o name the same content: equal, known ETags.
func (v Version) Same(o Version) bool { return v.ETag != "" && v.ETag == o.ETag }

// Options adjusts Open. The zero value is what an agent wants.
type Options struct {
	// Region of an S3 bucket. Empty: the SDK's own chain (AWS_REGION, shared
	// config). A region in the URL takes precedence over both.
	Region string
	// CredentialsFile holds USER:PASSWORD for a web server; it is read for each
	// request. Empty: the URL's, if any. Other remotes have credentials of their own.
	CredentialsFile string
	// Progress is a terminal on which transfers longer than a second draw a
	// bar; nil draws none. The caller checks that it is a terminal.
	Progress io.Writer
	// MaxEntries and MaxBytes bound what Fetch unpacks; see Limits for the defaults.
	MaxEntries int
	MaxBytes   int64
	// Signed: the caller takes signed releases alone, so that plain http cannot change what it gets.
	Signed bool
	// Warn receives warnings, one line each, including those of the SDK; nil drops
	// them.
	Warn func(msg string)
	// Dial makes the connections to an S3 store, as net.Dialer's DialContext does. Nil: that does.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	profile string // of the credentials in the shared configuration; empty: the SDK's own chain
}

// Bounds on the network. A request for metadata ends after metadataTimeout. A
// transfer ends stallTimeout after its last byte; see transferWatch for its pace.
const (
	metadataTimeout = 30 * time.Second
	stallTimeout    = 30 * time.Second
)

// backend is one kind of store. The suffix is appended to the remote's path:
// empty for the object itself, ".acks/<host>.json" for a record. With an empty
// version the request is unconditional. Errors wrap the sentinels above. Only ctx
// bounds the time.
type backend interface {
	// head returns have itself if the object is still that version.
	head(ctx context.Context, suffix string, have Version) (Version, error)
	// get opens the object, or returns ErrChanged if it is not v. The length is
	// -1 if the store does not give it. The body's Read returns io.EOF only if
	// the whole body arrived.
	get(ctx context.Context, suffix string, v Version) (body io.ReadCloser, length int64, err error)
	// put replaces the object at once, or, with over, only if it still is that version
	// (zero: if there is none), else ErrChanged. It reads body from its start and may
	// read it more than once.
	put(ctx context.Context, suffix string, body io.ReadSeeker, size int64, over *Version) (Version, error)
}

// lister is a backend that can list what is beside the object. As Host it returns
// what follows the remote's path and the suffix, which need not be a host's name. An
// empty list is no error.
type lister interface {
	list(ctx context.Context, suffix string) ([]RecordInfo, error)
}

// Remote is one object in one store. It is safe for concurrent use.
type Remote struct {
	backend  backend
	name     string
	url      string
	masked   bool
	bucket   string
	key      string
	progress io.Writer
	limits   Limits
	warn     func(string)

	mu    sync.Mutex
	shown Version // that the store showed last
	kept  kept

	headOnly atomic.Bool // the store ignores ranges or conditions of a GET: it is asked by HEAD
}

// Open prepares a remote and makes no request. The URL is one of
//
//	s3://BUCKET/KEY[?region=R&endpoint=URL&path-style=true&checksum=when-required]
//	https://[USER:PASSWORD@]HOST/PATH (or http://)
//	file:///PATH
//
// Anything else is ErrURL.
func Open(ctx context.Context, rawURL string, o Options) (*Remote, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	r := &Remote{
		name:     nameOf(u),
		url:      redact(u),
		masked:   redact(u) != u.String(),
		progress: o.Progress,
		warn:     o.Warn,
		limits:   Limits{Entries: o.MaxEntries, Bytes: o.MaxBytes}.orDefault(),
	}
	if r.warn == nil {
		r.warn = func(string) {}
	}
	switch u.Scheme {
	case "s3":
		b, err := openS3(ctx, u, o)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", r.url, err)
		}
		r.backend, r.bucket, r.key = b, b.bucket, b.key
	case "file":
		r.key = filepath.Clean(u.Path)
		r.backend = &fileBackend{path: r.key}
	default:
		r.backend = newHTTP(u, o.CredentialsFile)
	}
	if where := plainHTTP(u); where != "" && !o.Signed {
		r.warn("the remote is reached by plain http: whoever is between here and " + where + " can replace what hosts run; use https")
	}
	return r, nil
}

// URL returns the remote's printed form, see Redact.
func (r *Remote) URL() string { return r.url }

// Masked reports whether the printed form lacks something, so that it cannot be
// used as a remote.
func (r *Remote) Masked() bool { return r.masked }

// Name is what releases call the remote: see [NameOf].
func (r *Remote) Name() string { return r.name }

// Bucket returns the S3 bucket; empty for other stores.
func (r *Remote) Bucket() string { return r.bucket }

// Key returns the S3 key, or the absolute path of a file remote; empty for web servers.
func (r *Remote) Key() string { return r.key }

// CheckFlake returns an error that names dir if it has no flake.nix.
func CheckFlake(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "flake.nix")); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("no flake.nix in %s: give the directory of a flake", dir)
		}
		return fmt.Errorf("check flake: %w", err)
	}
	return nil
}
