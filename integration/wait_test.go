package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/integration/moto"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The CI gate: npcnix wait, against hosts whose records the test writes, and against real agents.

func TestWait(t *testing.T) {
	t.Parallel()
	t.Run("on moto", waitOnMoto)
	t.Run("on awsfake", waitOnAWSFake)
	t.Run("watches a thousand hosts sparingly", thousandHosts)
	t.Run("for real agents", waitForAgents)
}

func waitOnMoto(t *testing.T) {
	t.Parallel()
	w := newWorld(t, moto.Start(t))
	waits(t, w, 4)
}

func waitOnAWSFake(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	w := newWorld(t, cloud.URL())
	waits(t, w, 200)
	t.Run("a store that answers 503 for a while is waited for", func(t *testing.T) {
		f := newWatched(t, w, 200)
		etag := f.push("one")
		f.say(f.hosts, "applied", etag)
		var faults []*awsfake.Fault
		for _, action := range []string{"HeadObject", "ListObjectsV2", "GetObject"} {
			faults = append(faults, cloud.Fault(awsfake.Call{Service: "s3", Action: action, AccessKey: "outage"}, awsfake.Effect{Status: 503, Code: "SlowDown"}))
		}
		g := f.gate([]string{"AWS_ACCESS_KEY_ID=outage"}, "wait", "--remote", f.remote, "--etag", etag, "--hosts-file", f.file)
		await(t, "the outage said", func() bool { return g.stderr.count("the records cannot be read, trying again") == 1 })
		for _, fault := range faults {
			fault.Remove()
		}
		g.ends(0, "the records can be read again", "passed: ", "200 of 200 done")
		if g.stderr.count("trying again") != 1 {
			t.Errorf("said more than once:\n%s", g.stderr)
		}
	})
	t.Run("a publish while the hosts are found out supersedes what the remote held", func(t *testing.T) {
		f := newWatched(t, w, 1)
		f.push("one")
		hosts := filepath.Join(t.TempDir(), "hosts")
		f.must(syscall.Mkfifo(hosts, 0o600))
		g := f.gate([]string{"AWS_ACCESS_KEY_ID=slow"}, "wait", "--remote", f.remote, "--hosts-file", hosts)
		_, err := cloud.Await(t.Context(), func(e awsfake.Entry) bool {
			return e.What == awsfake.Answered && e.AccessKey == "slow" && e.Action == "HeadObject"
		})
		f.must(err)
		newer := f.push("two")
		f.must(os.WriteFile(hosts, []byte("host0000"), 0o600)) // which waits for the reader
		g.ends(5, "superseded: ", "holds "+newer[:12])
	})
	t.Run("queues that never answer end it within --timeout", func(t *testing.T) {
		f := newWatched(t, w, 1)
		f.push("one")
		f.world.topic = w.topic
		url, _ := f.queue("wait-hang-"+nixtest.Salt(), 3)
		f.tag(url, map[string]string{"npcnix:host": "host0000"})
		cloud.Fault(awsfake.Call{Service: "sqs", AccessKey: "hang"}, awsfake.Effect{Hang: true})
		g := f.gate([]string{"AWS_ACCESS_KEY_ID=hang"}, "wait", "--remote", f.remote, "--topic-arn", f.topic, "--timeout", "1s")
		g.ends(1, "could not be determined within 1s (--timeout)")
	})
}

func newCloud(t *testing.T) *awsfake.Cloud {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return cloud
}

// watched is a remote of its own and hosts that are nothing but records.
type watched struct {
	*world
	key, remote string
	hosts       []string
	file        string // that names them
	flake       string
}

func newWatched(t *testing.T, w *world, size int) *watched {
	t.Helper()
	f := &watched{world: worldAt(t, w.endpoint), flake: t.TempDir()}
	f.key = "npcnix/remotes/" + nixtest.Salt() + ".npcnix"
	f.remote = "s3://" + bucket + "/" + f.key
	for i := range size {
		f.hosts = append(f.hosts, fmt.Sprintf("host%04d", i))
	}
	f.file = filepath.Join(t.TempDir(), "hosts")
	f.must(os.WriteFile(f.file, []byte(strings.Join(f.hosts, "\n")), 0o644))
	return f
}

