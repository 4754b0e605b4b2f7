// Package nix makes a host run what a flake describes: it builds the system, sets the profile,
// switches to it and says which system runs.
//
// It promises:
//   - A system that was built is held by a garbage collector root until it is in the profile, or another
//     was built.
//   - A build ends with its context, nix and builders and all, and dies with the agent.
//   - An activation does neither. It is done by processes of its own, is on disk at every stage, and
//     ends with the new system confirmed or with the previous one brought back, whoever dies
//     meanwhile; see [Activation].
//   - A system that was not confirmed is not what boots next, but for one that cannot be switched to.
//   - Errors tell apart what is wrong with the flake from what is wrong with the machine
//     ([ErrMachine]), and carry the end of the log.
//   - nix 2.8 and later serve alike, and nothing besides nix, nix-env and nix-store need be on PATH,
//     and under systemd systemctl and systemd-run.
//
// A Host keeps nothing in memory that matters: all it knows it reads from the profile, from the link to the
// current system and from its data directory. Whoever builds and activates sees to it that only one
// does so at a time.
package nix

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

var (
	// ErrMachine is in the chain of errors that are not the flake's: the same flake may well
	// build once the machine is mended.
	ErrMachine = errors.New("machine trouble")
	// ErrNoNix is an ErrMachine.
	ErrNoNix = fmt.Errorf("%w: nix is not on PATH", ErrMachine)
	// ErrDiskFull is an ErrMachine.
	ErrDiskFull = fmt.Errorf("%w: the disk is full", ErrMachine)

	// ErrNoFlake says that the folder to build holds no flake.nix.
	ErrNoFlake = errors.New("no flake.nix")
	// ErrNoConfiguration says that the flake has no configuration of that name.
	ErrNoConfiguration = errors.New("no such configuration")
	// ErrNotNixOS says that what was built cannot be switched to.
	ErrNotNixOS = errors.New("not a NixOS system")
)

// System is a built NixOS system: the store path of its toplevel.
type System struct {
	Path string
}

// Options say where a host keeps its systems, and how nix is to be run there.
type Options struct {
	// Profile is the profile of systems. Default: /nix/var/nix/profiles/system.
	Profile string
	// CurrentSystem is the link to the system that runs. Default: /run/current-system.
	CurrentSystem string
	// Dir is the agent's data directory; it is created when needed. It holds activation.json,
	// switch.log (the output of the last activation's switches), and in roots the garbage collector
	// roots of systems that are not in the profile yet.
	Dir string
	// Worker is the command that does [Work] when it is run with the arguments
	// "run --data-dir DIR", and [Expire] with "expire ID PATIENCE --data-dir DIR".
	// Default: this program's "activation".
	Worker []string

	// Substituters and PublicKeys are added to those of nix.conf.
	Substituters, PublicKeys []string
	// Settings are names and values for --option.
	Settings [][2]string

	// Log receives the lines of builds and switches as they come. Default: none.
	Log *slog.Logger
}

func (o *Options) validate() error {
	if o.Dir == "" {
		return errors.New("no data directory")
	}
	for _, list := range [][]string{o.Substituters, o.PublicKeys} {
		for _, word := range list {
			if word == "" || strings.ContainsAny(word, " \t\n") {
				return fmt.Errorf("substituter or public key %q: must be one word", word)
			}
		}
	}
	for _, s := range o.Settings {
		if s[0] == "" {
			return fmt.Errorf("nix option without a name, for the value %q", s[1])
		}
	}
	return nil
}

// Host builds and activates systems on this machine.
type Host struct {
	opts    Options
	logRead int64 // of switch.log, in bytes
}

// New returns the host that opts describe. Nothing is touched yet.
func New(opts Options) (*Host, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Profile == "" {
		opts.Profile = "/nix/var/nix/profiles/system"
	}
	if opts.CurrentSystem == "" {
		opts.CurrentSystem = "/run/current-system"
	}
	if len(opts.Worker) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		opts.Worker = []string{self, "activation"}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	// nix runs in another working directory.
	for _, path := range []*string{&opts.Profile, &opts.CurrentSystem, &opts.Dir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", *path, err)
		}
		*path = abs
	}
	return &Host{opts: opts}, nil
}

// roots is the folder of garbage collector roots.
func (h *Host) roots() string { return filepath.Join(h.opts.Dir, "roots") }
