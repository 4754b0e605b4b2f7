package nix

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Order is what an activation is to heed.
type Order struct {
	// ID tells this activation from others. Default: a random one.
	ID string
	// SwitchTimeout bounds each run of switch-to-configuration. Default: 15 min.
	SwitchTimeout time.Duration
	// ConfirmTimeout bounds the time that the new system has to prove itself. Default: 5 min.
	ConfirmTimeout time.Duration
	// Verify returns nil when the new system has proved itself. It is called from the new
	// system, maybe more than once, with a ctx that ends with ConfirmTimeout. Nil: it has.
	Verify func(ctx context.Context, a Activation) error
	// Keep is how many of the profile's latest generations are kept when s is one of them; those of
	// the systems that run, ran before and were booted are kept in any case. 0: all.
	Keep int
}

const (
	defaultSwitchTimeout  = 15 * time.Minute
	defaultConfirmTimeout = 5 * time.Minute
	// look is how often the agent looks whether the worker is done.
	look = 20 * time.Millisecond
	// maxStarts bounds how often a worker is started that does not take up its work, and startGrace
	// how long each has to do so.
	maxStarts  = 3
	startGrace = 10 * time.Second
)

func (o Order) switchTimeout() time.Duration {
	if o.SwitchTimeout > 0 {
		return o.SwitchTimeout
	}
	return defaultSwitchTimeout
}

func (o Order) confirmTimeout() time.Duration {
	if o.ConfirmTimeout > 0 {
		return o.ConfirmTimeout
	}
	return defaultConfirmTimeout
}

// ActivateError is an activation that failed and was taken back: the previous system runs and
// boots, but where Stranded says otherwise.
type ActivateError struct{ Activation }

func (e *ActivateError) Error() string {
	switch {
	case e.Busy:
		return e.Reason + "; nothing was changed"
	case e.Stage == StageStranded:
		return fmt.Sprintf("%s; the way back to the previous system failed: %s", e.Reason, e.Trouble)
	case e.ByHand != "":
		return fmt.Sprintf("%s; meanwhile somebody has switched to %s, which is left alone", e.Reason, e.ByHand)
	case e.Trouble != "":
		return fmt.Sprintf("%s; rolled back to %s, with warnings: %s", e.Reason, e.Previous, e.Trouble)
	case e.Previous == "":
		return e.Reason + "; there was no system before it"
	}
	return fmt.Sprintf("%s; rolled back to %s", e.Reason, e.Previous)
}

// Stranded reports whether the previous system could not be brought back.
func (e *ActivateError) Stranded() bool { return e.Stage == StageStranded }

// Activate makes s the system that runs and that boots; see [Activation] for how. It returns when
// the activation is settled, or when ctx ends: the activation then goes on, for Resume to take up.
//
// Nil and Stage "confirmed" say that s runs and boots. Nil and Stage "booting" say that s could
// not be switched to and boots next: a restart of the machine is due, after which Resume goes on.
// An [*ActivateError] says that s was taken back. Nothing was done where the error is
// [ErrNotNixOS], [ErrMachine], or ctx's own from before the beginning.
//
// A settled activation stays on disk until the next one.
func (h *Host) Activate(ctx context.Context, s System, o Order) (Activation, error) {
	if err := ctx.Err(); err != nil {
		return Activation{}, fmt.Errorf("activate: %w", err)
	}
	if err := switchable(s); err != nil {
		return Activation{}, fmt.Errorf("activate: %w", err)
	}
	if err := h.TakeBack(ctx); err != nil {
		return Activation{}, fmt.Errorf("activate: %w", blamed(ctx, err))
	}
	a, err := h.order(ctx, s, o)
	if err != nil {
		return Activation{}, fmt.Errorf("activate: %w", blamed(ctx, err))
	}
	return h.drive(ctx, a, o)
}

