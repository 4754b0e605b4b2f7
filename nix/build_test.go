package nix_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/nix"
	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestBuildMakesTheSystemAndStreamsItsLog(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		release := filepath.Join(t.TempDir(), "release")
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"web": {Version: "v1", BuildWaits: release}})

		type result struct {
			s   nix.System
			err error
		}
		done := make(chan result, 1)
		go func() {
			s, err := h.Build(t.Context(), dir, "web")
			done <- result{s, err}
		}()
		h.log.Await(t, "building v1")
		h.log.Await(t, "waiting, pid")
		select {
		case r := <-done:
			t.Fatalf("the build ended before it could: %v, %v", r.s, r.err)
		default: // the log came while nix runs
		}
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if r.err != nil {
			t.Fatal(r.err)
		}
		if info, err := os.Stat(filepath.Join(r.s.Path, "bin", "switch-to-configuration")); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("toplevel %s: %v, %v", r.s.Path, info, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the flake's folder holds %v, %v; want flake.nix only", entries, err)
		}
	})
}

func TestBuildFindsConfigurationsOfAnyName(t *testing.T) {
	names := []string{"a.b", "a b", "a'b", "a${b}", "$(reboot)", "a^out", "a#b?c=d%20e", "ä", "-L", "a/b", "*"}
	systems := map[string]nixtest.System{}
	for _, name := range names {
		systems[name] = nixtest.System{Version: `"version"\n of ` + name}
	}
	nixtest.Each(t, func(t *testing.T) {
		dir := nixtest.TestFlake(t, systems)
		for _, name := range names {
			h := newHost(t)
			h.switched(t, h.built(t, dir, name))
			h.wantMarker(t, `"version"\n of `+name)
		}
	})
}

func TestBuildTakesFoldersOfAnyName(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		plain := nixtest.TestFlake(t, map[string]nixtest.System{"web": {Version: "v1"}})
		want := h.built(t, plain, "web")
		for _, name := range []string{"a b", "a#b", "a?dir=c", "a%20b", "ä", "-L", "a'\"b", "a\nb", "result"} {
			dir := filepath.Join(t.TempDir(), name)
			if err := os.CopyFS(dir, os.DirFS(plain)); err != nil {
				t.Fatal(err)
			}
			if got := h.built(t, dir, "web"); got != want {
				t.Errorf("folder %q: built %v, want %v", name, got, want)
			}
		}
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(plain, link); err != nil {
			t.Fatal(err)
		}
		if got := h.built(t, link, "web"); got != want {
			t.Errorf("symbolic link: built %v, want %v", got, want)
		}
	})
}

func TestBuildTakesRelativeFolders(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		t.Chdir(t.TempDir())
		h := newHost(t, func(o *nix.Options) { o.Dir, o.Profile = "data", "profiles/system" })
		if err := nixtest.Flake("flake", nixtest.Salt(), map[string]nixtest.System{"web": {Version: "v1"}}); err != nil {
			t.Fatal(err)
		}
		s := h.built(t, "flake", "web")
		if links := roots(t, h); len(links) != 1 {
			t.Errorf("roots %v, want one", links)
		}
		h.switched(t, s)
		h.wantProfile(t, s, 1)
	})
}

func TestBuildIgnoresTheTimesOfFiles(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		// A version text of the kind that flakes put into their systems.
		text := `{ outputs = { self }: { nixosConfigurations.web.config.system.build.toplevel = derivation {
			name = "nixos-system-${toString self.lastModified}"; system = "` + nixtest.Platform() + `";
			builder = "/bin/sh"; args = [ "-c" "echo ` + nixtest.Salt() + ` >$out" ]; }; }; }`
		file := filepath.Join(t.TempDir(), "flake.nix")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		first := h.built(t, filepath.Dir(file), "web")
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
		if second := h.built(t, filepath.Dir(file), "web"); second != first {
			t.Errorf("built %v, and an hour later %v", first, second)
		}
	})
}

func TestBuildWritesNoLockFile(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		inner := nixtest.TestFlake(t, map[string]nixtest.System{"web": {Version: "v1"}})
		dir := t.TempDir()
		text := fmt.Sprintf(`{ inputs.inner.url = "path:%s";
			outputs = { self, inner }: { nixosConfigurations.outer = inner.nixosConfigurations.web; }; }`, inner)
		if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.switched(t, h.built(t, dir, "outer"))
		h.wantMarker(t, "v1")
		source, err := exec.Command("nix", "--extra-experimental-features", "nix-command",
			"store", "add-path", "--name", "source", dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(source)), "flake.lock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("lock file beside the copy in the store: %v", err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Errorf("the flake's folder holds %v, %v; want flake.nix only", files, err)
		}
	})
}

