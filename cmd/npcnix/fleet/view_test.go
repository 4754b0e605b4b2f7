package fleet

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

func TestLines(t *testing.T) {
	t.Run("are one per change and one a minute", linesPerChange)
	t.Run("cannot command a CI system by what a host wrote", linesHostile)
}

func linesPerChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("0123456789abcdef")
		s.says("web1", "building", "0123456789abcdef")
		s.says("web2", "applied", "0123456789abcdef")
		at(t, 3*time.Second+1, func() {
			s.says("web1", "failed", "0123456789abcdef", "error", "boom\nline two", "log_tail", []string{"::error::x"})
		})
		at(t, 33*time.Second+1, func() { s.says("web1", "building", "0123456789abcdef", "attempt", 2) })
		at(t, 150*time.Second+1, func() { s.fail(errors.New("503")) })
		var out bytes.Buffer
		o := Options{Store: s, Hosts: []string{"web1", "web2", "web3"}, KeepGoing: true, Timeout: 5 * time.Minute, Views: []View{&Lines{W: &out}},
			Resume: func(string) string { return "again" }}
		wantWait(t, o, "0123456789abcdef", TimedOut, 5*time.Minute, "web1 missing", "web2 done", "web3 missing")
		want := `0:00 waiting for 3 hosts of s3://fleet/npcnix/remotes/dev.npcnix to run 0123456789ab: 1 of 3 done, 1 building, 1 unheard
0:00 web1 building
0:04 web1 failed: boom
0:34 web1 building (attempt 2)
1:00 1 of 3 done, 1 building, 1 unheard
2:00 1 of 3 done, 1 building, 1 unheard
`
		if !strings.HasPrefix(out.String(), want) || strings.Count(out.String(), "the records cannot be read, trying again: 503") != 1 ||
			strings.Count(out.String(), " the records still cannot be read: 503\n") != 2 ||
			!strings.HasSuffix(out.String(), "building: web1\nunheard: web3\ntimed out: 0123456789ab, 1 of 3 done, 1 building, 1 unheard (5:00)\npublish to applied, 1 host: p50 0s, p99 0s, slowest 0s (web2)\nto go on waiting: again\n") {
			t.Errorf("got:\n%s", out.String())
		}
	})
}

// failedResult is the end of a wait in which hostile hosts failed.
func failedResult(hosts int) Result {
	r := Result{Outcome: HostsFailed, Progress: Progress{Remote: remote, Version: store.Version{ETag: "v1"}, Need: hosts, Elapsed: 90 * time.Second}}
	for i := range hosts {
		record := &record.Record{}
		record.Status, record.Attempt, record.Error = "failed", 3, "boom"
		record.LogTail = []string{"```", "</details><script>", "\x1b[31m::error::x"}
		r.Hosts = append(r.Hosts, Host{Name: fmt.Sprintf("h%d|_x_", i), Verdict: Failed, State: "failed", Why: `<b>boom</b> @someone \[click\](https://evil)`, Record: record})
	}
	r.count()
	return r
}

func TestStepSummary(t *testing.T) {
	t.Run("is Markdown that no log can escape", summaryMarkdown)
	t.Run("is never longer than GitHub takes", summaryLength)
}

func summaryMarkdown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "summary.md")
	if err := os.WriteFile(path, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &StepSummary{Path: path, Warn: func(msg string) { t.Error(msg) }}
	s.End(failedResult(2000))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"before\n### npcnix: failed\n", `| h0\|\_x\_ | failed | &lt;b&gt;boom&lt;/b&gt; &#64;someone \\\[click\\\](https://evil) |`, "\n    ```\n", "\n    </details><script>\n", "\n    [31m::error::x\n", "and 1980 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%.3000s", want, text)
		}
	}
	if len(text) > 1<<20 || strings.Contains(text, "\n```") {
		t.Errorf("%d bytes", len(text))
	}
	warned := ""
	(&StepSummary{Path: t.TempDir(), Warn: func(msg string) { warned = msg }}).End(failedResult(1))
	if !strings.Contains(warned, "cannot be written") {
		t.Errorf("warned %q", warned)
	}
}

func linesHostile(t *testing.T) {
	for line := range strings.Lines(closing(failedResult(2))) {
		if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "::") || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Run("is an object per line with a summary at the end", jsonLines)
}

func jsonLines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "building", "v1")
		at(t, 1500*time.Millisecond, func() { s.says("web1", "applied", "v1") })
		var out bytes.Buffer
		wantWait(t, Options{Store: s, Hosts: []string{"web1"}, Views: []View{&JSON{W: &out}}}, "v1", Passed, 2*time.Second, "web1 done")
		var events []map[string]any
		for line := range strings.Lines(out.String()) {
			var e map[string]any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			events = append(events, e)
		}
		if len(events) != 3 || events[0]["status"] != "building" || events[1]["publish_to_applied_secs"] != 1.5 || events[1]["elapsed_secs"] != 2.0 ||
			events[2]["event"] != "summary" || events[2]["outcome"] != "passed" || events[2]["etag"] != "v1" || events[2]["not_done"] != nil {
			t.Errorf("%s", out.String())
		}
	})
}

func TestTerminal(t *testing.T) {
	t.Run("is redrawn within its lines", painterLines)
	t.Run("has a bar of done, failed and at work", barParts)
}

