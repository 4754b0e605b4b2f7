package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/npcnix/npcnix/nix/jsonfile"
)

// lastFile has the settings of config.json that the agent used last. Without it, an agent that is restarted
// while config.json is damaged would have none: no signers to trust, and no pause to keep.
const lastFile = "config.last.json"

// errEmpty marks a config.json that sets nothing although settings were in force.
var errEmpty = errors.New("it is gone, or sets nothing")

// InForce returns the settings of config.json, and remembers them on disk. If config.json is damaged, gone or
// empty, it returns the settings that were in force before, and damaged says why. Err says that there are
// none either.
func (d Dir) InForce() (c Config, damaged, err error) { return d.inForce(os.ReadFile(d.ConfigPath())) }

func (d Dir) inForce(data []byte, readErr error) (c Config, damaged, err error) {
	c, err = d.parse(data, readErr)
	if err != nil {
		last, there := d.last()
		if !there {
			return Config{}, nil, err
		}
		return last, err, nil
	}
	if len(c.given) > 0 {
		_ = d.remember(c) // if the disk is full, what was remembered before has to do
	}

	return c, nil, nil
}

// Reader reads the settings in force time and again, and parses config.json only when it has changed. Nobody
// may change what it returns.
type Reader struct {
	Dir  Dir
	mu   sync.Mutex
	data []byte // of config.json when it was parsed; nil: parse it in any case
	c    Config
}

// InForce is [Dir.InForce].
func (r *Reader) InForce() (c Config, damaged, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	data, readErr := os.ReadFile(r.Dir.ConfigPath())
	if r.data != nil && readErr == nil && bytes.Equal(data, r.data) {
		return r.c, nil, nil
	}
	c, damaged, err = r.Dir.inForce(data, readErr)
	r.data = nil
	if damaged == nil && err == nil && readErr == nil {
		r.data, r.c = data, c
	}

	return c, damaged, err
}

// last returns the settings that were in force last, if there were any.
func (d Dir) last() (Config, bool) {
	data, err := os.ReadFile(d.Path(lastFile))
	if err != nil {
		return Config{}, false
	}
	var c Config
	err = json.Unmarshal(data, &c)

	return c, err == nil && len(c.given) > 0
}

// remember makes c the settings that were in force last.
func (d Dir) remember(c Config) error {
	data, err := c.MarshalJSON()
	if err != nil {
		return err
	}
	if was, err := os.ReadFile(d.Path(lastFile)); err == nil && slices.Equal(was, data) {
		return nil
	}

	return jsonfile.Write(d.Path(lastFile), c)
}

// notEmptied returns an error if c, which was read from config.json, sets nothing although settings were in
// force.
func (d Dir) notEmptied(c Config) error {
	if len(c.given) > 0 {
		return nil
	}
	if _, were := d.last(); !were {
		return nil
	}

	return fmt.Errorf("%w: %s: %w; set something with `npcnix config set`, which keeps the settings before, or delete %s to begin again",
		ErrConfig, d.ConfigPath(), errEmpty, d.Path(lastFile))
}
