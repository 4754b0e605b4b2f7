package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// finishGrace is how long records and messages may take after the agent was told to end.
const finishGrace = 2 * time.Second

// finish ends a round, whatever came of it: it saves the memory, writes the record, logs, runs the hook
// that is due, and disposes of the messages, in this order. A step that fails is reported, and keeps none
// of the others from being made.
func (a *Agent) finish(ctx context.Context, r *round, res result) result {
	rule := endings[res.ending]
	if res.ending != overtaken && res.ending != terminated {
		a.watchOver(r)
	}

	var rec record.Record
	if rule.record {
		a.lookAtBoot(context.WithoutCancel(ctx), r)
		rec = a.recordOf(r, res.ending.status())
		if res.ending == refused || res.ending == held {
			rec.Error = record.Bounded(res.err.Error(), record.MaxError)
		}
		a.markRenamed(ctx, r, rec)
		a.tellFailure(ctx, r, rec)
	}
	_ = a.save(r) // reported
	if rule.record {
		a.put(rec)
	}
	a.tellTrouble(r, res)
	a.log(r, res, rule)
	a.runHook(ctx, r)
	a.dispose(ctx, res, rule)
	a.observe(r, res)
	a.measure(ctx, r, res)

	return res
}

// markRenamed says in the record that the host had under another name what its name is now. Each process tries
// that once.
func (a *Agent) markRenamed(ctx context.Context, r *round, rec record.Record) {
	before := r.state.Host
	if a.Once != "" || a.marked || before == a.Name {
		return
	}
	a.marked = true
	if before != "" {
		rec.RenamedTo = a.Name
		if err := record.Write(ctx, a.Store, before, rec); err != nil {
			a.Log.Warn("the record of the host's earlier name cannot be marked; delete it", "host", before, "error", err)
			return
		}
		a.Log.Info("the host has another name; its earlier record says so", "host", a.Name, "before", before)
	}
	r.move(r.state.named(a.Name))
}

// save makes the round's state durable, if it has changed. If it cannot be written, the next round finds
// out what is left to do.
func (a *Agent) save(r *round) error {
	if !r.changed {
		return nil
	}
	if err := saveState(a.Dir, r.state); err != nil {
		a.monitor.Failing(health.State, err)
		return transientError{health.State, err}
	}
	r.changed = false
	a.monitor.Working(health.State)

	return nil
}

// recordOf is what the host says about the round's target.
func (a *Agent) recordOf(r *round, s record.Status) record.Record {
	policy := r.config.Policy("")
	rec := record.Record{
		Remote: store.Redact(r.target.Remote), Configuration: r.target.Configuration,
		Version: recordVersion(r.target),
		Signers: policy.Signers.Fingerprints(),
		Status:  s, System: r.running.Path, Trigger: r.trigger, Attempt: r.attempt,
		Agent: a.Version, Times: r.times, RebootDue: r.rebootDue != "", OnlyNews: r.config.RecordRefresh() == 0,
	}
	if len(rec.Signers) > 0 && policy.Required > 1 {
		rec.SignersRequired = policy.Required
	}
	if s != record.Building && s != record.Activating {
		rec.Times.Acknowledged = time.Now()
	}
	if a := r.state.Applied; a != nil && a.System != "" && a.System == r.countsAs().Path {
		v := recordVersion(a.Target)
		rec.Running = &v
	}
	rec.Warning = record.Bounded(r.standingWarning(), record.MaxError)

	switch f, applied := r.state.Failure, r.state.Applied; {
	case s == record.Applied && applied != nil:
		rec.PreviousSystem, rec.Changes = applied.Previous, applied.Changes
		if r.specialisation() == "" {
			rec.System = applied.System
		}
		rec.Trigger, rec.Attempt, rec.Times = applied.Trigger, applied.Attempt, applied.Times
		if applied.Warning != "" && !r.state.NeedsRepair {
			rec.Warning = record.Bounded(strings.TrimPrefix(rec.Warning+"; "+applied.Warning, "; "), record.MaxError)
		}
	case s == record.RebootPending && r.state.Intent != nil:
		in := r.state.Intent
		rec.Trigger, rec.Attempt, rec.Times = in.Trigger, in.Attempt, in.Times
	case f != nil && s == f.Status():
		rec.Attempt, rec.Error, rec.LogTail = f.Attempts, record.Bounded(f.Error, record.MaxError), record.BoundedTail(f.Tail, record.MaxTail)
		if !f.Times.Acknowledged.IsZero() {
			rec.Times = f.Times
		}
	}

	return rec
}

