package prometheus

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/metrics"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// rollout simulates hosts that go through releases. They write their textfiles by the agent's own writer.
type rollout struct {
	t         testing.TB
	folder    string // that node_exporter reads
	hosts     []*simulated
	release   string
	published time.Time
}

// simulated is a host without nix and without a store.
type simulated struct {
	name, path string
	metrics    *metrics.Writer
	row        fleet.Row // what its record says
}

func newRollout(t testing.TB, folder string, hosts int) *rollout {
	r := &rollout{t: t, folder: folder}
	for i := range hosts {
		name := fmt.Sprintf("web%02d", i+1)
		h := &simulated{name: name, path: filepath.Join(t.TempDir(), "npcnix.prom"), row: fleet.Row{Host: name, Status: string(record.Applied)}}
		h.metrics = metrics.NewWriter(func(err error) {
			if err != nil {
				t.Error(err)
			}
		})
		h.metrics.SetPath(h.path)
		h.change(begun)
		r.hosts = append(r.hosts, h)
	}
	return r
}

func (h *simulated) change(change func(metrics.Samples)) { h.metrics.Update(change) }

// begun is what an agent says that has done nothing yet.
func begun(s metrics.Samples) {
	s.Info(metrics.BuildInfo, "version", "0.9.0")
	s.Bool(metrics.Healthy, true)
	s.Bool(metrics.QueueHealthy, true)
	s.Bool(metrics.RebootPending, false)
	s.Bool(metrics.NeedsRepair, false)
	s.Set(metrics.ClosureBytes, 1.5e9)
	for _, result := range []record.Status{record.Applied, record.RebootPending, record.Failed, record.RolledBack, record.Rejected} {
		s.Add(metrics.Attempts, 0, "result", string(result))
	}
	for _, cause := range activation.RollbackCauses {
		s.Add(metrics.Rollbacks, 0, "cause", string(cause))
	}
	for _, reason := range release.Reasons {
		s.Add(metrics.SignatureRejections, 0, "reason", string(reason))
	}
	for _, fate := range inbox.Fates {
		s.Add(metrics.Messages, 0, "result", string(fate))
	}
}

// publish begins a release.
func (r *rollout) publish(name string) { r.release, r.published = name, time.Now() }

// are gives some hosts a status.
func (r *rollout) are(status record.Status, hosts ...*simulated) {
	for _, h := range hosts {
		h.row.Status = string(status)
		h.change(func(s metrics.Samples) {
			s.At(metrics.LastPoll, time.Now())
			for _, other := range record.Statuses {
				s.Bool(metrics.Status, other == status, "status", string(other))
			}
		})
	}
}

// end ends an attempt of some hosts, which reached this stage last.
func (r *rollout) end(status record.Status, reached int, hosts ...*simulated) {
	r.are(status, hosts...)
	for i, h := range hosts {
		if status == record.Applied {
			h.row.Running = r.release
		}
		h.change(func(s metrics.Samples) {
			s.Add(metrics.Attempts, 1, "result", string(status))
			s.At(metrics.LastAttempt, time.Now())
			s.Clear(metrics.StageDuration)
			for n, stage := range []string{"notice", "fetch", "build", "activate", "acknowledge"}[:reached] {
				s.Set(metrics.StageDuration, []float64{0.2, 0.3, 2, 1, 0.01}[n]*(1+float64(i)/50), "stage", stage)
			}
			if status == record.Applied {
				s.Add(metrics.Messages, 1, "result", string(inbox.Acknowledged))
				s.At(metrics.LastSuccess, time.Now())
				s.At(metrics.ReleasePublished, r.published)
				s.Set(metrics.ReleaseSerial, float64(r.published.Unix()))
				s.Bool(metrics.SystemHealthy, true)
				s.Info(metrics.ReleaseInfo, "remote", "s3://fleet/npcnix/remotes/dev.npcnix", "configuration", "web", "release", r.release, "rev", "")
			}
		})
	}
}

var sample = regexp.MustCompile(`(?m)^(npcnix_\w+)(?:\{(.*)\})? `)

// write has all hosts write their files, names each as its instance, and writes the metrics of the fleet.
func (r *rollout) write() {
	r.t.Helper()
	var rows []fleet.Row
	ended, end := context.WithCancel(context.Background())
	end()
	for _, h := range r.hosts {
		h.row.Behind = h.row.Running != r.release
		rows = append(rows, h.row)
		h.metrics.Run(ended) // once
		text, err := os.ReadFile(h.path)
		if err != nil {
			r.t.Fatal(err)
		}
		r.place(h.name+"-npcnix.prom", sample.ReplaceAll(text, []byte(`$1{instance="`+h.name+`",$2} `)))
	}
	var text bytes.Buffer
	if err := fleet.OpenMetrics(&text, rows, store.Version{ETag: r.release, Modified: r.published}); err != nil {
		r.t.Fatal(err)
	}
	r.place("fleet.prom", text.Bytes())
}

func (r *rollout) place(name string, text []byte) {
	r.t.Helper()
	next := filepath.Join(r.folder, name+".next")
	err := os.WriteFile(next, text, 0o644)
	if err == nil {
		err = os.Rename(next, filepath.Join(r.folder, name))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// run takes the hosts through three releases. Shown is called when the files of each step are written.
func (r *rollout) run(shown func(step int)) {
	canary, first, second := r.hosts[:3], r.hosts[3:25], r.hosts[25:]
	broken, refusing, unbuilt, rebooting, last := first[0], first[1], first[2], first[3], r.hosts[len(r.hosts)-1]
	n := 0
	step := func() {
		r.write()
		shown(n)
		n++
	}
	r.publish("r1")
	r.end(record.Applied, 5, r.hosts...)
	step()
	r.publish("r2")
	r.are(record.Held, r.hosts...)
	r.are(record.Building, canary...)
	step()
	r.end(record.Applied, 5, canary...)
	r.are(record.Building, first...)
	step()
	r.are(record.Activating, first...)
	step()
	r.end(record.Applied, 5, first[4:]...)
	r.end(record.RolledBack, 3, broken)
	broken.change(func(s metrics.Samples) {
		s.Add(metrics.Rollbacks, 1, "cause", string(activation.CauseVersion))
		s.Add(metrics.Messages, 1, "result", string(inbox.Left))
		s.Bool(metrics.NeedsRepair, true)
	})
	r.end(record.Rejected, 1, refusing)
	refusing.change(func(s metrics.Samples) {
		s.Add(metrics.SignatureRejections, 1, "reason", string(release.ReasonSignature))
	})
	r.end(record.Failed, 2, unbuilt)
	r.end(record.RebootPending, 4, rebooting)
	rebooting.change(func(s metrics.Samples) { s.Bool(metrics.RebootPending, true) })
	r.are(record.Building, second...)
	step()
	r.end(record.Applied, 5, second...)
	last.row.Silent = true
	last.change(func(s metrics.Samples) {
		s.Bool(metrics.Healthy, false)
		s.Bool(metrics.QueueHealthy, false)
		s.Bool(metrics.SystemHealthy, false)
	})
	step()
	r.publish("r3")
	r.are(record.Building, r.hosts...)
	step()
	r.end(record.Applied, 5, slices.Concat(canary, second)...)
	r.are(record.Activating, first...)
	step()
	r.end(record.Applied, 5, first[1:]...)
	r.end(record.RolledBack, 3, broken)
	broken.change(func(s metrics.Samples) { s.Add(metrics.Rollbacks, 1, "cause", string(activation.CauseMachine)) })
	step()
}
