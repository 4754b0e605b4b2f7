package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

func TestFailures(t *testing.T) {
	inBubble(t, "a version that fails is retried by the schedule, then rejected, and the next applies at once", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "bad" })
		r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errBuild } })
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		if f := r.state().Failure; f == nil || f.Attempts != 1 || f.Rejected {
			t.Fatalf("after the first attempt: %+v", f)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		builds := r.when("build web1")
		if len(builds) != 5 { // the good one at start, then four attempts
			t.Fatalf("builds at %v", builds)
		}
		for i, want := range []time.Duration{30 * time.Second, 2 * time.Minute, 8 * time.Minute} {
			if pause := builds[i+2] - builds[i+1]; pause < want*9/10 || pause > want*11/10 {
				t.Errorf("pause %d is %s, want %s ± 10 %%", i+1, pause, want)
			}
		}
		if f := r.state().Failure; !f.Rejected || f.Attempts != 4 {
			t.Errorf("failure: %+v", f)
		}
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "build failed") || rec.System != "/nix/store/sys-1" {
			t.Errorf("record: %+v", rec)
		}
		if acks := r.of("ack"); len(acks) != 0 {
			t.Errorf("acknowledged: %q", acks)
		}
		// Redelivered after its rejection, the message is left to the redrive policy.
		r.mark()
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		time.Sleep(10 * time.Minute)
		if steps := r.of("extend", "ack", "build"); len(steps) != 0 {
			t.Errorf("a rejected version's message was touched: %q", steps)
		}
		r.host.set(func(h *fakeHost) { h.build, h.system = nil, "/nix/store/sys-3" })
		r.store.set(func(s *fakeStore) { s.etag = "fixed" })
		r.queue.in <- []events.Delivery{message("m2")}
		synctest.Wait()
		r.end()
		if got := r.state().Applied.ETag; got != "fixed" {
			t.Errorf("applied is %s", got)
		}
		equal(t, "acks", r.of("ack"), []string{"ack m2"})
	})

	inBubble(t, "a store that contradicts itself is spoken of once", func(t *testing.T) {
		r := newRig(t)
		r.store.fetchErr = fmt.Errorf("fetch: %w", store.ErrChanged) // whatever the look says
		r.start()
		time.Sleep(time.Hour)
		lines := r.logs.count("\n")
		if n := len(r.of("fetch")); lines > 5 || n < 30 || n > 300 {
			t.Errorf("%d lines and %d fetches in an hour", lines, n)
		}
		r.store.set(func(s *fakeStore) { s.fetchErr = nil })
		time.Sleep(4 * time.Minute)
		if got := r.state().Applied; got == nil || got.ETag != "v1" {
			t.Errorf("applied is %v", got)
		}
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		time.Sleep(15 * time.Minute)
		r.end()
		if n := r.logs.count("msg=applying"); n != 2 {
			t.Errorf("logged %d times that a version is being applied, want once for each", n)
		}
	})

	inBubble(t, "a build that hangs is ended after its time, which is an attempt", func(t *testing.T) {
		r := newRig(t)
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		r.start()
		time.Sleep(time.Hour + time.Second)
		f := r.state().Failure
		if f == nil || f.Attempts != 1 || !strings.Contains(f.Error, "ended after 1h0m0s") || !strings.Contains(f.Error, "build_timeout_secs") {
			t.Errorf("after an hour: %+v", f)
		}
		time.Sleep(4 * time.Hour)
		if f := r.state().Failure; !f.Rejected || f.Attempts != 4 {
			t.Errorf("after five hours: %+v", f)
		}
		r.end()
	})

	inBubble(t, "a build that may take for ever does", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.BuildTimeoutSecs = new(int64) })
		r.host.build = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		r.start()
		time.Sleep(1000 * time.Hour)
		if f := r.state().Failure; f != nil {
			t.Errorf("failure: %+v", f)
		}
		r.end()
		equal(t, "builds", r.of("build"), []string{"build web1"})
	})

	inBubble(t, "an unsafe archive is rejected at once", func(t *testing.T) {
		r := newRig(t)
		r.store.fetchErr = fmt.Errorf("entry ../x: %w", store.ErrUnsafe)
		r.start()
		time.Sleep(time.Hour)
		r.end()
		equal(t, "trace", r.of("fetch", "build"), []string{"fetch v1"})
		if f := r.state().Failure; f == nil || !f.Rejected || f.Attempts != 1 {
			t.Errorf("failure: %+v", f)
		}
	})

	inBubble(t, "retry gives a rejected version all its attempts again", func(t *testing.T) {
		r := newRig(t)
		r.fails(Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true, Attempts: 4})
		r.start()
		time.Sleep(time.Hour)
		if got := r.of("build"); len(got) != 0 {
			t.Fatalf("built what was rejected: %q", got)
		}
		r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errBuild } })
		r.configure(func(c *config.Config) { c.RetryToken = "again" })
		r.poke <- struct{}{}
		synctest.Wait()
		if f := r.state().Failure; f.Attempts != 1 || f.Rejected {
			t.Errorf("failure: %+v", f)
		}
		r.end()
	})

	inBubble(t, "a failed rollback leaves the next version and the old one applicable", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			// As a real switch does: the new system runs, then a unit fails.
			h.activate = func() error {
				h.running = "/nix/store/sys-2"
				return &activation.Error{Journal: activation.Journal{Phase: activation.RollbackFailed, Reason: "unit failed", Tail: []string{"unit failed"}}}
			}
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !slices.Equal(rec.LogTail, []string{"unit failed"}) {
			t.Errorf("record: %+v", rec)
		}
		r.store.set(func(s *fakeStore) { s.etag = "v1" })
		r.host.set(func(h *fakeHost) { h.system, h.activate = "/nix/store/sys-1", nil })
		r.queue.in <- []events.Delivery{message("m2")}
		synctest.Wait()
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1", "activate /nix/store/sys-2", "activate /nix/store/sys-1"})
	})

	inBubble(t, "a switch that succeeds without running the system is a failure", func(t *testing.T) {
		r := newRig(t)
		r.opts.Host = pretender{r.host}
		r.start()
		synctest.Wait()
		r.end()
		if f := r.state().Failure; f == nil || !strings.Contains(f.Error, "verify") {
			t.Errorf("failure: %+v", f)
		}
	})
}

