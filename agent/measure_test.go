package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/prometheus"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// TestMetrics brings a host into each status, and compares the samples that a reader then finds.
func TestMetrics(t *testing.T) {
	back := func(cause activation.Cause, failed string) func() error {
		return func() error {
			j := activation.Journal{Phase: activation.RolledBack, System: "/nix/store/sys-2", Previous: "/nix/store/sys-1", Cause: cause, Reason: "check web: refused"}
			if j.RollbackError = failed; failed != "" {
				j.Phase = activation.RollbackFailed
			}
			return &activation.Error{Journal: j}
		}
	}
	for status, c := range map[record.Status]struct {
		then func(t *testing.T, r *rig) // after v1 was applied
		want string
	}{
		record.Applied: {func(*testing.T, *rig) {}, `
			npcnix_attempts_total{result="applied"} 1
			npcnix_attempts_total{result="failed"} 0
			npcnix_rollbacks_total{cause="version"} 0
			npcnix_build_info{version="test"} 1
			npcnix_release_info{remote="s3://bucket/npcnix/remotes/dev.npcnix",configuration="web1",release="v1",rev=""} 1
			npcnix_last_attempt_success 1
			npcnix_healthy 1
			npcnix_system_healthy 1
			npcnix_needs_repair 0
			npcnix_closure_bytes 4096`},
		record.Failed: {func(_ *testing.T, r *rig) {
			r.host.set(func(h *fakeHost) { h.build = func(context.Context) error { return errBuild } })
		}, `
			npcnix_attempts_total{result="failed"} 1
			npcnix_last_attempt_success 0
			npcnix_messages_total{result="extended"} 1
			npcnix_messages_total{result="left"} 0
			npcnix_release_info{remote="s3://bucket/npcnix/remotes/dev.npcnix",configuration="web1",release="v1",rev=""} 1`},
		record.RolledBack: {func(_ *testing.T, r *rig) {
			r.host.set(func(h *fakeHost) { h.activate = back(activation.CauseVersion, "") })
		}, `
			npcnix_attempts_total{result="rolled_back"} 1
			npcnix_rollbacks_total{cause="version"} 1
			npcnix_messages_total{result="left"} 1
			npcnix_needs_repair 0`},
		record.Rejected: {func(_ *testing.T, r *rig) {
			r.host.set(func(h *fakeHost) { h.activate = back(activation.CauseVersion, "the disk is gone") })
		}, `
			npcnix_attempts_total{result="rejected"} 1
			npcnix_rollbacks_total{cause="version"} 1
			npcnix_needs_repair 1`},
		record.RebootPending: {func(_ *testing.T, r *rig) { r.host.set(func(h *fakeHost) { h.bootOnly = "another init" }) }, `
			npcnix_attempts_total{result="reboot_pending"} 1
			npcnix_last_attempt_success 1
			npcnix_release_info{remote="s3://bucket/npcnix/remotes/dev.npcnix",configuration="web1",release="v1",rev=""} 1`},
		record.Paused: {func(_ *testing.T, r *rig) {
			r.configure(func(c *config.Config) { c.Paused = &config.Pause{Type: "indefinitely"} })
			r.poke <- struct{}{}
		}, `
			npcnix_attempts_total{result="applied"} 1`},
		record.Drifted: {func(_ *testing.T, r *rig) {
			r.store.set(func(s *fakeStore) { s.etag = "v1" })
			r.host.set(func(h *fakeHost) { h.running = "/nix/store/of-an-operator" })
			r.poke <- struct{}{}
		}, `
			npcnix_attempts_total{result="applied"} 1`},
		record.Building: {func(_ *testing.T, r *rig) {
			r.host.set(func(h *fakeHost) { h.build = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } })
		}, `
			npcnix_attempts_total{result="applied"} 1`},
	} {
		t.Run(string(status), func(t *testing.T) {
			var text string
			synctest.Test(t, func(t *testing.T) {
				r, path := measuring(t)
				r.start()
				time.Sleep(2 * time.Second)
				r.store.set(func(s *fakeStore) { s.etag = "v2" })
				r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
				if c.then(t, r); !slices.Contains([]record.Status{record.Applied, record.Paused, record.Drifted}, status) {
					r.queue.in <- []events.Delivery{message("m1")}
				}
				time.Sleep(2 * time.Second)
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				text = string(data)
				r.end()
			})
			for _, s := range record.Statuses {
				c.want += "\nnpcnix_status{status=\"" + string(s) + "\"} " + map[bool]string{true: "1", false: "0"}[s == status]
			}
			hasSamples(t, text, c.want)
			if info := strings.Contains(text, "\nnpcnix_release_info{"); info == (status == record.Drifted) {
				t.Errorf("release_info is there: %t", info)
			}
			prometheus.Check(t, []byte(text))
		})
	}
}

