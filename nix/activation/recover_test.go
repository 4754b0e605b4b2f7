package activation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Systems of these tables: new is activated from old; other is an operator's.
const (
	newSystem = "new"
	oldSystem = "old"
	other     = "other"
)

// facts are those of an activation from old to new, in a phase, with what runs and what the profile has.
func factsOf(p Phase, running, profiled string, change ...func(*Facts)) Facts {
	f := Facts{
		Phase: p, System: newSystem, Previous: oldSystem, ProfileSystem: oldSystem, RestoresTo: oldSystem,
		Running: running, Profiled: profiled, Reboots: true,
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func installed(f *Facts)          { f.Installed = true }
func bootOnly(f *Facts)           { f.BootOnly = true }
func noEarlier(f *Facts)          { f.Previous, f.ProfileSystem, f.RestoresTo = "", "", "" }
func profileLost(f *Facts)        { f.ProfileError = "too many links" }
func restarts(n int) func(*Facts) { return func(f *Facts) { f.Restarts = n } }
func cause(c Cause) func(*Facts)  { return func(f *Facts) { f.Cause = c } }

// The rows are those of docs/safety.md that speak of a restart of the machine, or of a loss of power.
func TestRecoverAfterBoot(t *testing.T) {
	for _, c := range []struct {
		name   string
		facts  Facts
		want   Phase
		cause  Cause
		reason string
	}{
		{"before the switch, the old system boots", factsOf(Pending, oldSystem, oldSystem), RolledBack, CauseInterrupted, "before the new system was committed"},
		{"in the switch, the old system boots", factsOf(Switching, oldSystem, oldSystem), RolledBack, CauseInterrupted, "before the new system was committed"},
		{"in the verification, the old system boots", factsOf(Verifying, oldSystem, oldSystem), RolledBack, CauseInterrupted, "before the new system was committed"},
		{"before the commit has changed anything, the old system boots", factsOf(Committing, oldSystem, oldSystem), RolledBack, CauseInterrupted, "before the new system was committed"},
		{"in the commit, and the new system boots: the commit is finished", factsOf(Committing, newSystem, newSystem, installed), Committing, "", ""},
		{"in the commit, and the old system boots: it is rolled back", factsOf(Committing, oldSystem, newSystem, installed), RollingBack, CauseInterrupted, "before the new system was committed"},
		{"in the commit, before the profile was set, and the old system boots", factsOf(Committing, oldSystem, oldSystem, installed), RollingBack, CauseInterrupted, "before the new system was committed"},
		{"in the rollback, which is finished", factsOf(RollingBack, newSystem, newSystem, installed, cause(CauseVersion)), RollingBack, CauseVersion, ""},
		{"in the rollback, and nothing is left to do", factsOf(RollingBack, oldSystem, oldSystem, cause(CauseVersion)), RolledBack, CauseVersion, ""},
		{"in the rollback, and the boot default is perhaps not set yet", factsOf(RollingBack, oldSystem, oldSystem, installed, cause(CauseVersion)), RollingBack, CauseVersion, ""},
		{"in the switch to a system that can only be booted, and it boots", factsOf(Switching, newSystem, newSystem, installed, bootOnly), Switching, "", ""},

		{"the pending system has booted: it is verified", factsOf(RebootPending, newSystem, newSystem, installed, bootOnly), Verifying, "", ""},
		{"the pending system has not booted", factsOf(RebootPending, oldSystem, newSystem, installed, bootOnly), RollingBack, CauseVersion, "did not boot the new system"},
		{"the pending system has not booted, but an operator's", factsOf(RebootPending, other, other, installed, bootOnly), RollingBack, CauseVersion, "did not boot the new system"},
		{"it has booted a second time before it was verified", factsOf(Verifying, newSystem, newSystem, installed, bootOnly, restarts(1)), Verifying, "", ""},
		{"it has booted a last time before it was verified", factsOf(Verifying, newSystem, newSystem, installed, bootOnly, restarts(2)), Verifying, "", ""},
		{"it has booted too often before it was verified", factsOf(Verifying, newSystem, newSystem, installed, bootOnly, restarts(3)), RollingBack, CauseVersion, "restarted 3 times"},

		{"an operator's system has booted amid the verification", factsOf(Verifying, other, other), RollingBack, CauseInterrupted, "before the new system was committed"},
		{"the old system boots, and the profile cannot be read", factsOf(Switching, oldSystem, "", profileLost), RollingBack, CauseInterrupted, "before the new system was committed"},
		{"the first system of a new host, before it ran", factsOf(Switching, "", "", noEarlier), RolledBack, CauseInterrupted, "before the new system was committed"},
		{"it was committed", factsOf(Committed, newSystem, newSystem, installed), Committed, "", ""},
		{"it was rolled back", factsOf(RolledBack, oldSystem, oldSystem, cause(CauseVersion)), RolledBack, CauseVersion, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, cause, reason := recoverAfterBoot(c.facts)
			if to != c.want || cause != c.cause || !strings.Contains(reason, c.reason) || (reason == "") != (c.reason == "") {
				t.Errorf("%s, %q, %q; want %s, %q, %q", to, cause, reason, c.want, c.cause, c.reason)
			}
			if to != c.facts.Phase && !slices.Contains(transitions[c.facts.Phase], to) {
				t.Errorf("there is no transition from %s to %s", c.facts.Phase, to)
			}
		})
	}
}

// plan writes steps as a test reads them.
func plan(steps []Step) string {
	var words []string
	for _, s := range steps {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s%s", s.Do, s.System, s.Why)))
	}
	return strings.Join(words, ", ")
}

// The rows are those of docs/safety.md after which a host is rolled back.
func TestPlanRollback(t *testing.T) {
	back := func(running, profiled string, change ...func(*Facts)) Facts {
		return factsOf(RollingBack, running, profiled, append([]func(*Facts){cause(CauseVersion)}, change...)...)
	}
	for _, c := range []struct {
		name     string
		facts    Facts
		want     string
		operator string
	}{
		{"the switch fails before it changed anything", back(oldSystem, oldSystem), "switch to old", ""},
		{"the switch fails half way, hangs, cuts the host off or breaks a unit", back(newSystem, oldSystem), "switch to old", ""},
		{"the worker was killed before there was a current system", back("", oldSystem), "switch to old", ""},
		{"the boot loader cannot be written", back(newSystem, newSystem, installed), "restore profile, switch to old, make boot old", ""},
		{"the profile cannot be written", back(newSystem, oldSystem, installed), "switch to old, make boot old", ""},
		{"power was lost in the commit, and the old system has booted", back(oldSystem, newSystem, installed), "restore profile, switch to old, make boot old", ""},
		{"power was lost in the rollback, after the profile was restored", back(oldSystem, oldSystem, installed), "switch to old, make boot old", ""},

		{"what booted before it was activated fails", back(newSystem, newSystem, func(f *Facts) { f.ProfileSystem = newSystem }), "restore profile, switch to old, make boot old", ""},

		{"another process was switching all the while", back(newSystem, newSystem, cause(CauseBusy)), "", ""},

		{"another publish while a reboot is pending", back(oldSystem, newSystem, installed, bootOnly), "restore profile, make boot old", ""},
		{"a system that can only be booted has booted, and is not verified", back(newSystem, newSystem, installed, bootOnly),
			"restore profile, make boot old, reboot, switch to old", ""},
		{"the same, of a machine that cannot be restarted", back(newSystem, newSystem, installed, bootOnly, func(f *Facts) { f.Reboots = false }),
			"restore profile, make boot old, switch to old", ""},

		{"an operator has switched meanwhile", back(other, other), "", other},
		{"an operator tries a system meanwhile", back(other, oldSystem), "", other},
		{"an operator tries a system in the commit", back(other, newSystem, installed), "restore profile, make boot old", other},
		{"an operator has switched while a reboot is pending", back(other, other, installed, bootOnly), "", other},
		{"an operator has made another system what boots", back(newSystem, other), "switch to old", ""},
		{"an operator has made another system what boots, in the commit", back(newSystem, other, installed), "switch to old", ""},

		{"what ran before was an operator's try: what boots is the profile's again",
			back(newSystem, newSystem, installed, func(f *Facts) { f.Previous, f.ProfileSystem, f.RestoresTo = other, oldSystem, oldSystem }),
			"restore profile, switch to other, make boot old", ""},
		{"the machine has booted the profile's, after an operator's try",
			back(oldSystem, oldSystem, installed, func(f *Facts) { f.Previous, f.ProfileSystem, f.RestoresTo = other, oldSystem, oldSystem }),
			"make boot old", ""},

		{"the previous system is gone", back(newSystem, newSystem, installed, func(f *Facts) { f.PreviousError = "it is gone" }), "restore profile, fail it is gone", ""},
		{"what runs cannot be told", back("", newSystem, installed, func(f *Facts) { f.RunningError = "no link" }), "restore profile, fail no link", ""},
		{"the profile cannot be read", back(newSystem, "", installed, profileLost), "fail the profile may still have new: too many links, switch to old, make boot old", ""},
		{"the first system of a new host fails", back(newSystem, "", noEarlier), "", ""},
		{"the first system of a new host fails in the commit", back(newSystem, newSystem, installed, noEarlier), "restore profile", ""},
		{"a system that ran and booted before is activated again, and fails",
			back(oldSystem, oldSystem, installed, func(f *Facts) { f.System = oldSystem }), "switch to old, make boot old", ""},
		{"a generation that an older npcnix requested the activation of", back(newSystem, other, installed, func(f *Facts) { f.ProfileSystem = "" }), "switch to old, make boot other", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := plan(planRollback(c.facts)); got != c.want {
				t.Errorf("plan %q, want %q", got, c.want)
			}
			if got := operatorSystem(c.facts); got != c.operator {
				t.Errorf("operator's system %q, want %q", got, c.operator)
			}
		})
	}
}

