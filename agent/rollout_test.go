package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store/release"
)

const (
	baseRelease = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	baseSystem  = "/nix/store/00000000000000000000000000000000-nixos-system-base"
)

// waves is a plan in which web1 is in the second of three waves.
func waves(m *release.Manifest) {
	m.Rollout = &release.Plan{Waves: [][]string{{"canary"}, {"web*"}, {"100%"}}, Base: &release.Base{Release: baseRelease}}
}

func wavesAndBase(m *release.Manifest) {
	waves(m)
	m.Rollout.Base.Systems = map[string]release.System{"web1": {Kind: release.KindNixOS, Toplevel: baseSystem, Platform: "x86_64-linux"}}
}

// other makes the manifest one of another release, which is published later.
func other(m *release.Manifest) {
	m.Systems = map[string]release.System{"other": {Kind: release.KindNixOS, Toplevel: baseSystem, Platform: "x86_64-linux"}}
	m.Serial++
}

func TestAdmit(t *testing.T) {
	ran := func(release string) State {
		a := Applied{Target: Target{Release: release, Configuration: "web1"}, System: "/ran"}
		return State{}.reach(a)
	}
	for _, c := range []struct {
		name     string
		admitted int
		state    release.Rollout
		plan     func(*release.Manifest)
		have     State
		base     string
		held     string
	}{
		{"a host of an admitted wave takes the release", 2, release.Running, waves, State{}, "", ""},
		{"all take it when the rollout is complete", 3, release.Complete, waves, State{}, "", ""},
		{"a host of a later wave keeps what it runs", 1, release.Running, wavesAndBase, ran("other"), "", "in wave 2, and 1 of 3"},
		{"without anything applied it takes the base", 1, release.Running, wavesAndBase, State{}, baseSystem, ""},
		{"without a base it stays as it was installed", 1, release.Running, waves, State{}, "", "in wave 2"},
		{"while a rollout is paused, no host begins", 2, release.Paused, waves, ran("other"), "", "the rollout is paused"},
		{"while it is halted, neither", 2, release.Halted, waves, ran("other"), "", "the rollout is halted"},
		{"a new host takes the base while a rollout is halted", 2, release.Halted, wavesAndBase, State{}, baseSystem, ""},
		{"when it is reverted, all take the base", 2, release.Reverted, wavesAndBase, ran("other"), baseSystem, ""},
		{"a host that ran the base goes back to what it was there", 2, release.Reverted, wavesAndBase, ran(baseRelease), "/ran", ""},
		{"without the base's system it keeps what it runs", 2, release.Reverted, waves, ran("other"), "", "no system for this host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &release.Manifest{}
			c.plan(m)
			got := admit(m, &release.Progress{Admitted: c.admitted, State: c.state}, "web1", "web1", c.have)
			if got.base != c.base || (c.held == "") != (got.held == "") || !strings.Contains(got.held, c.held) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTheLastReleasesAreRemembered(t *testing.T) {
	var s State
	for _, name := range []string{"a", "b", "c", "b", "d", ""} {
		s = s.reach(Applied{Target: Target{Release: name, Configuration: "c"}, System: "/" + name})
	}
	if got := fmt.Sprint(s.Ran); got != "[{d c /d} {b c /b} {c c /c}]" {
		t.Errorf("remembered: %s", got)
	}
}

// rollout is a release with a plan, of which objects are made for each step.
type rollout struct {
	t        *testing.T
	manifest *release.Manifest
	frame    *release.Frame
	archive  []byte
	step     int64
}

func newRollout(t *testing.T, key ssh.Signer, change func(*release.Manifest)) *rollout {
	t.Helper()
	object := released(t, key, change)
	frame, err := release.ParseFrame(object)
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.Parse(frame.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	return &rollout{t: t, manifest: m, frame: frame, archive: object[:m.Archive.Size]}
}

// next is the object of the next step.
func (o *rollout) next(key ssh.Signer, admitted int, state release.Rollout) []byte {
	o.t.Helper()
	o.step++
	p := release.Progress{Release: o.manifest.Release, Serial: o.manifest.Serial, Step: o.step, Admitted: admitted, State: state}
	data, err := p.Encode(o.manifest)
	if err != nil {
		o.t.Fatal(err)
	}
	signature, err := release.Sign(data, key, release.RolloutNamespace)
	if err != nil {
		o.t.Fatal(err)
	}
	f := *o.frame
	f.Progress, f.ProgressSignatures = data, []string{signature}
	end, err := f.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	return append(append([]byte{}, o.archive...), end...)
}

func TestRollouts(t *testing.T) {
	// see has the agent look at an object that was published.
	see := func(r *rig, etag string, object []byte) {
		r.publish(etag, object)
		r.queue.in <- []events.Delivery{message(etag)}
		time.Sleep(time.Minute)
	}

	inBubble(t, "a host that is not admitted fetches and builds nothing, deletes the message, and takes the release with its wave", func(t *testing.T) {
		r, key := trusting(t)
		r.publish("v1", released(t, key, asItIs))
		r.start()
		time.Sleep(time.Minute)
		r.mark()
		o := newRollout(t, key, func(m *release.Manifest) { waves(m); other(m); m.Source.Rev = "next" })
		see(r, "v2", o.next(key, 1, release.Running))
		time.Sleep(3 * time.Hour)
		equal(t, "while it is held", r.of("fetch", "build", "realise", "activate", "ack"), []string{"ack v2"})
		rec := r.store.lastRecord()
		if rec.Status != record.Held || rec.Version.Rev != "next" || rec.Runs().Rev != "abc" {
			t.Errorf("record: %+v", rec)
		}
		r.end()
	})

	inBubble(t, "an admitted host takes it once, whatever becomes of the rollout after", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, waves)
		r.publish("v1", o.next(key, 1, release.Running))
		r.start()
		time.Sleep(time.Minute)
		equal(t, "before its wave", r.of("fetch", "build", "realise", "activate"), nil)
		see(r, "v2", o.next(key, 2, release.Running))
		want := []string{"fetch v2", "build web1", "activate /nix/store/sys-1"}
		equal(t, "with its wave", r.of("fetch", "build", "realise", "activate"), want)
		for i, state := range []release.Rollout{release.Paused, release.Running, release.Halted} {
			see(r, fmt.Sprintf("v%d", i+3), o.next(key, 2, state))
		}
		see(r, "v6", o.next(key, 3, release.Complete))
		r.end()
		equal(t, "after", r.of("fetch", "build", "realise", "activate"), want)
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v6" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a host that joins before its wave takes the base's system without fetching or building, and the release with its wave", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, wavesAndBase)
		r.publish("v1", o.next(key, 1, release.Running))
		r.start()
		time.Sleep(time.Hour)
		equal(t, "before its wave", r.of("fetch", "build", "realise", "activate"), []string{"realise " + baseSystem + " from 0 caches", "activate " + baseSystem})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Runs().Release != baseRelease {
			t.Errorf("record: %+v", rec)
		}
		r.mark()
		see(r, "v2", o.next(key, 2, release.Running))
		r.end()
		equal(t, "with its wave", r.of("fetch", "build", "realise", "activate"), []string{"fetch v2", "build web1", "activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Runs().Release != o.manifest.Release {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a reverted rollout has a host back on what it was with the base, without fetching or evaluating", func(t *testing.T) {
		r, key := trusting(t)
		before := released(t, key, asItIs)
		r.publish("v1", before)
		r.start()
		time.Sleep(time.Minute)
		frame, err := release.ParseFrame(before)
		if err != nil {
			t.Fatal(err)
		}
		base, err := release.Parse(frame.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		o := newRollout(t, key, func(m *release.Manifest) {
			wavesAndBase(m)
			other(m)
			m.Rollout.Base.Release = base.Release
		})
		r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
		see(r, "v2", o.next(key, 2, release.Running))
		r.mark()
		see(r, "v3", o.next(key, 2, release.Reverted))
		r.end()
		equal(t, "work", r.of("fetch", "build", "realise", "activate"), []string{"realise /nix/store/sys-1 from 0 caches", "activate /nix/store/sys-1"})
		if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Runs().Release != base.Release {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a new wave while the release is built does not build it again", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, waves)
		r.publish("v1", o.next(key, 2, release.Running))
		building := make(chan struct{})
		r.host.build = func(ctx context.Context) error {
			close(building)
			select {
			case <-time.After(10 * time.Minute):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.start()
		<-building
		see(r, "v2", o.next(key, 3, release.Complete))
		time.Sleep(time.Hour)
		r.end()
		equal(t, "work", r.of("fetch", "build", "activate"), []string{"fetch v1", "build web1", "activate /nix/store/sys-1"})
		if a := r.state().Applied; a.ETag != "v2" {
			t.Errorf("applied: %+v", a)
		}
	})

	inBubble(t, "a rollout that is halted while the release is built cancels the build", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, waves)
		r.publish("v1", o.next(key, 2, release.Running))
		building := make(chan struct{})
		r.host.build = func(ctx context.Context) error {
			close(building)
			<-ctx.Done()
			return ctx.Err()
		}
		r.start()
		<-building
		see(r, "v2", o.next(key, 2, release.Halted))
		r.end()
		equal(t, "work", r.of("fetch", "build", "activate"), []string{"fetch v1", "build web1"})
	})

	inBubble(t, "a rollout that is halted while the release is built is not taken, though no event tells of it", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, waves)
		r.publish("v1", o.next(key, 2, release.Running))
		r.host.build = func(context.Context) error {
			r.publish("v2", o.next(key, 2, release.Halted))
			return nil
		}
		r.start()
		time.Sleep(time.Hour)
		r.end()
		equal(t, "work", r.of("build", "activate"), []string{"build web1"})
		if rec := r.store.lastRecord(); rec.Status != record.Held || rec.Version.ETag != "v2" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a release that was rejected is not tried again with the next wave", func(t *testing.T) {
		r, key := trusting(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{} })
		o := newRollout(t, key, waves)
		r.host.build = func(context.Context) error { return errBuild }
		r.publish("v1", o.next(key, 2, release.Running))
		r.start()
		time.Sleep(time.Minute)
		see(r, "v2", o.next(key, 3, release.Complete))
		r.end()
		equal(t, "work", r.of("build"), []string{"build web1"})
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || rec.Version.ETag != "v2" {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "an older wave's object that was put back is refused, after a restart too", func(t *testing.T) {
		r, key := trusting(t)
		o := newRollout(t, key, waves)
		admitting, halted := o.next(key, 2, release.Running), o.next(key, 2, release.Halted)
		r.publish("v2", halted)
		r.start()
		time.Sleep(time.Minute)
		r.end()
		r.publish("v1", admitting)
		r.start()
		time.Sleep(time.Hour)
		r.end()
		equal(t, "work", r.of("fetch", "build", "activate"), nil)
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "an older wave's object was put back") {
			t.Errorf("record: %+v", rec)
		}
		if m, err := trust.Load(r.dir); err != nil || m.Remotes[remoteName].Step != 2 {
			t.Errorf("remembered: %+v, %v", m, err)
		}
	})

	inBubble(t, "a rollout key admits waves and signs no releases", func(t *testing.T) {
		rolloutKey, line := newSigner(t)
		r, key := trusting(t, func(c *config.Config) { c.RolloutSigners = []string{line} })
		o := newRollout(t, key, waves)
		r.publish("v1", o.next(key, 2, release.Running)) // by the release key, which is no rollout signer here
		r.start()
		time.Sleep(time.Minute)
		see(r, "v2", newRollout(t, rolloutKey, waves).next(rolloutKey, 2, release.Running))
		equal(t, "work", r.of("fetch", "build", "activate"), nil)
		see(r, "v3", o.next(rolloutKey, 2, release.Running))
		r.end()
		equal(t, "work", r.of("activate"), []string{"activate /nix/store/sys-1"})
	})

	inBubble(t, "a plan without progress admits nobody", func(t *testing.T) {
		r, key := trusting(t)
		r.publish("v1", released(t, key, waves))
		r.start()
		time.Sleep(time.Hour)
		r.end()
		equal(t, "work", r.of("fetch", "build", "activate"), nil)
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "no progress") {
			t.Errorf("record: %+v", rec)
		}
	})

	inBubble(t, "a forced look takes nothing that is held", func(t *testing.T) {
		r, key := trusting(t)
		r.opts.Force = true
		r.publish("v1", newRollout(t, key, waves).next(key, 1, release.Running))
		r.start()
		time.Sleep(time.Minute)
		r.end()
		equal(t, "work", r.of("fetch", "build", "activate"), nil)
	})
}
