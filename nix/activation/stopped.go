package activation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// startStopped starts what ran before the activation, what the previous system has, and what its switch
// has not started again: units that no target wants, as they were started by an operator, by D-Bus or as
// an instance of a template. It returns those that do not run all the same.
func (w *worker) startStopped(ctx context.Context, running nix.System) []string {
	if running.Path != w.Previous {
		return nil // an operator's system runs
	}
	stopped, err := w.stopped(ctx)
	if err != nil || len(stopped) == 0 {
		return nil // what cannot be told is not to fail a rollback
	}
	w.log.Info("starting units that ran before and that no target wants", "units", strings.Join(stopped, " "))
	if err := systemd.Systemctl(ctx, append([]string{"start", "--"}, stopped...)...); err != nil {
		w.log.Warn("units that ran before could not be started", "error", err)
	}
	stopped, err = w.stopped(ctx)
	if err != nil {
		return nil
	}
	return stopped
}

// stopped returns the units that ran before, and do not now though the running system has them.
func (w *worker) stopped(ctx context.Context) ([]string, error) {
	if w.Units == nil {
		return nil, nil // of an older npcnix, or of another boot
	}
	now, err := systemd.Units(ctx, w.Ran...)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range w.Ran {
		if u := now[name]; systemd.Stopped(w.Units[name], u) && !systemd.Match([]string{workerUnit + "*", timerUnit + "*", w.AgentUnit}, name) {
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
