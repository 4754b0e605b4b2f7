package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

// Settings has every setting, in the order in which they are shown.
var Settings = []Setting{
	{
		Name: "remote", Kind: Text, Flag: "remote", check: store.CheckURL,
		Text: "URL of the packed flake to follow.",
	},
	{
		Name: "remote_region", Kind: Text, Flag: "remote-region",
		Text: "Region of the remote's bucket; by default, the AWS SDK's own settings decide.",
	},
	{
		Name: "remote_credentials_file", Kind: Text, Flag: "remote-credentials-file", check: checkFile,
		Text: "File with USER:PASSWORD for a remote on a web server.",
		More: "It is read for each request, so it can be replaced at any time.",
	},
	{
		Name: "configuration", Kind: Text, Flag: "configuration", check: checkConfiguration,
		Text: "Name of the NixOS configuration in the flake.",
	},
	{
		Name: "queue_url", Kind: Text, Flag: "queue-url", check: events.CheckQueueURL,
		Text: "URL of the SQS queue that announces publishes.",
		More: "Without a queue, the host polls. With `auto` it makes a queue of its own, and subscribes it to `topic_arn`.",
	},
	{
		Name: "topic_arn", Kind: Text, Flag: "topic-arn", check: events.CheckTopic,
		Text: "ARN of the SNS topic that announces publishes, for a `queue_url` of `auto`.",
	},
	{
		Name: "host", Kind: Text, Flag: "host", check: store.CheckHost,
		Text: "Name of this host in its record; by default, the machine's host name.",
	},
	{
		Name: "poll_interval_secs", Kind: Integer, Default: int64(600), Min: 1, Max: aYear, Flag: "poll-interval",
		Text: "Seconds between polls of the store while the queue works, ± 20 %.",
	},
	{
		Name: "min_sleep_secs", Kind: Integer, Default: int64(5), Min: 0, Max: aYear,
		Text: "Seconds between polls if there is no queue, just after a reconfiguration, ± 50 %.",
		More: "The agent never polls more than once a second.",
	},
	{
		Name: "max_sleep_secs", Kind: Integer, Default: int64(120), Min: 0, Max: aYear,
		Text: "Seconds between polls if there is no queue, long after a reconfiguration, ± 50 %.",
	},
	{
		Name: "max_sleep_after_hours", Kind: Integer, Default: int64(24), Min: 0, Max: aYear / 3600,
		Text: "Hours after a reconfiguration until polls are `max_sleep_secs` apart.",
	},
	{
		Name: "lease_secs", Kind: Integer, Default: int64(120), Min: 1, Max: 12 * 3600, // Amazon SQS API reference, ReceiveMessage
		Text: "Visibility timeout of a message in seconds.",
		More: "The agent extends it while it works. SQS allows at most 12 hours.",
	},
	{
		Name: "retry_delays_secs", Kind: List, Default: []int64{30, 120, 480}, Min: 0, Max: aYear, Example: "[30, 120, 480]",
		Text: "Seconds before each new attempt at a version that failed.",
		More: "After the last attempt, the version is rejected.",
	},
	{
		Name: "correct_drift", Kind: Boolean, Default: false, Flag: "correct-drift",
		Text: "Whether to switch back a host that an operator has switched.",
		More: "Otherwise it is reported as drifted, and left alone until the next publish.",
	},
	{
		Name: "build_timeout_secs", Kind: Integer, Default: int64(3600), Min: 0, Max: aYear,
		Text: "Seconds that a build, or the download of a prebuilt system, can take; 0 means no limit.",
		More: "A longer build is ended and counts as a failed attempt. A longer download is ended, counts as none, and goes on after a pause.",
	},
	{
		Name: "switch_timeout_secs", Kind: Integer, Default: int64(900), Min: 1, Max: aYear, Old: []string{"activation_timeout_secs"}, // old form
		Text: "Seconds that a switch can take.",
		More: "A longer switch is killed and rolled back.",
	},
	{
		Name: "verify_timeout_secs", Kind: Integer, Default: int64(300), Min: 1, Max: aYear, Old: []string{"confirm_timeout_secs"}, // old form
		Text: "Seconds that a new system has to pass verification.",
		More: "Otherwise it is rolled back.",
	},
	{
		Name: "settle_secs", Kind: Integer, Default: int64(5), Min: 0, Max: aYear,
		Text: "Seconds that units are watched after a switch, because some fail a little later.",
		More: "It must be less than `verify_timeout_secs`.",
	},
	{
		Name: "exempt_units", Kind: List, Default: []string{}, Example: `["backup.service", "mount-*.service"]`,
		Text: "Names and patterns of units whose failure does not cause a rollback.",
	},
	{
		Name: "checks", Kind: List, Default: []Check{}, Example: `[{"name": "web", "http": "http://127.0.0.1:8080/health"}]`,
		Text: "Checks that a new system must pass before it is committed.",
		More: "Each has exactly one of `command`, `http` and `tcp`.",
	},
	{
		Name: "health_interval_secs", Kind: Integer, Default: int64(60), Min: 0, Max: aYear,
		Text: "Seconds between looks at the applied system's `checks` and units, after it was committed; 0 means never.",
		More: "If two looks in a row find a fault, the record says that the system is unhealthy. A host that never looks passes no soak of a rollout.",
	},
	{
		Name: "reboot", Kind: Text, Default: string(RebootNever), OneOf: []string{string(RebootNever), string(RebootWhenNeeded)},
		Text: "Whether the host reboots when a reboot is due.",
		More: "One is due if the kernel, the initrd or the kernel modules differ from those that were booted, or if the new " +
			"system can be activated only by a reboot. If such a system fails verification after the reboot, the host " +
			"reboots into the previous one whatever this setting says. Status and record show in any case that a reboot is due.",
	},
	{
		Name: "reboot_window", Kind: Text, check: checkWindow,
		Text: "Time of day, in the host's time zone, at which the host can reboot, such as 03:00-05:00; by default, any.",
		More: "It can span midnight.",
	},
	{
		Name: "hooks", Kind: Object, Example: `{"pre_activate": ["/bin/sh", "-c", "..."]}`,
		Text: "Commands that run around an activation: `pre_activate`, `post_activate` and `on_failure`.",
		More: "With `pass_credentials`, they get the agent's AWS credentials in their environment.",
	},
	{
		Name: "hook_timeout_secs", Kind: Integer, Default: int64(300), Min: 1, Max: aYear,
		Text: "Seconds that a hook can take.",
	},
	{
		Name: "keep_generations", Kind: Integer, Default: int64(0), Min: 0, Max: many,
		Text: "Number of generations of the system profile to keep; 0 keeps all.",
		More: "The running, the previous and the booted one are kept besides.",
	},
	{
		Name: "signers", Kind: List, Default: []string{}, Example: `["release@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]`,
		Text: "Public keys of the publishers that this host trusts, in OpenSSH's form.",
		More: "Each is `[principal] type key [comment]`. If any is set, the host rejects releases that no trusted key has signed, " +
			"so that write access to the store is no longer root on the host. Without keys, it accepts every packed flake.",
	},
	{
		Name: "signers_required", Kind: Integer, Default: int64(1), Min: 1, Max: 16,
		Text: "Number of different `signers` that must have signed a release.",
	},
	{
		Name: "rollout_signers", Kind: List, Default: []string{}, Example: `["rollout@example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]`,
		Text: "Public keys that may say how far a signed release's plan of waves has come, in the form of `signers`.",
		More: "Such a key chooses between two releases that `signers` have signed, and does nothing else. Without any, `signers` count. " +
			"They need `signers`.",
	},
	{
		Name: "evaluation", Kind: Text, Default: EvaluateFallback, OneOf: []string{EvaluateFallback, EvaluateRescue, EvaluateNever, EvaluateAlways},
		Text: "When the host evaluates a flake by itself.",
		More: "With fallback, it does so only for a configuration that the release has not prebuilt. With rescue, it " +
			"also does so if the caches cannot give a prebuilt system for as long as all `retry_delays_secs` together. With never, it takes only " +
			"prebuilt systems. With always, it ignores them.",
	},
	{
		Name: "record_refresh_secs", Kind: Integer, Default: int64(3600), Min: 0, Max: aYear,
		Text: "Seconds after which a host without news writes its record again; 0 means never.",
		More: "So a silent host can be told from a quiet one.",
	},
	{
		Name: "metrics_textfile", Kind: Text, check: checkTextfile,
		Text: "File for the textfile collector of Prometheus' node_exporter; by default, none is written.",
		More: "Its name ends in .prom. It is written at each change and each minute, everyone can read it, and its folder is created.",
	},
}

func checkConfiguration(name string) error {
	if strings.ContainsRune(name, '"') {
		return fmt.Errorf("configuration is %q: nix cannot take a name with a quote in it", name)
	}
	return nil
}

func checkWindow(window string) error {
	_, err := ParseWindow(window)
	return err
}

func checkTextfile(path string) error {
	if path != "" && (!filepath.IsAbs(path) || filepath.Ext(path) != ".prom") {
		return fmt.Errorf("metrics_textfile is %q: it must be an absolute path that ends in .prom", path)
	}
	return nil
}

func checkFile(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("file %q: it must be an absolute path", path)
	}
	return nil
}
