package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Unknown is a member that npcnix does not know. It is kept when the file is rewritten, and means
// nothing.
type Unknown struct {
	Name    string `json:"name"`                   // such as poll_intervall_secs, or checks[0].htp
	Nearest string `json:"did_you_mean,omitempty"` // the known name that it resembles; "" if none
}

func (u Unknown) String() string {
	if u.Nearest == "" {
		return fmt.Sprintf("%s is no setting that this npcnix knows", u.Name)
	}
	return fmt.Sprintf("%s is no setting that this npcnix knows: did you mean %s?", u.Name, u.Nearest)
}

// UnknownMembers returns the members of an object such as config.json that npcnix does not know, those
// of its checks, hooks and pause included. What is no such object has none.
func UnknownMembers(object []byte) []Unknown {
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil {
		return nil
	}
	rename(members)
	found := unknownIn(members, "", append(settingNames(), notSettings...))
	var checks []map[string]json.RawMessage
	if json.Unmarshal(members["checks"], &checks) == nil {
		for i, check := range checks {
			found = append(found, unknownIn(check, fmt.Sprintf("checks[%d].", i), memberNames[Check]())...)
		}
	}
	var hooks, pause map[string]json.RawMessage
	if json.Unmarshal(members["hooks"], &hooks) == nil {
		found = append(found, unknownIn(hooks, "hooks.", memberNames[Hooks]())...)
	}
	if json.Unmarshal(members["paused"], &pause) == nil {
		found = append(found, unknownIn(pause, "paused.", memberNames[Pause]())...)
	}
	return found
}

func unknownIn(members map[string]json.RawMessage, path string, known []string) []Unknown {
	var found []Unknown
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if slices.Contains(known, name) {
			continue
		}
		near := Nearest(name, known)
		if near != "" {
			near = path + near
		}
		found = append(found, Unknown{Name: path + name, Nearest: near})
	}
	return found
}

func settingNames() []string {
	var names []string
	for _, s := range Settings {
		names = append(names, s.Name)
	}
	return names
}

// memberNames returns the names of the members of a struct.
func memberNames[T any]() []string {
	var names []string
	for f := range reflect.TypeFor[T]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// Nearest returns the known name that a name resembles most; "" if it resembles none.
func Nearest(name string, known []string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "-", "_"))
	if len(known) == 0 {
		return ""
	}
	best := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
	if distance(name, best) <= max(1, len(best)/4) {
		return best
	}
	return ""
}

// distance is how many letters must be inserted, removed, replaced or swapped with the next to make one word
// of the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replaced := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			rows[i][j] = min(replaced, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
