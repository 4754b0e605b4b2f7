// Package trust remembers which releases a host has accepted, in DATA_DIR/trust.json, so that no older
// release is accepted again, whoever puts it back.
//
// It promises that what was accepted is on disk before anything acts on it, and that a damaged file is
// never taken for an empty one: that would accept every old release.
package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/store/release"
)

const (
	schema   = 1
	fileName = "trust.json"
)

// ErrDamaged marks a trust.json that cannot be read.
var ErrDamaged = errors.New("trust.json is damaged")

// Memory is what a host has accepted.
type Memory struct {
	Schema int `json:"schema"`
	// Remotes has the last accepted release of each remote, which is named as bucket/key.
	Remotes map[string]release.Accepted `json:"remotes"`
}

// Load reads what was accepted. Without a file, nothing was. A file that cannot be read is an error
// wrapping ErrDamaged, which says what to do.
func Load(d config.Dir) (Memory, error) {
	m := Memory{Schema: schema, Remotes: map[string]release.Accepted{}}
	data, err := os.ReadFile(d.Path(fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return Memory{}, fmt.Errorf("read %s: %w", fileName, err)
	}

	m = Memory{}
	if err := json.Unmarshal(data, &m); err != nil || m.Schema != schema || m.Remotes == nil {
		return Memory{}, fmt.Errorf("%w: this host cannot tell an old release from a new one: make sure that the remote holds the "+
			"release that it should, then run `npcnix trust reset` (%s)", ErrDamaged, why(err, m))
	}

	return m, nil
}

func why(err error, m Memory) string {
	if err != nil {
		return err.Error()
	}

	return fmt.Sprintf("schema %d, want %d", m.Schema, schema)
}

// Save makes m durable before it returns.
func Save(d config.Dir, m Memory) error {
	if err := d.Create(); err != nil {
		return err
	}

	return jsonfile.Write(d.Path(fileName), m)
}

// Reset forgets all that was accepted: the host accepts any release that is signed and not expired.
func Reset(d config.Dir) error {
	return Save(d, Memory{Schema: schema, Remotes: map[string]release.Accepted{}})
}

// Require has the host accept no release of the remote with a serial below the given one: a host that is new knows
// of no release yet, and would accept any old one.
func Require(d config.Dir, remote string, serial int64) error {
	m, err := Load(d)
	if err != nil || m.Remotes[remote].Serial >= serial {
		return err
	}
	m.Remotes[remote] = release.Accepted{Serial: serial - 1} // whatever has this one is refused

	return Save(d, m)
}

// MarshalJSON indents the file for people.
func (m Memory) MarshalJSON() ([]byte, error) {
	type plain Memory
	out, err := json.MarshalIndent(plain(m), "", "  ")

	return append(out, '\n'), err
}
