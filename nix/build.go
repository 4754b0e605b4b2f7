package nix

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// BuildError is a build that nix began and that failed, in evaluation or in building. The flake is to
// blame, unless [ErrMachine] is in its chain.
type BuildError struct {
	Configuration string
	Tail          []string // the last lines of nix's log
	Err           error    // why, in nix's words where it had any
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("build configuration %q: %v", e.Configuration, e.Err)
}

func (e *BuildError) Unwrap() error { return e.Err }

// Build builds the toplevel of a configuration of the flake in dir. The log streams to the
// host's logger at a bounded rate, and whole to a file. No lock file is written, and dir is only read.
//
// The system stays in the store until it was activated or a later Build succeeded.
//
// Errors: ctx's own when it was cancelled, [ErrNoFlake], [ErrNoConfiguration] which names those that
// exist, [*BuildError], and those with [ErrMachine] in their chain. If ctx ends by its deadline during the build, the
// error is a [*BuildError] with ctx's cause in its chain; if it does so before, [ErrMachine] is in the chain too.
func (h *Host) Build(ctx context.Context, dir, configuration string) (System, error) {
	if configuration == "" || strings.ContainsAny(configuration, "\"\x00") {
		return System{}, fmt.Errorf("%w: %q cannot be addressed on nix's command line", ErrNoConfiguration, configuration)
	}
	if err := os.MkdirAll(h.roots(), 0o755); err != nil {
		return System{}, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	source, err := h.addSource(ctx, dir)
	if err != nil {
		return System{}, err
	}
	lines := h.openBuildLog("nix build")
	defer lines.close()

	// Each build has a link of its own, because one that outlives its agent must not remove the root of the
	// next agent's build.
	link := filepath.Join(h.roots(), "build-"+rand.Text())
	log := &Output{Emit: lines.emit}
	err = h.nix(ctx, nil, log, "build", "--no-write-lock-file", "--print-build-logs",
		"--out-link", link, toplevel(source, configuration))
	if err != nil {
		return System{}, h.explain(ctx, source, configuration, log.Lines(), err)
	}
	path, err := os.Readlink(link)
	if err != nil {
		return System{}, fmt.Errorf("%w: built, but the result is not there: %w", ErrMachine, err)
	}
	h.dropRoots(func(l, _ string) bool { return l != link })
	return System{Path: path}, nil
}

// addSource copies the flake in dir to the store and returns where it is there.
//
// nix would do so by itself. Done beforehand it has three advantages. Any folder will do: nix 2.8 cannot
// write a space or a '#' in a flake's path, and newer ones refuse symbolic links in it. The flake has no
// lastModified, which would make a new system of unchanged files. And the flake is not to blame for what
// fails here.
func (h *Host) addSource(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("open flake: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "flake.nix")); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w in %s: was the right folder packed?", ErrNoFlake, dir)
	} else if err != nil {
		return "", fmt.Errorf("open flake: %w", err)
	}
	var stdout bytes.Buffer
	log := &Output{Emit: h.logged("nix store add-path")}
	err = h.nix(ctx, &stdout, log, "store", "add-path", "--name", "source", dir)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fmt.Errorf("%w: add flake to the store: %w", ErrMachine, context.Cause(ctx))
	}
	if err != nil {
		return "", fmt.Errorf("add flake to the store: %w", Blame(ctx, because(log.Lines(), err)))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// toplevel returns the installable of a configuration's system. nix knows no escapes in a quoted attribute,
// so a configuration cannot have a quote in its name. The other characters are escaped as in a URL.
func toplevel(source, configuration string) string {
	return "path:" + source + "#nixosConfigurations.%22" + percent(configuration) + "%22.config.system.build.toplevel"
}

// percent encodes all that is not a letter, a digit, '-' or '_'.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// explain makes an error that says why a build failed.
func (h *Host) explain(ctx context.Context, source, configuration string, tail []string, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &BuildError{Configuration: configuration, Tail: tail, Err: context.Cause(ctx)}
	}
	if ctx.Err() != nil || errors.Is(err, ErrNoNix) {
		return fmt.Errorf("build configuration %q: %w", configuration, err)
	}
	err = because(tail, err)
	if missing(tail) {
		known, found := h.configurations(ctx, source)
		if found && !slices.Contains(known, configuration) {
			err = fmt.Errorf("%w: %s", ErrNoConfiguration, listed(known))
		}
	}
	return &BuildError{Configuration: configuration, Tail: tail, Err: err}
}

// because puts nix's own words in the place of a bare exit status.
func because(tail []string, err error) error {
	if ranOutOfDisk(tail) {
		return fmt.Errorf("%w: make room, for example with nix-collect-garbage --delete-older-than 30d", ErrDiskFull)
	}
	if needs := foreign(tail); needs != "" {
		return fmt.Errorf("%w: %s", ErrPlatform, needs)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		if r := reason(tail); r != "" {
			return errors.New(r)
		}
	}
	return err
}

// Blame marks an error that can only be the machine's with [ErrMachine]. The end of ctx is nobody's fault.
func Blame(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrMachine) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMachine, err)
}

// missing tells whether nix did not find the attribute that it was asked for.
func missing(tail []string) bool {
	return strings.Contains(reason(tail), "does not provide attribute")
}

// configurations returns the names of those that a flake in the store has. found is false where
// that cannot be told, as the flake's outputs do not evaluate.
func (h *Host) configurations(ctx context.Context, source string) (names []string, found bool) {
	var stdout bytes.Buffer
	var stderr Output
	err := h.nix(ctx, &stdout, &stderr, "eval", "--no-write-lock-file", "--json",
		"--apply", "builtins.attrNames", "path:"+source+"#nixosConfigurations")
	if err != nil {
		return nil, missing(stderr.Lines())
	}
	return names, json.Unmarshal(stdout.Bytes(), &names) == nil
}

func listed(configurations []string) string {
	if len(configurations) == 0 {
		return "the flake has no nixosConfigurations"
	}
	const most = 20
	var quoted []string
	for _, name := range configurations[:min(len(configurations), most)] {
		quoted = append(quoted, strconv.Quote(name))
	}
	if more := len(configurations) - most; more > 0 {
		quoted = append(quoted, fmt.Sprintf("and %d more", more))
	}
	return "the flake has " + strings.Join(quoted, ", ")
}

// logged returns what hands the lines of a program on to the logger.
func (h *Host) logged(program string) func(string) {
	return func(line string) { h.opts.Log.Info(program, "line", line) }
}
