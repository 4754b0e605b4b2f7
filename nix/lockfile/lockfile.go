// Package lockfile looks at the locks by which the processes of a host keep out of each other's way.
package lockfile

import (
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

// NoFollow opens a lock's file only if it is no link, which could lead to any file.
var NoFollow = flock.SetFlag(os.O_CREATE | os.O_RDONLY | syscall.O_NOFOLLOW)

// Held reports whether another process holds the lock on a file, which is created if there is none. It does
// not get in that process's way: it holds the lock itself, shared, for a moment at most.
func Held(path string) (bool, error) {
	l := flock.New(path, NoFollow)
	free, err := l.TryRLock()
	if err != nil {
		return false, err
	}
	if free {
		_ = l.Unlock()
	}

	return !free, nil
}
