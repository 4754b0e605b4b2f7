// Package hosttest is the contract between the agent and the host that it builds and activates systems on.
//
// The real host (a coordinator on real nix) and the host that the agent's own tests use both pass it, so
// that what those tests show holds for the real one too. A host of another kind passes [Test] as well, or
// the agent cannot rely on it.
package hosttest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
)

// Host is what the agent asks of a host: agent.Host.
type Host interface {
	Check(ctx context.Context) error
	NoteShutdown(ctx context.Context) error
	Current(ctx context.Context) (nix.System, error)
	Runs(ctx context.Context, s nix.System) (bool, error)
	Build(ctx context.Context, dir, configuration string) (nix.System, error)
	Realise(ctx context.Context, s nix.System, caches []nix.Cache) error
	Activate(ctx context.Context, s nix.System, r activation.Request) (activation.Journal, error)
	Abandon(ctx context.Context) error
	Resume(ctx context.Context, r activation.Request) (activation.Journal, bool, error)
}

// The configurations that a host under test can build.
const (
	One      = "one"       // switches well
	Two      = "two"       // switches well, from One too
	Bad      = "bad"       // builds, but its switch fails
	BootOnly = "boot-only" // cannot be switched to from One
	Broken   = "broken"    // does not build
)

// Rig is a host under test that runs no system yet.
type Rig struct {
	Host
	// Flake is the folder that describes the configurations.
	Flake string
	// Again returns the same machine's host as another process has it, after the first process has ended.
	Again func() Host
}

// subject is a rig in the hands of a test.
type subject struct {
	*testing.T
	Rig
}

// Test checks that the hosts which make returns keep the contract.
func Test(t *testing.T, make func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		test func(s subject)
	}{
		{"a build returns the configuration's system, and changes nothing", building},
		{"a build that fails says so, and blames the flake", buildFails},
		{"a build ends with its context", buildEnds},
		{"a system that is here is realised, and one that no cache has is not", realising},
		{"a verified system runs, and is the boot default", verified},
		{"the new system runs while it is verified, and is not the boot default yet", whileVerified},
		{"a system that fails verification is rolled back", verificationFails},
		{"a system whose switch fails is rolled back", switchFails},
		{"a verification that takes too long is a failed one", verificationHangs},
		{"an activation outlives the process that began it", outlives},
		{"an ended activation is known to the next process", known},
		{"a rolled back activation is known to the next process", knownBack},
		{"without an activation there is nothing to resume or abandon", nothing},
		{"a system that cannot be switched to waits for a reboot", reboot},
		{"an abandoned system is not the boot default", abandoned},
		{"an activation abandons a system that waits for a reboot", superseded},
		{"nothing begins once the context has ended", ended},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(subject{t, make(t)}) })
	}
}

func building(s subject) {
	one, two := s.build(One), s.build(Two)
	if one == two || one == (nix.System{}) {
		s.Errorf("built %v and %v; want two systems", one, two)
	}
	if again := s.build(One); again != one {
		s.Errorf("built %v, then %v", one, again)
	}
	s.wantRuns(nix.System{})
	s.wantNot(one)
}

func buildFails(s subject) {
	system, err := s.Build(s.Context(), s.Flake, Broken)
	if err == nil || errors.Is(err, nix.ErrMachine) || system != (nix.System{}) {
		s.Errorf("%v, %v; want an error that is not the machine's", system, err)
	}
}

func buildEnds(s subject) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if system, err := s.Build(ctx, s.Flake, One); err == nil {
		s.Errorf("built %v after its context had ended", system)
	}
}

func realising(s subject) {
	one := s.build(One)
	if err := s.Realise(s.Context(), one, nil); err != nil {
		s.Errorf("realise what is here: %v", err)
	}
	s.wantRuns(nix.System{})

	var missing *nix.RealiseError
	absent := nix.System{Path: "/nix/store/" + strings.Repeat("0", 32) + "-absent"}
	if err := s.Realise(s.Context(), absent, nil); !errors.As(err, &missing) || missing.System != absent || errors.Is(err, nix.ErrMachine) {
		s.Errorf("realise what no cache has: %v; want that none has it", err)
	}
}

func verified(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)
	s.wantRuns(one)

	j := s.activate(two)
	if j.ID != "of two" || j.System != two.Path || j.Previous != one.Path || j.Phase != activation.Committed {
		s.Errorf("%+v", j)
	}
	s.wantRuns(two)
	s.wantNot(one)
}

