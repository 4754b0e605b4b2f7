package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/agent/config"
)

// settingFlags are flags that mean the same as settings. They come before what any file says.
type settingFlags struct {
	settings []config.Setting
	flags    *pflag.FlagSet
}

// addFlags adds the flags of the named settings, or of all settings that have one.
func (f *settingFlags) addFlags(flags *pflag.FlagSet, names ...string) {
	f.flags = flags
	for _, s := range config.Settings {
		if s.Flag == "" || len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		f.settings = append(f.settings, s)
		switch s.Kind {
		case config.Boolean:
			flags.Bool(s.Flag, false, flagHelp(s))
		case config.Integer: // of seconds
			flags.Duration(s.Flag, 0, flagHelp(s))
		default:
			flags.String(s.Flag, "", flagHelp(s))
		}
	}
}

// flagHelp is the sentence of a setting as the help of a flag.
func flagHelp(s config.Setting) string {
	text := strings.TrimSuffix(strings.ReplaceAll(s.Text, "`", ""), ".")
	switch s.Kind {
	case config.Boolean:
		return strings.TrimPrefix(text, "Whether to ")
	case config.Integer:
		return fmt.Sprintf("%s (default %s)", strings.Replace(text, "Seconds", "time", 1), time.Duration(s.Default.(int64))*time.Second)
	}
	if !strings.HasPrefix(text, "URL") && !strings.HasPrefix(text, "ARN") {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	return text
}

// layers returns what the environment and the command line set, in that order.
func (f *settingFlags) layers() ([]config.Layer, error) {
	environment, line := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for _, s := range f.settings {
		flag := f.flags.Lookup(s.Flag)
		if !flag.Changed {
			continue
		}
		value := flag.Value.String()
		if s.Kind == config.Integer {
			d, err := time.ParseDuration(value)
			if err != nil {
				return nil, err
			}
			if least := time.Duration(s.Min) * time.Second; d < least {
				return nil, usageError{fmt.Errorf("--%s is %s: it must be at least %s", s.Flag, d, least)}
			}
			value = strconv.FormatInt(int64(d/time.Second), 10)
		}
		if value == "" {
			continue
		}
		raw, err := s.Parse(value)
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s: %w", s.Flag, err)}
		}
		if _, is := flag.Annotations[setByEnvironment]; is {
			environment[s.Name] = raw
		} else {
			line[s.Name] = raw
		}
	}
	var layers []config.Layer
	for _, over := range []struct {
		origin  config.Origin
		members map[string]json.RawMessage
	}{{config.FromEnvironment, environment}, {config.FromFlag, line}} {
		object, err := json.Marshal(over.members)
		if err != nil {
			return nil, err
		}
		layers = append(layers, config.Layer{Origin: over.origin, Members: object})
	}
	return layers, nil
}
