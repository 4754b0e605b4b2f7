package config

import (
	"fmt"
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
		Text: "Region of the remote's bucket; if it is not set, the AWS SDK's own settings count.",
	},
	{
		Name: "configuration", Kind: Text, Flag: "configuration", check: checkConfiguration,
		Text: "Name of the NixOS configuration in the flake.",
	},
	{
		Name: "queue_url", Kind: Text, Flag: "queue-url", check: events.CheckQueueURL,
		Text: "URL of the SQS queue that receives publish events; without one the agent polls the store.",
	},
	{
		Name: "host", Kind: Text, Flag: "host", check: store.CheckHost,
		Text: "Name of this host in its record; if it is not set, the machine's host name.",
	},
	{
		Name: "poll_interval_secs", Kind: Integer, Default: int64(600), Min: 1, Max: aYear, Flag: "poll-interval",
		Text: "Seconds between polls of the store while the queue works, ± 20 %.",
	},
	{
		Name: "min_sleep_secs", Kind: Integer, Default: int64(5), Min: 0, Max: aYear,
		Text: "Seconds between polls without a queue just after a reconfiguration, ± 50 %, but at least one second.",
	},
	{
		Name: "max_sleep_secs", Kind: Integer, Default: int64(120), Min: 0, Max: aYear,
		Text: "Seconds between polls without a queue long after a reconfiguration, ± 50 %, but at least one second.",
	},
	{
		Name: "max_sleep_after_hours", Kind: Integer, Default: int64(24), Min: 0, Max: aYear / 3600,
		Text: "Hours after a reconfiguration until polls without a queue are rarest.",
	},
	{
		Name: "lease_secs", Kind: Integer, Default: int64(120), Min: 1, Max: 12 * 3600, // Amazon SQS API reference, ReceiveMessage
		Text: "Visibility timeout of a message in seconds; the agent extends it while it works.",
	},
	{
		Name: "retry_delays_secs", Kind: List, Default: []int64{30, 120, 480}, Min: 0, Max: aYear, Example: "[30, 120, 480]",
		Text: "Seconds before each further attempt at a version that failed; after the last attempt it is rejected.",
	},
	{
		Name: "correct_drift", Kind: Boolean, Default: false, Flag: "correct-drift",
		Text: "Whether to switch back a host that was switched to another system by an operator.",
		More: "Otherwise the host is reported as drifted and left alone until the next publish.",
	},
	{
		Name: "switch_timeout_secs", Kind: Integer, Default: int64(900), Min: 1, Max: aYear, Old: []string{"activation_timeout_secs"},
		Text: "Seconds that a switch can take before it is stopped and rolled back.",
	},
	{
		Name: "verify_timeout_secs", Kind: Integer, Default: int64(300), Min: 1, Max: aYear, Old: []string{"confirm_timeout_secs"},
		Text: "Seconds in which a new system must pass verification, or it is rolled back.",
	},
	{
		Name: "settle_secs", Kind: Integer, Default: int64(5), Min: 0, Max: aYear,
		Text: "Seconds for which units are watched after a switch; less than `verify_timeout_secs`.",
		More: "A unit that fails shortly after its start is noticed then.",
	},
	{
		Name: "exempt_units", Kind: List, Default: []string{}, Example: `["backup.service", "mount-*.service"]`,
		Text: "Names and patterns of units whose failure does not fail verification.",
	},
	{
		Name: "checks", Kind: List, Default: []Check{}, Example: `[{"name": "web", "http": "http://127.0.0.1:8080/health"}]`,
		Text: "Conditions that a new system must meet before it is committed.",
		More: "Each has exactly one of `command`, `http` and `tcp`.",
	},
	{
		Name: "reboot", Kind: Text, Default: string(RebootNever), OneOf: []string{string(RebootNever), string(RebootWhenNeeded)},
		Text: "Whether the agent reboots the machine when a system needs it.",
		More: "A reboot is needed if the kernel, the initrd or the kernel's modules differ between the booted and the running system, " +
			"or if a system can be activated only by a reboot. The status and the record show the need either way. " +
			"To roll back from a system that was activated by a reboot and fails verification, the agent always reboots.",
	},
	{
		Name: "reboot_window", Kind: Text, check: checkWindow,
		Text: "Time of day in local time at which the machine can be rebooted, such as 03:00-05:00; if it is not set, any.",
		More: "It can span midnight.",
	},
	{
		Name: "hooks", Kind: Object, Example: `{"pre_activate": ["/bin/sh", "-c", "..."]}`,
		Text: "Commands that run around an activation: `pre_activate`, `post_activate` and `on_failure`.",
	},
	{
		Name: "hook_timeout_secs", Kind: Integer, Default: int64(300), Min: 1, Max: aYear,
		Text: "Seconds that a hook can take.",
	},
	{
		Name: "keep_generations", Kind: Integer, Default: int64(0), Min: 0, Max: many,
		Text: "Number of profile generations to keep; 0 keeps all.",
		More: "The running, the previous and the booted generation are always kept.",
	},
	{
		Name: "record_refresh_secs", Kind: Integer, Default: int64(3600), Min: 0, Max: aYear,
		Text: "Seconds after which a host without news writes its record again, so that a silent host shows; 0: never.",
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
