package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/store/release"
)

// A wave that failed is told first, whatever else came of it: a rollout that was overtaken before it could be halted.
func TestRolloutCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.Join(rollout.ErrHosts, rollout.ErrOvertaken), exitHosts},
		{errors.Join(fmt.Errorf("x: %w", rollout.ErrTime), rollout.ErrOvertaken), exitTime},
		{rollout.ErrStopped, exitSuperseded},
	} {
		for range 20 {
			if got, ok := errors.AsType[exitError](rolloutCode(c.err)); !ok || got.code != c.want {
				t.Fatalf("%v: %v, want %d", c.err, got, c.want)
			}
		}
	}
}

// A wave has more time than the plan's soak, which a command that resumes the rollout reads from the release.
func TestAWaveHasMoreTimeThanItsSoak(t *testing.T) {
	for _, c := range []struct {
		args []string
		want time.Duration // 0: refused
	}{
		{nil, 90 * time.Minute},
		{[]string{"--wave-timeout", "60m"}, 0},
		{[]string{"--wave-timeout", "61m"}, 61 * time.Minute},
	} {
		var f waveFlags
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.addFlags(flags)
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if err := f.bound(time.Hour, flags); (err == nil) != (c.want > 0) || err == nil && f.timeout != c.want {
			t.Errorf("%q: %s, %v", c.args, f.timeout, err)
		}
	}

	b, key := newBucketOfVersions(t), sshKey(t)
	plan := &release.Plan{Soak: 3600, Waves: [][]string{{"web1"}, {"100%"}}}
	b.put(signed(t, key, "planted/dev.npcnix", "good", func(m *release.Manifest) { m.Rollout = plan }))
	out := command(t, errAny, "rollout", "resume", "--remote", b.remote, "--rollout-key", key, "--force", "--wave-timeout", "1ms", "--wave-interval", "1ms")
	if !strings.Contains(out, "no wave can pass before its --soak of 1h0m0s is over") {
		t.Error(out)
	}
}