// write makes the flake that the next push publishes.
func (f *watched) write(text string) {
	f.t.Helper()
	f.must(os.WriteFile(filepath.Join(f.flake, "flake.nix"), []byte("{ outputs = _: { }; } # "+text), 0o644))
}

// push publishes a flake with that text and returns its ETag.
func (f *watched) push(text string) string {
	f.t.Helper()
	f.write(text)
	return strings.TrimSpace(f.run("push", "--src", f.flake, "--remote", f.remote))
}

// say writes the records of hosts; further members are given as name, value pairs.
func (f *watched) say(hosts []string, status, etag string, more ...any) {
	f.t.Helper()
	var wg sync.WaitGroup
	work := make(chan string)
	for range 16 {
		wg.Go(func() {
			for host := range work {
				r := map[string]any{
					"schema": 2, "host": host, "remote": f.remote, "configuration": host, "attempt": 1,
					"version": map[string]string{"etag": etag}, "status": status,
				}
				for i := 0; i < len(more); i += 2 {
					r[more[i].(string)] = more[i+1]
				}
				body, err := json.Marshal(r)
				if err == nil {
					_, err = f.s3.PutObject(f.t.Context(), &s3.PutObjectInput{
						Bucket: aws.String(bucket), Key: aws.String(f.key + ".acks/" + host + ".json"), Body: strings.NewReader(string(body)),
					})
				}
				if err != nil {
					f.t.Errorf("record of %s: %v", host, err)
				}
			}
		})
	}
	for _, host := range hosts {
		work <- host
	}
	close(work)
	wg.Wait()
}

// gate is an npcnix that waits.
type gate struct {
	t              testing.TB
	cmd            *exec.Cmd
	stdout, stderr *lockedBuffer
	ended          chan error
}

func (f *watched) gate(env []string, args ...string) *gate {
	f.t.Helper()
	g := &gate{t: f.t, cmd: exec.Command(npcnix, args...), stdout: &lockedBuffer{}, stderr: &lockedBuffer{}, ended: make(chan error, 1)}
	g.cmd.Env = append(f.env(), env...)
	g.cmd.Stdout, g.cmd.Stderr = g.stdout, g.stderr
	f.must(g.cmd.Start())
	go func() { g.ended <- g.cmd.Wait(); close(g.ended) }()
	f.t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-g.ended
	})
	return g
}

// ends waits for the end and compares the exit code, and what was said on stderr.
func (g *gate) ends(code int, says ...string) {
	g.t.Helper()
	for _, wrong := range g.wrong(code, says) {
		g.t.Error(wrong)
	}
}

// timesOut waits until the time of a wait is up, and compares what was said. The time is long enough for the
// gate to look once, however busy the machine is.
func (f *watched) timesOut(says []string, args ...string) {
	f.t.Helper()
	for timeout := 3 * time.Second; ; timeout *= 4 {
		g := f.gate(nil, append(slices.Clone(args), "--timeout", timeout.String())...)
		wrong := g.wrong(4, says)
		if len(wrong) == 0 {
			return
		}
		if timeout > time.Minute {
			f.t.Error(strings.Join(wrong, "\n"))
			return
		}
	}
}

