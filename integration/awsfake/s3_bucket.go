package awsfake

import (
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// storage is all of S3.
type storage struct {
	mu        sync.Mutex
	buckets   map[string]*bucket
	sequencer int64 // of the latest event
}

type bucket struct {
	name       string
	created    time.Time
	versioning string               // "", "Enabled" or "Suspended"
	objects    map[string][]*object // versions of each key, latest last; never an empty list
	uploads    map[string]*upload
	notify     notificationConfiguration
}

// bucket returns a bucket; the caller holds s.mu.
func (s *storage) bucket(name string) (*bucket, error) {
	if b := s.buckets[name]; b != nil {
		return b, nil
	}
	return nil, refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
}

// withBucket lets f answer while it holds the storage and the request's bucket.
func (c *Cloud) withBucket(r *request, f func(*bucket) (*answer, error)) (*answer, error) {
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	b, err := c.s3.bucket(r.Bucket)
	if err != nil {
		return nil, err
	}
	return f(b)
}

const xmlTime = "2006-01-02T15:04:05.000Z"

func (c *Cloud) listBuckets(*request) (*answer, error) {
	type entry struct{ Name, CreationDate string }
	out := struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   string   `xml:"Owner>ID"`
		Buckets []entry  `xml:"Buckets>Bucket"`
	}{Owner: Account}
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.s3.buckets)) {
		out.Buckets = append(out.Buckets, entry{name, c.s3.buckets[name].created.UTC().Format(xmlTime)})
	}
	return answerXML(out)
}

// createBucket creates a bucket; of one that exists it keeps the content, as S3 does in us-east-1.
func (c *Cloud) createBucket(r *request) (*answer, error) {
	c.s3.mu.Lock()
	defer c.s3.mu.Unlock()
	if c.s3.buckets[r.Bucket] == nil {
		c.s3.buckets[r.Bucket] = &bucket{
			name: r.Bucket, created: time.Now(), objects: map[string][]*object{}, uploads: map[string]*upload{},
		}
	}
	return answerEmpty(http.StatusOK).with("Location", "/"+r.Bucket), nil
}

func (c *Cloud) headBucket(r *request) (*answer, error) {
	return c.withBucket(r, func(*bucket) (*answer, error) {
		return answerEmpty(http.StatusOK).with("X-Amz-Bucket-Region", Region), nil
	})
}

func (c *Cloud) deleteBucket(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		if len(b.objects) > 0 {
			return nil, refuse(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty")
		}
		delete(c.s3.buckets, b.name)
		return answerEmpty(http.StatusNoContent), nil
	})
}

func (c *Cloud) getBucketLocation(r *request) (*answer, error) {
	return c.withBucket(r, func(*bucket) (*answer, error) {
		return answerXML(struct { // us-east-1 is said by saying nothing
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		}{})
	})
}

// s3Element names an element of S3; what is read is accepted without the namespace too.
func s3Element(name string) xml.Name {
	return xml.Name{Space: "http://s3.amazonaws.com/doc/2006-03-01/", Local: name}
}

type versioningConfiguration struct {
	XMLName xml.Name
	Status  string `xml:",omitempty"`
}

func (c *Cloud) getBucketVersioning(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		return answerXML(versioningConfiguration{XMLName: s3Element("VersioningConfiguration"), Status: b.versioning})
	})
}

func (c *Cloud) putBucketVersioning(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		var in versioningConfiguration
		if err := decodeXML(r.body, &in); err != nil {
			return nil, err
		}
		if in.Status != "Enabled" && in.Status != "Suspended" {
			return nil, refuse(http.StatusBadRequest, "MalformedXML", "Status must be Enabled or Suspended")
		}
		b.versioning = in.Status
		return answerEmpty(http.StatusOK), nil
	})
}

type listEntry struct {
	Key, LastModified, ETag string
	Size                    int
	StorageClass            string
}

type listPrefix struct{ Prefix string }

type listResult struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name, Prefix          string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount, MaxKeys     int
	IsTruncated           bool
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	StartAfter            string `xml:",omitempty"`
	Contents              []listEntry
	CommonPrefixes        []listPrefix
}

func (c *Cloud) listObjects(r *request) (*answer, error) {
	q := r.query
	out := listResult{
		Name: r.Bucket, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), EncodingType: q.Get("encoding-type"),
		ContinuationToken: q.Get("continuation-token"), StartAfter: q.Get("start-after"), MaxKeys: 1000,
	}
	after := out.StartAfter
	if text := q.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument", "max-keys must be a number")
		}
		out.MaxKeys = min(n, 1000)
	}
	if out.ContinuationToken != "" {
		raw, err := base64.StdEncoding.DecodeString(out.ContinuationToken)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument", "The continuation token provided is incorrect")
		}
		after = string(raw)
	}
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		b.list(&out, after)
		if out.EncodingType == "url" {
			out.encode()
		}
		return answerXML(out)
	})
}

// list fills in what follows after, in order; keys that share a prefix up to the delimiter count as one.
func (b *bucket) list(out *listResult, after string) {
	last := ""
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		o := b.latest(key)
		if o == nil || !strings.HasPrefix(key, out.Prefix) {
			continue
		}
		item := key
		if out.Delimiter != "" {
			if head, _, found := strings.Cut(key[len(out.Prefix):], out.Delimiter); found {
				item = out.Prefix + head + out.Delimiter
			}
		}
		if item <= after || item == last {
			continue
		}
		if out.KeyCount == out.MaxKeys {
			out.IsTruncated = out.MaxKeys > 0
			out.NextContinuationToken = base64.StdEncoding.EncodeToString([]byte(cmp.Or(last, after)))
			return
		}
		last = item
		out.KeyCount++
		if item != key {
			out.CommonPrefixes = append(out.CommonPrefixes, listPrefix{item})
			continue
		}
		out.Contents = append(out.Contents, listEntry{
			Key: key, LastModified: o.modified.UTC().Format(xmlTime), ETag: o.quotedETag(), Size: len(o.body), StorageClass: "STANDARD",
		})
	}
}

// encode URL-encodes the names, as the AWS CLI asks for.
func (out *listResult) encode() {
	for _, name := range []*string{&out.Prefix, &out.Delimiter, &out.StartAfter} {
		*name = escapeKey(*name)
	}
	for i := range out.Contents {
		out.Contents[i].Key = escapeKey(out.Contents[i].Key)
	}
	for i := range out.CommonPrefixes {
		out.CommonPrefixes[i].Prefix = escapeKey(out.CommonPrefixes[i].Prefix)
	}
}

// escapeKey form-URL-encodes a key the way S3 does, which leaves the slashes.
func escapeKey(key string) string {
	return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/")
}
