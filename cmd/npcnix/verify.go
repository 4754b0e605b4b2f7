package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/store"
)

// How the process of a verification is asked again if it has no answer, and how long it may take to answer
// when the time is up. The rollback timer waits for longer than that.
const (
	verifyPause = time.Second
	verifyGrace = time.Second
)

// verifyAnswer is what the process of a verification prints.
type verifyAnswer struct {
	Error   string `json:"error,omitempty"`   // why the system is not verified; "" if it is
	Warning string `json:"warning,omitempty"` // what is worth telling of one that is
	Machine bool   `json:"machine,omitempty"` // the machine is to blame, and not the system
}

// err is the answer as the agent takes it.
func (a verifyAnswer) err() error {
	switch {
	case a.Error == "":
		return nil
	case a.Machine:
		return machineError{a.Error}
	}
	return errors.New(a.Error)
}

// machineError is an error of another process, which has said whose fault it is.
type machineError struct{ text string }

func (e machineError) Error() string { return e.text }
func (machineError) Unwrap() error   { return nix.ErrMachine }

// verifyFlags are the flags of the process that verifies: those that say what the host is and what its settings are.
type verifyFlags struct {
	settings settingFlags
	host     hostFlags
}

func (v *verifyFlags) addFlags(flags *pflag.FlagSet) {
	v.settings.addFlags(flags)
	v.host.addFlags(flags)
}

// newVerifyCommand makes what verifies a new system: see agent.Options, Fresh.
func newVerifyCommand(c *common) *cobra.Command {
	var v verifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify the system that runs, as standard input asks for, and print the answer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			warning, err := runVerify(cmd.Context(), c, v, cmd.InOrStdin())
			answer := verifyAnswer{Warning: warning}
			if err != nil {
				answer = verifyAnswer{Error: err.Error(), Machine: errors.Is(err, nix.ErrMachine)}
			}
			return c.printJSON(answer)
		},
	}
	v.addFlags(cmd.Flags())
	return cmd
}

func runVerify(ctx context.Context, c *common, flags verifyFlags, input io.Reader) (warning string, err error) {
	var v agent.Verification
	if err := json.NewDecoder(input).Decode(&v); err != nil {
		return "", fmt.Errorf("%w: read what is to be verified: %w", nix.ErrMachine, err)
	}
	layers, err := flags.settings.layers()
	if err != nil {
		return "", err
	}
	host, err := flags.host.host(c)
	if err != nil {
		return "", err
	}
	o := agent.Options{
		Dir: c.dir(), Host: host, Machine: host, Reach: reach, Log: c.log,
		Override: func(file config.Config) (config.Config, error) {
			s, err := c.sourcesOver(file)
			if err != nil {
				return config.Config{}, err
			}
			resolved, err := s.resolve(layers...)
			return resolved.Config, err
		},
	}
	if v.Target != nil && v.Reach {
		remote, err := openTarget(ctx, o, *v.Target)
		if err != nil {
			return "", fmt.Errorf("from the new system, the store cannot be reached: %w", err)
		}
		if remote != nil {
			o.Store, o.RemoteName = remote, remote.Name()
		}
	}
	return agent.Verify(ctx, o, v)
}

// openTarget opens the remote of a target by the settings that count now, which a service may be about to write;
// nil if they name another remote.
func openTarget(ctx context.Context, o agent.Options, t agent.Target) (*store.Remote, error) {
	for {
		file, _, err := o.Dir.InForce()
		if err != nil {
			return nil, nil // reported by the verification
		}
		c, err := o.Override(file)
		if err != nil || c.Remote != t.Remote {
			return nil, nil
		}
		remote, err := store.Open(ctx, c.Remote, store.Options{Region: c.RemoteRegion, CredentialsFile: c.RemoteCredentialsFile})
		if err == nil {
			return remote, nil
		}
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// fresh verifies a new system by a process of this program that begins now, with the flags of this one. If that
// process has no answer, as for want of memory, another one is asked until ctx ends.
func (c *common) fresh(ctx context.Context, v agent.Verification) (warning string, err error) {
	for {
		warning, err := c.askFresh(ctx, v)
		if !errors.Is(err, errNoAnswer) {
			return warning, err
		}
		c.log.Warn("the verification gave no answer; asking again", "error", err)
		select {
		case <-time.After(verifyPause):
		case <-ctx.Done():
			return "", err
		}
	}
}

// errNoAnswer says that the process of a verification ended without an answer.
var errNoAnswer = fmt.Errorf("%w: the process that verifies gave no answer", nix.ErrMachine)

func (c *common) askFresh(ctx context.Context, v agent.Verification) (warning string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	input, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var printed bytes.Buffer
	cmd := exec.CommandContext(ctx, self, append([]string{"activation", "verify"}, c.sameFlags()...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &printed, c.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then answers with what it has seen last
	cmd.WaitDelay = verifyGrace
	ended := cmd.Run()
	var answer verifyAnswer
	if err := json.Unmarshal(printed.Bytes(), &answer); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%w: %v", errNoAnswer, ended)
	}
	return answer.Warning, answer.err()
}

// sameFlags are the flags of this process that the one that verifies has too, as they were given. What the
// environment has set that one finds there.
func (c *common) sameFlags() []string {
	var has pflag.FlagSet
	new(common).addFlags(&has)
	new(verifyFlags).addFlags(&has)
	var args []string
	c.flags.Visit(func(f *pflag.Flag) {
		if _, there := f.Annotations[setByEnvironment]; there || has.Lookup(f.Name) == nil {
			return
		}
		values := []string{f.Value.String()}
		if list, is := f.Value.(pflag.SliceValue); is {
			values = list.GetSlice()
		}
		for _, value := range values {
			args = append(args, "--"+f.Name+"="+value)
		}
	})
	return args
}
