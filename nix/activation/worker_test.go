package activation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
)

// lame is a machine on which a part of the commit fails.
type lame struct {
	*fakeMachine
	profile error
	boot    outcome
}

func (m lame) SetProfile(ctx context.Context, s nix.System) error {
	if m.profile != nil {
		return m.profile
	}
	return m.fakeMachine.SetProfile(ctx, s)
}

func (m lame) Switch(ctx context.Context, r switchRun) outcome {
	if m.boot.err != nil && r.action == actionBoot && r.system == newSystem {
		return m.boot
	}
	return m.fakeMachine.Switch(ctx, r)
}

func TestCauseOfAFailedCommit(t *testing.T) {
	for _, c := range []struct {
		name    string
		machine lame
		want    Cause
		says    string
	}{
		{"the disk is full", lame{profile: fmt.Errorf("set profile: %w", nix.ErrDiskFull)}, CauseMachine, "the disk is full"},
		{"the profile cannot be set", lame{profile: errors.New("set profile: no such system")}, CauseVersion, "no such system"},
		{"the boot loader cannot be written", lame{boot: outcome{err: statuses[1], exit: 1, tail: []string{"Failed to install bootloader"}}}, CauseVersion, "Failed to install bootloader"},
		{"the switch cannot be logged", lame{boot: outcome{err: fmt.Errorf("%w: switch.log: no space left", nix.ErrMachine), exit: -1}}, CauseMachine, "no space left"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.machine.fakeMachine = &fakeMachine{
				t: t, verified: true, running: newSystem, profiled: oldSystem, boots: oldSystem, generations: map[string]int{oldSystem: 1},
			}
			dir := t.TempDir()
			j := &Journal{
				Schema: journalSchema, ID: "x", Phase: Verifying, System: newSystem, Previous: oldSystem,
				ProfileSystem: oldSystem, ProfileLink: oldSystem, SwitchSecs: 900,
			}
			if err := j.advance(dir, Committing); err != nil {
				t.Fatal(err)
			}
			c.machine.journal = j
			w := &worker{Journal: j, machine: c.machine, dir: dir, log: slog.New(slog.DiscardHandler)}
			if err := w.toItsEnd(t.Context()); err != nil {
				t.Fatal(err)
			}
			if j.Phase != RolledBack || j.Cause != c.want || !strings.Contains(j.Reason, c.says) {
				t.Errorf("%s, cause %q, %q; want cause %q, %q", j.Phase, j.Cause, j.Reason, c.want, c.says)
			}
			if m := c.machine; m.running != oldSystem || m.profiled != oldSystem || m.boots != oldSystem {
				t.Errorf("%s runs, the profile has %s, %s boots", m.running, m.profiled, m.boots)
			}
		})
	}
}

// traced is a machine that tells what is done to what boots.
type traced struct {
	*fakeMachine
	did *[]string
}

func (m traced) Switch(ctx context.Context, r switchRun) outcome {
	*m.did = append(*m.did, r.action+" "+r.system)
	return m.fakeMachine.Switch(ctx, r)
}

func (m traced) Flush() error {
	*m.did = append(*m.did, "flush")
	return m.fakeMachine.Flush()
}

func TestANewKernelIsOnDiskBeforeItBoots(t *testing.T) {
	for _, c := range []struct {
		name        string
		otherKernel bool
		want        []string
	}{
		{"another kernel", true, []string{"boot " + oldSystem, "flush", "boot " + newSystem, "flush"}},
		{"the same kernel", false, []string{"boot " + newSystem, "flush"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, did := t.TempDir(), []string{}
			m := &fakeMachine{
				t: t, verified: true, running: newSystem, profiled: oldSystem, boots: oldSystem,
				generations: map[string]int{oldSystem: 1}, otherKernel: c.otherKernel,
			}
			j := &Journal{
				Schema: journalSchema, ID: "x", Phase: Verifying, System: newSystem, Previous: oldSystem,
				ProfileSystem: oldSystem, ProfileLink: oldSystem, SwitchSecs: 900,
			}
			if err := j.advance(dir, Committing); err != nil {
				t.Fatal(err)
			}
			m.journal = j
			w := &worker{Journal: j, machine: traced{m, &did}, dir: dir, log: slog.New(slog.DiscardHandler)}
			if err := w.toItsEnd(t.Context()); err != nil {
				t.Fatal(err)
			}
			if j.Phase != Committed || !slices.Equal(did, c.want) {
				t.Errorf("%s after %q, want %q", j.Phase, did, c.want)
			}
		})
	}
}
