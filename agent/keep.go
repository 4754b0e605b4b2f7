package agent

import (
	"encoding/json"
	"reflect"
	"strings"
)

// unknown holds the members of a JSON object that this version has no field for, so that a
// rewrite by an older or newer npcnix loses nothing.
type unknown map[string]json.RawMessage

// decodeKeeping decodes data into the struct v points to and returns the members it has no
// field for.
func decodeKeeping(data []byte, v any) (unknown, error) {
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	var rest unknown
	if err := json.Unmarshal(data, &rest); err != nil {
		return nil, err
	}
	for f := range reflect.TypeOf(v).Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		delete(rest, name)
	}
	return rest, nil
}

// encodeKeeping is the reverse of decodeKeeping: v's members and the unknown ones, indented.
func encodeKeeping(v any, rest unknown) ([]byte, error) {
	known, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	all := unknown{}
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	for name, raw := range rest {
		if _, taken := all[name]; !taken {
			all[name] = raw
		}
	}
	out, err := json.MarshalIndent(all, "", "  ")
	return append(out, '\n'), err
}
