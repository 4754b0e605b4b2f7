package activation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An npcnix of the first schema wrote testdata/schema1, at each of its stages.
func TestTheFirstSchemaIsRead(t *testing.T) {
	type seen struct {
		phase    Phase
		cause    Cause
		bootOnly bool
		operator string
		tries    int
	}
	want := map[string]seen{
		"ordered":               {phase: Pending},
		"switching":             {phase: Switching},
		"switched":              {phase: Verifying},
		"confirming":            {phase: Committing},
		"confirmed":             {phase: Committed},
		"booting":               {phase: RebootPending, bootOnly: true},
		"rolling-back":          {phase: RollingBack, cause: CauseVersion},
		"rolled-back":           {phase: RolledBack, cause: CauseVersion},
		"rolled-back-cut-short": {phase: RolledBack, cause: CauseInterrupted, bootOnly: true},
		"rolled-back-by-hand":   {phase: RolledBack, cause: CauseOperator, operator: "SYSTEM-FIX"},
		"rolled-back-busy":      {phase: RolledBack, cause: CauseBusy},
		"stranded":              {phase: RollbackFailed, cause: CauseVersion, tries: 3},
	}
	files, err := filepath.Glob("testdata/schema1/*.json")
	if err != nil || len(files) != len(want) {
		t.Fatal(files, err)
	}
	for name, want := range want {
		t.Run(name, func(t *testing.T) {
			j := readSchema1(t, name)
			got := seen{j.Phase, j.Cause, j.BootOnly, j.OperatorSystem, j.RollbackTries}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			if j.SwitchSecs != 900 || j.VerifySecs != 300 || j.RequestedAt.IsZero() || j.Previous != "SYSTEM-ONE" || j.ProfileSystem != "SYSTEM-ONE" {
				t.Errorf("%+v", j)
			}
			if (j.BootOnlyWhy != "") != want.bootOnly || (j.RollbackError != "") != (j.Phase == RollbackFailed) || (j.Reason != "") != (j.Cause != "") {
				t.Errorf("%+v", j)
			}
		})
	}
}

func readSchema1(t *testing.T, name string) *Journal {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "schema1", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var j Journal
	if err := json.Unmarshal(data, &j); err != nil {
		t.Fatal(err)
	}
	return &j
}

// The worker or the timer of the older npcnix may still run: what it reads must be as true as what it wrote.
func TestFirstSchemaKeepsBothKindsOfMembers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(j *Journal, dir string) error
		want   map[string]any
	}{
		"it advances": {func(j *Journal, dir string) error { return j.advance(dir, Committing) },
			map[string]any{"schema": 1.0, "stage": "confirming", "phase": "committing", "cut_short": false, "confirm_secs": 300.0, "verify_timeout_secs": 300.0}},
		"it is interrupted": {func(j *Journal, dir string) error { return j.toRollback(dir, CauseInterrupted, "why") },
			map[string]any{"schema": 1.0, "stage": "rolling-back", "phase": "rolling_back", "cut_short": true, "cause": "interrupted", "reason": "why"}},
		"the version is to blame": {func(j *Journal, dir string) error { return j.toRollback(dir, CauseVersion, "why") },
			map[string]any{"stage": "rolling-back", "cut_short": false, "busy": false, "cause": "version"}},
		"another process was switching": {func(j *Journal, dir string) error { return j.toRollback(dir, CauseBusy, "why") },
			map[string]any{"cut_short": false, "busy": true}},
		"an operator has switched": {func(j *Journal, dir string) error {
			j.Cause, j.OperatorSystem, j.RollbackError, j.RollbackTries = CauseOperator, "/s", "no", 2
			j.BootOnly, j.BootOnlyWhy = true, "init"
			return j.advance(dir, RollingBack)
		}, map[string]any{"by_hand": "/s", "trouble": "no", "tries": 2.0, "boot": true, "why": "init"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := readSchema1(t, "switched")
			if err := c.change(j, dir); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(dir, journalFile))
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			for member, want := range c.want {
				if got[member] != want {
					t.Errorf("%s is %v, want %v", member, got[member], want)
				}
			}
			again, err := Read(dir)
			if err != nil || again.Phase != j.Phase || again.Cause != j.Cause || again.RollbackTries != j.RollbackTries {
				t.Errorf("read again as %+v, %v", again, err)
			}
		})
	}
}

// It keeps the members that it does not know, among them ours, and changes its own.
func TestWhatAnOlderNpcnixHasWrittenLastCounts(t *testing.T) {
	for name, c := range map[string]struct {
		older string
		phase Phase
		cause Cause
	}{
		"its timer has begun a rollback":               {`"stage": "rolling-back", "phase": "verifying", "cause": ""`, RollingBack, CauseVersion},
		"its worker has ended":                         {`"stage": "confirmed", "phase": "committing", "cause": ""`, Committed, ""},
		"its worker was interrupted":                   {`"stage": "rolling-back", "phase": "switching", "cut_short": true`, RollingBack, CauseInterrupted},
		"it goes on with a rollback of ours":           {`"stage": "rolled-back", "phase": "rolling_back", "cut_short": true, "cause": "superseded"`, RolledBack, CauseSuperseded},
		"an operator's switch, which it does not know": {`"stage": "rolled-back", "phase": "rolling_back", "cut_short": false, "cause": "operator"`, RolledBack, CauseOperator},
		"it was busy":                                  {`"stage": "rolled-back", "busy": true, "cause": "version"`, RolledBack, CauseBusy},
	} {
		t.Run(name, func(t *testing.T) {
			var j Journal
			if err := json.Unmarshal([]byte(`{"schema": 1, "id": "x", `+c.older+`}`), &j); err != nil {
				t.Fatal(err)
			}
			if j.Phase != c.phase || j.Cause != c.cause {
				t.Errorf("phase %s, cause %q; want %s, %q", j.Phase, j.Cause, c.phase, c.cause)
			}
		})
	}
}

func TestAJournalThatCannotBeMeantIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		`{"schema": 1, "stage": "pending"}`: `no stage "pending"`,
		`{"schema": 2, "stage": "ordered"}`: `no phase ""`,
		`{"schema": 2, "phase": "ordered"}`: `no phase "ordered"`,
		`{"schema": 4, "phase": "pending"}`: "schema 4",
		`{"phase": "pending"}`:              "schema 0",
		`[]`:                                "",
	} {
		var j Journal
		if err := json.Unmarshal([]byte(text), &j); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	var newer Journal
	if err := json.Unmarshal([]byte(`{"schema": 3, "phase": "of the future"}`), &newer); err != nil || newer.Phase != "of the future" {
		t.Errorf("%+v, %v", newer, err)
	}
}
