package activation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/nix/systemd"
)

// StartStopped starts what ran before the activation, what the previous system has, and what its switch
// has not started again: units that no target wants, as they were started by an operator, by D-Bus or as
// an instance of a template. What cannot be told does not fail a rollback.
func (m realMachine) StartStopped(ctx context.Context, j *Journal) []string {
	stopped, err := j.stopped(ctx)
	if err != nil || len(stopped) == 0 {
		return nil
	}
	m.log.Info("starting units that ran before and that the rollback left stopped", "units", strings.Join(stopped, " "))
	if err := systemd.Systemctl(ctx, append([]string{"start", "--"}, stopped...)...); err != nil {
		m.log.Warn("units that ran before could not be started", "error", err)
	}
	stopped, err = j.stopped(ctx)
	if err != nil {
		return nil
	}
	return stopped
}

// stopped returns the units that ran before, and do not now though the running system has them.
func (j *Journal) stopped(ctx context.Context) ([]string, error) {
	if len(j.Units) == 0 || j.BootOnly {
		return nil, nil // of an older npcnix, or the machine was restarted since
	}
	now, err := systemd.Units(ctx, j.Ran...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range j.Ran {
		own := systemd.Match([]string{workerUnit + "*", timerUnit + "*", j.AgentUnit}, name)
		if u := now[name]; !own && systemd.Stopped(j.Units[name], u) {
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// stoppedText says which units were left stopped by a rollback.
func stoppedText(units []string) string {
	return fmt.Sprintf("units that ran before do not run after the rollback: %s", strings.Join(units, " "))
}
