package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/npcnix/npcnix/agent/config"
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
	// The rest of the settings before the switch that connections depend on.
	RemoteRegion          string `json:"remote_region,omitempty"`
	RemoteCredentialsFile string `json:"remote_credentials_file,omitempty"`
	TopicARN              string `json:"topic_arn,omitempty"`
	Host                  string `json:"host,omitempty"`
	LeaseSecs             int64  `json:"lease_secs,omitempty"`

	Reach bool `json:"reach"` // the store and the queue must be reached
	// Target is what the system was built for. Nil: an operator has built it.
	Target *Target `json:"target,omitempty"`
}

// connects reports whether c connects as the settings before the switch did.
func (v Verification) connects(c config.Config) bool {
	return connects(c, config.Config{
		Remote: v.Remote, RemoteRegion: v.RemoteRegion, RemoteCredentialsFile: v.RemoteCredentialsFile,
		QueueURL: v.QueueURL, TopicARN: v.TopicARN, Host: v.Host, LeaseSecs: v.LeaseSecs,
	})
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
			err := a.Reach(ctx, c, v.Queue || c.QueueURL != v.QueueURL || c.TopicARN != v.TopicARN)
			return a.excused(err, c, v)
		}
	}
	if v.Target != nil {
		verifier.Trusted = func(ctx context.Context) error { return a.stillTrusted(ctx, c, *v.Target) }
	}

	return verifier.Verify(ctx, j)
}

// excused is err without those of its parts that the new system is not to blame for: the store and the queue are each
// one.
func (a *Agent) excused(err error, c config.Config, v Verification) error {
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	var blamed []error
	for _, part := range parts {
		switch {
		case errors.Is(part, store.ErrNotFound) && c.Remote == v.Remote: // it is gone by now, and that was an answer
		case outage(part) && v.connects(c):
			a.Log.Warn("the store or the queue is reached from the new system, and has an outage of its own", "error", part)
		default:
			blamed = append(blamed, part)
		}
	}

	return errors.Join(blamed...)
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
