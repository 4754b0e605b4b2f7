package health

import (
	"encoding/json"
	"fmt"
)

// UnmarshalJSON reads agent.json of schema 1 or 2.
func (h *Health) UnmarshalJSON(data []byte) error {
	type plain Health
	old := struct {
		*plain
		Hindered string `json:"hindered"` // of schema 1
	}{plain: (*plain)(h)}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}

	if h.Schema != 1 && h.Schema != schema {
		return fmt.Errorf("schema %d is not one that this npcnix reads (1 to %d)", h.Schema, schema)
	}
	if h.TransientError == "" {
		h.TransientError = old.Hindered
	}

	return nil
}
