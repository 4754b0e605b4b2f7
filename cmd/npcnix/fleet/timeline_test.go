package fleet

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
)

// steps are the times of a record: from the publish, in milliseconds; less than -1,000,000: never.
func steps(noticed, fetched, built, activated, acknowledged int) record.Times {
	begin := time.Now()
	at := func(ms int) time.Time {
		if ms < -1e6 {
			return time.Time{}
		}
		return begin.Add(time.Duration(ms) * time.Millisecond)
	}
	return record.Times{Published: begin, Noticed: at(noticed), Fetched: at(fetched), Built: at(built), Activated: at(activated), Acknowledged: at(acknowledged), Written: begin}
}

const never = -1e6 - 1

func timelineOf(t *testing.T, s *fakeStore, begins string) Timeline {
	t.Helper()
	line, err := (&Roster{Store: s, Stale: time.Hour}).Timeline(t.Context(), begins)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestTimeline(t *testing.T) {
	t.Run("a bar tells the stages, who failed, and whose clock is wrong", testTimelineBars)
	t.Run("the example of the docs is what is drawn", testTimelineOfTheDocs)
	t.Run("300 hosts fit a terminal, and all are in the picture", testTimelineMany)
	t.Run("a version is named by the beginning of its ETag, release or revision", testTimelineVersions)
	t.Run("a picture holds what a host wrote as text", testTimelinePicture)
}

func testTimelineBars(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		ahead := steps(60_500, 61_000, 64_000, 68_000, 68_000)
		ahead.Written = ahead.Written.Add(time.Minute)
		behind := steps(-4_000, -3_000, 1_000, 6_000, 6_000)
		behind.Written = behind.Written.Add(-5 * time.Second)
		s.says("ahead", "applied", "v1", "times", ahead)
		s.says("behind", "applied", "v1", "times", behind)
		s.says("broken", "rolled_back", "v1", "times", steps(1_000, 2_000, 4_000, never, 9_000))
		s.says("busy", "building", "v1", "attempt", 3, "times", steps(2_000, 40_000, never, never, 40_001))
		s.says("held", "held", "v1", "times", steps(1_000, never, never, never, 1_000))
		s.says("other", "applied", "v0", "times", steps(1_000, 2_000, 4_000, 8_000, 8_000))
		s.says("oldest", "applied", "v1", "times", record.Times{Noticed: time.Now(), Acknowledged: time.Now().Add(7 * time.Second)})
		s.says("web1", "applied", "v1", "times", steps(500, 1_000, 4_000, 8_000, 8_000))
		s.says("web2", "applied", "v1", "times", steps(700, 1_000, 6_000, 18_000, 18_100))
		text := timelineOf(t, s, "").Text(80)
		if want := "behind  <<<"; !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
		for _, want := range []string{"< noticed before it was published", "clocks: 2 hosts more than 2s from the store's; notice and sum omit them",
			"no times of it: held: held, other: behind\n", ", clock +1m\n", ", clock -5s\n", "9s, rolled back\n", "40s, building, attempt 3\n",
			"clocks: unknown of 1 host with an older npcnix", "\n. notice          500ms    700ms    700ms  web2\n", "\nin all               8s      18s      18s  web2\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		narrow(t, text, 80)
		narrow(t, timelineOf(t, s, "").Text(40), 40)
	})
}

func testTimelineOfTheDocs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("3f2a9c41d07e")
		behind := steps(-4_400, -3_900, 3_000, 14_000, 14_000)
		behind.Written = behind.Written.Add(-5 * time.Second)
		s.says("db1", "rolled_back", "3f2a9c41d07e", "times", steps(900, 1_900, 9_000, never, 24_000))
		s.says("web1", "applied", "3f2a9c41d07e", "times", steps(700, 1_600, 10_000, 19_000, 19_000))
		s.says("web2", "applied", "3f2a9c41d07e", "times", steps(800, 1_500, 25_000, 40_000, 40_000))
		s.says("web3", "applied", "3f2a9c41d07e", "times", behind)
		s.says("web4", "paused", "", "error", "")
		text := timelineOf(t, s, "").Text(80)
		page, err := os.ReadFile("../../../docs/observability.md")
		if err != nil || !strings.Contains(string(page), "\n```text\n"+text+"```\n") {
			t.Errorf("%v: docs/observability.md does not have\n%s", err, text)
		}
	})
}

func testTimelineMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		for i := range 300 {
			s.says(fmt.Sprintf("web-with-a-long-name-of-its-own-%d", i), "applied", "v1", "times", steps(500, 1_000, 4_000, 8_000+i*10, 8_000+i*10))
		}
		line := timelineOf(t, s, "v")
		text := line.Text(80)
		narrow(t, text, 80)
		if n := strings.Count(text, "\n"); n > 40 || !strings.Contains(text, "and 280 more, which took 11s at most") {
			t.Errorf("%d lines:\n%s", n, text)
		}
		var picture bytes.Buffer
		if err := line.SVG(&picture); err != nil || strings.Count(picture.String(), ">web-with") < 300 {
			t.Errorf("%v: %s", err, picture.String())
		}
		parsed(t, picture.Bytes())
	})
}

func testTimelineVersions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("abc1")
		s.put("web1", `{"schema": 2, "host": "web1", "remote": "`+remote+`", "status": "applied", "version": {"etag": "abc2", "release": "r-7", "rev": "deadbeef"},
			"times": {"noticed": "2026-11-28T10:00:00Z", "acknowledged": "2026-11-28T10:00:09Z"}}`)
		for _, begins := range []string{"abc2", "r-", "dead"} {
			if line := timelineOf(t, s, begins); line.Version.ETag != "abc2" || len(line.Bars) != 1 {
				t.Errorf("%s: %+v", begins, line)
			}
		}
		if text := timelineOf(t, s, "").Text(80); text != "abc1\nno times of it: web1: behind\n" {
			t.Errorf("of the present version: %q", text)
		}
		for _, begins := range []string{"abc", "x"} {
			if _, err := (&Roster{Store: s}).Timeline(t.Context(), begins); !errors.Is(err, ErrVersion) {
				t.Errorf("%s: %v", begins, err)
			}
		}
		if text := timelineOf(t, newStore(""), "").Text(80); text != "nothing is published\n" {
			t.Error(text)
		}
	})
}

func testTimelinePicture(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "<script>", "v1", "times", steps(1, 2, 3, 4, 5))
		s.says("<b>&", "applied", "v1", "times", steps(-1, 2, 3, 4, 5))
		s.says("quick", "applied", "v1", "times", steps(0, 0, 0, 0, 0))
		var picture bytes.Buffer
		if err := timelineOf(t, s, "").SVG(&picture); err != nil {
			t.Fatal(err)
		}
		if parsed(t, picture.Bytes()); strings.Contains(picture.String(), "<script>") {
			t.Error(picture.String())
		}
	})
}

func narrow(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if columns(strings.TrimSuffix(line, "\n")) > width {
			t.Errorf("%q is wider than %d", line, width)
		}
	}
}

func parsed(t *testing.T, picture []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
	}
}
