package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
)

// ErrNoListing means that the store cannot list records, as web servers cannot. The
// record of a host can still be read by the host's name.
var ErrNoListing = errors.New("a web server cannot list records")

// ErrNoRecord means that the object in a record's place is too large to be one.
var ErrNoRecord = errors.New("not a record")

// RecordInfo identifies one content of a host's record.
type RecordInfo struct {
	Host     string
	ETag     string    // opaque; another one when the record has changed
	Modified time.Time // when it was written, by the store's clock
}

// recordsSuffix and recordExt come before and after a host's name.
const (
	recordsSuffix = ".acks/"
	recordExt     = ".json"
)

// maxRecord is the size in bytes up to which a record is read. A record has a host's
// status and the tail of a log.
const maxRecord = 1 << 20

// PutRecord stores a host's acknowledgement record beside the object, as
// <remote>.acks/<host>.json. The name must be valid as one path element.
func (r *Remote) PutRecord(ctx context.Context, host string, body []byte) error {
	suffix, err := recordSuffix(host)
	if err != nil {
		return err
	}
	return r.putRecord(ctx, host, suffix, body)
}

// PutRecordCopy stores a copy of a record as <remote>.acks/<folder>/<host>.json. The folder's name is one path
// element. Records omits copies: they are for what a store tells others of new objects.
func (r *Remote) PutRecordCopy(ctx context.Context, folder, host string, body []byte) error {
	suffix, err := recordSuffix(host)
	if err != nil {
		return err
	}
	return r.putRecord(ctx, host, copySuffix(folder, suffix), body)
}

func copySuffix(folder, suffix string) string {
	return recordsSuffix + folder + "/" + strings.TrimPrefix(suffix, recordsSuffix)
}

func (r *Remote) putRecord(ctx context.Context, host, suffix string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	if _, err := r.backend.put(ctx, suffix, bytes.NewReader(body), int64(len(body)), nil); err != nil {
		return fmt.Errorf("put record of %s: %w", host, err)
	}
	return nil
}

// GetRecord returns a host's acknowledgement record, or ErrNotFound if the
// host has not written one.
func (r *Remote) GetRecord(ctx context.Context, host string) ([]byte, error) {
	suffix, err := recordSuffix(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	body, _, err := r.backend.get(ctx, suffix, Version{})
	if err != nil {
		return nil, fmt.Errorf("get record of %s: %w", host, err)
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("get record of %s: %w", host, err)
	}
	if len(b) > maxRecord {
		return nil, fmt.Errorf("get record of %s: more than %d bytes: %w", host, maxRecord, ErrNoRecord)
	}
	return b, nil
}

// Records lists the records beside the object, in any order. It makes one request
// per 1,000 records, and omits objects without a host's name. For a web server it
// returns ErrNoListing.
func (r *Remote) Records(ctx context.Context) ([]RecordInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	l, ok := r.backend.(lister)
	if !ok {
		return nil, fmt.Errorf("list records beside %s: %w: name the hosts", r.url, ErrNoListing)
	}
	found, err := l.list(ctx, recordsSuffix)
	if err != nil {
		return nil, fmt.Errorf("list records beside %s: %w", r.url, err)
	}
	var out []RecordInfo
	for _, info := range found {
		host, isRecord := strings.CutSuffix(info.Host, recordExt)
		if isRecord && CheckHost(host) == nil {
			info.Host = host
			out = append(out, info)
		}
	}
	return out, nil
}

// StatRecord looks at one host's record without reading it, or returns
// ErrNotFound if the host has not written one.
func (r *Remote) StatRecord(ctx context.Context, host string) (RecordInfo, error) {
	suffix, err := recordSuffix(host)
	if err != nil {
		return RecordInfo{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	v, err := r.backend.head(ctx, suffix, Version{})
	if err != nil {
		return RecordInfo{}, fmt.Errorf("look at the record of %s: %w", host, err)
	}
	return RecordInfo{Host: host, ETag: v.ETag, Modified: v.Modified}, nil
}

// hostName is what a host can be called. Its name is in a key, and printed on terminals and in Markdown.
var hostName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)

// CheckHost returns an error if the name cannot name a record.
func CheckHost(name string) error {
	_, err := recordSuffix(name)
	return err
}

func recordSuffix(host string) (string, error) {
	if host == "." || host == ".." || !hostName.MatchString(host) {
		return "", fmt.Errorf("host name %q cannot name a record: want 1 to 200 letters, digits, dots, underscores and dashes", host)
	}
	return recordsSuffix + host + recordExt, nil
}
