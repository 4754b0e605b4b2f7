package agent

import (
	"context"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

const (
	HookPreActivate  = "pre_activate"
	HookPostActivate = "post_activate"
	HookOnFailure    = "on_failure"
)

// Hook is a run of a hook that is due. One after an activation is on disk from before it begins until it
// has ended; a pre_activate hook never is.
type Hook struct {
	Name string            `json:"name"`
	Env  map[string]string `json:"env"`
}

// vetoError is a pre_activate hook's word against an activation.
type vetoError struct {
	err  error
	tail []string
}

func (e *vetoError) Error() string { return "vetoed by the pre_activate hook: " + e.err.Error() }
func (e *vetoError) Unwrap() error { return e.err }

// hookAfter returns the hook that is due after an attempt; nil where the operator has set none.
func hookAfter(r *round, name string, act activation.Journal, failure error) *Hook {
	command := r.config.Hooks.PostActivate
	if name == HookOnFailure {
		command = r.config.Hooks.OnFailure
	}
	if len(command) == 0 {
		return nil
	}
	return newHook(r, name, act, failure)
}

func newHook(r *round, name string, act activation.Journal, failure error) *Hook {
	target := r.target
	switch {
	case name == HookOnFailure && r.state.Failure != nil:
		target = r.state.Failure.Target
	case name == HookPostActivate && r.state.Applied != nil && r.state.Intent == nil:
		target = r.state.Applied.Target
	}
	env := map[string]string{
		"NPCNIX_HOOK":            name,
		"NPCNIX_ACTIVATION_ID":   act.ID,
		"NPCNIX_SYSTEM":          act.System,
		"NPCNIX_PREVIOUS_SYSTEM": act.Previous,
		"NPCNIX_REMOTE":          store.Redact(target.Remote),
		"NPCNIX_CONFIGURATION":   target.Configuration,
		"NPCNIX_ETAG":            target.ETag,
	}
	if failure != nil {
		env["NPCNIX_ERROR"] = bounded(failure.Error(), maxError)
	}
	return &Hook{Name: name, Env: env}
}

// preActivate runs the hook that may veto an activation.
func (a *Agent) preActivate(ctx context.Context, r *round) error {
	if len(r.config.Hooks.PreActivate) == 0 {
		return nil
	}
	in := r.state.Intent
	h := newHook(r, HookPreActivate, activation.Journal{ID: in.Activation, System: in.System, Previous: r.previous.Path}, nil)
	tail, err := a.callHook(ctx, r.config, h, r.config.Hooks.PreActivate)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return &vetoError{err, tail}
	}
	return nil
}

// runHook runs the hook that is due, if there is one. That it failed is logged and changes nothing.
func (a *Agent) runHook(ctx context.Context, r *round) error {
	h := r.state.Hook
	if h == nil {
		return nil
	}
	command := map[string][]string{HookPostActivate: r.config.Hooks.PostActivate, HookOnFailure: r.config.Hooks.OnFailure}[h.Name]
	if len(command) > 0 {
		if _, err := a.callHook(ctx, r.config, h, command); err != nil {
			if ctx.Err() != nil {
				return nil // cut short: it stays due
			}
			a.Log.Error("the hook failed", "hook", h.Name, "error", err)
		}
	}
	r.state.Hook = nil
	return a.save(r)
}

func (a *Agent) callHook(ctx context.Context, c config.Config, h *Hook, command []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.HookTimeout())
	defer cancel()
	var env []string
	for name, value := range h.Env {
		env = append(env, name+"="+value)
	}
	a.Log.Info("running the hook", "hook", h.Name, "activation", h.Env["NPCNIX_ACTIVATION_ID"])
	tail, err := runCommand(ctx, command, env)
	for _, line := range tail {
		a.Log.Info(line, "hook", h.Name)
	}
	return tail, err
}
