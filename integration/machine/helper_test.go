package machine

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"
)

type child struct {
	cmd *exec.Cmd
	out io.Reader
}

// helper runs the test that calls it in a process of its own, with MACHINE_TEST_DIES set; it reads
// from what that prints.
func helper(t *testing.T) child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "MACHINE_TEST_DIES=1")
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return child{cmd, bufio.NewReader(out)}
}
