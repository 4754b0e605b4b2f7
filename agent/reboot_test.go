package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/reboot"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/wait"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix/activation"
)

// fakeMachine is due for a restart until it was restarted, or for ever.
type fakeMachine struct {
	*trace
	mu      sync.Mutex
	why     string
	forever bool
	err     error
	dueErr  error
	lost    int // restarts that are asked for and do not come
	boots   int
	failing []activation.Failing // what each look at the units finds, the last for ever
	booted  []string             // what failed at the boot
}

func (m *fakeMachine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *fakeMachine) NewlyFailing(context.Context, activation.Journal, []string) (activation.Failing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add("units")
	if len(m.failing) == 0 {
		return activation.Failing{}, nil
	}
	now := m.failing[0]
	if len(m.failing) > 1 {
		m.failing = m.failing[1:]
	}
	return now, nil
}

func (m *fakeMachine) RebootDue(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.why, m.dueErr
}

func (m *fakeMachine) BootFailures(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.booted, nil
}

func (m *fakeMachine) bootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("boot-%d", m.boots)
}

func (m *fakeMachine) Reboot(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add("reboot at %s", time.Now().UTC().Format("15"))
	switch {
	case m.err != nil:
		return m.err
	case m.lost > 0:
		m.lost--
		return nil
	case !m.forever:
		m.why = ""
	}
	m.boots++
	return nil
}

