package herd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/hosttest"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// host is one of the herd: its system, and what the cloud sees of its agent.
type host struct {
	client
	name string
	own  bool // it makes its queue itself

	mu       sync.Mutex
	took     time.Duration // a build takes so long
	verifies time.Duration // so does a verification
	builds   int
	running  string
	boots    string // "": what runs
	left     *activation.Journal
}

// set changes the host.
func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) Check(context.Context) error        { return nil }
func (h *host) NoteShutdown(context.Context) error { return nil }

func (h *host) Current(context.Context) (nix.System, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nix.System{Path: h.running}, nil
}

func (h *host) Runs(_ context.Context, s nix.System) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running == s.Path && (h.boots == "" || h.boots == s.Path), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	return ctx.Err()
}

const storePath = "/nix/store/"

// Build builds what the flake's configuration is called.
func (h *host) Build(ctx context.Context, dir, configuration string) (nix.System, error) {
	h.see(func(s *seen) { s.built = time.Now() })
	h.mu.Lock()
	h.builds++
	took := h.took
	h.mu.Unlock()
	if err := pause(ctx, took); err != nil {
		return nix.System{}, err
	}
	if configuration == hosttest.Broken {
		return nix.System{}, &nix.BuildError{Configuration: configuration, Err: errors.New("it does not build")}
	}
	return systemOf(dir, configuration)
}

func (h *host) Realise(_ context.Context, s nix.System, _ []nix.Cache) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.builds == 0 || s.Path != storePath+hosttest.One {
		return &nix.RealiseError{System: s, Err: nix.ErrNotCached}
	}
	return nil
}

func (h *host) Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error) {
	if ctx.Err() != nil {
		return activation.Journal{}, ctx.Err()
	}
	if err := h.Abandon(ctx); err != nil {
		return activation.Journal{}, err
	}
	h.mu.Lock()
	h.left = &activation.Journal{ID: r.ID, System: s.Path, Previous: h.running, Phase: activation.Verifying}
	switch s.Path {
	case storePath + hosttest.BootOnly:
		h.boots, h.left.Phase, h.left.BootOnly, h.left.BootOnlyWhy = s.Path, activation.RebootPending, true, "another dbus"
		defer h.mu.Unlock()
		return *h.left, nil
	case storePath + hosttest.Bad:
		h.mu.Unlock()
		return h.end(errors.New("a unit failed"))
	}
	h.boots, h.running = h.running, s.Path
	h.mu.Unlock()
	return h.verify(ctx, r)
}

// verify has the new system verified, and commits to it or goes back.
func (h *host) verify(ctx context.Context, r activation.Request) (activation.Journal, error) {
	err := pause(ctx, h.verifies)
	if r.Verify != nil && err == nil {
		timeout := r.VerifyTimeout
		if timeout == 0 {
			timeout = 5 * time.Minute
		}
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		h.left.Warning, err = r.Verify(bounded, *h.left)
	}
	if ctx.Err() != nil {
		return *h.left, ctx.Err()
	}
	return h.end(err)
}

// end commits, or rolls back because of err.
func (h *host) end(err error) (activation.Journal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boots = ""
	if err == nil {
		h.left.Phase = activation.Committed
		return *h.left, nil
	}
	h.running = h.left.Previous
	h.left.Phase, h.left.Cause, h.left.Reason, h.left.Tail = activation.RolledBack, activation.CauseVersion, err.Error(), []string{err.Error()}
	return *h.left, &activation.Error{Journal: *h.left}
}

func (h *host) Abandon(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left != nil && h.left.Phase == activation.RebootPending {
		h.boots, h.left.Phase, h.left.Cause = "", activation.RolledBack, activation.CauseSuperseded
	}
	return nil
}

func (h *host) Resume(ctx context.Context, r activation.Request) (activation.Journal, bool, error) {
	h.mu.Lock()
	left := h.left
	h.mu.Unlock()
	switch {
	case left == nil:
		return activation.Journal{}, false, nil
	case left.Phase == activation.Verifying:
		j, err := h.verify(ctx, r)
		return j, true, err
	case left.Phase == activation.RolledBack:
		return *left, true, &activation.Error{Journal: *left}
	}
	return *left, true, nil
}

// The hosts of the herd keep the contract that the real host keeps.
func TestHostOfTheHerd(t *testing.T) {
	hosttest.Test(t, func(t *testing.T) hosttest.Rig {
		h := &host{}
		return hosttest.Rig{Host: h, Flake: t.TempDir(), Again: func() hosttest.Host { return h }}
	})
}

// systemOf is what a flake of the herd builds: it names its version in a file. One without is the contract's.
func systemOf(flake, configuration string) (nix.System, error) {
	version, err := os.ReadFile(filepath.Join(flake, versionFile))
	if errors.Is(err, os.ErrNotExist) {
		return nix.System{Path: storePath + configuration}, nil
	}
	return nix.System{Path: storePath + string(version)}, err
}
