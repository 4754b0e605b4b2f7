package nixos

import (
	"strings"
	"testing"
)

// Some boot loaders' installers look at the generations of the profile, and not at what they are told:
// systemd-boot's lists the newest few and leaves the default alone where the system is not among them, and
// others make the newest one the default. Neither may boot a system that was rejected.
func TestARejectedSystemNeverBoots(t *testing.T) {
	for name, loader := range map[string]string{
		"extlinux":                        `test.loader = "extlinux";`,
		"systemd-boot of one generation":  `test.loader = "systemd-boot"; test.configurationLimit = 1;`,
		"systemd-boot of two generations": `test.loader = "systemd-boot"; test.configurationLimit = 2;`,
		"the newest generation":           `test.loader = "newest";`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := New(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t), Base: "{ " + loader + " }"})

			// Its boot loader's installer does all it has to, and then says that it has not.
			version, etag := h.Publish("rejected", `{ test.bootloader = "trap 'echo the disk has errors; exit 1' EXIT"; }`)
			r := h.Final(etag)
			if r.Status != "rolled_back" || !strings.Contains(r.Text(), "the disk has errors") {
				t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.stands("zero")
			if h.Exists("/nix/var/nix/profiles/system-2-link") {
				t.Error("the generation of the rejected system is left")
			}
			h.Kill()
			h.Boot()
			if got := h.Runs(); got != "zero" {
				t.Errorf("%s boots", got)
			}

			version, etag = h.Publish("good", "{ }")
			if r := h.Final(etag); r.Status != "applied" {
				t.Errorf("%s is %s: %s", version, r.Status, r.Text())
			}
			h.stands(version)
			h.Kill()
			h.Boot()
			if got := h.Runs(); got != version {
				t.Errorf("%s boots", got)
			}
		})
	}
}
