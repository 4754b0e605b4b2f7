package newcomer

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/npcnix/npcnix/integration/moto"
)

// A new user's day: every block of every page, in order, in one empty root.
func TestNewcomer(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_NEWCOMER") == "" {
		t.Skip("minutes, and a network: make newcomer")
	}
	base, err := filepath.Abs(filepath.Join(repository, ".cache", "newcomer", "trixie"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(base, "bin", "bash")); err != nil || os.Geteuid() != 0 {
		t.Fatalf("as root, run integration/deps.sh newcomer: %v", err)
	}
	aws := moto.Start(t)
	put(t, aws+"/my-fleet", "")
	put(t, aws+"/my-fleet?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
	disk := t.TempDir()
	typed := write(t, filepath.Join(disk, "upper"))
	run(t, base, disk, aws)

	for _, name := range typed {
		t.Run(fmt.Sprintf("%s:%d", name.page, name.line), func(t *testing.T) {
			dir := filepath.Join(disk, "upper", "newcomer", name.name)
			out, _ := os.ReadFile(dir + ".out") // "" where it was not reached
			code, err := os.ReadFile(dir + ".rc")
			if err != nil || string(code) != "0\n" {
				t.Fatalf("%s\nends with %q: %v\n%s", name.text, code, err, out)
			}
			if err := shows(name.output, string(out)); err != nil {
				t.Errorf("%s\n%v\nit printed:\n%s", name.text, err, out)
			}
		})
	}
}

// put asks the server for a bucket, or for something of it.
func put(t *testing.T, url, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // a bucket has no answer
	if response.StatusCode != http.StatusOK {
		t.Fatalf("put %s: %s", url, response.Status)
	}
}

// step is a block that runs, and the name of its files.
type step struct {
	block
	name string
}

// write puts the repository and a script of all that is typed into the root, as /root/npcnix and /newcomer.
func write(t *testing.T, upper string) (steps []step) {
	t.Helper()
	source, dir := filepath.Join(upper, "root", "npcnix"), filepath.Join(upper, "newcomer")
	for _, made := range []string{source, dir} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clone := exec.Command("bash", "-euo", "pipefail", "-c",
		`git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --target-directory="$1"`, "clone", source)
	clone.Dir = repository
	if out, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("copy the repository: %v\n%s", err, out)
	}
	var all strings.Builder
	for _, page := range pages(t) {
		all.WriteString("(cd /root/npcnix\n") // each page begins in a shell of its own
		for _, b := range blocks(t, page) {
			if i := slices.IndexFunc(rows, func(r row) bool { return r.names(b) && r.why != "" }); i >= 0 {
				continue
			}
			s := step{block: b, name: strconv.Itoa(len(steps) + 1)}
			steps = append(steps, s)
			script(t, &all, filepath.Join(dir, s.name), s)
		}
		all.WriteString(")\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "all.sh"), []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return steps
}

// script adds one step: what the reader does before, and the block. A block is typed into the page's shell. If it is
// a script, it is run as one.
func script(t *testing.T, all *strings.Builder, file string, s step) {
	t.Helper()
	before, text := "", s.text
	if i := slices.IndexFunc(rows, func(r row) bool { return r.names(s.block) }); i >= 0 {
		before = rows[i].before
		if rows[i].replace != "" {
			text = strings.ReplaceAll(text, rows[i].replace, rows[i].with)
		}
	}
	inside := "/newcomer/" + s.name
	typed := ". " + inside + ".sh"
	if strings.HasPrefix(text, "#!") {
		typed = inside + ".sh"
	}
	fmt.Fprintf(all, "echo '%s:%d'\n. %s.before >%[3]s.out 2>&1 && { : >%[3]s.out; %s >>%[3]s.out 2>&1 </dev/null; }; echo $? >%[3]s.rc\n",
		s.page, s.line, inside, typed)
	if err := errors.Join(
		os.WriteFile(file+".before", []byte(before+"\n"), 0o644),
		os.WriteFile(file+".sh", []byte(text), 0o755),
	); err != nil {
		t.Fatal(err)
	}
}

// run runs the script in the root: base, under what is written to disk. Nothing of it outlives the run.
func run(t *testing.T, base, disk, aws string) {
	t.Helper()
	var binds []string
	for inside, variable := range map[string]string{"usr/local/go": "GOROOT", "root/go/pkg/mod": "GOMODCACHE", "root/.cache/go-build": "GOCACHE"} {
		value, err := exec.Command("go", "env", variable).Output()
		if err != nil {
			t.Fatalf("go env %s: %v", variable, err)
		}
		binds = append(binds, strings.TrimSpace(string(value)), inside)
	}
	for _, made := range []string{"work", "root"} {
		if err := os.Mkdir(filepath.Join(disk, made), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inside := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "bash", "-euc", `
base=$1 disk=$2 aws=$3 root=$2/root
shift 3
mount -t overlay -o "lowerdir=$base,upperdir=$disk/upper,workdir=$disk/work" root "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
while [ $# -gt 0 ]; do
  mkdir -p "$root/$2"
  mount --bind "$1" "$root/$2"
  shift 2
done
exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  DEBIAN_FRONTEND=noninteractive GOFLAGS=-buildvcs=false GOPROXY=off \
  AWS_ENDPOINT_URL="$aws" AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \
  NPCNIX_CURRENT_SYSTEM=/run/current-system NIX_CONFIG=$'substituters =\nbuild-users-group =\nsandbox = false' \
  bash /newcomer/all.sh`, "newcomer", base, disk, aws}, binds...)...)
	inside.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	inside.Stdout, inside.Stderr = &out, &out
	if err := inside.Run(); err != nil {
		t.Logf("the root: %v", err) // of the last block, which the steps tell of
	}
	t.Logf("the blocks that were typed:\n%s", &out)
}
