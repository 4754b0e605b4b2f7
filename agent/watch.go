package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/verify"
	"github.com/npcnix/npcnix/nix/activation"
)

// looksInARow is how many looks must agree before the applied system counts as unhealthy, or as healthy again:
// so that it does not flap.
const looksInARow = 2

// A condition is how the applied system has done so far, by looks at its checks and units.
type condition struct {
	since     time.Time // it is healthy since then
	unhealthy string    // why it is not; "" if it is
	against   int       // looks in a row that say otherwise
}

// add takes note of a look, which found err. It is pure.
func (c condition) add(err error, now time.Time) condition {
	if (err != nil) == (c.unhealthy != "") {
		c.against = 0
		return c
	}

	c.against++
	switch {
	case c.against < looksInARow:
	case err != nil:
		c = condition{unhealthy: err.Error()}
	default:
		c = condition{since: now}
	}

	return c
}

// soaked reports whether the system was healthy for so long, and no look says otherwise. Without a time nothing
// soaks.
func (c condition) soaked(soak time.Duration, now time.Time) bool {
	return soak > 0 && c.unhealthy == "" && c.against == 0 && now.Sub(c.since) >= soak
}

// A subject is an applied system that is watched.
type subject struct {
	system   string // "" for none
	at       time.Time
	soak     time.Duration // of its rollout; 0: none
	config   config.Config
	interval time.Duration // between two looks; 0: it is not looked at
}

// same reports whether both are the same system, applied at the same time.
func (s subject) same(o subject) bool { return s.system == o.system && s.at.Equal(o.at) }

// A vigil has what the agent watches between its rounds. It is safe for concurrent use.
type vigil struct {
	mu      sync.Mutex
	subject subject
	changed chan struct{} // closed, and replaced, when another system is to be watched, or at another pace
}

// watch has s watched from now on, and reports whether it is another system than before.
func (v *vigil) watch(s subject) (other bool) {
	v.mu.Lock()
	defer v.mu.Unlock()

	was := v.subject
	v.subject = s
	other = !s.same(was)
	if other || s.interval != was.interval {
		if v.changed != nil {
			close(v.changed)
		}
		v.changed = make(chan struct{})
	}

	return other
}

// tell calls f unless another system than s is watched by now.
func (v *vigil) tell(s subject, f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.same(v.subject) {
		f()
	}
}

func (v *vigil) get() (subject, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changed == nil {
		v.changed = make(chan struct{})
	}

	return v.subject, v.changed
}

// watchOver has what the host runs at the end of a round watched, if it is what was applied.
func (a *Agent) watchOver(r *round) {
	if r.unread() {
		return // nothing says that another system is to be watched
	}
	var s subject
	if applied := r.state.Applied; applied != nil && a.Once == "" && applied.System != "" && applied.System == r.countsAs().Path && !r.state.NeedsRepair {
		s = subject{applied.System, applied.At, time.Duration(applied.SoakSecs) * time.Second, r.config, r.config.HealthInterval()}
	}
	if a.vigil.watch(s) {
		a.record.SetHealth("", 0)
		a.monitor.Update(func(now *health.Health) { now.Unhealthy = "" })
	}
}

// unwatched has nothing watched while the system is exchanged.
func (a *Agent) unwatched() { a.vigil.watch(subject{}) }

// keepWatch looks at the watched system again and again, until ctx ends.
func (a *Agent) keepWatch(ctx context.Context) {
	var is condition
	var watched subject
	for ctx.Err() == nil {
		s, changed := a.vigil.get()
		if !s.same(watched) {
			watched, is = s, condition{since: time.Now()}
		}
		if !pauseFor(ctx, s, changed) {
			continue
		}

		looking, stop := context.WithCancel(ctx)
		go func() {
			select {
			case <-changed:
				stop()
			case <-looking.Done():
			}
		}()
		err := a.lookAt(looking, s)
		cut := looking.Err() != nil
		stop()
		if cut {
			continue
		}
		is = is.add(err, time.Now())
		a.vigil.tell(s, func() { a.tellHealth(is, s.soak) })
	}
}

// pauseFor waits until the next look is due; false if something has changed before.
func pauseFor(ctx context.Context, s subject, changed <-chan struct{}) bool {
	var due <-chan time.Time
	if s.system != "" && s.interval > 0 {
		timer := time.NewTimer(s.interval)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return true
	case <-changed:
	case <-ctx.Done():
	}

	return false
}

// lookAt looks once at the system.
func (a *Agent) lookAt(ctx context.Context, s subject) error {
	v := verify.Verifier{Config: s.config}
	j, err := activation.Read(string(a.Dir))
	if err != nil || j == nil || j.System != s.system || j.Phase != activation.Committed {
		j = &activation.Journal{} // nothing is known of the units before
	}
	if a.Machine != nil {
		v.Units = a.Machine
	}

	return v.Look(ctx, *j)
}

// tellHealth has the record, agent.json and the log tell how the system is.
func (a *Agent) tellHealth(is condition, soak time.Duration) {
	var secs int64
	if is.soaked(soak, time.Now()) {
		secs = int64(soak / time.Second)
	}
	a.record.SetHealth(record.Bounded(is.unhealthy, record.MaxError), secs)
	a.monitor.Update(func(now *health.Health) { now.Unhealthy = is.unhealthy })
	if is.unhealthy != "" {
		a.monitor.Failing(health.System, errors.New(is.unhealthy))
		return
	}
	a.monitor.Working(health.System)
}
