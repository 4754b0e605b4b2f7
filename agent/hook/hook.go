// Package hook runs the operator's commands around an activation.
package hook

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/npcnix/npcnix/agent/command"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// The hooks there are.
const (
	PreActivate  = "pre_activate"
	PostActivate = "post_activate"
	OnFailure    = "on_failure"
)

// Run is one run of a hook. A run after an activation is on disk from before it begins until it has
// ended; one of pre_activate never is.
type Run struct {
	Name string            `json:"name"`
	Env  map[string]string `json:"env"`
}

// Subject is what a hook is told about.
type Subject struct {
	Activation       string // id
	System, Previous string // toplevels
	Remote           string
	Configuration    string
	ETag             string
	Error            error // of a failed attempt
}

// New returns a run of the named hook. Passwords and tokens of the remote are not in it.
func New(name string, s Subject) *Run {
	env := map[string]string{
		"NPCNIX_HOOK":            name,
		"NPCNIX_ACTIVATION_ID":   s.Activation,
		"NPCNIX_SYSTEM":          s.System,
		"NPCNIX_PREVIOUS_SYSTEM": s.Previous,
		"NPCNIX_REMOTE":          store.Redact(s.Remote),
		"NPCNIX_CONFIGURATION":   s.Configuration,
		"NPCNIX_ETAG":            s.ETag,
	}
	if s.Error != nil {
		env["NPCNIX_ERROR"] = record.Bounded(s.Error.Error(), record.MaxError)
	}

	return &Run{Name: name, Env: env}
}

// Command returns the command of a run; nil if the operator has set none.
func (r *Run) Command(h config.Hooks) []string {
	switch r.Name {
	case PreActivate:
		return h.PreActivate
	case PostActivate:
		return h.PostActivate
	case OnFailure:
		return h.OnFailure
	}

	return nil
}

// Do runs the hook's command, bounded in time, and logs its output. It returns the last lines of that.
func (r *Run) Do(ctx context.Context, c config.Config, log *slog.Logger) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.HookTimeout())
	defer cancel()

	env := command.Environment(c.Hooks.PassCredentials)
	for _, name := range slices.Sorted(maps.Keys(r.Env)) {
		env = append(env, name+"="+r.Env[name])
	}
	log.Info("running the hook", "hook", r.Name, "activation", r.Env["NPCNIX_ACTIVATION_ID"])
	tail, err := command.Run(ctx, r.Command(c.Hooks), env)
	for _, line := range tail {
		log.Info(line, "hook", r.Name)
	}

	return tail, err
}

// Veto is a pre_activate hook's refusal of an activation.
type Veto struct {
	Err  error
	Tail []string // the last lines of the hook's output
}

func (e *Veto) Error() string {
	return "the pre_activate hook refused the activation: " + e.Err.Error()
}
func (e *Veto) Unwrap() error { return e.Err }
