package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/events"
)

const doctorHelp = `Look at every link of the chain from a publish to a host and say what to change:

  credentials → clock → remote → notification → topic → subscription → queue → dead letters → host

On a host the remote and the queue are those of its settings, and the host itself is looked at too: the
agent, what it may do, nix, disks, the system. What has become of a version on it (drifted, rejected, an
activation that cannot end) is not looked at: see npcnix status. Elsewhere, give --remote and --queue-url.

What may not be looked at, or does not answer, is reported as unknown and never as ok, with the
permission that is lacking. A host's own role may see its remote and its queue alone; for the rest, run
the doctor with an operator's credentials:

  s3:GetObject on the remote, s3:GetBucketNotification on the bucket; sns:GetTopicAttributes,
  sns:ListSubscriptionsByTopic, sns:GetSubscriptionAttributes on the topic; sqs:GetQueueUrl and
  sqs:GetQueueAttributes on the queue and its dead-letter queue

It only reads. --e2e alone does more: it makes a queue npcnix-probe-ID, subscribes it to the topic, puts
the empty object KEY.probe-ID-N.npcnix, which the notification matches and hosts ignore (they delete its
message), waits for the event, reports the time of each hop, and takes all of that away again. A queue of
its own, as in a host's the agent would take the event, and as receiving there would bring other messages
nearer to the dead letters. It needs besides: s3:PutObject, s3:DeleteObject and, where the bucket keeps
versions, s3:DeleteObjectVersion on KEY.probe-*; sns:Subscribe and sns:Unsubscribe on the topic;
sqs:CreateQueue, sqs:SetQueueAttributes, sqs:ReceiveMessage, sqs:GetQueueUrl and sqs:DeleteQueue on
npcnix-probe-*. The Terraform module gate gives none of these.

Exit codes: 0 nothing is wrong (there may be unknowns; they are counted), 1 something is wrong, 2 wrong
usage.`

func newDoctorCommand(c *common) *cobra.Command {
	var o doctor.Options
	var asJSON bool
	var current string
	cmd := &cobra.Command{
		Use:     "doctor [--remote URL [--queue-url URL]]",
		Short:   "Check every link from a publish to this host, and say what to change",
		Long:    doctorHelp,
		Example: "  npcnix doctor\n  npcnix doctor --remote s3://BUCKET/npcnix/remotes/dev.npcnix --queue-url https://sqs.REGION.amazonaws.com/ACCOUNT/NAME --e2e",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.QueueURL != "" {
				if err := events.CheckQueueURL(o.QueueURL); err != nil {
					return usageError{err}
				}
			}
			if o.TopicARN != "" {
				if err := fleet.CheckTopicARN(o.TopicARN); err != nil {
					return usageError{fmt.Errorf("--topic-arn %w", err)}
				}
			}
			if cmd.Flags().Changed("e2e-timeout") && (o.ProbeTimeout <= 0 || !o.Probe) {
				return usageError{errors.New("--e2e-timeout goes with --e2e, and must be more than 0")}
			}
			if o.Remote == "" {
				conf, err := c.conf()
				if err != nil {
					return err
				}
				if conf.Remote == "" {
					return usageError{errors.New("no remote: give --remote, or on a host set it with `npcnix config set remote URL`")}
				}
				o.Host = &doctor.Host{Dir: c.dir(), Config: conf, CurrentSystem: current}
				fromConfig(&o, conf)
			}
			report := &findings{}
			err := doctor.Run(cmd.Context(), o, func(f doctor.Finding) {
				report.Findings = append(report.Findings, f)
				if !asJSON {
					fmt.Fprint(c.stdout, findingText(f))
				}
			})
			if err != nil {
				return err
			}
			report.count()
			if asJSON {
				out, err := json.MarshalIndent(report, "", "  ")
				if err != nil {
					return err
				}
				fmt.Fprintf(c.stdout, "%s\n", out)
			} else {
				fmt.Fprintln(c.stdout, report.summary())
			}
			if report.Wrong > 0 {
				return fmt.Errorf("wrong: %d of %d links", report.Wrong, len(report.Findings))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Remote, "remote", "", "remote to look at, from elsewhere than a host (default: this host's, and this host)")
	flags.StringVar(&o.Region, "remote-region", "", "region of the remote's bucket")
	flags.StringVar(&o.QueueURL, "queue-url", "", "queue to look at (default: this host's)")
	flags.StringVar(&o.TopicARN, "topic-arn", "", "topic of the remote (default: the one that the bucket's notification names)")
	flags.BoolVar(&o.Probe, "e2e", false, "send a probe through the chain too, and report the time of each hop")
	flags.DurationVar(&o.ProbeTimeout, "e2e-timeout", 2*time.Minute, "how long to wait for the probe")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	flags.StringVar(&current, "current-system", "/run/current-system", "the link to the system that runs (for containers and tests)")
	return cmd
}

// fromConfig puts a host's settings where no flag was given.
func fromConfig(o *doctor.Options, conf config.Config) {
	o.Remote = conf.Remote
	if o.Region == "" {
		o.Region = conf.RemoteRegion
	}
	if o.QueueURL == "" {
		o.QueueURL = conf.QueueURL
	}
}

// findings is what `doctor --json` prints.
type findings struct {
	OK       int              `json:"ok"`
	Wrong    int              `json:"wrong"`
	Unknown  int              `json:"unknown"`
	Findings []doctor.Finding `json:"findings"`
}

func (r *findings) count() {
	for _, f := range r.Findings {
		switch f.Verdict {
		case doctor.OK:
			r.OK++
		case doctor.Wrong:
			r.Wrong++
		default:
			r.Unknown++
		}
	}
}

func (r *findings) summary() string {
	return fmt.Sprintf("\nlinks looked at: %d; %d ok, %d wrong, %d unknown", len(r.Findings), r.OK, r.Wrong, r.Unknown)
}

// findingText renders a finding for a person.
func findingText(f doctor.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-13s %s\n", f.Verdict, f.Link, f.Found)
	for _, h := range f.Hops {
		fmt.Fprintf(&b, "%-8s %-13s %8.1f ms  %s\n", "", "", h.Millis, h.Name)
	}
	if f.Fix != "" {
		fmt.Fprintf(&b, "%-8s %-13s → %s\n", "", "", f.Fix)
	}
	return b.String()
}
