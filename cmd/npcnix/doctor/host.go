package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/agent/health"
)

// The least free space that a host needs. A small system's closure is about 1 GiB, and a new version adds a
// part of that; the data directory holds an unpacked flake and logs.
const (
	leastStore = 2 << 30
	leastData  = 100 << 20
)

// links are those of this host.
func (h *Host) links(_ context.Context, o Options) []func(context.Context) Finding {
	p, running, err := health.Read(h.Dir)
	links := []func(context.Context) Finding{
		func(context.Context) Finding { return h.agent(p, running, err) },
	}
	part := func(name health.Code, link, does, fix string) {
		links = append(links, func(context.Context) Finding { return judgePart(p, running && err == nil, name, link, does, fix) })
	}
	part(health.Store, "can read", "the agent reads the remote",
		"give the host's role s3:GetObject on the remote. If it is refused for its credentials: the agent follows a change of their file by itself; "+
			"see which it uses with `systemctl show npcnix -p Environment`")
	if o.QueueURL != "" {
		part(health.Queue, "can receive", "the agent receives from its queue",
			"give the host's role sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility on its queue, as the Terraform module host_policy does")
	}
	part(health.Record, "can record", "the agent writes its acknowledgement record",
		"give the host's role s3:PutObject on its own record, KEY.acks/HOST.json, as the Terraform module host_policy does")
	return append(links, nixWorks, h.storeSpace, h.dataSpace, h.system)
}

// agent says whether the agent is running.
func (h *Host) agent(p health.Health, running bool, err error) Finding {
	const link = "agent"
	switch {
	case h.Config.Configuration == "":
		return wrong(link, "no configuration is set, so there is nothing to run", "`npcnix config set configuration NAME`")
	case err != nil && running:
		return unknown(link, "it is running, but its health cannot be read: "+err.Error(), "run the doctor as root")
	case err != nil:
		return unknown(link, "whether it is running is unknown: "+err.Error(), "run the doctor as root")
	case !running:
		return wrong(link, "it is not running", "`systemctl start npcnix`, and see `journalctl -u npcnix`; without the unit, `npcnix follow`")
	case p.TransientError != "":
		return wrong(link, "it meets a transient error: "+p.TransientError, "see what the error says; it goes on by itself when that is over")
	case h.Config.Paused.Active(time.Now()):
		return ok(link, "it is running as process %d, and is %s", p.PID, h.Config.Paused)
	}
	return ok(link, "it is running as process %d", p.PID)
}

// judgePart says what the running agent knows about a permission. To try it here would disturb messages or
// records.
func judgePart(p health.Health, running bool, name health.Code, link, does, fix string) Finding {
	state, tried := p.Parts[name]
	switch {
	case !running:
		return unknown(link, "only a running agent can tell without side effects, and none is running", "start the agent, and run the doctor again")
	case !tried:
		return unknown(link, "the agent has not tried it yet", "run the doctor again in half a minute")
	case !state.Works:
		if strings.Contains(state.Error, "NonExistentQueue") || strings.Contains(state.Error, "QueueDoesNotExist") {
			fix = noQueueFix
		}
		return wrong(link, fmt.Sprintf("not since %s: %s", state.Since.UTC().Format(time.RFC3339), state.Error), fix)
	}
	return ok(link, "%s", does)
}

// nixVersion is at the end of the version text of nix and its descendants.
var nixVersion = regexp.MustCompile(`(\d+)\.(\d+)\S*$`)

// nixWorks says whether nix is installed, new enough and has flakes, called as npcnix calls it.
func nixWorks(ctx context.Context) Finding {
	const link = "nix"
	path, err := exec.LookPath("nix")
	if err != nil {
		return wrong(link, "nix is not on PATH", "install nix, or start npcnix with its folder in PATH")
	}
	out, err := output(ctx, path, "--version")
	if err != nil {
		return wrong(link, "nix does not start: "+err.Error(), "fix the installation of nix")
	}
	m := nixVersion.FindStringSubmatch(out)
	if m == nil {
		return unknown(link, "nix's version cannot be read: "+out, "")
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < 2 || major == 2 && minor < 8 {
		return wrong(link, out+" is too old", "install nix 2.8 or later")
	}
	flakes, err := output(ctx, path, "--extra-experimental-features", "nix-command flakes", "eval", "--raw", "--expr",
		`if builtins ? getFlake then "yes" else "no"`)
	if err != nil {
		return wrong(link, out+" cannot evaluate: "+err.Error(), "see the error: the daemon, nix.conf, or permissions")
	}
	if flakes != "yes" {
		return wrong(link, out+" has no flakes, even with the experimental feature", "install a nix with flakes")
	}
	return ok(link, "%s, with flakes", out)
}

// output is what a program prints, on one line; the error has the end of its stderr.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		if last := strings.Join(strings.Fields(complaint.String()), " "); last != "" {
			err = errors.New(last[max(0, len(last)-300):])
		}
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
}

func (h *Host) storeSpace(context.Context) Finding {
	dir := h.Store
	if dir == "" {
		dir = "/nix/store"
	}
	return space("store disk", dir, leastStore, "`nix-collect-garbage`, keep_generations, or a bigger disk")
}

func (h *Host) dataSpace(context.Context) Finding {
	return space("data disk", string(h.Dir), leastData, "free some space, or move the data directory")
}

// space says whether a directory's file system has enough free space.
func space(link, dir string, least uint64, fix string) Finding {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); errors.Is(err, fs.ErrNotExist) {
		return wrong(link, "there is no "+dir, "install nix, and set the host up with `npcnix install`")
	} else if err != nil {
		return unknown(link, fmt.Sprintf("the free space of %s is unknown: %v", dir, err), "")
	}
	free := s.Bavail * uint64(s.Bsize)
	switch {
	case free < least:
		return wrong(link, fmt.Sprintf("%s has %s free, less than %s", dir, bytesText(free), bytesText(least)), fix)
	case s.Files > 0 && s.Ffree < 10_000:
		return wrong(link, fmt.Sprintf("%s has room for only %d more files", dir, s.Ffree), fix)
	}
	return ok(link, "%s has %s free", dir, bytesText(free))
}

func bytesText(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// system says whether npcnix can switch this machine.
func (h *Host) system(context.Context) Finding {
	const link = "system"
	system, err := filepath.EvalSymlinks(h.CurrentSystem)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong(link, "there is no "+h.CurrentSystem+": this is not NixOS", "run npcnix on NixOS")
	}
	if err != nil {
		return unknown(link, err.Error(), "run the doctor as root")
	}
	if _, err := os.Stat(filepath.Join(system, "bin", "switch-to-configuration")); err != nil {
		return wrong(link, system+" has no bin/switch-to-configuration, so npcnix cannot switch from it", "run npcnix on NixOS with system.switch.enable")
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return ok(link, "%s runs without systemd: an activation is a process of its own, which ends with its container", system)
	}
	return ok(link, "%s runs with systemd", system)
}
