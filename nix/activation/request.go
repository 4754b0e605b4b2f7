package activation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/nix"
)

const (
	defaultSwitchTimeout = 15 * time.Minute
	defaultVerifyTimeout = 5 * time.Minute
)

// Request is what an activation is to heed.
type Request struct {
	// ID tells this activation from others. Default: a random one.
	ID string
	// SwitchTimeout bounds each run of switch-to-configuration. Default: 15 min.
	SwitchTimeout time.Duration
	// VerifyTimeout bounds the verification of the new system. Default: 5 min.
	VerifyTimeout time.Duration
	// Verify returns no error when the new system is verified, and what is worth telling of it, which goes
	// into the journal; "" for nothing. It is called from the new system, maybe more than once, with a ctx
	// that ends with VerifyTimeout. Nil: every system is.
	Verify func(ctx context.Context, j Journal) (warning string, err error)
	// Keep is how many of the profile's latest generations are kept when s is one of them. Those of the
	// systems that run, ran before and were booted are kept in any case. 0: all.
	Keep int
}

func (r Request) switchTimeout() time.Duration {
	if r.SwitchTimeout > 0 {
		return r.SwitchTimeout
	}
	return defaultSwitchTimeout
}

func (r Request) verifyTimeout() time.Duration {
	if r.VerifyTimeout > 0 {
		return r.VerifyTimeout
	}
	return defaultVerifyTimeout
}

// request makes an activation durable. Nothing is done yet.
func (c *Coordinator) request(ctx context.Context, s nix.System, r Request) (*Journal, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	unlock, free, err := lock(ctx, c.dir)
	if err != nil {
		return nil, err
	}
	if !free {
		return nil, errors.New("another activation is in progress")
	}
	defer unlock()
	left, err := Read(c.dir)
	switch {
	case err != nil:
		return nil, err
	case left != nil && !left.Phase.Ended():
		return nil, fmt.Errorf("an activation of %s has not ended yet (%s)", left.System, left.Phase)
	}
	j, err := c.begun(ctx, s, r, left)
	if err != nil {
		return nil, err
	}
	c.HoldPrevious(ctx, nix.System{Path: j.Previous})
	if err := os.Remove(filepath.Join(c.dir, switchLog)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := c.Flush(); err != nil { // the new system may be minutes old
		return nil, err
	}
	return j, j.advance(c.dir, Pending)
}

// begun returns an activation that begins with what is now. Left is the one before; nil if there was none.
func (c *Coordinator) begun(ctx context.Context, s nix.System, r Request, left *Journal) (*Journal, error) {
	previous, err := c.Current(ctx)
	if err != nil {
		return nil, err
	}
	boots, _, err := c.Profiled()
	if err != nil {
		return nil, err
	}
	if previous == s && boots != (nix.System{}) {
		previous = boots // s runs, but was not committed: it cannot be rolled back to
	}
	back := boots // after a rollback the profile has what it has now: an operator may have put it there for the next boot
	if boots == s || left != nil && left.System == boots.Path && left.Phase != Committed {
		back = previous
	}
	link, err := c.Fallback(back)
	if err != nil {
		return nil, err
	}
	o := c.Options()
	j := &Journal{
		Schema: journalSchema, ID: r.ID, System: s.Path, Previous: previous.Path,
		Profile: o.Profile, ProfileSystem: boots.Path, ProfileLink: link, CurrentSystem: o.CurrentSystem, BootID: nix.BootID(),
		RequestedAt: time.Now().UTC(),
		SwitchSecs:  r.switchTimeout().Seconds(), VerifySecs: r.verifyTimeout().Seconds(), Keep: r.Keep,
	}
	if j.ID == "" {
		j.ID = strings.ToLower(rand.Text())
	}
	if what := inhibitors(previous, s); what != "" {
		j.BootOnly, j.BootOnlyWhy = true, "it cannot be switched to while the machine runs: "+what
	}
	if err := j.note(ctx); err != nil {
		return nil, err
	}
	j.AgentUnit, j.AgentUnitSum = c.agentUnit(ctx)
	return j, nil
}

// inhibitors names the critical components that differ between two systems, which is why NixOS refuses to
// switch (nixpkgs, nixos/modules/system/activation/switchable-system.nix): those that both name, with
// other values.
func inhibitors(from, to nix.System) string {
	read := func(s nix.System) map[string]string {
		var all map[string]string
		data, err := os.ReadFile(filepath.Join(s.Path, "switch-inhibitors"))
		if err != nil || json.Unmarshal(data, &all) != nil {
			return nil // none, or not of the kind that is known
		}
		return all
	}
	if from == (nix.System{}) || from == to {
		return ""
	}
	before, after := read(from), read(to)
	var differ []string
	for name, was := range before {
		if is, both := after[name]; both && is != was {
			differ = append(differ, fmt.Sprintf("%s (%s to %s)", name, was, is))
		}
	}
	slices.Sort(differ)
	return strings.Join(differ, ", ")
}
