// Package record is a host's acknowledgement of a version: one JSON object beside the remote, at
// <remote>.acks/<host>.json, which CI gates and people wait for and read.
//
// It promises that the latest record is always written last, that one which would tell nothing new is
// written only once in a while, and that a host which cannot write records is updated all the same.
package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is what has become of a version on a host.
type Status string

const (
	Building      Status = "building"       // fetching included
	Activating    Status = "activating"     // switching, or verifying
	RebootPending Status = "reboot_pending" // it becomes active with the next boot
	Applied       Status = "applied"
	Held          Status = "held"        // its rollout does not admit this host yet
	Failed        Status = "failed"      // to be attempted again
	RolledBack    Status = "rolled_back" // it was activated, and failed verification
	Rejected      Status = "rejected"    // not attempted again until something changes
	Paused        Status = "paused"      // an operator has paused the host
	Drifted       Status = "drifted"     // it was applied, and an operator has changed the running system since
)

// Statuses are all of them, in the order in which a version may go through them.
var Statuses = []Status{Building, Activating, RebootPending, Applied, Held, Failed, RolledBack, Rejected, Paused, Drifted}

// Trigger is what made an agent look at the store.
type Trigger string

const (
	Start  Trigger = "start"
	Event  Trigger = "event"
	Poll   Trigger = "poll"
	Manual Trigger = "manual"
)

// Schema is the layout of records that this version writes. It reads the one before too.
const Schema = 2

// Record is what a host says about a version.
type Record struct {
	Schema         int      `json:"schema"`
	Host           string   `json:"host"`
	Remote         string   `json:"remote"` // without passwords and tokens
	Configuration  string   `json:"configuration"`
	Version        Version  `json:"version"`
	Status         Status   `json:"status"`
	Running        *Version `json:"running,omitempty"` // the applied version whose system runs; nil: another system runs, or an older npcnix wrote this
	System         string   `json:"system,omitempty"`  // that runs
	PreviousSystem string   `json:"previous_system,omitempty"`
	Changes        []string `json:"changes,omitempty"` // the first packages that differ between the two, a line for each, as far as known
	Trigger        Trigger  `json:"trigger,omitempty"`
	Attempt        int      `json:"attempt,omitempty"` // from 1
	Error          string   `json:"error,omitempty"`
	LogTail        []string `json:"log_tail,omitempty"`
	Warning        string   `json:"warning,omitempty"` // about the host, whatever the version
	Trouble        *Trouble `json:"trouble,omitempty"` // what keeps the host from its work at present; nil: nothing does
	RebootDue      bool     `json:"reboot_due,omitempty"`
	// Unhealthy is why what runs is not healthy, though it was verified. HealthySecs is for how long it was healthy,
	// once that is as long as its rollout wants it; 0 before, and without a rollout.
	Unhealthy   string   `json:"unhealthy,omitempty"`
	HealthySecs int64    `json:"healthy_secs,omitempty"`
	Signers     []string `json:"signers,omitempty"` // fingerprints of the publishers' keys that the host trusts
	// SignersRequired is how many of them must sign a release; 0 means one.
	SignersRequired int `json:"signers_required,omitempty"`
	// OnlyNews says that the host writes no record again while there is nothing new: silence says nothing of it.
	OnlyNews bool   `json:"only_news,omitempty"`
	Agent    string `json:"agent_version,omitempty"`
	// RenamedTo is the name that the host has by now: this record is its last under the old one.
	RenamedTo string `json:"renamed_to,omitempty"`
	Times     Times  `json:"times"`
}

// Trouble is an error that is not the version's: the store's, the machine's, or an operator's. The host tries
// again for as long as it lasts.
type Trouble struct {
	Since time.Time `json:"since"`
	Kind  string    `json:"kind"` // a code of package health
	Error string    `json:"error"`
}

// Runs returns the version that the host runs; zero if that is unknown.
func (r Record) Runs() Version {
	switch {
	case r.Running != nil:
		return *r.Running
	case r.Status == Applied:
		return r.Version
	}

	return Version{}
}

// Version names a version. That of a record is the one that the host wants.
type Version struct {
	ETag string `json:"etag"`
	ID   string `json:"id,omitempty"`
	// What the version's manifest says, if it has one.
	Release string `json:"release,omitempty"`
	Rev     string `json:"rev,omitempty"`
	Message string `json:"message,omitempty"`
	Serial  int64  `json:"serial,omitempty"` // of the publish
}

// BaseOf begins the message of a version whose release is not the object's, but the base of its rollout.
const BaseOf = "the base of "

// Times tells when a version reached each step. Published comes from the event or the store, the others
// from the host's clock.
type Times struct {
	Published    time.Time `json:"published,omitzero"`
	Noticed      time.Time `json:"noticed,omitzero"`
	Fetched      time.Time `json:"fetched,omitzero"`
	Built        time.Time `json:"built,omitzero"`
	Activated    time.Time `json:"activated,omitzero"`
	Acknowledged time.Time `json:"acknowledged,omitzero"` // or when the attempt failed
	// Written is when the record was written. Against the store's own time of it, it tells how far apart the
	// two clocks are.
	Written time.Time `json:"written,omitzero"`
}

// Parse reads a record of schema 1 or 2. Members that it does not know are ignored.
func Parse(data []byte) (Record, error) {
	var r struct {
		Record
		State Status `json:"state"` // of schema 1
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("read record: %w", err)
	}

	if r.Schema == 1 {
		r.Status = r.State
		if r.Status == Activating && r.RebootDue {
			r.Status = RebootPending
		}
	}

	return r.Record, nil
}

// Bounds of the texts in a record, in bytes; JSON may make six times as many of them. Package store reads
// no record of more than 1 MiB.
const (
	MaxError = 8 << 10
	MaxTail  = 64 << 10
)

// tells reports whether both records tell a reader the same.
func (r Record) tells(o Record) bool {
	return r.Remote == o.Remote && r.Configuration == o.Configuration && r.Version.ETag == o.Version.ETag &&
		r.Status == o.Status && r.System == o.System && r.Attempt == o.Attempt && r.Error == o.Error &&
		r.Warning == o.Warning && r.RebootDue == o.RebootDue && r.Version.Release == o.Version.Release &&
		r.Runs().ETag == o.Runs().ETag && slices.Equal(r.Signers, o.Signers) && r.SignersRequired == o.SignersRequired && r.OnlyNews == o.OnlyNews
}

// Bounded returns at most the first n bytes of s, and marks where it was cut.
func Bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}

	return strings.ToValidUTF8(s[:n], "") + "…"
}

// BoundedTail returns the last lines, of at most n bytes in all.
func BoundedTail(lines []string, n int) []string {
	for i, line := range slices.Backward(lines) {
		if n -= len(line); n < 0 {
			return lines[i+1:]
		}
	}

	return lines
}
