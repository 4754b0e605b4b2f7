package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// maxLock bounds, in bytes, how much of a flake.lock is read.
const maxLock = 8 << 20

// Inputs are what a flake.lock names, by the names of its nodes: what each is locked to, for a person.
type Inputs map[string]string

// InputChange is an input of a flake that is locked to something else. An empty side is an input that the flake has not.
type InputChange struct {
	Name string `json:"input"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// ReadInputs reads the flake.lock of an unpacked flake; without one there are no inputs.
func ReadInputs(dir string) (Inputs, error) {
	root, err := os.OpenRoot(dir) // a link in an archive must not lead elsewhere
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open("flake.lock")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lock struct {
		Root  string `json:"root"`
		Nodes map[string]struct {
			Locked struct {
				Rev          string `json:"rev"`
				NarHash      string `json:"narHash"`
				URL          string `json:"url"`
				Path         string `json:"path"`
				LastModified int64  `json:"lastModified"`
			} `json:"locked"`
		} `json:"nodes"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxLock)).Decode(&lock); err != nil {
		return nil, fmt.Errorf("read flake.lock: %w", err)
	}
	inputs := Inputs{}
	for name, node := range lock.Nodes {
		if name == lock.Root {
			continue
		}
		l := node.Locked
		what := cmp.Or(l.Rev, l.NarHash, l.URL, l.Path, "nothing")
		if len(what) > 12 && what == l.Rev {
			what = what[:12]
		}
		if l.LastModified > 0 {
			what += " of " + time.Unix(l.LastModified, 0).UTC().Format(time.DateOnly)
		}
		inputs[name] = what
	}

	return inputs, nil
}

// PackedInputs reads the flake.lock of a packed flake.
func PackedInputs(ctx context.Context, packed *os.File) (Inputs, error) {
	flake, remove, err := unpacked(ctx, packed)
	if err != nil {
		return nil, err
	}
	defer remove()

	return ReadInputs(flake)
}

// FetchInputs reads the flake.lock of the release m, which the remote has as version v.
func FetchInputs(ctx context.Context, remote *store.Remote, v store.Version, m *release.Manifest) (Inputs, error) {
	dir, err := os.MkdirTemp("", "npcnix-flake-*")
	if err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := remote.FetchSigned(ctx, v, store.Archive{SHA256: m.Archive.SHA256, Size: m.Archive.Size}, dir); err != nil {
		return nil, err
	}

	return ReadInputs(dir)
}

// Changes are the inputs that are locked to something else in to, in order of their names.
func (from Inputs) Changes(to Inputs) []InputChange {
	names := maps.Clone(from)
	if names == nil {
		names = Inputs{}
	}
	maps.Copy(names, to)
	var changes []InputChange
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if from[name] != to[name] {
			changes = append(changes, InputChange{name, from[name], to[name]})
		}
	}

	return changes
}
