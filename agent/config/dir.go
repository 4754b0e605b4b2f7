package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix/jsonfile"
)

// ErrConfig marks a config.json that cannot be used.
var ErrConfig = errors.New("config.json cannot be used")

// Dir is the data directory of a host.
type Dir string

// Path returns the path of a file in the directory.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// ConfigPath returns where LoadConfig reads from.
func (d Dir) ConfigPath() string { return d.Path("config.json") }

// LoadConfig reads config.json; without one it returns Default. A file that is damaged, or that sets nothing
// although settings were in force, is an error wrapping ErrConfig, and is left as it is.
func (d Dir) LoadConfig() (Config, error) { return d.parse(os.ReadFile(d.ConfigPath())) }

// parse is LoadConfig of what reading config.json has given.
func (d Dir) parse(data []byte, err error) (Config, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return Default(), d.notEmptied(Config{})
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w; fix it, or move it away and set it again with `npcnix config set`", ErrConfig, d.ConfigPath(), err)
	}
	return c, d.notEmptied(c)
}

// UpdateConfig changes config.json under a lock, atomically. It creates the data directory if there
// is none.
func (d Dir) UpdateConfig(ctx context.Context, change func(*Config) error) error {
	if err := d.Create(); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, "config.lock", nil)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.LoadConfig()
	if errors.Is(err, errEmpty) {
		c, _ = d.last()
		err = nil
	}
	if err != nil {
		return err
	}
	if !c.Paused.Active(time.Now()) {
		c.Paused = nil
	}
	if err := change(&c); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return err
	}
	return jsonfile.Write(d.ConfigPath(), c)
}

// Create creates the data directory if there is none.
func (d Dir) Create() error {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return fmt.Errorf("create data directory: %w; run as root, or choose another with --data-dir", err)
	}
	return d.safe()
}

// ErrOthers says that users other than the one who runs npcnix can write the data directory.
var ErrOthers = errors.New("others can write the data directory")

// safe returns an error wrapping ErrOthers if another user could put files and links into the directory: root
// would take them for its own, and write through them.
func (d Dir) safe() error {
	info, err := os.Stat(string(d))
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	writable := info.Mode().Perm() & 0o002
	if os.Geteuid() == 0 {
		writable = info.Mode().Perm() & 0o022
	}
	if is && os.Geteuid() == 0 && stat.Uid != 0 {
		return fmt.Errorf("%w: %s belongs to user %d: `chown root %s`, and see what is in it, or choose another with --data-dir", ErrOthers, d, stat.Uid, d)
	}
	if writable != 0 {
		return fmt.Errorf("%w: %s has mode %o: `chmod go-w %s`, and see what is in it, or choose another with --data-dir", ErrOthers, d, info.Mode().Perm(), d)
	}
	return nil
}

// Check creates the data directory if there is none and makes sure that it can be written.
func (d Dir) Check() error {
	if err := d.Create(); err != nil {
		return err
	}
	probe, err := os.CreateTemp(string(d), ".writable-*")
	if err != nil {
		return fmt.Errorf("data directory cannot be written: %w; run as root, or choose another with --data-dir", err)
	}
	probe.Close()
	return os.Remove(probe.Name())
}