// wrong waits for the end, and returns how that differs from an exit code, and from what is to be said.
func (g *gate) wrong(code int, says []string) (wrong []string) {
	g.t.Helper()
	var err error
	select {
	case err = <-g.ended:
	case <-time.After(2 * time.Minute):
		g.t.Fatalf("the wait does not end:\n%s", g.stderr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	if got := g.cmd.ProcessState.ExitCode(); got != code {
		wrong = append(wrong, fmt.Sprintf("it ended with %d, want %d:\n%s", got, code, g.stderr))
	}
	for _, s := range says {
		if !strings.Contains(g.stderr.String(), s) {
			wrong = append(wrong, fmt.Sprintf("it does not say %q:\n%s", s, g.stderr))
		}
	}
	return wrong
}

// waits are the ways in which a wait ends.
func waits(t *testing.T, w *world, size int) {
	last := fmt.Sprintf("host%04d", size-1)
	all := fmt.Sprintf("%d of %d done", size, size)
	run := func(name string, test func(t *testing.T, f *watched)) {
		t.Run(name, func(t *testing.T) { test(t, newWatched(t, w, size)) })
	}

	run("push --wait passes when all hosts have applied", func(t *testing.T, f *watched) {
		f.say(f.hosts, "applied", "an-older-one")
		f.write("one")
		g := f.gate(nil, "push", "--src", f.flake, "--remote", f.remote, "--wait")
		await(t, "the ETag", func() bool { return g.stdout.count("\n") == 1 })
		etag := strings.TrimSpace(g.stdout.String())
		f.say(f.hosts, "building", etag)
		await(t, "a host shown as building", func() bool { return g.stderr.count(last+" building") == 1 })
		f.say(f.hosts, "applied", etag)
		g.ends(0, "passed: ", all, "publish to applied, "+fmt.Sprint(size)+" hosts: p50 ")
	})

	run("a host that failed ends it with 3, with its error and log", func(t *testing.T, f *watched) {
		etag := f.push("one")
		f.say(f.hosts[1:], "building", etag)
		g := f.gate(nil, "wait", "--remote", f.remote, "--hosts-file", f.file, "--allow-unknown")
		f.say(f.hosts[:1], "failed", etag, "error", "build fails", "log_tail", []string{"error: no such attribute"})
		g.ends(3, "host0000 failed: build fails", "  | error: no such attribute", "on host0000: npcnix status", "1 of "+fmt.Sprint(size)+" hosts failed")
	})

	run("a host that rolls back after it had applied ends it with 3", func(t *testing.T, f *watched) {
		etag := f.push("one")
		f.say(f.hosts[:size-1], "applied", etag)
		g := f.gate(nil, "wait", "--remote", f.remote, "--hosts-file", f.file, "--allow-unknown")
		await(t, "the others done", func() bool { return g.stderr.count(fmt.Sprintf("%d of %d done", size-1, size)) > 0 })
		f.say(f.hosts[:1], "rolled_back", etag, "error", "the health check failed")
		g.ends(3, "host0000 rolled back: the health check failed")
	})

	run("an unheard and a paused host are missing: 4", func(t *testing.T, f *watched) {
		etag := f.push("one")
		f.say(f.hosts[2:], "applied", etag)
		f.say(f.hosts[:1], "paused", "")
		f.timesOut([]string{"host0000 paused: paused by its operator", "unheard: host0001", "with 2 of ", "1 paused, 1 unheard",
			"to go on waiting: npcnix wait --remote " + f.remote + " --etag " + etag}, "wait", "--remote", f.remote, "--hosts-file", f.file, "--allow-unknown")
	})

	run("a newer publish ends the wait for the older with 5", func(t *testing.T, f *watched) {
		etag := f.push("one")
		f.say(f.hosts, "building", etag)
		g := f.gate(nil, "wait", "--remote", f.remote)
		await(t, "the wait begun", func() bool { return g.stderr.count(fmt.Sprintf("%d building", size)) == 1 })
		newer := f.push("two")
		g.ends(5, "superseded: ", "holds "+newer[:12])
		// What was applied before never satisfies the newer one.
		f.say(f.hosts, "applied", etag)
		f.timesOut([]string{fmt.Sprintf("%d behind", size)}, "wait", "--remote", f.remote)
		f.say(f.hosts, "applied", newer)
		f.gate(nil, "wait", "--remote", f.remote).ends(0, all)
	})

	run("an identical re-publish passes at once", func(t *testing.T, f *watched) {
		etag := f.push("one")
		f.say(f.hosts, "applied", etag)
		f.gate(nil, "push", "--src", f.flake, "--remote", f.remote, "--wait", "--interval", "10m").ends(0, all)
	})

	run("clocks that are hours off change nothing", func(t *testing.T, f *watched) {
		f.write("one")
		g := f.gate(nil, "push", "--src", f.flake, "--remote", f.remote, "--wait", "--hosts-file", f.file, "--json")
		await(t, "the first look", func() bool { return g.stdout.count(`"host":"`+last+`"`) == 1 })
		etag := f.pushed()
		for i, host := range f.hosts {
			off := time.Now().Add(time.Duration(i%7-3) * 3 * time.Hour)
			f.say([]string{host}, "applied", etag, "times", map[string]time.Time{"noticed": off, "fetched": off, "built": off, "activated": off})
		}
		g.ends(0)
		var summary struct {
			Event, Outcome string
			Latency        map[string]any `json:"publish_to_applied_secs"`
		}
		lines := strings.Split(strings.TrimSpace(g.stdout.String()), "\n")
		f.must(json.Unmarshal([]byte(lines[len(lines)-1]), &summary))
		p99, _ := summary.Latency["p99"].(float64)
		if summary.Event != "summary" || summary.Outcome != "passed" || summary.Latency["hosts"] != float64(size) || p99 < 0 || p99 > 3600 {
			t.Errorf("%s", lines[len(lines)-1])
		}
	})

	run("an interrupted wait says how to go on, and can", func(t *testing.T, f *watched) {
		etag := f.push("one")
		g := f.gate(nil, "wait", "--remote", f.remote, "--host", "host0000")
		await(t, "the wait begun", func() bool { return g.stderr.count("1 unheard") == 1 })
		f.must(g.cmd.Process.Signal(syscall.SIGINT))
		again := "npcnix wait --remote " + f.remote + " --etag " + etag + " --host host0000"
		g.ends(1, "to go on waiting: "+again, "interrupted")
		f.say(f.hosts[:1], "applied", etag)
		f.gate(nil, strings.Fields(again)[1:]...).ends(0, "1 of 1 done")
	})

	run("the hosts of a topic are those whose queues are subscribed", func(t *testing.T, f *watched) {
		f.world.topic = w.topic
		url, _ := f.queue("wait-"+filepath.Base(t.TempDir())+"-"+nixtest.Salt(), 3)
		f.tag(url, map[string]string{"npcnix:host": "tagged"})
		other, _ := f.queue("wait-other-"+nixtest.Salt(), 3)
		defer func() { // the topic is the next test's too
			for _, u := range []string{url, other} {
				_, err := f.sqs.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &u})
				f.must(err)
			}
		}()
		etag := f.push("one")
		g := f.gate(nil, "wait", "--remote", f.remote, "--topic-arn", w.topic, "--json")
		await(t, "the queue shown", func() bool { return g.stderr.count("waiting for 1 host of") == 1 })
		f.say([]string{"tagged"}, "applied", etag)
		g.ends(0, "has no tag npcnix:host", "1 of 1 done")
	})

	run("what cannot be waited for is said", func(t *testing.T, f *watched) {
		f.gate(nil, "wait", "--remote", "s3://no-such-bucket-"+nixtest.Salt()+"/x.npcnix", "--host", "a").ends(1, "not found")
		f.gate(nil, "wait", "--remote", f.remote, "--host", "a").ends(1, "not found")
		etag := f.push("one")
		f.gate(nil, "wait", "--remote", f.remote).ends(2, "no host has a record")
		f.gate(nil, "wait", "--remote", f.remote, "--host", "a", "--etag", "0123").ends(1, "never published")
		f.gate(nil, "wait", "--remote", f.remote, "--topic-arn", w.topic+"-none").ends(1, "there is no such topic")
		f.gate(nil, "wait", "--remote", f.remote, "--topic-arn", "npcnix").ends(2, "is no topic's ARN")
		f.say(f.hosts[:1], "applied", etag, "schema", 7)
		f.timesOut([]string{"host0000 unreadable: record of schema 7"}, "wait", "--remote", f.remote)
	})
}

