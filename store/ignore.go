package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ignoreFile, at the top of a flake, names what is not packed.
const ignoreFile = ".npcnixignore"

// ignored are the patterns of an ignoreFile, one a line, as .gitignore has them: a pattern with a slash in front or
// inside is of a path from the top, another one of a name at any depth; one that ends in a slash is of directories
// alone. Patterns are those of path.Match. There is no "!" and no "**".
type ignored []ignorePattern

type ignorePattern struct {
	text    string
	fromTop bool
	onlyDir bool
}

func readIgnored(src string) (ignored, error) {
	text, err := os.ReadFile(filepath.Join(src, ignoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	var all ignored
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		p := ignorePattern{text: strings.TrimSuffix(line, "/"), onlyDir: strings.HasSuffix(line, "/")}
		p.fromTop = strings.Contains(p.text, "/")
		p.text = strings.TrimPrefix(p.text, "/")
		_, err := path.Match(p.text, "")
		if err != nil || p.text == "" || strings.HasPrefix(line, "!") || strings.Contains(line, "**") {
			return nil, fmt.Errorf("%s, line %d: %q is no pattern: name a path from the top or a name, with *, ? and [a-z]; there is no ! and no **", ignoreFile, i+1, line)
		}
		all = append(all, p)
	}

	if all.match("flake.nix", false) {
		return nil, fmt.Errorf("%s names flake.nix, without which there is no flake", ignoreFile)
	}

	return all, nil
}

// match reports whether an entry is ignored; its name is slash-separated and relative to the top.
func (all ignored) match(name string, dir bool) bool {
	for _, p := range all {
		subject := name
		if !p.fromTop {
			subject = path.Base(name)
		}
		if ok, _ := path.Match(p.text, subject); ok && (dir || !p.onlyDir) {
			return true
		}
	}

	return false
}
