package agent

import (
	"cmp"
	"context"

	"github.com/npcnix/npcnix/agent/record"
)

// Folders beside the records. Objects appear in them only when a host fails or recovers, so that a store's own
// notifications can tell people without a message for each record.
const (
	failedFolder    = "failed"
	recoveredFolder = "recovered"
)

// copies are the records of one folder.
type copies struct {
	store  Store
	folder string
}

func (c copies) PutRecord(ctx context.Context, host string, body []byte) error {
	return c.store.PutRecordCopy(ctx, c.folder, host, body)
}

// tellFailure writes a copy of the record when a version was rejected or rolled back, and when one is applied
// after that: once each. A copy that cannot be written is tried again at the end of each round, and holds up
// nothing else. An agent that is killed in between tells it twice.
func (a *Agent) tellFailure(ctx context.Context, r *round, rec record.Record) {
	folder, told := "", ""
	version := cmp.Or(rec.Version.Release, rec.Version.ETag) // each wave of a release is another object
	switch {
	case (rec.Status == record.RolledBack || rec.Status == record.Rejected) && version != r.state.Told:
		folder, told = failedFolder, version
	case rec.Status == record.Applied && r.state.Told != "":
		folder = recoveredFolder
	default:
		return
	}

	if err := record.Write(ctx, copies{a.Store, folder}, a.Name, rec); err != nil {
		if !a.untold && ctx.Err() == nil {
			a.Log.Info("a failure or recovery cannot be told", "object", "KEY.acks/"+folder+"/"+a.Name+".json", "error", err)
		}
		a.untold = true
		return
	}
	a.untold = false
	r.move(r.state.told(told))
}
