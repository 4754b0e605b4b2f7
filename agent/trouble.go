package agent

import (
	"time"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
)

// tellTrouble keeps what the record says of trouble up to date: a transient error, or a config.json that
// cannot be used. The rest of the record stays as it is.
func (a *Agent) tellTrouble(r *round, res result) {
	var trouble *record.Trouble
	switch {
	case res.ending == overtaken, res.ending == terminated:
		return
	case res.ending == transient:
		trouble = a.troubled(codeOf(res.err), res.err, r.times.Noticed)
	case r.unusable != nil:
		trouble = a.troubled(health.Config, r.unusable, r.times.Noticed)
	}

	a.trouble = trouble
	if trouble != nil && !a.record.Has() {
		a.put(a.standing(r))
	}
	a.record.SetTrouble(trouble)
}

// lookedMeanwhile tells of a look at the store beside a download or a build, which waits for nothing that the store
// has. The round does not use what this changes until its work has ended.
func (a *Agent) lookedMeanwhile(err error) {
	if err != nil {
		a.monitor.Failing(health.Store, err)
	} else {
		a.monitor.Working(health.Store)
	}

	if a.trouble != nil && a.trouble.Kind != string(health.Store) {
		return // there is other trouble, of which the round will tell
	}
	var trouble *record.Trouble
	if err != nil {
		trouble = a.troubled(health.Store, err, time.Now())
	}
	a.trouble = trouble
	a.record.SetTrouble(trouble)
}

// troubled returns the trouble that err makes: the present one, if that is of the same kind, or one that
// began at the given time.
func (a *Agent) troubled(code health.Code, err error, began time.Time) *record.Trouble {
	t := record.Trouble{Since: began.UTC(), Kind: string(code), Error: record.Bounded(err.Error(), record.MaxError)}
	if a.trouble != nil && a.trouble.Kind == t.Kind {
		t.Since = a.trouble.Since
	}

	return &t
}

// standing is the record of a host of which this process has put none yet: what the agent remembers. A host
// that remembers nothing is about to build what it cannot get.
func (a *Agent) standing(r *round) record.Record {
	s, err := ReadState(a.Dir) // the round may have ended before it was read
	if err != nil {
		s = r.state
	}

	about := *r
	about.state, about.config = s, a.config
	about.target = Target{Remote: a.config.Remote, Configuration: a.config.Configuration}
	switch {
	case s.Intent != nil:
		about.target, about.attempt = s.Intent.Target, s.Intent.Attempt
		return a.recordOf(&about, s.Intent.Status)
	case s.Failure != nil:
		about.target = s.Failure.Target
		return a.recordOf(&about, s.Failure.Status())
	case s.Applied != nil:
		about.target = s.Applied.Target
		return a.recordOf(&about, record.Applied)
	}

	return a.recordOf(&about, record.Building)
}
