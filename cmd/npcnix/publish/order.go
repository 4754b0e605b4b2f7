package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

var (
	// ErrOlder says that the remote holds a release of a commit that follows ours.
	ErrOlder = errors.New("the remote holds a release of a newer commit")
	// ErrNoOrder says that the remote holds a release of a commit that ours does not follow, as far as can be told.
	ErrNoOrder = errors.New("the remote holds a release of another commit")
)

// LockedOut returns the hosts whose records say that they would refuse what keys of these fingerprints sign.
func LockedOut(fingerprints []string, records []record.Record) []string {
	var hosts []string
	for _, r := range records {
		trusted := 0
		for _, fingerprint := range fingerprints {
			if slices.Contains(r.Signers, fingerprint) {
				trusted++
			}
		}
		if len(r.Signers) > 0 && trusted < max(r.SignersRequired, 1) {
			hosts = append(hosts, r.Host)
		}
	}
	slices.Sort(hosts)

	return hosts
}

// Fingerprints of the distinct keys that sign, sorted.
func (p *Publisher) Fingerprints() []string {
	var all []string
	for _, key := range p.keys {
		all = append(all, ssh.FingerprintSHA256(key.PublicKey()))
	}
	slices.Sort(all)

	return slices.Compact(all)
}

// Follows returns nil if the revision to publish is, or comes after, the one that the last release was made of, by
// the history in src. Without revisions or a history there is no order. A slow pipeline must not replace what a
// newer commit has published: that is ErrOlder. Of commits whose order cannot be told, the error is ErrNoOrder.
func (p *Publisher) Follows(ctx context.Context, src string, last Last) error {
	if last.Release == nil || last.Release.Source.Rev == "" || p.Source.Rev == "" || last.Release.Source.Rev == p.Source.Rev {
		return nil
	}
	old, now := last.Release.Source.Rev, p.Source.Rev
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", src}, args...)...)
		cmd.Env = store.GitEnviron()
		var out bytes.Buffer
		cmd.Stdout = &out
		err := cmd.Run()
		return strings.TrimSpace(out.String()), err
	}
	if commit, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", now+"^{commit}"); err != nil || commit == "" {
		if inside, _ := store.InGitTree(src); inside && fails(err) && ctx.Err() == nil {
			return fmt.Errorf("%w: %s, and git cannot say whether %s follows it: %w", ErrNoOrder, old, now, err)
		}
		p.Log.Info("the order of revisions is not checked: the flake is in no git tree that has this one", "rev", now)
		return ctx.Err()
	}
	if _, err := git("merge-base", "--is-ancestor", "--end-of-options", old, now); err == nil {
		return nil
	}
	_, err := git("merge-base", "--is-ancestor", "--end-of-options", now, old)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return fmt.Errorf("%w: %s, which follows %s", ErrOlder, old, now)
	}
	if shallow, _ := git("rev-parse", "--is-shallow-repository"); shallow == "true" {
		return fmt.Errorf("%w: %s. This clone is shallow, so it cannot be told whether %s follows it: fetch the whole history (of actions/checkout: fetch-depth: 0)", ErrNoOrder, old, now)
	}

	return fmt.Errorf("%w: %s, which is not in the history of %s", ErrNoOrder, old, now)
}

// fails reports whether an error of git is more than its answer that there is no such revision.
func fails(err error) bool {
	exit, ended := errors.AsType[*exec.ExitError](err)

	return err != nil && (!ended || exit.ExitCode() != 1)
}
