package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
)

func TestApplying(t *testing.T) {
	inBubble(t, "a publish is applied in order, and only then acknowledged", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		r.mark()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		got := r.of("latest", "fetch", "build", "activate", "record applied", "ack")
		equal(t, "trace", got, []string{"latest v2", "fetch v2", "build web1", "activate /nix/store/sys-2", "record applied v2", "ack m1"})
		s := r.state()
		if s.Applied == nil || s.Applied.ETag != "v2" || s.Applied.System != "/nix/store/sys-2" || s.Applied.Previous != "/nix/store/sys-1" || s.Intent != nil || s.NeedsRepair {
			t.Errorf("state: %+v", s)
		}
		rec := r.store.lastRecord()
		if rec.Status != record.Applied || rec.Host != "web1" || rec.Schema != record.Schema || rec.Trigger != record.Event || rec.Times.Built.IsZero() || rec.Agent != "test" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "an unchanged publish activates nothing, and is acknowledged", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		equal(t, "trace", r.of("fetch", "build", "activate", "ack"), []string{"fetch v1", "build web1", "activate /nix/store/sys-1", "ack m1"})
	})

	inBubble(t, "another version of the same system is not activated again", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		r.end()
		equal(t, "trace", r.of("build", "activate", "ack"), []string{"build web1", "activate /nix/store/sys-1", "build web1", "ack m1"})
		if got := r.state().Applied.ETag; got != "v2" {
			t.Errorf("applied is %s", got)
		}
	})

	inBubble(t, "another configuration is applied at once", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Configuration = "web2" })
		r.poke <- struct{}{}
		synctest.Wait()
		r.end()
		equal(t, "builds", r.of("build"), []string{"build web1", "build web2"})
	})

	inBubble(t, "another remote ends the agent, so that a new one connects", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.configure(func(c *config.Config) { c.Remote = "s3://bucket/other" })
		r.poke <- struct{}{}
		if err := <-r.done; !errors.Is(err, ErrReconnect) {
			t.Errorf("Run: %v", err)
		}
		r.stop()
	})

	inBubble(t, "a host has one reconcile at a time", func(t *testing.T) {
		r := newRig(t)
		unlock, err := r.dir.LockActivation(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Minute)
		if got := r.of("latest"); len(got) != 0 {
			t.Errorf("reconciled beside another: %q", got)
		}
		unlock()
		time.Sleep(time.Second)
		r.end()
		if a := r.state().Applied; a == nil {
			t.Error("did not go on")
		}
	})
}

func TestOvertaken(t *testing.T) {
	inBubble(t, "a newer version cancels a build, twice at most", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		cancelled := 0
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.build = func(ctx context.Context) error {
				wait.For(ctx, time.Minute)
				if ctx.Err() != nil {
					cancelled++
				}
				return ctx.Err()
			}
		})
		for i := range 5 {
			r.store.set(func(s *fakeStore) { s.etag = fmt.Sprintf("v%d", i+2) })
			r.queue.in <- []events.Delivery{message(fmt.Sprintf("m%d", i))}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		r.end()
		if cancelled != 2 {
			t.Errorf("cancelled %d times", cancelled)
		}
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1", "activate /nix/store/sys-2"})
		if got := r.state().Applied.ETag; got != "v6" {
			t.Errorf("applied is %s", got)
		}
		if got := strings.Join(r.of("ack"), " "); got != "ack m0,m1,m2 ack m3,m4" {
			t.Errorf("acks: %q", got)
		}
	})

	inBubble(t, "a newer version that only a poll finds cancels a build", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Minute)
		r.store.set(func(s *fakeStore) { s.etag = "v3" }) // its event is lost
		r.host.set(func(h *fakeHost) { h.build = nil })
		time.Sleep(15 * time.Minute)
		r.end()
		if got := r.state().Applied.ETag; got != "v3" {
			t.Errorf("applied is %s", got)
		}
		equal(t, "acks", r.of("ack"), []string{"ack m1"})
	})

	for found, event := range map[string]bool{"an event": true, "a poll": false} {
		inBubble(t, "a newer version that "+found+" finds cancels a download", func(t *testing.T) {
			r := newRig(t)
			r.start()
			synctest.Wait()
			r.store.set(func(s *fakeStore) {
				s.etag = "v2"
				s.fetching = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			})
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Minute)
			r.store.set(func(s *fakeStore) { s.etag, s.fetching = "v3", nil })
			if event {
				r.queue.in <- []events.Delivery{message("m2")}
				time.Sleep(time.Second)
			} else {
				time.Sleep(15 * time.Minute)
			}
			got := r.state().Applied.ETag
			r.end()
			if got != "v3" {
				t.Errorf("applied is %s", got)
			}
			equal(t, "downloads", r.of("fetch"), []string{"fetch v1", "fetch v2", "fetch v3"})
		})
	}

	inBubble(t, "an overtaken intent is forgotten", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) { h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(time.Second)
		r.store.set(func(s *fakeStore) { s.etag = "v1" }) // rolled back
		r.queue.in <- []events.Delivery{message("m2")}
		time.Sleep(time.Hour)
		in := r.state().Intent
		r.end()
		if in != nil {
			t.Errorf("an hour later state.json still says in progress: %+v", in)
		}
	})

	inBubble(t, "another remote during a build keeps the old one's version from activation", func(t *testing.T) {
		r := newRig(t)
		r.host.build = func(ctx context.Context) error { wait.For(ctx, time.Minute); return ctx.Err() }
		r.start()
		time.Sleep(time.Second)
		r.configure(func(c *config.Config) { c.Remote = "s3://bucket/npcnix/remotes/prod.npcnix" })
		if err := <-r.done; !errors.Is(err, ErrReconnect) {
			t.Errorf("Run: %v", err)
		}
		r.stop()
		if got := r.of("activate"); len(got) != 0 {
			t.Errorf("activated the old remote's version a minute after the remote was changed: %q", got)
		}
	})

	t.Run("a change during the pre_activate hook keeps the system from activation", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			change func(*config.Config)
			ends   string // Run's error
		}{
			{"a pause", func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} }, "paused"},
			{"another remote", func(c *config.Config) { c.Remote = "s3://bucket/npcnix/remotes/prod.npcnix" }, ErrReconnect.Error()},
		} {
			t.Run(c.name, func(t *testing.T) {
				// Not in a bubble: a hook is a process.
				r := newRig(t)
				r.opts.Once, r.opts.Queue = OnceAny, nil
				// The hook puts the settings in place that are to be.
				r.configure(c.change)
				changed := r.dir.Path("changed.json")
				if err := os.Rename(r.dir.ConfigPath(), changed); err != nil {
					t.Fatal(err)
				}
				r.configure(func(config *config.Config) {
					config.Remote, config.Configuration = testRemote, "web1"
					config.Hooks.PreActivate = []string{"/bin/mv", changed, r.dir.ConfigPath()}
				})
				r.start()
				if err := <-r.done; err == nil || !strings.Contains(err.Error(), c.ends) {
					t.Errorf("Run: %v, want %q", err, c.ends)
				}
				r.stop()
				equal(t, "activations", r.of("activate"), nil)
				if s := r.state(); s.Applied != nil || s.Failure != nil {
					t.Errorf("state: %+v", s)
				}
			})
		}
	})
}
