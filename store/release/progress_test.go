package release

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestWaves(t *testing.T) {
	plan := Plan{Waves: [][]string{{"web1", "canary-*"}, {"db"}, {"10%"}, {"100%"}}}
	for _, c := range []struct {
		host, configuration string
		wave                int
	}{
		{"web1", "web", 1},
		{"canary-7", "web", 1},
		{"x", "canary-a", 1}, // a configuration's name counts as a host's does
		{"db7", "db", 2},
		{"web1x", "web", 4},
	} {
		if got := plan.Wave(c.host, c.configuration); got != c.wave {
			t.Errorf("%s of %s: wave %d, want %d", c.host, c.configuration, got, c.wave)
		}
		for waves := range 5 {
			if got := plan.Admits(waves, c.host, c.configuration); got != (waves >= c.wave) {
				t.Errorf("%s of %s with %d waves: %v", c.host, c.configuration, waves, got)
			}
		}
	}
}

// The place of a host is a format: hosts and commands of other versions compute the same.
func TestAShareHoldsAboutThatManyHostsAndTheSameOnes(t *testing.T) {
	in := func(seed, share string) (hosts []int) {
		plan := Plan{Waves: [][]string{{share}, {"100%"}}, Seed: seed}
		for i := range 10_000 {
			if plan.Admits(1, fmt.Sprintf("host%d", i), "c") {
				hosts = append(hosts, i)
			}
		}
		return hosts
	}
	for share, about := range map[string]int{"100%": 10_000, "10%": 1000, "0.5%": 50, "0.0001%": 0} {
		if n := len(in("", share)); n < about*7/10 || n > about*13/10 {
			t.Errorf("%s of 10,000 hosts are %d", share, n)
		}
	}
	if first := in("", "0.05%"); fmt.Sprint(first) != "[3602 3636 5965 6745 9227]" {
		t.Errorf("the first hosts are %v", first)
	}
	if fmt.Sprint(in("a", "1%")) == fmt.Sprint(in("b", "1%")) {
		t.Error("another seed has the same hosts")
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	all := []string{"100%"}
	for says, plan := range map[string]Plan{
		"0 waves":               {},
		"it has 0 members":      {Waves: [][]string{{}, all}},
		"an empty name":         {Waves: [][]string{{""}, all}},
		"no pattern":            {Waves: [][]string{{"[a"}, all}},
		"the last wave is web":  {Waves: [][]string{all, {"web"}}},
		`"0%" is no share`:      {Waves: [][]string{{"0%"}, all}},
		`"101%" is no share`:    {Waves: [][]string{{"101%"}, all}},
		`"1.%" is no share`:     {Waves: [][]string{{"1.%"}, all}},
		`"-1%" is no share`:     {Waves: [][]string{{"-1%"}, all}},
		`"%" is no share`:       {Waves: [][]string{{"%"}, all}},
		"names no release":      {Waves: [][]string{all}, Base: &Base{Release: "x"}},
		"-1 seconds":            {Waves: [][]string{all}, Soak: -1},
		"65 waves":              {Waves: make([][]string, 65)},
		`0.00001%" is no share`: {Waves: [][]string{{"0.00001%"}, all}},
	} {
		if err := plan.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", plan, err, says)
		}
	}
}

// planned is a manifest with a plan, as its publisher encodes it.
func planned(t *testing.T) *Manifest {
	t.Helper()
	m := manifest()
	m.Rollout = &Plan{Waves: [][]string{{"web1"}, {"100%"}}, Soak: 900, Base: &Base{Release: strings.Repeat("a", 64)}}
	if _, err := m.Encode(); err != nil {
		t.Fatal(err)
	}
	return m
}

