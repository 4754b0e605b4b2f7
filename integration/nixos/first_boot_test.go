package nixos

import "testing"

// An image has no agent: the user data install the host, in the course of its first boot. (Not with the Rust
// switch-to-configuration of 2024: that waits for the end of a boot which waits for it.)
func TestUserDataInstallTheHostAtItsFirstBoot(t *testing.T) {
	for _, column := range []struct{ flavour, suite string }{{RustNow, "trixie"}, {Perl2022, "bookworm"}} {
		t.Run(column.flavour, func(t *testing.T) {
			t.Parallel()
			h, etag := NewBare(t, Options{Suite: column.suite, Flavour: column.flavour, Agent: agentBinary, Module: Module(t)}, `#!/bin/bash
exec /opt/npcnix install --remote `+remote+` --configuration `+configuration+` --host `+configuration+` --option substituters ''
`)
			r := h.Final(etag)
			if r.Status != "applied" {
				t.Errorf("the first version is %s: %s", r.Status, r.Text())
			}
			h.stands("one")
			h.Kill()
			h.Boot()
			h.stands("one")
			if got := h.Runs(); got != "one" {
				t.Errorf("%s runs", got)
			}
		})
	}
}
