package awsfake_test

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	helloMD5 = `"5d41402abc4b2a76b9719d911017c592"` // of "hello"
	wrongTag = `"00000000000000000000000000000000"`
)

func (w world) put(t *testing.T, bucket, key, body string) *s3.PutObjectOutput {
	t.Helper()
	out, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return out
}

func content(t *testing.T, out *s3.GetObjectOutput, err error) string {
	t.Helper()
	if err != nil {
		t.Fatalf("get object: %v", err)
	}
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatalf("read object: %v", err)
	}
	return string(body)
}

func (w world) version(t *testing.T, bucket string) {
	t.Helper()
	if _, err := w.s3.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatalf("put bucket versioning: %v", err)
	}
}

var s3Behaviours = []behaviour{
	{"an object comes back as it was put", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		put, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("a/b c+d.txt"), Body: strings.NewReader("hello"),
			ContentType: aws.String("text/plain"), Metadata: map[string]string{"color": "red"},
		})
		if err != nil {
			t.Fatalf("put object: %v", err)
		}
		got, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("a/b c+d.txt")})
		if body := content(t, got, err); body != "hello" {
			t.Errorf("body %q", body)
		}
		head, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("a/b c+d.txt")})
		if err != nil {
			t.Fatalf("head object: %v", err)
		}
		for what, tag := range map[string]*string{"put": put.ETag, "get": got.ETag, "head": head.ETag} {
			if aws.ToString(tag) != helloMD5 {
				t.Errorf("%s answers ETag %s", what, aws.ToString(tag))
			}
		}
		if aws.ToString(got.ContentType) != "text/plain" || got.Metadata["color"] != "red" || head.Metadata["color"] != "red" {
			t.Errorf("content type %s, metadata %v and %v", aws.ToString(got.ContentType), got.Metadata, head.Metadata)
		}
		if *head.ContentLength != 5 || head.LastModified == nil || head.LastModified.IsZero() {
			t.Errorf("length %d, modified %v", *head.ContentLength, head.LastModified)
		}
		if got.VersionId != nil || head.VersionId != nil {
			t.Errorf("versions %v and %v on an unversioned bucket", got.VersionId, head.VersionId)
		}
	}},
	{"a missing key or bucket is an error of its own type", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		_, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("none")})
		if _, ok := errors.AsType[*types.NoSuchKey](err); !ok {
			t.Errorf("get: %v", err)
		}
		wantCode(t, err, "NoSuchKey", 404)
		_, err = w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("none")})
		if _, ok := errors.AsType[*types.NotFound](err); !ok {
			t.Errorf("head: %v", err)
		}
		_, err = w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("no-such-bucket"), Key: aws.String("none")})
		wantCode(t, err, "NoSuchBucket", 404)
		_, err = w.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("no-such-bucket")})
		wantStatus(t, err, 404)
	}},
	{"reads are conditional on the ETag", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.put(t, bucket, "k", "hello")
		for _, c := range []struct {
			match, none string
			status      int // 0 means success
		}{
			{match: helloMD5},
			{match: wrongTag, status: 412},
			{none: wrongTag},
			{none: helloMD5, status: 304},
		} {
			optional := func(s string) *string {
				if s == "" {
					return nil
				}
				return &s
			}
			_, get := w.s3.GetObject(t.Context(), &s3.GetObjectInput{
				Bucket: &bucket, Key: aws.String("k"), IfMatch: optional(c.match), IfNoneMatch: optional(c.none),
			})
			_, head := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{
				Bucket: &bucket, Key: aws.String("k"), IfMatch: optional(c.match), IfNoneMatch: optional(c.none),
			})
			for what, err := range map[string]error{"get": get, "head": head} {
				if c.status == 0 && err != nil {
					t.Errorf("%s with If-Match %q If-None-Match %q: %v", what, c.match, c.none, err)
				} else if c.status != 0 {
					wantStatus(t, err, c.status)
				}
			}
		}
	}},
	{"writes are conditional on the ETag", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		put := func(key, match, none string) error {
			in := &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader("hello")}
			if match != "" {
				in.IfMatch = &match
			}
			if none != "" {
				in.IfNoneMatch = &none
			}
			_, err := w.s3.PutObject(t.Context(), in)
			return err
		}
		if err := put("k", "", "*"); err != nil {
			t.Errorf("create what does not exist: %v", err)
		}
		wantCode(t, put("k", "", "*"), "PreconditionFailed", 412)
		if err := put("k", helloMD5, ""); err != nil {
			t.Errorf("replace what was read: %v", err)
		}
		wantCode(t, put("k", wrongTag, ""), "PreconditionFailed", 412)
		wantStatus(t, put("none", wrongTag, ""), 404)
	}},
	{"a list has prefixes, delimiters and pages", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		for _, key := range []string{"a", "d/1", "d/2", "d/e/3", "f/4", "z"} {
			w.put(t, bucket, key, "hello")
		}
		for _, c := range []struct{ prefix, delimiter, want string }{
			{"", "", "a d/1 d/2 d/e/3 f/4 z"},
			{"d/", "", "d/1 d/2 d/e/3"},
			{"", "/", "a z d/ f/"},
			{"d/", "/", "d/1 d/2 d/e/"},
			{"nothing", "", ""},
		} {
			for _, size := range []int32{1, 2, 1000} {
				var got, prefixes []string
				pages := s3.NewListObjectsV2Paginator(w.s3, &s3.ListObjectsV2Input{
					Bucket: &bucket, Prefix: &c.prefix, Delimiter: &c.delimiter, MaxKeys: &size,
				})
				for pages.HasMorePages() {
					page, err := pages.NextPage(t.Context())
					if err != nil {
						t.Fatalf("list: %v", err)
					}
					if n := len(page.Contents) + len(page.CommonPrefixes); n > int(size) || n != int(*page.KeyCount) {
						t.Errorf("a page of %d, said to be %d, at most %d", n, *page.KeyCount, size)
					}
					for _, o := range page.Contents {
						got = append(got, *o.Key)
						if *o.ETag != helloMD5 || *o.Size != 5 {
							t.Errorf("%s is listed with ETag %s, size %d", *o.Key, *o.ETag, *o.Size)
						}
					}
					for _, p := range page.CommonPrefixes {
						prefixes = append(prefixes, *p.Prefix)
					}
				}
				if all := strings.Join(append(got, prefixes...), " "); all != c.want {
					t.Errorf("prefix %q, delimiter %q, pages of %d: %s, want %s", c.prefix, c.delimiter, size, all, c.want)
				}
			}
		}
	}},
	{"a versioned bucket keeps what was overwritten and deleted", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.version(t, bucket)
		status, err := w.s3.GetBucketVersioning(t.Context(), &s3.GetBucketVersioningInput{Bucket: &bucket})
		if err != nil || status.Status != types.BucketVersioningStatusEnabled {
			t.Errorf("versioning %v, %v", status, err)
		}
		first, second := w.put(t, bucket, "k", "hello"), w.put(t, bucket, "k", "world")
		if first.VersionId == nil || second.VersionId == nil || *first.VersionId == *second.VersionId {
			t.Fatalf("versions %v and %v", first.VersionId, second.VersionId)
		}
		out, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")})
		if body := content(t, out, err); body != "world" || *out.VersionId != *second.VersionId {
			t.Errorf("latest is %q, version %s", body, *out.VersionId)
		}
		out, err = w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k"), VersionId: first.VersionId})
		if body := content(t, out, err); body != "hello" {
			t.Errorf("first version is %q", body)
		}
		gone, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")})
		if err != nil || !aws.ToBool(gone.DeleteMarker) || gone.VersionId == nil {
			t.Errorf("delete answers %+v, %v", gone, err)
		}
		_, err = w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")})
		wantCode(t, err, "NoSuchKey", 404)
		_, err = w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k"), VersionId: gone.VersionId})
		if err != nil {
			t.Errorf("delete the marker: %v", err)
		}
		out, err = w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")})
		if body := content(t, out, err); body != "world" {
			t.Errorf("without the marker it is %q", body)
		}
	}},
	{"versions and delete markers are listed page by page, of each key the newest first", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.put(t, bucket, "k", "before versioning")
		w.version(t, bucket)
		w.put(t, bucket, "k", "hello")
		w.put(t, bucket, "k.acks/a", "record")
		if _, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")}); err != nil {
			t.Fatal(err)
		}
		last := w.put(t, bucket, "k", "world")
		in := &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: aws.String("k"), MaxKeys: aws.Int32(2)}
		var got []string
		for range 4 {
			out, err := w.s3.ListObjectVersions(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range out.Versions {
				got = append(got, fmt.Sprint(*v.Key, " ", *v.Size, " ", *v.IsLatest, " ", *v.VersionId == "null"))
				if *v.IsLatest && *v.Key == "k" && (*v.VersionId != *last.VersionId || aws.ToString(v.ETag) != aws.ToString(last.ETag) || v.LastModified == nil) {
					t.Errorf("the latest is %+v, put was %+v", v, last)
				}
			}
			for _, m := range out.DeleteMarkers {
				got = append(got, fmt.Sprint(*m.Key, " deleted ", *m.IsLatest))
			}
			if !*out.IsTruncated {
				break
			}
			in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
		}
		want := []string{"k 5 true false", "k deleted false", "k 5 false false", "k 17 false true", "k.acks/a 6 true false"}
		slices.Sort(got)
		slices.Sort(want)
		if w.differs.versionPages {
			want = slices.Insert(slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, "k.acks") }), 0, want[0])
		}
		if !slices.Equal(got, want) {
			t.Errorf("listed %q, want %q", got, want)
		}
	}},
	{"deleting twice succeeds", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.put(t, bucket, "k", "hello")
		for range 2 {
			if _, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")}); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		_, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k")})
		wantCode(t, err, "NoSuchKey", 404)
	}},
	{"a copy has the content and the metadata", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		if _, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &bucket, Key: aws.String("from here"), Body: strings.NewReader("hello"), Metadata: map[string]string{"color": "red"},
		}); err != nil {
			t.Fatalf("put: %v", err)
		}
		copied, err := w.s3.CopyObject(t.Context(), &s3.CopyObjectInput{
			Bucket: &bucket, Key: aws.String("to"), CopySource: aws.String(bucket + "/from%20here"),
		})
		if err != nil || *copied.CopyObjectResult.ETag != helloMD5 {
			t.Fatalf("copy answers %+v, %v", copied, err)
		}
		out, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("to")})
		if body := content(t, out, err); body != "hello" || out.Metadata["color"] != "red" {
			t.Errorf("the copy is %q with %v", body, out.Metadata)
		}
	}},
	{"a multipart upload is one object whose ETag tells the parts", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		parts := [][]byte{bytes.Repeat([]byte("a"), 5<<20), []byte("b")}
		etag := w.multipart(t, bucket, "k", parts)
		first, second := md5.Sum(parts[0]), md5.Sum(parts[1])
		if want := fmt.Sprintf(`"%x-2"`, md5.Sum(append(first[:], second[:]...))); etag != want {
			t.Errorf("ETag %s, want %s", etag, want)
		}
		out, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{
			Bucket: &bucket, Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled,
		})
		if body := content(t, out, err); body != string(slices.Concat(parts...)) || *out.ETag != etag {
			t.Errorf("%d bytes with ETag %s, want %d with %s", len(body), *out.ETag, len(parts[0])+1, etag)
		}
	}},
	{"a stored checksum comes back when asked for", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		for algorithm, want := range map[types.ChecksumAlgorithm]string{
			types.ChecksumAlgorithmCrc32: "NhCmhg==",
			"":                           "NhCmhg==", // the SDK sends a CRC32 by default
		} {
			if algorithm == "" && w.differs.noDefaultChecksum {
				want = ""
			}
			put, err := w.s3.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &bucket, Key: aws.String("k"), Body: strings.NewReader("hello"), ChecksumAlgorithm: algorithm,
			})
			if err != nil || aws.ToString(put.ChecksumCRC32) != want {
				t.Errorf("with algorithm %q put answers CRC32 %s, %v", algorithm, aws.ToString(put.ChecksumCRC32), err)
			}
			head, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{
				Bucket: &bucket, Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled,
			})
			if err != nil || aws.ToString(head.ChecksumCRC32) != want {
				t.Errorf("with algorithm %q head answers CRC32 %s, %v", algorithm, aws.ToString(head.ChecksumCRC32), err)
			}
		}
	}},
	{"a range is a part of the object", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.put(t, bucket, "k", "hello")
		for span, want := range map[string]string{"bytes=1-2": "el", "bytes=3-": "lo", "bytes=-1": "o", "bytes=2-99": "llo"} {
			out, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k"), Range: &span})
			if body := content(t, out, err); body != want {
				t.Errorf("%s is %q, want %q", span, body, want)
			}
		}
		_, err := w.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: aws.String("k"), Range: aws.String("bytes=7-")})
		wantCode(t, err, "InvalidRange", 416)
	}},
	{"buckets are listed, located and deleted when they are empty", func(t *testing.T, w world) {
		bucket := w.bucket(t)
		w.put(t, bucket, "k", "hello")
		list, err := w.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
		if err != nil || !slices.ContainsFunc(list.Buckets, func(b types.Bucket) bool { return *b.Name == bucket }) {
			t.Errorf("%s is not in the list %v, %v", bucket, list, err)
		}
		where, err := w.s3.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: &bucket})
		if err != nil || where.LocationConstraint != "" {
			t.Errorf("location %v, %v", where, err)
		}
		if _, err := w.s3.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket}); err != nil {
			t.Errorf("head: %v", err)
		}
		_, err = w.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket})
		wantCode(t, err, "BucketNotEmpty", 409)
		if _, err := w.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String("k")}); err != nil {
			t.Errorf("delete the object: %v", err)
		}
		if _, err = w.s3.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}},
}

// multipart uploads an object in parts and returns its ETag.
func (w world) multipart(t *testing.T, bucket, key string, parts [][]byte) string {
	t.Helper()
	create := &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}
	if w.differs.multipartAlgorithm {
		create.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32
	}
	upload, err := w.s3.CreateMultipartUpload(t.Context(), create)
	if err != nil {
		t.Fatalf("create multipart upload: %v", err)
	}
	var done types.CompletedMultipartUpload
	for i, part := range parts {
		number := aws.Int32(int32(i + 1))
		out, err := w.s3.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &bucket, Key: &key, UploadId: upload.UploadId, PartNumber: number, Body: bytes.NewReader(part),
		})
		if err != nil {
			t.Fatalf("upload part: %v", err)
		}
		done.Parts = append(done.Parts, types.CompletedPart{ETag: out.ETag, PartNumber: number, ChecksumCRC32: out.ChecksumCRC32})
	}
	out, err := w.s3.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: &bucket, Key: &key, UploadId: upload.UploadId, MultipartUpload: &done,
	})
	if err != nil {
		t.Fatalf("complete multipart upload: %v", err)
	}
	return *out.ETag
}
