package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Row is what the fleet's records say of one host.
type Row struct {
	Host          string `json:"host"`
	Configuration string `json:"configuration,omitempty"`
	Running       string `json:"running,omitempty"` // the ETag of the version that runs; "" if that is unknown
	Wanted        string `json:"wanted,omitempty"`  // the ETag of the version that its record is about
	// The releases that these are, and the revisions of their source, if they have a manifest that names them.
	RunningRelease string `json:"running_release,omitempty"`
	WantedRelease  string `json:"wanted_release,omitempty"`
	RunningRev     string `json:"running_rev,omitempty"`
	WantedRev      string `json:"wanted_rev,omitempty"`
	Message        string `json:"wanted_message,omitempty"` // what the publisher says of the wanted version
	// Wave is the one of the remote's present release that has this host, from 1, and Waves is how many there are; 0:
	// it is no rollout.
	Wave        int       `json:"wave,omitempty"`
	Waves       int       `json:"waves,omitempty"`
	Status      string    `json:"status"`
	Why         string    `json:"why,omitempty"`
	Error       string    `json:"error,omitempty"`
	Behind      bool      `json:"behind"`                // it is not known to run the remote's present version
	BehindBy    *seconds  `json:"behind_secs,omitempty"` // how long that version has been there
	Heard       time.Time `json:"last_heard"`            // by the store's clock
	Silent      bool      `json:"silent"`                // it was not heard for too long
	System      string    `json:"system,omitempty"`
	RebootDue   bool      `json:"reboot_due"`
	Warning     string    `json:"warning,omitempty"`      // about the host, whatever it runs
	Trouble     string    `json:"trouble,omitempty"`      // what keeps the host from its work, and since when
	Unhealthy   string    `json:"unhealthy,omitempty"`    // why what runs is not healthy, though it was verified
	HealthySecs int64     `json:"healthy_secs,omitempty"` // for how long it was healthy, once its rollout wants no more
	Agent       string    `json:"agent_version,omitempty"`
}

// Roster tells what the records of a remote say.
type Roster struct {
	Store Store
	// Stale is how long ago a host may have been heard last without being called silent.
	Stale time.Duration
	// WavesOf reads in which waves hosts take a version; nil: that is not told.
	WavesOf func(ctx context.Context, v store.Version) (Waves, error)

	records records
	present store.Version
	waves   Waves
	planned string // the ETag of the version that they are of
}

// Waves tells which wave of a rollout has a host, from 1. The zero Waves is that of a version that all hosts take at once.
type Waves struct {
	Count int
	Of    func(host, configuration string) int
}

// plan reads the waves of a version. If they cannot be read, all else is shown, and the next look asks again.
func (r *Roster) plan(ctx context.Context, v store.Version) {
	if v.ETag == r.planned || r.WavesOf == nil {
		return
	}
	r.waves, r.planned = Waves{}, ""
	if v.ETag == "" {
		return
	}
	if waves, err := r.WavesOf(ctx, v); err == nil {
		r.waves, r.planned = waves, v.ETag
	}
}

// Look reads the records that changed since the last look and returns a row for each host, in
// order of their names, and the version that the remote holds; zero where nothing was published.
func (r *Roster) Look(ctx context.Context) ([]Row, store.Version, error) {
	if r.records.known == nil {
		r.records = records{store: r.Store, known: map[string]entry{}}
	}
	now, err := r.Store.Latest(ctx, r.present)
	if errors.Is(err, store.ErrNotFound) {
		now, err = store.Version{}, nil // that a bucket is missing shows at its records
	}
	if err != nil {
		return nil, store.Version{}, err
	}
	r.present = now
	if err := r.records.refresh(ctx, nil); err != nil {
		return nil, store.Version{}, err
	}
	r.plan(ctx, now)
	moment, release := time.Now(), r.records.release(now.ETag).ID
	var rows []Row
	for host, e := range r.records.known {
		h := r.records.standing(host, r.Store.URL(), now, release)
		row := Row{
			Host: host, Status: h.State, Why: h.Why, Heard: h.Heard, Behind: now.ETag != "" && h.Verdict != Done,
			Silent: moment.Sub(h.Heard) > r.Stale,
		}
		if row.Behind && !now.Modified.IsZero() {
			row.BehindBy = secondsOf(max(0, moment.Sub(now.Modified)))
		}
		if e.record != nil {
			row.Silent = row.Silent && !e.record.OnlyNews
			row.tell(h.State, e.record, r.waves)
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Host, b.Host) })
	return rows, now, nil
}

