package nixos

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// restless is a system on which units come and go: one ends well and is started again by systemd, and a timer's job
// fails each time.
const restless = `{
	systemd.services.beat = {
		wantedBy = [ "multi-user.target" ];
		serviceConfig = { ExecStart = "/bin/sleep 2"; Restart = "always"; RestartSec = 1; };
	};
	systemd.services.tick.serviceConfig = { Type = "oneshot"; ExecStart = "/bin/sh -c 'sleep 1; exit 1'"; };
	test.units."tick.timer" = { text = "[Timer]\nOnCalendar=*:*:0/3\nAccuracySec=1ms\n"; wantedBy = [ "timers.target" ]; };
}`

// A host that is well is left alone, whatever is published and done to it.
func TestAHealthyHost(t *testing.T) {
	publishes := 3
	if os.Getenv("NPCNIX_TEST_MATRIX") != "" {
		publishes = 20
	}
	for _, column := range []struct{ flavour, suite string }{{RustNow, "trixie"}, {Perl2022, "bookworm"}} {
		t.Run(column.flavour, func(t *testing.T) {
			t.Parallel()
			h := New(t, Options{Suite: column.suite, Flavour: column.flavour, Agent: agentBinary, Module: Module(t), Base: restless})
			h.Await("the job to fail", func() bool { return h.State("tick") == "failed" })

			t.Run("publishes that change nothing are applied", func(t *testing.T) {
				h.use(t)
				for n := range publishes {
					version, etag := h.Publish(fmt.Sprint("nothing ", n), "{ }")
					if r := h.Final(etag); r.Status != "applied" {
						t.Errorf("%s is %s: %s", version, r.Status, r.Text())
					}
					h.Applied = version
				}
				h.stands(h.Applied)
			})

			t.Run("a specialisation of the applied version counts as it", func(t *testing.T) {
				h.use(t)
				version, etag := h.Publish("special", `{ specialisation.fancy.systemd.services.web.serviceConfig.ExecStart = lib.mkForce "/bin/sleep 77"; }`)
				if r := h.Final(etag); r.Status != "applied" {
					t.Fatalf("%s is %s: %s", version, r.Status, r.Text())
				}
				h.Applied = version
				h.stands(version)
				_, _ = h.Run("/run/current-system/specialisation/fancy/bin/switch-to-configuration", "test") // it ends with 4, as the job fails
				const says = "specialisation fancy of the applied version"
				h.Await("a record of that", func() bool {
					r := h.Record(etag)
					return r.Status == "applied" && strings.Contains(r.Warning, says)
				})
				if said := h.Must("/opt/npcnix", "status"); !strings.HasPrefix(said, "up to date") || !strings.Contains(said, says) {
					t.Errorf("status says %s", said)
				}
				if said, err := h.Run("/opt/npcnix", "wait", "--remote", remote, "--host", configuration, "--timeout", "1m"); err != nil {
					t.Errorf("wait ends with %v\n%s", err, said)
				}
				version, etag = h.Publish("plain", "{ }")
				if r := h.Final(etag); r.Status != "applied" || strings.Contains(r.Warning, "specialisation") {
					t.Errorf("%s is %s: %s %s", version, r.Status, r.Text(), r.Warning) // which may tell of the job, if the switch met it in mid-run
				}
				h.Applied = version
				h.stands(version)
			})

			t.Run("the store is checked after a loss of power, and not after a shutdown", func(t *testing.T) {
				h.use(t)
				checked := func(restart func()) bool {
					before := h.Read(dataDir + "/boot")
					restart()
					h.Await("the agent to know its boot", func() bool {
						now := h.Read(dataDir + "/boot")
						return now != "" && now != before
					})
					said := h.Must("journalctl", "--boot", "--no-pager", "--unit=npcnix", "--output=cat")
					return strings.Contains(said, "not shut down in an orderly way")
				}
				if checked(h.Reboot) {
					t.Error("the store was checked after an orderly shutdown")
				}
				if !checked(func() { h.Kill(); h.Boot() }) {
					t.Error("the store was not checked after a loss of power")
				}
				h.stands(h.Applied)
			})
			h.use(t)
		})
	}
}
