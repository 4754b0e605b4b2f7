package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// The benchmarks of docs/benchmarks.md. Each prints our figure, the one it is compared with, and
// their ratio, all from one run. None of them fails because something took long.

// fleet is a cloud, and hosts whose queues are subscribed to its topic.
type fleet struct {
	*world
	cloud     *awsfake.Cloud
	hosts     []string // their names are also those of their queues
	published int
	key       ssh.Signer // signs, and says that each host's system was built; nil: nobody does
	padding   int        // bytes in a flake that do not compress
	dataDir   string     // that the hosts' data directories are made in; empty for the usual place
}

func newFleet(b testing.TB, hosts int) *fleet {
	b.Helper()
	cloud, err := awsfake.Start("")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cloud.Close)
	f := &fleet{world: newWorld(b, cloud.URL()), cloud: cloud}
	for i := range hosts {
		name := fmt.Sprintf("web%03d", i)
		f.queue(name, 100)
		f.hosts = append(f.hosts, name)
	}
	return f
}

func (f *fleet) queueURL(host string) string {
	return f.endpoint + "/" + awsfake.Account + "/" + host
}

// publish puts a flake that was not there before.
func (f *fleet) publish() {
	f.t.Helper()
	f.published++
	dir := f.t.TempDir()
	f.must(os.WriteFile(filepath.Join(dir, "flake.nix"), fmt.Appendf(nil, "{ outputs = _: { n = %d; }; }\n", f.published), 0o644))
	if f.padding > 0 {
		padding := make([]byte, f.padding)
		_, _ = rand.NewChaCha8([32]byte{byte(f.published)}).Read(padding)
		f.must(os.WriteFile(filepath.Join(dir, "padding"), padding, 0o644))
	}
	var packed bytes.Buffer
	f.must(store.Pack(f.t.Context(), dir, &packed, store.PackOptions{}))
	if f.key != nil {
		packed.Write(f.frame(packed.Bytes()))
	}
	_, err := f.s3.PutObject(f.t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(packed.Bytes()),
	})
	f.must(err)
}

// frame is that of a release that has a system for each host.
func (f *fleet) frame(archive []byte) []byte {
	f.t.Helper()
	sum, err := release.HashArchive(bytes.NewReader(archive))
	f.must(err)
	m := &release.Manifest{
		Remote: bucket + "/" + key, Serial: time.Now().UnixMilli() + int64(f.published), Created: time.Now().UTC().Truncate(time.Second),
		Archive: sum, Systems: map[string]release.System{},
	}
	for _, host := range f.hosts {
		path := fmt.Sprintf("/nix/store/%032d-nixos-system-%s", f.published, host)
		m.Systems[host] = release.System{Kind: release.KindNixOS, Toplevel: path, Platform: nixtest.Platform()}
	}
	manifest, err := m.Encode()
	f.must(err)
	signature, err := release.Sign(manifest, f.key, release.Namespace)
	f.must(err)
	frame, err := release.Frame{Manifest: manifest, Signatures: []string{signature}}.Encode()
	f.must(err)
	return frame
}

// notification is a message about the remote, as S3 writes them.
func notification() string {
	return fmt.Sprintf(`{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put",`+
		`"s3":{"bucket":{"name":%q},"object":{"key":%q}}}]}`, bucket, key)
}

// await waits for something in the trace; want sees every entry, from the first on.
func (f *fleet) await(what string, want func(awsfake.Entry) bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := f.cloud.Await(ctx, want); err != nil {
		f.t.Fatalf("does not come about: %s: %v", what, err)
	}
}

// awaitParked waits until every host's long poll waits at the server.
func (f *fleet) awaitParked() {
	f.t.Helper()
	parked := map[string]bool{}
	f.await("every host polls", func(e awsfake.Entry) bool {
		if e.What == awsfake.Parked {
			parked[e.Queue] = true
		}
		return len(parked) == len(f.hosts)
	})
}

// watchedHost is a host that builds and switches in no time and knows when a build was called for.
type watchedHost struct {
	hold  <-chan struct{} // when not nil, builds wait for it to be closed
	takes time.Duration   // a build

	mu         sync.Mutex
	fails      bool      // to build
	builds     int       // and realisings
	reconciles int       // each asks once what an earlier agent has left
	built      time.Time // when the latest build was called for
	runs       nix.System
}

