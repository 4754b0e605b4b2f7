package activation

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/lockfile"
)

const (
	lockFile = "activation.lock"
	// lockGrace is how long to wait for the lock, which others than a worker hold for a moment only.
	lockGrace = 2 * time.Second
)

// lock takes the lock of whoever works on the activation in dir. It waits for a while; free tells whether
// it has the lock.
func lock(ctx context.Context, dir string) (unlock func(), free bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockGrace)
	defer cancel()
	l := flock.New(filepath.Join(dir, lockFile), lockfile.NoFollow)
	free, err = l.TryLock()
	if err == nil && !free {
		free, err = l.TryLockContext(ctx, look)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("%w: lock activation: %w", nix.ErrMachine, err)
	}
	return func() { _ = l.Unlock() }, free, nil
}

// beingWorkedOn reports whether another process holds the lock.
func beingWorkedOn(dir string) (bool, error) {
	held, err := lockfile.Held(filepath.Join(dir, lockFile))
	if err != nil {
		return false, fmt.Errorf("%w: lock activation: %w", nix.ErrMachine, err)
	}
	return held, nil
}

// sleep waits for d, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
