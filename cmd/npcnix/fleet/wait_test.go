package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

func TestWait(t *testing.T) {
	t.Run("passes when all run the version", waitPasses)
	t.Run("is never satisfied by records of an older version", waitOldRecords)
	t.Run("ends at once when a host has failed", waitFailure)
	t.Run("waits for the rest with KeepGoing", waitKeepGoing)
	t.Run("forgives a failure whose retry works while others are awaited", waitRetry)
	t.Run("fails when a host rolls back after it had applied", waitRollback)
	t.Run("counts paused, drifted and unheard hosts as missing", waitMissing)
	t.Run("says how to go on when it is interrupted", waitInterrupted)
	t.Run("counts a host as unheard when its record is removed", waitRecordRemoved)
	t.Run("ignores the clocks of hosts", waitSkewedClocks)
}

func waitPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "applied", "v1")
		at(t, 2500*time.Millisecond, func() { s.says("web1", "building", "v2"); s.says("web2", "applied", "v2") })
		at(t, 7500*time.Millisecond, func() { s.says("web1", "applied", "v2") })
		view := &watcher{}
		r := wantWait(t, Options{Store: s, Hosts: []string{"web2", "web1", "web1"}, Views: []View{view}}, "v2", Passed, 8*time.Second, "web1 done", "web2 done")
		if want := []string{"web1 behind", "web2 unheard", "web1 building", "web2 applied", "web1 applied", "end passed"}; !slices.Equal(view.events, want) {
			t.Errorf("shown: %q", view.events)
		}
		if l := r.Latency; l.Hosts != 2 || l.P50 != 2500*time.Millisecond || l.P99 != 7500*time.Millisecond || l.SlowestHost != "web1" {
			t.Errorf("latency %+v", l)
		}
	})
}

func TestRepublish(t *testing.T) {
	t.Run("passes at once if the content is the same", republishPasses)
	t.Run("does not count who fell silent long before", republishSilent)
	t.Run("does not count a record from before the version that a cache still shows", republishCache)
}

func republishPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		if !Sleep(t.Context(), time.Hour) {
			return
		}
		s.publish("v1")
		r := wantWait(t, Options{Store: s}, "v1", Passed, 0, "web1 done")
		if r.Latency.Hosts != 0 {
			t.Errorf("a host that had it before the publish has a latency: %+v", r.Latency)
		}
	})
}

func republishSilent(t *testing.T) {
	for _, state := range []string{"applied", "rejected"} {
		bubble(t, func(t *testing.T) {
			s := newStore("v1")
			s.skew = -9 * time.Hour
			s.says("web2", state, "v1")
			Sleep(t.Context(), time.Second)
			s.says("web1", "applied", "v1")
			heard := time.Now().Add(s.skew - time.Second).UTC().Format(time.RFC3339)
			Sleep(t.Context(), time.Hour)
			s.publish("v2")
			Sleep(t.Context(), StaleAfter-time.Hour)
			s.publish("v1")
			at(t, 20500*time.Millisecond, func() { s.says("web2", "applied", "v1") })
			o := Options{Store: s, Timeout: 10 * time.Second}
			r := wantWait(t, o, "v1", TimedOut, 10*time.Second, "web1 done", "web2 missing")
			if want := "web2 silent: not heard since " + heard; !strings.Contains(closing(r), want) {
				t.Errorf("it does not say %q:\n%s", want, closing(r))
			}
			o.Timeout = time.Minute
			wantWait(t, o, "v1", Passed, 11*time.Second, "web1 done", "web2 done")
		})
	}
}

func republishCache(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		Sleep(t.Context(), StaleAfter+time.Second)
		s.publish("v2")
		gate, err := Prepare(t.Context(), Options{Store: s, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		gate.Before = s.cache(t, time.Hour)
		s.publish("v1")
		if r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, Published); err != nil || r.Outcome != TimedOut {
			t.Errorf("%s, %v", r.Outcome, err)
		}
	})
}

func waitOldRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "applied", "v1")
		s.says("web2", "failed", "v1")
		wantWait(t, Options{Store: s, Timeout: time.Minute}, "v2", TimedOut, time.Minute, "web1 missing", "web2 missing")
	})
}

