package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/nix/jsonfile"
	"github.com/npcnix/npcnix/store/release"
)

const (
	frameFile   = "frame.json"
	frameSchema = 1
)

// keptFrame is DATA_DIR/frame.json: the end of the object that the last activation came from. Who verifies the new
// system, in another process or after a reboot, checks this release, whatever the store holds by then.
type keptFrame struct {
	Schema int            `json:"schema"`
	ETag   string         `json:"etag"`
	Frame  *release.Frame `json:"frame,omitempty"` // absent if the object had none
}

// keepFrame makes the target's frame durable, before the target is activated.
func (a *Agent) keepFrame(t Target) error {
	if a.frame.etag != t.ETag {
		return nil
	}
	data, err := json.Marshal(keptFrame{frameSchema, t.ETag, a.frame.Frame})
	if err == nil {
		err = jsonfile.Write(a.Dir.Path(frameFile), json.RawMessage(data))
	}
	if err != nil {
		return transientError{health.State, fmt.Errorf("keep the release's manifest: %w", err)}
	}

	return nil
}

// loadFrame returns the frame that was kept of the target; false if another one was, or none.
func loadFrame(d config.Dir, t Target) (f frame, kept bool, err error) {
	data, err := os.ReadFile(d.Path(frameFile))
	if errors.Is(err, fs.ErrNotExist) {
		return frame{}, false, nil
	}
	var k keptFrame
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		return frame{}, false, fmt.Errorf("read %s: %w", frameFile, err)
	}

	return frame{etag: k.ETag, Frame: k.Frame}, k.ETag == t.ETag && k.Schema == frameSchema, nil
}
