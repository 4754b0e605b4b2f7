package nix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// activationVariable names the environment variable by which the processes of a switch are known.
const activationVariable = "NPCNIX_ACTIVATION"

const (
	maxTries   = 3 // at the way back
	triesPause = time.Second
	// rebootGrace is how long an orderly restart of the machine may take to end the worker.
	rebootGrace = 10 * time.Minute
	// How long a worker waits for the lock that others hold for a moment only.
	lockGrace = 2 * time.Second
	// How long the dead man's switch leaves the agent beyond its time: it should be the first to
	// act, as it knows why.
	expireGrace = 2 * time.Second
	// Exit codes of switch-to-configuration (nixpkgs, switch-to-configuration-ng/src/main.rs).
	exitActivation = 2   // a part of the activation script failed, and all of it ran
	exitUnits      = 4   // the system was activated, and some unit is failing: which, is for Verify to see
	exitBusy       = 11  // EAGAIN: somebody else holds its lock, and nothing was done
	exitInit       = 100 // the init systems do not fit: it can only be booted
	busyPause      = 2 * time.Second
)

// Work does what the activation in dir asks for, to its end: the switch, the commit or the way
// back. Where somebody else does so already it returns. When ctx ends, as it does when the machine is
// shut down, the switch is ended, and the stage stays what it is: who finds it knows that it was cut
// short. It is what the worker's unit runs.
func Work(ctx context.Context, dir string, log *slog.Logger) error {
	unlock, free, err := lockActivation(ctx, dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	return work(ctx, dir, log)
}

// Expire is the dead man's switch: it waits until the activation id is settled, and takes it back
// when it was not begun within patience, was not confirmed in its time, or when its worker has
// died. One whose new system has proved itself is not taken back, but brought to its end.
func Expire(ctx context.Context, dir, id string, patience time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var stage Stage
	var since time.Time // stage was seen, and nobody was at work
	for {
		a, err := ReadActivation(dir)
		if err != nil {
			return err
		}
		if a == nil || a.ID != id || a.Stage.Settled() || a.Stage == StageBooting {
			return nil
		}
		working, err := beingWorkedOn(dir)
		if err != nil {
			return err
		}
		if working || a.Stage != stage {
			stage, since = a.Stage, time.Now()
		}
		limit := startGrace // for a worker that was asked for
		switch stage {
		case StageOrdered:
			limit = max(limit, patience)
		case StageSwitching:
			limit = 0 // its worker has died
		case StageSwitched:
			limit = seconds(1.1*a.ConfirmSecs) + expireGrace
		}
		if !working && time.Since(since) >= limit {
			if err := takeBack(ctx, dir, id, stage, log); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeBack has an activation that is still in a stage taken back, or goes on with what a worker that
// died has left.
func takeBack(ctx context.Context, dir, id string, stage Stage, log *slog.Logger) error {
	unlock, free, err := lockActivation(ctx, dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	a, err := ReadActivation(dir)
	if err != nil || a == nil || a.ID != id || a.Stage != stage {
		return err
	}
	reason := ""
	switch stage {
	case StageOrdered:
		a.CutShort = true
		reason = "its worker was not started in time"
	case StageSwitched:
		reason = fmt.Sprintf("not confirmed within %s of the switch: has the agent ended, or does it hang?", seconds(a.ConfirmSecs))
	}
	if reason != "" {
		log.Error("the activation was not confirmed; rolling back", "system", a.System, "why", reason)
		if err := a.goBack(dir, reason); err != nil {
			return err
		}
	}
	return work(ctx, dir, log)
}

// worker works on one activation while it holds the lock.
type worker struct {
	*Activation
	ctx  context.Context // ends when the worker is to leave everything as it is
	host *Host
	dir  string
	log  *slog.Logger
}

func work(ctx context.Context, dir string, log *slog.Logger) error {
	a, err := ReadActivation(dir)
	if err != nil || a == nil {
		return err
	}
	h, err := New(Options{Dir: dir, Profile: a.Profile, CurrentSystem: a.CurrentSystem, Log: log})
	if err != nil {
		return err
	}
	w := &worker{a, ctx, h, dir, log}
	for ctx.Err() == nil {
		switch w.Stage {
		case StageOrdered:
			err = w.begin()
		case StageSwitching:
			w.CutShort = true
			err = w.goBack(dir, "the switch was cut short")
		case StageConfirming:
			err = w.commit()
		case StageRollingBack:
			err = w.rollBack()
		default:
			if w.Stage != StageSwitched {
				h.disarm(ctx, false) // whoever waits for the end may be gone
			}
			if w.Stage == StageConfirmed || w.Stage == StageRolledBack {
				_ = os.Remove(h.previousRoot()) // one that stays costs disk space only
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin switches to the new system, or makes it what boots next.
func (w *worker) begin() error {
	if err := w.to(w.dir, StageSwitching); err != nil {
		return err
	}
	if w.Boot {
		return w.makeBoot()
	}
	w.log.Info("switching", "system", w.System, "activation", w.ID)
	err := w.run(w.System, "test")
	switch {
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case err == nil || w.ExitCode == exitUnits:
		w.restartAgent()
		if err := w.to(w.dir, StageSwitched); err != nil {
			return err
		}
		w.startDeadMan()
		return nil
	case w.lockTaken():
		w.Busy = true
		return w.goBack(w.dir, "somebody else was switching: "+err.Error())
	case w.ExitCode == exitInit:
		w.Boot, w.Why = true, "its init system does not fit the one that runs"
		return w.makeBoot()
	}
	w.CutShort = signalled(err)
	return w.goBack(w.dir, failure(w.System, err, w.Tail))
}

// lockTaken reports whether the last switch did nothing, as somebody else was switching. The exit code
// alone may be of another cause: switch-to-configuration ends with any errno.
func (w *worker) lockTaken() bool {
	return w.ExitCode == exitBusy && slices.ContainsFunc(w.Tail, func(line string) bool { return strings.Contains(line, "acquire lock") })
}

// signalled reports whether a switch was ended by a signal that is not the worker's own: by the kernel,
// for want of memory, or by a person.
func signalled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && !exit.Exited()
}

// failure says how a switch failed.
func failure(system string, err error, tail []string) string {
	text := fmt.Sprintf("switch to %s: %v", system, err)
	if len(tail) > 0 {
		text += ": " + tail[len(tail)-1]
	}
	return text
}

// makeBoot makes the new system what boots next, and leaves alone what runs.
func (w *worker) makeBoot() error {
	if err := w.install(); w.ctx.Err() != nil {
		return w.ctx.Err()
	} else if err != nil {
		return w.goBack(w.dir, err.Error())
	}
	w.log.Info("the system boots next", "system", w.System, "why", w.Why)
	return w.to(w.dir, StageBooting)
}

// commit makes the system, which has proved itself, what boots.
func (w *worker) commit() error {
	if why := w.overtaken(); why != "" {
		return w.goBack(w.dir, why)
	}
	if err := w.install(); w.ctx.Err() != nil {
		return w.ctx.Err()
	} else if err != nil {
		return w.goBack(w.dir, err.Error())
	}
	return w.to(w.dir, StageConfirmed)
}

// overtaken says what somebody else has changed while the system proved itself; "" if nothing.
func (w *worker) overtaken() string {
	running, err := w.host.Current(w.ctx)
	if err == nil && running.Path != w.System {
		return fmt.Sprintf("%s ran when %s had proved itself", running.Path, w.System)
	}
	profiled, _, err := w.host.Profiled()
	if err == nil && w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem}, profiled.Path) {
		return fmt.Sprintf("somebody has put %s into the profile while %s proved itself", profiled.Path, w.System)
	}
	return ""
}

// install puts the system into the profile and has its boot loader entry made the default. To do
// so again changes nothing.
func (w *worker) install() error {
	ctx, cancel := context.WithTimeout(w.ctx, seconds(w.SwitchSecs))
	defer cancel()
	s := System{w.System}
	profiled, _, err := w.host.Profiled()
	if err == nil {
		w.Installed = true
		err = w.save(w.dir)
	}
	if err == nil && profiled != s {
		err = w.host.setProfile(ctx, s)
	}
	if err != nil {
		return err
	}
	if w.Keep > 0 {
		w.host.prune(w.Activation) // before the boot loader lists them
	}
	w.host.dropRoots(func(_, path string) bool { return path == w.System })
	if err := w.run(w.System, "boot"); err != nil {
		w.CutShort = w.lockTaken() || signalled(err)
		return fmt.Errorf("make it what boots: %s", failure(w.System, err, w.Tail))
	}
	return nil
}

// rollBack brings back the previous system, as it runs and as it boots. It is tried a few times; a try
// that was cut short does not count.
func (w *worker) rollBack() error {
	killSwitch(w.ID)
	if !w.Busy {
		w.log.Warn("rolling back", "to", w.Previous, "activation", w.ID, "why", w.Reason)
	}
	tail := w.Tail // the failure's are the ones to tell
	back, trouble := w.undo()
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	w.Tail, w.Trouble = tail, strings.Join(trouble, "; ")
	running, err := w.host.Current(w.ctx)
	if err == nil && w.Previous == "" && running.Path == w.System && !w.Busy {
		w.Trouble = "there is no earlier system to go back to"
		return w.to(w.dir, StageStranded)
	}
	if err == nil && back {
		w.restartAgent()
		return w.to(w.dir, StageRolledBack)
	}
	if w.Trouble == "" {
		w.Trouble = fmt.Sprintf("%s runs after the way back", running.Path)
	}
	if w.Tries++; w.Tries >= maxTries {
		w.log.Error("stranded: the way back failed", "running", running.Path, "trouble", w.Trouble)
		return w.to(w.dir, StageStranded)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	select {
	case <-time.After(triesPause):
	case <-w.ctx.Done():
	}
	return nil
}

// undo takes the steps of the way back, each whatever became of the others. It reports whether the
// host is back, and what went wrong. What somebody has switched to by hand, or made what boots, is
// left alone.
func (w *worker) undo() (back bool, trouble []string) {
	fails := func(err error) bool {
		if err != nil {
			trouble = append(trouble, err.Error())
		}
		return err != nil
	}
	if w.Busy { // nothing was changed
		return true, nil
	}
	before := System{w.Previous}
	profiled, _, err := w.host.Profiled()
	if err == nil && profiled.Path == w.System && w.System != w.Previous {
		w.Installed = true // which it may have been before, and so the boot loader's
		if err = w.save(w.dir); err == nil {
			err = w.host.restoreProfile(w.ctx, w.ProfileLink, before)
		}
		if err == nil {
			profiled, _, err = w.host.Profiled()
		}
	}
	if err != nil {
		fails(fmt.Errorf("the profile may still have %s: %w", w.System, err))
	}
	boots := err == nil
	if w.Previous == "" {
		return boots, trouble
	}
	running, err := w.host.Current(w.ctx)
	if fails(err) || fails(switchable(before)) {
		return false, trouble
	}

	// What boots is what the profile has again: boot loaders know nothing but its generations.
	theirs := w.ProfileSystem != "" && !slices.Contains([]string{"", w.System, w.ProfileSystem, w.Previous}, profiled.Path)
	boot := func() bool {
		if !w.Installed || theirs {
			return true
		}
		s := before
		if profiled != (System{}) && profiled.Path != w.System {
			s = profiled
		}
		if fails(switchable(s)) {
			return false
		}
		return !fails(w.tried(s.Path, "boot"))
	}
	w.ByHand = ""
	switch {
	case running.Path != "" && running.Path != w.System && running != before:
		if running != profiled || theirs { // else it has booted
			w.ByHand = running.Path
		}
		return boot() && boots, trouble
	case w.Boot && running == before:
		return boot() && boots, trouble
	case w.Boot:
		// The one cannot be switched to from the other, so neither can the other from the one.
		if boots = boot() && boots; boots && underSystemd() {
			fails(w.restartMachine())
			return false, trouble // it was not
		}
	}
	err = w.tried(w.Previous, "test")
	fails(err)
	// As NixOS has it: 2, a part of the activation failed, and 4, a unit did. The system runs.
	back = err == nil || w.ExitCode == exitActivation || w.ExitCode == exitUnits
	running, err = w.host.Current(w.ctx)
	back = !fails(err) && back && running == before
	if !w.Boot {
		boots = boot() && boots
	}
	return back && boots, trouble
}

// restartMachine restarts the machine, into the previous system, and returns only if that does not come
// about. The restart counts as a try before it is made: one that leads to the new system is made a few
// times at the most.
func (w *worker) restartMachine() error {
	if w.Tries++; w.Tries > maxTries {
		return fmt.Errorf("the machine boots %s in spite of all", w.System)
	}
	if err := w.save(w.dir); err != nil {
		return err
	}
	w.log.Warn("restarting the machine, to go back to the system before", "to", w.Previous)
	if err := w.host.Reboot(w.ctx); err != nil {
		return err
	}
	select {
	case <-time.After(rebootGrace):
		return fmt.Errorf("the machine was to be restarted, and was not within %s", rebootGrace)
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

// tried runs a system's switch-to-configuration, for an error that says all.
func (w *worker) tried(system, action string) error {
	if err := w.run(system, action); err != nil {
		return fmt.Errorf("%s (%s)", failure(system, err, w.Tail), action)
	}
	return nil
}

// run runs a system's switch-to-configuration to its end, or to the end of its time. While somebody
// else switches it waits. ExitCode and Tail are set.
func (w *worker) run(system, action string) error {
	ctx, cancel := context.WithTimeout(w.ctx, seconds(w.SwitchSecs))
	defer cancel()
	for {
		err := w.runOnce(ctx, system, action)
		w.ExitCode = 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			w.ExitCode = exit.ExitCode()
		} else if err != nil {
			w.ExitCode = -1
		}
		if !w.lockTaken() {
			return err
		}
		w.log.Warn("somebody else is switching; waiting for them", "for", busyPause)
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
		if w.Stage == StageSwitching && w.outdated() || w.Stage == StageConfirming && w.overtaken() != "" {
			return err // what they have switched to is to stay
		}
	}
}

// outdated reports whether something else runs, or is in the profile, than when the activation was ordered.
func (w *worker) outdated() bool {
	running, err := w.host.Current(w.ctx)
	if err == nil && running.Path != w.Previous && running.Path != w.System {
		return true
	}
	profiled, _, err := w.host.Profiled()
	return err == nil && w.ProfileSystem != "" && profiled.Path != w.ProfileSystem && !(w.Installed && profiled.Path == w.System)
}

// runOnce runs a switch-to-configuration in a session of its own, which ends with the worker. Its
// output goes to a file, as a pipe would break when its reader is restarted.
func (w *worker) runOnce(ctx context.Context, system, action string) error {
	output, err := os.OpenFile(filepath.Join(w.dir, switchLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer output.Close()
	written, err := os.Open(output.Name())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer written.Close()
	if _, err := written.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}

	cmd := exec.Command(switcher(System{system}), action)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), activationVariable+"="+w.ID)
	if w.Stage == StageRollingBack {
		cmd.Env = append(cmd.Env, "NIXOS_NO_CHECK=1") // the way back is not to be refused
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = switchSession()
	// The kernel takes the end of the thread that forked for the end of the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	log := &lines{emit: func(line string) { w.log.Info(line, "program", "switch-to-configuration "+action) }}
	err = follow(ctx, log, written, ended)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		killSwitch(w.ID) // what is in another process group
		<-ended
		if w.ctx.Err() == nil {
			err = fmt.Errorf("it hung, and was ended after %s", seconds(w.SwitchSecs))
		}
	}
	_, _ = io.Copy(log, written)
	log.flush()
	w.Tail = log.tail
	return err
}

// follow copies what is appended to a file until ended yields, and returns what it yielded, or the
// error of ctx when that ends first.
func follow(ctx context.Context, to io.Writer, file io.Reader, ended <-chan error) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		// What cannot be read is lost to the log, and no reason to fail a switch.
		_, _ = io.Copy(to, file)
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// killSwitch kills what a worker that was cut short has left of its switch. Units that the switch
// has started do not carry its mark, as the service manager starts them.
func killSwitch(id string) {
	mark := activationVariable + "=" + id
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue
		}
		for v := range strings.SplitSeq(string(environ), "\x00") {
			if v == mark {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}

// switchable returns an error that says why s is not a system to switch to.
func switchable(s System) error {
	name := filepath.Base(s.Path)
	if filepath.Dir(s.Path) != storeDir || len(name) < 34 || name[32] != '-' {
		return fmt.Errorf("%w: %q is not a store path", ErrNotNixOS, s.Path)
	}
	if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone from the store: build it again", ErrMachine, s.Path)
	}
	info, err := os.Stat(switcher(s))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: %s has no executable bin/switch-to-configuration", ErrNotNixOS, s.Path)
	}
	return nil
}

func switcher(s System) string { return filepath.Join(s.Path, "bin", "switch-to-configuration") }