func waitFailure(t *testing.T) {
	for _, state := range []string{"failed", "rejected", "rolled_back"} {
		t.Run(state, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newStore("v1")
				at(t, 2500*time.Millisecond, func() { s.says("web1", state, "v1", "error", "boom") })
				r := wantWait(t, Options{Store: s, Hosts: []string{"web1", "web2"}}, "v1", HostsFailed, 3*time.Second, "web1 failed", "web2 missing")
				if !strings.Contains(closing(r), "web1 "+inWords(state)+": boom") || !strings.Contains(r.Err().Error(), "1 of 2 hosts failed to run v1, 1 "+inWords(state)) {
					t.Errorf("%s%v", closing(r), r.Err())
				}
			})
		})
	}
}

func waitKeepGoing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "failed", "v1")
		at(t, 2500*time.Millisecond, func() { s.says("web2", "applied", "v1") })
		at(t, 9500*time.Millisecond, func() { s.says("web3", "rejected", "v1") })
		o := Options{Store: s, Hosts: []string{"web1", "web2", "web3"}, KeepGoing: true}
		wantWait(t, o, "v1", HostsFailed, 10*time.Second, "web1 failed", "web2 done", "web3 failed")
		o.Hosts = append(o.Hosts, "web4")
		o.Timeout = time.Minute
		wantWait(t, o, "v1", HostsFailed, time.Minute, "web1 failed", "web2 done", "web3 failed", "web4 missing")
	})
}

func waitRetry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "failed", "v1")
		at(t, 30500*time.Millisecond, func() { s.says("web1", "applied", "v1", "attempt", 2) })
		at(t, 40500*time.Millisecond, func() { s.says("web2", "applied", "v1") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1", "web2"}, KeepGoing: true}, "v1", Passed, 41*time.Second, "web1 done", "web2 done")
	})
}

func waitRollback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		at(t, 90500*time.Millisecond, func() { s.says("web1", "rolled_back", "v1", "error", "unhealthy") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1", "web2"}}, "v1", HostsFailed, 91*time.Second, "web1 failed", "web2 missing")
	})
}

func waitMissing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "applied", "v2")
		s.says("web2", "paused", "v1", "error", "paused (indefinitely)")
		s.says("web3", "drifted", "v2")
		s.put("web5", "garbage")
		s.says("web6", "applied", "v2", "schema", 3)
		o := Options{Store: s, Hosts: []string{"web1", "web2", "web3", "web4", "web5", "web6"}, Timeout: 10 * time.Second}
		r := wantWait(t, o, "v2", TimedOut, 10*time.Second, "web1 done", "web2 missing", "web3 missing", "web4 missing", "web5 missing", "web6 missing")
		for _, line := range []string{"web2 paused: paused (indefinitely)", "web3 drifted: an operator has switched it", "unheard: web4",
			"web5 unreadable: damaged record", "web6 unreadable: record of schema 3: this npcnix understands 2"} {
			if !strings.Contains(closing(r), line) {
				t.Errorf("it does not say %q:\n%s", line, closing(r))
			}
		}
		if want := "5 of 6 hosts missing, 2 unreadable, 1 drifted, 1 paused, 1 unheard"; !strings.Contains(r.Err().Error(), want) {
			t.Errorf("%v, want %q", r.Err(), want)
		}
	})
}

func TestSuperseded(t *testing.T) {
	t.Run("by a newer publish", newerSupersedes)
	t.Run("not by what the remote held before the publish", beforeIsNotNewer)
	t.Run("not if all run the version already", passesBesideNewer)
	t.Run("not by an older version", olderDoesNot)
	t.Run("not by a version that is seen once", seenOnceDoesNot)
	t.Run("a version that was never there is an error", neverThere)
}

func newerSupersedes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "building", "v2")
		at(t, 4500*time.Millisecond, func() { s.publish("v3") })
		at(t, 4600*time.Millisecond, func() { s.says("web1", "applied", "v3") })
		r := wantWait(t, Options{Store: s}, "v2", Superseded, 6*time.Second, "web1 missing")
		if r.Newer.ETag != "v3" || !strings.Contains(r.Err().Error(), "holds v3 by now") {
			t.Errorf("newer %+v: %v", r.Newer, r.Err())
		}
	})
}

