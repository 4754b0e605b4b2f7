package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/npcnix/npcnix/nix/lockfile"
)

// ErrRunning says that another agent follows on the same data directory.
var ErrRunning = errors.New("another npcnix follows on this data directory")

// lock takes the named lock of the data directory, waiting until ctx ends. Where it has to
// wait it says so once, through waiting.
func (d Dir) lock(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	l := flock.New(d.Path(name), lockfile.NoFollow)
	ok, err := l.TryLock()
	if err == nil && !ok {
		if waiting != nil {
			waiting()
		}
		ok, err = l.TryLockContext(ctx, 100*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", d.Path(name), err)
	}
	if !ok {
		return nil, fmt.Errorf("lock %s: %w", d.Path(name), ctx.Err())
	}
	return func() { _ = l.Unlock() }, nil
}

// LockActivation takes activate.lock, which allows one reconcile or activation per host at a
// time. It waits until ctx ends, and calls waiting, which may be nil, when it has to.
func (d Dir) LockActivation(ctx context.Context, waiting func()) (unlock func(), err error) {
	return d.lock(ctx, "activate.lock", waiting)
}

const followLock = "follow.lock"

// FollowLockPath returns the file that LockFollow locks.
func (d Dir) FollowLockPath() string { return d.Path(followLock) }

// LockFollow takes follow.lock, which keeps a second long-running agent away from the data
// directory. It waits no longer than a look of [Dir.Following] may take: where the lock is taken the
// error wraps ErrRunning.
func (d Dir) LockFollow() (unlock func(), err error) {
	if err := d.Create(); err != nil {
		return nil, err
	}
	path := d.Path(followLock)
	l := flock.New(path, lockfile.NoFollow)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	ok, err := l.TryLockContext(ctx, 10*time.Millisecond)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		holder, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%w (pid %s): stop it, or give this one its own --data-dir; `npcnix follow --once` works beside it",
			ErrRunning, strings.TrimSpace(string(holder)))
	}
	if err := overwrite(path, fmt.Appendf(nil, "%d\n", os.Getpid())); err != nil {
		_ = l.Unlock()
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return func() { _ = l.Unlock() }, nil
}

// ErrLost says that the data directory is not the one any more in which this process has begun.
var ErrLost = errors.New("the data directory was deleted or replaced while npcnix ran")

// Lost returns what tells, with an error wrapping ErrLost, that the follow.lock of this moment is gone: call it when
// that is locked. The lock then keeps no other agent away.
func (d Dir) Lost() func() error {
	path := d.FollowLockPath()
	locked, err := os.Stat(path)
	if err != nil {
		locked = nil
	}

	return func() error {
		now, err := os.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && os.SameFile(locked, now) {
			return nil // what cannot be told is not so
		}
		return fmt.Errorf("%w: %s; restore its config.json if need be, and start npcnix again", ErrLost, d)
	}
}

// overwrite replaces the content of a file that is there, and never that of one which a link leads to.
func overwrite(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)

	return errors.Join(err, file.Close())
}

// Following reports whether an agent follows on the data directory, without getting in its way: the
// lock is held shared, and for a moment.
func (d Dir) Following() (bool, error) {
	if _, err := os.Stat(d.Path(followLock)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	held, err := lockfile.Held(d.Path(followLock))
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", d.Path(followLock), err)
	}

	return held, nil
}
