package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// hostStatus is what `status --json` prints.
type hostStatus struct {
	Paused          *config.Pause       `json:"paused,omitempty"`
	Host            string              `json:"host,omitempty"`
	Remote          string              `json:"remote,omitempty"`
	Configuration   string              `json:"configuration,omitempty"`
	QueueURL        string              `json:"queue_url,omitempty"`
	Running         string              `json:"running_system,omitempty"`
	Drifted         bool                `json:"drifted"`
	NeedsRepair     bool                `json:"needs_repair,omitempty"` // what runs or boots may not be what it should
	Wanted          string              `json:"wanted_etag,omitempty"`  // the newest version known here
	Applied         *agent.Applied      `json:"applied,omitempty"`
	Intent          *agent.Intent       `json:"in_progress,omitempty"`
	Activation      *activation.Journal `json:"activation,omitempty"` // one that is not settled, or failed to be
	Failure         *agent.Failure      `json:"failure,omitempty"`
	NextAttempt     time.Time           `json:"next_attempt,omitzero"`
	RebootDue       string              `json:"reboot_due,omitempty"` // why
	Agent           agentStatus         `json:"agent"`
	StateError      string              `json:"state_error,omitempty"`
	ActivationError string              `json:"activation_error,omitempty"`
}

// agentStatus is what the agent that runs, or ran last, has said.
type agentStatus struct {
	Running bool   `json:"running"`
	Error   string `json:"error,omitempty"` // why nothing is known of it
	health.Health
}

func newStatusCommand(c *common) *cobra.Command {
	var asJSON bool
	var h hostFlags
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Print what this host runs, and what became of the latest version",
		Long: `Print what this host runs and is meant to run, how far the work on it has got, and how the agent is
doing. Reads the data directory and the running system, and asks nobody; works with and without a
running agent, and changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.hostStatus(cmd.Context(), h)
			if err != nil {
				return err
			}
			if asJSON {
				out, err := json.MarshalIndent(s, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.stdout, "%s\n", out)
				return err
			}
			_, err = fmt.Fprint(c.stdout, s.text(time.Now()))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&h.currentSystem, "current-system", "/run/current-system", "the link to the system that runs (for containers and tests)")
	return cmd
}

// hostStatus gathers what is known. A file of the agent's that cannot be read is part of the answer.
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
	state, err := agent.ReadState(c.dir())
	if errors.Is(err, agent.ErrState) {
		s.StateError = err.Error()
	} else if err != nil {
		return hostStatus{}, err
	}
	s.Applied, s.Intent, s.Failure, s.NeedsRepair = state.Applied, state.Intent, state.Failure, state.NeedsRepair
	if s.Applied != nil {
		s.Applied.Remote = store.Redact(s.Applied.Remote)
	}
	if s.Intent != nil {
		s.Intent.Remote = store.Redact(s.Intent.Remote)
	}
	if s.Failure != nil {
		s.Failure.Remote = store.Redact(s.Failure.Remote)
	}
	if f := s.Failure; f != nil && f.RetryToken != conf.RetryToken {
		s.Failure = nil // a retry was asked for since
	} else if f != nil && !f.Rejected {
		s.NextAttempt = f.Next()
	}
	a, err := activation.Read(c.dataDir)
	if errors.Is(err, activation.ErrJournal) {
		s.ActivationError = err.Error()
	} else if err != nil {
		return hostStatus{}, err
	}
	if a != nil && (!a.Phase.Ended() || a.Phase == activation.RollbackFailed) {
		s.Activation = a
	}
	if s.Agent.Health, s.Agent.Running, err = health.Read(c.dir()); err != nil {
		s.Agent.Error = err.Error()
	}
	host, err := h.host(c)
	if err != nil {
		return hostStatus{}, err
	}
	running, err := host.Current(ctx)
	if err != nil {
		return hostStatus{}, err
	}
	if s.RebootDue, err = host.RebootDue(ctx); err != nil {
		return hostStatus{}, err
	}
	if in := s.Intent; s.RebootDue == "" && in != nil && in.Status == record.RebootPending {
		s.RebootDue = "the new system becomes active with the next boot"
	}
	s.Running = running.Path
	s.Drifted = s.Applied != nil && s.Applied.System != "" && s.Running != "" && s.Running != s.Applied.System && !s.NeedsRepair && s.Intent == nil
	s.Wanted = s.wanted()
	return s, nil
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
