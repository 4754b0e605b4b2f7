package health

// Code names what may fail while an agent runs.
type Code string

const (
	Queue       Code = "queue"
	Acknowledge Code = "acknowledge"
	Lease       Code = "lease"
	Release     Code = "release"
	Store       Code = "store"
	Fetch       Code = "fetch"
	Trust       Code = "trust"
	Cache       Code = "cache"
	Machine     Code = "machine"
	State       Code = "state"
	Config      Code = "config"
	Record      Code = "record"
	Metrics     Code = "metrics"
	Drift       Code = "drift"
	System      Code = "system"
	RebootDue   Code = "reboot_due"
	Reboot      Code = "reboot"
)

// condition is what is said of a code.
type condition struct {
	fails, works string // sentences for the log
	shown        bool   // in agent.json
}

var conditions = map[Code]condition{
	Queue:       {"cannot receive from the queue; polling the store until it works again", "receiving from the queue again", true},
	Acknowledge: {"cannot acknowledge messages; they will be delivered again, which does no harm", "acknowledging messages again", false},
	Lease:       {"cannot extend the leases of messages; they may be delivered again, which does no harm", "extending the leases of messages again", true},
	Release:     {"cannot release messages; they return when their leases end", "releasing messages again", false},
	Store:       {"cannot read the store; retrying", "reading the store again", true},
	Fetch:       {"cannot fetch the flake; retrying", "fetching flakes again", false},
	Trust:       {"rejected the release; waiting for another one, or for a change of the signers", "the release is trusted", true},
	Cache:       {"cannot fetch the prebuilt system from its caches; retrying", "fetching prebuilt systems again", true},
	Machine:     {"this machine cannot do the work; retrying", "this machine does the work again", false},
	State:       {"cannot write state.json", "writing state.json again", false},
	Config:      {"cannot use config.json; the settings read before stay in force", "using config.json again", true},
	Record:      {"cannot write the acknowledgement record; the host is updated all the same", "writing acknowledgement records again", true},
	Metrics:     {"cannot write metrics_textfile; the host is updated all the same", "writing metrics_textfile again", false},
	Drift:       {"an operator has changed the running system; leaving it alone, because correct_drift is off", "the applied system runs again", false},
	System:      {"the applied system is unhealthy; leaving it as it is", "the applied system is healthy again", false},
	RebootDue:   {"cannot tell whether a reboot is due", "telling again whether a reboot is due", false},
	Reboot:      {"cannot reboot the machine; retrying", "the machine can be rebooted again", false},
}
