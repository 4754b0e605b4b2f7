package fleet

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"
)

// drawnBars bounds the hosts of a picture.
const drawnBars = 1000

// colours of the stages, which people who see few colours can tell apart.
var colours = map[Stage]string{Notice: "#bbbbbb", Fetch: "#56b4e9", Build: "#0072b2", Activate: "#e69f00", Acknowledge: "#009e73", Fails: "#d55e00"}

const skewColour = "#cc79a7"

// SVG writes the timeline as a picture, which needs nothing else.
func (t Timeline) SVG(w io.Writer) error {
	const left, room, row, top = 180, 600, 16, 70
	bars := t.Bars[:min(len(t.Bars), drawnBars)]
	notes := t.notes()
	if n := len(t.Bars) - len(bars); n > 0 {
		notes = append(notes, fmt.Sprintf("and %d more", n))
	}
	bottom := top + row*len(bars)
	first, last := t.bounds()
	x := func(d time.Duration) float64 {
		return left + float64(d-first)/float64(last-first)*room
	}
	var b strings.Builder
	text := func(x float64, y int, anchor, s string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, html.EscapeString(clean(s)))
	}
	rect := func(x, width float64, y, height int, colour, title string) {
		fmt.Fprintf(&b, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"><title>%s</title></rect>\n", x, y, width, height, colour, html.EscapeString(clean(title)))
	}
	height := bottom + 30 + row*len(notes)
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1000 %d\" font-family=\"sans-serif\" font-size=\"11\">\n", height)
	fmt.Fprintf(&b, "<rect width=\"1000\" height=\"%d\" fill=\"white\"/>\n", height)
	text(10, 16, "start", t.title())
	if f := t.figures(""); f.Hosts > 0 {
		text(10, 34, "start", fmt.Sprintf("publish to acknowledged, %s: p50 %s, p99 %s, slowest %s (%s)", Hosts(f.Hosts), signed(f.P50), signed(f.P99), signed(f.Slowest), f.SlowestHost))
	}
	at := 10.0
	for _, s := range stages {
		rect(at, 10, 43, 10, colours[s], string(s))
		text(at+14, 52, "start", string(s))
		at += 100
	}
	rect(at, 10, 43, 10, skewColour, "skew")
	text(at+14, 52, "start", "skew of clocks")
	for i := range 5 {
		d := first + (last-first)*time.Duration(i)/4
		fmt.Fprintf(&b, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#dddddd\"/>\n", x(d), x(d), top-4, bottom)
		text(x(d), bottom+14, "middle", signed(d))
	}
	for i, bar := range bars {
		y := top + row*i
		text(left-8, y+11, "end", cut(clean(bar.Host), 28))
		for _, s := range bar.Spans {
			title := fmt.Sprintf("%s %s %s", bar.Host, s.Stage, signed(s.To-s.From))
			if s.To < s.From { // below the others, so that they do not hide it
				rect(x(s.To), x(s.From)-x(s.To), y+row-4, 3, skewColour, title)
				continue
			}
			rect(x(s.From), x(s.To)-x(s.From), y+2, row-6, colours[s.Stage], title)
		}
		text(left+room+8, y+11, "start", bar.end())
	}
	for i, note := range notes {
		text(10, bottom+30+row*i, "start", cut(note, 170))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