func painterLines(t *testing.T) {
	var out bytes.Buffer
	width := 20
	p := painter{w: &out, size: func() (int, int) { return width, 10 }}
	for _, c := range []struct {
		width int
		above string
		lines []string
		want  string
	}{
		{20, "", []string{"one", "a line that is much too long"}, "\rone\x1b[K\na line that is m...\x1b[K\n\x1b[J"},
		{20, "", []string{"two"}, "\r\x1b[2Atwo\x1b[K\n\x1b[J"},
		{20, "a note\n", []string{"three", "0123456789012345678"}, "\r\x1b[1Aa note\x1b[K\nthree\x1b[K\n0123456789012345678\x1b[K\n\x1b[J"},
		{10, "", []string{"now it wraps"}, "\r\x1b[3Anow it...\x1b[K\n\x1b[J"}, // the longer line takes two rows by now
		{10, "the end\n", nil, "\r\x1b[1Athe end\x1b[K\n\x1b[J"},
	} {
		out.Reset()
		width = c.width
		p.paint(c.above, c.lines)
		if out.String() != c.want {
			t.Errorf("got %q, want %q", out.String(), c.want)
		}
	}
}

func barParts(t *testing.T) {
	for _, c := range []struct {
		done, failed, building, silent int
		want                           string
	}{
		{0, 0, 0, 10, "[..........]"},
		{10, 0, 0, 0, "[##########]"},
		{5, 1, 2, 2, "[#####x>>..]"},
		{998, 1, 0, 1, "[#########x]"},
		{0, 1, 0, 999, "[x.........]"},
		{999, 1, 0, 0, "[#########x]"},
	} {
		var p Progress
		add := func(n int, v Verdict, state string) {
			for range n {
				p.Hosts = append(p.Hosts, Host{Verdict: v, State: state})
			}
		}
		add(c.done, Done, "applied")
		add(c.failed, Failed, "failed")
		add(c.building, Missing, "building")
		add(c.silent, Missing, Silent)
		p.count()
		if got := bar(p, 10); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestLatency(t *testing.T) {
	t.Run("is the nearest rank", latencyRank)
}

func latencyRank(t *testing.T) {
	var hosts []Host
	for i := range 100 {
		hosts = append(hosts, Host{Name: fmt.Sprint(i), Verdict: Done, Timed: true, Took: time.Duration(100-i) * time.Second})
	}
	hosts = append(hosts, Host{Verdict: Failed, Timed: true, Took: time.Hour}, Host{Verdict: Done})
	if l := latencyOf(hosts); l != (Latency{100, 50 * time.Second, 99 * time.Second, 100 * time.Second, "0"}) {
		t.Errorf("%+v", l)
	}
	if l := latencyOf(hosts[:1]); l.P50 != 100*time.Second || l.P99 != l.P50 {
		t.Errorf("%+v", l)
	}
	if l := latencyOf(nil); l != (Latency{}) {
		t.Errorf("%+v", l)
	}
}

func summaryLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "summary.md")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 600<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	var r Result
	for i := range shownHosts {
		record := &record.Record{Error: "boom"}
		for range shownHosts {
			record.LogTail = append(record.LogTail, strings.Repeat("é", 16<<10))
		}
		r.Hosts = append(r.Hosts, Host{Name: fmt.Sprint("web", i), State: "failed", Verdict: Failed, Record: record})
	}
	for range 3 {
		(&StepSummary{Path: path, Warn: func(msg string) { t.Error(msg) }}).End(r)
	}
	page, err := os.ReadFile(path)
	if err != nil || len(page) > 1<<20 || !strings.Contains(string(page), "web0") || !strings.Contains(string(page), "too long for this page") || !strings.HasSuffix(string(page), "\n") {
		t.Errorf("%d bytes, %v", len(page), err)
	}
}

func TestAnnotations(t *testing.T) {
	var out strings.Builder
	r := failedResult(20)
	r.Hosts[0].Why, r.Hosts[0].Name = "100%\n::warning::x", "a:b,c"
	(&Annotations{W: &out}).End(r)
	if n := strings.Count(out.String(), "::error title="); n != maxAnnotations || n != strings.Count(out.String(), "\n") {
		t.Errorf("%d annotations in\n%s", n, out.String())
	}
	if want := "::error title=a%3Ab%2Cc::failed: 100%25%0A::warning::x\n"; !strings.Contains(out.String(), want) {
		t.Errorf("no %q in\n%s", want, out.String())
	}
}

func TestJUnit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "junit.xml")
	r := failedResult(2)
	r.Hosts[1].Verdict, r.Hosts[1].State, r.Hosts[1].Record = Missing, Silent, nil
	end := func() (s junitSuite) {
		t.Helper()
		(&JUnit{Path: path, Warn: func(msg string) { t.Error(msg) }}).End(r)
		data, err := os.ReadFile(path)
		all := junitSuites{}
		if err == nil {
			err = xml.Unmarshal(data, &all)
		}
		if err != nil {
			t.Fatal(err)
		}
		return all.Suites[0]
	}
	if s := end(); s.Tests != 2 || s.Failures != 2 || s.Skipped != 0 || !strings.Contains(s.Cases[0].Failure.Text, "</details><script>") || s.Cases[1].Failure.Type != Silent {
		t.Errorf("after a wait that failed: %+v", s)
	}
	r.Outcome = Passed
	if s := end(); s.Failures != 1 || s.Skipped != 1 || s.Cases[1].Skipped == nil {
		t.Errorf("after a wait that enough hosts have passed: %+v", s)
	}
}

func TestASummaryOfSuccessNamesTheHosts(t *testing.T) {
	r := Result{Outcome: Passed, Progress: Progress{Remote: remote, Version: store.Version{ETag: "v1"}, Need: 1, Hosts: []Host{{Name: "web1", Verdict: Done, State: "applied", Timed: true, Took: time.Second}}}}
	if text := markdown(r); !strings.Contains(text, "| web1 | applied | 1s |\n") {
		t.Error(text)
	}
}
