package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

var (
	// ErrHosts says that a wave failed: more hosts than the budget allows, or the check.
	ErrHosts = errors.New("the wave failed")
	// ErrTime says that a wave did not pass in time.
	ErrTime = errors.New("the wave did not pass in time")
	// ErrOvertaken says that the remote holds something else by now.
	ErrOvertaken = errors.New("the rollout was overtaken")
	// ErrStopped says that another command has paused, halted or reverted the rollout.
	ErrStopped = errors.New("the rollout was stopped")
	// ErrNone says that the remote holds no rollout.
	ErrNone = errors.New("the remote holds no rollout that your keys vouch for")
)

// Remote is what a rollout asks of a remote. *store.Remote serves.
type Remote interface {
	fleet.Store
	publish.Remote
}

// Options of a rollout's command.
type Options struct {
	Remote    Remote
	Publisher *publish.Publisher // with rollout keys, unless the command only looks
	// Of is the release whose rollout it must be; nil: of any.
	Of *release.Manifest
	// Unvouched accepts a rollout whose progress nobody vouches for, as one that has not begun, and one that may have
	// replaced a newer one.
	Unvouched bool

	Budget      Budget
	WaveTimeout time.Duration // from when the command began to watch the wave; 0: a wave can take for ever
	Interval    time.Duration // between two looks
	// Check runs when a wave has passed, before the next is admitted. Its context ends with the wave's time, but not
	// within a minute. Nil: there is none.
	Check  func(ctx context.Context, wave int, release string) error
	Revert bool // a wave that fails reverts the rollout; otherwise it is halted
	// Say tells an operator what happens, one line at a time.
	Say func(string)
	// Show shows where the hosts stand, after each look at a step that has been watched for so long. Nil: Say tells it.
	Show func(watched time.Duration)
}

// A Rollout is one that a remote holds. Make it with Open.
type Rollout struct {
	Options
	last   publish.Last
	reader fleet.Reader
	tally  Tally
	said   string

	checked int64     // the step whose check has succeeded
	broken  error     // why the wave of the step stopped has failed
	stopped int64     // the step whose wave has failed
	failing time.Time // since when the remote cannot be read or written; zero if it can
}

// Open reads the rollout that the remote holds.
func Open(ctx context.Context, o Options) (*Rollout, error) {
	r := &Rollout{Options: o, reader: fleet.Reader{Store: o.Remote}}
	last, err := o.Publisher.Last(ctx, o.Remote)
	switch {
	case err != nil:
		return nil, err
	case o.Of != nil && (last.Release == nil || last.Release.Release != o.Of.Release || last.Release.Serial != o.Of.Serial):
		return nil, fmt.Errorf("%w: the remote holds %s instead of release %s with serial %d, which was just published", ErrOvertaken, Describe(last), publish.Short(o.Of), o.Of.Serial)
	case last.PutBack != nil:
		return nil, last.PutBack
	case last.Release == nil || last.Release.Rollout == nil:
		return nil, ErrNone
	case last.Unread != nil && o.Of == nil && !o.Unvouched:
		return nil, fmt.Errorf("whether the remote holds the last step is not known: %w; --force goes on with what it holds", last.Unread)
	case last.Unvouched != nil && !o.Unvouched:
		return nil, fmt.Errorf("how far the rollout has come is not known: %w; --rollout-signers FILE names the keys that have signed it, and --force goes on without it", last.Unvouched)
	}
	r.last = last

	return r, nil
}

// Manifest is the release's.
func (r *Rollout) Manifest() *release.Manifest { return r.last.Release.Manifest }

// Version is the object that the remote held last.
func (r *Rollout) Version() store.Version { return r.last.Version }

// Tally is where the hosts stood when they were last looked at.
func (r *Rollout) Tally() Tally { return r.tally }

// Progress is how far the rollout has come. A release without a progress that a trusted key has signed has not
// begun.
func (r *Rollout) Progress() release.Progress {
	if p := r.last.Progress; p != nil {
		return *p.Progress
	}

	return release.Progress{Release: r.Manifest().Release, Serial: r.Manifest().Serial, State: release.Running}
}

// Look reads the records, and says where the hosts stand.
func (r *Rollout) Look(ctx context.Context) (Tally, error) {
	entries, err := r.reader.Look(ctx)
	if err != nil {
		return Tally{}, err
	}
	p := r.Progress()
	r.tally = judge(r.Manifest(), &p, r.last.Version, r.Remote.URL(), entries)

	return r.tally, nil
}

// Step publishes the rollout with so many waves admitted, in that state.
func (r *Rollout) Step(ctx context.Context, admitted int, state release.Rollout) error {
	if err := r.writtenAgain(ctx); err != nil {
		return err
	}
	last, err := r.Publisher.Step(ctx, r.Remote, r.last, admitted, state)
	if errors.Is(err, store.ErrChanged) {
		if changed := r.reload(ctx); changed != nil {
			return changed
		}
		p := r.Progress()
		return fmt.Errorf("%w: another command came first; it is at step %d, %s, with %d waves admitted", ErrOvertaken, p.Step, p.State, p.Admitted)
	}
	if err != nil {
		return err
	}
	r.last = last
	r.Say(fmt.Sprintf("step %d: %s, %d of %d waves admitted", last.Progress.Step, state, admitted, len(r.Manifest().Rollout.Waves)))

	return nil
}

