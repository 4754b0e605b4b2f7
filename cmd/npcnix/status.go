package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// hostStatus is what `status --json` prints.
type hostStatus struct {
	Summary         string              `json:"summary"` // the first line for a person
	Paused          *config.Pause       `json:"paused,omitempty"`
	Host            string              `json:"host,omitempty"`
	Remote          string              `json:"remote,omitempty"`
	Configuration   string              `json:"configuration,omitempty"`
	QueueURL        string              `json:"queue_url,omitempty"`
	OwnQueue        string              `json:"own_queue,omitempty"` // the name of the queue that the host makes
	Running         string              `json:"running_system,omitempty"`
	Specialisation  string              `json:"specialisation,omitempty"` // of the applied system, that runs
	Drifted         bool                `json:"drifted"`
	NeedsRepair     bool                `json:"needs_repair,omitempty"` // a rollback failed: the running or the booted system can be wrong
	Wanted          string              `json:"wanted_etag,omitempty"`  // the newest version known here
	Applied         *agent.Applied      `json:"applied,omitempty"`
	Intent          *agent.Intent       `json:"in_progress,omitempty"`
	Activation      *activation.Journal `json:"activation,omitempty"` // one that is under way, or whose rollback failed
	Failure         *agent.Failure      `json:"failure,omitempty"`
	NextAttempt     time.Time           `json:"next_attempt,omitzero"`
	RebootDue       string              `json:"reboot_due,omitempty"`    // why
	BootDefault     string              `json:"boot_default,omitempty"`  // what boots, if an operator has chosen another system than runs
	BootFailures    []string            `json:"boot_failures,omitempty"` // parts of the activation that failed when the machine booted
	Agent           agentStatus         `json:"agent"`
	StateError      string              `json:"state_error,omitempty"`
	ActivationError string              `json:"activation_error,omitempty"`
}

// agentStatus is what the running agent, or the last one, has said.
type agentStatus struct {
	Running bool   `json:"running"`
	Error   string `json:"error,omitempty"` // why its health is unknown
	health.Health
}

const statusHelp = `Print what this host runs and is meant to run, how far the work on it has got, and how the agent is doing.
The first line is the verdict.

It reads the data directory and the running system, works with and without a running agent, and changes
nothing.`

type statusOptions struct {
	host hostFlags
	json bool
}

func newStatusCommand(c *common) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Print what this host runs, and what became of the latest version",
		Long:  statusHelp,
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runStatus(cmd.Context(), c, o) },
	}
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	o.host.addCurrentSystem(cmd.Flags())
	return cmd
}

func runStatus(ctx context.Context, c *common, o statusOptions) error {
	s, err := c.hostStatus(ctx, o.host)
	if err != nil {
		return err
	}
	now := time.Now()
	if o.json {
		s.Summary = s.verdict(now)
		return c.printJSON(s)
	}
	return c.print("%s", s.text(now))
}

