package agent

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/npcnix/npcnix/agent/command"
	"github.com/npcnix/npcnix/agent/config"
)

func TestTheOutputOfACommandIsKeptInPartAndPlain(t *testing.T) {
	for _, c := range []struct{ name, script, last, why string }{
		{"a few lines", `echo one; echo two >&2; exit 3`, "two", "exit status 3: two"},
		{"colours", `printf '\033[31;1mbad\033[0m\n'; exit 3`, "bad", "exit status 3: bad"},
		{"a line of 32 MiB", `head -c 33554432 /dev/zero | tr '\0' x; exit 3`, "x…", "x…"},
		{"100,000 lines", `seq 100000; exit 3`, "100000", "100000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			tail, err := command.Run(t.Context(), []string{"/bin/sh", "-c", c.script}, nil)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.HasSuffix(err.Error(), c.why) || len(err.Error()) > 10_000 {
				t.Errorf("error of %d bytes: %.200v, want %q", len(err.Error()), err, c.why)
			}
			if len(tail) == 0 || !strings.HasSuffix(tail[len(tail)-1], c.last) || len(strings.Join(tail, "")) > 200_000 {
				t.Errorf("kept %d lines, of %d bytes", len(tail), len(strings.Join(tail, "")))
			}
			if grown := int64(after.HeapSys - before.HeapSys); grown > 24<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

func TestAHookIsToldOfAnErrorThatIsLong(t *testing.T) {
	// Not in a bubble: a hook is a process.
	r := newRig(t)
	out := r.dir.Path("told")
	r.configure(func(c *config.Config) {
		c.RetryDelaysSecs = []int64{}
		c.Hooks.OnFailure = []string{"/bin/sh", "-c", `printf %s "$NPCNIX_ERROR" >"$0"`, out}
	})
	r.opts.Once, r.opts.Queue = OnceAny, nil
	r.host.activate = func() error { return errors.New("check web: " + strings.Repeat("é", 300_000)) }
	r.start()
	<-r.done
	r.stop()
	told, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(told), "check web: é") || !strings.HasSuffix(string(told), "é…") || len(told) > 16<<10 {
		t.Errorf("told %d bytes: %.100s, %v", len(told), told, err)
	}
}

func TestARecordIsShortWhateverFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		f := Failure{Target: Target{Remote: testRemote, Configuration: "web1", ETag: "v1"}, Rejected: true, Error: strings.Repeat("<", 600_000)}
		for range 40 {
			f.Tail = append(f.Tail, strings.Repeat("<", 4096))
		}
		f.Tail = append(f.Tail, "the end")
		r.fails(f)
		r.start()
		synctest.Wait()
		r.end()
		rec := r.store.lastRecord()
		body, err := json.MarshalIndent(rec, "", "  ")
		if err != nil || len(body) > 512<<10 || len(rec.LogTail) < 10 || rec.LogTail[len(rec.LogTail)-1] != "the end" || !strings.HasSuffix(rec.Error, "<…") {
			t.Errorf("a record of %d bytes, with %d lines: %v", len(body), len(rec.LogTail), err)
		}
	})
}
