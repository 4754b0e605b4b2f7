package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// The values of --check.
const (
	checkNames = "names"
	checkAll   = "all"
	checkNone  = "none"
)

// evaluate evaluates what was packed, so that a flake which no host could evaluate is not published.
func (o pushOptions) evaluate(ctx context.Context, c *common, packed *os.File) error {
	switch {
	case o.check != checkNames && o.check != checkAll && o.check != checkNone:
		return usageError{fmt.Errorf("--check is %q: it must be %s, %s or %s", o.check, checkNames, checkAll, checkNone)}
	case o.check == checkNone, o.check == checkNames && o.release.prebuild: // which evaluates more
		return nil
	}
	work, err := os.MkdirTemp("", "npcnix-check-*")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(work)
	host, err := nix.New(nix.Options{Dir: work, Log: c.log})
	if err != nil {
		return err
	}
	err = publish.Check(ctx, host, c.log, packed, o.check == checkAll)
	if errors.Is(err, nix.ErrNoNix) && o.check == checkNames {
		c.log.Warn("the flake was not evaluated, because there is no nix here: a mistake in it shows on the hosts")
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing was published: %w; --check=none publishes it all the same", err)
	}

	return nil
}

// heardWithin is how old a record may be for its host's trust to count.
const heardWithin = 30 * 24 * time.Hour

// followers returns the records of hosts that follow the remote, under their present name.
func followers(records []record.Record, remote *store.Remote) []record.Record {
	return slices.DeleteFunc(records, func(r record.Record) bool {
		return r.RenamedTo != "" || !store.SameObject(r.Remote, remote.URL())
	})
}

// checkTrust returns an error if hosts have said that they trust too few of the keys: they would refuse this
// release and all that the same keys sign. What no key signs they refuse, too.
func checkTrust(ctx context.Context, c *common, remote *store.Remote, p *publish.Publisher, allowed bool) error {
	if allowed {
		return nil
	}
	var keys []string
	remedy := "give --sign-key"
	if p != nil && len(p.Fingerprints()) > 0 {
		keys, remedy = p.Fingerprints(), "sign with an old key too"
	}
	records, err := fleet.Heard(ctx, remote, time.Now().Add(-heardWithin))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && len(keys) == 0 { // most likely the remote has no records, and no host has signers
		c.log.Debug("whether the hosts want a signature was not checked: their records cannot be read", "error", err)
		return nil
	}
	if err != nil {
		c.log.Warn("whether the hosts trust the signing key was not checked: their records cannot be read", "error", err)
		return nil
	}
	if hosts := publish.LockedOut(keys, followers(records, remote)); len(hosts) > 0 {
		return fmt.Errorf("nothing was published: %s would refuse it, by what their records say of the keys that they trust: %s; "+
			"--allow-lock-out publishes it all the same; the record of a host that is gone can be deleted", listed(hosts), remedy)
	}

	return nil
}

// listed names the first hosts.
func listed(hosts []string) string {
	const shown = 5
	if more := len(hosts) - shown; more > 0 {
		return fmt.Sprintf("%s and %d more hosts", strings.Join(hosts[:shown], ", "), more)
	}

	return strings.Join(hosts, ", ")
}
