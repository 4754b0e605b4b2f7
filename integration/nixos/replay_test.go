package nixos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEveryFlushOfAnActivationLeavesWhatBoots records what a virtual machine writes to its disk while its agent takes a
// version with another kernel. Then it looks at the disk as it would be after a loss of power: after each flush, and
// with a random half of what was written until the next. The boot loader finds an entry whose kernel and initrd are
// whole, what that boots is whole in the nix store, and the agent's files can be read. NPCNIX_TEST_EACH looks at one
// in so many flushes.
func TestEveryFlushOfAnActivationLeavesWhatBoots(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_FIRMWARE") == "" {
		t.Skip("NPCNIX_TEST_FIRMWARE is not set: make matrix")
	}
	seed, each := uint64(time.Now().UnixNano()), 1
	number(t, "NPCNIX_TEST_SEED", &seed)
	number(t, "NPCNIX_TEST_EACH", &each)
	random := rand.New(rand.NewPCG(seed, 0))
	v := newVirtual(t, `services.npcnix.reboot = "never";`, `systemd.services.web.serviceConfig.ExecStart = "/bin/sleep 1000001";`)
	base, path := filepath.Join(v.dir, "base"), filepath.Join(v.dir, "log")
	clone(t, v.disk, base)
	v.start(path)
	v.await("booted zero")
	v.await("applied")
	v.cut()
	log, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	writes, err := readLog(log)
	if err != nil {
		t.Fatal(err)
	}
	counts := &tally{n: map[string]int{}}
	r := replay{t: t, dir: t.TempDir(), base: base, log: log, counts: counts}
	flushes := 0
	for i, w := range writes {
		r.write(base, w)
		if !w.barrier() {
			continue
		}
		if flushes++; flushes%each != 0 {
			continue
		}
		r.look(fmt.Sprintf("after flush %d", flushes), "a flush", nil)
		var half []write
		for _, later := range writes[i+1:] {
			if later.barrier() {
				break
			}
			if random.IntN(2) == 0 {
				half = append(half, later)
			}
		}
		r.look(fmt.Sprintf("after flush %d and %d later writes", flushes, len(half)), "half of what follows", half)
	}
	report := fmt.Sprintf("replayed disks by what they had, the phase, and what boots: %d writes, %d flushes, one in %d tried (NPCNIX_TEST_SEED=%d):\n%s\n", len(writes), flushes, each, seed, counts)
	t.Log(report)
	if err := os.WriteFile("../../.cache/replay", []byte(report), 0o644); err != nil { // for make matrix
		t.Error(err)
	}
}

// replay looks at disks that a machine could have been left with.
type replay struct {
	t         *testing.T
	dir, base string
	log       *os.File
	counts    *tally
}

func (r replay) write(path string, writes ...write) {
	r.t.Helper()
	disk, err := os.OpenFile(path, os.O_WRONLY, 0)
	for _, w := range writes {
		if err == nil {
			err = w.apply(disk, r.log)
		}
	}
	if err == nil {
		err = disk.Close()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// look looks at the disk of base with some more writes.
func (r replay) look(what, kind string, later []write) {
	r.t.Helper()
	disk, root := filepath.Join(r.dir, "disk"), filepath.Join(r.dir, "root")
	clone(r.t, r.base, disk)
	r.write(disk, later...)
	if err := os.MkdirAll(root, 0o755); err != nil {
		r.t.Fatal(err)
	}
	out, err := exec.Command("unshare", "--mount", "./inspect.sh", disk, root).CombinedOutput()
	_, found, ok := strings.Cut(string(out), "found: ")
	if err != nil || !ok {
		r.t.Errorf("%s: %v\n%s", what, err, out)
		found = "damaged"
	}
	r.counts.add(fmt.Sprintf("%-21s %s", kind, strings.TrimSpace(found)))
}

// clone copies a file, and leaves out its holes.
func clone(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "--sparse=always", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
