package awsfake

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is one version of a key, or a delete marker.
type object struct {
	key       string
	body      []byte // never written again
	etag      string // without quotes
	versionID string // "null" when it was written without versioning
	modified  time.Time
	marker    bool        // a delete marker
	header    http.Header // what the writer gave: content type, metadata, …
	checksum  checksum
}

func (o *object) quotedETag() string { return `"` + o.etag + `"` }

// version is the version id as clients see it: none for what was written without versioning.
func (o *object) version() string {
	if o.versionID == "null" {
		return ""
	}
	return o.versionID
}

// latest is the current version of a key, nil when there is none or it is deleted.
func (b *bucket) latest(key string) *object {
	versions := b.objects[key]
	if len(versions) == 0 || versions[len(versions)-1].marker {
		return nil
	}
	return versions[len(versions)-1]
}

// insert makes o the current version of its key: a new one where the bucket is versioned, else in
// place of the one that was written without versioning.
func (b *bucket) insert(o *object) {
	o.modified = time.Now()
	o.versionID = "null"
	if b.versioning == "Enabled" {
		o.versionID = strings.ReplaceAll(newID(), "-", "")
	}
	b.objects[o.key] = append(slices.DeleteFunc(b.objects[o.key], func(old *object) bool {
		return old.versionID == o.versionID
	}), o)
}

// find returns the version that the request asks for.
func (b *bucket) find(key, versionID string) (*object, error) {
	if versionID == "" {
		if o := b.latest(key); o != nil {
			return o, nil
		}
		missing := refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		if len(b.objects[key]) > 0 {
			missing.header.Set("X-Amz-Delete-Marker", "true")
		}
		return nil, missing
	}
	for _, o := range b.objects[key] {
		if o.versionID == versionID && o.marker {
			return nil, refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
		}
		if o.versionID == versionID {
			return o, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
}

// sameETag says whether a condition's header names the object's ETag.
func (o *object) sameETag(header string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.Trim(tag, `"`) == o.etag {
			return true
		}
	}
	return false
}

func preconditionFailed(condition string) error {
	return refuse(http.StatusPreconditionFailed, "PreconditionFailed",
		"At least one of the pre-conditions you specified did not hold: %s", condition)
}

// write inserts o if the request's conditions hold, and publishes its event.
func (c *Cloud) write(r *request, o *object, event string) (*answer, error) {
	var out []Event
	a, err := c.withBucket(r, func(b *bucket) (*answer, error) {
		now := b.latest(o.key)
		if r.Header.Get("If-None-Match") != "" && now != nil {
			return nil, preconditionFailed("If-None-Match")
		}
		if match := r.Header.Get("If-Match"); match != "" {
			if now == nil {
				return nil, refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
			}
			if !now.sameETag(match) {
				return nil, preconditionFailed("If-Match")
			}
		}
		b.insert(o)
		out = c.s3.eventsOf(b, o, event)
		a := answerEmpty(http.StatusOK).with("ETag", o.quotedETag()).with("X-Amz-Version-Id", o.version())
		return o.checksum.on(a), nil
	})
	c.publish(out)
	return a, err
}

// kept are the headers of a PUT that a GET gives back, beside the X-Amz-Meta- ones.
var kept = []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control", "Expires"}

func keptHeader(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		if slices.Contains(kept, name) || strings.HasPrefix(name, "X-Amz-Meta-") {
			out[name] = values
		}
	}
	// aws-chunked says how the request was sent, not what the object is.
	encoding := strings.Trim(strings.ReplaceAll(out.Get("Content-Encoding"), "aws-chunked", ""), ", ")
	if out.Set("Content-Encoding", encoding); encoding == "" {
		out.Del("Content-Encoding")
	}
	out.Set("Content-Type", cmp.Or(out.Get("Content-Type"), "binary/octet-stream"))
	return out
}

func (c *Cloud) putObject(r *request) (*answer, error) {
	body, sum, err := r.payload()
	if err != nil {
		return nil, err
	}
	o := &object{key: r.Key, body: body, etag: md5Hex(body), header: keptHeader(r.Header), checksum: sum}
	return c.write(r, o, "ObjectCreated:Put")
}