// writtenAgain returns an error if the object is what it was, but was written again since: of a step that came between,
// and that whoever put the object back would hide, only the store's versions can tell.
func (r *Rollout) writtenAgain(ctx context.Context) error {
	was := r.last
	now, err := r.Remote.Latest(ctx, store.Version{})
	if err != nil || now.ETag != was.Version.ETag || was.Version.Modified.IsZero() || now.Modified.Equal(was.Version.Modified) {
		return err
	}
	if err := r.reload(ctx); err != nil {
		return err
	}
	if p := r.Progress(); was.Progress == nil || p.Step != was.Progress.Step {
		return fmt.Errorf("an older step of the rollout was put back; it is at step %d, %s", p.Step, p.State)
	}

	return nil
}

// reload reads what the remote holds by now. A step that is older than the known one was put back, and does not count.
func (r *Rollout) reload(ctx context.Context) error {
	now, err := r.Publisher.Last(ctx, r.Remote)
	if err != nil {
		return err
	}
	if now.Release == nil || now.Release.Digest != r.last.Release.Digest {
		return fmt.Errorf("%w: the remote holds %s by now", ErrOvertaken, Describe(now))
	}
	if was := r.last.Progress; was != nil {
		switch {
		case now.Progress == nil:
			return fmt.Errorf("%w: your keys do not vouch for how far it has come by now: %w", ErrOvertaken, now.Unvouched)
		case now.Progress.Step < was.Step:
			now.Progress = was
		}
	}
	r.last = now

	return nil
}

// Describe says what a remote holds, for people.
func Describe(l publish.Last) string {
	switch {
	case l.Version.ETag == "":
		return "nothing"
	case l.PutBack != nil:
		return "an older release that was put back"
	case l.Release == nil:
		return fmt.Sprintf("the version %s, which your keys do not vouch for", fleet.Short(l.Version.ETag))
	}

	return fmt.Sprintf("release %s with serial %d, signed by %s", publish.Short(l.Release.Manifest), l.Release.Serial, l.Release.Keys[0])
}

// patience is for how long any error is borne, also one that lasts by its kind, such as credentials that have expired.
const patience = 5 * time.Minute

// Run takes the rollout through its waves until it is complete, or fails. Trouble with the store does not end it,
// unless it lasts for the wave's time, or is of a kind that does not pass.
func (r *Rollout) Run(ctx context.Context) error {
	began, watched := time.Now(), int64(0)
	for {
		err := r.refresh(ctx)
		if errors.Is(err, ErrOvertaken) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if p := r.Progress(); p.Step != watched {
			began, watched = time.Now(), p.Step
		}
		if err == nil {
			var done bool
			if done, err = r.proceed(ctx, time.Since(began)); done {
				return err
			}
		}
		if last := r.lasts(err, time.Since(began)); last != nil {
			return last
		}
		if err != nil {
			r.say("trying again: " + err.Error())
		}
		if !fleet.Sleep(ctx, r.Interval) {
			return ctx.Err()
		}
	}
}

// lasts returns the error that ends the command, if the remote could not be read or written for too long because of err.
func (r *Rollout) lasts(err error, watched time.Duration) error {
	if err == nil {
		r.failing = time.Time{}
		return nil
	}
	if r.failing.IsZero() {
		r.failing = time.Now()
	}
	switch {
	case time.Since(r.failing) < patience:
		return nil
	case errors.Is(err, ErrHosts), errors.Is(err, ErrTime): // of fail, which says why
		return err
	case hopeless(err), errors.Is(err, release.ErrSign):
		return fmt.Errorf("the rollout stands as it is: %w", err)
	case r.WaveTimeout > 0 && watched >= r.WaveTimeout:
		return fmt.Errorf("%w, and stands as it is: %w", ErrTime, err)
	}

	return nil
}

// refresh brings what is known of the remote and its hosts up to date.
func (r *Rollout) refresh(ctx context.Context) error {
	have := r.last.Version
	if have.Modified.IsZero() { // a store's answer to a publish can lack the time
		have = store.Version{}
	}
	v, err := r.Remote.Latest(ctx, have)
	switch {
	case err == nil && v.ETag == r.last.Version.ETag:
		r.last.Version = v
	case err == nil, errors.Is(err, store.ErrNotFound):
		err = r.reload(ctx)
	}
	if err == nil {
		_, err = r.Look(ctx)
	}

	return err
}

