package agent

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

const remoteName = "bucket/npcnix/remotes/dev.npcnix"

func newSigner(t *testing.T) (key ssh.Signer, line string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err = ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return key, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// released is an object of a release that the key has signed.
func released(t *testing.T, key ssh.Signer, change func(*release.Manifest)) []byte {
	t.Helper()
	return releasedBy(t, change, key)
}

func releasedBy(t *testing.T, change func(*release.Manifest), keys ...ssh.Signer) []byte {
	t.Helper()
	archive := []byte("a packed flake")
	sum, err := release.HashArchive(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	m := &release.Manifest{Remote: remoteName, Serial: now.UnixMilli(), Created: now, Archive: sum, Source: release.Source{Rev: "abc"}}
	change(m)
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	frame := release.Frame{Manifest: data}
	for _, key := range keys {
		signature, err := release.Sign(data, key, release.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		frame.Signatures = append(frame.Signatures, signature)
	}
	end, err := frame.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(archive, end...)
}

func asItIs(*release.Manifest) {}

// trusting is a rig whose host trusts one publisher.
func trusting(t *testing.T, change ...func(*config.Config)) (*rig, ssh.Signer) {
	key, line := newSigner(t)
	r := newRig(t, append(change, func(c *config.Config) { c.Signers = []string{line} })...)
	r.opts.RemoteName = remoteName
	return r, key
}

func (r *rig) publish(etag string, object []byte) {
	r.store.set(func(s *fakeStore) { s.etag, s.object = etag, object })
}

func TestReleases(t *testing.T) {
	t.Run("a release by a trusted key is applied, remembered and named in the record", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, asItIs))
			r.start()
			time.Sleep(time.Minute)
			r.end()
			rec := r.store.lastRecord()
			if rec.Status != record.Applied || rec.Version.Rev != "abc" || len(rec.Version.Release) != 64 || len(rec.Signers) != 1 {
				t.Errorf("record: %+v", rec)
			}
			if m, err := trust.Load(r.dir); err != nil || m.Remotes[remoteName].Serial == 0 {
				t.Errorf("remembered: %+v, %v", m, err)
			}
		})
	})

	t.Run("what is refused is neither fetched nor counted as an attempt, is logged once, and the next good one is applied", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			stranger, _ := newSigner(t)
			r.publish("v1", released(t, stranger, asItIs))
			r.start()
			time.Sleep(3 * time.Hour)
			equal(t, "work", r.of("fetch", "build", "activate", "realise"), nil)
			if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "none of this host's signers") {
				t.Errorf("record: %+v", rec)
			}
			if f := r.state().Failure; f != nil {
				t.Errorf("failure: %+v", f)
			}
			if n := r.logs.count("level=WARN") + r.logs.count("level=ERROR"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			r.publish("v2", released(t, key, asItIs))
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Minute)
			r.end()
			if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Version.ETag != "v2" {
				t.Errorf("record: %+v", rec)
			}
		})
	})

	t.Run("an object that is refused leaves a pending reboot as it is", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := trusting(t)
			r.left(record.RebootPending, activation.Journal{Phase: activation.RebootPending})
			stranger, _ := newSigner(t)
			r.publish("v3", released(t, stranger, asItIs))
			r.start()
			time.Sleep(time.Minute)
			r.end()
			if in := r.state().Intent; in == nil || in.Status != record.RebootPending || in.ETag != "v2" {
				t.Errorf("intent: %+v", in)
			}
		})
	})

	t.Run("a release that is ahead of its time is applied when its time comes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, func(m *release.Manifest) { m.Created = m.Created.Add(2 * time.Hour) }))
			r.start()
			time.Sleep(30 * time.Minute)
			equal(t, "activations", r.of("activate"), nil)
			time.Sleep(2 * time.Hour)
			r.end()
			equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1"})
		})
	})

	t.Run("the same release in another object is applied already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, asItIs))
			r.start()
			time.Sleep(time.Minute)
			r.mark()
			r.publish("v2", released(t, key, asItIs))
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(time.Minute)
			r.end()
			equal(t, "trace", r.of("fetch", "build", "activate", "record", "ack"), []string{"record applied v2", "ack m1"})
			if a := r.state().Applied; a.ETag != "v2" {
				t.Errorf("applied: %+v", a)
			}
		})
	})
}

