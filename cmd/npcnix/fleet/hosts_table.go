package fleet

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// Table writes rows for a person, and the sums of all of them. It keeps within the width; 0: of any
// width.
func Table(rows, all []Row, now store.Version, width int) string {
	if len(all) == 0 {
		return sums(all, now) + "\n"
	}
	t := newLayout(all, now, width)
	lines := []string{t.line(columnTitles)}
	for _, r := range rows {
		lines = append(lines, t.host(r)...)
	}
	if failing := failing(all); len(failing) > 0 && len(rows) > shownNames { // they have scrolled by
		lines = append(lines, t.cut("failing: "+shortList(failing)))
	}
	lines = append(lines, sums(all, now))
	return Text(strings.Join(lines, "\n") + "\n")
}

const waveColumn = 3

var columnTitles = [...]string{"HOST", "RUNS", "WANTED", "WAVE", "STATUS", "HEARD"}

// layout lays rows out in columns that are as wide as their widest cell. The column of waves is there during a rollout.
type layout struct {
	now    store.Version
	moment time.Time
	width  int // 0: any
	widths [len(columnTitles)]int
	name   int // how much of a version's name is shown
}

// newLayout gives way to a narrow terminal with the names of versions, and then with those of hosts.
func newLayout(all []Row, now store.Version, width int) *layout {
	t := &layout{now: now, moment: time.Now(), width: width, name: 12}
	t.measure(all)
	if over := t.total() - width; width > 0 && over > 0 {
		t.name = 8
		t.measure(all)
	}
	if width > 0 {
		t.widths[0] = min(t.widths[0], max(8, t.widths[0]-t.total()+width))
	}
	return t
}

func (t *layout) measure(all []Row) {
	for i, title := range columnTitles {
		t.widths[i] = columns(title)
	}
	if !slices.ContainsFunc(all, func(r Row) bool { return r.Wave > 0 }) {
		t.widths[waveColumn] = 0
	}
	for _, r := range all {
		for i, cell := range t.cells(r) {
			if t.widths[i] > 0 {
				t.widths[i] = max(t.widths[i], columns(cell))
			}
		}
	}
}

// total is how wide all columns are.
func (t *layout) total() int {
	total := -2
	for _, width := range t.widths {
		if width > 0 {
			total += width + 2
		}
	}
	return total
}

func (t *layout) cells(r Row) [len(columnTitles)]string {
	heard := Duration(t.moment.Sub(r.Heard).Truncate(time.Second)) + " ago"
	if r.Silent {
		heard += ", silent"
	}
	wave := "-"
	if r.Wave > 0 {
		wave = fmt.Sprintf("%d/%d", r.Wave, r.Waves)
	}
	runs, wants := r.names()
	return [...]string{r.Host, t.short(runs), t.short(wants), wave, t.status(r) + health(r), heard}
}

func (t *layout) short(version string) string {
	version = orDash(Short(version))
	return strings.ToValidUTF8(version[:min(len(version), t.name)], "")
}

// names are what runs and what is wanted as people know them: by revision, release or ETag. Two releases of one revision
// are told apart.
func (r Row) names() (runs, wants string) {
	if r.RunningRev != r.WantedRev || r.RunningRelease == r.WantedRelease {
		runs, wants = r.RunningRev, r.WantedRev
	}
	return cmp.Or(runs, r.RunningRelease, r.Running), cmp.Or(wants, r.WantedRelease, r.Wanted)
}

// health is that of what runs, as far as it is known: most hosts tell of it only when it is bad.
func health(r Row) string {
	switch {
	case r.Unhealthy != "":
		return ", unhealthy"
	case r.HealthySecs > 0:
		return ", healthy " + Duration(time.Duration(r.HealthySecs)*time.Second)
	}
	return ""
}

// status is what became of the version that the host wants, and whether the remote holds a newer one.
func (t *layout) status(r Row) string {
	status := inWords(r.Status)
	if !r.Behind || r.Wanted == t.now.ETag || r.Wanted == "" {
		return status
	}
	behind := "behind"
	if r.BehindBy != nil {
		behind += " " + Duration(time.Duration(float64(*r.BehindBy)*float64(time.Second)))
	}
	if status == "applied" {
		return behind
	}
	return status + ", " + behind
}

