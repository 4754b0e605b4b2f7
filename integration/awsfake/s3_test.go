package awsfake_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// ask sends a plain HTTP request, headers as "Name: value", and returns the answer with its body read.
func ask(t *testing.T, cloud *awsfake.Cloud, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, cloud.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	out, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(out)
}

func TestS3(t *testing.T) {
	t.Run("takes the bucket from the host name", bucketInHost)
	t.Run("encodes a list when asked to", encodedList)
	t.Run("decodes and checks aws-chunked bodies", chunkedBodies)
	t.Run("refuses wrong checksums and writes nothing", wrongChecksums)
	t.Run("refuses what is not implemented", notImplemented)
	t.Run("makes a checksum of the checksums of parts", multipartChecksum)
	t.Run("completes an upload only with its own parts in order", partsInOrder)
}

func bucketInHost(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	w.put(t, bucket, "a/k", "hello")
	for _, host := range []string{bucket + ".localhost:1234", bucket + ".s3.us-east-1.amazonaws.com", bucket + ".s3-us-east-1.amazonaws.com"} {
		if r, body := ask(t, cloud, "GET", "/a/k", "", "Host: "+host); r.StatusCode != 200 || body != "hello" {
			t.Errorf("at %s: %s, %s", host, r.Status, body)
		}
	}
}

func encodedList(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	w.put(t, bucket, "a b/c+d", "hello")
	for query, want := range map[string]string{
		"?list-type=2":                                 "<Key>a b/c+d</Key>",
		"?list-type=2&encoding-type=url":               "<Key>a+b/c%2Bd</Key>",
		"?list-type=2&encoding-type=url&delimiter=%2F": "<Prefix>a+b/</Prefix>",
	} {
		if r, body := ask(t, cloud, "GET", "/"+bucket+query, ""); r.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%s answers %s, %s; want %s", query, r.Status, body, want)
		}
	}
}

func chunkedBodies(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	const good = "3\r\nhel\r\n2\r\nlo\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
	const unsigned, signed = "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	for name, c := range map[string]struct{ kind, body, length, want string }{
		"with a trailer":    {unsigned, good, "5", ""},
		"with signatures":   {signed, "5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\n\r\n", "5", ""},
		"wrong checksum":    {unsigned, strings.Replace(good, "NhC", "AhC", 1), "5", "BadDigest"},
		"wrong length":      {unsigned, good, "6", "IncompleteBody"},
		"cut in a chunk":    {unsigned, good[:5], "5", "InvalidRequest"},
		"cut after a chunk": {unsigned, good[:8], "5", "InvalidRequest"},
		"chunk without end": {unsigned, "3\r\nhello\r\n0\r\n\r\n", "5", "InvalidRequest"},
		"huge chunk":        {unsigned, "7fffffff\r\nhello\r\n0\r\n\r\n", "5", "InvalidRequest"},
		"no chunks":         {unsigned, "hello", "5", "InvalidRequest"},
	} {
		t.Run(name, func(t *testing.T) {
			key := strings.ReplaceAll(name, " ", "-")
			r, body := ask(t, cloud, "PUT", "/"+bucket+"/"+key, c.body,
				"X-Amz-Content-Sha256: "+c.kind, "X-Amz-Decoded-Content-Length: "+c.length, "Content-Encoding: gzip,aws-chunked")
			if c.want != "" {
				if r.StatusCode != 400 || !strings.Contains(body, "<Code>"+c.want+"</Code>") {
					t.Errorf("put answers %s, %s", r.Status, body)
				}
				return
			}
			if r.StatusCode != 200 || r.Header.Get("ETag") != helloMD5 {
				t.Fatalf("put answers %s, %s", r.Status, body)
			}
			head, _ := ask(t, cloud, "HEAD", "/"+bucket+"/"+key, "")
			if got := head.Header.Get("Content-Encoding"); got != "gzip" {
				t.Errorf("content encoding %q is kept", got)
			}
		})
	}
}

func wrongChecksums(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	for header, good := range map[string]string{ // of "hello", by other tools
		"X-Amz-Checksum-Crc32":     "NhCmhg==",
		"X-Amz-Checksum-Crc32c":    "mnG7TA==",
		"X-Amz-Checksum-Crc64nvme": "M3eFcAZSQlc=",
		"X-Amz-Checksum-Sha1":      "qvTGHdzF6KLavt4PO0gs2a6pQ00=",
		"X-Amz-Checksum-Sha256":    "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
		"Content-Md5":              "XUFAKrxLKna5cZ2REBfFkg==",
		"X-Amz-Content-Sha256":     "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
	} {
		wrong := []byte(good)
		wrong[0]++
		if r, body := ask(t, cloud, "PUT", "/"+bucket+"/k", "hello", header+": "+string(wrong)); r.StatusCode != 400 {
			t.Errorf("wrong %s: %s, %s", header, r.Status, body)
		}
		if r, _ := ask(t, cloud, "HEAD", "/"+bucket+"/k", ""); r.StatusCode != 404 {
			t.Errorf("wrong %s: the object exists", header)
		}
		if r, body := ask(t, cloud, "PUT", "/"+bucket+"/k", "hello", header+": "+good); r.StatusCode != 200 {
			t.Errorf("right %s: %s, %s", header, r.Status, body)
		}
		ask(t, cloud, "DELETE", "/"+bucket+"/k", "")
	}
}

