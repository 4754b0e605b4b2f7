package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// letters draw the stages.
var letters = map[Stage]string{Notice: ".", Fetch: "f", Build: "b", Activate: "A", Acknowledge: "k", Fails: "x"}

const (
	skewLetter = "<"
	// shownBars bounds the hosts of a timeline in a terminal: failures and the slowest.
	shownBars = 20
)

// Text draws the timeline within a width; 0: of 80 columns.
func (t Timeline) Text(width int) string {
	if width <= 0 {
		width = 80
	}
	var lines []string
	line := func(format string, values ...any) { lines = append(lines, cut(fmt.Sprintf(format, values...), width)) }
	if t.Version.ETag == "" {
		return "nothing is published\n"
	}
	line("%s", t.title())
	if len(t.Bars) > 0 {
		lines = append(lines, t.drawn(width)...)
		lines = append(lines, t.table(width)...)
	}
	for _, note := range t.notes() {
		line("%s", note)
	}
	return Text(strings.Join(lines, "\n") + "\n")
}

// title names the version.
func (t Timeline) title() string {
	name := Short(t.Version.ETag)
	for _, also := range []string{Short(t.Version.Rev), clean(t.Version.Message)} {
		if also != "" {
			name += "  " + also
		}
	}
	return name
}

// drawn are the bars, below their scale.
func (t Timeline) drawn(width int) []string {
	bars := t.Bars[:min(len(t.Bars), shownBars)]
	names, ends := 0, 0
	for _, b := range bars {
		names, ends = max(names, columns(b.Host)), max(ends, columns(b.end()))
	}
	names = min(names, max(8, width/4))
	room := max(10, width-names-ends-4)
	first, last := t.bounds()
	at := func(d time.Duration) int {
		return int((int64(d-first)*int64(room) + int64(last-first)/2) / int64(last-first))
	}
	scale := signed(first)
	scale += strings.Repeat(" ", max(1, room-columns(scale)-columns(signed(last)))) + signed(last)
	lines := []string{cut(pad("", names)+"  "+scale, width)}
	for _, b := range bars {
		lines = append(lines, cut(pad(cut(b.Host, names), names)+"  "+b.cells(room, at)+"  "+b.end(), width))
	}
	if n := len(t.Bars) - len(bars); n > 0 {
		rest := t.Bars[len(bars):]
		slowest := slices.MaxFunc(rest, func(a, b Bar) int { return cmp.Compare(a.total(), b.total()) })
		lines = append(lines, cut(fmt.Sprintf("and %d more, which took %s at most; --svg FILE draws them", n, signed(slowest.total())), width))
	}
	return lines
}

// cells are the letters of a bar, each at its moment. What clocks make negative is drawn last, so that it shows.
func (b Bar) cells(room int, at func(time.Duration) int) string {
	cells := slices.Repeat([]string{" "}, room)
	draw := func(letter string, from, to time.Duration) {
		for i := at(from); i < max(at(to), min(at(from)+1, room)); i++ { // one letter at least, until the next covers it
			cells[i] = letter
		}
	}
	for _, s := range b.Spans {
		if s.To > s.From {
			draw(letters[s.Stage], s.From, s.To)
		}
	}
	for _, s := range b.Spans {
		if s.To < s.From {
			draw(skewLetter, s.To, s.From)
		}
	}
	return strings.Join(cells, "")
}

// end is what stands behind a bar: how long it took, what came of it, and a clock that is wrong.
func (b Bar) end() string {
	words := []string{signed(b.total())}
	if b.Status != "applied" {
		words = append(words, inWords(b.Status))
	}
	if b.Attempt > 1 {
		words = append(words, fmt.Sprintf("attempt %d", b.Attempt))
	}
	if b.SkewKnown && b.skewed() {
		words = append(words, "clock "+ahead(b.Skew))
	}
	return strings.Join(words, ", ")
}

func ahead(d time.Duration) string {
	if d >= 0 {
		return "+" + signed(d)
	}
	return signed(d)
}

// signed is Duration for what can be negative, and to the millisecond where that counts.
func signed(d time.Duration) string {
	if d < 0 {
		return "-" + signed(-d)
	}
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return Duration(d)
}

// table has the figures of each stage, and is the legend of the letters.
func (t Timeline) table(width int) []string {
	var lines []string
	row := func(cells ...string) {
		lines = append(lines, cut(strings.TrimRight(fmt.Sprintf("%-14s %8s %8s %8s  %s", cells[0], cells[1], cells[2], cells[3], cells[4]), " "), width))
	}
	row("", "p50", "p99", "slowest", "")
	add := func(title string, f Figures) {
		if f.Hosts > 0 {
			row(title, signed(f.P50), signed(f.P99), signed(f.Slowest), clean(f.SlowestHost))
		}
	}
	for _, s := range stages {
		add(letters[s]+" "+string(s), t.figures(s))
	}
	add("in all", t.figures(""))
	if len(lines) == 1 {
		return []string{cut(". notice  f fetch  b build  A activate  x fails", width)}
	}
	if slices.ContainsFunc(t.Bars, func(b Bar) bool { return !b.done() }) {
		lines = append(lines, cut("x fails; it and what is not done yet are in no figure", width))
	}
	return lines
}

// notes say what the bars and figures do not.
func (t Timeline) notes() []string {
	var notes []string
	wrong, backward := 0, false
	for _, b := range t.Bars {
		if b.skewed() {
			wrong++
		}
		for _, s := range b.Spans {
			backward = backward || s.To < s.From
		}
	}
	if backward {
		notes = append(notes, skewLetter+" noticed before it was published: the clock is behind the store's")
	}
	if wrong > 0 {
		notes = append(notes, fmt.Sprintf("clocks: %s more than %s from the store's; notice and sum omit them", Hosts(wrong), clockTolerance))
	}
	unknown := 0
	for _, b := range t.Bars {
		if !b.SkewKnown {
			unknown++
		}
	}
	if unknown > 0 {
		notes = append(notes, fmt.Sprintf("clocks: unknown of %s with an older npcnix", Hosts(unknown)))
	}
	if n := len(t.Others); n > 0 {
		more := ""
		if n > shownNames {
			more = fmt.Sprintf(", and %d more", n-shownNames)
		}
		notes = append(notes, fmt.Sprintf("no times of it: %s%s", strings.Join(t.Others[:min(n, shownNames)], ", "), more))
	}
	return notes
}
