package store_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/integration/versity"
)

// rig is one kind of store under the contract.
type rig struct {
	url      string
	lists    bool                   // the records there are
	requests func() []*http.Request // since the last call; nil for a store without requests
	forbid   func(t *testing.T)     // from now on
	truncate func(t *testing.T)     // what is read from now on ends too early
}

func fileRig(t *testing.T) rig {
	path := filepath.Join(t.TempDir(), "remotes", "dev.npcnix")
	return rig{
		url:    "file://" + path,
		lists:  true,
		forbid: func(t *testing.T) { denyFile(t, path) },
		truncate: func(t *testing.T) {
			if err := os.Truncate(path, fileSize(t, path)/2); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// denyFile makes path unreadable, also for a test that root runs: the thread of
// the test gives up root's rights to files until the test ends.
func denyFile(t *testing.T, path string) {
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if _, err := unix.SetfsuidRetUid(65534); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := unix.SetfsuidRetUid(0); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	})
}

func webRig(t *testing.T) rig {
	g := newGate(t, &webStore{})
	return gateRig(g, g.url+"/remotes/dev.npcnix")
}

func motoRig(t *testing.T) func(t *testing.T) rig {
	awsEnv(t)
	return s3Rig(moto.Start(t), moto.PutsInTurn)
}

func awsfakeRig(t *testing.T) func(t *testing.T) rig {
	awsEnv(t)
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return s3Rig(cloud.URL())
}

func versityRig(t *testing.T) func(t *testing.T) rig {
	awsEnv(t)
	return s3Rig(versity.Start(t).URL)
}

// s3Rig gives each test a bucket of its own.
func s3Rig(endpoint string, before ...func(http.Handler) http.Handler) func(t *testing.T) rig {
	n := 0
	return func(t *testing.T) rig {
		n++
		bucket := fmt.Sprintf("bucket-%d", n)
		createBucket(t, endpoint, bucket)
		server := proxyTo(t, endpoint)
		for _, stands := range before {
			server = stands(server)
		}
		g := newGate(t, server)
		r := gateRig(g, s3URL(bucket, "remotes/dev.npcnix", g.url))
		r.lists = true
		return r
	}
}

func gateRig(g *gate, url string) rig {
	return rig{
		url:      url,
		requests: g.take,
		forbid:   func(*testing.T) { g.set(true, false) },
		truncate: func(*testing.T) { g.set(false, true) },
	}
}
