package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/inbox"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

func TestClassify(t *testing.T) {
	back := func(cause activation.Cause) error {
		return fmt.Errorf("activate: %w", &activation.Error{Journal: activation.Journal{Phase: activation.RolledBack, Cause: cause}})
	}
	for _, c := range []struct {
		name                        string
		err                         error
		stopping, activating, again bool
		want                        ending
	}{
		{"a build that fails is the version's fault", &nix.BuildError{Err: errBuild}, false, false, true, failed},
		{"an unsafe archive is the publisher's fault", store.ErrUnsafe, false, false, true, failed},
		{"an activation that was rolled back has failed", back(activation.CauseVersion), false, true, true, failed},
		{"an activation that was interrupted is an attempt", back(activation.CauseInterrupted), false, true, true, failed},
		{"an activation that found the host busy is none", back(activation.CauseBusy), false, true, true, transient},
		{"a full disk is the machine's fault", nix.ErrDiskFull, false, false, true, transient},
		{"a store that does not answer is nobody's fault here", transientError{health.Store, errors.New("503")}, false, false, true, transient},
		{"a release that is not trusted is refused, and counts as no attempt", &release.Refused{Reason: release.ReasonSignature}, false, false, true, refused},
		{"a newer version begins the round again", errNewer, false, false, true, overtaken},
		{"a version that is gone begins the round again", fmt.Errorf("fetch: %w", store.ErrChanged), false, false, true, overtaken},
		{"a newer version is for the next round if this one began too often", errNewer, false, false, false, transient},
		{"a pause ends the round", errPaused, false, false, true, paused},
		{"a system that can only be booted waits for a reboot", rebootNeeded{"another kernel"}, false, true, true, rebootPending},
		{"a reboot that is due counts although the agent is to end", rebootNeeded{"another kernel"}, true, true, true, rebootPending},
		{"another remote ends the agent", ErrReconnect, false, false, true, terminated},
		{"whatever a build says when the agent is to end is no failure", errBuild, true, false, true, terminated},
		{"an activation goes on when the agent is to end", context.Canceled, true, true, true, terminated},
		{"an activation that has failed counts although the agent is to end", back(activation.CauseVersion), true, true, true, failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := classify(c.err, c.stopping, c.activating, c.again); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// What follows from an ending stands in one table: these are the rules that its rows keep.
func TestEndings(t *testing.T) {
	for _, s := range record.Statuses {
		rule, known := endings[ending(s)]
		inProgress := s == record.Building || s == record.Activating
		if known == inProgress {
			t.Errorf("%s is in the table: %v", s, known)
		}
		if known && !rule.record {
			t.Errorf("%s is not recorded", s)
		}
	}
	for e, rule := range endings {
		if acknowledged := rule.messages == inbox.Acknowledge; acknowledged != (e == reached || e == rebootPending || e == drifted || e == held) {
			t.Errorf("%s deletes messages: %v; it must if nothing is left to do for it, and only then", e, acknowledged)
		}
		if left := rule.messages == inbox.Leave; left != (e == rejected || e == refused || e == rolledBack) {
			t.Errorf("%s leaves messages to the dead-letter queue: %v", e, left)
		}
		if rule.record != slices.Contains(record.Statuses, e.status()) {
			t.Errorf("%s is recorded: %v", e, rule.record)
		}
	}
}