func whileVerified(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)

	calls := 0
	done, err := s.Activate(s.Context(), two, activation.Request{ID: "of two", Verify: func(ctx context.Context, j activation.Journal) (string, error) {
		calls++
		if j.ID != "of two" || j.System != two.Path || j.Previous != one.Path || j.Phase != activation.Verifying {
			s.Errorf("verifies %+v", j)
		}
		if _, bounded := ctx.Deadline(); !bounded {
			s.Error("the verification is not bounded")
		}
		if current, err := s.Current(ctx); err != nil || current != two {
			s.Errorf("%v runs, %v; want %v", current, err, two)
		}
		s.wantNot(two) // as it is not the boot default
		return "a mount stays", nil
	}})
	if err != nil || calls != 1 || done.Warning != "a mount stays" {
		s.Errorf("%v, warning %q, after %d calls", err, done.Warning, calls)
	}
}

func verificationFails(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)

	_, err := s.Activate(s.Context(), two, activation.Request{ID: "of two", Verify: func(context.Context, activation.Journal) (string, error) {
		return "", errors.New("the web server does not answer")
	}})
	s.wantBack(err, "of two", one, two, "the web server does not answer")

	s.activate(two)
	s.wantRuns(two)
}

func switchFails(s subject) {
	one, bad := s.build(One), s.build(Bad)
	s.activate(one)

	_, err := s.Activate(s.Context(), bad, activation.Request{ID: "of bad", Verify: func(context.Context, activation.Journal) (string, error) {
		s.Error("a system whose switch failed is verified")
		return "", nil
	}})
	s.wantBack(err, "of bad", one, bad, "")

	var back *activation.Error
	if errors.As(err, &back) && len(back.Tail) == 0 {
		s.Error("of the switch's output nothing is told")
	}
}

func verificationHangs(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)

	_, err := s.Activate(s.Context(), two, activation.Request{
		ID: "of two", VerifyTimeout: 500 * time.Millisecond,
		Verify: func(ctx context.Context, _ activation.Journal) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		},
	})
	s.wantBack(err, "of two", one, two, "")
}

func outlives(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)

	ctx, cancel := context.WithCancel(s.Context())
	_, err := s.Activate(ctx, two, activation.Request{ID: "of two", Verify: func(ctx context.Context, _ activation.Journal) (string, error) {
		cancel()
		return "", ctx.Err()
	}})
	if !errors.Is(err, context.Canceled) || errors.As(err, new(*activation.Error)) {
		s.Fatalf("%v; want the end of the context", err)
	}

	verified := ""
	j, found, err := s.Again().Resume(s.Context(), activation.Request{ID: "of another", Verify: func(_ context.Context, j activation.Journal) (string, error) {
		verified = j.ID
		return "", nil
	}})
	if err != nil || !found || j.ID != "of two" || j.Phase != activation.Committed || verified != "of two" {
		s.Errorf("%+v, %v, %v; verified %q", j, found, err, verified)
	}
	s.wantRuns(two)
}

func known(s subject) {
	one := s.build(One)
	s.activate(one)

	j, found, err := s.Again().Resume(s.Context(), s.refuse())
	if err != nil || !found || j.ID != "of one" || j.System != one.Path || j.Phase != activation.Committed {
		s.Errorf("%+v, %v, %v", j, found, err)
	}
}

func knownBack(s subject) {
	one, bad := s.build(One), s.build(Bad)
	s.activate(one)
	_, err := s.Activate(s.Context(), bad, activation.Request{ID: "of bad"})
	s.wantBack(err, "of bad", one, bad, "")

	_, found, err := s.Again().Resume(s.Context(), s.refuse())
	if !found {
		s.Error("it is not known")
	}
	s.wantBack(err, "of bad", one, bad, "")
}

func nothing(s subject) {
	if err := s.Abandon(s.Context()); err != nil {
		s.Errorf("abandon: %v", err)
	}
	if j, found, err := s.Resume(s.Context(), s.refuse()); found || err != nil {
		s.Errorf("resumed %+v, %v", j, err)
	}

	one := s.build(One)
	s.activate(one)
	if err := s.Abandon(s.Context()); err != nil {
		s.Errorf("abandon what is committed: %v", err)
	}
	s.wantRuns(one)
}