func notImplemented(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	queue, _ := w.queue(t, nil)
	w.put(t, bucket, "k", "hello")
	const form = "Content-Type: application/x-www-form-urlencoded"
	for _, c := range []struct{ method, path, body, header, want string }{
		{"GET", "/" + bucket + "?acl", "", "", "NotImplemented"},
		{"PUT", "/" + bucket + "?policy", "{}", "", "NotImplemented"},
		{"PUT", "/" + bucket + "/k?tagging", "", "", "NotImplemented"},
		{"POST", "/" + bucket + "?delete", "", "", "NotImplemented"},
		{"GET", "/" + bucket + "/k", "", "If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT", "NotImplemented"},
		{"PUT", "/" + bucket + "/k?partNumber=1&uploadId=x", "", "X-Amz-Copy-Source: /a/b", "NotImplemented"},
		{"PUT", "/" + bucket + "?notification", "<NotificationConfiguration><CloudFunctionConfiguration/></NotificationConfiguration>", "", "NotImplemented"},
		{"PUT", "/" + bucket + "?notification", "nonsense", "", "MalformedXML"},
		{"POST", "/", "Action=CreatePlatformApplication&Version=2010-03-31", form, "InvalidAction"},
		{"POST", "/", "Action=AssumeRole&Version=2011-06-15", form, "InvalidAction"},
		{"POST", "/", "Action=CreateTopic&Version=2010-03-31&Name=a.fifo", form, "InvalidParameter"},
		{"POST", "/", "Action=Subscribe&Version=2010-03-31&Protocol=email&Endpoint=a", form, "InvalidParameter"},
		{"POST", "/", "Action=SetSubscriptionAttributes&Version=2010-03-31&AttributeName=FilterPolicy&AttributeValue={}", form, "InvalidParameter"},
		{"POST", "/", "Action=SetTopicAttributes&Version=2010-03-31&AttributeName=Nonsense&AttributeValue=a", form, "InvalidParameter"},
		{"POST", "/", "{}", "X-Amz-Target: AmazonSQS.StartMessageMoveTask", "NonExistentQueue"},
		{"POST", "/", fmt.Sprintf(`{"QueueUrl":%q}`, queue), "X-Amz-Target: AmazonSQS.StartMessageMoveTask", "InvalidAction"},
		{"POST", "/", fmt.Sprintf(`{"QueueUrl":%q,"MessageBody":"a","MessageGroupId":"b"}`, queue), "X-Amz-Target: AmazonSQS.SendMessage", "UnsupportedOperation"},
		{"POST", "/", `{"QueueName":"a.fifo"}`, "X-Amz-Target: AmazonSQS.CreateQueue", "InvalidParameterValue"},
	} {
		headers := []string{}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		r, body := ask(t, cloud, c.method, c.path, c.body, headers...)
		if r.StatusCode < 400 || !strings.Contains(body+r.Header.Get("X-Amzn-Query-Error"), c.want) {
			t.Errorf("%s %s %s %s answers %s, %s; want %s", c.method, c.path, c.header, c.body, r.Status, body, c.want)
		}
	}
}

func multipartChecksum(t *testing.T) {
	w := newWorld(start(t).URL(), differences{})
	bucket := w.bucket(t)
	w.multipart(t, bucket, "k", [][]byte{bytes.Repeat([]byte("a"), 5<<20), []byte("b")})
	head, err := w.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &bucket, Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil || !strings.HasSuffix(aws.ToString(head.ChecksumCRC32), "-2") || head.ChecksumType != types.ChecksumTypeComposite {
		t.Errorf("checksum %s, %s, %v", aws.ToString(head.ChecksumCRC32), head.ChecksumType, err)
	}
}

func partsInOrder(t *testing.T) {
	cloud := start(t)
	w := newWorld(cloud.URL(), differences{})
	bucket := w.bucket(t)
	upload, err := w.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	at := "/" + bucket + "/k?uploadId=" + *upload.UploadId
	for _, number := range []string{"1", "2"} {
		ask(t, cloud, "PUT", at+"&partNumber="+number, "hello")
	}
	part := func(number int, etag string) string {
		return fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", number, etag)
	}
	for body, want := range map[string]string{
		part(1, wrongTag):                     "InvalidPart",
		part(3, helloMD5):                     "InvalidPart",
		part(2, helloMD5) + part(1, helloMD5): "InvalidPartOrder",
		"":                                    "MalformedXML",
	} {
		r, out := ask(t, cloud, "POST", at, "<CompleteMultipartUpload>"+body+"</CompleteMultipartUpload>")
		if r.StatusCode != 400 || !strings.Contains(out, "<Code>"+want+"</Code>") {
			t.Errorf("completing with %s answers %s, %s; want %s", body, r.Status, out, want)
		}
	}
	if r, _ := ask(t, cloud, "DELETE", at, ""); r.StatusCode != 204 {
		t.Errorf("abort answers %s", r.Status)
	}
	if r, out := ask(t, cloud, "POST", at, "<CompleteMultipartUpload>"+part(1, helloMD5)+"</CompleteMultipartUpload>"); r.StatusCode != 404 {
		t.Errorf("completing after the abort answers %s, %s", r.Status, out)
	}
}
