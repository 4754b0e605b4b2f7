package integration

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestBootRunsUserScriptsOnce(t *testing.T) {
	set := func(m *machine, pre, post string) {
		m.set += fmt.Sprintf("pre_install_script=%s\npost_install_script=%s\n", word(pre), word(post))
	}
	t.Run("in order, and once", func(t *testing.T) {
		m := newMachine(t)
		set(m, "echo pre >>$TRACE; export FROM_PRE='a b'", "echo post >>$TRACE")
		m.boots(0, "pre", "nix", "post")
		if !strings.Contains(m.read("nix-env"), "FROM_PRE=a b\n") {
			t.Error("nix does not see what the first script exported")
		}
		m.boots(0)
	})
	t.Run("a first one that fails", func(t *testing.T) {
		for pre, says := range map[string]string{
			"echo pre >>$TRACE; [ -e $DIR/ok ]":                "pre_install_script ended with status 1",
			"set -e; echo pre >>$TRACE; [ -e $DIR/ok ]; true":  "pre_install_script ended the shell",
			"echo pre >>$TRACE; [ -e $DIR/ok ] || exit 0":      "pre_install_script ended the shell",
			"set -e; echo pre >>$TRACE; test -e $DIR/ok; date": "pre_install_script ended the shell",
		} {
			m := newMachine(t)
			set(m, pre, "echo post >>$TRACE")
			if said := m.boots(1, "pre"); !strings.Contains(said, says) {
				t.Errorf("%s: said %q", pre, said)
			}
			m.write("ok", "")
			m.boots(0, "pre", "nix", "post")
		}
	})
	t.Run("an installation that fails", func(t *testing.T) {
		m := newMachine(t)
		set(m, "echo pre >>$TRACE", "echo post >>$TRACE")
		m.write("fail", "1000")
		if status, _ := m.boot(); status != 1 || strings.Contains(m.read("trace"), "post") {
			t.Errorf("status %d, trace %q", status, m.read("trace"))
		}
		m.write("fail", "0")
		m.boots(0, "pre", "nix", "post")
	})
	t.Run("a last one that fails", func(t *testing.T) {
		m := newMachine(t)
		set(m, "set -e; echo pre >>$TRACE", "echo post >>$TRACE; [ -e $DIR/ok ] || exit 5")
		if said := m.boots(1, "pre", "nix", "post"); !strings.Contains(said, "post_install_script ended with status 5; the next boot runs it again") {
			t.Errorf("said %q", said)
		}
		m.write("ok", "")
		m.boots(0, "post")
		m.boots(0)
	})
	t.Run("a last one that was cut short", func(t *testing.T) {
		m := newMachine(t)
		set(m, "echo pre >>$TRACE", "echo post >>$TRACE; while [ -e $DIR/hang-post ]; do command sleep 0.05; done")
		m.write("hang-post", "")
		cmd, _ := m.start()
		await(t, "the last script runs", func() bool { return strings.Contains(m.read("trace"), "post") })
		m.must(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait()
		m.must(os.Remove(m.path("hang-post")))
		m.boots(0, "post")
		m.boots(0)
	})
	t.Run("not where npcnix was installed before them", func(t *testing.T) {
		m := newMachine(t)
		m.boots(0, "nix")
		set(m, "echo pre >>$TRACE", "echo post >>$TRACE")
		m.boots(0)
	})
}

// word quotes for the shell.
func word(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