func reboot(s subject) {
	one, two := s.build(One), s.build(BootOnly)
	s.activate(one)

	r := s.refuse()
	r.ID = "of two"
	j, err := s.Activate(s.Context(), two, r)
	if err != nil || j.ID != "of two" || j.Phase != activation.RebootPending || j.BootOnlyWhy == "" {
		s.Fatalf("%+v, %v", j, err)
	}
	if current, err := s.Current(s.Context()); err != nil || current != one {
		s.Errorf("%v runs, %v; want %v", current, err, one)
	}
	s.wantNot(two)

	j, found, err := s.Again().Resume(s.Context(), s.refuse())
	if err != nil || !found || j.ID != "of two" || j.Phase != activation.RebootPending {
		s.Errorf("resumed before the reboot: %+v, %v, %v", j, found, err)
	}
}

func abandoned(s subject) {
	one, two := s.build(One), s.build(BootOnly)
	s.activate(one)
	if j, err := s.Activate(s.Context(), two, activation.Request{ID: "of two"}); err != nil || j.Phase != activation.RebootPending {
		s.Fatalf("%+v, %v", j, err)
	}

	if err := s.Abandon(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.wantRuns(one)
	j, found, err := s.Again().Resume(s.Context(), s.refuse())
	if !found || !errors.As(err, new(*activation.Error)) || j.Phase != activation.RolledBack || j.Cause != activation.CauseSuperseded {
		s.Errorf("%+v, %v, %v", j, found, err)
	}
}

func superseded(s subject) {
	one, two, three := s.build(One), s.build(BootOnly), s.build(Two)
	s.activate(one)
	if j, err := s.Activate(s.Context(), two, activation.Request{ID: "of two"}); err != nil || j.Phase != activation.RebootPending {
		s.Fatalf("%+v, %v", j, err)
	}

	if j := s.activate(three); j.Previous != one.Path {
		s.Errorf("%+v; want %s as what ran before", j, one.Path)
	}
	s.wantRuns(three)
}

func ended(s subject) {
	one, two := s.build(One), s.build(Two)
	s.activate(one)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.Activate(ctx, two, s.refuse()); !errors.Is(err, context.Canceled) || errors.As(err, new(*activation.Error)) {
		s.Errorf("%v; want the end of the context", err)
	}
	s.wantRuns(one)
	if j, _, err := s.Again().Resume(s.Context(), s.refuse()); err != nil || j.System != one.Path {
		s.Errorf("the activation is of %s, %v; want %s", j.System, err, one.Path)
	}
}

func (s subject) build(configuration string) nix.System {
	s.Helper()
	system, err := s.Build(s.Context(), s.Flake, configuration)
	if err != nil {
		s.Fatalf("build %s: %v", configuration, err)
	}
	return system
}

// activate activates a system that is verified at once. The activation is called "of one" or "of two".
func (s subject) activate(system nix.System) activation.Journal {
	s.Helper()
	id := "of two"
	if current, err := s.Current(s.Context()); err == nil && current == (nix.System{}) {
		id = "of one"
	}
	j, err := s.Activate(s.Context(), system, activation.Request{ID: id})
	if err != nil {
		s.Fatalf("activate %v: %v", system, err)
	}
	return j
}

// refuse is a request that nothing is verified for.
func (s subject) refuse() activation.Request {
	return activation.Request{Verify: func(_ context.Context, j activation.Journal) (string, error) {
		s.Errorf("%s is verified", j.System)
		return "", nil
	}}
}

// wantRuns checks that a system runs and is the boot default; the zero one, that none runs.
func (s subject) wantRuns(want nix.System) {
	s.Helper()
	if got, err := s.Current(s.Context()); err != nil || got != want {
		s.Errorf("%v runs, %v; want %v", got, err, want)
	}
	if want == (nix.System{}) {
		return
	}
	if runs, err := s.Runs(s.Context(), want); err != nil || !runs {
		s.Errorf("%v does not run, or is not the boot default: %v", want, err)
	}
}

// wantNot checks that a system does not run, or is not the boot default.
func (s subject) wantNot(system nix.System) {
	s.Helper()
	if runs, err := s.Runs(s.Context(), system); err != nil || runs {
		s.Errorf("%v runs and is the boot default: %v, %v", system, runs, err)
	}
}

// wantBack checks that an activation was rolled back because of its system, and what runs and is the boot default now.
func (s subject) wantBack(err error, id string, from, to nix.System, reason string) {
	s.Helper()
	var back *activation.Error
	if !errors.As(err, &back) {
		s.Fatalf("%v; want that it was rolled back", err)
	}
	if back.ID != id || back.System != to.Path || back.Previous != from.Path || back.Phase != activation.RolledBack ||
		back.Cause != activation.CauseVersion || back.RollbackFailed() || !strings.Contains(back.Reason, reason) || back.Reason == "" {
		s.Errorf("%+v", back.Journal)
	}
	s.wantRuns(from)
	s.wantNot(to)
}