func TestRollbackEnd(t *testing.T) {
	steps := []Step{{Do: SwitchTo, System: oldSystem}, {Do: MakeBoot, System: oldSystem}}
	for _, c := range []struct {
		name  string
		steps []Step
		done  bool
		tries int
		after Facts
		want  Phase
	}{
		{"every step succeeds", steps, true, 1, factsOf(RollingBack, oldSystem, oldSystem), RolledBack},
		{"every step succeeds, but the old system does not run", steps, true, 1, factsOf(RollingBack, newSystem, oldSystem), RollingBack},
		{"a step fails", steps, false, 2, factsOf(RollingBack, oldSystem, oldSystem), RollingBack},
		{"a step fails for the last time", steps, false, 3, factsOf(RollingBack, oldSystem, oldSystem), RollbackFailed},
		{"what runs cannot be told", steps, true, 1, factsOf(RollingBack, "", oldSystem, func(f *Facts) { f.RunningError = "no link" }), RollingBack},
		{"there is nothing to do", nil, true, 1, factsOf(RollingBack, other, other), RolledBack},
		{"there is no earlier system, and the new one runs", nil, true, 1, factsOf(RollingBack, newSystem, "", noEarlier), RollbackFailed},
		{"there is no earlier system, and nothing runs", nil, true, 1, factsOf(RollingBack, "", "", noEarlier), RolledBack},
		{"another process was switching, to the same first system", nil, true, 1, factsOf(RollingBack, newSystem, newSystem, noEarlier, cause(CauseBusy)), RolledBack},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := rollbackEnd(c.steps, c.done, c.tries, c.after); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
