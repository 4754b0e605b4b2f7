package integration

import (
	"os"
	"strings"
	"testing"
)

const installedAlready = "npcnix-install: npcnix is installed already; nothing to do"

// newInstalledMachine has been installed by boot.sh, with all settings that user data can tell. Its npcnix
// notes its arguments, and fails where the file refuse has the name of the setting.
func newInstalledMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.write("bin/npcnix", `#!/bin/sh
printf 'npcnix' >>"$TRACE"; for a; do printf ' <%s>' "$a" >>"$TRACE"; done; echo >>"$TRACE"
if [ "$3" = "$(cat "$DIR/refuse" 2>/dev/null)" ]; then echo 'npcnix: refused' >&2; exit 2; fi
`)
	m.must(os.Chmod(m.path("bin", "npcnix"), 0o755))
	m.set += "remote_region=eu-central-1 queue_url=https://sqs/1/dev-web1 host=web1\n"
	m.boots(0, "nix")
	return m
}

func TestBootSettings(t *testing.T) {
	t.Run("what user data has changed is taken over once, and only that", takesOverChanges)
	t.Run("the settings of a host whose user data it does not know are left alone", leavesUnknownHosts)
	t.Run("what user data said before the first script changed it is known", knowsFirstUserData)
	t.Run("settings are taken over also where a last script is still to run", takesOverBeforeLastScript)
}

func takesOverChanges(t *testing.T) {
	m := newInstalledMachine(t)
	m.says(m.boots(0), installedAlready)

	m.set += "remote_url='s3://b/n/pr od.npcnix' queue_url='https://sqs/1?a=$(b)' host=\n"
	m.says(m.boots(0, "npcnix_<config>_<set>_<remote>_<s3://b/n/pr_od.npcnix>",
		"npcnix_<config>_<set>_<queue-url>_<https://sqs/1?a=$(b)>", "npcnix_<config>_<set>_<host>_<>"),
		"npcnix-install: user data has changed; took over remote=s3://b/n/pr od.npcnix queue-url=https://sqs/1?a=$(b) host=")
	m.says(m.boots(0), installedAlready)

	m.set += "configuration=other\n" // what the host runs is not user data's business any more
	m.says(m.boots(0), installedAlready)
}

func TestBootTriesAgainToTakeOverWhatItCouldNot(t *testing.T) {
	m := newInstalledMachine(t)
	m.set += "remote_url=s3://b/prod.npcnix remote_region=eu-west-1\n"
	remote, region := "npcnix_<config>_<set>_<remote>_<s3://b/prod.npcnix>", "npcnix_<config>_<set>_<remote-region>_<eu-west-1>"
	m.write("refuse", "remote-region")
	for range 2 {
		m.says(m.boots(1, remote, region), "npcnix: refused",
			"npcnix-install: user data has changed, but remote-region=eu-west-1 could not be set; the next boot tries again")
	}
	m.must(os.Remove(m.path("refuse")))
	m.boots(0, remote, region)
	m.says(m.boots(0), installedAlready)
}

func leavesUnknownHosts(t *testing.T) {
	m := newInstalledMachine(t)
	m.must(os.Remove(m.path("data", "user-data-settings")))
	m.set += "host=web2\n"
	m.says(m.boots(0), installedAlready)
	m.set += "host=web3\n"
	if said := m.boots(0, "npcnix_<config>_<set>_<host>_<web3>"); !strings.Contains(said, "took over host=web3\n") {
		t.Errorf("said %q", said)
	}
}

func knowsFirstUserData(t *testing.T) {
	m := newMachine(t)
	m.set += "host=web1 pre_install_script='host=web2'\n"
	m.boots(0, "nix")
	m.says(m.boots(0), installedAlready)
	if told := m.read("data/user-data-settings"); !strings.Contains(told, "host=web1\n") {
		t.Errorf("kept %q", told)
	}
}

func takesOverBeforeLastScript(t *testing.T) {
	m := newInstalledMachine(t)
	m.write("data/post-install-pending", "")
	m.set += "host=web2 post_install_script='echo post >>$TRACE'\n"
	m.boots(0, "npcnix_<config>_<set>_<host>_<web2>", "post")
	m.boots(0)
}