func TestBuildNamesTheConfigurationsThatExist(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"web": {}, "d b": {}})
		_, err := h.Build(t.Context(), dir, "wbe")
		nixtest.WantError(t, err, nix.ErrNoConfiguration, `build configuration "wbe": no such configuration: the flake has "d b", "web"`)

		_, err = h.Build(t.Context(), nixtest.TestFlake(t, nil), "web")
		nixtest.WantError(t, err, nix.ErrNoConfiguration, "the flake has no nixosConfigurations")

		for _, name := range []string{"", `a"b`, "a\x00b"} {
			_, err = h.Build(t.Context(), dir, name)
			nixtest.WantError(t, err, nix.ErrNoConfiguration, "cannot be addressed")
		}
	})
}

func TestBuildFailsInOneSentence(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{
			"no build": {Version: "v1", BuildFails: true},
			"no eval":  {Version: "v2", EvalFails: true},
		})
		for _, c := range []struct{ configuration, sentence, tail string }{
			{"no build", ".drv'", "v1 does not build"},
			{"no eval", `build configuration "no eval": v2 does not evaluate`, "v2 does not evaluate"},
		} {
			_, err := h.Build(t.Context(), dir, c.configuration)
			var failed *nix.BuildError
			if !errors.As(err, &failed) {
				t.Fatalf("%s: error is %T: %v", c.configuration, err, err)
			}
			if failed.Configuration != c.configuration || !strings.Contains(strings.Join(failed.Tail, "\n"), c.tail) {
				t.Errorf("%s: configuration %q, tail:\n%q", c.configuration, failed.Configuration, failed.Tail)
			}
			if text := err.Error(); !strings.Contains(text, c.sentence) || strings.Contains(text, "\n") {
				t.Errorf("%s: error %q, want a line with %q", c.configuration, text, c.sentence)
			}
			if errors.Is(err, nix.ErrMachine) {
				t.Errorf("%s: the machine is blamed: %v", c.configuration, err)
			}
			if links := roots(t, h); len(links) != 0 {
				t.Errorf("%s: left the roots %v", c.configuration, links)
			}
		}
	})
}

func TestCancelledBuildEndsItsBuilders(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"web": {BuildWaits: filepath.Join(h.root, "never")}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := h.Build(ctx, dir, "web")
			done <- err
		}()
		builder := open(t, h.log.Await(t, "waiting, pid "))
		cancel()
		wantCancelled(t, done)
		if !builder.ended(time.Second) {
			t.Error("the builder runs on")
		}
	})
}

func TestCancelledBuildKillsWhatDoesNotListen(t *testing.T) {
	fakeOnPath(t, "deaf to SIGTERM, as is its child")
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	dir := nixtest.TestFlake(t, nil)
	go func() {
		_, err := h.Build(ctx, dir, "web")
		done <- err
	}()
	self, child := open(t, h.log.Await(t, "self ")), open(t, h.log.Await(t, "child "))
	cancel()
	wantCancelled(t, done)
	if !self.ended(time.Second) || !child.ended(time.Second) {
		t.Error("nix or its child runs on")
	}
}

func TestBuildThatOutlastsItsTimeFailsWithItsLog(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"web": {BuildWaits: filepath.Join(h.root, "never")}})
		ctx := &timed{Context: t.Context(), up: make(chan struct{})}
		done := make(chan error, 1)
		go func() {
			_, err := h.Build(ctx, dir, "web")
			done <- err
		}()
		builder := open(t, h.log.Await(t, "waiting, pid "))
		close(ctx.up)
		var failed *nix.BuildError
		if err := <-done; !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nix.ErrMachine) {
			t.Fatalf("error %v, want a failed build", err)
		}
		if !strings.Contains(strings.Join(failed.Tail, "\n"), "waiting, pid") {
			t.Errorf("the end of the log is %q", failed.Tail)
		}
		if !builder.ended(time.Second) {
			t.Error("the builder runs on")
		}
	})
}

// timed is a context whose deadline is when up is closed.
type timed struct {
	context.Context
	up chan struct{}
}

func (c *timed) Value(any) any         { return nil } // it is none of its parent's kind
func (c *timed) Done() <-chan struct{} { return c.up }
func (c *timed) Err() error {
	select {
	case <-c.up:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func wantCancelled(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) || errors.Is(err, nix.ErrMachine) {
			t.Errorf("error %v, want that of the context", err)
		}
		var failed *nix.BuildError
		if errors.As(err, &failed) {
			t.Errorf("%v counts as a failed build", err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("not ended after 3 s")
	}
}

func TestBuildDiesWithAnAgentThatIsKilled(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t)
		dir := nixtest.TestFlake(t, map[string]nixtest.System{"web": {BuildWaits: filepath.Join(h.root, "never")}})
		kill := startAgent(t, h, dir, "web")
		builder := open(t, h.log.Await(t, "waiting, pid "))
		kill()
		if !builder.ended(3 * time.Second) {
			t.Error("the builder runs on")
		}
	})
}

