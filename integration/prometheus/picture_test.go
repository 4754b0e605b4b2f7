package prometheus

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// cell is the size of a column and a row of Grafana's grid, in a picture.
const (
	cellWidth  = 50
	cellHeight = 26
)

var palette = []string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#999999", "#f0e442", "#000000"}

// drawBoard draws what the panels have shown, where the dashboard has them.
func drawBoard(board dashboard, shown map[int][]line, from, to time.Time) string {
	height := 0
	for _, p := range board.Panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*cellHeight)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", 24*cellWidth, height)
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#f4f5f5\"/>\n", 24*cellWidth, height)
	for _, p := range board.Panels {
		c := canvas{&b, float64(p.GridPos.X*cellWidth) + 4, float64(p.GridPos.Y*cellHeight) + 4, float64(p.GridPos.W*cellWidth) - 8, float64(p.GridPos.H*cellHeight) - 8}
		fmt.Fprintf(&b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\" fill=\"white\" stroke=\"#dddddd\"/>\n", c.x, c.y, c.width, c.height)
		c.text(c.x+10, c.y+18, p.Title, "bold")
		if p.Type == "table" {
			for i, l := range shown[p.ID] {
				c.text(c.x+10, c.y+40+float64(i)*15, l.name, "normal")
			}
			continue
		}
		c.graph(p, shown[p.ID], float64(from.UnixMilli())/1000, float64(to.UnixMilli())/1000)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

type canvas struct {
	b                   *strings.Builder
	x, y, width, height float64
}

func (c canvas) text(x, y float64, text, weight string) {
	fmt.Fprintf(c.b, "<text x=\"%.0f\" y=\"%.0f\" font-weight=\"%s\">%s</text>\n", x, y, weight, html.EscapeString(text))
}

// graph draws lines over time, above their legend; those of a stack on each other.
func (c canvas) graph(p panel, lines []line, from, to float64) {
	stacked := p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	base, top := map[float64]float64{}, 0.0
	for i, l := range lines {
		for j, q := range l.points {
			if stacked {
				base[q.at] += q.value
				lines[i].points[j].value = base[q.at]
			}
			top = max(top, lines[i].points[j].value)
		}
	}
	left, right, upper, lower := c.x+48, c.x+c.width-12, c.y+32, c.y+c.height-52
	x := func(at float64) float64 { return left + (at-from)/(to-from)*(right-left) }
	for _, part := range []float64{0, 0.5, 1} {
		y := lower - part*(lower-upper)
		fmt.Fprintf(c.b, "<line x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e5e5e5\"/>\n", left, right, y, y)
		c.text(c.x+8, y+4, inUnit(top*part, p.FieldConfig.Defaults.Unit), "normal")
	}
	c.text(left, lower+13, "0 s", "normal")
	c.text(right-22, lower+13, fmt.Sprintf("%.0f s", to-from), "normal")
	legend, row := left, lower+30
	for i, l := range lines {
		colour := palette[i%len(palette)]
		var path strings.Builder
		for j, q := range l.points {
			to := "L"
			if j == 0 || q.at-l.points[j-1].at > 1.5*step.Seconds() { // nothing was shown between them
				to = "M"
			}
			fmt.Fprintf(&path, "%s%.1f,%.1f", to, x(q.at), lower-q.value/max(top, 1e-9)*(lower-upper))
		}
		fmt.Fprintf(c.b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"/>\n", path.String(), colour)
		if width := 24 + 6*float64(len(l.name)); legend+width > right {
			legend, row = left, row+14
		}
		fmt.Fprintf(c.b, "<rect x=\"%.0f\" y=\"%.0f\" width=\"9\" height=\"9\" fill=\"%s\"/>\n", legend, row-9, colour)
		c.text(legend+13, row, l.name, "normal")
		legend += 24 + 6*float64(len(l.name))
	}
}

func inUnit(value float64, unit string) string {
	switch unit {
	case "s":
		return fmt.Sprintf("%.2g s", value)
	case "bytes":
		return fmt.Sprintf("%.2g GB", value/1e9)
	}
	return fmt.Sprintf("%.3g", value)
}
