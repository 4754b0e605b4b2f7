package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

func TestOnce(t *testing.T) {
	t.Run("it ends when it is fulfilled, or cannot be", func(t *testing.T) {
		for _, c := range []struct {
			name  string
			once  Once
			setup func(*rig)
			err   string // empty: success
			trace []string
			most  time.Duration
		}{
			{"any ends when applied", OnceAny, func(*rig) {}, "", []string{"activate /nix/store/sys-1"}, 0},
			{"any ends when unchanged", OnceAny, func(r *rig) { r.applied("v1") }, "", nil, 0},
			{"any ends when rejected", OnceAny, func(r *rig) { r.host.build = func(context.Context) error { return errBuild } }, "build failed", nil, 12 * time.Minute},
			{"any ends when rolled back, which is not tried again", OnceAny, func(r *rig) { r.host.activate = func() error { return errBuild } }, "build failed", []string{"activate /nix/store/sys-1"}, 0},
			{"any ends when paused", OnceAny, func(r *rig) {
				r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
			}, "unpause", nil, 0},
			{"any ends when the store stays out of reach", OnceAny, func(r *rig) { r.store.latestErr = errors.New("no route") }, "no route", nil, 2 * time.Minute},
			{"any with force applies what is rejected", OnceAny, func(r *rig) {
				r.opts.Force = true
				r.fails(Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true})
			}, "", []string{"activate /nix/store/sys-1"}, 0},
			{"activate ends after an activation", OnceActivate, func(*rig) {}, "", []string{"activate /nix/store/sys-1"}, 0},
			{"an initial configuration comes before the one that is set", OnceAny, func(r *rig) {
				r.opts.Override = func(c config.Config) (config.Config, error) { c.Configuration = "base"; return c, nil }
			}, "", []string{"activate /nix/store/sys-1"}, 0},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t)
				r.opts.Once, r.opts.Queue = c.once, nil
				c.setup(r)
				begun := time.Now()
				r.start()
				err := <-r.done
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				if took := time.Since(begun); took > c.most {
					t.Errorf("took %s", took)
				}
				equal(t, "activations", r.of("activate"), c.trace)
				r.stop()
			})
		}
	})

	inBubble(t, "an interrupt is no success", func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue, r.opts.Once = nil, OnceAny
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		if err := r.end(); err == nil {
			t.Error("nothing was applied, and Run returned nil")
		}
	})

	inBubble(t, "activate goes on if the system ran already", func(t *testing.T) {
		r := newRig(t)
		r.opts.Once = OnceActivate
		r.host.running = "/nix/store/sys-1"
		r.start()
		time.Sleep(time.Minute)
		select {
		case <-r.done:
			t.Errorf("ended; activations: %q", r.of("activate"))
			r.stop()
		default:
			r.end()
		}
	})

	inBubble(t, "activate goes on until something is activated", func(t *testing.T) {
		r := newRig(t)
		r.applied("v1")
		r.opts.Once = OnceActivate
		r.start()
		time.Sleep(time.Hour)
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		equal(t, "trace", r.of("activate", "ack"), []string{"activate /nix/store/sys-1", "ack m1"})
		r.stop()
	})

	inBubble(t, "beside a long-running agent it leaves that one's flake alone", func(t *testing.T) {
		r := newRig(t)
		r.opts.Queue = nil
		r.opts.Store = fileStore{r.store}
		r.host.build = func(ctx context.Context) error {
			wait.For(ctx, time.Minute)
			left, _ := filepath.Glob(r.dir.Path("flake-*/flake/flake.nix"))
			if len(left) == 0 {
				return errors.New("no flake.nix in the folder: was the right folder packed?")
			}
			return ctx.Err()
		}
		r.start()
		time.Sleep(10 * time.Second) // building
		o := r.opts
		o.Once = OnceAny
		b, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan struct{})
		go func() { _ = b.Run(ctx); close(ended) }()
		time.Sleep(51 * time.Second)
		f := r.state().Failure
		r.end()
		cancel()
		<-ended
		if f != nil {
			t.Errorf("the good publish failed on the running agent: %+v", f)
		}
	})
}

func TestForce(t *testing.T) {
	inBubble(t, "it is for one attempt", func(t *testing.T) {
		r := newRig(t)
		r.opts.Force = true
		r.host.build = func(context.Context) error { return errBuild }
		r.start()
		time.Sleep(24 * time.Hour)
		r.end()
		if n := len(r.of("build")); n > 5 {
			t.Errorf("built the broken version %d times in a day; rejected means 4", n)
		}
	})

	inBubble(t, "events after a failure do not force again", func(t *testing.T) {
		r := newRig(t)
		r.opts.Force = true
		r.host.build = func(context.Context) error { return errBuild }
		r.start()
		synctest.Wait()
		for range 10 {
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Second)
		}
		n := len(r.of("build"))
		r.end()
		if n > 2 {
			t.Errorf("%d builds in 10 s", n)
		}
	})
}

// fileStore fetches a flake that is there.
type fileStore struct{ *fakeStore }

func (s fileStore) FetchSigned(_ context.Context, _ store.Version, _ store.Archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "flake.nix"), nil, 0o644)
}
