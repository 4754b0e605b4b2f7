package activation_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// The machine is restarted amid an activation, or has to be.
func TestReboot(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"before the commit, the previous system boots", rebootBeforeCommit},
		{"a system that cannot be switched to is pending a reboot", bootOnly},
		{"a system that NixOS's check refuses is pending a reboot", checkRefuses},
		{"a system that was booted is verified", bootedIsVerified},
		{"a pending reboot is not forgotten when a newer system fails", pendingReboot},
	} {
		t.Run(c.name, func(t *testing.T) {
			nixtest.Installed(t)
			c.test(t)
		})
	}
}

func rebootBeforeCommit(t *testing.T) {
	r := newSlowRig(t)
	r.letSwitch(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := r.Activate(ctx, r.two, activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { cancel(); return "", nil }})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.restarted(t, r.one)
	var failed *activation.Error
	if _, _, err := r.Resume(t.Context(), activation.Request{}); !errors.As(err, &failed) || failed.Cause != activation.CauseInterrupted || !strings.Contains(err.Error(), "restarted before") {
		t.Fatal(err)
	}
	if n := len(r.switches(t)); n != 0 {
		t.Errorf("%d switches, as if booting had not done it all", n)
	}
	r.wantRuns(t, r.one, true)
	if data, err := os.ReadFile(filepath.Join(r.opts.Dir, "activation.json")); err != nil || !bytes.Contains(data, []byte("from_the_future")) {
		t.Errorf("what a newer npcnix has written is lost: %s, %v", data, err)
	}
}

func bootOnly(t *testing.T) {
	h := newHost(t)
	all := systems{
		"one":   {Version: "v1", Inhibitors: `{"dbus":"daemon","old":"1"}`},
		"two":   {Version: "v2", Inhibitors: `{"dbus":"broker","new":"1"}`},
		"three": {Version: "v3", Inhibitors: `{"dbus":"daemon"}`},
		"four":  {Version: "v4", SwitchExit: 100},
	}
	one, two, three, four := h.built(t, all, "one"), h.built(t, all, "two"), h.built(t, all, "three"), h.built(t, all, "four")
	h.activated(t, one)
	h.forgetSwitches(t)

	a, err := h.Activate(t.Context(), two, activation.Request{})
	if err != nil || a.Phase != activation.RebootPending || !strings.Contains(a.BootOnlyWhy, "dbus (daemon to broker)") {
		t.Fatalf("%+v, %v", a, err)
	}
	h.wantSwitches(t, "v2 boot")
	h.wantMarker(t, "v1")
	h.wantProfile(t, two, 2)
	if a, found, err := h.Resume(t.Context(), activation.Request{}); err != nil || !found || a.Phase != activation.RebootPending {
		t.Errorf("resumed before the restart: %+v, %v, %v", a, found, err)
	}

	h.activated(t, three) // what runs is still one
	h.wantRuns(t, three, true)
	h.wantBoots(t, "v3")

	h.forgetSwitches(t)
	a, err = h.Activate(t.Context(), four, activation.Request{})
	if err != nil || a.Phase != activation.RebootPending || !strings.Contains(a.BootOnlyWhy, "init") {
		t.Fatalf("%+v, %v", a, err)
	}
	h.wantSwitches(t, "v4 test, v4 boot")
}

// Some versions of NixOS compare the inhibitors themselves, and of a kind that need not be known here.
func checkRefuses(t *testing.T) {
	h := newHost(t)
	all := systems{"one": {Version: "v1"}, "two": {Version: "v2", SwitchRuns: `echo "Pre-switch check 'switchInhibitors' failed" >&2; echo 'Pre-switch checks failed' >&2; exit 1`}}
	one, two := h.built(t, all, "one"), h.built(t, all, "two")
	h.activated(t, one)
	j, err := h.Activate(t.Context(), two, activation.Request{})
	if err != nil || j.Phase != activation.RebootPending || !strings.Contains(j.BootOnlyWhy, "'switchInhibitors' failed") {
		t.Fatalf("%+v, %v", j, err)
	}
	h.wantMarker(t, "v1")
	h.wantBoots(t, "v2")
}

func bootedIsVerified(t *testing.T) {
	for _, c := range []struct {
		name   string
		booted int
		verify error
		want   string // switches after the restart
		back   string // why it was rolled back
	}{
		{"and is committed", 2, nil, "v2 boot", ""},
		{"or is rolled back", 2, errors.New("nothing works"), "v1 boot, v1 test", "verify: nothing works"},
		{"or was not booted at all", 1, nil, "v1 boot", "did not boot the new system"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			all := systems{"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2", Inhibitors: `{"a":"2"}`}}
			one, two := h.built(t, all, "one"), h.built(t, all, "two")
			h.activated(t, one)
			if a, err := h.Activate(t.Context(), two, activation.Request{}); err != nil || a.Phase != activation.RebootPending {
				t.Fatal(a.Phase, err)
			}
			h.restarted(t, map[int]nix.System{1: one, 2: two}[c.booted])
			_, _, err := h.Resume(t.Context(), activation.Request{Verify: func(context.Context, activation.Journal) (string, error) { return "", c.verify }})
			h.wantSwitches(t, c.want)
			if c.back == "" {
				if err != nil {
					t.Fatal(err)
				}
				h.wantRuns(t, two, true)
				return
			}
			nixtest.WantError(t, err, nil, c.back)
			h.wantRuns(t, one, true)
			h.wantBoots(t, "v1")
		})
	}
}

// A system that waits for a reboot is rolled back when another is wanted, whatever becomes of that one.
func pendingReboot(t *testing.T) {
	h := newHost(t)
	all := systems{
		"one": {Version: "v1", Inhibitors: `{"a":"1"}`}, "two": {Version: "v2", Inhibitors: `{"a":"2"}`}, "three": {Version: "v3", SwitchExit: 1},
	}
	one := h.built(t, all, "one")
	h.activated(t, one)
	if a, err := h.Activate(t.Context(), h.built(t, all, "two"), activation.Request{}); err != nil || a.Phase != activation.RebootPending {
		t.Fatal(a.Phase, err)
	}
	_, err := h.Activate(t.Context(), h.built(t, all, "three"), activation.Request{})
	nixtest.WantError(t, err, nil, "pre-switch checks failed; rolled back to "+one.Path)
	h.wantRuns(t, one, true)
	h.wantBoots(t, "v1")
}
