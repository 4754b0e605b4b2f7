package agent

import (
	"os"
	"path/filepath"

	"github.com/npcnix/npcnix/agent/config"
)

// flakePrefix begins the names of directories that hold an unpacked flake while it is built.
const flakePrefix = "flake-"

// loadConfig reads the settings, overrides included. Damaged says why config.json cannot be used; then the
// settings are those in force before. Err says that not even those can be.
func (a *Agent) loadConfig() (c config.Config, damaged, err error) {
	file, damaged, err := a.settings.InForce()
	if err != nil {
		return a.config, err, nil // nothing could be remembered on disk
	}
	c, err = a.Override(file)

	return c, damaged, err
}

// connects reports whether an agent made with the settings o reaches what c names.
func connects(c, o config.Config) bool {
	return c.Remote == o.Remote && c.RemoteRegion == o.RemoteRegion &&
		c.RemoteCredentialsFile == o.RemoteCredentialsFile && c.QueueURL == o.QueueURL && c.TopicARN == o.TopicARN &&
		c.Host == o.Host && c.LeaseSecs == o.LeaseSecs
}

// sweep removes, once, what an agent that was killed left in the data directory.
func (a *Agent) sweep() {
	if a.swept {
		return
	}
	a.swept = true

	left, _ := filepath.Glob(a.Dir.Path(flakePrefix + "*"))
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
}
