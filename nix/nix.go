// Package nix builds the systems that a flake describes, and keeps the profile of a host's systems. Its
// subpackage activation switches a host from one system to another.
//
// It promises:
//   - A garbage collector root holds a built system until it is in the profile, or another was built.
//   - A build ends with its context, together with nix and its builders, and dies with the agent.
//   - Errors tell what is wrong with the flake from what is wrong with the machine ([ErrMachine]), and
//     carry the end of the log.
//   - nix 2.8 and later serve alike. Nothing but nix, nix-env and nix-store needs to be on PATH.
//
// A Host keeps nothing in memory that matters: it reads all it knows from the profile, from the link to
// the current system and from its data directory. The caller ensures that only one process builds or
// activates at a time.
package nix

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

var (
	// ErrMachine is in the chain of errors that are not the flake's: the same flake may build once
	// the machine is fixed.
	ErrMachine = errors.New("machine trouble")
	// ErrNoNix is an ErrMachine.
	ErrNoNix = fmt.Errorf("%w: nix is not on PATH", ErrMachine)
	// ErrDiskFull is an ErrMachine.
	ErrDiskFull = fmt.Errorf("%w: the disk is full", ErrMachine)

	// ErrNoFlake says that the folder to build holds no flake.nix.
	ErrNoFlake = errors.New("no flake.nix")
	// ErrNoConfiguration says that the flake has no configuration of that name.
	ErrNoConfiguration = errors.New("no such configuration")
	// ErrPlatform says that the build is for a platform, or needs a feature, that no builder of this machine's has.
	ErrPlatform = errors.New("this machine lacks the platform or a feature that the build needs")
	// ErrNotNixOS says that what was built cannot be switched to.
	ErrNotNixOS = errors.New("not a NixOS system")
)

// System is a built NixOS system: the store path of its toplevel.
type System struct {
	Path string
}

// Switchable returns an error that says why s is not a system to switch to.
func Switchable(s System) error {
	name := filepath.Base(s.Path)
	if filepath.Dir(s.Path) != storeDir || len(name) < 34 || name[32] != '-' {
		return fmt.Errorf("%w: %q is not a store path", ErrNotNixOS, s.Path)
	}
	if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is gone from the store: build it again", ErrMachine, s.Path)
	}
	info, err := os.Stat(s.Switcher())
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: %s has no executable bin/switch-to-configuration", ErrNotNixOS, s.Path)
	}
	return nil
}

// Switcher is the path of the program that switches to s.
func (s System) Switcher() string { return filepath.Join(s.Path, "bin", "switch-to-configuration") }

// Options say where a host keeps its systems, and how nix is to be run there.
type Options struct {
	// Profile is the profile of systems. Default: /nix/var/nix/profiles/system.
	Profile string
	// CurrentSystem is the link to the system that runs. Default: /run/current-system.
	CurrentSystem string
	// Dir is the agent's data directory; it is created when needed. Its folder roots has the garbage
	// collector roots of systems that are not in the profile yet.
	Dir string

	// BootDirs are where boot loaders keep what they boot; they need not be there. Default: /boot, /boot/efi and /efi.
	BootDirs []string

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

// Host builds systems on this machine, and knows those that it has.
type Host struct {
	opts    Options
	bootLog struct { // what BootFailures has read
		sync.Mutex
		read     bool
		failures []string
	}
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
	if opts.BootDirs == nil {
		opts.BootDirs = []string{"/boot", "/boot/efi", "/efi"}
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

// Options returns the options of the host, with absolute paths and with defaults in place of what was not
// given.
func (h *Host) Options() Options { return h.opts }

// roots is the folder of garbage collector roots.
func (h *Host) roots() string { return filepath.Join(h.opts.Dir, "roots") }
