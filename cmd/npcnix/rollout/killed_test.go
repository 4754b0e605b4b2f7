package rollout

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/npcnix/npcnix/store"
)

// dying is a remote that is used by a command which is killed at a request: before it is carried out, or before its
// answer arrives.
type dying struct {
	Remote
	mu       sync.Mutex
	left     int // requests until then
	answered bool
	kill     context.CancelCauseFunc
}

var errKilled = errors.New("killed")

// request reports whether the next request is carried out, and whether the command is killed by it.
func (d *dying) request() (done, killed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.left > 0 {
		return true, false
	}
	d.kill(errKilled)
	return d.left == 0 && d.answered, true
}

func (d *dying) Latest(ctx context.Context, have store.Version) (v store.Version, err error) {
	if _, killed := d.request(); killed {
		return v, errKilled
	}
	return d.Remote.Latest(ctx, have)
}

func (d *dying) Records(ctx context.Context) ([]store.RecordInfo, error) {
	if _, killed := d.request(); killed {
		return nil, errKilled
	}
	return d.Remote.Records(ctx)
}

func (d *dying) GetRecord(ctx context.Context, host string) ([]byte, error) {
	if _, killed := d.request(); killed {
		return nil, errKilled
	}
	return d.Remote.GetRecord(ctx, host)
}

func (d *dying) CopyArchive(ctx context.Context, v store.Version, want store.Archive, w io.Writer) error {
	if _, killed := d.request(); killed {
		return errKilled
	}
	return d.Remote.CopyArchive(ctx, v, want, w)
}

func (d *dying) PublishOver(ctx context.Context, archive io.ReadSeeker, size int64, over store.Version) (v store.Version, err error) {
	done, killed := d.request()
	if done {
		v, err = d.Remote.PublishOver(context.WithoutCancel(ctx), archive, size, over)
	}
	if killed {
		return store.Version{}, errKilled
	}
	return v, err
}

// A command that is killed at any of its requests leaves a rollout that another one takes to its end, and no host runs
// the release before its wave.
func TestTheCommandIsKilledAtEachRequest(t *testing.T) {
	ended := false
	for n := 1; !ended; n++ {
		for _, answered := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, names(3)...)
				w.publish("one")
				w.look()
				name := w.publish("two", "web1", "100%")
				ctx, kill := context.WithCancelCause(t.Context())
				defer kill(nil)
				d := &dying{Remote: w.remote, left: n, answered: answered, kill: kill}
				first := w.run(ctx, func(o *Options) { o.Remote = d })
				w.check(name, false)
				ended = first == nil
				if !ended && d.left > 0 {
					t.Errorf("killed at request %d: %v", n, first)
				}
				if err := w.run(t.Context()); err != nil && !ended {
					t.Errorf("after it was killed at request %d: %v", n, err)
				}
				if len(w.running(name)) != 3 {
					t.Errorf("after it was killed at request %d, %v run it", n, w.running(name))
				}
			})
		}
		if n > 200 {
			t.Fatal("it does not end")
		}
	}
}
