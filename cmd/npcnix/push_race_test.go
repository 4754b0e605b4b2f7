package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// TestPushesAtOnce has 20 processes push at once, each a flake of its own. Whoever comes too late pushes again, as the
// message says. On moto, which is slow, that ends with the fifth publish.
func TestPushesAtOnce(t *testing.T) {
	for kind, c := range map[string]struct {
		start   func(*testing.T) string
		publish int
	}{
		"awsfake": {func(t *testing.T) string { return startCloud(t).URL() }, 20},
		"moto":    {func(t *testing.T) string { return moto.Start(t) }, 5},
	} {
		t.Run("on "+kind, func(t *testing.T) {
			b, key := bucketOfVersionsAt(t, c.start(t)), sshKey(t)
			if kind == "moto" {
				b.remote = b.behind(moto.PutsInTurn)
			}
			r := &race{b: b, key: key, enough: c.publish, won: map[string]string{}}
			r.run(20)
			if len(r.won) < c.publish || r.late == 0 {
				t.Errorf("%d publishes, and %d that came too late", len(r.won), r.late)
			}
			r.wantKept(t)
		})
	}
}

// race is of processes that publish to the same remote.
type race struct {
	b      bucketOfVersions
	key    string
	enough int // publishes, for who came too late to push no more

	mu   sync.Mutex
	won  map[string]string // revisions of the pushes that ended with 0, by the ETag that they printed
	late int               // pushes that ended with 5
}

func (r *race) run(pushers int) {
	var all sync.WaitGroup
	for i := range pushers {
		rev := fmt.Sprintf("rev%d", i)
		src := r.b.t.TempDir()
		write(r.b.t, filepath.Join(src, "flake.nix"), rev)
		all.Go(func() {
			for again := true; again; {
				again = r.push(src, rev)
			}
		})
	}
	all.Wait()
}

// push reports whether to push again: it came too late.
func (r *race) push(src, rev string) bool {
	cmd := exec.CommandContext(r.b.t.Context(), "npcnix", "push", "--src", src, "--remote", r.b.remote, "--sign-key", r.key, "--rev", rev, "--check=none")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r.mu.Lock()
	defer r.mu.Unlock()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		etag := strings.TrimSpace(stdout.String())
		if other, twice := r.won[etag]; twice {
			r.b.t.Errorf("%s and %s are both %s", rev, other, etag)
		}
		r.won[etag] = rev
	case ended && exit.ExitCode() == exitSuperseded && strings.Contains(stderr.String(), "another publish came first, and nothing was published"):
		r.late++
		return len(r.won) < r.enough
	default:
		r.b.t.Errorf("%s: %v\n%s", rev, err, &stderr)
	}
	return false
}

// wantKept fails the test unless the bucket has kept the release of each push that ended with 0, and nothing else, with
// serials that rise; it holds the last one.
func (r *race) wantKept(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	remote, err := store.Open(t.Context(), r.b.remote, store.Options{})
	must(err)
	signers, err := release.ParseSigners(publicKey(t, r.key))
	must(err)
	kept, more, err := remote.Versions(t.Context(), 100)
	must(err)
	now, err := remote.Latest(t.Context(), store.Version{})
	must(err)
	if len(kept) != len(r.won) || more || kept[0].ETag != now.ETag {
		t.Fatalf("%d versions were kept of %d publishes; the remote holds %+v, and last kept was %+v", len(kept), len(r.won), now, kept[0])
	}
	serial := int64(0)
	for _, k := range slices.Backward(kept) {
		frame, _, err := publish.Read(t.Context(), remote.At(k.Version), k.Version)
		must(err)
		v, err := release.Policy{Remote: remote.Name(), Signers: signers}.Verify(frame)
		must(err)
		must(remote.At(k.Version).CopyArchive(t.Context(), k.Version, store.Archive{SHA256: v.Archive.SHA256, Size: v.Archive.Size}, io.Discard))
		if v.Serial <= serial || v.Source.Rev != r.won[k.ETag] {
			t.Errorf("serial %d of %s (%s) follows %d", v.Serial, v.Source.Rev, r.won[k.ETag], serial)
		}
		serial = v.Serial
	}
}

// TestAPushMeetsAnotherWrite pushes over a release while the store answers as it does when something else is written.
func TestAPushMeetsAnotherWrite(t *testing.T) {
	none := awsfake.Effect{}
	conflict := awsfake.Effect{Status: http.StatusConflict, Code: "ConditionalRequestConflict"}
	changed := awsfake.Effect{Status: http.StatusPreconditionFailed, Code: "PreconditionFailed"}
	once := func(e awsfake.Effect) awsfake.Effect { e.Next = 1; return e }
	for _, c := range []struct {
		name, action string
		effect       awsfake.Effect
		other        bool // something else was published meanwhile
		code         int
		says         string
	}{
		{"a conflict with nothing else published", "PutObject", once(conflict), false, exitDone, "msg=published"},
		{"a conflict with another publish", "PutObject", once(conflict), true, exitSuperseded, "another publish came first, and nothing was published"},
		{"a conflict each time", "PutObject", conflict, false, exitFailed, "nothing was published: .*Try again"},
		{"another publish", "PutObject", none, true, exitSuperseded, "another publish came first, and nothing was published"},
		{"412 with nothing else published", "PutObject", once(changed), false, exitFailed, "nothing was published: .*Try again"},
		{"another publish while the last one is read", "GetObject", none, true, exitDone, "msg=published"},
		{"other publishes each time the last one is read", "GetObject", changed, false, exitSuperseded, "another publish came first, and nothing was published"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud := startCloud(t)
			b, key, src := bucketOfVersionsAt(t, cloud.URL()), sshKey(t), t.TempDir()
			earlier, other := signed(t, key, "planted/dev.npcnix", "earlier", nil), signed(t, key, "planted/dev.npcnix", "other", nil)
			b.put(earlier)
			write(t, filepath.Join(src, "flake.nix"), "ours")
			var fault *awsfake.Fault
			begin := func() {
				if c.effect != none {
					fault = cloud.Fault(awsfake.Call{Service: "s3", Action: c.action}, c.effect)
				}
			}
			if c.other {
				b.remote = b.behind(before(c.action, func() { b.put(other); begin() }))
			} else {
				begin()
			}
			var out bytes.Buffer
			args := []string{"push", "--src", src, "--remote", b.remote, "--sign-key", key, "--check=none", "--rev", "ours"}
			code := report(execute(t.Context(), args, &out, &out), &out)
			if code != c.code || !regexp.MustCompile(c.says).MatchString(out.String()) || fault != nil && fault.Hits() == 0 {
				t.Errorf("it ended with %d, not %d\n%s", code, c.code, &out)
			}
			if fault != nil {
				fault.Remove()
			}
			switch {
			case c.code == exitDone:
				wantHeld(t, b.Client, key, signed(t, key, "planted/dev.npcnix", "ours", lastYear))
			case c.other:
				wantSame(t, b, other)
			default:
				wantSame(t, b, earlier)
				command(t, nil, args...) // again, once the store is well
			}
		})
	}
}

// before does something before the first request for a certain version: PutObject or GetObject.
func before(action string, do func()) func(http.Handler) http.Handler {
	var first sync.Once
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Match") != "" && strings.EqualFold(r.Method+"Object", action) {
				first.Do(do)
			}
			next.ServeHTTP(w, r)
		})
	}
}
