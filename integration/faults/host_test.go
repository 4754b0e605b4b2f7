package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

const (
	buildTime  = 5 * time.Minute
	switchTime = 20 * time.Second
)

// host builds and switches in a time that a bubble lets pass. What a flake builds is named by its file version.
type host struct {
	mu       sync.Mutex
	running  string
	builds   func()       // when a build begins
	switches func()       // when a switch begins
	broken   func() error // of the machine; nil: nothing is
	slow     bool         // builds take their time
}

func (h *host) set(change func(*host)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

func (h *host) Check(context.Context) error        { return nil }
func (h *host) NoteShutdown(context.Context) error { return nil }
func (h *host) Abandon(context.Context) error      { return nil }

func (h *host) Current(context.Context) (nix.System, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return nix.System{Path: h.running}, nil
}

func (h *host) Runs(_ context.Context, s nix.System) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running == s.Path, nil
}

func (h *host) Build(ctx context.Context, dir, _ string) (nix.System, error) {
	version, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nix.System{}, err
	}
	h.mu.Lock()
	builds, slow := h.builds, h.slow
	h.mu.Unlock()
	if builds != nil {
		builds()
	}
	if slow {
		pause(ctx, buildTime)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken != nil {
		if err := h.broken(); err != nil {
			return nix.System{}, err
		}
	}

	return nix.System{Path: "/nix/store/system-" + strings.TrimSpace(string(version))}, ctx.Err()
}

func (h *host) Realise(context.Context, nix.System, []nix.Cache) error {
	return errors.New("nothing is prebuilt here")
}

// Activate switches to s, has it verified, and rolls back if that fails.
func (h *host) Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error) {
	j := activation.Journal{ID: r.ID, System: s.Path, Phase: activation.Switching}
	h.set(func(h *host) { j.Previous, h.running = h.running, s.Path })
	if h.switches != nil {
		h.switches()
	}
	pause(ctx, switchTime)
	bounded, cancel := context.WithTimeout(ctx, r.VerifyTimeout)
	defer cancel()
	j.Phase = activation.Verifying
	_, err := r.Verify(bounded, j)
	if ctx.Err() != nil {
		return j, ctx.Err()
	}
	if err != nil {
		h.set(func(h *host) { h.running = j.Previous })
		j.Phase, j.Cause, j.Reason = activation.RolledBack, activation.CauseVersion, fmt.Sprint(err)
		return j, &activation.Error{Journal: j}
	}
	j.Phase = activation.Committed

	return j, nil
}

// Resume finds nothing: an agent that ends here ends between activations.
func (h *host) Resume(context.Context, activation.Request) (activation.Journal, bool, error) {
	return activation.Journal{}, false, nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
