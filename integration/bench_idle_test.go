package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// idleVariable, in the environment, sets how long BenchmarkIdle watches.
const idleVariable = "NPCNIX_BENCH_IDLE"

// cominRSS is what comin, which polls, is said to occupy when idle. It is quoted, not measured.
const cominRSS = 21.0

// BenchmarkIdle measures what an idle agent takes: the binary as `make build` makes it, on a
// healthy queue, after one publish was applied with the real nix. By default it watches for a
// minute: three long polls, and the one look at the store that follows a start.
func BenchmarkIdle(b *testing.B) {
	idle := time.Minute
	if s := os.Getenv(idleVariable); s != "" {
		var err error
		if idle, err = time.ParseDuration(s); err != nil {
			b.Fatalf("%s: %v", idleVariable, err)
		}
	}
	need(b, "aws")
	binary := filepath.Join(b.TempDir(), "npcnix")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/npcnix/npcnix/cmd/npcnix")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build npcnix: %v\n%s", err, out)
	}
	f := newFleet(b, 1)
	h := newHost(f.world, f.hosts[0])
	h.configure(map[string]any{"remote": remote, "configuration": h.name, "queue_url": f.queueURL(h.name), "metrics_textfile": h.path("npcnix.prom")})
	h.must(os.MkdirAll(h.path("profiles"), 0o755))
	h.agent = exec.Command(binary, append(h.flags(), "follow", "--host", h.name,
		"--profile", h.path("profiles", "system"), "--current-system", h.path("root", nixtest.CurrentSystem))...)
	h.agent.Env = append(append(h.env(), nixtest.Env()...), nixtest.RootVariable+"="+h.path("root"), "XDG_CACHE_HOME="+h.path("cache"))
	h.agent.Stderr = h.log
	h.must(h.agent.Start())
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.agent.Wait(); close(h.ended) }()
	f.awaitParked()
	h.publish(nixtest.System{Version: "one"})
	h.await("the record", func() bool { return h.record().Status == record.Applied })
	f.awaitCount(awsfake.Deleted, 1)
	pid := h.agent.Process.Pid

	var cpu, watched time.Duration
	for b.Loop() {
		before, begun := h.cpu(pid), time.Now()
		select {
		case <-time.After(idle):
		case err := <-h.ended:
			b.Fatalf("the agent ended: %v", err)
		}
		cpu += h.cpu(pid) - before
		watched += time.Since(begun)
	}
	quiet(b)
	rss := h.memory(pid, "VmRSS")
	b.ReportMetric(rss, "rss-MiB")
	b.ReportMetric(h.memory(pid, "RssAnon"), "of-it-anonymous-MiB")
	b.ReportMetric(h.memory(pid, "RssFile"), "of-it-file-MiB")
	b.ReportMetric(cominRSS, "comin-rss-MiB(quoted)")
	b.ReportMetric(rss/cominRSS, "rss-x-comin")
	b.ReportMetric(100*cpu.Seconds()/watched.Seconds(), "cpu-%")
}

// cpu returns the processor time that a process has used, to the nanosecond, by its clock; the
// kernel makes the clock's id of the process id (clock_getcpuclockid(3)).
func (h *host) cpu(pid int) time.Duration {
	h.t.Helper()
	var t unix.Timespec
	h.must(unix.ClockGettime(int32(^pid<<3|2), &t))
	return time.Duration(t.Nano())
}

// memory returns a line of /proc/PID/status in MiB.
func (h *host) memory(pid int, line string) float64 {
	h.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	h.must(err)
	for l := range bytes.Lines(status) {
		if rest, found := strings.CutPrefix(string(l), line+":"); found {
			var kib float64
			_, err := fmt.Sscan(rest, &kib)
			h.must(err)
			return kib / 1024
		}
	}
	h.t.Fatalf("no %s in /proc/%d/status", line, pid)
	return 0
}
