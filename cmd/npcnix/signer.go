package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/store/release"
)

const releaseSignerHelp = `Print the public key of a signing key, as a line for the setting signers. KEY is what --sign-key takes: a file of
OpenSSH, agent:FINGERPRINT, or awskms:ARN.`

func newReleaseSignerCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:     "signer KEY",
		Short:   "Print the public key of a signing key, as hosts trust it",
		Long:    releaseSignerHelp,
		Example: "  npcnix release signer awskms:arn:aws:kms:eu-central-1:111122223333:key/ID",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return runReleaseSigner(cmd.Context(), c, args[0]) },
	}
}

func runReleaseSigner(ctx context.Context, c *common, name string) error {
	key, closeKey, err := release.OpenKey(ctx, name)
	if err != nil {
		return keyError(err)
	}
	err = c.print("%s", ssh.MarshalAuthorizedKey(key.PublicKey()))
	_ = closeKey() // the line is printed
	return err
}
