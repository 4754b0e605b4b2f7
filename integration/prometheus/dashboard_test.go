package prometheus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

// step is the time between two values of a range.
const step = 250 * time.Millisecond

// dashboard is what a test reads of Grafana's file.
type dashboard struct{ Panels []panel }

type panel struct {
	ID          int
	Title, Type string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit   string
			Custom struct{ Stacking struct{ Mode string } }
		}
	}
	Targets []target
}

type target struct {
	Expr, LegendFormat string
	Instant            bool
}

// query is what Grafana makes of the expression, if all jobs are chosen.
func (t target) query() string {
	return strings.NewReplacer("$job", ".*", "$__rate_interval", "1m").Replace(t.Expr)
}

// Each query of the dashboard shows something of 50 hosts that go through a rollout with failures. Their textfiles
// pass a real node_exporter and a real Prometheus. NPCNIX_UPDATE=1 draws the picture of the docs from this run.
func TestDashboard(t *testing.T) {
	var board dashboard
	if err := json.Unmarshal([]byte(content(t, folder, "dashboard.json")), &board); err != nil {
		t.Fatal(err)
	}
	textfiles := t.TempDir()
	server := Start(t, textfiles, content(t, folder, "alerts.yml"))
	r := newRollout(t, textfiles, 50)
	var begun time.Time
	r.run(func(n int) {
		marker := fmt.Sprintf("# HELP rollout_step Step.\n# TYPE rollout_step gauge\nrollout_step %d\n", n)
		r.place("step.prom", []byte(marker))
		seen := 0
		defer func() {
			if n == 0 {
				begun = time.Now().Add(-time.Second)
			}
		}()
		for begun := time.Now(); seen < 3; time.Sleep(100 * time.Millisecond) { // long enough to be seen in the picture
			seen, _ = strconv.Atoi(server.Query(fmt.Sprintf("count_over_time((rollout_step == %d)[10m:250ms])", n), "job")["node"])
			if time.Since(begun) > startLimit {
				t.Fatalf("Prometheus does not show step %d", n)
			}
		}
	})

	if len(board.Panels) < 10 {
		t.Errorf("%d panels", len(board.Panels))
	}
	shown := map[int][]line{}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, has an id of another, no title, or no query", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			lines := q.ask(server, begun)
			if len(lines) == 0 {
				t.Errorf("panel %q is empty: %s", p.Title, q.query())
			}
			shown[p.ID] = append(shown[p.ID], lines...)
		}
	}
	for _, want := range []struct{ panel, line string }{
		{"Hosts by release", "r3"}, {"Hosts by status", "held"}, {"Rollbacks by cause", "version"}, {"Rollbacks by cause", "machine"},
		{"Refused releases by reason", "signature"}, {"Attempts that failed", "rolled_back"}, {"Versions that failed", "web04 rolled_back"},
		{"Alerts that fire", "NpcnixRollbackFailed web04"}, {"Hosts to look at", "held"}, {"Fleet, by its records", "silent"},
		{"Waves", "newest release"}, {"Waves", "held"}, {"Waves", "unhealthy"},
	} {
		if !has(board, shown, want.panel, want.line) {
			t.Errorf("panel %q does not show %q", want.panel, want.line)
		}
	}
	if os.Getenv("NPCNIX_UPDATE") != "" {
		picture := drawBoard(board, shown, begun, time.Now())
		if err := os.WriteFile(filepath.Join(folder, "dashboard.svg"), []byte(picture), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// promtool takes the file of a host in each status.
func TestPromtoolTakesAHostOfEachStatus(t *testing.T) {
	r := newRollout(t, t.TempDir(), 1)
	r.publish("r1")
	r.end(record.Applied, 5, r.hosts...)
	for _, status := range record.Statuses {
		r.are(status, r.hosts...)
		r.write()
		text := content(t, r.hosts[0].path)
		Check(t, []byte(text))
		if want := fmt.Sprintf("npcnix_status{status=%q} 1\n", status); !strings.Contains(text, want) || strings.Count(text, "npcnix_status{") != len(record.Statuses) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func has(board dashboard, shown map[int][]line, title, name string) bool {
	for _, p := range board.Panels {
		for _, l := range shown[p.ID] {
			if p.Title == title && l.name == name {
				return true
			}
		}
	}
	return false
}

// line is what a panel shows of one series.
type line struct {
	name   string
	points []point
}

type point struct{ at, value float64 }

// ask returns the lines of a query that are anything but zero at some time.
func (t target) ask(s *Server, from time.Time) []line {
	var all []Series
	if t.Instant {
		all = s.Now(t.query())
		for i := range all {
			all[i].Values = [][2]any{all[i].Value}
		}
	} else {
		all = s.Range(t.query(), from, step)
	}
	var lines []line
	for _, series := range all {
		l, something := line{name: t.legend(series.Labels)}, false
		for _, v := range series.Values {
			value, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
			if err != nil || value != value {
				continue
			}
			l.points = append(l.points, point{v[0].(float64), value})
			something = something || value != 0
		}
		if something {
			lines = append(lines, l)
		}
	}
	return lines
}

func (t target) legend(labels map[string]string) string {
	text := t.LegendFormat
	for name, value := range labels {
		text = strings.ReplaceAll(text, "{{"+name+"}}", value)
	}
	return text
}
