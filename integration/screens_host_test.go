package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// What `status` and `doctor` show on a host that fails, has drifted, or is held by a rollout: see TestScreens.
func TestScreensOfAHost(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(*screenHost){"failed": (*screenHost).fails, "drifted": (*screenHost).drifts, "held": (*screenHost).isHeld} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newScreenHost(t)
			trouble(h)
			for _, width := range []int{80, 120, 200} {
				for _, command := range []string{"status", "doctor"} {
					s := newScreen(t, width, 40)
					s.types("clear; . " + filepath.Join(h.dir, "env") + "; npcnix " + command + "; echo ended with $?")
					golden(t, fmt.Sprintf("%s-%s-%d", command, name, width), h.dir, s)
				}
			}
		})
	}
}

// screenHost is a host with an agent that follows a file.
type screenHost struct {
	t         *testing.T
	dir, salt string
}

func newScreenHost(t *testing.T) *screenHost {
	t.Helper()
	need(t, "nix")
	h := &screenHost{t: t, dir: place(t), salt: "screens"} // whose store paths may be there already
	h.must(os.MkdirAll(filepath.Join(h.dir, "profiles"), 0o755))
	h.must(os.MkdirAll(filepath.Join(h.dir, "root", "run"), 0o755))
	h.must(os.Symlink(npcnix, filepath.Join(h.dir, "npcnix")))
	env := fmt.Sprintf(`cd %[1]s
export PATH=%[1]s:$PATH NPCNIX_DATA_DIR=%[1]s/data NPCNIX_SETTINGS=%[1]s/settings.json NPCNIX_PROFILE=%[1]s/profiles/system
export NPCNIX_CURRENT_SYSTEM=%[1]s/root/%[2]s %[3]s=%[1]s/root XDG_CACHE_HOME=%[1]s/cache NIX_CONFIG=$'%[4]s'
`, h.dir, nixtest.CurrentSystem, nixtest.RootVariable, strings.ReplaceAll(strings.TrimPrefix(nixtest.Env()[0], "NIX_CONFIG="), "\n", `\n`))
	h.must(os.WriteFile(filepath.Join(h.dir, "env"), []byte(env), 0o644))
	h.run("ssh-keygen -q -t ed25519 -N '' -f key && ssh-keygen -q -t ed25519 -N '' -f rollout")
	settings := map[string]any{"remote": "file://" + h.dir + "/dev.npcnix", "configuration": "web1", "host": "web1", "retry_delays_secs": []int{7 * 24 * 3600}}
	for setting, key := range map[string]string{"signers": "key.pub", "rollout_signers": "rollout.pub"} {
		text, err := os.ReadFile(filepath.Join(h.dir, key))
		h.must(err)
		settings[setting] = []string{"ops " + strings.Join(strings.Fields(string(text))[:2], " ")}
	}
	text, err := json.Marshal(settings)
	h.must(err)
	h.must(os.WriteFile(filepath.Join(h.dir, "settings.json"), text, 0o644))
	h.publish(nixtest.System{Version: "one"}, "push --rev one")
	h.run("npcnix follow --once")
	return h
}

func (h *screenHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *screenHost) run(script string) {
	h.t.Helper()
	if out, err := exec.Command("bash", "-c", ". "+h.dir+"/env && "+script).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func (h *screenHost) publish(s nixtest.System, command string) {
	h.t.Helper()
	h.must(nixtest.Flake(filepath.Join(h.dir, "flake"), h.salt, map[string]nixtest.System{"web1": s}))
	h.run("npcnix " + command + " --src flake --remote file://$PWD/dev.npcnix --sign-key key")
}

// follows starts an agent, and waits until the host's record has a status and the agent's health says that it rests.
func (h *screenHost) follows(status string) {
	h.t.Helper()
	agent := exec.Command("bash", "-c", ". "+h.dir+"/env && exec npcnix follow")
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	h.must(agent.Start())
	h.t.Cleanup(func() {
		_ = syscall.Kill(-agent.Process.Pid, syscall.SIGKILL) // it may have ended
		_ = agent.Wait()                                      // so it was asked
	})
	await(h.t, "the record says "+status+", and the agent when it looks next", func() bool {
		var r struct{ Status string }
		var health struct {
			PID  int
			Next time.Time
		}
		return h.reads("dev.npcnix.acks/web1.json", &r) && r.Status == status &&
			h.reads("data/agent.json", &health) && health.PID == agent.Process.Pid && !health.Next.IsZero()
	})
}

// reads tells whether a file is there, and whole.
func (h *screenHost) reads(path string, into any) bool {
	text, err := os.ReadFile(filepath.Join(h.dir, path))
	return err == nil && json.Unmarshal(text, into) == nil
}

func (h *screenHost) fails() {
	h.publish(nixtest.System{Version: "two", BuildFails: true}, "push --rev two")
	h.follows("failed")
}

func (h *screenHost) drifts() {
	h.must(nixtest.Flake(filepath.Join(h.dir, "theirs"), h.salt, map[string]nixtest.System{"web1": {Version: "an operator's"}}))
	h.run("nix --extra-experimental-features 'nix-command flakes' build --out-link built path:$PWD/theirs#nixosConfigurations.web1.config.system.build.toplevel && " +
		"ln -sfn $(readlink built) " + filepath.Join("root", nixtest.CurrentSystem))
	h.follows("drifted")
}

func (h *screenHost) isHeld() {
	other := filepath.Join(h.dir, "dev.npcnix.acks", "canary-1.json")
	h.must(os.WriteFile(other, []byte(`{"schema":2,"host":"canary-1","status":"applied","remote":"file://`+h.dir+`/dev.npcnix"}`), 0o644))
	h.must(nixtest.Flake(filepath.Join(h.dir, "flake"), h.salt, map[string]nixtest.System{"web1": {Version: "two"}}))
	h.run("npcnix rollout --src flake --remote file://$PWD/dev.npcnix --sign-key key --rollout-key rollout --rev two " +
		"--wave 'canary-*' --wave 100% --soak 0s --wave-timeout 1ns --wave-interval 1ms; [ $? = 4 ]")
	h.follows("held")
}
