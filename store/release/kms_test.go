package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/integration/kmsfake"
	"github.com/npcnix/npcnix/integration/moto"
)

// A key in KMS signs what a host accepts and OpenSSH verifies.
func TestKeysInKMS(t *testing.T) {
	fake, err := kmsfake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	for _, pair := range append(fake.Env(), "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_PROFILE=", "AWS_SESSION_TOKEN=") {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
		if value == "" {
			os.Unsetenv(name) // moto takes an empty profile for the name of one
		}
	}

	t.Run("ed25519", func(t *testing.T) { signsByKMS(t, kmsfake.ARN("ed25519"), ssh.KeyAlgoED25519) })
	t.Run("P-256", func(t *testing.T) { signsByKMS(t, kmsfake.ARN("p256"), ssh.KeyAlgoECDSA256) })
	t.Run("P-256 of moto", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL_KMS", moto.Start(t))
		cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(kmsfake.Region))
		if err != nil {
			t.Fatal(err)
		}
		client := kms.NewFromConfig(cfg)
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/release"), TargetKeyId: made.KeyMetadata.KeyId}); err != nil {
			t.Fatal(err)
		}
		signsByKMS(t, *made.KeyMetadata.Arn, ssh.KeyAlgoECDSA256)
		account, _, _ := strings.Cut(*made.KeyMetadata.Arn, ":key/")
		signsByKMS(t, account+":alias/release", ssh.KeyAlgoECDSA256)
		elsewhere := strings.Replace(*made.KeyMetadata.Arn, kmsfake.Region, "us-east-2", 1)
		refusedByKMS(t, elsewhere, true, "NotFoundException")
	})

	for name, says := range map[string]string{
		"disabled":  "AWS KMS: DisabledException at GetPublicKey, " + kmsfake.ARN("disabled") + " is refused: enable the key",
		"deleted":   "KMSInvalidStateException at GetPublicKey, " + kmsfake.ARN("deleted") + " is refused: see its KeyState",
		"forbidden": "AccessDeniedException at GetPublicKey, " + kmsfake.ARN("forbidden") + " is refused: allow kms:GetPublicKey and kms:Sign",
		"absent":    "NotFoundException at GetPublicKey, Key '" + kmsfake.ARN("absent") + "' does not exist: the ARN must have the key's own region",
	} {
		t.Run(name, func(t *testing.T) { refusedByKMS(t, kmsfake.ARN(name), true, says) })
	}
	for name, says := range map[string]string{
		kmsfake.ARN("symmetric"):                     "it is no key that signs: make one with `aws kms create-key",
		kmsfake.ARN("agreement"):                     "it is a key for KEY_AGREEMENT, not for SIGN_VERIFY: make one with",
		kmsfake.ARN("p384"):                          "of the spec ECC_NIST_P384, which hosts do not accept: make one with",
		"alias/release":                              "it must be the ARN of a key or of an alias",
		"arn:aws:s3:eu-west-1:111122223333:key/x":    "it must be the ARN of a key or of an alias",
		"arn:aws:kms::111122223333:key/x":            "it must be the ARN of a key or of an alias",
		"arn:aws:kms:eu-west-1:111122223333:grant/x": "it must be the ARN of a key or of an alias",
	} {
		t.Run(name, func(t *testing.T) { refusedByKMS(t, name, false, says) })
	}
	t.Run("no KMS", func(t *testing.T) {
		t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		refusedByKMS(t, kmsfake.ARN("ed25519"), true, "connection refused")
	})
}

// refusedByKMS opens a key that cannot sign. Only what AWS answers is an ErrKMS.
func refusedByKMS(t *testing.T, arn string, byAWS bool, says string) {
	t.Helper()
	_, _, err := OpenKey(t.Context(), "awskms:"+arn)
	if err == nil || !strings.Contains(err.Error(), "signing key awskms:"+arn+": ") || !strings.Contains(err.Error(), says) {
		t.Errorf("it says %v, want %q", err, says)
	}
	if errors.Is(err, ErrKMS) != byAWS {
		t.Errorf("an answer of AWS: %v", !byAWS)
	}
}

func signsByKMS(t *testing.T, arn, kind string) {
	t.Helper()
	key, closeKey, err := OpenKey(t.Context(), "awskms:"+arn)
	if err != nil {
		t.Fatal(err)
	}
	defer closeKey()
	if got := key.PublicKey().Type(); got != kind {
		t.Errorf("the key is of type %s", got)
	}
	data := manifestBytes(t)
	if _, err := read(Policy{Remote: remote, Signers: Signers{key.PublicKey()}}, Accepted{}, object(t, frameOf(t, data, key))); err != nil {
		t.Errorf("a host: %v", err)
	}

	text, err := Sign(data, key, Namespace)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	allowed, signature := filepath.Join(dir, "allowed"), filepath.Join(dir, "signature")
	for file, content := range map[string]string{allowed: "release " + string(ssh.MarshalAuthorizedKey(key.PublicKey())), signature: text} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, data, "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "release", "-n", Namespace, "-s", signature)
}