func beforeIsNotNewer(t *testing.T) {
	for _, c := range []struct {
		name    string
		later   string // is published then
		when    time.Duration
		outcome Outcome
		after   time.Duration
	}{
		{"the publish shows late", "", 10500 * time.Millisecond, Passed, 11 * time.Second},
		{"another one follows", "v3", 20500 * time.Millisecond, Superseded, 22 * time.Second},
		{"the older one follows", "v1", 20500 * time.Millisecond, Superseded, 22 * time.Second},
		{"the older one follows before ours shows", "v1", 2 * time.Second, Superseded, 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newStore("v1")
				Sleep(t.Context(), time.Minute)
				gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}})
				if err != nil {
					t.Fatal(err)
				}
				gate.Before = s.cache(t, 5500*time.Millisecond)
				s.publish("v2")
				at(t, c.when, func() {
					if c.later != "" {
						s.publish(c.later)
					} else {
						s.says("web1", "applied", "v2")
					}
				})
				began := time.Now()
				r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v2"}, Published)
				if err != nil || r.Outcome != c.outcome || time.Since(began) != c.after {
					t.Errorf("%s after %s, want %s after %s: %v", r.Outcome, time.Since(began), c.outcome, c.after, err)
				}
			})
		})
	}
}

func passesBesideNewer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v3")
		s.says("web1", "applied", "v2")
		wantWait(t, Options{Store: s}, "v2", Passed, 0, "web1 done")
		s.says("web2", "building", "v2")
		wantWait(t, Options{Store: s}, "v2", Superseded, time.Second, "web1 done", "web2 missing")
	})
}

// A release is the same whoever publishes it again: its hosts are done, and the wait for it goes on.
func TestWaitGoesByRelease(t *testing.T) {
	ofVersions := func(releases map[string]string) func(context.Context, store.Version) (Release, error) {
		return func(_ context.Context, v store.Version) (Release, error) {
			return Release{ID: releases[v.ETag], Rev: "abc", Message: "a change"}, nil
		}
	}
	version := func(etag, release string) map[string]string {
		return map[string]string{"etag": etag, "release": release}
	}
	for _, c := range []struct {
		name     string
		releases map[string]string
		outcome  Outcome
		after    time.Duration
	}{
		{"the same one, published again", map[string]string{"v2": "r", "v3": "r"}, Passed, 5 * time.Second},
		{"another one", map[string]string{"v2": "r", "v3": "other"}, Superseded, 3 * time.Second},
		{"no release", map[string]string{}, Superseded, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newStore("v2")
				s.says("web1", "applied", "v1", "version", version("v1", "r")) // of a publish before
				s.says("web2", "building", "v2", "version", version("v2", "r"))
				at(t, 1500*time.Millisecond, func() { s.publish("v3") })
				at(t, 4500*time.Millisecond, func() { s.says("web2", "applied", "v3", "version", version("v3", c.releases["v3"])) })
				first := "web1 done"
				if c.releases["v2"] == "" {
					s.says("web2", "building", "v2")
					first = "web1 missing"
				}
				r := wantWait(t, Options{Store: s, ReleaseOf: ofVersions(c.releases)}, "v2", c.outcome, c.after,
					first, map[Outcome]string{Passed: "web2 done", Superseded: "web2 missing"}[c.outcome])
				if name := r.name(); name != "v2 (abc: a change)" {
					t.Errorf("it is called %q", name)
				}
			})
		})
	}

	t.Run("but not where another publish of it was rejected, which this one lifts", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := newStore("v2")
			s.says("web1", "rejected", "v1", "version", version("v1", "r"))
			at(t, 1500*time.Millisecond, func() { s.says("web1", "applied", "v2", "version", version("v2", "r")) })
			wantWait(t, Options{Store: s, ReleaseOf: ofVersions(map[string]string{"v2": "r"})}, "v2", Passed, 2*time.Second, "web1 done")
		})
	})
}

func neverThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v2")
		s.says("web1", "applied", "v2")
		gate, err := Prepare(t.Context(), Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		_, err = gate.WaitFor(t.Context(), store.Version{ETag: "v9"}, Named)
		if err == nil || !strings.Contains(err.Error(), "no host's record mentions v9: it was never published there, or replaced before any host took it, or all hosts have moved on") {
			t.Error(err)
		}
		// The one who published it, or saw it there before the gate was made, knows better.
		for _, from := range []Origin{Published, Held} {
			gate, err = Prepare(t.Context(), Options{Store: s})
			if err != nil {
				t.Fatal(err)
			}
			r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v9"}, from)
			if err != nil || r.Outcome != Superseded {
				t.Errorf("%s, %v", r.Outcome, err)
			}
		}
	})
}

func TestMinOK(t *testing.T) {
	for _, c := range []struct {
		need    string
		done    int // of ten
		failed  int
		outcome Outcome
	}{
		{"10", 10, 0, Passed}, {"10", 9, 0, TimedOut}, {"10", 9, 1, HostsFailed},
		{"9", 9, 1, Passed}, {"9", 8, 2, HostsFailed}, {"9", 8, 1, TimedOut},
		{"90%", 9, 0, Passed}, {"81%", 8, 0, TimedOut}, {"80%", 8, 2, Passed}, {"0.1%", 1, 9, Passed}, {"5e-324%", 0, 9, TimedOut}, {"100%", 9, 0, TimedOut},
		{"1", 0, 10, HostsFailed},
	} {
		t.Run(fmt.Sprintf("%s with %d done and %d failed", c.need, c.done, c.failed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newStore("v1")
				var hosts, verdicts []string
				for i := range 10 {
					host, verdict := fmt.Sprintf("web%d", i), "missing"
					switch {
					case i < c.done:
						s.says(host, "applied", "v1")
						verdict = "done"
					case i < c.done+c.failed:
						s.says(host, "failed", "v1")
						verdict = "failed"
					}
					hosts, verdicts = append(hosts, host), append(verdicts, host+" "+verdict)
				}
				need, err := ParseNeed(c.need)
				if err != nil {
					t.Fatal(err)
				}
				after := time.Duration(0)
				if c.outcome == TimedOut {
					after = time.Minute
				}
				r := wantWait(t, Options{Store: s, Hosts: hosts, Need: need, Timeout: time.Minute, Resume: func(string) string { return "again" }}, "v1", c.outcome, after, verdicts...)
				// One failure that nine of ten allow is not the end; the time is.
				want := ""
				if c.outcome == TimedOut && c.need == "9" {
					want = "with 1 of 10 hosts missing, 1 unheard, and 1 failed, 9 needed"
				}
				if c.outcome == TimedOut && (r.Resume != "again" || !strings.Contains(r.Err().Error(), want)) {
					t.Errorf("%v, %q; want %q", r.Err(), r.Resume, want)
				}
			})
		})
	}
	for _, bad := range []string{"", "0", "-1", "0%", "101%", "x", "NaN%", "1.5", "%", "5 %"} {
		if _, err := ParseNeed(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTrouble(t *testing.T) {
	t.Run("a store that does not answer for a while is reported once and asked again", storeAnswersLater)
	t.Run("a store that never answers is no success", storeNeverAnswers)
	t.Run("an error that lasts ends the wait", errorsThatLast)
	t.Run("an error that passes does not", errorsThatPass)
}

func storeAnswersLater(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "building", "v1")
		at(t, 1500*time.Millisecond, func() { s.fail(errors.New("503 slow down")) })
		at(t, 2*time.Minute, func() { s.says("web1", "applied", "v1") })
		at(t, 3*time.Minute, func() { s.fail(nil) })
		view := &watcher{}
		gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}, Views: []View{view}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, Named)
		if err != nil || r.Outcome != Passed {
			t.Fatalf("%s, %v", r.Outcome, err)
		}
		if took := time.Since(began); took < 3*time.Minute || took > 4*time.Minute {
			t.Errorf("passed after %s", took)
		}
		if view.count("503 slow down") != 1 || view.count("can be read again") != 1 {
			t.Errorf("said: %q", view.events)
		}
		if n := s.count("head"); n < 8 || n > 30 {
			t.Errorf("%d requests during three minutes of failures", n)
		}
	})
}

func storeNeverAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		s.fail(errors.New("503 slow down"))
		r := wantWait(t, Options{Store: s, Hosts: []string{"web1"}}, "v1", TimedOut, 15*time.Minute, "web1 missing")
		if !strings.Contains(r.Err().Error(), "503 slow down") {
			t.Error(r.Err())
		}
	})
}

func errorsThatLast(t *testing.T) {
	for _, sentinel := range []error{store.ErrForbidden, store.ErrNotFound, store.ErrCredentials, &net.DNSError{IsNotFound: true}} {
		bubble(t, func(t *testing.T) {
			s := newStore("v1")
			gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}})
			if err != nil {
				t.Fatal(err)
			}
			s.fail(sentinel)
			began := time.Now()
			if _, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, Named); !errors.Is(err, sentinel) || time.Since(began) != 0 {
				t.Errorf("%v after %s", err, time.Since(began))
			}
		})
	}
}

func errorsThatPass(t *testing.T) {
	for _, c := range []struct {
		trouble error
		from    Origin
		begins  time.Duration
	}{
		{store.ErrCredentials, Named, 5500 * time.Millisecond},
		{store.ErrForbidden, Named, 5500 * time.Millisecond},
		{store.ErrNotFound, Named, 5500 * time.Millisecond},
		{&net.DNSError{IsNotFound: true}, Named, 5500 * time.Millisecond},
		{store.ErrNotFound, Published, 0}, // a cache's
		{store.ErrCredentials, Published, 0},
		{&net.DNSError{IsNotFound: true}, Held, 0},
	} {
		bubble(t, func(t *testing.T) {
			s := newStore("v1")
			gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}})
			if err != nil {
				t.Fatal(err)
			}
			if c.begins == 0 {
				s.fail(c.trouble)
			}
			at(t, c.begins, func() { s.fail(c.trouble) })
			at(t, c.begins+time.Minute, func() { s.fail(nil); s.says("web1", "applied", "v1") })
			if r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, c.from); err != nil || r.Outcome != Passed {
				t.Errorf("%v, %d: %s, %v", c.trouble, c.from, r.Outcome, err)
			}
		})
	}
}

// What a cache, or a store that copies with a delay, still shows is no newer publish however long it shows it.
func olderDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		Sleep(t.Context(), time.Minute)
		s.publish("v2")
		gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		v3 := store.Version{ETag: "v3", Modified: time.Now().Add(time.Minute)}
		if r, err := gate.WaitFor(t.Context(), v3, Published); err != nil || r.Outcome != TimedOut {
			t.Errorf("%s, %v", r.Outcome, err)
		}
	})
}

func seenOnceDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		at(t, 4500*time.Millisecond, func() { s.publish("v2") })
		at(t, 5500*time.Millisecond, func() { s.publish("v1") })
		at(t, 9500*time.Millisecond, func() { s.says("web1", "applied", "v1") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1"}}, "v1", Passed, 10*time.Second, "web1 done")
	})
}

func TestReading(t *testing.T) {
	t.Run("a version without an ETag is not waited for", versionWithoutETag)
	t.Run("records listed without ETags are read again", recordsWithoutETags)
	t.Run("only records that changed are read", changedRecords)
	t.Run("a store that cannot list is asked for each host", storeCannotList)
	t.Run("without hosts there is nothing to wait for", noHosts)
}

func versionWithoutETag(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		gate, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := gate.WaitFor(t.Context(), store.Version{}, Published); err == nil {
			t.Errorf("it ended with %s", r.Outcome)
		}
	})
}

// NVIDIA/aistore#201: a listing without ETags.
func recordsWithoutETags(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.noETags = true
		s.says("web1", "building", "v1")
		at(t, 3500*time.Millisecond, func() { s.says("web1", "applied", "v1") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1"}}, "v1", Passed, 4*time.Second, "web1 done")
	})
}

