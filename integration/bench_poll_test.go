package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

// pollsVariable, in the environment, names the remote that the test binary is to poll.
const pollsVariable = "NPCNIX_BENCH_POLLS"

const polls = 5000

// init makes a poller of the test binary that BenchmarkPoll starts, before anything else runs.
func init() {
	url := os.Getenv(pollsVariable)
	if url == "" {
		return
	}
	cpu, err := pollCPU(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(int64(cpu))
	os.Exit(0)
}

// pollCPU returns the processor time of one poll that finds nothing new, of many on one connection.
func pollCPU(url string) (time.Duration, error) {
	ctx := context.Background()
	r, err := store.Open(ctx, url, store.Options{})
	if err != nil {
		return 0, err
	}
	have, err := r.Latest(ctx, store.Version{})
	if err != nil {
		return 0, err
	}
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	for range polls {
		if _, err := r.Latest(ctx, have); err != nil {
			return 0, err
		}
	}
	after, err := ownCPU()
	return (after - before) / polls, err
}

func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// BenchmarkPoll measures the processor time, user and system, of a conditional HEAD by this
// project, in a process without the server, beside that of the `aws s3api head-object` that the
// Rust npcnix starts for each poll.
func BenchmarkPoll(b *testing.B) {
	aws := withoutShim(need(b, "aws"))
	f := newFleet(b, 0)
	f.publish()
	etag := f.etag()
	var ours, theirs time.Duration
	const commands = 5
	for b.Loop() {
		poller := exec.Command(os.Args[0])
		poller.Env = append(f.env(), pollsVariable+"="+remote+"?region="+awsfake.Region+"&endpoint="+f.endpoint)
		out, err := poller.Output()
		f.must(err)
		var cpu int64
		_, err = fmt.Sscan(string(out), &cpu)
		f.must(err)
		ours += time.Duration(cpu)

		for range commands {
			cmd := exec.Command(aws, "s3api", "head-object", "--bucket", bucket, "--key", key)
			cmd.Env = f.env()
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), etag) {
				b.Fatalf("aws s3api head-object: %v\n%s", err, out)
			}
			theirs += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()) / commands
		}
	}
	quiet(b)
	b.ReportMetric(milliseconds(ours)/float64(b.N), "npcnix-cpu-ms")
	b.ReportMetric(milliseconds(theirs)/float64(b.N), "aws-cli-cpu-ms")
	b.ReportMetric(float64(theirs)/float64(ours), "x-cheaper")
}

// withoutShim returns the program behind a pyenv shim, whose own processor time is not the
// program's.
func withoutShim(program string) string {
	if filepath.Base(filepath.Dir(program)) != "shims" {
		return program
	}
	out, err := exec.Command("pyenv", "which", filepath.Base(program)).Output()
	if err != nil {
		return program
	}
	return strings.TrimSpace(string(out))
}