// pushed waits until the fleet's remote holds something and returns its ETag.
func (f *watched) pushed() string {
	f.t.Helper()
	etag := ""
	await(f.t, "the publish", func() bool {
		out, err := f.s3.HeadObject(f.t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: &f.key})
		if err == nil {
			etag = strings.Trim(*out.ETag, `"`)
		}
		return err == nil
	})
	return etag
}

func (f *watched) tag(queue string, tags map[string]string) {
	f.t.Helper()
	_, err := f.sqs.TagQueue(f.t.Context(), &sqs.TagQueueInput{QueueUrl: &queue, Tags: tags})
	f.must(err)
}

func thousandHosts(t *testing.T) {
	t.Parallel()
	const size = 1000
	cloud := newCloud(t)
	w := newWorld(t, cloud.URL())
	f := newWatched(t, w, size)
	etag := f.push("one")
	f.say(f.hosts, "building", etag)
	g := f.gate([]string{"AWS_ACCESS_KEY_ID=gate"}, "wait", "--remote", f.remote)
	await(t, "the first look", func() bool { return g.stderr.count("1000 building") > 0 })
	for part := range slices.Chunk(f.hosts[1:], 333) {
		f.say(part, "applied", etag)
	}
	await(t, "all but one seen", func() bool { return g.stderr.count(" applied") == size-1 })
	f.say(f.hosts[:1], "applied", etag)
	last := time.Now()
	g.ends(0, "1000 of 1000 done")
	t.Logf("noticed after %s", time.Since(last))

	requests, gets := map[string]int{}, map[string]int{}
	listsAfter := 0
	for _, e := range cloud.Trace() {
		if e.What != awsfake.Requested || e.AccessKey != "gate" {
			continue
		}
		requests[e.Action]++
		if e.Action == "GetObject" {
			gets[e.Key]++
		}
		if e.Action == "ListObjectsV2" && e.At.After(last) {
			listsAfter++
		}
	}
	t.Logf("requests: %v", requests)
	// One LIST to find the hosts, and one GET of the flake's end, to know the release; then one HEAD and one LIST a
	// look, besides the version's own HEAD.
	if requests["ListObjectsV2"] != requests["HeadObject"] {
		t.Errorf("requests %v: want one LIST for each HEAD", requests)
	}
	if listsAfter > 1 {
		t.Errorf("the last acknowledgement took %d looks to be noticed", listsAfter)
	}
	for key, n := range gets {
		if n > 2 {
			t.Errorf("%s was written twice and read %d times", key, n)
		}
	}
	if requests["GetObject"] != 2*size+1 || len(requests) != 3 {
		t.Errorf("requests %v, want %d GET", requests, 2*size+1)
	}
}