func TestBuildIsNotHeldUpByADaemonThatNixLeaves(t *testing.T) {
	fakeOnPath(t, "leaves a daemon that holds the pipe")
	h := newHost(t)
	s, err := h.Build(t.Context(), nixtest.TestFlake(t, nil), "web")
	open(t, h.log.Await(t, "daemon "))
	if err != nil || s.Path != "/nix/store/11111111111111111111111111111111-system" {
		t.Errorf("Build = %v, %v", s, err)
	}
}

func TestBuildPassesOptionsOn(t *testing.T) {
	fakeOnPath(t, "prints its arguments")
	h := newHost(t, func(o *nix.Options) {
		o.Substituters = []string{"https://a.example", "s3://b"}
		o.PublicKeys = []string{"a:1", "b:2"}
		o.Settings = [][2]string{{"cores", "1"}, {"experimental-features", "ca-derivations"}}
	})
	h.built(t, nixtest.TestFlake(t, nil), "a.b")
	for _, want := range []string{
		"<--option> <cores> <1> ",
		"<--option> <extra-substituters> <https://a.example s3://b> ",
		"<--option> <extra-trusted-public-keys> <a:1 b:2> ",
		"<--extra-experimental-features> <nix-command flakes> <build> ",
		"<path:" + fakeSource + "#nixosConfigurations.%22a%2Eb%22.config.system.build.toplevel>",
	} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("nix was not given %s:\n%s", want, h.log)
		}
	}
}

func TestBuildWorksBesideOtherExperimentalFeatures(t *testing.T) {
	nixtest.Each(t, func(t *testing.T) {
		h := newHost(t, func(o *nix.Options) {
			o.Settings = [][2]string{{"experimental-features", "ca-derivations"}}
			o.Substituters = []string{"file://" + t.TempDir()}
			o.PublicKeys = []string{"test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
		})
		h.built(t, nixtest.TestFlake(t, map[string]nixtest.System{"web": {Version: "v1"}}), "web")
	})
}

func TestBuildTellsTheMachinesFaultsFromTheFlakes(t *testing.T) {
	for _, c := range []struct {
		nix     string
		machine bool
		is      error
		text    string
	}{
		{"disk full", true, nix.ErrDiskFull, "the disk is full: make room"},
		{"store is read-only", true, nix.ErrMachine, "Read-only file system"},
		{"killed", true, nix.ErrMachine, "signal: killed): is there enough memory?"},
		{"a program in the build finds the disk full", false, nil, "builder for '/nix/store/x.drv' failed with exit code 1"},
		{"unknown configuration", false, nix.ErrNoConfiguration, `the flake has "db", "web"`},
	} {
		t.Run(c.nix, func(t *testing.T) {
			fakeOnPath(t, c.nix)
			_, err := newHost(t).Build(t.Context(), nixtest.TestFlake(t, nil), "nope")
			nixtest.WantError(t, err, c.is, c.text)
			if errors.Is(err, nix.ErrMachine) != c.machine {
				t.Errorf("the machine's fault: %v, want %v", !c.machine, c.machine)
			}
		})
	}
}

func TestBuildKeepsTheLastFortyLinesWithoutColours(t *testing.T) {
	fakeOnPath(t, "prints a hundred lines")
	_, err := newHost(t).Build(t.Context(), nixtest.TestFlake(t, nil), "web")
	var failed *nix.BuildError
	if !errors.As(err, &failed) {
		t.Fatalf("error is %T: %v", err, err)
	}
	var want []string
	for i := 60; i < 100; i++ {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	if got := strings.Join(failed.Tail, ","); got != strings.Join(want, ",") {
		t.Errorf("tail %s", got)
	}
	nixtest.WantError(t, err, nil, "exit status 1")
}

func TestBuildWithoutNixOrFlakeSaysSo(t *testing.T) {
	h := newHost(t)
	_, err := h.Build(t.Context(), t.TempDir(), "web")
	nixtest.WantError(t, err, nix.ErrNoFlake, "no flake.nix in ")
	_, err = h.Build(t.Context(), filepath.Join(t.TempDir(), "none"), "web")
	nixtest.WantError(t, err, os.ErrNotExist, "open flake")

	t.Setenv("PATH", t.TempDir())
	_, err = h.Build(t.Context(), nixtest.TestFlake(t, nil), "web")
	nixtest.WantError(t, err, nix.ErrNoNix, "install nix")
	nixtest.WantError(t, err, nix.ErrMachine, "")
}

func TestConfigurationsOfABrokenFlake(t *testing.T) {
	fakeOnPath(t, "evaluates to no JSON")
	_, err := newHost(t).Configurations(t.Context(), nixtest.TestFlake(t, nil))
	nixtest.WantError(t, err, nil, `nix printed "«lambda»\n" in place of the names`)
}
