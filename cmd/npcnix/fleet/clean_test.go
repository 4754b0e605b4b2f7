package fleet

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// hostile has every control and format character of Unicode, the separators, and what is private or broken.
func hostile() string {
	var b strings.Builder
	b.WriteString("x")
	for _, table := range []*unicode.RangeTable{unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co} {
		for _, r := range table.R16 {
			for c := r.Lo; ; c += r.Stride {
				b.WriteRune(rune(c))
				if c >= min(r.Hi, r.Lo+200*r.Stride) {
					break
				}
			}
		}
		for _, r := range table.R32 {
			for c := r.Lo; ; c += r.Stride {
				b.WriteRune(rune(c))
				if c >= min(r.Hi, r.Lo+200*r.Stride) {
					break
				}
			}
		}
	}
	b.WriteString("\x80\x9b\xc2y")
	return b.String()
}

// fill makes every text in v hostile, but for those that tell the record apart.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fill(v.Elem(), text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.String:
		v.SetString(text)
	}
}

func silent(t *testing.T, what, printed string) {
	t.Helper()
	if !strings.Contains(printed, "x") {
		t.Errorf("%s prints nothing of it", what)
	}
	for _, r := range printed {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s prints %U", what, r)
			return
		}
	}
}

func TestNothingForeignSpeaksToTheTerminal(t *testing.T) {
	text := hostile()
	r := &record.Record{}
	fill(reflect.ValueOf(r).Elem(), text)
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
	fill(reflect.ValueOf(&rows[0]).Elem(), text)
	silent(t, "hosts", Table(rows, rows, store.Version{ETag: text}, 0))
	silent(t, "Clean", Clean(text))
}
