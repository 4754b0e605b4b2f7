package activation

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/systemd"
)

// followSwitch hands the lines of the switch on to the logger, until stop is called. Under systemd the
// worker's unit has them in the journal.
func (c *Coordinator) followSwitch() (stop func()) {
	if systemd.Running() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		log := &nix.Output{Emit: func(line string) { c.log.Info("switch-to-configuration", "line", line) }}
		defer log.Lines()
		for {
			if c.copySwitchLog(log); ctx.Err() != nil {
				return
			}
			sleep(ctx, look)
		}
	}()
	return func() { cancel(); <-ended }
}

// copySwitchLog copies what was not copied yet. What cannot be read is lost to the log alone.
func (c *Coordinator) copySwitchLog(to io.Writer) {
	file, err := os.Open(filepath.Join(c.dir, switchLog))
	if err != nil {
		c.logRead = 0
		return
	}
	defer file.Close()
	if _, err := file.Seek(c.logRead, io.SeekStart); err == nil {
		n, _ := io.Copy(to, file)
		c.logRead += n
	}
}
