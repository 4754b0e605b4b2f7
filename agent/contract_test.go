package agent

import (
	"context"
	"testing"

	"github.com/npcnix/npcnix/agent/hosttest"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// What the tests of this package show with the fake host holds for the real one as far as both keep the
// same contract.
func TestFakeHost(t *testing.T) {
	hosttest.Test(t, func(*testing.T) hosttest.Rig {
		h := scriptedHost{&fakeHost{trace: &trace{}}}
		return hosttest.Rig{Host: h, Again: func() hosttest.Host { return h }}
	})
}

// scriptedHost tells a fake host what becomes of each configuration of the contract.
type scriptedHost struct{ *fakeHost }

const storePath = "/nix/store/"

func (h scriptedHost) Build(ctx context.Context, dir, configuration string) (nix.System, error) {
	h.set(func(h *fakeHost) {
		h.system, h.build = storePath+configuration, nil
		if configuration == hosttest.Broken {
			h.build = func(context.Context) error { return &nix.BuildError{Configuration: configuration, Err: errBuild} }
		}
	})
	return h.fakeHost.Build(ctx, dir, configuration)
}

func (h scriptedHost) Realise(ctx context.Context, s nix.System, caches []nix.Cache) error {
	h.set(func(h *fakeHost) {
		h.realise = nil
		if s.Path != h.system {
			h.realise = &nix.RealiseError{System: s, Err: nix.ErrNotCached}
		}
	})
	return h.fakeHost.Realise(ctx, s, caches)
}

func (h scriptedHost) Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error) {
	h.set(func(h *fakeHost) {
		h.activate, h.bootOnly = nil, ""
		switch s.Path {
		case storePath + hosttest.Bad:
			h.activate = func() error {
				return &activation.Error{Journal: activation.Journal{
					Phase: activation.RolledBack, Reason: "a unit failed", Tail: []string{"a unit failed"},
				}}
			}
		case storePath + hosttest.BootOnly:
			h.bootOnly = "another dbus"
		}
	})
	return h.fakeHost.Activate(ctx, s, r)
}
