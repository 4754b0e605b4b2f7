package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

// Pulse is what a running agent knows and nothing else on disk tells: DATA_DIR/agent.json. It is for
// `npcnix status` and `npcnix doctor` to read; nothing depends on it, so it is not synced to disk.
type Pulse struct {
	Schema    int       `json:"schema"`
	PID       int       `json:"pid"`
	Started   time.Time `json:"started"`
	Version   string    `json:"agent_version,omitempty"`
	LastEvent time.Time `json:"last_event,omitzero"` // about this host's remote
	LastPoll  time.Time `json:"last_poll,omitzero"`  // look at the store that no event asked for
	LastLook  time.Time `json:"last_look,omitzero"`  // at the store, by whatever trigger
	Trigger   Trigger   `json:"trigger,omitempty"`   // of the last look
	ETag      string    `json:"etag,omitempty"`      // that the store held then; "" where it did not say
	Next      time.Time `json:"next,omitzero"`       // look or attempt, unless something happens before; zero: at work
	RebootDue string    `json:"reboot_due,omitempty"`
	RebootAt  time.Time `json:"reboot_at,omitzero"` // when the agent will restart the machine; zero: it will not
	// Hindered is why the last round came to nothing, where that was no fault of the version's.
	Hindered string `json:"hindered,omitempty"`
	// Parts tells what works and what does not: "queue", "lease", "store", "record", "config". What
	// was not tried yet is not in it.
	Parts map[string]Health `json:"parts,omitempty"`
}

// Health says since when a part of an agent works, or does not.
type Health struct {
	Works bool      `json:"works"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`

	kind string // of the error: those of AWS differ each time, in their request ids
}

const (
	pulseSchema = 1
	pulseFile   = "agent.json"
	pulsePace   = time.Second // between two writes
)

// pulseParts are the names in Pulse.Parts of what the reporter is told of.
var pulseParts = map[string]string{
	"queue": "queue", "record": "record", "config": "config", "lease": "lease",
	byStore: "store",
}

// ReadPulse returns what the agent wrote last, and whether that agent still runs. Without a file the pulse
// is zero; one that cannot be read is an error, and running is right all the same.
func ReadPulse(d config.Dir) (p Pulse, running bool, err error) {
	running, err = d.Following()
	if err != nil {
		return Pulse{}, false, err
	}
	data, err := os.ReadFile(d.Path(pulseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Pulse{}, running, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err == nil && p.Schema != pulseSchema {
		err = fmt.Errorf("schema %d is not the one that this npcnix reads (%d)", p.Schema, pulseSchema)
	}
	if err != nil {
		return Pulse{}, running, fmt.Errorf("read %s: %w", pulseFile, err)
	}
	return p, running, nil
}

// pulse writes agent.json: on change, and at most once a second. A nil pulse does nothing.
type pulse struct {
	dir     config.Dir
	changed chan struct{} // holds one when there is something to write

	mu  sync.Mutex
	now Pulse
}

func newPulse(dir config.Dir, version string) *pulse {
	p := &pulse{dir: dir, changed: make(chan struct{}, 1)}
	p.now = Pulse{Schema: pulseSchema, PID: os.Getpid(), Started: time.Now().UTC(), Version: version}
	p.changed <- struct{}{}
	return p
}

func (p *pulse) update(change func(*Pulse)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.now
	before.Parts = maps.Clone(before.Parts)
	change(&p.now)
	if reflect.DeepEqual(before, p.now) {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default: // somebody is about to write it
	}
}

// part takes note of whether a part works; err is nil if it does.
func (p *pulse) part(what string, err error) {
	name := pulseParts[what]
	if name == "" {
		return
	}
	p.update(func(now *Pulse) {
		h := Health{Works: err == nil, Since: time.Now().UTC()}
		if err != nil {
			h.Error, h.kind = err.Error(), errorKind(err)
		}
		was, known := now.Parts[name]
		if known && was.Works == h.Works {
			if was.kind == h.kind && (was.Error == h.Error || h.kind != otherKind) {
				return
			}
			h.Since = was.Since
		}
		if now.Parts == nil {
			now.Parts = map[string]Health{}
		}
		now.Parts[name] = h
	})
}

// looked takes note of a round that has ended.
func (p *pulse) looked(r *round, out outcome, rebootAt time.Time) {
	if out.kind == outcomeStopped {
		return
	}
	p.update(func(now *Pulse) {
		now.RebootDue, now.RebootAt, now.Hindered = r.reboot, rebootAt, ""
		if out.kind == outcomeHindered {
			now.Hindered = out.err.Error()
		}
		var h hindrance
		if r.target.ETag == "" && !(errors.As(out.err, &h) && h.by == byStore) {
			return // the store was not asked
		}
		now.LastLook, now.Trigger, now.ETag = r.times.Noticed.UTC(), r.trigger, r.target.ETag
		if r.trigger != TriggerEvent {
			now.LastPoll = now.LastLook
		}
	})
}

// next takes note of when the agent will look again.
func (p *pulse) next(at time.Time) {
	p.update(func(now *Pulse) {
		now.Next = time.Time{}
		if !at.IsZero() {
			now.Next = at.UTC().Truncate(time.Second)
		}
	})
}

// run writes until ctx ends, and then what is left to write. What cannot be written is left: who reads
// it finds an agent that runs and says nothing.
func (p *pulse) run(ctx context.Context) {
	for {
		select {
		case <-p.changed:
			p.write()
			sleep(ctx, pulsePace)
			continue
		case <-ctx.Done():
		}
		select {
		case <-p.changed:
			p.write()
		default:
		}
		return
	}
}

func (p *pulse) write() {
	p.mu.Lock()
	data, err := json.MarshalIndent(p.now, "", "  ")
	p.mu.Unlock()
	if err != nil {
		return
	}
	// Renamed, so that nobody reads half of it.
	next := p.dir.Path("." + pulseFile)
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err == nil {
		_ = os.Rename(next, p.dir.Path(pulseFile))
	}
}
