// Package jsonfile keeps JSON objects in files that survive a crash and other versions of the program.
//
// It promises:
//   - After a crash a file has its old or its new content, never a part of either. When Write has
//     returned, it is the new one, also after a loss of power.
//   - Members that a version has no field for survive a rewrite, so that an older and a newer npcnix can
//     share a file.
package jsonfile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/google/renameio/v2"
)

// Unknown holds the members of a JSON object that a struct has no field for.
type Unknown map[string]json.RawMessage

// Decode decodes data into the struct that v points to, and returns the members that it has no field
// for.
func Decode(data []byte, v any) (Unknown, error) {
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	var rest Unknown
	if err := json.Unmarshal(data, &rest); err != nil {
		return nil, err
	}
	for f := range reflect.TypeOf(v).Elem().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		delete(rest, name)
	}
	return rest, nil
}

// Encode is the reverse of Decode: it returns the members of v and the unknown ones, indented. Where both
// have a member, that of v counts.
func Encode(v any, rest Unknown) ([]byte, error) {
	known, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	all := Unknown{}
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

// Write replaces the content of a file. A link stays one, and is followed on purpose: an operator can keep a file
// elsewhere. Nobody else could have made it, because a data directory that others can write is refused. Only the owner
// can read a new file, because settings may hold credentials; an existing file keeps its mode.
func Write(path string, v json.Marshaler) error {
	data, err := v.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if _, err := os.Readlink(path); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target
		}
	}
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, data, 0o600, renameio.WithExistingPermissions(), renameio.WithTempDir(dir)); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return SyncDir(dir)
}

// SyncDir makes durable what was created, renamed or removed in a directory.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