// standingWarning is what is worth telling of the host, whatever its version; "" for nothing.
func (r *round) standingWarning() string {
	var said []string
	switch {
	case r.state.NeedsRepair:
		said = append(said, "the rollback of an activation failed: what runs or boots might not be what it should")
	case r.specialisation() != "":
		said = append(said, fmt.Sprintf("specialisation %s of the applied version runs", r.specialisation()))
	case r.bootsOther:
		said = append(said, "the boot default is not the system that runs: an operator has changed one of them")
	}
	if a := r.state.Applied; a != nil && (a.Same(r.target) || r.target.ETag == "") && a.Expiring(time.Now()) {
		said = append(said, a.ExpiryWarning())
	}
	if len(r.bootFailures) > 0 {
		said = append(said, "the boot's activation failed in part: "+strings.Join(r.bootFailures, ", "))
	}

	return strings.Join(said, "; ")
}

func recordVersion(t Target) record.Version {
	return record.Version{ETag: t.ETag, ID: t.VersionID, Release: t.Release, Rev: t.Rev, Message: t.Message, Serial: t.Serial}
}

// log says how the round ended, in the log and to the service manager.
func (a *Agent) log(r *round, res result, rule rule) {
	if res.ending == transient {
		a.monitor.Failing(codeOf(res.err), res.err)
	}
	switch res.ending {
	case refused:
		a.monitor.Failing(health.Trust, res.err)
	case drifted:
		a.monitor.Failing(health.Drift, res.err)
	case reached:
		a.monitor.Working(health.Drift)
		if !res.left {
			a.monitor.Working(health.Fetch, health.Machine)
		}
	}
	a.tell(r, res)

	level := rule.level
	if res.left {
		level = slog.LevelDebug // it was logged when it came about
	}
	switch res.ending {
	case overtaken:
		level = a.firstTime(rule.says, r)
	case transient, terminated:
	default:
		a.logged = nil
	}
	if rule.says == "" {
		return
	}
	args := []any{"configuration", r.target.Configuration, "etag", r.target.ETag, "trigger", r.trigger}
	if res.system != "" {
		args = append(args, "system", res.system, "activated", res.fresh, "after", res.after.Round(time.Millisecond))
	}
	if r.attempt > 0 {
		args = append(args, "attempt", r.attempt)
	}
	if res.ending == failed {
		args = append(args, "next", res.next.Format(time.RFC3339))
	}
	if res.err != nil {
		args = append(args, "error", res.err)
	}
	a.Log.Log(context.Background(), level, rule.says, args...)
}

// work is an attempt at a target, as an operator asked for it.
type work struct {
	attempt
	token string
}

// firstTime is the level of a line about the work on the round's target. It is info once: transient errors can end
// the work, and have it begin, again and again.
func (a *Agent) firstTime(line string, r *round) slog.Level {
	w := work{attempt{target: r.target, number: r.attempt}, r.config.RetryToken}
	if a.logged[line] == w {
		return slog.LevelDebug
	}
	if a.logged == nil {
		a.logged = map[string]work{}
	}
	a.logged[line] = w

	return slog.LevelInfo
}

// runHook runs the hook that is due, if there is one. That it failed is logged and changes nothing. A hook
// that is interrupted stays due.
func (a *Agent) runHook(ctx context.Context, r *round) {
	h := r.state.Hook
	if h == nil {
		return
	}

	if len(h.Command(r.config.Hooks)) > 0 {
		if _, err := h.Do(ctx, r.config, a.Log); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.Log.Error("the hook failed", "hook", h.Name, "error", err)
		}
	}

	r.move(r.state.hookDone())
	_ = a.save(r) // reported; the hook runs once more then
}

// dispose does with the round's messages what its ending says. The record comes first: whoever sees that a
// message is gone may read it.
func (a *Agent) dispose(ctx context.Context, res result, rule rule) {
	if ctx.Err() != nil { // what is done is acknowledged all the same
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishGrace)
		defer cancel()
		ctx = bounded
	}

	if rule.messages == inbox.Acknowledge {
		a.flush(ctx)
		a.pause.Reset()
	}
	by := time.Until(res.next)
	if res.ending == paused {
		by = startedLook // not at once: a poll that is still in the air would have them again
	}
	a.inbox.Finish(ctx, rule.messages, by)
}

// flush gives the record a moment to be written. One that takes longer holds up nothing, and is written
// later.
func (a *Agent) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, finishGrace)
	defer cancel()
	a.record.Flush(ctx)
}

// observe takes note of the round for agent.json.
func (a *Agent) observe(r *round, res result) {
	if res.ending == terminated || res.ending == overtaken {
		return
	}

	if !r.unread() {
		a.ran = r.running.Path
	}
	a.monitor.Update(func(now *health.Health) {
		now.TransientError = ""
		if !r.unread() {
			now.RebootDue, now.RebootAt, now.Held = r.rebootDue, a.reboot.At, ""
		}
		if res.ending == held {
			now.Held = res.err.Error()
		}
		if res.ending == transient {
			now.TransientError = res.err.Error()
		}
		var t transientError
		if r.target.ETag == "" && !(errors.As(res.err, &t) && t.code == health.Store) {
			return // the store was not asked
		}
		now.LastLook, now.Trigger, now.ETag = r.times.Noticed.UTC(), r.trigger, r.target.ETag
		if r.trigger != record.Event {
			now.LastPoll = now.LastLook
		}
	})
}
