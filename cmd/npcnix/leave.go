package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store"
)

const leaveHelp = `Delete the queue that this host made for itself, its dead-letter queue and its subscription, as before the machine is
deleted. An agent that runs would make them again: stop it before. The record of the host stays.

This is for hosts with queue_url = auto. What Terraform made is Terraform's to delete.`

func newLeaveCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:     "leave",
		Short:   "Delete the queue that this host made for itself",
		Long:    leaveHelp,
		Args:    cobra.NoArgs,
		Example: "  systemctl stop npcnix && npcnix leave",
		RunE:    func(cmd *cobra.Command, _ []string) error { return runLeave(cmd.Context(), c) },
	}
}

func runLeave(ctx context.Context, c *common) error {
	conf, err := c.conf()
	if err != nil {
		return err
	}
	if conf.QueueURL != events.AutoQueue {
		return usageError{errors.New("this host has made no queue: its queue_url is not auto")}
	}
	unlock, err := c.dir().LockFollow()
	if errors.Is(err, config.ErrRunning) {
		return fmt.Errorf("%w, and would make its queue again: `systemctl stop npcnix` first", err)
	}
	if err != nil {
		return err
	}
	defer unlock()
	queue, err := openOwnQueue(ctx, conf, events.OwnQueueOptions{Warn: c.warn})
	if err != nil {
		return err
	}
	if err := queue.Leave(ctx); err != nil {
		return err
	}
	return c.print("This host has no queue any more.\n")
}

// openOwnQueue opens the queue that a host makes for itself, by its settings.
func openOwnQueue(ctx context.Context, conf config.Config, o events.OwnQueueOptions) (*events.OwnQueue, error) {
	host, err := recordName(conf)
	if err != nil {
		return nil, err
	}
	o.Topic, o.Remote, o.Host, o.Instance, o.Lease = conf.TopicARN, remoteTag(conf.Remote), host, instanceID(instanceFile, host), conf.Lease()
	return events.OpenOwnQueue(ctx, o)
}

// remoteTag is how tags of queues name a remote, as Terraform's do.
func remoteTag(remote string) string {
	url, _, _ := strings.Cut(store.Redact(remote), "?")
	return url
}

// recordName is the name of this host in its record.
func recordName(conf config.Config) (string, error) {
	if conf.Host != "" {
		return conf.Host, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host name: %w; give --host", err)
	}
	return name, nil
}

// instanceFile has the instance's ID on EC2's Nitro instances (Amazon EC2 user guide, "Detect whether a host is
// an EC2 instance").
const instanceFile = "/sys/class/dmi/id/board_asset_tag"

// instanceID is the ID of this EC2 instance; "" elsewhere. Instances before Nitro have it only in the name that
// their boot script gave them.
func instanceID(file, host string) string {
	text, err := os.ReadFile(file)
	if id := strings.TrimSpace(string(text)); err == nil && fleet.InstanceNamed(id) == id && id != "" {
		return id
	}
	return fleet.InstanceNamed(host)
}
