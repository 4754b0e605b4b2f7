package release

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"golang.org/x/crypto/ssh"

	"github.com/npcnix/npcnix/store/credentials"
)

// kmsPrefix begins the name of a key in AWS KMS.
const kmsPrefix = "awskms:"

// kmsLimit bounds one request, retries included.
const kmsLimit = 30 * time.Second

// ErrKMS is in the errors of keys that are named as they must be, but that AWS KMS does not give or sign with.
var ErrKMS = errors.New("AWS KMS")

// kmsRemedies say what to do about answers of KMS.
var kmsRemedies = map[string]string{
	"AccessDeniedException":    "allow kms:GetPublicKey and kms:Sign on this key",
	"DisabledException":        "enable the key with `aws kms enable-key`, or sign with another one",
	"KMSInvalidStateException": "see its KeyState with `aws kms describe-key`, or sign with another one",
	"NotFoundException":        "the ARN must have the key's own region, account and id",
}

// kmsKey is a private key that never leaves KMS, which sees what is signed: a hash of the manifest.
type kmsKey struct {
	ctx       context.Context // of whoever opened it; an ssh.Signer gets none
	client    *kms.Client
	arn       string
	public    ssh.PublicKey
	algorithm types.SigningAlgorithmSpec
}

// kmsAlgorithms are by the type of the key.
var kmsAlgorithms = map[string]types.SigningAlgorithmSpec{
	ssh.KeyAlgoED25519:  types.SigningAlgorithmSpecEd25519Sha512,
	ssh.KeyAlgoECDSA256: types.SigningAlgorithmSpecEcdsaSha256,
}

// openKMS returns the key of an ARN. Requests go to the region in the ARN, with the credentials of the SDK's chain.
func openKMS(ctx context.Context, name string) (ssh.Signer, error) {
	at, err := arn.Parse(name)
	if err != nil || at.Service != "kms" || at.Region == "" || !strings.HasPrefix(at.Resource, "key/") && !strings.HasPrefix(at.Resource, "alias/") {
		return nil, errors.New("it must be the ARN of a key or of an alias: awskms:arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	cfg, err := credentials.Load(ctx, config.WithRegion(at.Region))
	if err != nil {
		return nil, fmt.Errorf("%w: load AWS configuration: %w", ErrKMS, err)
	}

	k := &kmsKey{ctx: ctx, client: kms.NewFromConfig(cfg)}
	limited, cancel := context.WithTimeout(ctx, kmsLimit)
	defer cancel()
	out, err := k.client.GetPublicKey(limited, &kms.GetPublicKeyInput{KeyId: &name})
	if _, symmetric := errors.AsType[*types.UnsupportedOperationException](err); symmetric {
		return nil, errors.New("it is no key that signs: " + kmsMake)
	}
	if err != nil {
		return nil, explainKMS("GetPublicKey", err)
	}
	if out.KeyUsage != types.KeyUsageTypeSignVerify {
		return nil, fmt.Errorf("it is a key for %s, not for SIGN_VERIFY: %s", out.KeyUsage, kmsMake)
	}
	if k.public, err = kmsPublic(out.PublicKey); err != nil || kmsAlgorithms[k.public.Type()] == "" {
		return nil, fmt.Errorf("it is a key of the spec %s, which hosts do not accept: %s", out.KeySpec, kmsMake)
	}
	k.algorithm = kmsAlgorithms[k.public.Type()]
	k.arn = name
	if out.KeyId != nil { // the alias may name another key by the time that one signs
		k.arn = *out.KeyId
	}

	return k, nil
}

const kmsMake = "make one with `aws kms create-key --key-usage SIGN_VERIFY --key-spec ECC_NIST_EDWARDS25519`"

func kmsPublic(der []byte) (ssh.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}

	return ssh.NewPublicKey(key)
}

// PublicKey is part of ssh.Signer.
func (k *kmsKey) PublicKey() ssh.PublicKey { return k.public }

// Sign is part of ssh.Signer. The data of an SSHSIG has about 120 bytes; KMS takes 4,096 raw ones.
func (k *kmsKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	limited, cancel := context.WithTimeout(k.ctx, kmsLimit)
	defer cancel()
	out, err := k.client.Sign(limited, &kms.SignInput{KeyId: &k.arn, Message: data, MessageType: types.MessageTypeRaw, SigningAlgorithm: k.algorithm})
	if err != nil {
		return nil, explainKMS("Sign", err)
	}
	signature := &ssh.Signature{Format: k.public.Type(), Blob: out.Signature}
	if signature.Format == ssh.KeyAlgoECDSA256 { // in ASN.1; OpenSSH has the same two numbers otherwise
		var numbers struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(out.Signature, &numbers); err != nil {
			return nil, fmt.Errorf("%w: its signature cannot be read: %w", ErrKMS, err)
		}
		signature.Blob = ssh.Marshal(numbers)
	}

	return signature, nil
}

// explainKMS returns an error of KMS as a sentence.
func explainKMS(operation string, err error) error {
	answer, answered := errors.AsType[smithy.APIError](err)
	if !answered {
		return fmt.Errorf("%w: %w", ErrKMS, err)
	}
	text := answer.ErrorCode() + " at " + operation
	if message := answer.ErrorMessage(); message != "" {
		text += ", " + strings.TrimSuffix(message, ".")
	}
	if remedy := kmsRemedies[answer.ErrorCode()]; remedy != "" {
		text += ": " + remedy
	}

	return fmt.Errorf("%w: %s", ErrKMS, text)
}
