package fleet

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/foreign"
	"github.com/npcnix/npcnix/store"
)

// silent fails the test if something printed speaks to the terminal, or has nothing of what was to be printed.
func silent(t *testing.T, what, printed string) {
	t.Helper()
	if !strings.Contains(printed, "x") {
		t.Errorf("%s prints nothing of it", what)
	}
	if leak, leaks := foreign.Leak(printed); leaks {
		t.Errorf("%s prints %U", what, leak)
	}
}

func TestNothingForeignSpeaksToTheTerminal(t *testing.T) {
	text := foreign.Text()
	r := &record.Record{}
	foreign.Fill(r)
	for _, state := range []string{"failed", "building", "paused", text} {
		r.Remote, r.Status, r.Version.ETag = remote, record.Status(state), "v1"
		for _, etag := range []string{"v1", "v2"} {
			h := judge("web1", r, remote, etag, "")
			elsewhere := judge("web1", r, "s3://other/key", etag, "")
			p := Progress{Remote: "s3://x/" + text, Version: store.Version{ETag: text}, Hosts: []Host{h, elsewhere}, Need: 2, Trouble: text}
			result := Result{Progress: p, Outcome: HostsFailed, Resume: text, Latency: Latency{Hosts: 1, SlowestHost: text}}
			result.Failed, result.Newer.ETag = 1, text

			var lines strings.Builder
			l := &Lines{W: &lines}
			l.Update(p, p.Hosts)
			l.Note(text)
			l.End(result)
			silent(t, "a line", lines.String())

			var drawn strings.Builder
			terminal := &Terminal{W: &drawn, Size: func() (int, int) { return 1000, 50 }}
			terminal.Update(p, nil)
			terminal.Note(text)
			terminal.End(result)
			own := strings.NewReplacer("\r", "", "\x1b[K", "", "\x1b[J", "", "\x1b[2A", "", "\x1b[3A", "", "\x1b[4A", "", "\x1b[5A", "", "\x1b[6A", "")
			silent(t, "the terminal", own.Replace(drawn.String()))

			page := filepath.Join(t.TempDir(), "summary")
			(&StepSummary{Path: page, Warn: func(msg string) { t.Error(msg) }}).End(result)
			markdown, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			silent(t, "the step summary", string(markdown))

			var objects strings.Builder
			j := &JSON{W: &objects}
			j.Update(p, p.Hosts)
			j.Note(text)
			j.End(result)
			silent(t, "JSON", objects.String())
			var note struct{ Message string }
			if err := json.Unmarshal([]byte(strings.Split(objects.String(), "\n")[2]), &note); err != nil || note.Message != strings.ToValidUTF8(text, "\ufffd") && len(note.Message) < len(text)/2 {
				t.Errorf("JSON has lost what it escapes: %v", err)
			}
		}
	}

	rows := []Row{{}}
	foreign.Fill(&rows[0])
	silent(t, "hosts", Table(rows, rows, store.Version{ETag: text}, 0))
	silent(t, "Clean", Clean(text))
}

// What a record, the store or a release says reaches no file for programs and no CI system otherwise than as text.
func TestNothingForeignSpeaksInAFormat(t *testing.T) {
	text := foreign.Text()
	r := &record.Record{}
	foreign.Fill(r)
	r.Remote, r.Status = remote, record.Failed
	failed := judge("web1", r, remote, text, "")
	strange := Host{Name: text, State: text, Why: text, Verdict: Failed, Record: r}
	missing := Host{Name: text, State: text, Why: text, Verdict: Missing}
	result := Result{Progress: Progress{Remote: "s3://x/" + text, Version: store.Version{ETag: text}, Hosts: []Host{failed, strange, missing}, Failed: 2, Missing: 1},
		Outcome: HostsFailed, Because: errors.New(text)}
	passed := result
	passed.Outcome = Passed
	rows := []Row{{}}
	foreign.Fill(&rows[0])
	timeline := Timeline{Version: record.Version{}, Bars: []Bar{{Host: text, Status: text, Spans: []Span{{Stage: Acknowledge, To: time.Second}}}}, Others: []string{text}}
	foreign.Fill(&timeline.Version)
	now := store.Version{ETag: text, Modified: time.Unix(9, 0)}

	inFile := func(end func(path string)) func(io.Writer) error {
		return func(w io.Writer) error {
			path := filepath.Join(t.TempDir(), "file")
			end(path)
			data, err := os.ReadFile(path)
			if err == nil {
				_, err = w.Write(data)
			}
			return err
		}
	}
	warn := func(msg string) { t.Error(msg) }
	for name, write := range map[string]func(io.Writer) error{
		"CSV":                func(w io.Writer) error { return CSV(w, rows) },
		"OpenMetrics":        func(w io.Writer) error { return OpenMetrics(w, rows, now) },
		"JSON lines":         func(w io.Writer) error { return JSONLines(w, rows) },
		"annotations":        func(w io.Writer) error { (&Annotations{W: w}).End(result); return nil },
		"a step's outputs":   inFile(func(path string) { (&StepOutput{Path: path, Warn: warn}).End(result) }),
		"JUnit":              inFile(func(path string) { (&JUnit{Path: path, Warn: warn}).End(result) }),
		"JUnit of a success": inFile(func(path string) { (&JUnit{Path: path, Warn: warn}).End(passed) }),
		"a timeline":         func(w io.Writer) error { _, err := io.WriteString(w, timeline.Text(200)); return err },
		"a picture":          timeline.SVG,
		"a version": func(w io.Writer) error {
			_, err := io.WriteString(w, versionName(now, Release{ID: text, Rev: text, Message: text}))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			if err := write(&printed); err != nil {
				t.Fatal(err)
			}
			silent(t, name, printed.String())
		})
	}
}
