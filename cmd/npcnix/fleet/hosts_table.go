package fleet

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

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
	lines = append(lines, sums(all, now))
	return Text(strings.Join(lines, "\n") + "\n")
}

var columnTitles = [...]string{"HOST", "RUNS", "WANTED", "STATUS", "HEARD"}

// layout lays rows out in columns that are as wide as their widest cell.
type layout struct {
	now    store.Version
	moment time.Time
	width  int // 0: any
	widths [len(columnTitles)]int
}

func newLayout(all []Row, now store.Version, width int) *layout {
	t := &layout{now: now, moment: time.Now(), width: width}
	for i, title := range columnTitles {
		t.widths[i] = columns(title)
	}
	for _, r := range all {
		for i, cell := range t.cells(r) {
			t.widths[i] = max(t.widths[i], columns(cell))
		}
	}
	if width > 0 {
		t.widths[0] = min(t.widths[0], max(8, width/3))
	}
	return t
}

func (t *layout) cells(r Row) [len(columnTitles)]string {
	heard := Duration(t.moment.Sub(r.Heard).Truncate(time.Second)) + " ago"
	if r.Silent {
		heard += ", silent"
	}
	return [...]string{r.Host, orDash(Short(cmp.Or(r.RunningRev, r.Running))), orDash(Short(cmp.Or(r.WantedRev, r.Wanted))), t.status(r), heard}
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
	for i, cell := range cells {
		cells[i] = pad(cut(cell, t.widths[i]), t.widths[i])
	}
	return t.cut(strings.TrimRight(strings.Join(cells[:], "  "), " "))
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
		note(r.Why)
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

// sums counts the hosts.
func sums(all []Row, now store.Version) string {
	switch {
	case len(all) == 0 && now.ETag == "":
		return "nothing is published, and no host has been heard"
	case len(all) == 0:
		return "no host has been heard"
	}
	behind, silent := 0, 0
	for _, r := range all {
		if r.Behind {
			behind++
		}
		if r.Silent {
			silent++
		}
	}
	published := "nothing is published"
	if now.ETag != "" {
		published = fmt.Sprintf("%d behind %s", behind, Short(now.ETag))
	}
	return fmt.Sprintf("%s, %s, %d silent", Hosts(len(all)), published, silent)
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
		case r.Why != "" || r.Warning != "" || r.Trouble != "":
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