func (h *watchedHost) Build(ctx context.Context, _, configuration string) (nix.System, error) {
	n, err := h.called(ctx)
	if err != nil {
		return nix.System{}, err
	}
	return nix.System{Path: fmt.Sprintf("/nix/store/%s-%d", configuration, n)}, nil
}

func (h *watchedHost) Realise(ctx context.Context, _ nix.System, _ []nix.Cache) error {
	_, err := h.called(ctx)
	return err
}

// called notes the call, and takes as long as a build is to take. It returns how many calls there were.
func (h *watchedHost) called(ctx context.Context) (n int, err error) {
	now := time.Now()
	h.mu.Lock()
	h.builds++
	h.built = now
	n, fails := h.builds, h.fails
	h.mu.Unlock()
	if fails {
		return n, errors.New("it does not build")
	}
	if h.takes > 0 {
		time.Sleep(h.takes)
	}
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-ctx.Done():
			return n, ctx.Err()
		}
	}
	return n, nil
}

func (h *watchedHost) Activate(_ context.Context, s nix.System, _ activation.Request) (activation.Journal, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = s
	return activation.Journal{Phase: activation.Committed, System: s.Path}, nil
}

func (h *watchedHost) Check(context.Context) error        { return nil }
func (h *watchedHost) NoteShutdown(context.Context) error { return nil }

func (h *watchedHost) Abandon(context.Context) error { return nil }

// Resume is called once in each reconcile.
func (h *watchedHost) Resume(context.Context, activation.Request) (activation.Journal, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reconciles++
	return activation.Journal{}, false, nil
}

func (h *watchedHost) Current(context.Context) (nix.System, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs, nil
}

func (h *watchedHost) Runs(_ context.Context, s nix.System) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs == s, nil
}

// counts returns how many reconciles and builds there were.
func (h *watchedHost) counts() (reconciles, builds int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reconciles, h.builds
}

// calledFor returns when the latest build was called for; zero when none was.
func (h *watchedHost) calledFor() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.built
}

// keepInMemory lets the agents have their files in memory, where this machine has a place for it.
func (f *fleet) keepInMemory(b *testing.B) {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "npcnix-bench-*")
	if err != nil {
		b.Logf("files are kept on the disk: %v", err)
		return
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	b.Setenv("TMPDIR", dir)
	f.dataDir = dir
}

// follow runs a host's agent, real but for its nix, until the benchmark ends.
func (f *fleet) follow(name string, h agent.Host) {
	f.t.Helper()
	ctx := f.t.Context()
	r, err := store.Open(ctx, remote+"?region="+awsfake.Region+"&endpoint="+f.endpoint, store.Options{})
	f.must(err)
	queue, err := events.OpenQueue(ctx, events.QueueOptions{URL: f.queueURL(name), Region: awsfake.Region})
	f.must(err)
	dir := config.Dir(f.t.TempDir())
	if f.dataDir != "" {
		dir = config.Dir(filepath.Join(f.dataDir, name))
	}
	f.must(dir.UpdateConfig(ctx, func(c *config.Config) error {
		c.Remote, c.Configuration, c.PollIntervalSecs = remote, name, 3600
		if f.key != nil {
			c.Signers = []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(f.key.PublicKey())))}
		}
		return nil
	}))
	conf, err := dir.LoadConfig()
	f.must(err)
	a, err := agent.New(agent.Options{
		Dir: dir, Config: conf, Name: name, Store: r, Host: h, Queue: queue, Version: "benchmark", RemoteName: bucket + "/" + key,
		Ours: func(n events.Notice) bool { return n.Bucket == bucket && n.Key == key },
	})
	f.must(err)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }() // ctx ends before the first Cleanup, for all agents at once
	f.t.Cleanup(func() {
		if err := <-ended; err != nil {
			f.t.Errorf("agent of %s: %v", name, err)
		}
	})
}

// credentials lets the SDK in this process find those of an AWS, and nothing of this machine.
func (f *fleet) credentials(b testing.TB) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			b.Setenv(name, "")
		}
	}
	for _, e := range f.cloud.Env() {
		if name, value, _ := strings.Cut(e, "="); name != "AWS_ENDPOINT_URL" {
			b.Setenv(name, value)
		}
	}
}

// percentile returns the time within which so many percent of ds lie.
func percentile(ds []time.Duration, percent int) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	ds = slices.Sorted(slices.Values(ds))
	return ds[min(len(ds)-1, len(ds)*percent/100)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// quiet takes the time per operation out of a benchmark's line, where it says nothing.
func quiet(b *testing.B) { b.ReportMetric(0, "ns/op") }