func waitForAgents(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	w := newWorld(t, cloud.URL())
	hosts := map[string]*host{}
	for _, name := range []string{"web1", "web2", "db1"} {
		queue, _ := w.queue("npcnix-"+name, 6)
		(&watched{world: w}).tag(queue, map[string]string{"npcnix:host": name})
		h := newHost(w, name)
		h.configure(map[string]any{"remote": remote, "configuration": name, "queue_url": queue, "lease_secs": 3})
		h.start()
		hosts[name] = h
	}
	f := &watched{world: w, flake: t.TempDir()}
	salt := nixtest.Salt()
	publish := func(args ...string) *gate {
		return f.gate(nil, append([]string{"push", "--src", f.flake, "--remote", remote, "--wait"}, args...)...)
	}
	systems := map[string]nixtest.System{}
	for name := range hosts {
		systems[name] = nixtest.System{Version: "one"}
	}
	f.must(nixtest.Flake(f.flake, salt, systems))
	publish("--topic-arn", w.topic).ends(0, "3 of 3 done", "publish to applied, 3 hosts")
	for name, h := range hosts {
		if h.marker() != "one" {
			t.Errorf("%s runs %q when the wait has passed", name, h.marker())
		}
	}

	broken := maps.Clone(systems)
	broken["web2"] = nixtest.System{Version: "two", BuildFails: true}
	f.must(nixtest.Flake(f.flake, salt, broken))
	publish().ends(3, "web2 failed: ", "on web2: npcnix status")

	hosts["web1"].run(append(hosts["web1"].flags(), "pause")...)
	systems["web1"], systems["web2"] = nixtest.System{Version: "three"}, nixtest.System{Version: "three"}
	f.must(nixtest.Flake(f.flake, salt, systems))
	g := publish("--timeout", "5m")
	await(t, "the paused host shown", func() bool { return g.stderr.count("web1 paused") > 0 })
	hosts["web1"].run(append(hosts["web1"].flags(), "unpause")...)
	g.ends(0, "3 of 3 done")
	publish().ends(0, "3 of 3 done")

	var rows []string
	for line := range strings.Lines(hosts["web1"].run("hosts", "--remote", remote, "--json")) {
		var row struct{ Host, Status, Running, Wanted, System string }
		f.must(json.Unmarshal([]byte(line), &row))
		if row.System == "" || row.Running == "" || row.Running != row.Wanted {
			t.Errorf("it does not say what runs: %s", line)
		}
		rows = append(rows, row.Host+" "+row.Status)
	}
	if want := []string{"db1 applied", "web1 applied", "web2 applied"}; !slices.Equal(rows, want) {
		t.Errorf("hosts: %q", rows)
	}
}
