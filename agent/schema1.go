package agent

import (
	"encoding/json"

	"github.com/npcnix/npcnix/agent/record"
)

// fromSchema1 takes over the members that were renamed in schema 2.
func (s *State) fromSchema1(data []byte) error {
	var old struct {
		Unsettled       bool   `json:"unsettled"`
		RestartedFor    string `json:"restarted_for"`
		RestartedInBoot string `json:"restarted_in_boot"`
		Intent          struct {
			Stage record.Status `json:"stage"`
		} `json:"intent"`
	}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}

	for _, name := range []string{"unsettled", "restarted_for", "restarted_in_boot"} {
		delete(s.rest, name)
	}
	s.NeedsRepair, s.RebootedFor, s.RebootedIn = old.Unsettled, old.RestartedFor, old.RestartedInBoot
	if s.Intent != nil {
		s.Intent.Status = old.Intent.Stage
		if s.Intent.Status == "booting" {
			s.Intent.Status = record.RebootPending
		}
	}

	return nil
}