// getObject serves GetObject and HeadObject; the body of a HEAD is not sent.
func (c *Cloud) getObject(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		o, err := b.find(r.Key, r.query.Get("versionId"))
		if err != nil {
			return nil, err
		}
		a := answerEmpty(http.StatusOK).with("ETag", o.quotedETag()).with("X-Amz-Version-Id", o.version()).
			with("Last-Modified", o.modified.UTC().Format(http.TimeFormat)).with("Accept-Ranges", "bytes")
		if match := r.Header.Get("If-Match"); match != "" && !o.sameETag(match) {
			return nil, preconditionFailed("If-Match")
		}
		if none := r.Header.Get("If-None-Match"); none != "" && o.sameETag(none) {
			a.status = http.StatusNotModified
			return a, nil
		}
		for name := range o.header {
			a.with(name, o.header.Get(name))
		}
		a.body = o.body
		if text := r.Header.Get("Range"); text != "" {
			return a, cut(a, text)
		}
		if strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
			o.checksum.on(a)
		}
		return a, nil
	})
}

// cut reduces an answer to one range of its body: "bytes=2-5", "bytes=2-" or "bytes=-3".
func cut(a *answer, text string) error {
	size := len(a.body)
	first, last, _ := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	from, err1 := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	switch {
	case err1 == nil && last == "":
		to, err2 = size-1, nil
	case first == "" && err2 == nil:
		from, to, err1 = max(size-to, 0), size-1, nil
	}
	if to = min(to, size-1); err1 != nil || err2 != nil || from > to {
		return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
	}
	a.status, a.body = http.StatusPartialContent, a.body[from:to+1]
	a.with("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, size))
	return nil
}

func (c *Cloud) deleteObject(r *request) (*answer, error) {
	var out []Event
	a, err := c.withBucket(r, func(b *bucket) (*answer, error) {
		a := answerEmpty(http.StatusNoContent)
		versions, id := b.objects[r.Key], r.query.Get("versionId")
		if id == "" && b.versioning != "" {
			marker := &object{key: r.Key, marker: true}
			b.insert(marker)
			out = c.s3.eventsOf(b, marker, "ObjectRemoved:DeleteMarkerCreated")
			return a.with("X-Amz-Delete-Marker", "true").with("X-Amz-Version-Id", marker.version()), nil
		}
		i := slices.IndexFunc(versions, func(o *object) bool { return o.versionID == cmp.Or(id, "null") })
		if i < 0 {
			return a, nil // deleting what is not there succeeds
		}
		out = c.s3.eventsOf(b, versions[i], "ObjectRemoved:Delete")
		if b.objects[r.Key] = slices.Delete(versions, i, i+1); len(versions) == 1 {
			delete(b.objects, r.Key)
		}
		return a.with("X-Amz-Version-Id", id), nil
	})
	c.publish(out)
	return a, err
}

func (c *Cloud) copyObject(r *request) (*answer, error) {
	path, query, _ := strings.Cut(r.Header.Get("X-Amz-Copy-Source"), "?")
	path, err := url.PathUnescape(strings.TrimPrefix(path, "/"))
	values, err2 := url.ParseQuery(query)
	name, key, found := strings.Cut(path, "/")
	if err != nil || err2 != nil || !found {
		return nil, refuse(http.StatusBadRequest, "InvalidArgument", "Invalid copy source object key")
	}
	source, err := c.source(name, key, values.Get("versionId"))
	if err != nil {
		return nil, err
	}
	o := &object{key: r.Key, body: source.body, etag: md5Hex(source.body), header: source.header, checksum: source.checksum}
	if strings.EqualFold(r.Header.Get("X-Amz-Metadata-Directive"), "REPLACE") {
		o.header = keptHeader(r.Header)
	}
	a, err := c.write(r, o, "ObjectCreated:Copy")
	if err != nil {
		return nil, err
	}
	result, err := answerXML(struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		LastModified string
		ETag         string
	}{LastModified: o.modified.UTC().Format(xmlTime), ETag: o.quotedETag()})
	if err != nil {
		return nil, err
	}
	return result.with("X-Amz-Version-Id", a.header.Get("X-Amz-Version-Id")), nil
}

func (c *Cloud) source(bucket, key, versionID string) (*object, error) {
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	b, err := c.s3.bucket(bucket)
	if err != nil {
		return nil, err
	}
	return b.find(key, versionID)
}
