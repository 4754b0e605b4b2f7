package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nix/systemd"
)

const (
	// bootFile has the ID of the boot in which the store was last found whole. It is absent after an orderly
	// shutdown.
	bootFile = "boot"
	// unwritten is how long before a loss of power a path may have come into the store, and its content not
	// be on disk. Linux writes back within half a minute, on laptops within ten minutes.
	unwritten = time.Hour
	// batch is how many store paths a command line has at most.
	batch = 500
)

// CheckStore finds what an unclean end of the machine has damaged in the store, and repairs it. It does so
// once after each such end. What is needed, that is what runs, what boots and the systems of keep, is
// repaired: it is fetched from a cache, or built again. Other damaged paths are deleted, with all that refers
// to them, so that the next build fetches or builds them again.
//
// It looks at the systems that are needed, at those of wanted, and at all that came into the store in the
// hour before the end. Errors: ctx's own, and those with [ErrMachine] in their chain.
func (h *Host) CheckStore(ctx context.Context, keep, wanted []System) error {
	now, file := BootID(), filepath.Join(h.opts.Dir, bootFile)
	last, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: check the store: %w", ErrMachine, err)
	}
	if now == "" || string(last) == now {
		return nil
	}
	if len(last) > 0 {
		h.opts.Log.Warn("the machine was not shut down in an orderly way; checking the store for damage")
		if err := h.repair(ctx, keep, wanted); err != nil {
			return Blame(ctx, fmt.Errorf("check the store after an unclean end of the machine: %w", err))
		}
	}
	return h.noteBoot(now)
}

// Repair checks all paths that a system needs, and repairs those that are damaged. It reports whether there were
// any. Errors: ctx's own, and those with [ErrMachine] in their chain, which say what to do.
func (h *Host) Repair(ctx context.Context, s System) (repaired bool, err error) {
	paths, err := h.closure(ctx, []System{s})
	if err != nil {
		return false, Blame(ctx, err)
	}
	damaged, err := h.damaged(ctx, paths)
	if err != nil {
		return false, Blame(ctx, err)
	}
	for _, path := range damaged {
		if err := h.repairPath(ctx, path); err != nil {
			return false, Blame(ctx, err)
		}
	}
	return len(damaged) > 0, nil
}