func TestMetricsOfHealth(t *testing.T) {
	inBubble(t, "a queue and a store that fail are told, and counters survive the agent", func(t *testing.T) {
		r, path := measuring(t)
		r.start()
		time.Sleep(2 * time.Second)
		r.queue.setErr(errors.New("AccessDenied"))
		r.queue.in <- nil
		time.Sleep(2 * time.Second)
		hasSamples(t, mustRead(t, path), "npcnix_queue_healthy 0\nnpcnix_healthy 0")
		r.end()
		r.queue.setErr(nil)
		r.start()
		time.Sleep(2 * time.Second)
		r.queue.in <- []events.Delivery{{ID: "x", Err: events.ErrUnknown}, message("m2")}
		time.Sleep(2 * time.Second)
		hasSamples(t, mustRead(t, path), `npcnix_queue_healthy 1
			npcnix_healthy 1
			npcnix_attempts_total{result="applied"} 1
			npcnix_messages_total{result="acknowledged"} 1
			npcnix_messages_total{result="unknown"} 1`)
		r.end()
	})
	inBubble(t, "a folder that cannot be made is logged once and costs nothing else", func(t *testing.T) {
		r, path := measuring(t)
		write(t, filepath.Dir(path), "a file")
		r.start()
		time.Sleep(time.Hour)
		r.end()
		if n := r.logs.count("cannot write metrics_textfile"); n != 1 || r.store.lastRecord().Status != record.Applied {
			t.Errorf("logged %d times; the record is %+v", n, r.store.lastRecord())
		}
	})
	inBubble(t, "a refused release is counted by its reason, and a signed one has its serial", func(t *testing.T) {
		r, key := trusting(t, func(c *config.Config) { c.MetricsTextfile = filepath.Join(t.TempDir(), "npcnix.prom") })
		c, _ := r.dir.LoadConfig()
		stranger, _ := newSigner(t)
		r.publish("v1", released(t, stranger, asItIs))
		r.start()
		time.Sleep(2 * time.Second)
		hasSamples(t, mustRead(t, c.MetricsTextfile), "npcnix_signature_rejections_total{reason=\"signature\"} 1\nnpcnix_status{status=\"rejected\"} 1\nnpcnix_healthy 0")
		r.publish("v2", released(t, key, asItIs))
		r.queue.in <- []events.Delivery{message("m1")}
		time.Sleep(2 * time.Second)
		text := mustRead(t, c.MetricsTextfile)
		if !regexp.MustCompile(`\nnpcnix_release_serial \d{10,}\n`).MatchString(text) || !regexp.MustCompile(`release="[0-9a-f]{64}",rev="abc"`).MatchString(text) {
			t.Error(text)
		}
		r.end()
	})
	inBubble(t, "a run beside the long-running agent leaves its file alone", func(t *testing.T) {
		r, path := measuring(t)
		r.opts.Once = OnceAny
		r.start()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

// What an earlier agent has begun counts once: when its end is known.
func TestMetricsOfAResumedActivation(t *testing.T) {
	inBubble(t, "it", func(t *testing.T) {
		r, path := measuring(t)
		target := Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}
		in := &Intent{Target: target, Status: record.Activating, Attempt: 1, Activation: "one", System: "/nix/store/sys-1"}
		if err := saveState(r.dir, State{Intent: in}); err != nil {
			t.Fatal(err)
		}
		r.host.left = &activation.Journal{ID: "one", Phase: activation.RolledBack, Cause: activation.CauseVersion, System: "/nix/store/sys-1", Reason: "the rollback timer"}
		r.start()
		time.Sleep(2 * time.Second)
		r.end()
		hasSamples(t, mustRead(t, path), "npcnix_attempts_total{result=\"rolled_back\"} 1\nnpcnix_rollbacks_total{cause=\"version\"} 1")
	})
}

func TestRoundsThatReadNoStateTellNothingNew(t *testing.T) {
	inBubble(t, "what was known of the host stays", func(t *testing.T) {
		r, path := measuring(t)
		m := &fakeMachine{trace: r.trace, why: "kernel"}
		r.opts.Machine, r.opts.BootID = m, m.bootID
		r.host.activate = func() error {
			j := activation.Journal{Phase: activation.RollbackFailed, System: "/nix/store/sys-2", Cause: activation.CauseVersion, RollbackError: "the disk is gone"}
			return &activation.Error{Journal: j}
		}
		applied := Applied{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v0", Release: "r", Serial: 7}, System: "/nix/store/sys-1", At: time.Now()}
		if err := saveState(r.dir, State{Applied: &applied}); err != nil {
			t.Fatal(err)
		}
		r.host.running, r.host.system = applied.System, "/nix/store/sys-2"
		r.start()
		time.Sleep(2 * time.Second)
		r.host.set(func(h *fakeHost) { h.damaged = errors.New("a path is damaged") })
		r.poke <- struct{}{}
		time.Sleep(2 * time.Second)
		hasSamples(t, mustRead(t, path), `
			npcnix_healthy 0
			npcnix_needs_repair 1
			npcnix_reboot_pending 1
			npcnix_release_serial 7
			npcnix_release_info{remote="s3://bucket/npcnix/remotes/dev.npcnix",configuration="web1",release="r",rev=""} 1`)
		if h := r.health(); h.RebootDue != "kernel" || h.TransientError == "" {
			t.Errorf("health: %+v", h)
		}
		r.end()
	})
}

// measuring is a rig with a file of metrics.
func measuring(t *testing.T) (r *rig, path string) {
	path = filepath.Join(t.TempDir(), "metrics", "npcnix.prom")
	r = newRig(t, func(c *config.Config) { c.MetricsTextfile = path })
	r.opts.ClosureSize = func(context.Context, nix.System) (int64, error) { return 4096, nil }
	return r, path
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func hasSamples(t *testing.T, text, want string) {
	t.Helper()
	has := slices.Sorted(strings.Lines(text))
	for line := range strings.Lines(strings.TrimSpace(want)) {
		if line = strings.TrimSpace(line) + "\n"; !slices.Contains(has, line) {
			t.Errorf("no %s", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