// TakeBack takes back a system that is only to boot next, where there is one, as another is wanted by
// now. Nothing is held against it.
func (h *Host) TakeBack(ctx context.Context) error {
	left, err := ReadActivation(h.opts.Dir)
	if err != nil || left == nil || left.Stage != StageBooting {
		return nil // order reports what cannot be read
	}
	unlock, free, err := lockActivation(ctx, h.opts.Dir, lockGrace)
	if err != nil {
		return err
	}
	if !free {
		return errors.New("another activation is under way")
	}
	left.CutShort = true
	err = left.goBack(h.opts.Dir, "another system is wanted by now")
	unlock()
	if err != nil {
		return err
	}
	var back *ActivateError
	if _, err = h.drive(ctx, left, Order{}); errors.As(err, &back) && !back.Stranded() {
		return nil
	}
	return err
}

// Resume takes up the activation that an earlier process left, if there is one, and brings it to
// its end as Activate does. found tells whether there is.
func (h *Host) Resume(ctx context.Context, o Order) (a Activation, found bool, err error) {
	noteUnit(ctx)
	left, err := ReadActivation(h.opts.Dir)
	if errors.Is(err, ErrActivation) {
		// Nobody can bring it to an end. What runs is for the caller to see.
		aside := filepath.Join(h.opts.Dir, activationFile)
		h.opts.Log.Error("activation.json is damaged, set aside as activation.json.damaged", "error", err)
		if err := os.Rename(aside, aside+".damaged"); err != nil {
			return Activation{}, false, fmt.Errorf("%w: set activation.json aside: %w", ErrMachine, err)
		}
		return Activation{}, false, nil
	}
	switch {
	case err != nil || left == nil:
		return Activation{}, false, err
	case left.Stage == StageConfirmed:
		return *left, true, nil
	case left.Stage.Settled():
		return *left, true, &ActivateError{*left}
	}
	a, err = h.drive(ctx, left, o)
	return a, true, err
}

