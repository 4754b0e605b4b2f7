package systemd

import (
	"strings"
	"testing"
	"time"
)

// The rows of the table in docs/safety.md.
func TestAUnitIsJudgedByWhatItDidAndDoes(t *testing.T) {
	up := Unit{Load: "loaded", Active: "active", Sub: "running", Result: "success", Type: "simple", UpSecs: 3600, Wanted: true}
	with := func(u Unit, change func(*Unit)) Unit {
		change(&u)
		return u
	}
	gone := with(up, func(u *Unit) { u.Active, u.Sub, u.UpSecs = "inactive", "dead", 0 })
	broken := with(up, func(u *Unit) { u.Active, u.Sub, u.Result, u.UpSecs = "failed", "failed", "exit-code", 0 })
	again := with(up, func(u *Unit) { u.Active, u.Sub, u.Result, u.UpSecs = "activating", "auto-restart", "exit-code", 0 })
	beat := with(up, func(u *Unit) { u.Restarts, u.UpSecs = 7, 2 })
	pause := with(again, func(u *Unit) { u.Result = "success" })
	startingUp := with(up, func(u *Unit) { u.Active, u.Sub, u.Type, u.UpSecs = "activating", "start", "notify", 0 })
	job := with(startingUp, func(u *Unit) { u.Type = "oneshot" })
	jobDone := with(gone, func(u *Unit) { u.Type = "oneshot" })
	mount := Unit{Name: "srv.mount", Load: "loaded", Active: "active", Sub: "mounted", Defined: true, UpSecs: 3600}
	setup := with(up, func(u *Unit) { u.Type, u.Sub, u.RemainAfterExit = "oneshot", "exited", true })

	for _, c := range []struct {
		name        string
		before, now Unit
		named       bool
		want        Verdict
	}{
		{"runs on", up, up, false, Fine},
		{"is reloaded", up, with(up, func(u *Unit) { u.Active, u.Sub = "reloading", "reload" }), false, Fine},
		{"fails", up, broken, false, Broken},
		{"ends and is started again", up, again, false, Waiting},
		{"ends well and is started again, which it was not before", up, pause, false, Waiting},
		{"gets ready", up, startingUp, false, Waiting},
		{"is stopping", up, with(up, func(u *Unit) { u.Active, u.Sub = "deactivating", "stop-sigterm" }), false, Waiting},
		{"waits for its turn", up, with(gone, func(u *Unit) { u.Queued = true }), false, Waiting},
		{"is not started again", up, gone, false, Broken},
		{"has a file with an error", up, with(gone, func(u *Unit) { u.Load = "bad-setting" }), false, Broken},
		{"has a file with an error, and runs on", up, with(up, func(u *Unit) { u.Load = "bad-setting" }), false, Broken},
		{"has a file with an error that it had before", with(up, func(u *Unit) { u.Load = "bad-setting" }), with(up, func(u *Unit) { u.Load = "bad-setting" }), false, Fine},
		{"a mount that is removed, and is busy", mount, with(mount, func(u *Unit) { u.Defined = false }), false, Left},
		{"a mount that is not the system's", with(mount, func(u *Unit) { u.Defined = false }), with(mount, func(u *Unit) { u.Defined = false }), false, Fine},
		{"a mount that stays", mount, mount, false, Fine},
		{"is removed", up, with(gone, func(u *Unit) { u.Load = "not-found" }), false, Fine},
		{"is masked", up, with(gone, func(u *Unit) { u.Load = "masked" }), false, Fine},
		{"waits for its socket or timer", up, with(gone, func(u *Unit) { u.Triggered = true }), false, Fine},
		{"makes way for a unit that it conflicts with", up, with(gone, func(u *Unit) { u.Conflicted = true }), false, Fine},
		{"has a condition that is not met", up, with(gone, func(u *Unit) { u.Unmet = true }), false, Fine},
		{"is wanted by nothing, and has ended", up, with(gone, func(u *Unit) { u.Wanted = false }), false, Fine},
		{"is wanted by nothing, and could not be started", up, with(gone, func(u *Unit) { u.Wanted = false }), true, Broken},
		{"becomes a job, which is done", up, jobDone, false, Fine},

		{"restarts all the time, and runs", beat, up, false, Fine},
		{"restarts all the time, and is between two runs", beat, pause, false, Fine},
		{"restarted all the time, and fails at it now, in the queue", beat, with(again, func(u *Unit) { u.Sub = "auto-restart-queued" }), false, Waiting},
		{"failed again and again before, in the queue, and fails", with(again, func(u *Unit) { u.Sub = "auto-restart-queued" }), broken, false, Fine},
		{"was not there, and fails again and again, in the queue", Unit{}, with(again, func(u *Unit) { u.Sub = "auto-restart-queued" }), false, Failing},
		{"restarts all the time, and is being started", beat, startingUp, false, Fine},
		{"restarted all the time, and fails at it now", beat, again, false, Waiting},
		{"was between two runs, and runs", pause, up, false, Fine},
		{"restarted all the time, and has failed", beat, broken, false, Broken},
		{"was restarted once, long ago, and is again", with(up, func(u *Unit) { u.Restarts = 1 }), again, false, Waiting},

		{"a setup that was done, and is again", setup, setup, false, Fine},
		{"a setup that was done, and is not", setup, with(setup, func(u *Unit) { u.Active, u.Sub = "inactive", "dead" }), false, Broken},
		{"a setup that was done, and fails", setup, with(broken, func(u *Unit) { u.Type, u.RemainAfterExit = "oneshot", true }), false, Broken},
		{"a job that was up, and runs again", with(job, func(u *Unit) { u.Active, u.Sub = "active", "running" }), job, false, Fine},
		{"a job in mid-run that goes on", job, job, false, Fine},
		{"a job in mid-run that fails", job, broken, false, Failing},
		{"a job in mid-run that is done", job, jobDone, false, Fine},
		{"one that was getting ready, and fails", startingUp, broken, false, Failing},

		{"failed before, and fails", broken, broken, false, Fine},
		{"failed again and again before, and fails", again, broken, false, Fine},
		{"failed before, and runs", broken, up, false, Fine},
		{"did not run before, and fails", gone, broken, false, Failing},
		{"was not there, and fails", Unit{}, broken, false, Failing},
		{"was not there, and fails again and again", Unit{}, again, false, Failing},
		{"was not there, and could not be started", Unit{}, gone, true, Failing},
		{"was not there, and runs", Unit{}, up, false, Fine},
		{"did not run before, and does not", gone, gone, false, Fine},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, reason := Judge(c.before, c.now, c.named)
			if got != c.want {
				t.Errorf("%s (%s), want %s", got, reason, c.want)
			}
			if (got == Fine) != (reason == "") {
				t.Errorf("%s, for the reason %q", got, reason)
			}
		})
	}
}

