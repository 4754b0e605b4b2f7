package nix

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Units, under systemd: the worker's, and the dead man's switch's, a service and its timer. Hosts
// with a data directory of their own, as in tests, get names of their own.
const (
	workerUnit   = "npcnix-activate"
	deadManUnit  = "npcnix-rollback"
	agentService = "npcnix.service"
	defaultDir   = "/var/lib/npcnix"

	// unitGrace is how long a unit's name may stay taken.
	unitGrace = 5 * time.Second
)

func (h *Host) unitName(base string) string {
	if h.opts.Dir == defaultDir {
		return base
	}
	sum := sha256.Sum256([]byte(h.opts.Dir))
	return base + "-" + hex.EncodeToString(sum[:4])
}

// underSystemd reports whether units can be started: systemd runs the machine (sd_booted(3)), and
// this process may ask it to.
func underSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir() && os.Geteuid() == 0
}

// worker is the command line of a worker.
func (h *Host) worker(args ...string) []string {
	return append(append(slices.Clone(h.opts.Worker), args...), "--data-dir", h.opts.Dir)
}

// startWorker starts the worker, in a unit of its own or, without systemd, as a process in a session
// of its own. Where one runs already, the new one ends at once.
func (h *Host) startWorker(ctx context.Context, a *Activation) error {
	args := h.worker("run")
	if !underSystemd() {
		return h.detach(args, os.O_APPEND)
	}
	return h.systemdRun(ctx, "start the worker", h.unitName(workerUnit), args,
		"--description=npcnix activates "+filepath.Base(a.System), "--service-type=exec")
}

// arm starts the dead man's switch: whatever happens to the agent and the worker, an activation that
// is not confirmed in its time is taken back. Under systemd it is a timer, which fires when the
// switch has had its time; the worker starts what it fires as soon as there is something to be
// confirmed (startDeadMan). Without systemd it is a process that sleeps.
func (h *Host) arm(ctx context.Context, a *Activation) error {
	patience := seconds(a.SwitchSecs) + startGrace
	if !underSystemd() {
		return h.detach(h.worker("expire", a.ID, patience.String()), os.O_TRUNC)
	}
	name := h.unitName(deadManUnit)
	_ = systemctl(ctx, nil, "stop", name+".timer", name+".service") // of an earlier activation
	options := []string{"--description=npcnix rolls back from " + filepath.Base(a.System) + ", unless confirmed"}
	if a.Stage == StageOrdered {
		options = append(options, fmt.Sprintf("--on-active=%.0fs", patience.Seconds()), "--timer-property=AccuracySec=1s")
	}
	options = append(options, "--property=Restart=on-failure", "--property=RestartSec=1s", "--property=StartLimitIntervalSec=0")
	return h.systemdRun(ctx, "arm the dead man's switch", name, h.worker("expire", a.ID, "0s"), options...)
}

// keepArmed arms the dead man's switch if it is not there, as when it was lost with a reboot.
func (h *Host) keepArmed(ctx context.Context, a *Activation) error {
	name := h.unitName(deadManUnit)
	if underSystemd() && systemctl(ctx, nil, "is-active", "--quiet", name+".timer", name+".service") == nil {
		return nil // at least one of them is
	}
	return h.arm(ctx, a)
}

// startDeadMan starts what the timer would start later. Without systemd it runs already.
func (w *worker) startDeadMan() {
	if underSystemd() {
		if err := systemctl(context.Background(), nil, "start", "--no-block", w.host.unitName(deadManUnit)+".service"); err != nil {
			w.log.Warn("the dead man's switch acts later than it should", "error", err)
		}
	}
}

// disarm takes the dead man's switch away: the timer, and also what it has fired, which may be what
// calls this. One that cannot be taken away finds out by itself that nothing is to be done.
func (h *Host) disarm(ctx context.Context, fired bool) {
	if !underSystemd() {
		return
	}
	units := []string{h.unitName(deadManUnit) + ".timer"}
	if fired {
		units = append(units, h.unitName(deadManUnit)+".service")
	}
	if err := systemctl(context.WithoutCancel(ctx), nil, append([]string{"stop", "--no-block"}, units...)...); err != nil {
		h.opts.Log.Debug("the dead man's switch cannot be disarmed; it will see that nothing is to be done", "error", err)
	}
}

// Rearm arms the dead man's switch for an activation that a restart of the machine has interrupted.
// A unit of the new system runs it at boot, so that it is there even if the agent is not. The first
// switch to a system with this unit starts it too, and then there is nothing to be done.
func (h *Host) Rearm(ctx context.Context) error {
	a, err := ReadActivation(h.opts.Dir)
	if err != nil || a == nil {
		return err
	}
	if working, err := beingWorkedOn(h.opts.Dir); err != nil || working {
		return err
	}
	if err := h.afterRestart(ctx, a); err != nil {
		return err
	}
	switch {
	case a.Stage.Settled() || a.Stage == StageBooting:
		return nil
	case a.Stage == StageRollingBack:
		return h.startWorker(ctx, a)
	}
	return h.keepArmed(ctx, a)
}

