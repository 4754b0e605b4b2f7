package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What packages install beside the program is of this very program: a man page for each command, and completions.
func TestManualAndCompletions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "share")
	if out, err := exec.Command("release/share.sh", dir, "v1.2.3").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkShare(t, dir, "v1.2.3")
}

// checkShare looks at the man pages and completions in a folder, as man and the shells show them.
func checkShare(t *testing.T, dir, version string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(dir, "man", "man1", "*.1.gz"))
	if err != nil || len(pages) < 30 {
		t.Fatalf("man pages: %q, %v", pages, err)
	}
	// All of them at once, as man itself takes a second for each on a busy machine.
	all := exec.Command("bash", "-o", "pipefail", "-c", `zcat "$@" | groff -k -man -Tutf8 -ww -P-cbou`, "bash")
	all.Args = append(all.Args, pages...)
	var problems strings.Builder
	all.Stderr = &problems
	rendered, err := all.Output()
	if err != nil || problems.Len() > 0 {
		t.Errorf("groff: %v %s", err, problems.String())
	}
	text := strings.Join(strings.Fields(string(rendered)), " ") // lines are filled with spaces
	for _, page := range pages {
		name, _, _ := strings.Cut(filepath.Base(page), ".")
		if !strings.Contains(strings.ReplaceAll(text, "‐ ", "‐"), "NAME "+name+" - ") {
			t.Errorf("%s says no NAME", page)
		}
	}
	shown := run(t, "man", filepath.Join(dir, "man", "man1", "npcnix-push.1.gz"))
	for _, part := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\n       --sign-key", "GLOBAL OPTIONS", "npcnix " + version} {
		if !strings.Contains(shown, part) {
			t.Errorf("man npcnix-push shows no %q:\n%s", part, shown)
		}
	}
	for _, name := range []string{"npcnix", "npcnix-push", "npcnix-release-show", "npcnix-config-set"} {
		if !slices.Contains(pages, filepath.Join(dir, "man", "man1", name+".1.gz")) {
			t.Errorf("%s has no man page", name)
		}
	}
	for file, first := range map[string]string{"zsh/site-functions/_npcnix": "#compdef npcnix", "fish/vendor_completions.d/npcnix.fish": "# fish completion for npcnix"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.HasPrefix(string(text), first) {
			t.Errorf("%s: %v, %.80q", file, err, text)
		}
	}
	complete := exec.Command("bash", "-c", `. "$1" && complete -p npcnix`, "bash", filepath.Join(dir, "bash-completion", "completions", "npcnix"))
	if out, err := complete.CombinedOutput(); err != nil || !strings.Contains(string(out), "__start_npcnix npcnix") {
		t.Errorf("bash completes: %v %s", err, out)
	}
}

