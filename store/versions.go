package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ErrNoVersions means that the store keeps nothing but what was published last.
var ErrNoVersions = errors.New("no earlier versions are kept")

// noID is the id of what was written while the bucket's versioning was off or suspended.
const noID = "null"

// Kept is a version of the object that the store still has.
type Kept struct {
	Version
	Deleted bool // it marks that the object was deleted then; there is nothing to read
}

// Replaced reports whether the next publish replaces k, and leaves nothing of it: it was published while the
// bucket's versioning was off or suspended.
func (k Kept) Replaced() bool { return k.ID == noID }

// Versions lists at most limit versions of the object, the newest first; more says that there are others. Whoever
// can write the object can make versions: only what verifies is a release. For a file or a web server, and for a
// store without versions, the error is ErrNoVersions.
func (r *Remote) Versions(ctx context.Context, limit int) (kept []Kept, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	switch b := r.backend.(type) {
	case *s3Backend:
		kept, more, err = b.versions(ctx, limit)
	case *fileBackend:
		err = fmt.Errorf("%w: a file has none, an S3 bucket with versioning does", ErrNoVersions)
	default:
		err = fmt.Errorf("%w: a web server has none, an S3 bucket with versioning does", ErrNoVersions)
	}
	if err != nil {
		return nil, false, fmt.Errorf("list the versions of %s: %w", r.url, err)
	}

	return kept, more, nil
}

// At returns the remote as it was at a version that Versions listed. It is for reading: Tail, CopyArchive, FetchSigned.
func (r *Remote) At(v Version) *Remote {
	then := &Remote{backend: r.backend, name: r.name, url: r.url, masked: r.masked, bucket: r.bucket, key: r.key, limits: r.limits, warn: r.warn}
	if b, is := r.backend.(*s3Backend); is {
		old := *b
		old.version = v.ID
		then.backend = &old
	}

	return then
}

// versions asks for a page of at most 1,000 after another. Keys that only begin as the object's does, such as
// those of records, come after it.
func (b *s3Backend) versions(ctx context.Context, limit int) (kept []Kept, more bool, err error) {
	in := &s3.ListObjectVersionsInput{Bucket: &b.bucket, Prefix: &b.key, MaxKeys: aws.Int32(int32(min(limit+1, 1000)))}
	for {
		out, err := b.api.ListObjectVersions(ctx, in)
		if code := status(err); code == http.StatusNotImplemented || code == http.StatusMethodNotAllowed {
			return nil, false, fmt.Errorf("%w: the store cannot list them: %w", ErrNoVersions, err)
		}
		if err != nil {
			return nil, false, b.explain(err, "list versions")
		}
		page, others := b.page(out)
		kept = append(kept, page...)
		if len(kept) > limit {
			return kept[:limit], true, nil
		}
		if others || !aws.ToBool(out.IsTruncated) {
			return kept, false, nil
		}
		if out.NextKeyMarker == nil || aws.ToString(out.NextVersionIdMarker) == aws.ToString(in.VersionIdMarker) {
			return nil, false, errors.New("the store says that its listing of versions goes on, but not where")
		}
		in.KeyMarker, in.VersionIdMarker = out.NextKeyMarker, out.NextVersionIdMarker
	}
}

// page takes the object's versions and delete markers from an answer, in the order of time. Others says that keys
// follow that are not the object's.
func (b *s3Backend) page(out *s3.ListObjectVersionsOutput) (kept []Kept, others bool) {
	for _, v := range out.Versions {
		if aws.ToString(v.Key) != b.key {
			others = true
			continue
		}
		kept = append(kept, Kept{Version: Version{
			ETag: unquoteETag(aws.ToString(v.ETag)), ID: aws.ToString(v.VersionId), Size: aws.ToInt64(v.Size), Modified: aws.ToTime(v.LastModified),
		}})
	}
	for _, m := range out.DeleteMarkers {
		if aws.ToString(m.Key) != b.key {
			others = true
			continue
		}
		kept = insertMarker(kept, m)
	}

	return kept, others
}

// insertMarker puts a delete marker before the first version that is older: an answer has the two apart.
func insertMarker(kept []Kept, m types.DeleteMarkerEntry) []Kept {
	marker := Kept{Version: Version{ID: aws.ToString(m.VersionId), Modified: aws.ToTime(m.LastModified)}, Deleted: true}
	at := len(kept)
	for i, k := range kept {
		if aws.ToBool(m.IsLatest) || k.Modified.Before(marker.Modified) {
			at = i
			break
		}
	}

	return append(kept[:at:at], append([]Kept{marker}, kept[at:]...)...)
}
