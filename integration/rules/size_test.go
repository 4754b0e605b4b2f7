package rules

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A program that can look up a method by its name has all methods of all types, that is each of S3's and SNS's
// operations: it was 9 MiB larger, and 4 MiB more of it was resident while the agent waits. text/template does so.
func TestTheProgramHasOnlyTheMethodsThatItCalls(t *testing.T) {
	program := filepath.Join(t.TempDir(), "npcnix")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/npcnix").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	symbols, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	const called, never = "service/s3.(*Client).GetObject", "service/s3.(*Client).PutBucketAcl"
	if !strings.Contains(string(symbols), called+"\n") {
		t.Errorf("%s is not there: this test shows nothing", called)
	}
	if strings.Contains(string(symbols), never+"\n") {
		t.Errorf("%s is there: `go build -ldflags=-dumpdep ./cmd/npcnix 2>&1 | grep ReflectMethod` tells what the linker keeps it for", never)
	}
}
