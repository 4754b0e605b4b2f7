package nix_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/nixtest"
)

// nixFiles are the Nix files of the repository.
func nixFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || path == filepath.Join("..", "bin")):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".nix"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryNixFileParses(t *testing.T) {
	parse, err := exec.LookPath("nix-instantiate")
	if err != nil {
		nixtest.Skip(t, "nix-instantiate is not on PATH: apt-get install nix-bin")
	}
	files := nixFiles(t)
	for _, file := range []string{"../flake.nix", "module.nix", "templates/fleet/flake.nix"} {
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Clean(f) == filepath.Join("..", "nix", file) || f == file }) {
			t.Errorf("%s was not found", file)
		}
	}
	nixtest.Installed(t)
	if out, err := exec.Command(parse, append([]string{"--parse"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("nix-instantiate --parse: %v\n%s", err, out)
	}
}

// repository is a copy of what the flake is made of, without what lies about in a work tree.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, ".."+string(filepath.Separator))
		switch {
		case d.IsDir() && name != ".." && (strings.HasPrefix(d.Name(), ".") || name == "bin" || name == "terraform"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, filepath.Join("/", strings.TrimPrefix(name, ".."))), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// offline are the options with which these inputs of a flake are the stand-in for nixpkgs.
func offline(t *testing.T, inputs ...string) []string {
	t.Helper()
	args := []string{"--no-write-lock-file"}
	for _, input := range inputs {
		args = append(args, "--override-input", input, "path:"+nixpkgs(t))
	}
	return args
}

func TestTheFlakesOutputsAreWhatTheyShouldBe(t *testing.T) {
	repo := "path:" + repository(t)
	eachNixAndLibrary(t, func(t *testing.T) {
		check := exec.Command("nix", append([]string{"--extra-experimental-features", "nix-command flakes", "flake", "check", "--no-build"}, append(offline(t, "nixpkgs"), repo)...)...)
		if out, err := check.CombinedOutput(); err != nil {
			t.Fatalf("nix flake check: %v\n%s", err, out)
		}
		for attribute, want := range map[string]string{
			`packages --apply 'p: builtins.mapAttrs (_: builtins.attrNames) p'`:                                            `{"aarch64-darwin":["default","npcnix"],"aarch64-linux":["default","install","npcnix"],"x86_64-darwin":["default","npcnix"],"x86_64-linux":["default","install","npcnix"]}`,
			`packages.aarch64-linux.npcnix.given.subPackages`:                                                              `["cmd/npcnix"]`,
			`packages.aarch64-linux.npcnix.given.doCheck`:                                                                  `false`,
			`apps --apply 'a: map (s: baseNameOf a.${s}.install.program or a.${s}.npcnix.program) (builtins.attrNames a)'`: `["npcnix","npcnix-install","npcnix","npcnix-install"]`,
			`packages.aarch64-darwin.npcnix.meta.platforms --apply 'builtins.elem "aarch64-darwin"'`:                       `true`,
			`nixosModules --apply builtins.attrNames`:                                                                      `["default","npcnix"]`,
			`overlays --apply builtins.attrNames`:                                                                          `["default"]`,
			`templates.default.description`:                                                                                `"A fleet of two hosts that follow a bucket"`,
			`checks.x86_64-linux --apply builtins.attrNames`:                                                               `["install","npcnix","web1"]`,
		} {
			name, apply, _ := strings.Cut(attribute, " --apply ")
			args := append(offline(t, "nixpkgs"), "--json", repo+"#"+name)
			if apply != "" {
				args = append(args, "--apply", strings.Trim(apply, "'"))
			}
			if got, err := nixEval(t, args...); err != nil || strings.TrimSpace(got) != want {
				t.Errorf("%s is %s, %v; want %s", attribute, got, err, want)
			}
		}
	})
}

func TestTheTemplateIsAFleetWithTheAgentOfThisFlake(t *testing.T) {
	repo := repository(t)
	fleet := filepath.Join(t.TempDir(), "fleet")
	if err := os.CopyFS(fleet, os.DirFS(filepath.Join("templates", "fleet"))); err != nil {
		t.Fatal(err)
	}
	eachNixAndLibrary(t, func(t *testing.T) {
		args := append(offline(t, "nixpkgs", "npcnix/nixpkgs"), "--json", "--override-input", "npcnix", "path:"+repo, "path:"+fleet+"#nixosConfigurations", "--apply", `
			builtins.mapAttrs (_: host: builtins.seq host.config.system.build.toplevel.drvPath {
				text = builtins.fromJSON host.config.environment.etc."npcnix/settings.json".text;
				version = host.config.services.npcnix.package.given.version;
				swap = host.config.zramSwap.enable;
			})`)
		out, err := nixEval(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		var hosts map[string]struct {
			Text    struct{ Configuration, Reboot string }
			Version string
			Swap    bool
		}
		if err := json.Unmarshal([]byte(out), &hosts); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"web1", "web2"} {
			if h := hosts[name]; !h.Swap || h.Text.Configuration != name || h.Text.Reboot != "when-needed" || !strings.HasSuffix(h.Version, "-dirty") {
				t.Errorf("%s is %+v", name, h)
			}
		}
		if len(hosts) != 2 {
			t.Errorf("%d hosts", len(hosts))
		}
	})
}

// The package's source holds all that building takes and nothing that does not matter to it, and
// its vendorHash is that of the folder that buildGoModule makes: `go mod vendor` in that source,
// hashed as Nix hashes a folder.
func TestThePackageIsOfTheseSourcesAndModules(t *testing.T) {
	nixtest.Installed(t)
	repo := repository(t)
	stored, err := nixEval(t, append(offline(t, "nixpkgs"), "--raw", "path:"+repo+"#npcnix.given.src.outPath")...)
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "source")
	if err := os.CopyFS(src, os.DirFS(stored)); err != nil {
		t.Fatal(err)
	}
	for _, not := range []string{"README.md", "flake.nix", filepath.Join("nix", "module.nix")} {
		if _, err := os.Stat(filepath.Join(repo, not)); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(src, not)); err == nil {
			t.Errorf("%s is in the package's source: a change of it would build npcnix again", not)
		}
	}
	command(t, src, "go", "mod", "vendor")
	got := strings.TrimSpace(command(t, src, "nix", "--extra-experimental-features", "nix-command", "hash", "path", "--type", "sha256", "--sri", "vendor"))

	expr, err := os.ReadFile("package.nix")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`vendorHash = "([^"]*)"`)
	if *update {
		expr = line.ReplaceAllLiteral(expr, []byte(`vendorHash = "`+got+`"`))
		if err := os.WriteFile("package.nix", expr, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := line.FindSubmatch(expr); found == nil || string(found[1]) != got {
		t.Errorf("package.nix has %s; want %s: go test ./nix -run Package -update", found, got)
	}
	// Lists what is compiled, with its embedded files: each must be in the source or vendored.
	if deps := command(t, src, "go", "list", "-mod=vendor", "-deps", "./cmd/npcnix"); !strings.Contains(deps, "github.com/npcnix/npcnix/agent\n") {
		t.Errorf("what is compiled: %s", deps)
	}
}

// command runs a program in dir and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

func TestTheInstallAppMakesSwapWhereItMust(t *testing.T) {
	script, err := os.ReadFile("install.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		memory, swap string // of /proc/meminfo, in kB
		left         bool   // a swap file of a run that was interrupted
		fails        string // a program that ends with status 3
		want         []string
		status       int
	}{
		"little memory": {memory: "1000000", swap: "0", want: []string{"fallocate", "mkswap", "swapon", "npcnix install --remote s3://b/a b", "swapoff"}},
		"enough memory": {memory: "4000000", swap: "0", want: []string{"npcnix install --remote s3://b/a b"}},
		"swap there":    {memory: "1000000", swap: "9", want: []string{"npcnix install --remote s3://b/a b"}},
		"no swap to be had": {memory: "1000000", swap: "0", fails: "swapon",
			want: []string{"fallocate", "mkswap", "swapon", "swapoff", "npcnix install --remote s3://b/a b"}},
		"interrupted before": {memory: "4000000", swap: "0", left: true, want: []string{"swapoff", "npcnix install --remote s3://b/a b"}},
		"install fails": {memory: "1000000", swap: "0", fails: "npcnix", status: 3,
			want: []string{"fallocate", "mkswap", "swapon", "npcnix install --remote s3://b/a b", "swapoff"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := func(name string) string { return filepath.Join(dir, name) }
			for _, program := range []string{"fallocate", "mkswap", "swapon", "swapoff", "npcnix"} {
				text := "#!/bin/sh\n[ " + program + " != fallocate ] || : >'" + in("swap") + "'\n" +
					"[ " + program + " = npcnix ] || set --\necho " + program + " \"$@\" >>'" + in("trace") + "'\n"
				if program == c.fails {
					text += "exit 3\n"
				}
				if err := os.WriteFile(in(program), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(in("meminfo"), []byte("MemTotal:  "+c.memory+" kB\nSwapTotal: "+c.swap+" kB\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if c.left {
				if err := os.WriteFile(in("swap"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			text := strings.NewReplacer("/proc/meminfo", in("meminfo"), "/npcnix-install-app-swapfile", in("swap")).Replace(string(script))
			cmd := exec.Command("bash", "-c", text, "npcnix-install", "--remote", "s3://b/a b")
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if status := cmd.ProcessState.ExitCode(); status != c.status {
				t.Errorf("status %d, %v; want %d\n%s", status, err, c.status, out)
			}
			trace, err := os.ReadFile(in("trace"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(trace), " \n", "\n")), "\n"); !slices.Equal(got, c.want) {
				t.Errorf("ran %q; want %q\n%s", got, c.want, out)
			}
			if _, err := os.Stat(in("swap")); err == nil {
				t.Error("the swap file is left")
			}
		})
	}
}

func TestTheInstallAppIsWhatShellcheckLikes(t *testing.T) {
	shellcheck, err := exec.LookPath("shellcheck")
	if err != nil {
		nixtest.Skip(t, "shellcheck is not on PATH: apt-get install shellcheck")
	}
	if out, err := exec.Command(shellcheck, "install.sh").CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// What the package does after its build installs man pages and completions. The stand-ins of nixpkgs' two
// commands keep what they were given.
func TestThePackageInstallsManPagesAndCompletions(t *testing.T) {
	dir := t.TempDir()
	// First, as a nix of a test has a cache of its own, in which Go would compile all of it again.
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "npcnix"), "../cmd/npcnix").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nixtest.Installed(t)
	script, err := nixEval(t, append(offline(t, "nixpkgs"), "--raw", "path:"+repository(t)+"#npcnix.given.postInstall")...)
	if err != nil {
		t.Fatal(err)
	}
	command(t, dir, "bash", "-euc", `export out=$PWD
installManPage() { echo "$@" >pages; }
installShellCompletion() { [ "$1 $2" = "--cmd npcnix" ] && shift 2; while [ $# -gt 0 ]; do cat "$2" >"shell$1"; shift 2; done; }
`+script)
	for file, holds := range map[string]string{
		"pages": "man/npcnix-push.1", "shell--bash": "__start_npcnix", "shell--zsh": "#compdef npcnix", "shell--fish": "complete -c npcnix",
	} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(text), holds) {
			t.Errorf("%s has no %q: %v", file, holds, err)
		}
	}
}
