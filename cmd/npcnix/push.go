package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/npcnix/npcnix/cmd/npcnix/fleet"
	"github.com/npcnix/npcnix/store"
)

const pushHelp = `Pack a flake and publish it to a remote. Prints the ETag that hosts will see.

With --wait it then waits until the hosts run that version, as npcnix wait does and with its flags and exit
codes: see npcnix wait --help. The hosts to expect are determined before anything is published.`

type pushOptions struct {
	flake   flakeFlags
	remote  remoteFlags
	wait    bool
	waiting waitFlags
}

func newPushCommand(c *common) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:     "push --src DIR --remote URL [--wait]",
		Short:   "Pack a flake and publish it to a remote",
		Long:    pushHelp,
		Example: "  npcnix push --src ./configurations --remote s3://BUCKET/npcnix/remotes/dev.npcnix --wait",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runPush(cmd.Context(), c, o, cmd.Flags()) },
	}
	o.flake.addFlags(cmd)
	cmd.Flags().BoolVar(&o.wait, "wait", false, "then wait until the hosts run it; the flags of npcnix wait go with it")
	o.waiting.addFlags(cmd.Flags())
	o.remote.addFlags(cmd.Flags(), "remote to publish to; to prevent accidents, config.json is not used")
	_ = cmd.MarkFlagRequired("remote")
	return cmd
}

func runPush(ctx context.Context, c *common, o pushOptions, flags *pflag.FlagSet) error {
	if err := o.waiting.onlyWith(o.wait, flags); err != nil {
		return err
	}
	remote, err := o.remote.open(ctx, c)
	if err != nil {
		return err
	}
	var gate *fleet.Gate
	if o.wait {
		if gate, err = o.waiting.prepare(ctx, c, flags, remote); err != nil {
			return err
		}
	}
	packed, size, err := o.packed(ctx, c)
	if err != nil {
		return err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	if gate != nil {
		// Otherwise a cache's old answer would be taken for a newer publish.
		if gate.Before, err = remote.Latest(ctx, store.Version{}); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	v, err := remote.Publish(ctx, packed, size)
	if errors.Is(err, store.ErrUnconfirmed) {
		return exitError{err, exitUnconfirmed}
	}
	if err != nil {
		return err
	}
	if !o.waiting.json {
		if _, err := fmt.Fprintln(c.stdout, v.ETag); err != nil {
			return err
		}
	}
	if gate == nil {
		return nil
	}
	return waitFor(ctx, gate, v, fleet.Published)
}

// packed packs the flake into a temporary file, at whose begin it then stands. The caller removes it.
func (o pushOptions) packed(ctx context.Context, c *common) (_ *os.File, size int64, err error) {
	file, err := os.CreateTemp("", "npcnix-push-*")
	if err != nil {
		return nil, 0, fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(file.Name())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	w := bufio.NewWriterSize(file, 1<<20)
	if err := o.flake.pack(ctx, c, w, info); err != nil {
		return nil, 0, err
	}
	if err := w.Flush(); err != nil {
		return nil, 0, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	if size, err = file.Seek(0, io.SeekCurrent); err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return file, size, nil
}