func TestReboot(t *testing.T) {
	t.Run("the machine is rebooted in its window, and once for a system", func(t *testing.T) {
		for _, c := range []struct {
			name    string
			reboot  config.Reboot
			window  string
			machine *fakeMachine
			hours   time.Duration
			want    []string // hours of the restarts; the clock begins at midnight
		}{
			{"never, unless asked to", "", "", &fakeMachine{why: "kernel"}, 48, nil},
			{"within the hour, without a window", config.RebootWhenNeeded, "", &fakeMachine{why: "kernel"}, 48, []string{"reboot at 00"}},
			{"in the window", config.RebootWhenNeeded, "03:00-04:00", &fakeMachine{why: "kernel"}, 48, []string{"reboot at 03"}},
			{"in a window that goes beyond midnight", config.RebootWhenNeeded, "23:30-00:00", &fakeMachine{why: "kernel"}, 48, []string{"reboot at 23"}},
			{"once for a system, as a restart does not help", config.RebootWhenNeeded, "03:00-04:00", &fakeMachine{why: "kernel", forever: true}, 96, []string{"reboot at 03"}},
			{"not where nothing is due", config.RebootWhenNeeded, "", &fakeMachine{}, 48, nil},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t, func(config *config.Config) { config.Reboot, config.RebootWindow = c.reboot, c.window })
				time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)))
				m := c.machine
				m.trace = r.trace
				r.opts.Machine, r.opts.BootID = m, m.bootID
				r.start()
				time.Sleep(c.hours * time.Hour)
				r.end()
				equal(t, "restarts", r.of("reboot"), c.want)
				if rec := r.store.lastRecord(); rec.RebootDue != (m.why != "") {
					t.Errorf("record: %+v", rec)
				}
			})
		}
	})

	t.Run("the settings of the moment say whether it is", func(t *testing.T) {
		for _, c := range []struct {
			name   string
			change func(*config.Config)
			want   []string
		}{
			{"as they were", func(*config.Config) {}, []string{"reboot at 03"}},
			{"paused meanwhile", func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} }, nil},
			{"never meanwhile", func(c *config.Config) { c.Reboot = config.RebootNever }, nil},
			{"another window meanwhile", func(c *config.Config) { c.RebootWindow = "05:00-06:00" }, []string{"reboot at 05"}},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t, func(c *config.Config) { c.Reboot, c.RebootWindow = config.RebootWhenNeeded, "03:00-03:01" })
				time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)))
				m := &fakeMachine{trace: r.trace, why: "kernel"}
				r.opts.Machine, r.opts.BootID = m, m.bootID
				r.start()
				time.Sleep(3 * time.Hour)
				r.configure(c.change) // of which no round is told
				time.Sleep(20 * time.Hour)
				r.end()
				equal(t, "restarts", r.of("reboot"), c.want)
			})
		}
	})

	t.Run("a host that an operator has switched is not rebooted", func(t *testing.T) {
		for name, at := range map[string]time.Duration{
			"long before":                        time.Hour,
			"between the last look and its time": 3 * time.Hour,
		} {
			inBubble(t, name, func(t *testing.T) {
				r := newRig(t, func(c *config.Config) { c.Reboot, c.RebootWindow = config.RebootWhenNeeded, "03:00-03:01" })
				time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)))
				m := &fakeMachine{trace: r.trace, why: "kernel"}
				r.opts.Machine, r.opts.BootID = m, m.bootID
				r.start()
				time.Sleep(at)
				r.host.set(func(h *fakeHost) { h.running = "/nix/store/hand" })
				time.Sleep(24 * time.Hour)
				equal(t, "restarts", r.of("reboot"), nil)
				if rec := r.store.lastRecord(); rec.Status != record.Drifted || !rec.RebootDue {
					t.Errorf("record: %+v", rec)
				}
				if p := r.health(); p.RebootDue == "" || !p.RebootAt.IsZero() {
					t.Errorf("health: due for %q, at %s", p.RebootDue, p.RebootAt)
				}
				r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
				r.store.set(func(s *fakeStore) { s.etag = "v2" })
				time.Sleep(25 * time.Hour)
				r.end()
				equal(t, "restarts after the next publish", r.of("reboot"), []string{"reboot at 03"})
			})
		}
	})

	t.Run("a reboot counts once it has come", func(t *testing.T) {
		for _, c := range []struct {
			name       string
			lost       int
			system, in string // as state.json has it; the boot is boot-0
			want       []time.Duration
		}{
			{"asked for and come", 0, "", "", []time.Duration{0}},
			{"asked for twice in vain", 2, "", "", []time.Duration{0, reboot.Again, 2 * reboot.Again}},
			{"the agent was killed before it could ask", 0, "/nix/store/sys-1", "boot-0", []time.Duration{0}},
			{"it came, and does not help", 0, "/nix/store/sys-1", "boot-1", nil},
			{"an older npcnix asked", 0, "/nix/store/sys-1", "", nil},
			{"it was for another system", 0, "/nix/store/sys-0", "boot-1", []time.Duration{0}},
		} {
			inBubble(t, c.name, func(t *testing.T) {
				r := newRig(t, func(c *config.Config) { c.Reboot = config.RebootWhenNeeded })
				m := &fakeMachine{trace: r.trace, why: "kernel", forever: true, lost: c.lost}
				r.opts.Machine, r.opts.BootID = m, m.bootID
				if err := saveState(r.dir, State{RebootedFor: c.system, RebootedIn: c.in}); err != nil {
					t.Fatal(err)
				}
				r.start()
				time.Sleep(48 * time.Hour)
				r.end()
				if got := r.when("reboot"); !slices.Equal(got, c.want) {
					t.Errorf("asked for at %v, want %v", got, c.want)
				}
				if n := r.logs.count("an operator is needed"); n != 1 {
					t.Errorf("said %d times that an operator is needed", n)
				}
			})
		}
	})

	inBubble(t, "one that fails is requested again, and never outside of the window", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Reboot, c.RebootWindow = config.RebootWhenNeeded, "03:00-05:00" })
		time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)))
		m := &fakeMachine{trace: r.trace, why: "kernel", forever: true, err: errors.New("busy")}
		r.opts.Machine, r.opts.BootID = m, m.bootID
		r.start()
		synctest.Wait()
		r.store.set(func(s *fakeStore) { s.etag = "v2" })
		r.host.set(func(h *fakeHost) {
			h.build = func(ctx context.Context) error { wait.For(ctx, 12*time.Hour); return errBuild }
		})
		r.queue.in <- []events.Delivery{message("m1")} // from midnight to noon
		time.Sleep(25 * time.Hour)
		if got := r.of("reboot"); len(got) != 0 {
			t.Errorf("restarted outside of the window, or amid attempts: %q", got)
		}
		missed := r.health().RebootAt
		r.store.set(func(s *fakeStore) { s.etag = "v1" })
		r.queue.in <- []events.Delivery{message("m2")}
		time.Sleep(5 * time.Second)
		if at := r.health().RebootAt; !missed.Before(time.Now()) || at.Before(time.Now()) {
			t.Errorf("at %s it is said to be planned for %s, and before that for %s", time.Now(), at, missed)
		}
		time.Sleep(54 * time.Hour)
		r.end()
		got := r.of("reboot")
		if len(got) < 2 {
			t.Errorf("tried %d times: %q", len(got), got)
		}
		for _, at := range got {
			if at != "reboot at 03" && at != "reboot at 04" {
				t.Errorf("outside of the window: %q", got)
				break
			}
		}
	})
}