// Who can write the store puts other bytes in front of what is signed. When they are gone, the release is applied.
func TestUnsignedBytesRejectNoRelease(t *testing.T) {
	inBubble(t, "they count as no attempt", func(t *testing.T) {
		r, key := trusting(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{} })
		r.publish("v1", released(t, key, asItIs))
		r.store.set(func(s *fakeStore) { s.fetchErr = fmt.Errorf("%w: %w", store.ErrUnsafe, store.ErrNotSigned) })
		r.start()
		time.Sleep(time.Hour)
		if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "not what was signed") || r.state().Failure != nil {
			t.Errorf("record: %+v, failure: %+v", rec, r.state().Failure)
		}
		r.store.set(func(s *fakeStore) { s.fetchErr = nil })
		time.Sleep(3 * time.Hour)
		r.end()
		equal(t, "activations", r.of("activate"), []string{"activate /nix/store/sys-1"})
	})

	inBubble(t, "they are downloaded ever more seldom, until the operator's retry or another version", func(t *testing.T) {
		r, key := trusting(t, func(c *config.Config) { c.MinSleepSecs, c.MaxSleepSecs, c.PollIntervalSecs = 60, 60, 60 })
		r.publish("v1", released(t, key, asItIs))
		r.store.set(func(s *fakeStore) { s.fetchErr = fmt.Errorf("%w: %w", store.ErrUnsafe, store.ErrNotSigned) })
		r.start()
		time.Sleep(24 * time.Hour)
		if n := len(r.of("fetch")); n < 15 || n > 60 {
			t.Errorf("%d downloads in a day", n)
		}
		if n := len(r.of("record")); n > 130 {
			t.Errorf("%d records in a day", n)
		}
		if n := r.logs.count("level=WARN") + r.logs.count("level=ERROR"); n != 1 {
			t.Errorf("logged %d times", n)
		}
		r.mark()
		r.configure(func(c *config.Config) { c.RetryToken = "again" })
		r.poke <- struct{}{}
		time.Sleep(time.Second)
		equal(t, "after the operator's retry", r.of("fetch"), []string{"fetch v1"})
		r.publish("v2", released(t, key, asItIs))
		r.poke <- struct{}{}
		time.Sleep(time.Second)
		equal(t, "with another version", r.of("fetch"), []string{"fetch v1", "fetch v2"})
		r.end()
	})
}

