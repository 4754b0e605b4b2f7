package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/doctor"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/events"
)

const doctorHelp = `Check every link of the chain from a publish to a host, and say what to change:

  credentials → clock → remote → notification → topic → subscription → queue → dead letters → host

On a host, the remote and the queue are those of its settings, and the host itself is checked too: the release's
signatures, its own system in a cache, the agent, its permissions, nix, disks, the system. What has become of
a version there (drifted, rejected, rolled back) is not checked: see npcnix status. Elsewhere, give --remote
and --queue-url.

A warning is about a link that works. A link that cannot be read, or gets no answer, is unknown and never ok;
the permission that is missing is named. Only what is wrong makes the exit code 1.

A host's own role can read only its remote and its queue. For the rest, run the doctor with an operator's
credentials:

  s3:GetObject on the remote, s3:GetBucketNotification on the bucket; sns:GetTopicAttributes,
  sns:ListSubscriptionsByTopic, sns:GetSubscriptionAttributes on the topic; sqs:GetQueueUrl and
  sqs:GetQueueAttributes on the queue and its dead-letter queue

The doctor only reads, unless --e2e is given. --e2e makes a queue npcnix-probe-ID, subscribes it to the topic,
and puts the empty object KEY.probe-ID-N.npcnix. The notification matches it, and hosts ignore it: they delete
its message. The doctor waits for the event, reports the time of each hop, and removes all of that. It uses a
queue of its own because in a host's queue the agent would take the event, and because each receive there
would bring other messages nearer to the dead-letter queue. --e2e needs besides: s3:PutObject, s3:DeleteObject
and, if the bucket keeps versions, s3:DeleteObjectVersion on KEY.probe-*; sns:Subscribe and sns:Unsubscribe on
the topic; sqs:CreateQueue, sqs:SetQueueAttributes, sqs:ReceiveMessage, sqs:GetQueueUrl and sqs:DeleteQueue on
npcnix-probe-*. The Terraform module gate grants none of these.

Exit codes: 0 nothing is wrong (there can be unknowns; they are counted), 1 something is wrong, 2 wrong usage.`

type doctorOptions struct {
	doctor.Options
	json          bool
	currentSystem string
}

func (o *doctorOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Remote, "remote", "", "remote to check, from elsewhere than a host (default: this host's, and this host)")
	flags.StringVar(&o.Region, "remote-region", "", "region of the remote's bucket")
	flags.StringVar(&o.CredentialsFile, "remote-credentials-file", "", "file with USER:PASSWORD for a remote on a web server")
	flags.StringVar(&o.QueueURL, "queue-url", "", "queue to check (default: this host's)")
	flags.StringVar(&o.TopicARN, "topic-arn", "", "topic of the remote (default: the one in the bucket's notification)")
	flags.BoolVar(&o.Probe, "e2e", false, "also send a probe through the chain, and report the time of each hop")
	flags.DurationVar(&o.ProbeTimeout, "e2e-timeout", 2*time.Minute, "how long to wait for the probe")
	flags.BoolVar(&o.json, "json", false, "print one JSON object")
	flags.StringVar(&o.currentSystem, "current-system", "/run/current-system", "link to the running system (for containers and tests)")
}

func newDoctorCommand(c *common) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:     "doctor [--remote URL [--queue-url URL]]",
		Short:   "Check every link from a publish to this host, and say what to change",
		Long:    doctorHelp,
		Example: "  npcnix doctor\n  npcnix doctor --remote s3://BUCKET/npcnix/remotes/dev.npcnix --queue-url https://sqs.REGION.amazonaws.com/ACCOUNT/NAME --e2e",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("e2e-timeout") && (o.ProbeTimeout <= 0 || !o.Probe) {
				return usageError{errors.New("--e2e-timeout goes with --e2e, and must be more than 0")}
			}
			return runDoctor(cmd.Context(), c, o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runDoctor(ctx context.Context, c *common, o doctorOptions) error {
	if err := o.complete(ctx, c); err != nil {
		return err
	}
	report := &findings{}
	err := doctor.Run(ctx, o.Options, func(f doctor.Finding) {
		report.Findings = append(report.Findings, f)
		if !o.json {
			_ = c.print("%s", findingText(f, c.width()))
		}
	})
	if err != nil {
		return err
	}
	report.count()
	if o.json {
		err = c.printJSON(report)
	} else {
		err = c.print("%s\n", report.summary())
	}
	if err == nil && report.Wrong > 0 {
		err = fmt.Errorf("wrong: %d of %d links", report.Wrong, len(report.Findings))
	}
	return err
}

// complete checks the options and takes the rest from this host's settings if no remote is given.
func (o *doctorOptions) complete(ctx context.Context, c *common) error {
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
	if o.Remote != "" && o.QueueURL == events.AutoQueue {
		return usageError{errors.New("--queue-url auto is the queue that a host makes for itself: run the doctor on that host, or give the queue's URL")}
	}
	if o.Remote != "" {
		return nil
	}
	remote, err := remoteFlags{region: o.Region, credentialsFile: o.CredentialsFile}.fromSettings(c)
	if err != nil {
		return err
	}
	conf, err := c.conf()
	if err != nil {
		return err
	}
	o.Remote, o.Region, o.CredentialsFile = remote.url, remote.region, remote.credentialsFile
	if o.QueueURL == "" {
		o.QueueURL = conf.QueueURL
	}
	if o.QueueURL == events.AutoQueue {
		queue, err := openOwnQueue(ctx, conf, events.OwnQueueOptions{})
		if err == nil {
			o.QueueURL, err = queue.URL(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w: the agent makes its queue when it starts; `journalctl -u npcnix` says what it lacks", err)
		}
		o.TopicARN = cmp.Or(o.TopicARN, conf.TopicARN)
	}
	o.Host = &doctor.Host{Dir: c.dir(), Config: conf, CurrentSystem: o.currentSystem}
	return nil
}

// findings is what `doctor --json` prints.
type findings struct {
	OK       int              `json:"ok"`
	Warnings int              `json:"warnings"`
	Wrong    int              `json:"wrong"`
	Unknown  int              `json:"unknown"`
	Findings []doctor.Finding `json:"findings"`
}

func (r *findings) count() {
	for _, f := range r.Findings {
		switch f.Verdict {
		case doctor.OK:
			r.OK++
		case doctor.Warning:
			r.Warnings++
		case doctor.Wrong:
			r.Wrong++
		default:
			r.Unknown++
		}
	}
}

func (r *findings) summary() string {
	return fmt.Sprintf("\nlinks checked: %d; %d ok, %d warnings, %d wrong, %d unknown", len(r.Findings), r.OK, r.Warnings, r.Wrong, r.Unknown)
}

// findingText renders a finding for a person, within the columns of the terminal, and at most 100, where words allow it.
func findingText(f doctor.Finding, width int) string {
	if width == 0 || width > 100 {
		width = 100
	}
	indent := strings.Repeat(" ", 23)
	head := fmt.Sprintf("%-8s %-13s ", f.Verdict, f.Link)
	var b strings.Builder
	b.WriteString(head + strings.TrimPrefix(wrapped(f.Found, indent, width), indent))
	for _, h := range f.Hops {
		fmt.Fprintf(&b, "%s%8.1f ms  %s\n", indent, h.Millis, h.Name)
	}
	if f.Fix != "" {
		b.WriteString(indent + "→ " + strings.TrimPrefix(wrapped(f.Fix, indent+"  ", width), indent+"  "))
	}
	return b.String()
}
