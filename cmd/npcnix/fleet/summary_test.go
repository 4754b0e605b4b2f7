package fleet

import (
	"testing"

	"github.com/npcnix/npcnix/agent/record"
)

// Whatever a host waits for, it stands before those that are done.
func TestHostsThatAreDoneComeLast(t *testing.T) {
	done := rank(Host{State: string(record.Applied)})
	for _, status := range record.Statuses {
		if status != record.Applied && rank(Host{State: string(status)}) >= done {
			t.Errorf("%s stands behind those that are done", status)
		}
	}
}

func TestReasonsAreShownWithoutHashes(t *testing.T) {
	got := WithoutHashes("builder for '/nix/store/g928vl7mw3w9zdkddqdc6bdvdl4c7z8s-nginx.drv' failed in /nix/store")
	if want := "builder for 'nginx.drv' failed in /nix/store"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