func (t *layout) line(cells [len(columnTitles)]string) string {
	var shown []string
	for i, cell := range cells {
		if t.widths[i] > 0 {
			shown = append(shown, pad(cut(cell, t.widths[i]), t.widths[i]))
		}
	}
	return t.cut(strings.TrimRight(strings.Join(shown, "  "), " "))
}

func (t *layout) cut(line string) string {
	if t.width > 0 {
		return cut(line, t.width)
	}
	return line
}

// host writes a row, and below it what an operator has to know besides.
func (t *layout) host(r Row) []string {
	lines := []string{t.line(t.cells(r))}
	note := func(text string) { lines = append(lines, t.cut("  "+WithoutHashes(text))) }
	if r.Why != "" {
		note(reasonFirst(r.Why))
	}
	if r.Unhealthy != "" {
		note("unhealthy: " + r.Unhealthy)
	}
	if r.Warning != "" {
		note("warning: " + r.Warning)
	}
	if r.Trouble != "" {
		note(r.Trouble)
	}
	if r.RebootDue && r.Status != "reboot_pending" {
		note("a reboot is due")
	}
	return lines
}

// failed reports whether the version that the host wants failed there.
func (r Row) failed() bool {
	return slices.Contains([]record.Status{record.Failed, record.RolledBack, record.Rejected}, record.Status(r.Status))
}

// failing are the hosts on which a version failed, or that are unhealthy.
func failing(all []Row) (hosts []string) {
	for _, r := range all {
		if r.failed() || r.Unhealthy != "" {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// sums counts the hosts.
func sums(all []Row, now store.Version) string {
	switch {
	case len(all) == 0 && now.ETag == "":
		return "nothing is published, and no host has been heard"
	case len(all) == 0:
		return "no host has been heard"
	}
	behind, silent, failed, unhealthy, present := 0, 0, 0, 0, now.ETag
	for _, r := range all {
		if r.Wanted == now.ETag {
			present = cmp.Or(r.WantedRev, r.WantedRelease, r.Wanted)
		}
		if r.failed() {
			failed++
		}
		if r.Unhealthy != "" {
			unhealthy++
		}
		if r.Behind {
			behind++
		}
		if r.Silent {
			silent++
		}
	}
	published := "nothing is published"
	if now.ETag != "" {
		published = fmt.Sprintf("%d behind %s", behind, Short(present))
	}
	sum := fmt.Sprintf("%s, %s, %d silent", Hosts(len(all)), published, silent)
	if failed > 0 {
		sum += fmt.Sprintf(", %d failed", failed)
	}
	if unhealthy > 0 {
		sum += fmt.Sprintf(", %d unhealthy", unhealthy)
	}
	return sum
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Board shows a roster on a terminal, redrawn in place. If not all hosts fit the height, those that an
// operator has to look at come first, and the others are counted.
type Board struct{ painter painter }

// NewBoard returns a board on a terminal.
func NewBoard(w io.Writer, size func() (width, height int)) *Board {
	return &Board{painter{w: w, size: size}}
}

// Show redraws the board.
func (b *Board) Show(rows []Row, now store.Version) {
	width, height := room(b.painter.size)
	t := newLayout(rows, now, width-1)
	var drawn [][]string
	total := 0
	draw := func() {
		drawn, total = nil, 0
		for _, r := range rows {
			drawn = append(drawn, t.host(r))
			total += len(drawn[len(drawn)-1])
		}
	}
	draw()
	end := sums(rows, now)
	space := height - 3 // beside the titles, the sums and the cursor's line
	if total > space {
		rows = byMatter(rows)
		draw()
	}
	lines := []string{}
	if len(rows) > 0 {
		lines = append(lines, t.line(columnTitles))
	}
	for i, host := range drawn {
		if len(host) > space {
			end = fmt.Sprintf("and %d more; %s", len(drawn)-i, end)
			break
		}
		space -= len(host)
		lines = append(lines, host...)
	}
	b.painter.paint("", append(lines, end))
}

// byMatter sorts rows that an operator has to look at to the front.
func byMatter(rows []Row) []Row {
	rank := func(r Row) int {
		switch {
		case r.Silent:
			return 0
		case r.Why != "" || r.Warning != "" || r.Unhealthy != "" || r.Trouble != "":
			return 1
		case r.Behind || r.RebootDue:
			return 2
		}
		return 3
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(rank(a), rank(b)) })
	return rows
}
