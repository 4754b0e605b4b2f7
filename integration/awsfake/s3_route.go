package awsfake

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
)

// What an S3 request is addressed to.
const (
	onService = iota
	onBucket
	onObject
)

// s3Route is one S3 action. A request takes the first route whose method and level fit and whose mark,
// if it has one, is among the query parameters or headers.
type s3Route struct {
	action string
	method string
	level  int
	mark   string
	takes  []string // further query parameters; any other one is refused
	do     func(*Cloud, *request) (*answer, error)
}

var s3Routes = []s3Route{
	{"ListBuckets", "GET", onService, "", nil, (*Cloud).listBuckets},

	{"GetBucketLocation", "GET", onBucket, "location", nil, (*Cloud).getBucketLocation},
	{"GetBucketVersioning", "GET", onBucket, "versioning", nil, (*Cloud).getBucketVersioning},
	{"PutBucketVersioning", "PUT", onBucket, "versioning", nil, (*Cloud).putBucketVersioning},
	{"GetBucketNotificationConfiguration", "GET", onBucket, "notification", nil, (*Cloud).getBucketNotification},
	{"PutBucketNotificationConfiguration", "PUT", onBucket, "notification", nil, (*Cloud).putBucketNotification},
	{"ListObjectVersions", "GET", onBucket, "versions", []string{
		"prefix", "max-keys", "key-marker", "version-id-marker", "encoding-type",
	}, (*Cloud).listVersions},
	{"ListObjectsV2", "GET", onBucket, "list-type", []string{
		"prefix", "delimiter", "max-keys", "continuation-token", "start-after", "encoding-type", "fetch-owner",
	}, (*Cloud).listObjects},
	{"HeadBucket", "HEAD", onBucket, "", nil, (*Cloud).headBucket},
	{"CreateBucket", "PUT", onBucket, "", nil, (*Cloud).createBucket},
	{"DeleteBucket", "DELETE", onBucket, "", nil, (*Cloud).deleteBucket},

	{"CreateMultipartUpload", "POST", onObject, "uploads", nil, (*Cloud).createMultipartUpload},
	{"UploadPart", "PUT", onObject, "partNumber", []string{"uploadId"}, (*Cloud).uploadPart},
	{"CompleteMultipartUpload", "POST", onObject, "uploadId", nil, (*Cloud).completeMultipartUpload},
	{"AbortMultipartUpload", "DELETE", onObject, "uploadId", nil, (*Cloud).abortMultipartUpload},
	{"CopyObject", "PUT", onObject, "X-Amz-Copy-Source", nil, (*Cloud).copyObject},
	{"PutObject", "PUT", onObject, "", nil, (*Cloud).putObject},
	{"GetObject", "GET", onObject, "", []string{"versionId"}, (*Cloud).getObject},
	{"HeadObject", "HEAD", onObject, "", []string{"versionId"}, (*Cloud).getObject},
	{"DeleteObject", "DELETE", onObject, "", []string{"versionId"}, (*Cloud).deleteObject},
}

// unheeded are conditions that would change the answer and are not implemented.
var unheeded = []string{
	"If-Modified-Since", "If-Unmodified-Since", "X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match",
	"X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since", "X-Amz-Copy-Source-Range",
}

// routeS3 finds the action and the handler of an S3 request.
func routeS3(r *request) {
	level := onObject
	switch {
	case r.Bucket == "":
		level = onService
	case r.Key == "":
		level = onBucket
	}
	for _, route := range s3Routes {
		marked := route.mark == "" || r.query.Has(route.mark) || r.Header.Get(route.mark) != ""
		if route.method == r.Method && route.level == level && marked {
			r.Action = route.action
			r.handle = func(c *Cloud, r *request) (*answer, error) {
				if err := route.check(r); err != nil {
					return nil, err
				}
				return route.do(c, r)
			}
			return
		}
	}
	r.handle = func(*Cloud, *request) (*answer, error) { return nil, unimplemented(r.Method + " " + r.URL.String()) }
}

// check refuses what the route's handler would overlook.
func (route s3Route) check(r *request) error {
	for name := range r.query {
		known := name == route.mark || name == "x-id" || strings.HasPrefix(name, "X-Amz-")
		if !known && !slices.Contains(route.takes, name) {
			return unimplemented("the query parameter " + name + " of " + route.action)
		}
	}
	for _, name := range unheeded {
		if r.Header.Get(name) != "" {
			return unimplemented("the header " + name + " of " + route.action)
		}
	}
	return nil
}

func unimplemented(what string) error {
	return refuse(http.StatusNotImplemented, "NotImplemented", "awsfake does not implement %s", what)
}

func decodeXML(body []byte, v any) error {
	if err := xml.Unmarshal(body, v); err != nil {
		return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed: %v", err)
	}
	return nil
}
