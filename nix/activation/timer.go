package activation

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// timerGrace is how long the rollback timer leaves the agent beyond its time: the agent should be the first
// to act, as it knows why.
const timerGrace = 2 * time.Second

// rollbackTimer rolls back an activation that is not committed in its time, whatever happens to the agent and to the
// worker. Under systemd it is a timer, which fires when the switch
// has had its time; the worker starts what it fires as soon as there is something to be verified. Without
// systemd it is a process that sleeps.
type rollbackTimer struct {
	dir, id string
	log     *slog.Logger
	command func(args ...string) []string // not needed to start or disarm it
}

func (c *Coordinator) timer(j *Journal) rollbackTimer {
	return rollbackTimer{c.dir, j.ID, c.log, c.commandLine}
}

// unit is the name of the service and of its timer.
func (t rollbackTimer) unit() string { return unitName(t.dir, timerUnit, t.id, "") }

// patterns match the units of the given types: of this activation, and the one that an older npcnix has. A
// pattern does not have units loaded, as a name does.
func (t rollbackTimer) patterns(types string) []string {
	return []string{t.unit() + types, unitBase(t.dir, timerUnit) + types}
}

const (
	anyType   = ".[st]*" // the service and the timer
	timerType = ".t*"
)

func (t rollbackTimer) arm(ctx context.Context, j *Journal) error {
	patience := seconds(j.SwitchSecs) + startGrace
	if !systemd.Running() {
		return detach(t.dir, t.command("timer", j.ID, patience.String()), os.O_TRUNC)
	}
	earlier := unitBase(t.dir, timerUnit) + "-" + strings.Repeat("?", idLength) + anyType
	_ = systemd.Systemctl(ctx, append([]string{"stop", "--", earlier}, t.patterns(anyType)...)...)
	options := []string{"--description=npcnix rolls back from " + filepath.Base(j.System) + ", unless it is committed"}
	if j.Phase == Pending {
		options = append(options, fmt.Sprintf("--on-active=%.0fs", patience.Seconds()), "--timer-property=AccuracySec=1s")
	}
	options = append(options, "--property=Restart=on-failure", "--property=RestartSec=1s", "--property=StartLimitIntervalSec=0")
	if err := systemd.Run(ctx, t.unit(), t.command("timer", j.ID, "0s"), options...); err != nil {
		return nix.Blame(ctx, fmt.Errorf("arm the rollback timer: %w", err))
	}
	return nil
}

// keepArmed arms the timer if it is not there, as when it was lost with a reboot. While the service manager does not
// tell, the timer is left as it is: to arm it begins with stopping the one before.
func (t rollbackTimer) keepArmed(ctx context.Context, j *Journal) error {
	if systemd.Running() {
		armed, err := systemd.AnyActive(ctx, t.patterns(anyType)...)
		if err != nil {
			return nix.Blame(ctx, fmt.Errorf("see whether the rollback timer is armed: %w", err))
		}
		if armed {
			return nil
		}
	}
	return t.arm(ctx, j)
}

// start starts what the timer would start later. Without systemd it runs already.
func (t rollbackTimer) start() {
	if systemd.Running() {
		if err := systemd.Systemctl(context.Background(), "start", "--no-block", t.unit()+".service"); err != nil {
			t.log.Warn("the rollback timer acts later than it should", "error", err)
		}
	}
}

// disarm takes the timer away, and if fired also what it has fired, which may be what calls this. A timer
// that cannot be taken away finds out by itself that nothing is to be done.
func (t rollbackTimer) disarm(ctx context.Context, fired bool) {
	if !systemd.Running() {
		return
	}
	units := t.patterns(timerType)
	if fired {
		units = t.patterns(anyType)
	}
	if err := systemd.Systemctl(context.WithoutCancel(ctx), append([]string{"stop", "--no-block", "--"}, units...)...); err != nil {
		t.log.Debug("the rollback timer cannot be disarmed; it will see that nothing is to be done", "error", err)
	}
}

// RunTimer is the rollback timer: it waits until the activation id has ended. It rolls back one that was
// not begun within patience, that was not verified in its time, or whose worker died in the switch. It
// brings one to its end whose system is verified.
func RunTimer(ctx context.Context, dir, id string, patience time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var phase Phase
	var since time.Time // phase was seen, and nobody was at work
	for {
		j, err := Read(dir)
		if err != nil {
			return err
		}
		if j == nil || j.ID != id || j.Phase.Ended() || j.Phase == RebootPending {
			return nil
		}
		working, err := beingWorkedOn(dir)
		if err != nil {
			return err
		}
		if working || j.Phase != phase {
			phase, since = j.Phase, time.Now()
		}
		limit := startGrace // for a worker that was asked for
		switch phase {
		case Pending:
			limit = max(limit, patience)
		case Switching:
			limit = 0 // its worker has died
		case Verifying:
			limit = j.verifyTime() + seconds(0.1*j.VerifySecs) + timerGrace
		}
		if !working && time.Since(since) >= limit {
			if err := overdue(ctx, dir, id, phase, log); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // it is stopped when the activation has ended, or with the machine
		}
	}
}

// verifyTime is how long the verification can take: the agent's time begins when it starts, and a boot can be slow.
func (j *Journal) verifyTime() time.Duration {
	if j.BootOnly || j.Restarts > 0 {
		return seconds(2 * j.VerifySecs)
	}
	return seconds(j.VerifySecs)
}

// overdueReason says why an activation is rolled back that was not verified in its time.
func (j *Journal) overdueReason() string {
	return fmt.Sprintf("not verified within %s: no agent has committed it; see `journalctl -u npcnix`", j.verifyTime())
}

// overdue rolls back an activation that is still in a phase, or goes on with what a worker that died has
// left.
func overdue(ctx context.Context, dir, id string, phase Phase, log *slog.Logger) error {
	unlock, free, err := lock(ctx, dir)
	if err != nil || !free {
		return err
	}
	defer unlock()
	j, err := Read(dir)
	if err != nil || j == nil || j.ID != id || j.Phase != phase {
		return err
	}
	cause, reason := CauseVersion, ""
	switch phase {
	case Pending:
		cause, reason = CauseInterrupted, "its worker was not started in time"
	case Verifying:
		reason = j.overdueReason()
	}
	if reason != "" {
		log.Error("the activation was not committed in its time; rolling back", "system", j.System, "why", reason)
		if err := j.toRollback(dir, cause, reason); err != nil {
			return err
		}
	}
	return work(ctx, dir, log)
}