func progressOf(t *testing.T, m *Manifest, key ssh.Signer, namespace string, change func(*Progress)) Frame {
	t.Helper()
	p := Progress{Release: m.Release, Serial: m.Serial, Step: 1, Admitted: 1, State: Running}
	data, err := p.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil { // as an attacker would, who does not validate
		before := p
		change(&p)
		data = []byte(strings.NewReplacer(
			before.Release, p.Release,
			fmt.Sprintf(`"admitted":%d`, before.Admitted), fmt.Sprintf(`"admitted":%d`, p.Admitted),
			fmt.Sprintf(`"serial":%d`, before.Serial), fmt.Sprintf(`"serial":%d`, p.Serial),
			fmt.Sprintf(`"step":%d`, before.Step), fmt.Sprintf(`"step":%d`, p.Step),
			string(before.State), string(p.State)).Replace(string(data)))
	}
	text, err := Sign(data, key, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return Frame{Progress: data, ProgressSignatures: []string{text}}
}

func TestProgress(t *testing.T) {
	release, rollout, stranger := newKey(t), newKey(t), newKey(t)
	m := planned(t)
	policy := Policy{Remote: remote, Signers: Signers{release.PublicKey()}, RolloutSigners: Signers{rollout.PublicKey()}}
	is := func(change func(*Progress)) Frame { return progressOf(t, m, rollout, RolloutNamespace, change) }
	for _, c := range []struct {
		name, says string
		policy     Policy
		frame      Frame
	}{
		{"by a rollout key", "", policy, is(nil)},
		{"of all waves", "", policy, is(func(p *Progress) { p.Admitted, p.State = 2, Complete })},
		{"reverted", "", policy, is(func(p *Progress) { p.State = Reverted })},
		{"by a release key where there are rollout signers", "none of this host's signers", policy, progressOf(t, m, release, RolloutNamespace, nil)},
		{"by a release key where there are none", "", Policy{Signers: policy.Signers}, progressOf(t, m, release, RolloutNamespace, nil)},
		{"of nobody who matters, on a host that trusts everybody", "", Policy{}, progressOf(t, m, stranger, RolloutNamespace, nil)},
		{"none", "no progress", policy, Frame{}},
		{"by a stranger", "none of this host's signers", policy, progressOf(t, m, stranger, RolloutNamespace, nil)},
		{"signed as a manifest", "namespace", policy, progressOf(t, m, rollout, Namespace, nil)},
		{"without a signature", "no signature", policy, Frame{Progress: is(nil).Progress}},
		{"with the signature of another", "not one of these bytes", policy,
			Frame{Progress: is(nil).Progress, ProgressSignatures: is(func(p *Progress) { p.Step = 2 }).ProgressSignatures}},
		{"for another release", "and this is", policy, is(func(p *Progress) { p.Release = strings.Repeat("b", 64) })},
		{"for another serial", "and this is", policy, is(func(p *Progress) { p.Serial++ })},
		{"with a wave that the plan does not have", "admits 3 waves, and the plan has 2", policy, is(func(p *Progress) { p.Admitted = 3 })},
		{"with -1 waves", "admits -1 waves", policy, is(func(p *Progress) { p.Admitted = -1 })},
		{"with no step", "has step 0", policy, is(func(p *Progress) { p.Step = 0 })},
		{"with an unknown state", "does not know it", policy, is(func(p *Progress) { p.State = "done" })},
		{"complete with one wave", "admits 1 of 2", policy, is(func(p *Progress) { p.State = Complete })},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.policy.VerifyProgress(&c.frame, &Verified{Manifest: m})
			refused := (*Refused)(nil)
			switch {
			case c.says == "" && (err != nil || p == nil || p.Digest == ""):
				t.Errorf("%+v, %v", p, err)
			case c.says != "" && (!errors.As(err, &refused) || refused.Reason != ReasonProgress || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	last := Accepted{Serial: 7, Step: 3, Progress: "three"}
	for _, c := range []struct {
		name         string
		serial, step int64
		digest       string
		refused      bool
	}{
		{"the same", 7, 3, "three", false},
		{"the next", 7, 4, "four", false},
		{"an older one that was put back", 7, 2, "two", true},
		{"another one of the same number", 7, 3, "other", true},
		{"the first of the next publish", 8, 1, "one", false},
	} {
		p := VerifiedProgress{Progress: &Progress{Serial: c.serial, Step: c.step}, Digest: c.digest}
		if err := CheckProgress(&p, last); (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzParseProgress(f *testing.F) {
	m := manifest()
	m.Rollout = &Plan{Waves: [][]string{{"web1"}, {"100%"}}, Base: &Base{Release: strings.Repeat("a", 64)}}
	if _, err := m.Encode(); err != nil {
		f.Fatal(err)
	}
	data, err := (&Progress{Release: m.Release, Serial: m.Serial, Step: 1, State: Running}).Encode(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.ReplaceAll(data, []byte("step"), []byte("STEP")))
	f.Add(bytes.ReplaceAll(data, []byte("running"), []byte("reverted")))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProgress(data, m)
		if err != nil {
			return
		}
		if p.Admitted < 0 || p.Admitted > len(m.Rollout.Waves) || p.Release != m.Release || p.Step < 1 {
			t.Fatalf("accepted %+v", p)
		}
		again, err := p.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ParseProgress(again, m); err != nil || *q != *p {
			t.Fatalf("not the same when read again: %+v, %v", q, err)
		}
	})
}

func FuzzPlan(f *testing.F) {
	f.Add("web*", "10%", "", "web1")
	f.Add("[", "0.1%", "seed", "")
	f.Fuzz(func(t *testing.T, a, b, seed, host string) {
		p := Plan{Waves: [][]string{{a, b}, {"100%"}}, Seed: seed}
		if p.Validate() != nil {
			return
		}
		if w := p.Wave(host, "c"); w < 1 || w > 2 || !p.Admits(2, host, "c") || p.Admits(0, host, "c") {
			t.Fatalf("%q is in wave %d of %q", host, w, p.Waves)
		}
	})
}
