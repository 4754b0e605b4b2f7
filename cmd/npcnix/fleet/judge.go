package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Verdict is what a gate makes of a host.
type Verdict string

const (
	Missing Verdict = "missing" // it is not known to run the version: not yet, or never
	Done    Verdict = "done"    // it runs the version
	Failed  Verdict = "failed"  // it said that it could not run the version
)

// States that a host can be in besides those of its record.
const (
	Unheard    = "unheard"    // it has no record
	Silent     = "silent"     // it was heard, but not of late
	Behind     = "behind"     // its record is about another version
	Elsewhere  = "elsewhere"  // its record is about another remote
	Renamed    = "renamed"    // it has another record by now, under another name
	Unreadable = "unreadable" // its record is damaged, or newer than this program understands
)

// StaleAfter is how long a host can say nothing before it is silent. Agents write their record every hour.
const StaleAfter = 2 * time.Hour

// Host is where one host stands.
type Host struct {
	Name    string
	Verdict Verdict
	State   string         // of its record, or one of those above
	Why     string         // a few words for a person; can be empty
	Record  *record.Record // as last read; nil if there is none that can be read
	// Heard is when its record was last written, by the store's clock; zero if there is none.
	Heard time.Time
	// Since is when it was first seen so by this process.
	Since time.Time
	// Took is how long after the publish its record said so, by the store's clock alone; see
	// Latency. Timed tells whether that is known.
	Took  time.Duration
	Timed bool
	// Queue is the transport's own view; nil if it is not read.
	Queue *Queue
}

// same reports whether a reader of one line per change would be told nothing new.
func (h Host) same(o Host) bool {
	return h.Verdict == o.Verdict && h.State == o.State && h.Why == o.Why && h.attempt() == o.attempt()
}

func (h Host) attempt() int {
	if h.Record == nil {
		return 0
	}
	return h.Record.Attempt
}

// decode reads a record, strictly enough that nothing else passes for one.
func decode(host string, body []byte) (*record.Record, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, fmt.Errorf("damaged record: %w", err)
	}
	if head.Schema > record.Schema {
		return nil, fmt.Errorf("record of schema %d: this npcnix understands %d, so use a newer one", head.Schema, record.Schema)
	}
	r, err := record.Parse(body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("damaged record: %w", err)
	case r.Schema < 1 || r.Status == "":
		return nil, fmt.Errorf("damaged record: it names no schema or status")
	case r.Host != host:
		return nil, fmt.Errorf("damaged record: it speaks of host %q", clean(r.Host))
	}
	return &r, nil
}

// judge tells where a host stands with one version of a remote, from its record alone. A
// record counts for exactly the version it names, and clocks play no part. A host that runs the release, as another
// publish of it, is done: it has nothing to do. What else it says of that publish does not count. A host that runs the
// base of the version's rollout instead is missing.
func judge(host string, r *record.Record, remote, etag, release string) Host {
	if r != nil && release != "" && r.Status == record.Applied && r.Version.Release == release {
		etag = r.Version.ETag
	}
	h := judgeVersion(host, r, remote, etag)
	if h.Verdict == Done && release != "" && r.Version.Release != "" && r.Version.Release != release {
		h.Verdict, h.State, h.Why = Missing, Behind, "it runs the base of the rollout"
	}
	if trouble := troubleOf(r); h.Verdict == Missing && trouble != "" {
		h.Why = strings.TrimPrefix(h.Why+", "+trouble, ", ")
	}
	return h
}

func judgeVersion(host string, r *record.Record, remote, etag string) Host {
	h := Host{Name: host, Verdict: Missing, Record: r}
	switch {
	case r == nil:
		h.State = Unheard
		return h
	case r.RenamedTo != "":
		h.State, h.Why = Renamed, "its name is "+clean(r.RenamedTo)+" now"
		return h
	case !store.SameObject(r.Remote, remote):
		h.State, h.Why = Elsewhere, "it follows "+clean(store.Redact(r.Remote))
		return h
	case r.Status == record.Paused: // it does not look at versions
		h.State, h.Why = string(record.Paused), clean(r.Error)
		if h.Why == "" {
			h.Why = "paused by its operator"
		}
		return h
	case r.Version.ETag != etag:
		h.State, h.Why = Behind, fmt.Sprintf("%s %s", inWords(clean(string(r.Status))), Short(r.Version.ETag))
		return h
	}
	h.State = clean(string(r.Status))
	switch h.State {
	case string(record.Applied):
		h.Verdict = Done
	case string(record.Failed), string(record.Rejected), string(record.RolledBack):
		h.Verdict, h.Why = Failed, firstLine(r.Error)
	case string(record.Held):
		h.Why = firstLine(r.Error)
	case string(record.RebootPending):
		h.Why = "a reboot is due"
	case string(record.Drifted):
		h.Why = "an operator has switched it to something else"
	}
	return h
}

// troubleOf says what keeps a host from its work, if its record tells of that.
func troubleOf(r *record.Record) string {
	if r == nil || r.Trouble == nil {
		return ""
	}
	return "trouble since " + r.Trouble.Since.UTC().Format(time.RFC3339) + ": " + firstLine(r.Trouble.Error)
}

// unreadable is a host whose record tells nothing.
func unreadable(host string, err error) Host {
	return Host{Name: host, Verdict: Missing, State: Unreadable, Why: clean(err.Error())}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return clean(line)
}

// Short is an ETag as people tell versions apart.
func Short(etag string) string {
	etag = clean(etag)
	if len(etag) > 12 {
		return etag[:12]
	}
	return etag
}