// order makes an activation durable. Nothing is done yet.
func (h *Host) order(ctx context.Context, s System, o Order) (*Activation, error) {
	if err := os.MkdirAll(h.opts.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, free, err := lockActivation(ctx, h.opts.Dir, lockGrace)
	if err != nil {
		return nil, err
	}
	if !free {
		return nil, errors.New("another activation is under way")
	}
	defer unlock()
	switch left, err := ReadActivation(h.opts.Dir); {
	case err != nil:
		return nil, err
	case left != nil && !left.Stage.Settled():
		return nil, fmt.Errorf("an activation of %s is not settled yet (%s)", left.System, left.Stage)
	}
	previous, err := h.Current(ctx)
	if err != nil {
		return nil, err
	}
	boots, _, err := h.Profiled()
	if err != nil {
		return nil, err
	}
	if previous == s && boots != (System{}) {
		previous = boots // s runs, but was not confirmed: that is no way back
	}
	link, err := h.fallback(previous)
	if err != nil {
		return nil, err
	}
	a := &Activation{
		ID: o.ID, Stage: StageOrdered, System: s.Path, Previous: previous.Path,
		Profile: h.opts.Profile, ProfileSystem: boots.Path, ProfileLink: link, CurrentSystem: h.opts.CurrentSystem, BootID: BootID(),
		Ordered:    time.Now().UTC(),
		SwitchSecs: o.switchTimeout().Seconds(), ConfirmSecs: o.confirmTimeout().Seconds(), Keep: o.Keep,
	}
	if a.ID == "" {
		a.ID = strings.ToLower(rand.Text())
	}
	if what := inhibitors(previous, s); what != "" {
		a.Boot, a.Why = true, "it may not be switched to while the machine runs: "+what
	}
	if a.Ran, a.Failed, err = h.units(ctx); err != nil {
		return nil, err
	}
	a.AgentUnit, a.AgentUnitText = h.agentUnit(ctx)
	h.holdPrevious(ctx, previous)
	if err := os.Remove(filepath.Join(h.opts.Dir, switchLog)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return a, a.save(h.opts.Dir)
}

// drive brings an activation to its end.
func (h *Host) drive(ctx context.Context, a *Activation, o Order) (Activation, error) {
	dir := h.opts.Dir
	if err := h.afterRestart(ctx, a); err != nil {
		return *a, err
	}
	starts := 0
	for {
		stage := a.Stage
		var err error
		switch stage {
		case StageConfirmed:
			h.disarm(ctx, true)
			return *a, nil
		case StageRolledBack, StageStranded:
			h.disarm(ctx, true)
			return *a, &ActivateError{*a}
		case StageBooting:
			h.disarm(ctx, true)
			return *a, nil
		case StageSwitched:
			if underSystemd() {
				err = h.keepArmed(ctx, a)
			}
			if err == nil {
				err = h.prove(ctx, a, o)
			}
		default:
			// Work for a worker, unless one is at it.
			if working, err := beingWorkedOn(dir); err != nil {
				return *a, err
			} else if working {
				starts = 0
				if err := h.await(ctx, stage); err != nil {
					return *a, err
				}
				break
			}
			if starts++; starts > maxStarts {
				return *a, fmt.Errorf("%w: the worker %s does not do its work; see `journalctl -u npcnix-activate`, or activation.log in the data directory", ErrMachine, strings.Join(h.worker("run"), " "))
			}
			if stage == StageOrdered {
				err = h.arm(ctx, a)
			}
			if err == nil {
				err = h.startWorker(ctx, a)
			}
			if err == nil {
				err = h.await(ctx, stage)
			}
		}
		if err != nil {
			return *a, err
		}
		next, err := ReadActivation(dir)
		if err != nil {
			return *a, err
		}
		if next == nil || next.ID != a.ID {
			return *a, fmt.Errorf("%w: activation %s is gone from %s", ErrMachine, a.ID, dir)
		}
		if next.Stage != stage {
			starts = 0
		}
		a = next
	}
}

// afterRestart takes note of a restart of the machine since the activation was ordered: whatever
// worked on it is gone, and what runs is what the boot loader chose.
func (h *Host) afterRestart(ctx context.Context, a *Activation) error {
	if a.Stage.Settled() || a.sameBoot() {
		return nil
	}
	unlock, free, err := lockActivation(ctx, h.opts.Dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	switch now, err := ReadActivation(h.opts.Dir); { // which others may have changed before
	case err != nil:
		return err
	case now == nil || now.ID != a.ID:
		return nil
	default:
		*a = *now
	}
	if a.Stage.Settled() || a.sameBoot() {
		return nil
	}
	running, err := h.Current(ctx)
	if err != nil {
		return err
	}
	a.BootID = BootID()
	switch {
	case running.Path == a.System && a.Stage == StageBooting:
		// Units of another boot say nothing about this one.
		a.Ran, a.Failed = nil, nil
		if err := a.to(h.opts.Dir, StageSwitched); err != nil {
			return err
		}
		return h.arm(ctx, a)
	case running.Path == a.System && a.Stage == StageSwitched:
		if a.Restarts++; a.Restarts >= maxTries {
			return a.goBack(h.opts.Dir, fmt.Sprintf("the machine was restarted %d times before the new system had proved itself", a.Restarts))
		}
		return a.save(h.opts.Dir)
	case running.Path == a.System:
		return a.save(h.opts.Dir)
	case running.Path == a.Previous && a.Stage != StageBooting && !a.Installed && !h.profileHas(a.System):
		// Nothing of it is left: the machine has booted the previous system.
		if a.Stage != StageRollingBack { // which has a reason of its own
			a.CutShort = true
			a.Reason = "the machine was restarted before the new system was confirmed"
		}
		a.Trouble = ""
		return a.to(h.opts.Dir, StageRolledBack)
	case a.Stage == StageRollingBack:
		return a.save(h.opts.Dir)
	case a.Stage == StageBooting:
		return a.goBack(h.opts.Dir, "the machine was restarted, and did not boot the new system")
	}
	a.CutShort = true
	return a.goBack(h.opts.Dir, "the machine was restarted before the new system was confirmed")
}

// prove has the new system prove itself, and asks for the commit, or for the way back.
func (h *Host) prove(ctx context.Context, a *Activation, o Order) error {
	if o.Verify != nil {
		bounded, cancel := context.WithTimeoutCause(ctx, seconds(a.ConfirmSecs), errors.New("its time was up"))
		defer cancel()
		err := o.Verify(bounded, *a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return h.ask(ctx, a.ID, func(a *Activation) error { return a.goBack(h.opts.Dir, fmt.Sprintf("verify: %v", err)) })
		}
	}
	return h.ask(ctx, a.ID, func(a *Activation) error { return a.to(h.opts.Dir, StageConfirming) })
}

// ask changes the stage of the activation id, if it still waits to prove itself. Who else holds
// the lock is the dead man's switch, and what it has decided counts.
func (h *Host) ask(ctx context.Context, id string, change func(*Activation) error) error {
	unlock, free, err := lockActivation(ctx, h.opts.Dir, lockGrace)
	if err != nil || !free {
		return err
	}
	defer unlock()
	a, err := ReadActivation(h.opts.Dir)
	if err != nil || a == nil || a.ID != id || a.Stage != StageSwitched {
		return err
	}
	return change(a)
}

// await waits until an activation is settled, or no worker is at it (any more).
func (h *Host) await(ctx context.Context, stage Stage) error {
	defer h.followSwitch()()
	tick := time.NewTicker(look)
	defer tick.Stop()
	begun := time.Now()
	seen := false // a worker
	for {
		a, err := ReadActivation(h.opts.Dir)
		if err != nil || a == nil {
			return err
		}
		if a.Stage.Settled() {
			return nil // the worker may still be tidying up
		}
		working, err := beingWorkedOn(h.opts.Dir)
		if err != nil {
			return err
		}
		seen = seen || working
		if !working && (a.Stage != stage || seen || time.Since(begun) > startGrace) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inhibitors names the critical components that differ between two systems, which is why NixOS
// refuses to switch (nixpkgs, nixos/modules/system/activation/switchable-system.nix): those that
// both name, with other values.
func inhibitors(from, to System) string {
	read := func(s System) map[string]string {
		var all map[string]string
		data, err := os.ReadFile(filepath.Join(s.Path, "switch-inhibitors"))
		if err != nil || json.Unmarshal(data, &all) != nil {
			return nil // none, or not of the kind that is known
		}
		return all
	}
	if from == (System{}) || from == to {
		return ""
	}
	before, after := read(from), read(to)
	var differ []string
	for name, was := range before {
		if is, both := after[name]; both && is != was {
			differ = append(differ, fmt.Sprintf("%s (%s to %s)", name, was, is))
		}
	}
	slices.Sort(differ)
	return strings.Join(differ, ", ")
}

// followSwitch hands the lines of the switch on to the logger, until stop is called. Under systemd the
// worker's unit has them in the journal.
func (h *Host) followSwitch() (stop func()) {
	if underSystemd() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		log := &lines{emit: h.logged("switch-to-configuration")}
		defer log.flush()
		for {
			if h.copySwitchLog(log); ctx.Err() != nil {
				return
			}
			select {
			case <-time.After(look):
			case <-ctx.Done():
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// copySwitchLog copies what was not copied yet. What cannot be read is lost to the log alone.
func (h *Host) copySwitchLog(to io.Writer) {
	file, err := os.Open(filepath.Join(h.opts.Dir, switchLog))
	if err != nil {
		h.logRead = 0
		return
	}
	defer file.Close()
	if _, err := file.Seek(h.logRead, io.SeekStart); err == nil {
		n, _ := io.Copy(to, file)
		h.logRead += n
	}
}
