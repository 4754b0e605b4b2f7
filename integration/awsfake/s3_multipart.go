package awsfake

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// upload is a multipart upload in progress.
type upload struct {
	key    string
	header http.Header
	parts  map[int]part
}

type part struct {
	body     []byte
	etag     string
	checksum checksum
}

func (c *Cloud) createMultipartUpload(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		id := newID()
		b.uploads[id] = &upload{key: r.Key, header: keptHeader(r.Header), parts: map[int]part{}}
		a, err := answerXML(struct {
			XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
			Bucket   string
			Key      string
			UploadID string `xml:"UploadId"`
		}{Bucket: b.name, Key: r.Key, UploadID: id})
		if err != nil {
			return nil, err
		}
		return a.with("X-Amz-Checksum-Algorithm", r.Header.Get("X-Amz-Checksum-Algorithm")), nil
	})
}

// upload returns the upload that the request is about.
func (b *bucket) upload(r *request) (*upload, error) {
	if u := b.uploads[r.query.Get("uploadId")]; u != nil && u.key == r.Key {
		return u, nil
	}
	return nil, refuse(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
}

func (c *Cloud) uploadPart(r *request) (*answer, error) {
	if r.Header.Get("X-Amz-Copy-Source") != "" {
		return nil, unimplemented("UploadPartCopy")
	}
	number, err := strconv.Atoi(r.query.Get("partNumber"))
	if err != nil || number < 1 || number > 10000 {
		return nil, refuse(http.StatusBadRequest, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
	}
	body, sum, err := r.payload()
	if err != nil {
		return nil, err
	}
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		u, err := b.upload(r)
		if err != nil {
			return nil, err
		}
		u.parts[number] = part{body: body, etag: md5Hex(body), checksum: sum}
		return sum.on(answerEmpty(http.StatusOK).with("ETag", `"`+md5Hex(body)+`"`)), nil
	})
}

func (c *Cloud) abortMultipartUpload(r *request) (*answer, error) {
	return c.withBucket(r, func(b *bucket) (*answer, error) {
		if _, err := b.upload(r); err != nil {
			return nil, err
		}
		delete(b.uploads, r.query.Get("uploadId"))
		return answerEmpty(http.StatusNoContent), nil
	})
}

// completion lists the parts that make up the object.
type completion struct {
	Parts []struct {
		ETag       string
		PartNumber int
	} `xml:"Part"`
}

// assemble makes the object out of the parts that a completion lists. Its ETag and its checksum are
// those of the parts' digests, followed by their number.
func (u *upload) assemble(in completion) (*object, error) {
	var body, digests, sums bytes.Buffer
	o := &object{key: u.key, header: u.header}
	last := 0
	for _, listed := range in.Parts {
		p, found := u.parts[listed.PartNumber]
		if !found || strings.Trim(listed.ETag, `"`) != p.etag {
			return nil, refuse(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.")
		}
		if listed.PartNumber <= last {
			return nil, refuse(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order.")
		}
		last = listed.PartNumber
		digest, _ := hex.DecodeString(p.etag)                       // is hexadecimal
		sum, _ := base64.StdEncoding.DecodeString(p.checksum.value) // was checked, or is empty
		body.Write(p.body)
		digests.Write(digest)
		sums.Write(sum)
		o.checksum.algorithm = p.checksum.algorithm
	}
	if last == 0 {
		return nil, refuse(http.StatusBadRequest, "MalformedXML", "You must specify at least one part")
	}
	o.body = body.Bytes()
	o.etag = fmt.Sprintf("%x-%d", md5.Sum(digests.Bytes()), len(in.Parts))
	if newHash := algorithms[o.checksum.algorithm]; newHash != nil {
		o.checksum.value = fmt.Sprintf("%s-%d", digestOf(newHash(), sums.Bytes()), len(in.Parts))
		o.checksum.kind = "COMPOSITE"
	}
	return o, nil
}

func (c *Cloud) completeMultipartUpload(r *request) (*answer, error) {
	var in completion
	if err := decodeXML(r.body, &in); err != nil {
		return nil, err
	}
	var o *object
	if _, err := c.withBucket(r, func(b *bucket) (*answer, error) {
		u, err := b.upload(r)
		if err == nil {
			o, err = u.assemble(in)
		}
		return nil, err
	}); err != nil {
		return nil, err
	}
	written, err := c.write(r, o, "ObjectCreated:CompleteMultipartUpload")
	if err != nil {
		return nil, err
	}
	c.s3.mu.Lock()
	if b := c.s3.buckets[r.Bucket]; b != nil {
		delete(b.uploads, r.query.Get("uploadId"))
	}
	c.s3.mu.Unlock()
	a, err := answerXML(struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location string
		Bucket   string
		Key      string
		ETag     string
	}{Location: c.url + "/" + r.Bucket + "/" + r.Key, Bucket: r.Bucket, Key: r.Key, ETag: o.quotedETag()})
	if err != nil {
		return nil, err
	}
	return a.with("X-Amz-Version-Id", written.header.Get("X-Amz-Version-Id")), nil
}
