package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/npcnix/npcnix/store"
)

// Origin says where the value of a setting comes from.
type Origin string

const (
	FromFlag        Origin = "flag"
	FromEnvironment Origin = "environment"
	FromModule      Origin = "module" // the NixOS module's, which writes settings.json
	FromFile        Origin = "config.json"
	FromDefault     Origin = "default"
	NotSet          Origin = "not set" // and there is no default
)

// Layer is a JSON object of settings.
type Layer struct {
	Origin  Origin
	Path    string // of the file that it was read from; "" if none
	Members []byte
}

// Resolved is the settings in force, each with where it comes from.
type Resolved struct {
	Config
	origins map[string]Origin // of those that are set
}

// Resolve puts layers over the settings of config.json, the last of them on top.
func Resolve(file Config, layers ...Layer) (Resolved, error) {
	r := Resolved{Config: file, origins: map[string]Origin{}}
	for name := range file.given {
		r.origins[name] = FromFile
	}
	for _, layer := range layers {
		over, err := r.With(layer.Members)
		if err != nil && layer.Path != "" {
			return Resolved{}, fmt.Errorf("settings %s: %w", layer.Path, err)
		}
		if err != nil {
			return Resolved{}, err
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(layer.Members, &members); err != nil {
			return Resolved{}, err
		}
		rename(members)
		for name := range members {
			r.origins[name] = layer.Origin
		}
		r.Config = over
	}
	return r, nil
}

// Value is the value of a setting, in JSON, and where it comes from.
type Value struct {
	JSON json.RawMessage `json:"value"`
	From Origin          `json:"from"`
}

// Values returns the value in force of each setting by its name, fit to be printed: passwords and
// tokens in URLs are masked.
func (r Resolved) Values() (map[string]Value, error) {
	members, err := r.members()
	if err != nil {
		return nil, err
	}
	values := map[string]Value{}
	for _, s := range Settings {
		value := r.value(s, members[s.Name])
		if value.JSON, err = redact(s, value.JSON); err != nil {
			return nil, err
		}
		var line bytes.Buffer
		if err := json.Compact(&line, value.JSON); err != nil {
			return nil, err
		}
		value.JSON = line.Bytes()
		values[s.Name] = value
	}
	return values, nil
}

// value returns the value of a setting whose JSON form in config.json would be raw, or nil.
func (r Resolved) value(s Setting, raw json.RawMessage) Value {
	from, set := r.origins[s.Name]
	switch s.Kind {
	case Integer:
		n := r.integer(s.Name)
		if was, is := r.number(s.Name); !is || was != n {
			set = false // a zero that is out of bounds
		}
		raw = fmt.Append(nil, n)
	case Text:
		set = set && raw != nil // an empty text is not set
	}
	if !set || raw == nil {
		raw = json.RawMessage(s.DefaultJSON())
	}
	switch {
	case set:
		return Value{raw, from}
	case s.Default == nil:
		return Value{json.RawMessage("null"), NotSet}
	}
	return Value{raw, FromDefault}
}

// redact masks what may be secret in a value.
func redact(s Setting, value json.RawMessage) (json.RawMessage, error) {
	switch s.Name {
	case "remote", "queue_url":
		var url *string
		if err := json.Unmarshal(value, &url); err != nil || url == nil {
			return value, err
		}
		return json.Marshal(store.Redact(*url))
	case "checks":
		var checks []Check
		if err := json.Unmarshal(value, &checks); err != nil {
			return nil, err
		}
		checks = slices.Clone(checks)
		for i := range checks {
			if checks[i].HTTP != "" {
				checks[i].HTTP = store.Redact(checks[i].HTTP)
			}
		}
		return json.Marshal(checks)
	}
	return value, nil
}
