package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// Activate builds a configuration of the flake in dir and switches to it, by the same steps as an agent's
// reconcile: lock, load, build, activate. It asks no store, writes no record, runs no hook, and leaves the
// applied version as it is, so that an agent reports the host as drifted. Of o it needs Dir, Host and
// Config. RebootWhy says why the system becomes active only with the next boot; "" if it runs.
func Activate(ctx context.Context, o Options, dir, configuration string) (s nix.System, rebootWhy string, err error) {
	o.Store, o.Once = nothing{}, OnceAny
	if err := o.validate(); err != nil {
		return nix.System{}, "", err
	}
	a, r := wire(o), &round{}
	unlock, err := a.Dir.LockActivation(ctx, func() { a.Log.Warn("waiting for another npcnix to end its activation") })
	if err != nil {
		return nix.System{}, "", err
	}
	defer unlock()

	if err := a.load(ctx, r); err != nil {
		return nix.System{}, "", err
	}
	if s, err = a.Host.Build(ctx, dir, configuration); err != nil {
		return nix.System{}, "", err
	}
	if runs, err := a.runsAlready(ctx, r, s); err != nil || runs {
		return s, "", err
	}

	r.warning, err = a.switchTo(ctx, s, a.request(r.config, nil))
	var reboot rebootNeeded
	switch {
	case errors.As(err, &reboot):
		return s, reboot.why, nil
	case err != nil && ctx.Err() != nil:
		err = fmt.Errorf("interrupted; the activation goes on, and is rolled back unless a running agent, or `npcnix follow --once`, commits it: %w", err)
	}

	return s, "", err
}

// nothing is the store of an activation that asks none.
type nothing struct{}

var errNoStore = errors.New("this activation has no store")

func (nothing) Latest(context.Context, store.Version) (store.Version, error) {
	return store.Version{}, errNoStore
}
func (nothing) LatestAnnounced(context.Context, store.Version, string, time.Time) (store.Version, error) {
	return store.Version{}, errNoStore
}
func (nothing) Tail(context.Context, store.Version, int64) (store.Tail, error) {
	return store.Tail{}, errNoStore
}
func (nothing) FetchSigned(context.Context, store.Version, store.Archive, string) error {
	return errNoStore
}
func (nothing) PutRecord(context.Context, string, []byte) error { return errNoStore }
func (nothing) PutRecordCopy(context.Context, string, string, []byte) error {
	return errNoStore
}