// What a tag releases is made by goreleaser, and used as its users use it. It takes minutes: make matrix runs it.
func TestRelease(t *testing.T) {
	if os.Getenv("NPCNIX_TEST_RELEASE") == "" {
		t.Skip("NPCNIX_TEST_RELEASE=1 makes a release, which takes minutes; fewer with NPCNIX_RELEASE_ONLY=amd64")
	}
	dist := snapshot(t)
	in := func(name string, args ...any) string { return filepath.Join(dist, fmt.Sprintf(name, args...)) }
	const version = "1.2.4-snapshot"

	sums := exec.Command("sha256sum", "--check", "--strict", fmt.Sprintf("npcnix_%s_checksums.txt", version))
	sums.Dir = dist
	checked, err := sums.CombinedOutput()
	if err != nil {
		t.Errorf("checksums: %v\n%s", err, checked)
	}
	platforms := []struct{ name, file string }{
		{"linux_amd64", "ELF 64-bit LSB executable, x86-64"}, {"linux_arm64", "ELF 64-bit LSB executable, ARM aarch64"},
		{"darwin_amd64", "Mach-O 64-bit x86_64 executable"}, {"darwin_arm64", "Mach-O 64-bit arm64 executable"},
	}
	if os.Getenv("NPCNIX_RELEASE_ONLY") != "" {
		platforms = platforms[:1]
	}
	for _, platform := range platforms {
		names := []string{".tar.gz", ".cdx.json"}
		if strings.HasPrefix(platform.name, "linux") {
			names = append(names, ".deb", ".rpm")
		}
		for _, suffix := range names {
			if name := "npcnix_" + version + "_" + platform.name + suffix; !strings.Contains(string(checked), name+": OK") {
				t.Errorf("%s has no checksum", name)
			}
		}
		dir := t.TempDir()
		run(t, "tar", "-xzf", in("npcnix_%s_%s.tar.gz", version, platform.name), "-C", dir)
		kind := run(t, "file", "--brief", filepath.Join(dir, "npcnix"))
		if !strings.HasPrefix(kind, platform.file) || strings.HasPrefix(platform.name, "linux") && !strings.Contains(kind, "statically linked") {
			t.Errorf("the program for %s is %s", platform.name, kind)
		}
		checkBOM(t, in("npcnix_%s_%s.cdx.json", version, platform.name))
		if platform.name == "linux_amd64" {
			if got := run(t, filepath.Join(dir, "npcnix"), "version"); !strings.HasPrefix(got, "v"+version+"+") || len(got) != len("v"+version+"+")+12 {
				t.Errorf("it says that it is %q", got)
			}
			checkShare(t, filepath.Join(dir, "share"), "v"+version)
		}
	}
	t.Run("the action installs it", func(t *testing.T) { actionInstalls(t, dist, "v"+version) })
	t.Run("Debian installs it", func(t *testing.T) { debianInstalls(t, in("npcnix_%s_linux_amd64.deb", version), "v"+version) })
	t.Run("the image runs", func(t *testing.T) { imageRuns(t, in("npcnix_%s_image.tar", version), "v"+version) })
}

// snapshot makes a release of what git tracks here, as if the tag v1.2.3 were its past, and returns the folder of it.
func snapshot(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "npcnix")
	tools := os.Getenv("NPCNIX_RELEASE_TOOLS")
	if tools == "" {
		var err error
		if tools, err = filepath.Abs("../.cache/goreleaser"); err != nil {
			t.Fatal(err)
		}
	}
	script := `set -e
mkdir "$1"
(cd .. && git ls-files -z --cached --others --exclude-standard | tar --null --create --files-from -) | tar -x -C "$1"
cd "$1"
git init --quiet
git add --all
git -c user.name=t -c user.email=t@localhost commit --quiet --message 'what is released'
git tag v1.2.3
git remote add origin https://github.com/npcnix/npcnix
./integration/release/make.sh`
	made := exec.Command("bash", "-c", script, "bash", dir)
	made.Env = append(os.Environ(), "NPCNIX_RELEASE_TOOLS="+tools)
	if out, err := made.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "dist")
}

// checkBOM checks that a list of components has the modules that are linked into the program.
func checkBOM(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(data, &bom); err != nil {
		t.Fatal(err)
	}
	for _, c := range bom.Components {
		if c.Name == "github.com/aws/aws-sdk-go-v2/service/s3" && c.Version != "" && strings.HasPrefix(c.PURL, "pkg:golang/") {
			return
		}
	}
	t.Errorf("%s, of format %q, has %d components, and none is S3's client", file, bom.BOMFormat, len(bom.Components))
}

// actionInstalls runs the action's first step on a server that has the release.
func actionInstalls(t *testing.T, dist, tag string) {
	server := httptest.NewServer(http.StripPrefix("/"+tag+"/", http.FileServer(http.Dir(dist))))
	defer server.Close()
	temp := t.TempDir()
	out, err := step(steps(t, "..", "action.yml")["Install npcnix"], "VERSION="+tag, "DOWNLOAD_URL="+server.URL, "RUNNER_OS=Linux",
		"RUNNER_ARCH=X64", "RUNNER_TEMP="+temp, "GITHUB_PATH="+filepath.Join(temp, "path")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), tag+"+") {
		t.Errorf("%v\n%s", err, out)
	}
}

