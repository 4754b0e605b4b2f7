package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/npcnix/npcnix/agent/config"
)

// defaultSettings is where the NixOS module puts its settings.
const defaultSettings = "/etc/npcnix/settings.json"

// sources are the files that settings come from.
type sources struct {
	file     config.Config // config.json
	path     string        // of config.json
	declared config.Layer  // what the NixOS module wrote; an empty object without the module
}

// readSources reads config.json and the declared settings.
func (c *common) readSources() (sources, error) {
	file, err := c.dir().LoadConfig()
	if err != nil {
		return sources{}, err
	}
	return c.sourcesOver(file)
}

// sourcesOver reads the declared settings that come over those of config.json.
func (c *common) sourcesOver(file config.Config) (sources, error) {
	s := sources{file: file, path: c.dir().ConfigPath()}
	s.declared = config.Layer{Origin: config.FromModule, Path: c.settings, Members: []byte("{}")}
	data, err := os.ReadFile(c.settings)
	switch {
	case err == nil:
		s.declared.Members = data
	case !errors.Is(err, fs.ErrNotExist) || c.settings != defaultSettings:
		return sources{}, fmt.Errorf("settings %s: %w", c.settings, err)
	}
	return s, nil
}

// resolve puts the declared settings over those of config.json, and more layers over both.
func (s sources) resolve(layers ...config.Layer) (config.Resolved, error) {
	return config.Resolve(s.file, append([]config.Layer{s.declared}, layers...)...)
}

// unknownSetting is a member of a file that npcnix does not know.
type unknownSetting struct {
	config.Unknown
	File string `json:"file"`
}

func (u unknownSetting) String() string { return u.File + ": " + u.Unknown.String() }

// unknown returns the members of both files that npcnix does not know.
func (s sources) unknown() ([]unknownSetting, error) {
	object, err := s.file.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var found []unknownSetting
	for _, u := range config.UnknownMembers(object) {
		found = append(found, unknownSetting{u, s.path})
	}
	for _, u := range config.UnknownMembers(s.declared.Members) {
		found = append(found, unknownSetting{u, s.declared.Path})
	}
	return found, nil
}

// conf returns the settings that the files say.
func (c *common) conf() (config.Config, error) {
	file, err := c.dir().LoadConfig()
	if err != nil {
		return config.Config{}, err
	}
	return c.over(file)
}

// over puts the declared settings over those of config.json.
func (c *common) over(file config.Config) (config.Config, error) {
	s, err := c.sourcesOver(file)
	if err != nil {
		return config.Config{}, err
	}
	resolved, err := s.resolve()
	return resolved.Config, err
}
