// Package moto starts the real moto_server for a test: an AWS written by others, to test against beside
// awsfake and to keep awsfake honest.
//
// It promises a server of the test's own on an unused port of 127.0.0.1, which answers when Start
// returns and is gone, with every process it started, when the test ends. A missing moto_server skips
// the test, or fails it where NPCNIX_REQUIRE_ALL is set.
package moto

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startLimit bounds how long the server may take to answer its first request.
const startLimit = 60 * time.Second

// Start starts moto_server with further environment ("NAME=value") and returns its endpoint, a URL without
// a slash at its end. The program is $NPCNIX_MOTO_SERVER, else moto_server on PATH, else
// .cache/moto/bin/moto_server in the root of the repository, that is in the working directory or one above it.
func Start(t testing.TB, env ...string) (endpoint string) {
	t.Helper()
	program, err := find()
	if err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", "0")
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "PYTHONUNBUFFERED=1")
	// Its own process group, so that whatever it starts can be ended with it; and should the test binary
	// be killed, the kernel ends the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithTest(cmd.SysProcAttr)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatalf("start moto_server: %v", err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start moto_server: %v", err)
	}
	announced := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		watch(log, announced)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself
		<-drained
		_ = cmd.Wait() // "signal: killed" is what was asked for
	})

	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	select {
	case endpoint = <-announced:
	case <-ctx.Done():
	}
	if endpoint == "" {
		t.Fatalf("%s did not say where it listens: run it yourself to see why", program)
	}
	if err := answers(ctx, endpoint); err != nil {
		t.Fatalf("start moto_server: %v", err)
	}
	return endpoint
}

// PutsInTurn passes PUTs on one after the other. moto compares the ETag and writes in two steps, so that of two PUTs at
// once over the same version both can succeed. S3 lets one succeed (Amazon S3 User Guide, conditional writes).
func PutsInTurn(next http.Handler) http.Handler {
	var mu sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			mu.Lock()
			defer mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// running is what the server says once it listens.
var running = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// watch reads the server's log to its end, announces its endpoint, and closes announced when the log ends
// without one.
func watch(log io.Reader, announced chan<- string) {
	defer close(announced)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if found := running.FindStringSubmatch(lines.Text()); found != nil {
			announced <- found[1]
			break
		}
	}
	_, _ = io.Copy(io.Discard, log) // it logs every request, and would block on a full pipe
}

// answers waits for the answer to one request.
func answers(ctx context.Context, endpoint string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/moto-api/data.json", nil)
	if err != nil {
		return fmt.Errorf("ask whether it runs: %w", err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("ask whether it runs: %w", err)
	}
	_ = response.Body.Close() // nothing was written
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask whether it runs: it answers %s", response.Status)
	}
	return nil
}

// find returns the program to start.
func find() (string, error) {
	if program := os.Getenv("NPCNIX_MOTO_SERVER"); program != "" {
		path, err := exec.LookPath(program)
		if err != nil {
			return "", fmt.Errorf("find moto_server as NPCNIX_MOTO_SERVER says: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("moto_server"); err == nil {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find moto_server: %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if path, err := exec.LookPath(filepath.Join(dir, ".cache", "moto", "bin", "moto_server")); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no moto_server: run make test, which installs it, or put it on PATH (pip install 'moto[server]')")
}
