package hosttest_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/hosttest"
	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// TestMain is a worker or a rollback timer if the test binary is run as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "activation" {
		if err := work(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// work does what `npcnix activation` does: run --data-dir DIR, or timer ID PATIENCE --data-dir DIR.
func work(args []string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	dir := args[len(args)-1]
	if args[0] == "run" {
		return activation.Work(context.Background(), dir, log)
	}
	patience, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	return activation.RunTimer(context.Background(), dir, args[1], patience, log)
}

func TestRealHost(t *testing.T) {
	nixtest.Installed(t) // package activation's own tests are run with each nix
	hosttest.Test(t, newRig)
}

func newRig(t *testing.T) hosttest.Rig {
	root := t.TempDir()
	t.Setenv(nixtest.RootVariable, root)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each worker takes a second to end
	log := nixtest.NewLog()
	t.Cleanup(func() {
		if t.Failed() {
			worker, _ := os.ReadFile(filepath.Join(root, "data", "activation.log"))
			t.Logf("%s\nworker: %s", log, worker)
		}
	})

	coordinator := func() hosttest.Host {
		h, err := nix.New(nix.Options{
			Profile:       filepath.Join(root, "profiles", "system"),
			CurrentSystem: filepath.Join(root, nixtest.CurrentSystem),
			Dir:           filepath.Join(root, "data"),
			Log:           slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := activation.New(h)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	return hosttest.Rig{Host: coordinator(), Again: coordinator, Flake: nixtest.TestFlake(t, map[string]nixtest.System{
		hosttest.One:      {Version: "v1", Inhibitors: `{"dbus":"daemon"}`},
		hosttest.Two:      {Version: "v2"},
		hosttest.Bad:      {Version: "v3", SwitchExit: 2},
		hosttest.BootOnly: {Version: "v4", Inhibitors: `{"dbus":"broker"}`},
		hosttest.Broken:   {Version: "v5", BuildFails: true},
	})}
}
