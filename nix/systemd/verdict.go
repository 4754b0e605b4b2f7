package systemd

import (
	"fmt"
	"strings"
	"time"
)

// Verdict is what a unit says about a switch.
type Verdict string

const (
	Fine    Verdict = "fine"
	Waiting Verdict = "waiting" // it is decided later; a unit for which it never is counts as Broken
	Broken  Verdict = "broken"  // it ran before, and the new system has it and does not run it
	Failing Verdict = "failing" // it fails, and did not run before: worth a warning
	Left    Verdict = "left"    // a mount that is busy stays, though the new system does not have it: worth a warning
)

// steadyAfter is how long a service that systemd has restarted must run to count as one that stays up.
const steadyAfter = time.Minute

// conduct is what a unit did before a switch.
type conduct string

const (
	idle     conduct = "idle"     // it did not run, or was not there
	failed   conduct = "failed"   // it had failed, or was restarted after failures: it says nothing
	starting conduct = "starting" // it was on its way, or a job in mid-run: nobody knows how it would have ended
	ran      conduct = "ran"      // it was up
	restless conduct = "restless" // systemd restarts it all the time, and that is how it works
)

func (u Unit) conduct() conduct {
	switch {
	case u.fails():
		return failed
	case u.betweenRuns() || u.Active == "active" && u.Restarts > 0 && u.Up() < steadyAfter:
		return restless
	case u.Active == "active" || u.Active == "reloading" || u.Active == "refreshing":
		return ran
	case u.Active == "activating":
		return starting
	}
	return idle
}

// betweenRuns reports whether systemd is about to start the unit again by itself. It says how when the pause is over, and
// the start waits for its turn (systemd 254 and later).
func (u Unit) betweenRuns() bool { return u.Sub == "auto-restart" || u.Sub == "auto-restart-queued" }

func (u Unit) fails() bool {
	return u.Active == "failed" || u.betweenRuns() && u.Result != "success"
}

// Judge says what a unit's conduct before a switch and what it does now say about the switch. The reason
// is for people. named tells that the switch itself said that it could not start the unit. What Judge
// decides is the table in docs/safety.md.
func Judge(before, now Unit, named bool) (verdict Verdict, reason string) {
	was := before.conduct()
	fails := now.fails()

	switch {
	case was == failed:
		return Fine, ""
	case was == idle || was == starting:
		if fails || named && now.Active == "inactive" {
			return Failing, now.state()
		}
		return Fine, ""
	case strings.HasSuffix(now.Name, ".mount") && before.Defined && !now.Defined && now.Active == "active":
		return Left, "still mounted"
	case now.Load == "not-found" || now.Load == "masked":
		return Fine, "" // the new system does not have it
	case (now.Load == "bad-setting" || now.Load == "error") && now.Load != before.Load:
		return Broken, "its unit file has an error"
	case now.Active == "failed":
		return Broken, now.state()
	case now.betweenRuns():
		if was == restless && !fails {
			return Fine, ""
		}
		return Waiting, now.state()
	case now.Active == "active" || now.Active == "reloading" || now.Active == "refreshing":
		return Fine, ""
	case now.Queued || now.Active != "inactive":
		if was == restless || now.job() && before.Type == now.Type {
			return Fine, ""
		}
		return Waiting, now.state()
	}

	return judgeInactive(now, named)
}

// judgeInactive judges a unit that was up and is inactive now, though the new system has it.
func judgeInactive(now Unit, named bool) (Verdict, string) {
	switch {
	case named:
		return Broken, "it could not be started"
	case now.job() && now.Result == "success":
		return Fine, "" // done
	case now.Triggered || now.Conflicted || now.Unmet:
		return Fine, "" // the new system says when it runs
	case !now.Wanted:
		return Fine, "" // it was started by something else than the system
	}
	return Broken, "inactive"
}

// job reports whether the unit is one that runs to its end.
func (u Unit) job() bool { return u.Type == "oneshot" && !u.RemainAfterExit }

// state says how a unit is, for people.
func (u Unit) state() string {
	text := u.Active
	if u.Sub != "" && u.Sub != u.Active {
		text += ", " + u.Sub
	}
	if u.Result != "" && u.Result != "success" && u.Result != "done" {
		text += fmt.Sprintf(", %s", u.Result)
	}
	return text
}

// Ran reports whether the unit was up, so that it must be up again after a switch.
func (u Unit) Ran() bool { return u.Steady() || u.conduct() == restless }

// Steady reports whether the unit was up, and is not one that systemd restarts all the time.
func (u Unit) Steady() bool { return u.conduct() == ran }

// Fails reports whether the unit failed, or is restarted after failures.
func (u Unit) Fails() bool { return u.conduct() == failed }

// Stopped reports whether a unit that was up before a switch and its rollback was left stopped by them, so
// that it is to be started again.
func Stopped(before, now Unit) bool {
	switch {
	case !before.Ran() || strings.HasSuffix(now.Name, ".target"):
		return false // a target that nothing wants any more may have had its time
	case now.Load != "loaded" || now.Active != "inactive" || now.Queued || now.job():
		return false
	}
	return !now.Triggered && !now.Conflicted && !now.Unmet
}