func TestPrebuiltSystems(t *testing.T) {
	const toplevel = "/nix/store/00000000000000000000000000000000-nixos-system-web1"
	prebuilt := func(m *release.Manifest) {
		m.Systems = map[string]release.System{"web1": {Kind: release.KindNixOS, Toplevel: toplevel, Platform: "x86_64-linux"}}
		m.Caches = []release.Cache{{URL: "s3://cache", Keys: []string{"k:x"}}}
	}

	t.Run("are realised, and the flake is not fetched", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, prebuilt))
			r.start()
			time.Sleep(time.Minute)
			r.end()
			equal(t, "trace", r.of("fetch", "build", "realise", "activate"), []string{"realise " + toplevel + " from 1 caches", "activate " + toplevel})
		})
	})

	t.Run("are ignored with evaluation always", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t, func(c *config.Config) { c.Evaluation = config.EvaluateAlways })
			r.publish("v1", released(t, key, prebuilt))
			r.start()
			time.Sleep(time.Minute)
			r.end()
			equal(t, "trace", r.of("fetch", "build", "realise"), []string{"fetch v1", "build web1"})
		})
	})

	t.Run("a cache that cannot give them is waited for, and rejects nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, prebuilt))
			r.host.realise = &nix.RealiseError{Err: nix.ErrNotCached}
			r.start()
			time.Sleep(5 * time.Hour)
			if f := r.state().Failure; f != nil {
				t.Errorf("failure: %+v", f)
			}
			equal(t, "evaluations", r.of("build"), nil)
			if told := r.store.lastRecord().Trouble; told == nil || told.Kind != string(health.Cache) {
				t.Errorf("the record tells of %+v", told)
			}
			r.host.set(func(h *fakeHost) { h.realise = nil })
			time.Sleep(5 * time.Minute)
			r.end()
			if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Trouble != nil {
				t.Errorf("record: %+v", rec)
			}
		})
	})

	t.Run("a download that hangs is ended after the time of a build, and goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t, func(c *config.Config) { c.RetryDelaysSecs = []int64{} })
			r.publish("v1", released(t, key, prebuilt))
			r.host.hangs = true
			r.start()
			time.Sleep(90 * time.Minute)
			if f := r.state().Failure; f != nil {
				t.Errorf("failure: %+v", f)
			}
			r.host.set(func(h *fakeHost) { h.hangs = false })
			time.Sleep(time.Hour)
			r.end()
			equal(t, "evaluations", r.of("build"), nil)
			if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Attempt != 1 {
				t.Errorf("record: %+v", rec)
			}
		})
	})

	t.Run("what a cache cannot give is evaluated with evaluation rescue, after the time of all retries", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t, func(c *config.Config) { c.Evaluation, c.RetryDelaysSecs = config.EvaluateRescue, []int64{600, 3000} })
			r.publish("v1", released(t, key, prebuilt))
			r.host.realise, r.host.system = &nix.RealiseError{Err: nix.ErrNotCached}, toplevel
			r.start()
			time.Sleep(59 * time.Minute)
			equal(t, "evaluations", r.of("build"), nil)
			time.Sleep(10 * time.Minute)
			r.end()
			equal(t, "work", r.of("fetch", "build", "activate"), []string{"fetch v1", "build web1", "activate " + toplevel})
			if rec := r.store.lastRecord(); rec.Status != record.Applied || rec.Attempt != 1 {
				t.Errorf("record: %+v", rec)
			}
		})
	})

	t.Run("what evaluates to another system than the release names is not activated", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t, func(c *config.Config) { c.Evaluation, c.RetryDelaysSecs = config.EvaluateRescue, []int64{} })
			r.publish("v1", released(t, key, prebuilt))
			r.host.realise = &nix.RealiseError{Err: nix.ErrNotCached}
			r.start()
			time.Sleep(time.Hour)
			r.end()
			equal(t, "activations", r.of("activate"), nil)
			if rec := r.store.lastRecord(); rec.Status != record.Rejected || !strings.Contains(rec.Error, "the release names "+toplevel) {
				t.Errorf("record: %+v", rec)
			}
		})
	})

	t.Run("one that its cache's key has not signed is rejected at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, key := trusting(t)
			r.publish("v1", released(t, key, prebuilt))
			r.host.realise = &nix.RealiseError{Err: nix.ErrUntrusted}
			r.start()
			time.Sleep(time.Hour)
			r.end()
			if len(r.of("realise")) != 1 {
				t.Errorf("attempts: %q", r.of("realise"))
			}
			if rec := r.store.lastRecord(); rec.Status != record.Rejected {
				t.Errorf("record: %+v", rec)
			}
		})
	})
}

// The frame is kept beside the intent: by the time of the verification the store can hold another object.
func TestReleaseRefusedThoughItsObjectIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := trusting(t)
		_, other := newSigner(t)
		r.publish("v1", released(t, key, asItIs))
		r.host.running = "/nix/store/sys-0"
		switched := make(chan struct{})
		r.host.activate = func() error {
			r.publish("v2", released(t, key, func(m *release.Manifest) { m.Serial++; m.Source.Rev = "next" }))
			defer close(switched)
			return r.dir.UpdateConfig(context.Background(), func(c *config.Config) error { c.Signers = []string{other}; return nil })
		}
		r.opts.Fresh = func(ctx context.Context, v Verification) (string, error) {
			o := r.opts
			o.Once = OnceAny
			if err := o.validate(); err != nil {
				return "", err
			}
			return wire(o).verify(ctx, v, *r.host.left) // as a process that has seen no frame
		}
		r.start()
		<-switched
		time.Sleep(5 * time.Minute)
		r.end()
		if r.host.left.Phase != activation.RolledBack || !strings.Contains(r.host.left.Reason, "would refuse its own release") {
			t.Errorf("phase %s: %s", r.host.left.Phase, r.host.left.Reason)
		}
	})
}

// A typo in the new system's signers, or a rotation that forgot the old key, would lock the host out.
func TestReleaseRefusedByItsOwnSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, key := trusting(t)
		_, other := newSigner(t)
		r.publish("v1", released(t, key, asItIs))
		r.host.running = "/nix/store/sys-0"
		r.host.activate = func() error {
			return r.dir.UpdateConfig(context.Background(), func(c *config.Config) error { c.Signers = []string{other}; return nil })
		}
		r.start()
		time.Sleep(10 * time.Minute)
		r.end()
		rec := r.store.lastRecord()
		if rec.Status != record.RolledBack || !strings.Contains(rec.Error, "would refuse its own release") {
			t.Errorf("record: %+v", rec)
		}
		if r.host.left.Phase != activation.RolledBack {
			t.Errorf("phase %s", r.host.left.Phase)
		}
	})
}
