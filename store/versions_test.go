package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/store"
)

// TestVersions looks at what S3 stores keep of an object.
func TestVersions(t *testing.T) {
	for kind, start := range map[string]func(t *testing.T) string{
		"moto": func(t *testing.T) string { return moto.Start(t) },
		"awsfake": func(t *testing.T) string {
			cloud, err := awsfake.Start("")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cloud.Close)
			return cloud.URL()
		},
	} {
		t.Run(kind, func(t *testing.T) {
			awsEnv(t)
			endpoint := start(t)
			client := s3.NewFromConfig(awsfake.Config(endpoint), func(o *s3.Options) { o.UsePathStyle = true })
			createBucket(t, endpoint, "fleet")
			remote := open(t, s3URL("fleet", "dev.npcnix", endpoint))
			versioning := func(status types.BucketVersioningStatus) {
				t.Helper()
				_, err := client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
					Bucket: aws.String("fleet"), VersioningConfiguration: &types.VersioningConfiguration{Status: status},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			wantKept(t, remote, 10, false)
			publish(t, remote, packed(t, "zero"))
			wantKept(t, remote, 10, false, "zero replaced")

			versioning(types.BucketVersioningStatusEnabled)
			wantKept(t, remote, 10, false, "zero replaced")
			publish(t, remote, packed(t, "one"))
			putRecord(t, remote, "web1", "{}")
			putRecord(t, remote, "web1", "{ }")
			publish(t, remote, packed(t, "two"))
			wantKept(t, remote, 10, false, "two", "one", "zero replaced")
			wantKept(t, remote, 3, false, "two", "one", "zero replaced")
			wantKept(t, remote, 2, true, "two", "one")

			if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("fleet"), Key: aws.String("dev.npcnix")}); err != nil {
				t.Fatal(err)
			}
			wantKept(t, remote, 10, false, "deleted", "two", "one", "zero replaced")
			wantKept(t, remote, 1, true, "deleted")

			if kind == "moto" { // which forgets all versions with the first publish after that
				return
			}
			versioning(types.BucketVersioningStatusSuspended)
			publish(t, remote, packed(t, "three"))
			publish(t, remote, packed(t, "four"))
			wantKept(t, remote, 10, false, "four replaced", "deleted", "two", "one")
		})
	}
}

// wantKept fails the test unless the remote has kept these flakes, the newest first, and they can be read.
func wantKept(t *testing.T, remote *store.Remote, limit int, more bool, flakes ...string) []store.Kept {
	t.Helper()
	kept, gotMore, err := remote.Versions(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range kept {
		what := "deleted"
		if !k.Deleted {
			what = readAt(t, remote, k.Version)
		}
		if k.Replaced() {
			what += " replaced"
		}
		if k.Modified.IsZero() || k.ID == "" {
			t.Errorf("%+v", k)
		}
		got = append(got, what)
	}
	if fmt.Sprint(got) != fmt.Sprint(flakes) || gotMore != more {
		t.Errorf("kept are %q, more %v; want %q, more %v", got, gotMore, flakes, more)
	}
	return kept
}

// readAt reads the flake of a version whole, and the end of it.
func readAt(t *testing.T, remote *store.Remote, v store.Version) string {
	t.Helper()
	dir := t.TempDir()
	if err := remote.At(v).Fetch(t.Context(), v, dir); err != nil {
		t.Fatal(err)
	}
	tail, err := remote.At(v).Tail(t.Context(), v, 4)
	if err != nil || len(tail.Data) != 4 || !bytes.HasSuffix(packed(t, readFile(t, dir, "flake.nix")), tail.Data) {
		t.Errorf("the end of %+v is %q, %v", v, tail.Data, err)
	}
	return readFile(t, dir, "flake.nix")
}

func TestOtherStoresKeepNoVersions(t *testing.T) {
	for kind, r := range map[string]rig{"a file": fileRig(t), "a web server": webRig(t)} {
		_, _, err := open(t, r.url).Versions(t.Context(), 10)
		wantError(t, err, store.ErrNoVersions, kind+" has none")
	}
}

func TestVersionsThatAreRefusedSayWhatIsMissing(t *testing.T) {
	awsEnv(t)
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	createBucket(t, cloud.URL(), "fleet")
	remote := open(t, s3URL("fleet", "dev.npcnix", cloud.URL()))
	v := publish(t, remote, packed(t, "one"))
	v.ID = "null"
	for _, c := range []struct {
		action, code string
		status       int
		want         error
		says         string
	}{
		{"ListObjectVersions", "AccessDenied", 403, store.ErrForbidden, "lack s3:ListBucketVersions on bucket fleet for the prefix dev.npcnix"},
		{"ListObjectVersions", "NotImplemented", 501, store.ErrNoVersions, "the store cannot list them"},
		{"GetObject", "AccessDenied", 403, store.ErrForbidden, "lack s3:GetObjectVersion"},
		{"GetObject", "KMS.DisabledException", 400, nil, "KMS key must exist"},
	} {
		fault := cloud.Fault(awsfake.Call{Service: "s3", Action: c.action}, awsfake.Effect{Status: c.status, Code: c.code})
		if c.action == "GetObject" {
			_, err = remote.At(v).Tail(t.Context(), v, 4)
		} else {
			_, _, err = remote.Versions(t.Context(), 4)
		}
		fault.Remove()
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s %s: %v; want %q", c.action, c.code, err, c.says)
		}
	}
}
