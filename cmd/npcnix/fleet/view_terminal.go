package fleet

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Terminal shows a wait on a terminal: a bar for the fleet and a line for each host, redrawn in
// place. Hosts that do not fit the height collapse to counts and to those that matter.
type Terminal struct {
	W    io.Writer
	Size func() (width, height int)

	painter *painter
	last    *Progress
}

func (t *Terminal) paint(above string, lines []string) {
	if t.painter == nil {
		t.painter = &painter{w: t.W, size: t.Size}
	}
	t.painter.paint(above, lines)
}

func (t *Terminal) Update(p Progress, _ []Host) {
	t.last = &p
	t.paint("", t.frame())
}

func (t *Terminal) Note(msg string) {
	elapsed := time.Duration(0)
	if t.last != nil {
		elapsed = t.last.Elapsed
	}
	t.paint(stopwatch(elapsed)+" "+clean(msg)+"\n", t.frame())
}

func (t *Terminal) End(r Result) { t.paint(closing(r), nil) }

// frame is what is drawn of the last progress.
func (t *Terminal) frame() []string {
	if t.last == nil {
		return nil
	}
	width, height := room(t.Size)
	p := *t.last
	head := fmt.Sprintf("%s of %s, %s", p.name(), p.Remote, stopwatch(p.Elapsed))
	if p.Timeout > 0 {
		head += " of " + stopwatch(p.Timeout)
	}
	lines := []string{
		head,
		bar(p, max(10, min(40, width/5))) + " " + counts(p),
	}
	if p.Trouble != "" {
		lines = append(lines, "the records cannot be read: "+clean(p.Trouble))
	}
	rows := height - 1 - len(lines) // the last row is the cursor's
	hosts, more := p.Hosts, ""
	if len(hosts) > rows {
		hosts = byRank(hosts)
		rest := hosts[max(0, min(rows-1, len(hosts))):]
		hosts = hosts[:len(hosts)-len(rest)]
		more = fmt.Sprintf("and %d more:%s", len(rest), strings.TrimPrefix(tally(rest, func(Host) bool { return true }, ", "), ","))
	}
	lines = append(lines, table(hosts, width)...)
	if more != "" && rows > 0 {
		lines = append(lines, more)
	}
	return lines[:max(0, min(len(lines), height-1))]
}

// table writes a line for each host: name, state, since when, attempt, queue, and why.
func table(hosts []Host, width int) []string {
	names, states := 0, 0
	for _, h := range hosts {
		names, states = max(names, columns(h.Name)), max(states, columns(inWords(h.State)))
	}
	names = min(names, max(8, width/3))
	now := time.Now()
	var lines []string
	for _, h := range hosts {
		cells := []string{pad(cut(h.Name, names), names), pad(inWords(h.State), states), pad(Duration(now.Sub(h.Since).Truncate(time.Second)), 6)}
		if n := h.attempt(); n > 1 && h.State != Behind {
			cells = append(cells, fmt.Sprintf("attempt %d", n))
		}
		if h.Timed && h.Verdict == Done {
			cells = append(cells, "after "+Duration(h.Took))
		}
		if q := h.Queue; q != nil {
			cells = append(cells, q.String())
		}
		if h.Why != "" {
			cells = append(cells, WithoutHashes(reasonFirst(h.Why)))
		}
		lines = append(lines, strings.TrimRight(strings.Join(cells, "  "), " "))
	}
	return lines
}

// bar draws the fleet: done, failed, at work, and not yet there.
func bar(p Progress, width int) string {
	total := max(1, len(p.Hosts))
	atWork := 0
	for _, h := range p.Hosts {
		if slices.Contains([]string{"building", "activating", "working", "draining"}, h.State) {
			atWork++
		}
	}
	var b strings.Builder
	shown, count := 0, 0
	for _, part := range []struct {
		n    int
		sign string
	}{{p.Done, "#"}, {p.Failed, "x"}, {atWork, ">"}} {
		count += part.n
		cells := count*width/total - shown
		if part.n > 0 && cells == 0 && part.sign == "x" && shown < width {
			cells = 1 // one that failed must show
		}
		b.WriteString(strings.Repeat(part.sign, max(0, min(cells, width-shown))))
		shown += max(0, min(cells, width-shown))
	}
	return "[" + b.String() + strings.Repeat(".", width-shown) + "]"
}

// String is the queue's view in few words: those that wait, those in flight, dead letters.
func (q Queue) String() string {
	if q.Gone {
		return "queue gone"
	}
	s := fmt.Sprintf("queue %d+%d", q.Visible+q.Delayed, q.InFlight)
	if q.Dead > 0 {
		s += fmt.Sprintf(" dead %d", q.Dead)
	}
	return s
}
