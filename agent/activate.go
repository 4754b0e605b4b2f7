package agent

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/hook"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// activate switches to the system, unless it runs already, and has it verified.
func (a *Agent) activate(ctx context.Context, r *round, s nix.System) error {
	if runs, err := a.runsAlready(ctx, r, s); err != nil || runs {
		return err
	}

	r.move(r.state.built(s, r.times, a.inbox.View().Reached))
	if err := a.consent(ctx, r, s); err != nil {
		return err
	}

	if err := a.keepFrame(r.target); err != nil {
		return err
	}
	r.move(r.state.activate())
	if err := a.save(r); err != nil {
		return err
	}
	a.unwatched()
	a.put(a.recordOf(r, record.Activating))
	a.status("activating " + r.target.ETag)

	changes := a.compare(ctx, r.before, s)
	var err error
	if r.warning, err = a.switchTo(ctx, s, a.request(r.config, r.state.Intent)); err == nil {
		r.times.Activated = time.Now()
	}
	r.changes = changes()

	return err
}

// Bounds of what is told of the packages that an activation changes: lines, and bytes in all.
const (
	maxChanges     = 20
	maxChangeBytes = 2 << 10
)

// compare begins to find out which packages differ between two systems, while one is switched to. The function that it
// returns ends that, and returns what is known by then: nothing waits for it.
func (a *Agent) compare(ctx context.Context, from, to nix.System) (known func() []string) {
	if a.Changes == nil || from.Path == "" {
		return func() []string { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	found := make(chan []string, 1)
	go func() { found <- a.Changes(ctx, from, to) }()

	return func() []string {
		cancel()
		return boundedChanges(<-found)
	}
}

// boundedChanges are the first of the lines.
func boundedChanges(lines []string) []string {
	left := maxChangeBytes
	for i, line := range lines {
		if left -= len(line); i == maxChanges || left < 0 {
			return append(lines[:i:i], fmt.Sprintf("and %d more", len(lines)-i))
		}
	}

	return lines
}

// runsAlready reports whether there is nothing to activate.
func (a *Agent) runsAlready(ctx context.Context, r *round, s nix.System) (bool, error) {
	runs, err := a.Host.Runs(ctx, s)
	if err != nil {
		return false, transientError{health.Machine, err}
	}
	if !runs || r.state.NeedsRepair { // then the boot loader may have another
		return false, nil
	}
	a.Log.Info("the built system runs already; nothing to activate", "system", s.Path)

	return true, nil
}

// switchTo activates the system, and returns what is worth telling of it. The error is a rebootNeeded if it
// becomes active with the next boot.
func (a *Agent) switchTo(ctx context.Context, s nix.System, req activation.Request) (warning string, err error) {
	done, err := a.Host.Activate(ctx, s, req)
	if err == nil && done.Phase == activation.RebootPending {
		return "", rebootNeeded{done.BootOnlyWhy}
	}

	return done.Warning, err
}

// consent returns an error if the operator, a hook of theirs, or by now the rollout does not want the activation.
func (a *Agent) consent(ctx context.Context, r *round, s nix.System) error {
	if err := a.stillWanted(r); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(r.config.Hooks.PreActivate) == 0 {
		return a.stillAdmitted(ctx, r)
	}

	h := hook.New(hook.PreActivate, r.subject(r.state.Intent.Activation, s.Path, r.before.Path))
	tail, err := h.Do(ctx, r.config, a.Log)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &hook.Veto{Err: err, Tail: tail}
	}

	if err := a.stillWanted(r); err != nil { // the hook may have taken minutes, or have paused the host
		return err
	}

	return a.stillAdmitted(ctx, r)
}

// stillWanted returns an error if the operator has paused the host, or asked for something else, since the
// round began. If config.json was damaged since, that cannot be told: the next round finds out.
func (a *Agent) stillWanted(r *round) error {
	switch c, damaged, err := a.loadConfig(); {
	case cmp.Or(err, damaged) != nil && r.unusable == nil:
		return transientError{health.Config, cmp.Or(err, damaged)}
	case err != nil: // reported when the round began
	case c.Paused.Active(time.Now()):
		return errPaused
	case c.Remote != r.target.Remote || c.Configuration != r.target.Configuration:
		return errNewer
	}

	return nil
}

// request is what an activation for an intent, which may be nil, is to heed.
func (a *Agent) request(before config.Config, in *Intent) activation.Request {
	req := requestOf(before)
	v := Verification{
		Remote: before.Remote, RemoteRegion: before.RemoteRegion, RemoteCredentialsFile: before.RemoteCredentialsFile,
		QueueURL: before.QueueURL, TopicARN: before.TopicARN, Host: before.Host, LeaseSecs: before.LeaseSecs,
		Reach: a.Reach != nil,
	}
	if in != nil {
		req.ID, v.Remote, v.Queue, v.Target = in.Activation, in.Remote, in.Queue, &in.Target
	}

	req.Verify = func(ctx context.Context, j activation.Journal) (string, error) {
		v.Activation = j.ID
		if a.Fresh != nil {
			return a.Fresh(ctx, v)
		}
		return a.verify(ctx, v, j)
	}

	return req
}

// requestOf is what the settings say of an activation.
func requestOf(c config.Config) activation.Request {
	return activation.Request{SwitchTimeout: c.SwitchTimeout(), VerifyTimeout: c.VerifyTimeout(), Keep: int(c.KeepGenerations)}
}
