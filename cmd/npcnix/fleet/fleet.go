// Package fleet tells what the hosts of a remote are said to run, and waits until they run a
// version.
//
// It promises to an operator and to a pipeline: a host counts as done only when its own record
// says that it runs exactly the version that is awaited (unless it is judged by its queue), and one that says nothing counts as
// missing, never as fine. No verdict depends on a clock of a host or on how it compares with
// another one. The store is read sparingly: one LIST per 1,000 records in an interval, and only
// records that have changed. A store that does not answer for a while is asked again; what that
// hides is never taken for success.
//
// What a host wrote is shown without control characters: it cannot speak to the terminal or to
// a CI system.
package fleet

import (
	"time"

	"github.com/npcnix/npcnix/store"
)

// Progress is where a fleet stands at a moment of a wait.
type Progress struct {
	Remote  string
	Version store.Version // that is awaited
	Hosts   []Host        // in order of their names
	Need    int           // how many must be done

	Done, Failed, Missing int

	Elapsed, Timeout time.Duration
	Trouble          string // why the fleet cannot be seen at present; empty if it can
}

// count fills in the sums.
func (p *Progress) count() {
	p.Done, p.Failed, p.Missing = 0, 0, 0
	for _, h := range p.Hosts {
		switch h.Verdict {
		case Done:
			p.Done++
		case Failed:
			p.Failed++
		default:
			p.Missing++
		}
	}
}

// View shows a wait to somebody. Its methods are called one at a time.
type View interface {
	// Update shows where the fleet stands; changed are the hosts that stand elsewhere than at
	// the last call. At the first call all hosts have.
	Update(p Progress, changed []Host)
	// Note says something about the wait itself.
	Note(msg string)
	// End shows how it ended.
	End(r Result)
}
