package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// fakeHost builds and activates systems in no time, unless told otherwise. TestFakeHost ties it to the real
// host.
type fakeHost struct {
	*trace
	mu       sync.Mutex
	running  string
	boots    string // "": what runs
	system   string // what Build returns
	build    func(ctx context.Context) error
	activate func() error
	realise  error
	hangs    bool                // when it realises
	damaged  error               // why the store cannot be repaired
	bootOnly string              // why what is activated can only be booted; "" if it can be switched to
	left     *activation.Journal // as on disk
}

func (h *fakeHost) set(f func(*fakeHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func (h *fakeHost) Check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.damaged
}

func (h *fakeHost) NoteShutdown(context.Context) error { return nil }

func (h *fakeHost) Current(context.Context) (nix.System, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nix.System{Path: h.running}, nil
}

func (h *fakeHost) Runs(_ context.Context, s nix.System) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running == s.Path && (h.boots == "" || h.boots == s.Path), nil
}

func (h *fakeHost) Build(ctx context.Context, dir, configuration string) (nix.System, error) {
	h.add("build %s", configuration)
	if ctx.Err() != nil {
		return nix.System{}, ctx.Err()
	}
	h.mu.Lock()
	build, system := h.build, h.system
	h.mu.Unlock()
	if build != nil {
		if err := build(ctx); err != nil {
			return nix.System{}, err
		}
	}
	return nix.System{Path: system}, nil
}

func (h *fakeHost) Realise(ctx context.Context, s nix.System, caches []nix.Cache) error {
	h.add("realise %s from %d caches", s.Path, len(caches))
	h.mu.Lock()
	hangs, err := h.hangs, h.realise
	h.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// Activate has the activation verified, and rolls it back if activate or the verification fails.
func (h *fakeHost) Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error) {
	if ctx.Err() != nil {
		return activation.Journal{}, ctx.Err()
	}
	if err := h.Abandon(ctx); err != nil {
		return activation.Journal{}, err
	}
	h.add("activate %s", s.Path)
	h.mu.Lock()
	activate, previous, why := h.activate, h.running, h.bootOnly
	h.left = &activation.Journal{ID: r.ID, System: s.Path, Previous: previous, Phase: activation.Switching}
	if why != "" {
		h.boots, h.left.Phase, h.left.BootOnly, h.left.BootOnlyWhy = s.Path, activation.RebootPending, true, why
		defer h.mu.Unlock()
		return *h.left, nil
	}
	h.boots = previous
	h.mu.Unlock()

	if activate != nil {
		if err := activate(); errors.Is(err, nix.ErrMachine) {
			h.set(func(h *fakeHost) { h.left, h.boots = nil, "" })
			return activation.Journal{}, err
		} else if err != nil {
			return h.end(err)
		}
	}
	h.set(func(h *fakeHost) {
		if h.running == previous {
			h.running = s.Path
		}
		h.left.Phase = activation.Verifying
	})
	return h.verify(ctx, r)
}

// verify has the new system verified, and commits to it or goes back.
func (h *fakeHost) verify(ctx context.Context, r activation.Request) (activation.Journal, error) {
	if ctx.Err() != nil {
		return *h.left, ctx.Err()
	}
	var warning string
	var err error
	if r.Verify != nil {
		timeout := r.VerifyTimeout
		if timeout == 0 {
			timeout = 5 * time.Minute
		}
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		warning, err = r.Verify(bounded, *h.left)
	}
	if ctx.Err() != nil {
		return *h.left, ctx.Err()
	}
	if err != nil {
		h.set(func(h *fakeHost) { h.running = h.left.Previous })
	}
	h.set(func(h *fakeHost) { h.left.Warning = warning })
	return h.end(err)
}

// end ends the activation: committed, or rolled back because of err.
func (h *fakeHost) end(err error) (activation.Journal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boots = ""
	if err == nil {
		h.left.Phase = activation.Committed
		return *h.left, nil
	}

	j := activation.Journal{Phase: activation.RolledBack, Reason: err.Error()}
	var back *activation.Error
	if errors.As(err, &back) {
		j = back.Journal
	}
	if j.Cause == "" {
		j.Cause = activation.CauseVersion
	}
	j.ID, j.System, j.Previous = h.left.ID, h.left.System, h.left.Previous
	h.left = &j
	return j, &activation.Error{Journal: j}
}

func (h *fakeHost) Abandon(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left != nil && h.left.Phase == activation.RebootPending {
		h.add("abandon %s", h.left.System)
		h.boots, h.left.Phase, h.left.Cause = "", activation.RolledBack, activation.CauseSuperseded
	}
	return nil
}

func (h *fakeHost) Resume(ctx context.Context, r activation.Request) (activation.Journal, bool, error) {
	h.mu.Lock()
	left := h.left
	h.mu.Unlock()
	if left == nil {
		return activation.Journal{}, false, nil
	}
	switch left.Phase {
	case activation.Switching, activation.Verifying:
		h.set(func(h *fakeHost) { h.running, left.Phase = left.System, activation.Verifying })
		j, err := h.verify(ctx, r)
		return j, true, err
	case activation.Committing:
		j, err := h.end(nil)
		return j, true, err
	case activation.RollingBack:
		h.set(func(h *fakeHost) { h.running = left.Previous })
		j, err := h.end(&activation.Error{Journal: activation.Journal{Phase: activation.RolledBack, Cause: left.Cause, Reason: left.Reason, Tail: left.Tail}})
		return j, true, err
	case activation.RolledBack, activation.RollbackFailed:
		if left.RetryDue(time.Now()) {
			h.add("retry the rollback")
			h.set(func(h *fakeHost) { h.running, left.Phase = left.Previous, activation.RolledBack })
			left.RollbackRetries++
		}
		return *left, true, &activation.Error{Journal: *left}
	}
	return *left, true, nil
}
