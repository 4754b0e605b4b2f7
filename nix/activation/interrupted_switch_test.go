package activation

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a machine on which each run of the new system's switch is as written down.
type scripted struct {
	*fakeMachine
	runs []func(ctx context.Context) outcome
}

func (m *scripted) Switch(ctx context.Context, r switchRun) outcome {
	if r.system != newSystem {
		return m.fakeMachine.Switch(ctx, r)
	}
	run := m.runs[0]
	m.runs = m.runs[1:]
	return run(ctx)
}

func TestASwitchThatIsRepeated(t *testing.T) {
	noReply := outcome{err: statuses[1], exit: 1, tail: []string{"Error: Did not receive a reply"}}
	lockTaken := outcome{err: statuses[exitBusy], exit: exitBusy, tail: []string{"Could not acquire lock"}}
	hangs := func(_ *fakeMachine, ctx context.Context) outcome {
		<-ctx.Done()
		return outcome{err: errors.New("it hung, and was ended"), exit: -1}
	}
	for _, c := range []struct {
		name    string
		begins  outcome       // after it has changed what runs
		after   time.Duration // that this took
		ends    func(m *fakeMachine, ctx context.Context) outcome
		want    Cause
		running string
	}{
		{"the service manager gives no answer, and then another process switches", noReply, 0, func(*fakeMachine, context.Context) outcome { return lockTaken }, CauseInterrupted, oldSystem},
		{"the service manager gives no answer, and then none until the time is up", noReply, 10 * time.Minute, hangs, CauseMachine, oldSystem},
		{"the service manager gives no answer at first, and then the switch hangs", noReply, 25 * time.Second, hangs, CauseVersion, oldSystem},
		{"another process switches all the while", lockTaken, 0, func(*fakeMachine, context.Context) outcome { return lockTaken }, CauseBusy, oldSystem},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &fakeMachine{t: t, running: oldSystem, profiled: oldSystem, boots: oldSystem, generations: map[string]int{oldSystem: 1}}
				j := &Journal{
					Schema: journalSchema, ID: "x", System: newSystem, Previous: oldSystem,
					ProfileSystem: oldSystem, ProfileLink: oldSystem, SwitchSecs: 900,
				}
				dir := t.TempDir()
				if err := j.advance(dir, Pending); err != nil {
					t.Fatal(err)
				}
				m.journal = j
				s := &scripted{fakeMachine: m, runs: []func(context.Context) outcome{
					func(context.Context) outcome {
						time.Sleep(c.after)
						if !c.begins.lockTaken() {
							m.running = newSystem
						}
						return c.begins
					},
					func(ctx context.Context) outcome {
						m.profiled, m.generations["/operators"] = "/operators", 2 // by nixos-rebuild boot
						return c.ends(m, ctx)
					},
				}}
				w := &worker{Journal: j, machine: s, dir: dir, log: slog.New(slog.DiscardHandler)}
				if err := w.toItsEnd(t.Context()); err != nil {
					t.Fatal(err)
				}
				if j.Phase != RolledBack || j.Cause != c.want || m.running != c.running || m.profiled != "/operators" {
					t.Errorf("%s, cause %q (%s); %s runs, the profile has %s", j.Phase, j.Cause, j.Reason, m.running, m.profiled)
				}
			})
		})
	}
}

// stuck is a machine that neither restarts nor switches back.
type stuck struct {
	*fakeMachine
	restarts *int
}

func (m stuck) Reboot(context.Context) error { *m.restarts++; return errMachine }

func (m stuck) Switch(ctx context.Context, r switchRun) outcome {
	if r.action == actionTest || r.action == actionActivate {
		return outcome{err: statuses[1], exit: 1}
	}
	return m.fakeMachine.Switch(ctx, r)
}

func TestRestartsOfARollbackAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		restarts, dir := 0, t.TempDir()
		m := &fakeMachine{t: t, verified: true, running: newSystem, profiled: newSystem, boots: newSystem, generations: map[string]int{oldSystem: 1, newSystem: 2}}
		j := &Journal{
			Schema: journalSchema, ID: "x", Phase: Verifying, System: newSystem, Previous: oldSystem, ProfileSystem: oldSystem,
			ProfileLink: oldSystem, SwitchSecs: 900, BootOnly: true, Installed: true, NewestBefore: 1, Cause: CauseVersion,
		}
		if err := j.advance(dir, RollingBack); err != nil {
			t.Fatal(err)
		}
		m.journal = j
		w := &worker{Journal: j, machine: stuck{m, &restarts}, dir: dir, log: slog.New(slog.DiscardHandler)}
		if err := w.toItsEnd(t.Context()); err != nil {
			t.Fatal(err)
		}
		if j.Phase != RollbackFailed || restarts != maxTries {
			t.Errorf("%s after %d restarts, want %d", j.Phase, restarts, maxTries)
		}
	})
}

// keeper is a machine that counts the systems it no longer protects.
type keeper struct {
	*fakeMachine
	released *int
}

func (m keeper) ReleasePrevious() { *m.released++ }

func TestABootThatEndsARollbackReleasesThePrevious(t *testing.T) {
	released, dir := 0, t.TempDir()
	m := &fakeMachine{t: t, running: oldSystem, profiled: oldSystem, boots: oldSystem, generations: map[string]int{oldSystem: 1}}
	j := &Journal{Schema: journalSchema, ID: "x", Phase: Switching, System: newSystem, Previous: oldSystem, ProfileSystem: oldSystem, ProfileLink: oldSystem}
	if err := j.afterBoot(t.Context(), dir, keeper{m, &released}); err != nil {
		t.Fatal(err)
	}
	if j.Phase != RolledBack || released != 1 {
		t.Errorf("%s, released %d times", j.Phase, released)
	}
}