// tell adds what the host's record says. State is where it stands with the remote's present version.
func (r *Row) tell(state string, says *record.Record, waves Waves) {
	runs, wants := says.Runs(), says.Version
	r.Configuration, r.System = clean(says.Configuration), clean(says.System)
	r.Running, r.RunningRelease, r.RunningRev = clean(runs.ETag), clean(runs.Release), clean(runs.Rev)
	r.Wanted, r.WantedRelease, r.WantedRev = clean(wants.ETag), clean(wants.Release), clean(wants.Rev)
	r.Message, r.Error, r.RebootDue, r.Agent = clean(wants.Message), says.Error, says.RebootDue, clean(says.Agent)
	r.Warning, r.Trouble = clean(says.Warning), troubleOf(says)
	r.Unhealthy, r.HealthySecs = firstLine(says.Unhealthy), says.HealthySecs
	if state != Elsewhere && state != Renamed {
		r.Status = clean(string(says.Status))
		if waves.Count > 0 {
			r.Wave, r.Waves = waves.Of(says.Host, says.Configuration), waves.Count
		}
	}
	if state == Behind {
		r.Why = firstLine(says.Error)
	}
	if r.Trouble != "" {
		r.Why = strings.TrimSuffix(strings.TrimSuffix(r.Why, r.Trouble), ", ") // said by itself
	}
}

// Watch looks again and again until ctx ends, which is no error, and shows rows among all of them. With
// onlyChanged these are only those that say something new, and nothing is shown while there are none;
// that a host's record is gone is told to warn. So is that the store does not answer, once; it is asked
// again.
func (r *Roster) Watch(ctx context.Context, interval time.Duration, onlyChanged bool, show func(rows, all []Row, now store.Version) error, warn func(string)) error {
	shown := map[string]string{} // what was last shown of each host
	failing, seen := false, false
	for {
		all, now, err := r.Look(ctx)
		rows := all
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && permanent(err) && !seen: // what worked comes back
			return err
		case err != nil:
			if !failing {
				warn("the records cannot be read, trying again: " + err.Error())
			}
		default:
			seen = true
			if onlyChanged {
				rows = slices.DeleteFunc(slices.Clone(all), func(row Row) bool {
					is := row.news()
					was := shown[row.Host]
					shown[row.Host] = is
					return is == was
				})
				for _, host := range slices.Sorted(maps.Keys(shown)) {
					if !slices.ContainsFunc(all, func(row Row) bool { return row.Host == host }) {
						delete(shown, host)
						warn("the record of " + host + " is gone")
					}
				}
			}
			if len(rows) > 0 || !onlyChanged {
				if err := show(rows, all, now); err != nil {
					return err
				}
			}
		}
		failing = err != nil
		if !Sleep(ctx, interval) {
			return nil
		}
	}
}

// news is what of a row is worth a line: all but what changes with time alone.
func (r Row) news() string {
	return fmt.Sprint(r.Configuration, "\n", r.Running, "\n", r.Wanted, "\n", r.Status, "\n", r.Why, "\n", r.Behind, r.Silent, r.System, r.RebootDue, r.Warning, "\n", r.Trouble,
		"\n", r.Wave, r.Unhealthy, "\n", r.HealthySecs > 0)
}
