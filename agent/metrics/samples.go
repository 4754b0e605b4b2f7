package metrics

import (
	"strings"
	"time"
)

// Samples are the present values, by family and, within it, by labels as the file has them.
type Samples map[string]map[string]float64

// Set gives a sample its value. Labels are pairs of a name and a value.
func (s Samples) Set(name string, value float64, labels ...string) {
	if s[name] == nil {
		s[name] = map[string]float64{}
	}
	s[name][pairs(labels)] = value
}

// Add counts.
func (s Samples) Add(name string, n float64, labels ...string) {
	s.Set(name, s[name][pairs(labels)]+n, labels...)
}

// Clear removes all samples of a family.
func (s Samples) Clear(name string) { delete(s, name) }

// Info makes the labels the only ones of their family.
func (s Samples) Info(name string, labels ...string) {
	s.Clear(name)
	s.Set(name, 1, labels...)
}

// Bool sets a sample to 1 or 0.
func (s Samples) Bool(name string, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	s.Set(name, value, labels...)
}

// At sets a sample to a time; a zero time, to nothing.
func (s Samples) At(name string, at time.Time, labels ...string) {
	if at.IsZero() {
		return
	}
	s.Set(name, float64(at.UnixMilli())/1000, labels...)
}

// resume continues what an earlier agent has written: its counts, and what this one has not said yet.
func (s Samples) resume(earlier Samples) {
	for _, f := range families {
		for labels, value := range earlier[f.Name] {
			mine, said := s[f.Name][labels]
			switch {
			case f.Kind == Counter:
				value += mine
			case said || f.Name == BuildInfo:
				continue
			}
			if s[f.Name] == nil {
				s[f.Name] = map[string]float64{}
			}
			s[f.Name][labels] = value
		}
	}
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// pairs writes labels as the text format has them; "" if there are none.
func pairs(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	var written []string
	for i := 0; i < len(labels); i += 2 {
		written = append(written, labels[i]+`="`+escape.Replace(strings.ToValidUTF8(labels[i+1], "?"))+`"`)
	}

	return "{" + strings.Join(written, ",") + "}"
}