// proceed does what the rollout's state and its hosts ask for. Done says that there is nothing more to do.
func (r *Rollout) proceed(ctx context.Context, watched time.Duration) (done bool, err error) {
	p := r.Progress()
	waves := len(r.Manifest().Rollout.Waves)
	switch p.State {
	case release.Complete:
		return true, nil
	case release.Running:
	default:
		return true, fmt.Errorf("%w: it is %s", ErrStopped, p.State)
	}
	if p.Admitted == 0 {
		return r.stepped(ctx, 1, release.Running)
	}
	if r.broken != nil && r.stopped == p.Step { // it was not halted yet
		return r.fail(ctx, p.Admitted, r.broken)
	}

	if r.Show != nil {
		r.Show(watched)
	} else {
		r.report(p.Admitted, waves)
	}
	patient := watched < pollTime && (r.WaveTimeout == 0 || watched < r.WaveTimeout)
	switch r.Budget.verdict(r.tally, p.Admitted, patient) {
	case failed:
		return r.fail(ctx, p.Admitted, fmt.Errorf("%w: %d hosts failed, and %d can (--max-failed): %s",
			ErrHosts, r.tally.Count(Failed), r.Budget.Failed, r.tally.first(Failed)))
	case pending:
		if r.WaveTimeout > 0 && watched >= r.WaveTimeout {
			return r.fail(ctx, p.Admitted, fmt.Errorf("%w: after %s, %s", ErrTime, r.WaveTimeout, r.tally.missing()))
		}
		return false, nil
	}

	if r.Check != nil && r.checked != p.Step {
		return r.check(ctx, p, watched)
	}
	if p.Admitted == waves {
		return r.stepped(ctx, waves, release.Complete)
	}

	return r.stepped(ctx, p.Admitted+1, release.Running)
}

// check runs the check of a wave that has passed. The hosts are judged again after it: they can have failed meanwhile.
func (r *Rollout) check(ctx context.Context, p release.Progress, watched time.Duration) (done bool, err error) {
	within, cancel := context.WithCancel(ctx)
	if r.WaveTimeout > 0 {
		within, cancel = context.WithTimeout(ctx, max(r.WaveTimeout-watched, time.Minute))
	}
	defer cancel()

	err = r.Check(within, p.Admitted, p.Release)
	switch {
	case ctx.Err() != nil:
		return true, ctx.Err()
	case err != nil && within.Err() != nil:
		return r.fail(ctx, p.Admitted, fmt.Errorf("%w: the check did not end: %w", ErrTime, err))
	case err != nil:
		return r.fail(ctx, p.Admitted, fmt.Errorf("%w: the check: %w", ErrHosts, err))
	}
	r.checked = p.Step

	return false, nil
}

// stepped is Step for proceed: an error ends the rollout's command only if to try again cannot help.
func (r *Rollout) stepped(ctx context.Context, admitted int, state release.Rollout) (done bool, err error) {
	err = r.Step(ctx, admitted, state)

	return hopeless(err) || err == nil && state == release.Complete, err
}

// hopeless reports whether to try a step again cannot help.
func hopeless(err error) bool {
	for _, e := range []error{ErrOvertaken, store.ErrForbidden, store.ErrCredentials, store.ErrUnsafe, store.ErrUnconfirmed} {
		if errors.Is(err, e) {
			return true
		}
	}

	return false
}

// fail stops the rollout, and says why. If it cannot be stopped now, the wave has failed all the same.
func (r *Rollout) fail(ctx context.Context, admitted int, why error) (done bool, err error) {
	r.broken, r.stopped = why, r.Progress().Step
	state := release.Halted
	if r.Revert && r.Manifest().Rollout.Base != nil {
		state = release.Reverted
	}
	if err := r.Step(ctx, admitted, state); err != nil {
		return hopeless(err), errors.Join(why, fmt.Errorf("the rollout could not be stopped: %w", err))
	}

	return true, fmt.Errorf("%w; the rollout is %s", why, state)
}

// missing says whom a wave waited for.
func (t Tally) missing() string {
	if n := t.Count(Waiting); n > 0 {
		return fmt.Sprintf("%d hosts have not passed: %s", n, t.first(Waiting))
	}
	if n := t.Count(Silent); n > 0 {
		return "no host of the admitted waves was heard: " + t.first(Silent)
	}

	return "no host of the admitted waves was heard"
}

// first names the first hosts that stand so.
func (t Tally) first(s Standing) string {
	const shown = 5
	var said string
	n := 0
	for _, h := range t.Hosts {
		if h.Standing != s {
			continue
		}
		if n++; n > shown {
			continue
		}
		if said != "" {
			said += ", "
		}
		said += fleet.Clean(h.Name)
		if h.Why != "" {
			said += " (" + h.Why + ")"
		}
	}
	if n > shown {
		said += fmt.Sprintf(" and %d more", n-shown)
	}

	return said
}

// report says where the admitted waves stand, if that has changed.
func (r *Rollout) report(admitted, waves int) {
	r.say(fmt.Sprintf("wave %d of %d: %d passed, %d waiting, %d failed; %d held, %d silent", admitted, waves,
		r.tally.Count(Passed), r.tally.Count(Waiting), r.tally.Count(Failed), r.tally.Count(Held), r.tally.Count(Silent)))
}

// say says a line that was not said last.
func (r *Rollout) say(line string) {
	if line != r.said {
		r.said = line
		r.Say(line)
	}
}
