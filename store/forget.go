package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ErrNoDeletion means that the store cannot delete records, as web servers cannot.
var ErrNoDeletion = errors.New("a web server deletes no records")

// forgetter is a backend that can delete what is beside the object.
type forgetter interface {
	// remove deletes it. That there is none is no error.
	remove(ctx context.Context, suffix string) error
	// now is the time by the clock that Modified goes by.
	now(ctx context.Context) (time.Time, error)
}

// Now returns the time by the store's clock, which RecordInfo.Modified goes by. So an age does not depend on the
// clock of this machine. For a web server it returns ErrNoDeletion.
func (r *Remote) Now(ctx context.Context) (time.Time, error) {
	f, err := r.forgetter()
	if err != nil {
		return time.Time{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	now, err := f.now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask %s for the time: %w", r.url, err)
	}

	return now, nil
}

// DeleteRecord deletes a host's record, and before that its copies in these folders. What is not there is no error.
// For a web server it returns ErrNoDeletion.
func (r *Remote) DeleteRecord(ctx context.Context, host string, folders ...string) error {
	f, err := r.forgetter()
	if err != nil {
		return err
	}
	suffix, err := recordSuffix(host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	for _, folder := range folders {
		if err := f.remove(ctx, copySuffix(folder, suffix)); err != nil {
			return fmt.Errorf("delete the copy of the record of %s in %s: %w", host, folder, err)
		}
	}
	if err := f.remove(ctx, suffix); err != nil {
		return fmt.Errorf("delete the record of %s: %w", host, err)
	}

	return nil
}

func (r *Remote) forgetter() (forgetter, error) {
	f, ok := r.backend.(forgetter)
	if !ok {
		return nil, fmt.Errorf("%s: %w: do it on the server", r.url, ErrNoDeletion)
	}

	return f, nil
}

func (b *s3Backend) remove(ctx context.Context, suffix string) error {
	_, err := b.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: aws.String(b.key + suffix)})
	if err != nil {
		return b.explain(err, "delete")
	}

	return nil
}

func (b *s3Backend) now(ctx context.Context) (time.Time, error) {
	prefix := b.key + recordsSuffix
	out, err := b.api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix, MaxKeys: aws.Int32(1)})
	if err != nil {
		return time.Time{}, b.explain(err, "list")
	}
	now, known := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !known {
		return time.Time{}, errors.New("its answer has no date")
	}

	return now, nil
}

func (b *fileBackend) remove(_ context.Context, suffix string) error {
	if err := os.Remove(b.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explainFile(err)
	}

	return nil
}

func (b *fileBackend) now(context.Context) (time.Time, error) { return time.Now(), nil }
