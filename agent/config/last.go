package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

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
func (d Dir) InForce() (c Config, damaged, err error) {
	c, err = d.LoadConfig()
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
	if _, were := d.last(); !were || len(c.given) > 0 {
		return nil
	}

	return fmt.Errorf("%w: %s: %w; set something with `npcnix config set`, which keeps the settings before, or delete %s to begin again",
		ErrConfig, d.ConfigPath(), errEmpty, d.Path(lastFile))
}