// debianInstalls installs the package in a root of Debian, and uses and removes it there.
func debianInstalls(t *testing.T, deb, version string) {
	base, err := filepath.Abs("../.cache/machine/trixie")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base); err != nil || os.Getuid() != 0 {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			t.Fatal("no root of Debian: ", err)
		}
		t.Skip("no root of Debian: ", err)
	}
	root := filepath.Join(t.TempDir(), "root")
	run(t, "cp", "-a", "--reflink=auto", base, root)
	run(t, "cp", deb, filepath.Join(root, "npcnix.deb"))
	in := func(command string) string { return run(t, "chroot", root, "bash", "-euc", command) }
	in("dpkg --install /npcnix.deb")
	if got := in("npcnix version"); !strings.HasPrefix(got, version+"+") {
		t.Errorf("it says that it is %q", got)
	}
	in("cat /usr/share/doc/npcnix/copyright /usr/share/zsh/vendor-completions/_npcnix /usr/share/fish/vendor_completions.d/npcnix.fish")
	// dpkg of a small root omits manuals, as a container of Debian does; the package's own list has them.
	if list := in("dpkg --listfiles npcnix"); !strings.Contains(list, "/usr/share/man/man1/npcnix-push.1.gz\n") {
		t.Errorf("the package has no man page:\n%s", list)
	}
	if got := in(". /usr/share/bash-completion/completions/npcnix && complete -p npcnix"); !strings.Contains(got, "__start_npcnix") {
		t.Errorf("bash completes %q", got)
	}
	in("dpkg --remove npcnix && ! type -P npcnix")
}

// imageRuns unpacks the layers of the image for this machine, and runs its entrypoint with nothing else.
func imageRuns(t *testing.T, file, version string) {
	dir := t.TempDir()
	run(t, "tar", "-xf", file, "-C", dir)
	type descriptor struct {
		Digest   string
		Platform struct{ Architecture string }
	}
	blob := func(digest string, v any) string {
		path := filepath.Join(dir, "blobs", strings.Replace(digest, ":", "/", 1))
		if v != nil {
			data, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(data, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	var index struct{ Manifests []descriptor }
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v: %s", err, data)
	}
	blob(index.Manifests[0].Digest, &index)
	var archs []string
	for _, m := range index.Manifests {
		archs = append(archs, m.Platform.Architecture)
	}
	if all := os.Getenv("NPCNIX_RELEASE_ONLY") == ""; !slices.Equal(archs, []string{"amd64", "arm64"}) && (all || !slices.Equal(archs, []string{"amd64"})) {
		t.Fatalf("the platforms: %+v", index)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	blob(index.Manifests[0].Digest, &manifest)
	var config struct{ Config struct{ Entrypoint []string } }
	blob(manifest.Config.Digest, &config)
	root := t.TempDir()
	for _, layer := range manifest.Layers {
		run(t, "tar", "-xzf", blob(layer.Digest, nil), "-C", root)
	}
	if os.Getuid() != 0 {
		t.Skip("only root can chroot")
	}
	if got := run(t, "chroot", append([]string{"--userspec=65534:65534", root}, append(config.Config.Entrypoint, "version")...)...); !strings.HasPrefix(got, version+"+") {
		t.Errorf("it says that it is %q", got)
	}
	if pem, err := os.ReadFile(filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")); err != nil || !strings.Contains(string(pem), "BEGIN CERTIFICATE") {
		t.Errorf("its certificates: %v", err)
	}
}

// run runs a program and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, problems.String())
	}
	return strings.TrimSpace(string(out))
}