// hostStatus gathers what is known. An error of a file that the agent writes is part of the answer.
func (c *common) hostStatus(ctx context.Context, h hostFlags) (hostStatus, error) {
	conf, err := c.conf()
	if err != nil {
		return hostStatus{}, err
	}
	s := hostStatus{Host: conf.Host, Remote: store.Redact(conf.Remote), Configuration: conf.Configuration, QueueURL: conf.QueueURL}
	if s.Host == "" {
		s.Host, _ = os.Hostname() // for the reader's convenience alone
	}
	if conf.Paused.Active(time.Now()) {
		s.Paused = conf.Paused
	}
	if err := s.readState(c.dir(), conf.RetryToken); err != nil {
		return hostStatus{}, err
	}
	journal, err := s.readJournal(c.dataDir)
	if err != nil {
		return hostStatus{}, err
	}
	if s.Agent.Health, s.Agent.Running, err = health.Read(c.dir()); err != nil {
		s.Agent.Error = err.Error()
	}
	if host, err := recordName(conf); err == nil && s.QueueURL == events.AutoQueue {
		s.OwnQueue = events.OwnQueueName(conf.TopicARN, remoteTag(conf.Remote), host)
	}
	if s.QueueURL == "" && s.Agent.Running {
		s.QueueURL = s.Agent.QueueURL // from a flag, or from the agent's environment
	}
	if journal != nil {
		h.profile = journal.Profile
	}
	if err := s.askHost(ctx, c, h); err != nil {
		return hostStatus{}, err
	}
	if s.Applied != nil && s.Applied.System != s.Running {
		s.Specialisation = nix.System{Path: s.Applied.System}.Specialisation(nix.System{Path: s.Running})
	}
	if s.Specialisation != "" {
		s.BootDefault = "" // the applied system, of which it is a part
	}
	s.Drifted = s.Specialisation == "" && s.Applied != nil && s.Applied.System != "" && s.Running != "" && s.Running != s.Applied.System && !s.NeedsRepair && s.Intent == nil
	s.Wanted = s.wanted()
	return s, nil
}

// readState reads what the agent remembers.
func (s *hostStatus) readState(dir config.Dir, retryToken string) error {
	state, err := agent.ReadState(dir)
	if errors.Is(err, agent.ErrState) {
		s.StateError = err.Error()
	} else if err != nil {
		return err
	}
	s.Applied, s.Intent, s.Failure, s.NeedsRepair = state.Applied, state.Intent, state.Failure, state.NeedsRepair
	if s.Applied != nil {
		s.Applied.Remote = store.Redact(s.Applied.Remote)
	}
	if s.Intent != nil {
		s.Intent.Remote = store.Redact(s.Intent.Remote)
	}
	f := s.Failure
	switch {
	case f == nil:
	case f.RetryToken != retryToken:
		s.Failure = nil // an operator asked for a retry since
	default:
		f.Remote = store.Redact(f.Remote)
		if !f.Rejected {
			s.NextAttempt = f.Next()
		}
	}
	return nil
}

// readJournal reads the last activation, and keeps one that is under way or whose rollback failed.
func (s *hostStatus) readJournal(dir string) (*activation.Journal, error) {
	a, err := activation.Read(dir)
	if errors.Is(err, activation.ErrJournal) {
		s.ActivationError = err.Error()
		return nil, nil
	}
	if a != nil && (!a.Phase.Ended() || a.Phase == activation.RollbackFailed) {
		s.Activation = a
	}
	return a, err
}

// askHost finds out what runs and whether a reboot is due.
func (s *hostStatus) askHost(ctx context.Context, c *common, h hostFlags) error {
	host, err := h.host(c)
	if err != nil {
		return err
	}
	running, err := host.Current(ctx)
	if err != nil {
		return err
	}
	s.Running = running.Path
	if s.RebootDue, err = host.RebootDue(ctx); err != nil {
		return err
	}
	s.BootFailures, _ = host.BootFailures(ctx) // to look at its own health a host needs no journal
	if profiled, _, err := host.Profiled(); err == nil && profiled != running && profiled.Path != "" && s.Intent == nil && s.Activation == nil {
		s.BootDefault = profiled.Path
	}
	if in := s.Intent; s.RebootDue == "" && in != nil && in.Status == record.RebootPending {
		s.RebootDue = "the new system becomes active with the next boot"
	}
	return nil
}

// wanted is the newest version that this host has heard of.
func (s hostStatus) wanted() string {
	if s.Intent != nil {
		return s.Intent.ETag
	}
	etag, heard := s.Agent.ETag, s.Agent.LastLook
	newer := func(e string, at time.Time) {
		if etag == "" || at.After(heard) {
			etag, heard = e, at
		}
	}
	if s.Applied != nil {
		newer(s.Applied.ETag, s.Applied.At)
	}
	if s.Failure != nil {
		newer(s.Failure.ETag, s.Failure.At)
	}
	return etag
}
