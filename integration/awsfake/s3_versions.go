package awsfake

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type versionEntry struct {
	Key, VersionId     string
	IsLatest           bool
	LastModified, ETag string
	Size               int
	StorageClass       string
}

type markerEntry struct {
	Key, VersionId string
	IsLatest       bool
	LastModified   string
}

type versionsResult struct {
	XMLName                            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
	Name, Prefix                       string
	KeyMarker, VersionIdMarker         string
	NextKeyMarker, NextVersionIdMarker string `xml:",omitempty"`
	EncodingType                       string `xml:",omitempty"`
	MaxKeys                            int
	IsTruncated                        bool
	Version                            []versionEntry
	DeleteMarker                       []markerEntry
}

// listVersions lists versions and delete markers in the order of their keys, of each key the newest first. The two
// markers together name the last one of the page before.
func (c *Cloud) listVersions(r *request) (*answer, error) {
	q := r.query
	out := versionsResult{
		Name: r.Bucket, Prefix: q.Get("prefix"), KeyMarker: q.Get("key-marker"), VersionIdMarker: q.Get("version-id-marker"),
		EncodingType: q.Get("encoding-type"), MaxKeys: 1000,
	}
	if text := q.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument", "max-keys must be a number")
		}
		out.MaxKeys = min(n, 1000)
	}

	return c.withBucket(r, func(b *bucket) (*answer, error) {
		b.listVersions(&out)
		return answerXML(out)
	})
}

func (b *bucket) listVersions(out *versionsResult) {
	var last *object
	n, after := 0, out.KeyMarker != ""
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if !strings.HasPrefix(key, out.Prefix) || after && key < out.KeyMarker || after && key == out.KeyMarker && out.VersionIdMarker == "" {
			continue
		}
		skip := after && key == out.KeyMarker
		versions := b.objects[key]
		for i, o := range slices.Backward(versions) {
			if skip {
				skip = o.versionID != out.VersionIdMarker
				continue
			}
			if n == out.MaxKeys {
				out.IsTruncated = true
				if last != nil {
					out.NextKeyMarker, out.NextVersionIdMarker = out.key(last.key), last.versionID
				}
				return
			}
			n, last = n+1, o
			out.add(o, i == len(versions)-1)
		}
	}
}

func (out *versionsResult) add(o *object, latest bool) {
	modified := o.modified.UTC().Format(xmlTime)
	if o.marker {
		out.DeleteMarker = append(out.DeleteMarker, markerEntry{out.key(o.key), o.versionID, latest, modified})
		return
	}
	out.Version = append(out.Version, versionEntry{out.key(o.key), o.versionID, latest, modified, o.quotedETag(), len(o.body), "STANDARD"})
}

// key is a key as the answer has it.
func (out *versionsResult) key(key string) string {
	if out.EncodingType == "url" {
		return escapeKey(key)
	}

	return key
}