func waitSkewedClocks(t *testing.T) {
	for _, hours := range []time.Duration{-9, 0, 9} {
		for _, hostHours := range []time.Duration{-7, 7} {
			bubble(t, func(t *testing.T) {
				s := newStore("v1")
				s.skew = hours * time.Hour
				s.publish("v1")
				at(t, 20500*time.Millisecond, func() {
					host := time.Now().Add(hostHours * time.Hour)
					s.says("web1", "applied", "v1", "times", map[string]time.Time{
						"published": time.Now().Add(s.skew), "noticed": host, "activated": host, "acknowledged": host,
					})
				})
				r := wantWait(t, Options{Store: s, Hosts: []string{"web1"}}, "v1", Passed, 21*time.Second, "web1 done")
				if r.Latency.P50 != 20500*time.Millisecond || strings.Contains(closing(r), "-") {
					t.Errorf("store %d h, host %d h: %+v\n%s", hours, hostHours, r.Latency, closing(r))
				}
			})
		}
	}
}

func changedRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		for i := range 100 {
			s.says(fmt.Sprintf("web%02d", i), "building", "v1")
		}
		s.says("stranger", "building", "v1")
		var hosts []string
		for i := range 100 {
			hosts = append(hosts, fmt.Sprintf("web%02d", i))
		}
		for i, host := range hosts {
			at(t, time.Duration(i)*time.Second/2+time.Second/4, func() { s.says(host, "applied", "v1") })
		}
		gate, err := Prepare(t.Context(), Options{Store: s, Hosts: hosts})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := gate.WaitFor(t.Context(), store.Version{ETag: "v1"}, Named); err != nil || r.Outcome != Passed {
			t.Fatal(r.Outcome, err)
		}
		if gets, lists, heads := s.count("get"), s.count("list"), s.count("head"); gets != 200 || lists != 51 || heads != 51 {
			t.Errorf("%d GET, %d LIST, %d HEAD in 50 s; want 200, 51, 51", gets, lists, heads)
		}
	})
}

func waitRecordRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.says("web1", "applied", "v1")
		at(t, 2500*time.Millisecond, func() { s.forget("web1") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1", "web2"}, Timeout: 5 * time.Second}, "v1", TimedOut, 5*time.Second, "web1 missing", "web2 missing")
	})
}

func storeCannotList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		s.noList = true
		s.says("web1", "applied", "v1")
		at(t, 3500*time.Millisecond, func() { s.says("web2", "applied", "v1") })
		wantWait(t, Options{Store: s, Hosts: []string{"web1", "web2"}}, "v1", Passed, 4*time.Second, "web1 done", "web2 done")
		if s.count("stat") != 10 || s.count("get") != 2 {
			t.Errorf("%v", s.requests)
		}
		if _, err := Prepare(t.Context(), Options{Store: s}); !errors.Is(err, store.ErrNoListing) {
			t.Error(err)
		}
	})
}

func noHosts(t *testing.T) {
	s := newStore("v1")
	if _, err := Prepare(t.Context(), Options{Store: s}); !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), "--host") {
		t.Error(err)
	}
	need, err := ParseNeed("3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"a", "b"}, Need: need}); !errors.Is(err, ErrHosts) {
		t.Error(err)
	}
	if _, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"a/b"}}); !errors.Is(err, ErrHosts) {
		t.Error(err)
	}
}

func waitInterrupted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newStore("v1")
		ctx, cancel := context.WithCancel(t.Context())
		at(t, 5500*time.Millisecond, cancel)
		gate, err := Prepare(ctx, Options{Store: s, Hosts: []string{"web1"}, Resume: func(etag string) string { return "again " + etag }})
		if err != nil {
			t.Fatal(err)
		}
		r, err := gate.WaitFor(ctx, store.Version{ETag: "v1"}, Named)
		if err != nil || r.Outcome != Interrupted || r.Resume != "again v1" || !strings.Contains(closing(r), "to go on waiting: again v1") {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestHostsFiles(t *testing.T) {
	hosts, err := ReadHosts(strings.NewReader("web1\n\n  web2 # the second\r\n#web3\nweb4"))
	if err != nil || !slices.Equal(hosts, []string{"web1", "web2", "web4"}) {
		t.Errorf("%q, %v", hosts, err)
	}
	for _, bad := range []string{"web1 web2", "a/b", strings.Repeat("x", 201)} {
		if _, err := ReadHosts(strings.NewReader("ok\n" + bad)); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
