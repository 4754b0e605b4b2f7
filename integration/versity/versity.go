// Package versity starts the real versitygw for a test: an S3 written by others, which checks signatures
// and keeps objects as files.
//
// It promises a server of the test's own on an unused port of 127.0.0.1, which answers when Start returns
// and is gone when the test ends. A missing versitygw skips the test, or fails it where NPCNIX_REQUIRE_ALL
// is set.
package versity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// startLimit bounds how long the server may take to answer its first request.
const startLimit = 60 * time.Second

// Server is a versitygw that runs.
type Server struct {
	URL string // without a slash at its end
	CA  string // file with the certificate to trust; empty without TLS
}

// The credentials that the server takes. It checks every request's signature.
const (
	AccessKey = "test"
	SecretKey = "test"
)

// Start starts a server that speaks plain HTTP, StartTLS one that speaks TLS with a certificate of its own.
func Start(t testing.TB) Server    { return start(t, false) }
func StartTLS(t testing.TB) Server { return start(t, true) }

func start(t testing.TB, secure bool) Server {
	t.Helper()
	program, err := find()
	if err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, sub := range []string{"objects", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	address, err := unused()
	if err != nil {
		t.Fatal(err)
	}
	s := Server{URL: "http://" + address}
	args := []string{"--port", address, "--access", AccessKey, "--secret", SecretKey, "--keep-alive", "--quiet"}
	if secure {
		s.URL, s.CA = "https://"+address, filepath.Join(dir, "cert.pem")
		key := filepath.Join(dir, "key.pem")
		if err := certify(s.CA, key); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--cert", s.CA, "--key", key)
	}
	// Metadata is in extended attributes of the objects: in a directory beside them (--sidecar), an object
	// and its ETag are not replaced at once.
	args = append(args, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "objects"))
	run(t, program, args)
	if err := s.answers(t.Context()); err != nil {
		t.Fatalf("start versitygw: %v", err)
	}
	return s
}

func run(t testing.TB, program string, args []string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stderr = os.Stderr
	// Should the test binary be killed, the kernel ends the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start versitygw: %v", err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
		_ = cmd.Wait()                                      // "signal: killed" is what was asked for
	})
}

// unused returns an address to listen on.
func unused() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// answers waits for the answer to one request, whatever it says.
func (s Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/", nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err == nil {
			return answer.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// certify writes a certificate for 127.0.0.1 that signs itself, and its key.
func certify(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "versitygw"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// find returns the program to start: $NPCNIX_VERSITYGW, or .cache/versitygw/versitygw in the root of the
// repository, that is in the working directory or one above it.
func find() (string, error) {
	if program := os.Getenv("NPCNIX_VERSITYGW"); program != "" {
		path, err := exec.LookPath(program)
		if err != nil {
			return "", fmt.Errorf("find versitygw as NPCNIX_VERSITYGW says: %w", err)
		}
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find versitygw: %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if path, err := exec.LookPath(filepath.Join(dir, ".cache", "versitygw", "versitygw")); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no versitygw: run make test, which builds it, or name it by NPCNIX_VERSITYGW")
}
