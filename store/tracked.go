package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// tracked says what of a directory git tracks: true for each file, and false for each directory that has some. It is
// nil if the directory is in no work tree of git, or git ignores its flake.nix: then all of it is packed.
type tracked map[string]bool

// shownUntracked bounds how many names a warning lists.
const shownUntracked = 10

// trackedIn asks git for the files of a flake, as nix does for a flake in a git tree: those of the index, also of
// submodules that are checked out, with the content that they have now. It warns of files that git neither tracks
// nor ignores.
func trackedIn(ctx context.Context, src string, not ignored, warn func(string)) (tracked, error) {
	inside, err := InGitTree(src)
	if err != nil || !inside {
		return nil, err
	}
	index, err := git(ctx, src, "ls-files", "-z", "--cached", "--recurse-submodules")
	if err != nil {
		return nil, err
	}

	files := tracked{}
	for name := range strings.SplitSeq(index, "\x00") {
		if name == "" {
			continue
		}
		files[name] = true
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			files[dir] = false
		}
	}
	if !files["flake.nix"] {
		return nil, untrackedFlake(ctx, src)
	}

	others, err := git(ctx, src, "ls-files", "-z", "--others", "--exclude-standard", "--directory", "--no-empty-directory")
	if err != nil {
		return nil, err
	}
	if names := worthWarning(strings.Split(others, "\x00"), not); len(names) > 0 {
		more := ""
		if n := len(names) - shownUntracked; n > 0 {
			names, more = names[:shownUntracked], fmt.Sprintf(" and %d more", n)
		}
		warn(fmt.Sprintf("not packed, because git does not track them: %s%s; `git add` what hosts need", strings.Join(names, ", "), more))
	}

	return files, nil
}

// untrackedFlake returns nil for a flake that git ignores: it is no part of the tree around it.
func untrackedFlake(ctx context.Context, src string) error {
	ignored, err := git(ctx, src, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", "flake.nix")
	if err == nil && ignored == "" {
		err = errors.New("git does not track flake.nix: `git add` the flake; if git ignores flake.nix, the whole directory is packed")
	}

	return err
}

// worthWarning leaves out what is never packed.
func worthWarning(names []string, not ignored) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		clean := path.Clean(name)
		base := path.Base(clean)
		return name == "" || base == ".direnv" || base == ".terraform" || terraformState(base) ||
			clean == "result" || strings.HasPrefix(clean, "result-") || not.match(clean, strings.HasSuffix(name, "/"))
	})
}

// InGitTree reports whether a parent directory, or dir itself, has a .git.
func InGitTree(dir string) (bool, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return false, err
	}
	for {
		if _, err := os.Lstat(filepath.Join(dir, ".git")); err == nil {
			return true, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return false, nil
		}
		dir = parent
	}
}

// GitEnviron is the environment for a git that is about the tree it runs in, whatever tree a hook of git's that called
// npcnix is about.
func GitEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"}, name)
	})
}

// git runs git in dir, whatever tree a hook of git's that called npcnix is about.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = GitEnviron()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", errors.New("the flake is in a git tree, of which only what git tracks is packed, and there is no git: install it, or pack a copy without .git")
	case err != nil:
		return "", fmt.Errorf("there is a .git, but git cannot say what it tracks: %s; repair the repository, or pack a copy without .git", cmp.Or(strings.TrimSpace(said.String()), err.Error()))
	}

	return out.String(), nil
}