func TestTransientErrors(t *testing.T) {
	t.Run("an error that is not the version's is retried for ever, and logged once", func(t *testing.T) {
		for name, fail := range map[string]func(*rig, error){
			"the store cannot be read":    func(r *rig, err error) { r.store.set(func(s *fakeStore) { s.latestErr = err }) },
			"the flake cannot be fetched": func(r *rig, err error) { r.store.set(func(s *fakeStore) { s.fetchErr = err }) },
			"nix is missing": func(r *rig, err error) {
				r.host.set(func(h *fakeHost) {
					h.build = func(context.Context) error {
						if err != nil {
							return fmt.Errorf("%w: %w", nix.ErrNoNix, err)
						}
						return nil
					}
				})
			},
		} {
			inBubble(t, name, func(t *testing.T) {
				r := newRig(t)
				fail(r, errors.New("boom"))
				r.start()
				time.Sleep(6 * time.Hour)
				if tries := len(r.of("latest")); tries < 6*20 || tries > 6*60+10 {
					t.Errorf("%d tries in 6 hours, want pauses that grow to 2 minutes ± 50 %%", tries)
				}
				if f := r.state().Failure; f != nil {
					t.Errorf("blamed on the publish: %+v", f)
				}
				if n := r.logs.count("boom"); n != 1 {
					t.Errorf("logged %d times", n)
				}
				fail(r, nil)
				time.Sleep(4 * time.Minute)
				synctest.Wait()
				r.end()
				if a := r.state().Applied; a == nil {
					t.Error("did not heal")
				}
			})
		}
	})

	inBubble(t, "a store that cannot be repaired never rejects a version", func(t *testing.T) {
		r := newRig(t)
		r.host.set(func(h *fakeHost) { h.damaged = fmt.Errorf("%w: a path is damaged", nix.ErrMachine) })
		r.start()
		time.Sleep(6 * time.Hour)
		if steps := r.of("latest", "build", "activate"); len(steps) != 0 {
			t.Errorf("steps on a damaged store: %q", steps)
		}
		if n := r.logs.count("a path is damaged"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		r.host.set(func(h *fakeHost) { h.damaged = nil })
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		r.end()
		if s := r.state(); s.Applied == nil || s.Failure != nil {
			t.Errorf("did not heal: %+v", s)
		}
	})

	// nix.ErrMachine after the switch started; a status with newlines
	inBubble(t, "an activation that the machine kept from beginning leaves nothing to repair", func(t *testing.T) {
		r := newRig(t)
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.system = "/nix/store/sys-2"
			h.activate = func() error { return fmt.Errorf("activate: %w", nix.ErrMachine) }
		})
		r.queue.in <- []events.Delivery{message("m1")}
		synctest.Wait()
		s := r.state()
		r.end()
		if s.NeedsRepair {
			t.Errorf("nothing was changed on the host, and it is said to need repair")
		}
	})

	inBubble(t, "a lock that cannot be taken is not blamed on the store", func(t *testing.T) {
		r := newRig(t)
		if err := os.Mkdir(r.dir.Path("activate.lock"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Minute)
		r.end()
		if n := r.logs.count("cannot read the store"); n != 0 {
			t.Errorf("a lock that cannot be taken was reported as: the store cannot be read")
		}
	})

	inBubble(t, "nothing is done without a durable intent", func(t *testing.T) {
		r := newRig(t)
		// A directory in the file's place cannot be replaced, by root neither.
		if err := os.MkdirAll(filepath.Join(r.dir.Path("state.json"), "x"), 0o755); err != nil {
			t.Fatal(err)
		}
		r.start()
		time.Sleep(time.Hour)
		if got := r.of("fetch", "build", "activate"); len(got) != 0 {
			t.Errorf("worked: %q", got)
		}
		if n := r.logs.count("cannot do the work;"); n != 1 {
			t.Errorf("said %d times", n)
		}
		if err := os.RemoveAll(r.dir.Path("state.json")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		r.end()
		if a := r.state().Applied; a == nil {
			t.Error("did not heal")
		}
	})
}

// pretender activates nothing.
type pretender struct{ *fakeHost }

func (p pretender) Activate(ctx context.Context, s nix.System, o activation.Request) (activation.Journal, error) {
	a := activation.Journal{System: s.Path}
	if _, err := o.Verify(ctx, a); err != nil {
		a.Reason, a.Phase = "verify: "+err.Error(), activation.RolledBack
		return a, &activation.Error{Journal: a}
	}
	return a, nil
}