func TestUnitsAreReadAsSystemctlPrintsThem(t *testing.T) {
	units := parseUnits(strings.Join([]string{
		"Id=web.service\nNames=web.service www.service\nLoadState=loaded\nActiveState=active\nSubState=running\nResult=success\n" +
			"Type=simple\nRemainAfterExit=no\nNRestarts=3\nActiveEnterTimestampMonotonic=1000000\nWantedBy=multi-user.target\n" +
			"RequiredBy=\nTriggeredBy=\nConflicts=shutdown.target\nConditionResult=yes\nConditionTimestampMonotonic=7\n",
		"Id=echo.service\nNames=echo.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nTriggeredBy=echo.socket\n" +
			"WantedBy=\nConditionResult=no\nConditionTimestampMonotonic=0\nJob=12\n",
		"Id=echo.socket\nNames=echo.socket\nLoadState=loaded\nActiveState=active\nSubState=listening\n",
		"Id=old.service\nNames=old.service\nLoadState=loaded\nActiveState=inactive\nConflictedBy=web.service\nConditionResult=no\nConditionTimestampMonotonic=9\n",
		"Id=multi-user.target\nNames=multi-user.target\nLoadState=loaded\nActiveState=active\nSubState=active\n",
		"Id=unwanted.service\nNames=unwanted.service\nLoadState=loaded\nActiveState=inactive\nWantedBy=rescue.target\n",
		"Id=gone.service\nNames=gone.service\nLoadState=not-found\nActiveState=inactive\n",
	}, "\n"), 61*time.Second)

	if u := units["www.service"]; u.Name != "web.service" || u.Restarts != 3 || u.Up() != time.Minute || !u.Wanted || u.Unmet || u.Conflicted || u.Queued {
		t.Errorf("web is %+v", u)
	}
	if u := units["echo.service"]; !u.Triggered || u.Wanted || u.Unmet || !u.Queued {
		t.Errorf("echo is %+v", u)
	}
	if u := units["old.service"]; !u.Conflicted || !u.Unmet {
		t.Errorf("old is %+v", u)
	}
	if units["unwanted.service"].Wanted {
		t.Error("a unit is wanted by a target that is not active")
	}
	if units["gone.service"].Load != "not-found" || len(units) != 8 {
		t.Errorf("units are %+v", units)
	}
}

func TestTheFilesThatAUnitIsStartedWith(t *testing.T) {
	text := "# /etc/systemd/system/npcnix.service\n[Service]\nEnvironment=EnvironmentFile=/no\nEnvironmentFile=-/var/lib/a\nEnvironmentFile=/var/lib/b\n" +
		"LoadCredential=aws:/run/c\nLoadCredential=inherited\nExecStart=/bin/true EnvironmentFile=/no\n"
	if got := strings.Join(unitFiles(text), " "); got != "/var/lib/a /var/lib/b /run/c" {
		t.Errorf("%s", got)
	}
}

func TestAUnitThatARollbackLeftStoppedIsStartedAgain(t *testing.T) {
	up := Unit{Name: "worker@a.service", Load: "loaded", Active: "active", Sub: "running", Type: "simple", UpSecs: 3600}
	down := up
	down.Active, down.Sub = "inactive", "dead"
	with := func(change func(*Unit)) Unit {
		u := down
		change(&u)
		return u
	}
	for _, c := range []struct {
		name        string
		before, now Unit
		want        bool
	}{
		{"stopped", up, down, true},
		{"runs", up, up, false},
		{"failed", up, with(func(u *Unit) { u.Active = "failed" }), false},
		{"did not run", down, down, false},
		{"is gone", up, with(func(u *Unit) { u.Load = "not-found" }), false},
		{"waits for its socket", up, with(func(u *Unit) { u.Triggered = true }), false},
		{"is being started", up, with(func(u *Unit) { u.Queued = true }), false},
		{"a job that is done", up, with(func(u *Unit) { u.Type = "oneshot" }), false},
		{"a target", up, with(func(u *Unit) { u.Name = "graphical.target" }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Stopped(c.before, c.now); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
