package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func (s Samples) text() []byte { return s.Text(families) }

// Text writes the samples of the families in Prometheus' text format. The encoder of prometheus/common brings protobuf: an idle
// agent would be 1.4 MiB larger, and the program 2.4 MB. A test has promtool check this one.
func (s Samples) Text(families []Family) []byte {
	var b strings.Builder
	for _, f := range families {
		if len(s[f.Name]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.Name, f.Help, f.Name, f.Kind)
		for _, labels := range slices.Sorted(maps.Keys(s[f.Name])) {
			fmt.Fprintf(&b, "%s%s %s\n", f.Name, labels, strconv.FormatFloat(s[f.Name][labels], 'f', -1, 64))
		}
	}

	return []byte(b.String())
}

// parse reads what text writes. Lines that it does not know are omitted: the file may be another npcnix's.
func parse(data []byte) Samples {
	s := Samples{}
	for line := range strings.Lines(string(data)) {
		key, value, found := cutLast(strings.TrimSpace(line), " ")
		number, err := strconv.ParseFloat(value, 64)
		if !found || err != nil || strings.HasPrefix(key, "#") {
			continue
		}
		name, labels := key, ""
		if i := strings.IndexByte(key, '{'); i >= 0 {
			if name, labels = key[:i], key[i:]; !strings.HasSuffix(labels, "}") {
				continue
			}
		}
		if s[name] == nil {
			s[name] = map[string]float64{}
		}
		s[name][labels] = number
	}

	return s
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}

	return s[:i], s[i+len(sep):], true
}
