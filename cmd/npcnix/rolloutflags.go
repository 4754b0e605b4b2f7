package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/publish"
	"github.com/npcnix/npcnix/cmd/npcnix/rollout"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// planFlags describe the plan of waves that a release begins with.
type planFlags struct {
	waves []string
	seed  string
	soak  time.Duration
}

func (f *planFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.waves, "wave", nil, "hosts of the next wave: names, patterns and shares, such as web1,canary-* or 10%; the last wave is 100% (repeatable)")
	flags.DurationVar(&f.soak, "soak", 15*time.Minute, "how long a host must be healthy with the release before it counts for its wave")
	flags.StringVar(&f.seed, "seed", "", "any text; with another one, other hosts are the first of a share")
}

// plan is the plan that the flags describe; nil without waves.
func (f *planFlags) plan() (*release.Plan, error) {
	if len(f.waves) == 0 {
		if f.seed != "" {
			return nil, usageError{errors.New("--seed goes with --wave")}
		}
		return nil, nil
	}
	plan := &release.Plan{Seed: f.seed, Soak: int64(f.soak.Seconds())}
	for _, wave := range f.waves {
		plan.Waves = append(plan.Waves, strings.Split(wave, ","))
	}
	if err := plan.Validate(); err != nil {
		return nil, usageError{fmt.Errorf("--wave: %w", err)}
	}
	return plan, nil
}

// waveFlags say how a command takes a rollout through its waves.
type waveFlags struct {
	rolloutKeys []string
	maxFailed   int
	maxMissing  string
	timeout     time.Duration
	look        time.Duration
	check       string
	onFailure   string
}

func (f *waveFlags) addFlags(flags *pflag.FlagSet) {
	f.addKeyFlag(flags)
	flags.IntVar(&f.maxFailed, "max-failed", 0, "how many hosts can fail before the rollout stops")
	flags.StringVar(&f.maxMissing, "max-missing", "0", "how many admitted hosts can be missing when a wave passes, as N or N%")
	flags.DurationVar(&f.timeout, "wave-timeout", 0, "how long a wave can take before the rollout stops; 0: for ever (default: 30m more than the soak)")
	flags.DurationVar(&f.look, "wave-interval", 10*time.Second, "time between two looks at the hosts' records")
	flags.StringVar(&f.check, "wave-check", "", "shell command that must succeed before the next wave, in the rest of the wave's time; it gets NPCNIX_WAVE and NPCNIX_RELEASE")
	flags.StringVar(&f.onFailure, "on-failure", "halt", "what becomes of a rollout whose wave fails: halt or revert")
}

func (f *waveFlags) addKeyFlag(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.rolloutKeys, "rollout-key", nil, "key to sign the rollout's progress with: a file, agent:FINGERPRINT, or awskms:ARN (repeatable; default: the keys of --sign-key)")
}

// bound completes the time of a wave, or refuses one in which none can pass.
func (f *waveFlags) bound(soak time.Duration, flags *pflag.FlagSet) error {
	switch {
	case !flags.Changed("wave-timeout"):
		f.timeout = soak + 30*time.Minute
	case f.timeout > 0 && f.timeout <= soak:
		return usageError{fmt.Errorf("--wave-timeout is %s: no wave can pass before its --soak of %s is over", f.timeout, soak)}
	}
	return nil
}

// options are what the flags say of a rollout.
func (f *waveFlags) options(c *common, remote *store.Remote, p *publish.Publisher) (rollout.Options, error) {
	o := rollout.Options{
		Remote: remote, Publisher: p, WaveTimeout: f.timeout, Interval: f.look, Revert: f.onFailure == "revert",
		Say: func(line string) { c.log.Info(line) },
	}
	missing, err := rollout.ParseShare(f.maxMissing)
	switch {
	case err != nil:
		return o, usageError{fmt.Errorf("--max-missing is %w", err)}
	case f.maxFailed < 0:
		return o, usageError{fmt.Errorf("--max-failed is %d: it must not be negative", f.maxFailed)}
	case f.look <= 0 || f.timeout < 0:
		return o, usageError{errors.New("--wave-interval must be more than 0, and --wave-timeout not negative")}
	case !slices.Contains([]string{"halt", "revert"}, f.onFailure):
		return o, usageError{fmt.Errorf("--on-failure is %q: it must be halt or revert", f.onFailure)}
	}
	o.Budget = rollout.Budget{Failed: f.maxFailed, Missing: missing}
	if f.check != "" {
		o.Check = func(ctx context.Context, wave int, name string) error { return runCheck(ctx, c, f.check, wave, name) }
	}
	return o, nil
}

// runCheck runs an operator's check of a wave. Its output is shown on stderr.
func runCheck(ctx context.Context, c *common, command string, wave int, name string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), "NPCNIX_WAVE="+strconv.Itoa(wave), "NPCNIX_RELEASE="+name)
	cmd.Stdout, cmd.Stderr = c.stderr, c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it has begun ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// rolloutCode gives an error of a rollout its exit code: of several, that of the wave.
func rolloutCode(err error) error {
	switch {
	case errors.Is(err, rollout.ErrHosts):
		return exitError{err, exitHosts}
	case errors.Is(err, rollout.ErrTime):
		return exitError{err, exitTime}
	case errors.Is(err, rollout.ErrOvertaken), errors.Is(err, rollout.ErrStopped):
		return exitError{err, exitSuperseded}
	}
	return err
}
