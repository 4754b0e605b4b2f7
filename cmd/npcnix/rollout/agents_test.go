package rollout

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// machine is a host's system: it builds what the flake's file says, and switches in no time.
type machine struct {
	mu      sync.Mutex
	running string
	built   []string
	breaks  string            // the system that does not pass verification here
	takes   func(text string) // is told of what it builds or switches to, before; nil: nobody is
}

func (m *machine) tell(text string) {
	if m.takes != nil {
		m.takes(text)
	}
}

// has reports whether it has ever built the system of that text, or runs it.
func (m *machine) has(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.built, text) || m.running == "/nix/store/"+text
}

func (m *machine) Check(context.Context) error        { return nil }
func (m *machine) NoteShutdown(context.Context) error { return nil }
func (m *machine) Abandon(context.Context) error      { return nil }

func (m *machine) Current(context.Context) (nix.System, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return nix.System{Path: m.running}, nil
}

func (m *machine) Runs(_ context.Context, s nix.System) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running == s.Path, nil
}

func (m *machine) Build(_ context.Context, dir, _ string) (nix.System, error) {
	text, err := os.ReadFile(filepath.Join(dir, "flake.nix"))
	if err != nil {
		return nix.System{}, err
	}
	m.tell(string(text))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.built = append(m.built, string(text))
	return nix.System{Path: "/nix/store/" + string(text)}, nil
}

func (m *machine) Realise(context.Context, nix.System, []nix.Cache) error { return nil }

func (m *machine) Activate(_ context.Context, s nix.System, r activation.Request) (activation.Journal, error) {
	m.tell(strings.TrimPrefix(s.Path, "/nix/store/"))
	m.mu.Lock()
	defer m.mu.Unlock()
	j := activation.Journal{ID: r.ID, System: s.Path, Previous: m.running, Phase: activation.Committed}
	if s.Path == m.breaks {
		j.Phase, j.Cause, j.Reason = activation.RolledBack, activation.CauseVersion, "a unit failed"
		return j, &activation.Error{Journal: j}
	}
	m.running = s.Path
	return j, nil
}

func (m *machine) Resume(context.Context, activation.Request) (activation.Journal, bool, error) {
	return activation.Journal{}, false, nil
}

// agents is a world on an S3, whose hosts are real agents.
type agents struct {
	*world
	cloud    *awsfake.Cloud
	client   *s3.Client
	machines map[string]*machine
	dirs     map[string]config.Dir
	mu       sync.Mutex
	pokes    map[string]chan struct{}
}

func newAgents(t *testing.T) *agents {
	t.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	for _, e := range cloud.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	bucket := "fleet"
	client := s3.NewFromConfig(awsfake.Config(cloud.URL()), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	a := &agents{world: newWorld(t), cloud: cloud, client: client, machines: map[string]*machine{}, dirs: map[string]config.Dir{}, pokes: map[string]chan struct{}{}}
	a.remote = a.open()
	a.pack = a.packed
	return a
}

const agentsRemote = "s3://fleet/npcnix/remotes/dev.npcnix"

func (a *agents) open() *store.Remote {
	a.t.Helper()
	r, err := store.Open(a.t.Context(), agentsRemote+"?path-style=true&endpoint="+a.cloud.URL(), store.Options{})
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

// packed is a packed flake that does not arrive with a look at its end.
func (a *agents) packed(text string) []byte {
	a.t.Helper()
	dir := a.t.TempDir()
	noise := make([]byte, 100<<10)
	_, _ = rand.Read(noise)
	for name, content := range map[string][]byte{"flake.nix": []byte(text), "noise": noise} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := store.Pack(a.t.Context(), dir, &b, store.PackOptions{}); err != nil {
		a.t.Fatal(err)
	}
	return b.Bytes()
}

// rolloutSigner is the public half of the rollout key.
func (a *agents) rolloutSigner() ssh.PublicKey {
	a.t.Helper()
	key, closeKey, err := release.OpenKey(a.t.Context(), a.rolloutKey)
	if err != nil {
		a.t.Fatal(err)
	}
	defer closeKey()
	return key.PublicKey()
}

// join makes a host and starts its agent, which looks only when it is poked.
func (a *agents) join(name string, change ...func(*config.Config)) (stop func()) {
	a.t.Helper()
	authorized := func(key ssh.PublicKey) []string {
		return []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))}
	}
	a.dirs[name], a.machines[name] = config.Dir(a.t.TempDir()), &machine{}
	a.mu.Lock()
	a.pokes[name] = make(chan struct{}, 1)
	a.mu.Unlock()
	never := int64(0)
	a.set(name, func(c *config.Config) {
		c.Remote, c.Configuration, c.HealthIntervalSecs = agentsRemote, "c", &never
		c.MinSleepSecs, c.MaxSleepSecs = 3600, 3600
		c.Signers, c.RolloutSigners = authorized(a.signers[0]), authorized(a.rolloutSigner())
	})
	for _, f := range change {
		a.set(name, f)
	}
	return a.start(name)
}

