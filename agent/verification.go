package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/npcnix/npcnix/agent/verify"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
)

// Verification is what a process must know to verify the new system of an activation, besides what the
// host's files say.
type Verification struct {
	Activation string `json:"activation"`
	Remote     string `json:"remote"`    // that the system came from
	QueueURL   string `json:"queue_url"` // of the settings before the switch
	Queue      bool   `json:"queue"`     // it was reached then
	Reach      bool   `json:"reach"`     // the store and the queue must be reached
	// Target is what the system was built for. Nil: an operator has built it.
	Target *Target `json:"target,omitempty"`
}

// Verify verifies the system of the activation that o.Dir has, as [Options.Fresh] asks for. Of o it needs
// Dir, Host and, for a signed release, Store. The warning is what is worth telling of a system that is
// verified. An error of the machine's wraps nix.ErrMachine.
func Verify(ctx context.Context, o Options, v Verification) (warning string, err error) {
	o.Once = OnceAny
	if o.Store == nil {
		o.Store = nothing{}
	}
	if err := o.validate(); err != nil {
		return "", err
	}
	if _, _, err := o.Dir.InForce(); err != nil {
		return "", fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	j, err := activation.Read(string(o.Dir))
	if err != nil {
		return "", fmt.Errorf("%w: %w", nix.ErrMachine, err)
	}
	if j == nil || j.ID != v.Activation {
		return "", fmt.Errorf("%w: activation %s is over", nix.ErrMachine, v.Activation)
	}

	return wire(o).verify(ctx, v, *j)
}

// verify verifies the system of j. The system may have brought settings of its own: the host lives on by
// these.
func (a *Agent) verify(ctx context.Context, v Verification, j activation.Journal) (warning string, err error) {
	c, _, err := a.loadConfig()
	if err != nil {
		return "", fmt.Errorf("the new system's settings cannot be used: %w", err)
	}

	verifier := verify.Verifier{Host: a.Host, Config: c, Log: a.Log}
	if a.Machine != nil {
		verifier.Units = a.Machine
	}
	if v.Reach {
		verifier.Reach = func(ctx context.Context) error {
			err := a.Reach(ctx, c, v.Queue || c.QueueURL != v.QueueURL)
			if errors.Is(err, store.ErrNotFound) && c.Remote == v.Remote {
				return nil // it is gone by now, and that was an answer
			}
			if outage(err) && c.Remote == v.Remote && c.QueueURL == v.QueueURL {
				a.Log.Warn("the store or the queue is reached from the new system, and has an outage of its own", "error", err)
				return nil
			}
			return err
		}
	}
	if v.Target != nil {
		verifier.Trusted = func(ctx context.Context) error { return a.stillTrusted(ctx, c, *v.Target) }
	}

	return verifier.Verify(ctx, j)
}

// outage reports whether AWS itself, or another maker of S3, has answered that it has a fault, or that the queue is
// gone. So the host is not cut off, and the version is not to blame. Such an answer has the id of the request: one of
// a proxy, which knows the world as little as the host does, has none.
func outage(err error) bool {
	var answer interface {
		error
		HTTPStatusCode() int
		ServiceRequestID() string
	}
	if !errors.As(err, &answer) || answer.ServiceRequestID() == "" {
		return false
	}
	switch status := answer.HTTPStatusCode(); {
	case status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported: // what was asked for is wrong
	case status >= http.StatusInternalServerError:
		return true
	}
	var coded interface {
		error
		ErrorCode() string
	}

	return errors.As(err, &coded) && (strings.HasSuffix(coded.ErrorCode(), "NonExistentQueue") || coded.ErrorCode() == "QueueDoesNotExist")
}
