package nixos

import (
	"fmt"
	"strings"
	"testing"
)

// trusting is a system whose host trusts these keys.
func trusting(signers ...string) string {
	var quoted []string
	for _, s := range signers {
		quoted = append(quoted, fmt.Sprintf("%q", s))
	}
	return "{ services.npcnix.signers = lib.mkForce [ " + strings.Join(quoted, " ") + " ]; }"
}

// What would lock a host out is rolled back, or is refused before it is published. The next good release is applied.
func TestNoReleaseLocksAHostOut(t *testing.T) {
	t.Parallel()
	h := New(t, Options{Suite: "trixie", Flavour: RustNow, Agent: agentBinary, Module: Module(t), Signed: true})
	next := h.newKey("next")
	for _, c := range []struct{ name, change, says string }{
		{"a typo in its signers", trusting(strings.Replace(h.signer, "AAAA", "AAA", 1)), "signers[0]"},
		{"signers that do not include the key that signed it", trusting(next), "this host would refuse its own release"},
		{"more signers required than there are", "{ services.npcnix.signersRequired = 2; }", "only 1 distinct signers"},
	} {
		t.Run("a release with "+c.name+" is rolled back", func(sub *testing.T) {
			h.use(sub)
			defer h.use(t)
			h.becomes("locks out", c.change, "rolled_back", c.says)
			h.becomes("good", "{ }", "applied", "")
		})
	}
	t.Run("a host that was off during a rotation of the keys", func(sub *testing.T) {
		h.use(sub)
		defer h.use(t)
		h.offDuringARotation(next)
	})
}

// becomes publishes a version, and checks what becomes of it.
func (h *Host) becomes(name, change, status, says string) {
	h.t.Helper()
	version, etag := h.Publish(name, change)
	h.ends(version, etag, status, says)
}

// ends checks what has become of a version.
func (h *Host) ends(version, etag, status, says string) {
	h.t.Helper()
	r := h.Final(etag)
	if r.Status != status || !strings.Contains(r.Text(), says) {
		h.t.Errorf("%s is %s, want %s with %q: %s", version, r.Status, status, says, r.Text())
	}
	if r.Status == "applied" {
		h.Applied = version
	}
	h.stands(h.Applied)
	if got := h.Runs(); got != h.Applied {
		h.t.Errorf("%s runs, want %s", got, h.Applied)
	}
}

// offDuringARotation publishes what a host that is off does not see: a release that has hosts trust the next key too,
// and the first one that is signed by the next key alone.
func (h *Host) offDuringARotation(next string) {
	h.t.Helper()
	both := trusting(h.signer, next)
	h.Must("systemctl", "stop", "npcnix")
	h.signs = []string{"key", "next"}
	h.Publish("both", both)
	h.signs = []string{"next"}
	early := h.pushing("early", both)
	if said, err := h.Run(early...); err == nil || !strings.Contains(said, configuration+" would refuse it") {
		h.t.Errorf("a push that would lock the host out: %v\n%s", err, said)
	}
	locked := etag.FindString(h.Must(append(early, "--allow-lock-out")...))
	h.Must("systemctl", "start", "npcnix")
	h.ends("early", locked, "rejected", "none of this host's signers")
	h.signs = []string{"key", "next"}
	h.becomes("both again", both, "applied", "")
	h.signs = []string{"next"}
	h.becomes("next", trusting(next), "applied", "")
	h.becomes("after it", trusting(next), "applied", "")
}