// systemdRun starts a transient unit.
func (h *Host) systemdRun(ctx context.Context, what, unit string, command []string, options ...string) error {
	args := append([]string{"--quiet", "--no-ask-password", "--collect", "--unit=" + unit, "--property=OOMScoreAdjust=-900",
		// At a shutdown the command is told first: it knows that its children have not failed.
		"--property=KillMode=mixed"}, options...)
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(passedOn, name) {
			args = append(args, "--setenv="+v)
		}
	}
	for begun := time.Now(); ; {
		out, err := exec.CommandContext(ctx, "systemd-run", append(append(args, "--"), command...)...).CombinedOutput()
		if err == nil {
			return nil
		}
		// A unit of that name that has just ended is gone in a moment.
		if said := string(out); !strings.Contains(said, "already loaded") && !strings.Contains(said, "already exists") || time.Since(begun) > unitGrace {
			return fmt.Errorf("%w: %s: %w: %s", ErrMachine, what, err, bytes.TrimSpace(out))
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// passedOn are environment variables that a switch may depend on (nixpkgs, nixos-rebuild), and those
// that npcnix logs by. Everybody may read the environment of units: none that may hold a secret.
var passedOn = []string{
	"PATH", "HOME", "LOCALE_ARCHIVE", "NIXOS_INSTALL_BOOTLOADER", "NIXOS_NO_CHECK",
	"NIX_REMOTE", "NIX_PATH", "NPCNIX_LOG_LEVEL", "NPCNIX_LOG_FORMAT",
}

func systemctl(ctx context.Context, stdout *bytes.Buffer, args ...string) error {
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--no-pager", "--no-ask-password"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if stdout != nil {
		cmd.Stdout = stdout
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: systemctl %s: %w: %s", ErrMachine, args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// detach starts a process that outlives this one. What it logs goes to activation.log.
func (h *Host) detach(args []string, mode int) error {
	log, err := os.OpenFile(filepath.Join(h.opts.Dir, "activation.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND|mode, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: start %s: %w", ErrMachine, args[0], err)
	}
	go func() { _ = cmd.Wait() }() // so that it leaves no zombie; how it ended is on disk
	return nil
}

// agentUnit returns the name of the agent's unit, and a sum of what it is made of; both "" where there
// is none. With the default data directory it is npcnix.service, whoever activates: it may also be an
// operator, or the script that installs the host. With another it is the unit that this process is
// the main process of. An agent that somebody has stopped is left alone.
func (h *Host) agentUnit(ctx context.Context) (name, sum string) {
	if !underSystemd() {
		return "", ""
	}
	name = agentService
	if h.opts.Dir != defaultDir {
		noteUnit(ctx)
		if name = own.name; name == "" {
			return "", ""
		}
	}
	if systemctl(ctx, nil, "is-active", "--quiet", name) != nil {
		return "", ""
	}
	if noteUnit(ctx); own.name == name {
		return name, own.sum
	}
	return name, unitSum(ctx, name)
}

// own is this process's own unit, as it was when the process began; "" where it is none's.
var own struct {
	once      sync.Once
	name, sum string
}

// noteUnit takes note of what the agent's unit was made of when this process began: its own unit may
// have been changed since, by a switch that somebody has made by hand, and left it running.
func noteUnit(ctx context.Context) {
	own.once.Do(func() {
		if !underSystemd() {
			return
		}
		if own.name = ownUnit(ctx); own.name != "" {
			own.sum = unitSum(ctx, own.name)
		}
	})
}

// ownUnit is the service whose main process this is; "" where there is none.
func ownUnit(ctx context.Context) string {
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(cgroup)) {
		unit := path.Base(strings.TrimSpace(line))
		var pid bytes.Buffer
		if strings.HasSuffix(unit, ".service") && systemctl(ctx, &pid, "show", "--property=MainPID", "--value", unit) == nil &&
			strings.TrimSpace(pid.String()) == strconv.Itoa(os.Getpid()) {
			return unit
		}
	}
	return ""
}

// unitSum tells one text of a unit and its drop-ins from another.
func unitSum(ctx context.Context, unit string) string {
	var text bytes.Buffer
	if err := systemctl(ctx, &text, "cat", unit); err != nil {
		return ""
	}
	sum := sha256.Sum256(text.Bytes())
	return hex.EncodeToString(sum[:])
}

// restartAgent has the agent's unit restarted when the switch has changed what it is made of, or
// has ended it: NixOS leaves it alone, or has stopped it, as it is not to be killed by the very
// switch that it has ordered.
func (w *worker) restartAgent() {
	if w.AgentUnit == "" || !underSystemd() {
		return
	}
	ctx := context.Background()
	sum := unitSum(ctx, w.AgentUnit)
	if sum == "" {
		return // there is none, any more or yet: what will be is up to the switch
	}
	changed := sum != w.AgentUnitText
	active := systemctl(ctx, nil, "is-active", "--quiet", w.AgentUnit) == nil
	if active && !changed && !w.AgentRestarted {
		return
	}
	w.log.Info("restarting the agent", "unit", w.AgentUnit)
	w.AgentRestarted = true
	if err := w.save(w.dir); err != nil { // else the way back would not know that it is to restart it
		w.log.Warn("it cannot be noted down that the agent is restarted", "error", err)
	}
	if err := systemctl(ctx, nil, "restart", "--no-block", w.AgentUnit); err != nil {
		w.log.Warn("the agent cannot be restarted; without one, the activation will be taken back", "error", err)
	}
}
