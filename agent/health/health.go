// Package health tells how an agent is doing: to whoever reads its log, and to the commands that read
// DATA_DIR/agent.json.
//
// It promises that a condition which lasts is logged once: when it begins, when its cause changes and
// when it is over. One that comes and goes is logged once in a while.
package health

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
)

// Health is what a running agent knows and nothing else on disk tells: DATA_DIR/agent.json or,
// while that cannot be written, a file in /run/npcnix. Nothing depends on it, so it is not synced to disk.
type Health struct {
	Schema    int            `json:"schema"`
	PID       int            `json:"pid"`
	Started   time.Time      `json:"started,omitzero"`
	Version   string         `json:"agent_version,omitempty"`
	QueueURL  string         `json:"queue_url,omitempty"` // that the agent receives from
	LastEvent time.Time      `json:"last_event,omitzero"` // about this host's remote
	LastPoll  time.Time      `json:"last_poll,omitzero"`  // look at the store that no event asked for
	LastLook  time.Time      `json:"last_look,omitzero"`  // at the store, by whatever trigger
	Trigger   record.Trigger `json:"trigger,omitempty"`   // of the last look
	ETag      string         `json:"etag,omitempty"`      // that the store held then; "" if it did not say
	Next      time.Time      `json:"next,omitzero"`       // look or attempt, unless something happens before; zero: at work
	RebootDue string         `json:"reboot_due,omitempty"`
	RebootAt  time.Time      `json:"reboot_at,omitzero"` // when the agent will reboot the machine; zero: it will not
	// TransientError is why the last round came to nothing, if the version was not to blame.
	TransientError string `json:"transient_error,omitempty"`
	// Unhealthy is why the applied system is not healthy, though it was verified.
	Unhealthy string `json:"unhealthy,omitempty"`
	// Held is why the host keeps what it runs, if the rollout of the store's version does not admit it.
	Held string `json:"held,omitempty"`
	// Parts tells what works and what does not, by [Code]. What was not tried yet is not in it.
	Parts map[Code]Part `json:"parts,omitempty"`
}

// Part says since when a part of an agent works, or does not.
type Part struct {
	Works bool      `json:"works"`
	Since time.Time `json:"since,omitzero"`
	Error string    `json:"error,omitempty"`

	kind string // of the error: those of AWS differ each time, by their request ids
}

const (
	schema   = 2
	fileName = "agent.json"
)

// Read returns what the agent wrote last, and whether that agent still runs. Without a file the health
// is zero. If the file cannot be read, running is right all the same.
func Read(d config.Dir) (h Health, running bool, err error) {
	running, err = d.Following()
	if err != nil {
		return Health{}, false, err
	}

	h, err = readFile(d.Path(fileName))
	// The file in the runtime directory is there while the other cannot be written, or since an agent died then.
	if stopgap, e := readFile(runtimeFile(d)); e == nil && !stopgap.Started.Before(h.Started) && stopgap.PID != 0 {
		return stopgap, running, nil
	}
	if err != nil {
		return Health{}, running, fmt.Errorf("read %s: %w", fileName, err)
	}

	return h, running, nil
}

// readFile reads a file's health; zero if there is none.
func readFile(path string) (h Health, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Health{}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &h)
	}

	return h, err
}

// runtimeFile is where the health of the agent of a data directory stands while that directory cannot be
// written: in systemd's RUNTIME_DIRECTORY, or in /run/npcnix.
func runtimeFile(d config.Dir) string {
	dir := cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), "/run/npcnix")
	name, err := filepath.Abs(string(d))
	if err != nil {
		name = string(d)
	}

	return filepath.Join(dir, strings.ReplaceAll(strings.Trim(name, "/"), "/", "-")+".json")
}
