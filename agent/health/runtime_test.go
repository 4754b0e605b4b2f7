package health

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/agent/config"
)

func TestWhatCannotBeWrittenIsInTheRuntimeDirectory(t *testing.T) {
	// What stands where the file is prepared: the same as a full disk, also for root.
	t.Run("if a directory is in the way", func(t *testing.T) {
		inTheWay(t, func(blocked string) error { return os.Mkdir(blocked, 0o700) })
	})
	t.Run("if a link is in the way, which is not followed", func(t *testing.T) {
		precious := filepath.Join(t.TempDir(), "precious")
		if err := os.WriteFile(precious, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		inTheWay(t, func(blocked string) error { return os.Symlink(precious, blocked) })
		if data, err := os.ReadFile(precious); err != nil || string(data) != "content" {
			t.Errorf("the file that the link leads to holds %q, %v", data, err)
		}
	})
}

// inTheWay follows the health of an agent that cannot write it into its data directory, until it can.
func inTheWay(t *testing.T, block func(path string) error) {
	runtime := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", runtime)
	synctest.Test(t, func(t *testing.T) {
		dir := config.Dir(t.TempDir())
		blocked := dir.Path(".agent.json")
		if err := block(blocked); err != nil {
			t.Fatal(err)
		}
		m := New(dir, "test", slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		m.Update(func(now *Health) { now.TransientError = "no space left on device" })
		time.Sleep(5 * time.Second)
		if h, _, err := Read(dir); err != nil || h.TransientError != "no space left on device" {
			t.Errorf("while the disk is full: %+v, %v", h, err)
		}
		stopgap := filepath.Join(runtime, strings.ReplaceAll(strings.Trim(string(dir), "/"), "/", "-")+".json")
		if _, err := os.Stat(stopgap); err != nil {
			t.Error(err)
		}

		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		m.Update(func(now *Health) { now.TransientError = "" })
		time.Sleep(5 * time.Second)
		if h, _, err := Read(dir); err != nil || h.PID == 0 || h.TransientError != "" {
			t.Errorf("afterwards: %+v, %v", h, err)
		}
		if _, err := os.Stat(stopgap); err == nil {
			t.Error("the file in the runtime directory is left")
		}
		stop()
		running.Wait()
	})
}
