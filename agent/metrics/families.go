package metrics

// kind is what a family of samples is to Prometheus.
type kind string

const (
	gauge   kind = "gauge"
	counter kind = "counter"
)

type family struct {
	name string
	kind kind
	help string
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
	NeedsRepair         = "npcnix_needs_repair"
	RebootPending       = "npcnix_reboot_pending"
	ClosureBytes        = "npcnix_closure_bytes"
)

// families are all there are, in the order of the file.
var families = []family{
	{BuildInfo, gauge, "The version of npcnix that runs."},
	{ReleaseInfo, gauge, "The release that the host runs; its ETag if it has no manifest. Absent if an operator has switched the host."},
	{ReleaseSerial, gauge, "Serial of the release that was applied last."},
	{ReleasePublished, gauge, "When the release that was applied last was published."},
	{LastPoll, gauge, "Last time that the store said what it holds, whatever made the agent ask."},
	{LastNotice, gauge, "Last message about this host's remote."},
	{LastAttempt, gauge, "End of the last attempt at a version."},
	{LastSuccess, gauge, "When a version was applied last."},
	{LastFailure, gauge, "End of the last attempt that failed."},
	{LastAttemptSuccess, gauge, "Whether the last attempt succeeded."},
	{Status, gauge, "What has become of the wanted version: 1 for the present status, 0 for each other."},
	{StageDuration, gauge, "Time that the last attempt took for each stage that it reached. The notice compares two clocks and can be negative."},
	{Attempts, counter, "Attempts by their result."},
	{Rollbacks, counter, "Activations that were rolled back, by cause."},
	{SignatureRejections, counter, "Times that a release was refused. One release is judged again at each look."},
	{Messages, counter, "Messages of the queue, by what became of them."},
	{QueueHealthy, gauge, "Whether messages can be received. Absent without a queue."},
	{Healthy, gauge, "Whether all works that the agent needs, whatever became of the wanted version."},
	{NeedsRepair, gauge, "Whether a rollback has failed, and nothing was applied since."},
	{RebootPending, gauge, "Whether a reboot is due."},
	{ClosureBytes, gauge, "Size of the applied system and all that it needs."},
}
