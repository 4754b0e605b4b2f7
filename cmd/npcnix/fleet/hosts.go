package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/store"
)

// Row is what the fleet's records say of one host.
type Row struct {
	Host          string    `json:"host"`
	Configuration string    `json:"configuration,omitempty"`
	ETag          string    `json:"etag,omitempty"`
	State         string    `json:"state"`
	Why           string    `json:"why,omitempty"`
	Error         string    `json:"error,omitempty"`
	Behind        bool      `json:"behind"`                // it is not known to run the remote's present version
	BehindBy      *seconds  `json:"behind_secs,omitempty"` // how long that version has been there
	Heard         time.Time `json:"last_heard"`            // by the store's clock
	Silent        bool      `json:"silent"`                // not heard for longer than it should be
	System        string    `json:"system,omitempty"`
	RebootDue     bool      `json:"reboot_due"`
	Warning       string    `json:"warning,omitempty"` // about the host, whatever it runs
	Agent         string    `json:"agent_version,omitempty"`
}

// Roster tells what the records of a remote say.
type Roster struct {
	Store Store
	// Stale is how long ago a host may have been heard last without being called silent.
	Stale time.Duration

	records records
	present store.Version
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
	moment := time.Now()
	var rows []Row
	for host, e := range r.records.known {
		h := r.records.standing(host, r.Store.URL(), now)
		row := Row{
			Host: host, State: h.State, Why: h.Why, Heard: h.Heard, Behind: now.ETag != "" && h.Verdict != Done,
			Silent: moment.Sub(h.Heard) > r.Stale,
		}
		if row.Behind && !now.Modified.IsZero() {
			row.BehindBy = secondsOf(max(0, moment.Sub(now.Modified)))
		}
		if record := e.record; record != nil {
			row.State = clean(string(record.Status))
			row.Configuration, row.ETag, row.System = clean(record.Configuration), clean(record.Version.ETag), clean(record.System)
			row.Error, row.RebootDue, row.Agent = record.Error, record.RebootDue, clean(record.Agent)
			row.Warning = clean(record.Warning)
			if h.State == Behind {
				row.Why = ""
			}
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Host, b.Host) })
	return rows, now, nil
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
		if !sleep(ctx, interval) {
			return nil
		}
	}
}

// news is what of a row is worth a line: all but what changes with time alone.
func (r Row) news() string {
	return fmt.Sprint(r.Configuration, "\n", r.ETag, "\n", r.State, "\n", r.Why, "\n", r.Behind, r.Silent, r.System, r.RebootDue, r.Warning)
}

// Table writes rows for a person, and the sums of all of them.
func Table(rows, all []Row, now store.Version) string {
	return strings.Join(tableOf(rows, all, now), "\n") + "\n"
}

func tableOf(rows, all []Row, now store.Version) []string {
	switch {
	case len(all) == 0 && now.ETag == "":
		return []string{"nothing is published, and no host has been heard"}
	case len(all) == 0:
		return []string{"no host has been heard"}
	}
	moment := time.Now()
	cells := [][]string{{"HOST", "CONFIGURATION", "VERSION", "STATE", "HEARD", "SYSTEM"}}
	behind, silent := 0, 0
	for _, r := range all {
		if r.Behind {
			behind++
		}
		if r.Silent {
			silent++
		}
	}
	for _, r := range rows {
		version := Short(r.ETag)
		if version == "" {
			version = "-"
		}
		if r.Behind && r.BehindBy != nil && r.ETag != now.ETag {
			version += " behind " + Duration(time.Duration(float64(*r.BehindBy)*float64(time.Second)))
		}
		heard := Duration(moment.Sub(r.Heard).Truncate(time.Second)) + " ago"
		if r.Silent {
			heard += " SILENT"
		}
		state := r.State
		if r.RebootDue {
			state += ", reboot due"
		}
		if r.Warning != "" {
			state += ", WARNING " + cut(r.Warning, 60)
		}
		if r.Why != "" {
			state += ": " + cut(r.Why, 60)
		}
		cells = append(cells, []string{r.Host, orDash(r.Configuration), version, state, heard, orDash(shortSystem(r.System))})
	}
	published := "nothing is published"
	if now.ETag != "" {
		published = fmt.Sprintf("%d behind %s", behind, Short(now.ETag))
	}
	return append(align(cells), fmt.Sprintf("%d hosts, %s, %d silent", len(all), published, silent))
}

// align makes lines of cells, with columns of equal width.
func align(cells [][]string) []string {
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var lines []string
	for _, row := range cells {
		for i := range row {
			row[i] = pad(row[i], widths[i])
		}
		lines = append(lines, strings.TrimRight(strings.Join(row, "  "), " "))
	}
	return lines
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortSystem is a system's store path without the folder and most of the hash.
func shortSystem(path string) string {
	name := path[strings.LastIndex(path, "/")+1:]
	if hash, rest, ok := strings.Cut(name, "-"); ok && len(hash) == 32 {
		return hash[:8] + "-" + rest
	}
	return name
}

// Board shows a roster on a terminal, redrawn in place. Hosts that do not fit the height are
// counted; those that are silent or behind come first then.
type Board struct{ painter painter }

// NewBoard returns a board on a terminal.
func NewBoard(w io.Writer, size func() (width, height int)) *Board {
	return &Board{painter{w: w, size: size}}
}

// Show redraws the board.
func (b *Board) Show(rows []Row, now store.Version) {
	_, height := room(b.painter.size)
	lines := tableOf(rows, rows, now)
	if room := height - 2; len(lines) > room && room > 2 {
		rows = slices.Clone(rows)
		matters := func(r Row) int {
			switch {
			case r.Silent:
				return 0
			case r.Behind || r.RebootDue:
				return 1
			}
			return 2
		}
		slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(matters(a), matters(b)) })
		lines = tableOf(rows, rows, now)
		last := lines[len(lines)-1]
		hidden := len(lines) - room
		lines = append(lines[:room-1], fmt.Sprintf("and %d more; %s", hidden, last))
	}
	b.painter.paint("", lines)
}
