package fleet

import (
	"fmt"
	"io"
	"strings"
)

// painter draws lines on a terminal, again and again in the same place. It never moves the
// cursor off the lines that it drew itself, hides nothing and changes no mode, so that a
// terminal is sane whenever the program ends. Lines are cut to the width, and the caller draws
// fewer than the height, so that nothing drawn scrolls away.
type painter struct {
	w     io.Writer
	size  func() (width, height int) // zeros where that is unknown
	drawn []int                      // widths of the lines on the screen, the cursor below them
}

// room returns the terminal's size, or a usual one.
func room(size func() (width, height int)) (width, height int) {
	if width, height = size(); width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// paint replaces what was drawn by lines. What is to stay above them is written first, and
// scrolls away as time passes.
func (p *painter) paint(above string, lines []string) {
	width, _ := room(p.size)
	var b strings.Builder
	up := 0
	for _, w := range p.drawn { // a terminal that became narrower has wrapped them
		up += max(1, (w+width-1)/width)
	}
	b.WriteString("\r")
	if up > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", up)
	}
	for line := range strings.Lines(above) {
		fmt.Fprintf(&b, "%s\x1b[K\n", Text(strings.TrimSuffix(line, "\n")))
	}
	p.drawn = nil
	for _, line := range lines {
		line = cut(Text(line), width-1)
		fmt.Fprintf(&b, "%s\x1b[K\n", line)
		p.drawn = append(p.drawn, columns(line))
	}
	b.WriteString("\x1b[J")
	io.WriteString(p.w, b.String())
}

// columns is the width of a text; of wide letters it counts too many rather than too few.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x1100 {
			n++
		}
	}
	return n
}

// cut shortens a text to a width.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		w := columns(string(r))
		if n+w > width-3 {
			return s[:i] + strings.Repeat(".", max(0, min(3, width)))
		}
		n += w
	}
	return s
}

// pad fills a text up to a width.
func pad(s string, width int) string { return s + strings.Repeat(" ", max(0, width-columns(s))) }