// NoteShutdown takes note that the machine is being shut down in an orderly way, if it is, so that the next
// boot need not check the store.
func (h *Host) NoteShutdown(ctx context.Context) error {
	if !systemd.Stopping(ctx) {
		return nil
	}
	if err := h.Flush(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(h.opts.Dir, bootFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return flush(h.opts.Dir)
}

func (h *Host) noteBoot(id string) error {
	err := os.MkdirAll(h.opts.Dir, 0o755)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(h.opts.Dir, bootFile), []byte(id), 0o600)
	}
	if err == nil {
		err = flush(h.opts.Dir)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	return nil
}

// repair finds what is damaged, and repairs or deletes it.
func (h *Host) repair(ctx context.Context, keep, wanted []System) error {
	begun := time.Now()
	for _, link := range []string{h.opts.CurrentSystem, h.booted(), h.opts.Profile} {
		if path, err := resolve(link); err == nil {
			keep = append(keep, System{path})
		}
	}
	needed, err := h.closure(ctx, keep)
	if err != nil {
		return err
	}
	others, err := h.closure(ctx, wanted)
	if err != nil {
		return err
	}
	recent, err := recentPaths()
	if err != nil {
		return err
	}
	paths := slices.Concat(needed, others, recent)
	slices.Sort(paths)
	damaged, err := h.damaged(ctx, slices.Compact(paths))
	if err != nil {
		return err
	}
	var doomed, repaired []string
	for _, path := range damaged {
		if slices.Contains(needed, path) {
			repaired = append(repaired, path)
		} else {
			doomed = append(doomed, path)
		}
	}
	if err := h.deletePaths(ctx, doomed); err != nil {
		return err
	}
	for _, path := range repaired {
		if err := h.repairPath(ctx, path); err != nil {
			return err
		}
	}
	bootFiles, err := h.repairBootFiles(ctx)
	if err != nil {
		return err
	}
	h.opts.Log.Warn("the store was checked", "paths", len(paths), "deleted", len(doomed), "repaired", len(repaired), "boot_files", bootFiles, "after", time.Since(begun).Round(time.Millisecond))
	return h.Flush()
}

// closure returns all paths that the systems need. A system that nix does not know is left out.
func (h *Host) closure(ctx context.Context, systems []System) ([]string, error) {
	var roots []string
	for _, s := range systems {
		if s != (System{}) {
			roots = append(roots, s.Path)
		}
	}
	roots, err := h.valid(ctx, roots)
	if err != nil || len(roots) == 0 {
		return nil, err
	}
	return h.query(ctx, append([]string{"--query", "--requisites"}, roots...)...)
}

// query returns the paths that nix-store prints.
func (h *Host) query(ctx context.Context, args ...string) ([]string, error) {
	var stdout bytes.Buffer
	log := &Output{}
	if err := run(ctx, &stdout, log, "nix-store", args...); err != nil {
		return nil, because(log.Lines(), err)
	}
	return strings.Fields(stdout.String()), nil
}

// valid returns the paths that nix knows as valid.
func (h *Host) valid(ctx context.Context, paths []string) ([]string, error) {
	invalid := map[string]bool{}
	for some := range slices.Chunk(paths, batch) {
		unknown, err := h.query(ctx, append([]string{"--check-validity", "--print-invalid"}, some...)...)
		if err != nil {
			return nil, err
		}
		for _, path := range unknown {
			invalid[path] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return invalid[path] }), nil
}

// recentPaths returns what came into the store in the time before the newest that did. A store path has no
// times of its own; when its inode was changed last tells when it came.
func recentPaths() ([]string, error) {
	entries, err := os.ReadDir(storeDir)
	if err != nil {
		return nil, err
	}
	came, newest := map[string]time.Time{}, time.Time{}
	for _, e := range entries {
		path := filepath.Join(storeDir, e.Name())
		var stat unix.Stat_t
		if !storeName.MatchString(e.Name()) || unix.Lstat(path, &stat) != nil {
			continue
		}
		at := time.Unix(stat.Ctim.Unix())
		if came[path] = at; at.After(newest) {
			newest = at
		}
	}
	var paths []string
	for path, at := range came {
		if newest.Sub(at) <= unwritten {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

var (
	storeName = regexp.MustCompile(`^[0-9a-z]{32}-[0-9a-zA-Z+._?=-]+$`)
	modified  = regexp.MustCompile(`path '(/nix/store/[^']+)' was modified`)
	storePath = regexp.MustCompile(`/nix/store/[0-9a-z]{32}-[0-9a-zA-Z+._?=-]+`)
)

// damaged returns those of the valid paths whose content is not what nix has registered.
func (h *Host) damaged(ctx context.Context, paths []string) ([]string, error) {
	paths, err := h.valid(ctx, paths)
	if err != nil {
		return nil, err
	}
	var found []string
	paths = slices.DeleteFunc(paths, func(path string) bool {
		_, err := os.Lstat(path)
		if err != nil {
			found = append(found, path)
		}
		return err != nil
	})
	for some := range slices.Chunk(paths, batch) {
		bad, err := h.verifyPaths(ctx, some)
		if err != nil {
			return nil, err
		}
		found = append(found, bad...)
	}
	return found, nil
}

// verifyPaths returns the paths whose content is damaged. nix ends at the first that it cannot read, and
// names that.
func (h *Host) verifyPaths(ctx context.Context, paths []string) (found []string, err error) {
	for len(paths) > 0 {
		log := &Output{Emit: func(line string) {
			if m := modified.FindStringSubmatch(line); m != nil {
				found = append(found, m[1])
			}
		}}
		err := run(ctx, nil, log, "nix-store", append([]string{"--verify-path"}, paths...)...)
		if ctx.Err() != nil || errors.Is(err, ErrNoNix) {
			return nil, err
		}
		why := reason(log.Lines())
		if why == "" {
			return found, nil // all were read
		}
		unread := slices.Index(paths, storePath.FindString(why))
		if unread < 0 {
			return nil, errors.New(why)
		}
		found = append(found, paths[unread])
		paths = paths[unread+1:]
	}
	return found, nil
}

// deletePaths deletes store paths that nothing needs, and all that refers to them.
func (h *Host) deletePaths(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	all, err := h.query(ctx, append([]string{"--query", "--referrers-closure"}, paths...)...)
	if err != nil {
		return err
	}
	h.opts.Log.Warn("deleting damaged paths of the store, and what refers to them", "damaged", paths, "paths", len(all))
	log := &Output{Emit: h.logged("nix-store --delete")}
	if err := run(ctx, nil, log, "nix-store", append([]string{"--delete", "--ignore-liveness"}, all...)...); err != nil {
		return because(log.Lines(), err)
	}
	return nil
}

// repairPath has nix fetch a damaged path again, or build it.
func (h *Host) repairPath(ctx context.Context, path string) error {
	h.opts.Log.Warn("repairing a damaged path of the store", "path", path)
	log := &Output{Emit: h.logged("nix-store --repair-path")}
	if err := run(ctx, nil, log, "nix-store", append([]string{"--repair-path", path}, h.settings()...)...); err != nil {
		return fmt.Errorf("%s is damaged, and cannot be fetched or built again; copy it here from another machine, with `nix copy`, or repair it with `nix-store --repair-path`: %w", path, because(log.Lines(), err))
	}
	return nil
}