// set changes a host's settings.
func (a *agents) set(name string, change func(*config.Config)) {
	a.t.Helper()
	err := a.dirs[name].UpdateConfig(a.t.Context(), func(c *config.Config) error {
		change(c)
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// start starts a host's agent.
func (a *agents) start(name string) (stop func()) {
	a.t.Helper()
	c, err := a.dirs[name].LoadConfig()
	if err != nil {
		a.t.Fatal(err)
	}
	r := a.open()
	one, err := agent.New(agent.Options{
		Dir: a.dirs[name], Config: c, Name: name, RemoteName: r.Name(), Store: r, Host: a.machines[name], Poke: a.pokes[name], Version: "test",
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan struct{})
	ctx, end := context.WithCancel(a.t.Context())
	go func() {
		_ = one.Run(ctx)
		close(ended)
	}()
	stop = func() { end(); <-ended }
	a.t.Cleanup(stop)
	return stop
}

// says returns a host's record; empty if it has none.
func (a *agents) says(name string) (r record.Record) {
	data, err := a.remote.GetRecord(a.t.Context(), name)
	if err == nil {
		_ = json.Unmarshal(data, &r)
	}
	return r
}

func (a *agents) poke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.pokes {
		select {
		case p <- struct{}{}:
		default:
		}
	}
}

// running counts the hosts that run the system of that text.
func (a *agents) running(text string) (n int) {
	for _, m := range a.machines {
		m.mu.Lock()
		if m.running == "/nix/store/"+text {
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// evaluated tells whether a host has evaluated these and no others.
func (a *agents) evaluated(name string, want ...string) {
	a.t.Helper()
	m := a.machines[name]
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.built, want) {
		a.t.Errorf("%s has evaluated %q, want %q", name, m.built, want)
	}
}

// until waits for something.
func (a *agents) until(what string, so func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !so(); {
		if time.Now().After(deadline) {
			a.t.Fatalf("does not come about: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// command opens the rollout with nothing but the rollout key; hosts look at each step.
func (a *agents) command(change ...func(*Options)) (*Rollout, error) {
	a.t.Helper()
	o := Options{
		Remote: a.remote, Publisher: a.publisher(nil), Interval: 200 * time.Millisecond, WaveTimeout: 5 * time.Minute,
		Say: func(line string) {
			if strings.HasPrefix(line, "step ") {
				a.poke()
			}
		},
	}
	for _, c := range change {
		c(&o)
	}
	return Open(a.t.Context(), o)
}

// take runs the command until it ends.
func (a *agents) take(change ...func(*Options)) error {
	a.t.Helper()
	r, err := a.command(change...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.poke()
	return r.Run(a.t.Context())
}

// begun has hosts run the first release, and waits until each has a record.
func (a *agents) begun(hosts ...string) {
	a.t.Helper()
	a.publish("one")
	for _, name := range hosts {
		if a.machines[name] == nil {
			a.join(name)
		}
	}
	a.poke()
	a.until("all run the first release, and say so", func() bool {
		records, err := a.remote.Records(a.t.Context())
		return err == nil && a.running("one") == len(hosts) && len(records) == len(hosts)
	})
}

// downloads counts the reads of the whole object: those of its end are partial.
func (a *agents) downloads() (n int) {
	for _, e := range a.cloud.Trace() {
		if e.What == awsfake.Answered && e.Action == "GetObject" && strings.HasSuffix(e.Key, "dev.npcnix") && e.Status == 200 {
			n++
		}
	}
	return n
}

func (a *agents) requests() map[string]int {
	counts := map[string]int{}
	for _, e := range a.cloud.Trace() {
		if e.What == awsfake.Answered {
			counts[e.Action]++
		}
	}
	return counts
}

func TestRolloutOfRealAgents(t *testing.T) {
	n := 60
	if many := os.Getenv("NPCNIX_TEST_HOSTS"); many != "" { // make waves
		var err error
		if n, err = strconv.Atoi(many); err != nil {
			t.Fatal(err)
		}
	}
	a := newAgents(t)
	a.begun(names(n)...)

	// A canary that rolls it back: it alone has downloaded it.
	before := a.downloads()
	a.machines["web7"].breaks = "/nix/store/bad"
	a.publish("bad", "web7", "100%")
	if err := a.take(); !errors.Is(err, ErrHosts) {
		t.Fatalf("the canary failed: %v", err)
	}
	a.until("web7 is back", func() bool { return a.running("one") == n })
	const steps = 1 // the command reads the object once for each step
	if got := a.downloads() - before; got > 1+steps {
		t.Errorf("%d downloads of a release whose canary failed", got)
	}
	for name, m := range a.machines {
		m.mu.Lock()
		if name != "web7" && len(m.built) != 1 {
			t.Errorf("%s has built %q", name, m.built)
		}
		m.mu.Unlock()
	}

	// One that passes: each host downloads and builds it once, in four steps.
	before, requests := a.downloads(), a.requests()
	a.publish("two", "web7", "10%", "100%")
	if err := a.take(); err != nil {
		t.Fatal(err)
	}
	a.until("all run the second release", func() bool { return a.running("two") == n })
	if got := a.downloads() - before; got > n+3 {
		t.Errorf("%d downloads by %d hosts and the command", got, n)
	}
	after := a.requests()
	for action := range after {
		after[action] -= requests[action]
	}
	// S3's list prices in us-east-1: 0.40 dollars for a million GET and HEAD, 5 for a million PUT and LIST.
	reads, writes := after["GetObject"]+after["HeadObject"], after["PutObject"]+after["ListObjectsV2"]
	t.Logf("requests of a rollout in three waves over %d hosts: %v; for 10,000 hosts %.2f dollars", n, after,
		(float64(reads)*0.4+float64(writes)*5)/1e6*10_000/float64(n))
	if perHost := float64(reads+writes) / float64(n); perHost > 16 {
		t.Errorf("%.1f requests for each host", perHost)
	}

	// It is reverted, without another build.
	r, err := Open(t.Context(), Options{Remote: a.remote, Publisher: a.publisher(nil), Say: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	before = a.downloads()
	if err := r.Step(t.Context(), 3, release.Reverted); err != nil {
		t.Fatal(err)
	}
	a.poke()
	a.until("all run the first release again", func() bool { return a.running("one") == n })
	if got := a.downloads() - before; got > 1 {
		t.Errorf("%d downloads for a revert", got)
	}

	// A look at a fleet that stands still: one HEAD, and one LIST per 1,000 records.
	if err := r.refresh(t.Context()); err != nil { // which reads the records that have changed
		t.Fatal(err)
	}
	requests = a.requests()
	if err := r.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	after = a.requests()
	heads, lists := after["HeadObject"]-requests["HeadObject"], after["ListObjectsV2"]-requests["ListObjectsV2"]
	if heads != 1 || lists != 1 {
		t.Errorf("a look costs %d HEAD and %d LIST", heads, lists)
	}
	const looks = 360 // in an hour, by the default of --wave-interval
	t.Logf("the command's looks, for 10,000 hosts and an hour: %.3f dollars", float64(looks)*(float64(heads)*0.4+float64(lists)*10*5)/1e6)
}

// A host that rolled the release back says so after the halt too, so that a resume does not pass its wave.
func TestResumeCountsHostsThatFailedBefore(t *testing.T) {
	a := newAgents(t)
	a.begun("web1", "web2")
	a.machines["web1"].breaks = "/nix/store/bad"
	a.publish("bad", "web1", "100%")
	if err := a.take(); !errors.Is(err, ErrHosts) {
		t.Fatalf("the canary failed: %v", err)
	}
	a.poke()
	halted, _, _ := a.object()
	a.until("the canary's record is about the halted rollout", func() bool {
		return a.says("web1").Version.ETag == halted.ETag
	})

	r, err := Open(t.Context(), Options{Remote: a.remote, Publisher: a.publisher(nil), Say: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Step(t.Context(), 1, release.Running); err != nil {
		t.Fatal(err)
	}
	tally, err := r.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if tally.Count(Failed) != 1 || !strings.Contains(tally.first(Failed), "a unit failed") {
		t.Errorf("%+v", tally.Hosts)
	}
}
