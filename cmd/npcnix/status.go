package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"npcnix/agent"
)

// hostStatus is what `status --json` prints.
type hostStatus struct {
	Paused        *agent.Pause   `json:"paused,omitempty"`
	Remote        string         `json:"remote,omitempty"`
	Configuration string         `json:"configuration,omitempty"`
	QueueURL      string         `json:"queue_url,omitempty"`
	Running       string         `json:"running_system,omitempty"`
	Drifted       bool           `json:"drifted"`
	Applied       *agent.Applied `json:"applied,omitempty"`
	Intent        *agent.Intent  `json:"in_progress,omitempty"`
	Failure       *agent.Failure `json:"failure,omitempty"`
	StateError    string         `json:"state_error,omitempty"`
}

func statusCommand(c *common) *cobra.Command {
	var asJSON bool
	var h hostFlags
	cmd := &cobra.Command{
		Use:   "status [--json]",
		Short: "Print what this host runs, and what became of the latest version",
		Long: `Print what this host runs, and what became of the latest version, from config.json, state.json and
the running system. Works with and without a running agent.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := c.config()
			if err != nil {
				return err
			}
			s := hostStatus{Remote: config.Remote, Configuration: config.Configuration, QueueURL: config.QueueURL}
			now := time.Now()
			if config.Paused.Active(now) {
				s.Paused = config.Paused
			}
			state, err := c.dir().ReadState()
			if errors.Is(err, agent.ErrState) {
				s.StateError = err.Error()
			} else if err != nil {
				return err
			}
			s.Applied, s.Intent, s.Failure = state.Applied, state.Intent, state.Failure
			if f := s.Failure; f != nil && f.RetryToken != config.RetryToken {
				s.Failure = nil // a retry was asked for since
			}
			host, err := h.host(c)
			if err != nil {
				return err
			}
			running, err := host.Current(cmd.Context())
			if err != nil {
				return err
			}
			s.Running = running.Path
			s.Drifted = s.Applied != nil && s.Applied.System != "" && s.Running != "" && s.Running != s.Applied.System && !state.Unsettled
			if asJSON {
				out, err := json.MarshalIndent(s, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(c.stdout, "%s\n", out)
				return err
			}
			_, err = fmt.Fprint(c.stdout, s.text(now))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringVar(&h.currentSystem, "current-system", "/run/current-system", "the link to the system that runs (for containers and tests)")
	return cmd
}

// text renders the status for a person. Its first line is the Rust npcnix's.
func (s hostStatus) text(now time.Time) string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-15s%s\n", label+":", fmt.Sprintf(format, args...))
	}
	ago := func(t time.Time) string { return now.Sub(t).Round(time.Second).String() + " ago" }
	if s.Paused != nil {
		fmt.Fprintln(&b, s.Paused)
	} else {
		fmt.Fprintln(&b, "active")
	}
	or := func(v, otherwise string) string {
		if v == "" {
			return otherwise
		}
		return v
	}
	line("remote", "%s", or(s.Remote, "not set"))
	line("configuration", "%s", or(s.Configuration, "not set"))
	line("events", "%s", or(s.QueueURL, map[bool]string{true: "watch of the file", false: "no queue; polling"}[strings.HasPrefix(s.Remote, "file:")]))
	line("running", "%s", or(s.Running, "unknown"))
	switch a := s.Applied; {
	case a != nil:
		line("applied", "%s as %s, %s", a.ETag, a.Configuration, ago(a.At))
	case s.StateError != "":
		line("applied", "unknown")
	default:
		line("applied", "nothing yet")
	}
	if s.Drifted {
		line("drifted", "yes: %s was applied, but something else runs", s.Applied.System)
	}
	if i := s.Intent; i != nil {
		line("in progress", "%s %s, attempt %d, begun %s", i.Stage, i.ETag, i.Attempt, ago(i.Since))
	}
	if f := s.Failure; f != nil {
		verdict := fmt.Sprintf("failed at attempt %d %s, next attempt at %s", f.Attempts, ago(f.At), f.Next().UTC().Format(time.RFC3339))
		if f.Rejected {
			verdict = fmt.Sprintf("rejected after attempt %d %s; `npcnix retry` tries again", f.Attempts, ago(f.At))
		}
		line("latest", "%s %s", f.ETag, verdict)
		line("error", "%s", f.Error)
		for _, l := range f.Tail {
			fmt.Fprintf(&b, "%15s%s\n", "| ", l)
		}
	}
	if s.StateError != "" {
		line("problem", "%s; the agent sets it aside at its next look at the store", s.StateError)
	}
	return b.String()
}
