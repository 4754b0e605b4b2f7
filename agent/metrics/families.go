package metrics

// Kind is what a family of samples is to Prometheus.
type Kind string

const (
	Gauge   Kind = "gauge"
	Counter Kind = "counter"
)

// Family has a name, a kind and, in Help, what it means.
type Family struct {
	Name string
	Kind Kind
	Help string
}

// Names of the families. Units are seconds and bytes.
const (
	BuildInfo           = "npcnix_build_info"
	ReleaseInfo         = "npcnix_release_info"
	ReleaseSerial       = "npcnix_release_serial"
	ReleasePublished    = "npcnix_release_published_timestamp_seconds"
	LastPoll            = "npcnix_last_poll_timestamp_seconds"
	LastNotice          = "npcnix_last_notice_timestamp_seconds"
	LastAttempt         = "npcnix_last_attempt_timestamp_seconds"
	LastSuccess         = "npcnix_last_success_timestamp_seconds"
	LastFailure         = "npcnix_last_failure_timestamp_seconds"
	LastAttemptSuccess  = "npcnix_last_attempt_success"
	Status              = "npcnix_status"
	StageDuration       = "npcnix_stage_duration_seconds"
	Attempts            = "npcnix_attempts_total"
	Rollbacks           = "npcnix_rollbacks_total"
	SignatureRejections = "npcnix_signature_rejections_total"
	Messages            = "npcnix_messages_total"
	QueueHealthy        = "npcnix_queue_healthy"
	Healthy             = "npcnix_healthy"
	SystemHealthy       = "npcnix_system_healthy"
	NeedsRepair         = "npcnix_needs_repair"
	RebootPending       = "npcnix_reboot_pending"
	ClosureBytes        = "npcnix_closure_bytes"
)

// families are all there are, in the order of the file.
var families = []Family{
	{BuildInfo, Gauge, "The version of npcnix that runs."},
	{ReleaseInfo, Gauge, "The release that the host runs; its ETag if it has no manifest. Absent if an operator has switched the host."},
	{ReleaseSerial, Gauge, "Serial of the release that was applied last."},
	{ReleasePublished, Gauge, "When the release that was applied last was published."},
	{LastPoll, Gauge, "Last time that the store said what it holds, whatever made the agent ask."},
	{LastNotice, Gauge, "Last message about this host's remote."},
	{LastAttempt, Gauge, "End of the last attempt at a version."},
	{LastSuccess, Gauge, "When a version was applied last."},
	{LastFailure, Gauge, "End of the last attempt that failed."},
	{LastAttemptSuccess, Gauge, "Whether the last attempt succeeded."},
	{Status, Gauge, "What has become of the wanted version: 1 for the present status, 0 for each other."},
	{StageDuration, Gauge, "Time that the last attempt took for each stage that it reached. The notice compares two clocks and can be negative."},
	{Attempts, Counter, "Attempts by their result."},
	{Rollbacks, Counter, "Activations that were rolled back, by cause."},
	{SignatureRejections, Counter, "Times that a release was refused. One release is judged again at each look."},
	{Messages, Counter, "Messages of the queue, by what became of them."},
	{QueueHealthy, Gauge, "Whether messages can be received. Absent without a queue."},
	{Healthy, Gauge, "Whether all works that the agent needs, whatever became of the wanted version."},
	{SystemHealthy, Gauge, "Whether the checks and units of the applied system hold: 0 if two looks in a row found a fault."},
	{NeedsRepair, Gauge, "Whether a rollback has failed, and nothing was applied since."},
	{RebootPending, Gauge, "Whether a reboot is due."},
	{ClosureBytes, Gauge, "Size of the applied system and all that it needs."},
}
