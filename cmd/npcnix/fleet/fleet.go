// Package fleet shows what the hosts of a remote run, by their records, and waits until they run a version.
//
// It promises to an operator and to a pipeline:
//   - A host is done only if its own record says that it runs exactly the awaited version, unless it is
//     judged by its queue. A host that says nothing is missing.
//   - No verdict depends on the clock of a host, or on how it compares with another clock.
//   - The store is read sparingly: one LIST per 1,000 records in an interval, and only records that have
//     changed. A store that does not answer is asked again, and its silence is never success.
//   - What a host wrote is shown without control characters, so it cannot control the terminal or a CI
//     system.
package fleet

import (
	"time"

	"github.com/npcnix/npcnix/store"
)

// Progress is where a fleet stands at a moment of a wait.
type Progress struct {
	Remote  string
	Version store.Version // that is awaited
	Release Release       // that the version is, as far as known
	Hosts   []Host        // in order of their names
	Need    int           // how many must be done

	Done, Failed, Missing int

	Elapsed, Timeout time.Duration
	Trouble          string // why the records cannot be read at present; empty if they can
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

// View shows a wait to an operator or a program. Its methods are called one at a time.
type View interface {
	// Update shows where the fleet stands; changed are the hosts that stand elsewhere than at
	// the last call. At the first call all hosts have.
	Update(p Progress, changed []Host)
	// Note says something about the wait itself.
	Note(msg string)
	// End shows how it ended.
	End(r Result)
}
