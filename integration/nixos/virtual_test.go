package nixos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "embed"

	"github.com/npcnix/npcnix/integration/machine"
)

var (
	//go:embed disk.sh
	diskScript string
	//go:embed scenario.sh
	scenarioScript string
)

const ovmf = "/usr/share/OVMF/OVMF_"

// virtual is a virtual machine of qemu: OVMF is its firmware, and its disk has an ESP with systemd-boot and the root of
// a host whose agent has applied the version zero. At its boot it publishes the version one to itself, and says on
// its console what becomes of it: see scenario.sh.
type virtual struct {
	t    testing.TB
	dir  string
	disk string
	qemu *exec.Cmd
	off  chan struct{}
	seen int // bytes of the console
}

// newVirtual makes the disk of a machine whose systems have some more settings, and its version one a change. (The
// Rust switch-to-configuration gives systemd five seconds for an answer; an emulated one takes longer.)
func newVirtual(t testing.TB, settings, change string) *virtual {
	t.Helper()
	boot := bootFiles(t)
	v := &virtual{t: t, dir: t.TempDir()}
	v.disk = filepath.Join(v.dir, "disk")
	base := `{
		test = { loader = "systemd-boot"; bootFiles = "/opt/boot"; kernelParams = "console=ttyS0 quiet panic=1 lsm=capability mitigations=off systemd.getty_auto=no systemd.mask=systemd-modules-load.service"; };
		systemd.services.scenario = { wantedBy = [ "multi-user.target" ]; serviceConfig.ExecStart = "/usr/lib/npcnix/scenario"; restartIfChanged = false; };
		services.npcnix.verifyTimeoutSecs = 600; # it is slow
		` + settings + `
	}`
	h := New(t, Options{
		Suite: "trixie", Flavour: Perl2022, Agent: agentBinary, Module: Module(t), Base: base,
		Files: map[string]string{"/usr/lib/npcnix/scenario": scenarioScript}, Binds: map[string]string{"/opt/boot": boot},
	})
	if err := h.flake(filepath.Join(h.flakes, "one"), "one", `{ test.kernel = "6.2"; `+change+` }`); err != nil {
		t.Fatal(err)
	}
	// Debian's is none of a system's. Each switch would have systemd replace itself, which takes a minute when emulated.
	h.Must("rm", "/etc/systemd/system.conf")
	h.Must("sync")
	h.Kill()
	if err := h.Image("bash", "-euc", diskScript, "disk", v.disk); err != nil {
		t.Fatal(err)
	}
	return v
}

// bootFiles makes the folder of a kernel and an initrd that firmware can start.
func bootFiles(t testing.TB) string {
	t.Helper()
	parts := filepath.Join(machine.Root(t), ".cache", "firmware")
	for _, path := range []string{ovmf + "CODE_4M.fd", filepath.Join(parts, "vmlinuz"), "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"} {
		if _, err := os.Stat(path); err != nil {
			machine.Lacks(t, fmt.Errorf("no firmware: %w. Run integration/deps.sh firmware", err))
		}
	}
	dir := t.TempDir()
	init := exec.Command("go", "build", "-o", filepath.Join(dir, "init"), "./stage1")
	init.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("build stage 1: %v\n%s", err, out)
	}
	files := map[string]string{"init": filepath.Join(dir, "init")}
	modules, err := filepath.Glob(filepath.Join(parts, "modules", "*.ko"))
	if err != nil || len(modules) == 0 {
		t.Fatalf("no modules in %s: %v", parts, err)
	}
	for _, module := range modules {
		files["modules/"+filepath.Base(module)] = module
	}
	initrd, err := archive(files)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "initrd"), initrd, 0o644)
	}
	var kernel []byte
	if err == nil {
		kernel, err = os.ReadFile(filepath.Join(parts, "vmlinuz"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "vmlinuz"), kernel, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// archive packs files as the kernel wants its initrd (initramfs buffer format: cpio's newc).
func archive(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	number := 0
	add := func(name string, mode int, content []byte) {
		number++
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
			number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&3))
	}
	add("modules", 0o40755, nil)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		content, err := os.ReadFile(files[name])
		if err != nil {
			return nil, err
		}
		add(name, 0o100755, content)
	}
	add("TRAILER!!!", 0, nil)
	return b.Bytes(), nil
}

// start switches the machine on. What it writes to its disk is logged to a file, if one is given.
func (v *virtual) start(log string) {
	v.t.Helper()
	vars, err := os.ReadFile(ovmf + "VARS_4M.fd")
	if err == nil {
		err = os.WriteFile(filepath.Join(v.dir, "vars"), vars, 0o644)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	args := []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-nodefaults", "-display", "none", "-nic", "none",
		"-serial", "file:" + v.console(),
		"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmf + "CODE_4M.fd",
		"-drive", "if=pflash,format=raw,file=" + filepath.Join(v.dir, "vars"),
		"-blockdev", "driver=file,node-name=file,cache.direct=off,filename=" + v.disk,
	}
	node := "file"
	if log != "" {
		if err := os.WriteFile(log, nil, 0o644); err != nil { // qemu does not make it
			v.t.Fatal(err)
		}
		node = "logged"
		args = append(args, "-blockdev", "driver=file,node-name=log,filename="+log, "-blockdev", "driver=blklogwrites,node-name=logged,file=file,log=log")
	}
	args = append(args, "-device", "nvme,serial=disk,drive="+node)
	v.qemu = exec.Command("qemu-system-x86_64", args...)
	var out bytes.Buffer
	v.qemu.Stdout, v.qemu.Stderr = &out, &out
	if err := v.qemu.Start(); err != nil {
		v.t.Fatal(err)
	}
	v.off = make(chan struct{})
	go func() {
		_ = v.qemu.Wait()
		close(v.off)
	}()
	v.t.Cleanup(func() {
		v.cut()
		if v.t.Failed() {
			console, _ := os.ReadFile(v.console())
			v.t.Logf("qemu: %s\nconsole:\n%s", &out, console)
		}
	})
}

// cut switches the machine off, as a loss of power does. Its disk has no memory of its own to lose: qemu's writes are this
// machine's.
func (v *virtual) cut() {
	_ = v.qemu.Process.Kill()
	<-v.off
}

func (v *virtual) console() string { return filepath.Join(v.dir, "console") }

// await waits until the machine says something, and returns the rest of that line. Emulated machines are slow.
func (v *virtual) await(what string) string {
	v.t.Helper()
	give := time.After(20 * time.Minute)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		console, _ := os.ReadFile(v.console())
		if at := bytes.Index(console[v.seen:], []byte("scenario: "+what)); at >= 0 {
			line, _, whole := bytes.Cut(console[v.seen+at:], []byte("\n"))
			if whole {
				v.seen += at + len(line)
				return strings.TrimSpace(string(line))
			}
		}
		select {
		case <-look.C:
		case <-give:
			v.t.Fatalf("the virtual machine does not say %q", what)
		case <-v.off:
			v.t.Fatalf("the virtual machine is off before it says %q", what)
		}
	}
}
