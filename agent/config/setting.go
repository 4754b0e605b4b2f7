package config

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Setting is one setting of a host: its name, what it can be, and what holds if it is set nowhere.
// The table [Settings] is the only place that says so. Validation, `npcnix config`, the flags of
// `npcnix follow`, the NixOS module's options and docs/settings.md are made from it.
type Setting struct {
	Name    string // of the member of config.json and settings.json
	Kind    Kind
	Default any // in Go's form of the JSON value; nil: there is none, and Text says what holds

	Min, Max int64    // of an integer, or of each integer in a list
	OneOf    []string // a text must be one of these; nil: any text
	Example  string   // in JSON, of a list or an object

	Text string // what it is, in one sentence
	More string // what the reference says besides

	Flag string   // of `npcnix follow`; "" if there is none. NPCNIX_<FLAG> in the environment is the same.
	Old  []string // names that an older npcnix gave it

	check func(text string) error // of what nothing else in the table can say; nil: nothing
}

// Kind is the JSON type of a setting.
type Kind string

const (
	Text    Kind = "text"
	Integer Kind = "integer"
	Boolean Kind = "boolean"
	List    Kind = "list"
	Object  Kind = "object"
)

// Lookup returns the setting of that name. Dashes may stand for underscores, as in a flag.
func Lookup(name string) (Setting, bool) {
	name = strings.ReplaceAll(name, "-", "_")
	for _, s := range Settings {
		if s.Name == name || slices.Contains(s.Old, name) {
			return s, true
		}
	}
	return Setting{}, false
}

// must returns the setting of that name, which the table has.
func must(name string) Setting {
	s, ok := Lookup(name)
	if !ok {
		panic("no setting " + name)
	}
	return s
}

// Limits says in words what the setting can be.
func (s Setting) Limits() string {
	switch {
	case s.Kind == Integer:
		return fmt.Sprintf("integer from %d to %d", s.Min, s.Max)
	case s.Kind == Boolean:
		return "true or false"
	case len(s.OneOf) > 0:
		return strings.Join(s.OneOf, " or ")
	case s.Kind == List && s.Max > 0:
		return fmt.Sprintf("JSON list of integers from %d to %d", s.Min, s.Max)
	case s.Kind == List || s.Kind == Object:
		return "JSON " + string(s.Kind)
	}
	return string(s.Kind)
}

// DefaultJSON returns the default in JSON; "" if there is none.
func (s Setting) DefaultJSON() string {
	if s.Default == nil {
		return ""
	}
	out, err := json.Marshal(s.Default)
	if err != nil {
		panic(err) // the table holds only what JSON has
	}
	return string(out)
}

// within returns an error unless the number is within the bounds.
func (s Setting) within(n int64) error {
	if n < s.Min || n > s.Max {
		return fmt.Errorf("%s is %d: it must be from %d to %d", s.Name, n, s.Min, s.Max)
	}
	return nil
}

// Parse returns the JSON value of a setting that was given as text.
func (s Setting) Parse(value string) (json.RawMessage, error) {
	if s.check != nil {
		if err := s.check(value); err != nil {
			return nil, err
		}
	}
	var v any = value
	switch s.Kind {
	case Integer:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is %q: it must be an integer from %d to %d", s.Name, value, s.Min, s.Max)
		}
		if err := s.within(n); err != nil {
			return nil, err
		}
		v = n
	case Boolean:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("%s is %q: it must be true or false", s.Name, value)
		}
		v = b
	case List, Object:
		if !json.Valid([]byte(value)) {
			return nil, fmt.Errorf("%s is %q: it must be a JSON %s, such as %s", s.Name, value, s.Kind, s.Example)
		}
		return json.RawMessage(value), nil
	}
	return json.Marshal(v)
}

// aYear bounds every duration that an operator can set, in seconds.
const aYear = 366 * 24 * 3600

// many bounds a number that has no bound of its own.
const many = math.MaxInt32
