// Package kmsfake is a stand-in for the two requests of AWS KMS that sign a release, GetPublicKey and Sign.
//
// moto_server has no ed25519 keys; with P-256 the real client is tested against moto. What this package
// answers follows the API reference: the errors' codes, the region that a request must be signed for, the
// 4,096 bytes of a message, and RAW, which is the only type of message for ED25519_SHA_512.
package kmsfake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
)

// Region is where all keys are.
const Region = "eu-west-1"

// maxMessage is the most that Sign takes, in bytes.
const maxMessage = 4096

// ARN is that of the key of this name: ed25519, p256, disabled, deleted, forbidden, agreement, symmetric, p384
// or broken, which signs wrongly.
func ARN(name string) string { return "arn:aws:kms:" + Region + ":111122223333:key/" + name }

type key struct {
	spec, usage, algorithm string
	private                crypto.Signer
	refusal                string // code of the error that all requests get
}

// KMS is a running stand-in. Close it.
type KMS struct {
	*httptest.Server
	keys map[string]key // by ARN
}

// Start starts a stand-in that has a key of each name.
func Start() (*KMS, error) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	nist, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	signs := key{spec: "ECC_NIST_EDWARDS25519", usage: "SIGN_VERIFY", algorithm: "ED25519_SHA_512", private: edwards}
	but := func(refusal string) key { k := signs; k.refusal = refusal; return k }
	agreement := key{spec: "ECC_NIST_P256", usage: "KEY_AGREEMENT", private: nist}
	k := &KMS{keys: map[string]key{
		ARN("ed25519"):   signs,
		ARN("p256"):      {spec: "ECC_NIST_P256", usage: "SIGN_VERIFY", algorithm: "ECDSA_SHA_256", private: nist},
		ARN("p384"):      {spec: "ECC_NIST_P384", usage: "SIGN_VERIFY", private: large},
		ARN("agreement"): agreement,
		ARN("disabled"):  but("DisabledException"),
		ARN("deleted"):   but("KMSInvalidStateException"),
		ARN("forbidden"): but("AccessDeniedException"),
		ARN("symmetric"): but("UnsupportedOperationException"),
		ARN("broken"):    signs,
	}}
	k.Server = httptest.NewServer(http.HandlerFunc(k.serve))

	return k, nil
}

// Env has a process use the stand-in, for KMS alone.
func (k *KMS) Env() []string {
	return []string{"AWS_ENDPOINT_URL_KMS=" + k.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true"}
}

type request struct {
	KeyId, MessageType, SigningAlgorithm string
	Message                              []byte
}

func (k *KMS) serve(w http.ResponseWriter, hr *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	var r request
	if err := json.NewDecoder(hr.Body).Decode(&r); err != nil {
		refuse(w, "SerializationException", err.Error())
		return
	}
	key, known := k.keys[r.KeyId]
	switch signedFor := "/" + Region + "/kms/aws4_request"; {
	case !known || !strings.Contains(hr.Header.Get("Authorization"), signedFor):
		refuse(w, "NotFoundException", fmt.Sprintf("Key '%s' does not exist", r.KeyId))
	case key.refusal != "":
		refuse(w, key.refusal, r.KeyId+" is refused.")
	case hr.Header.Get("X-Amz-Target") == "TrentService.GetPublicKey":
		public, err := x509.MarshalPKIXPublicKey(key.private.Public())
		answer(w, map[string]any{"KeyId": r.KeyId, "KeySpec": key.spec, "KeyUsage": key.usage, "PublicKey": public}, err)
	case hr.Header.Get("X-Amz-Target") == "TrentService.Sign":
		k.sign(w, r, key)
	default:
		refuse(w, "UnknownOperationException", "")
	}
}

func (k *KMS) sign(w http.ResponseWriter, r request, key key) {
	if r.SigningAlgorithm != key.algorithm || r.MessageType != "RAW" || len(r.Message) == 0 || len(r.Message) > maxMessage {
		refuse(w, "ValidationException", fmt.Sprintf("%s of %d bytes by %s", r.MessageType, len(r.Message), r.SigningAlgorithm))
		return
	}
	message, hash := r.Message, crypto.Hash(0)
	if key.algorithm == "ECDSA_SHA_256" {
		sum := sha256.Sum256(message)
		message, hash = sum[:], crypto.SHA256
	}
	if r.KeyId == ARN("broken") {
		message = append(message, 0)
	}
	signature, err := key.private.Sign(rand.Reader, message, hash)
	answer(w, map[string]any{"KeyId": r.KeyId, "Signature": signature, "SigningAlgorithm": r.SigningAlgorithm}, err)
}

func answer(w http.ResponseWriter, members map[string]any, err error) {
	if err == nil {
		err = json.NewEncoder(w).Encode(members)
	}
	if err != nil {
		refuse(w, "KMSInternalException", err.Error())
	}
}

func refuse(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}
