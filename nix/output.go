package nix

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
)

const (
	// keptLines is how much of a log goes into an error.
	keptLines = 40
	// maxLine bounds a line in bytes; what is longer is cut.
	maxLine = 4096
)

// Colours and cursor movements, window titles, and what is left of control characters.
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\-~]|[\x00-\x08\x0b-\x1f\x7f]`)

// Output is a writer that cuts the output of a program into lines, hands each on as it is complete, and
// keeps the last ones. Blank lines are dropped. Of a line that overwrites itself (a progress bar) the
// last state counts. Escape sequences are removed, and long lines are cut.
type Output struct {
	Emit func(line string) // may be nil
	// Caches are URLs. Users and passwords in them are removed from the lines.
	Caches []string

	tail []string // the last keptLines lines
	part []byte   // of a line that is not complete yet, at most maxLine
	cut  bool     // more than part has come
}

func (o *Output) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, complete := bytes.Cut(p, []byte{'\n'})
		room := maxLine - len(o.part)
		if len(line) > room {
			line, o.cut = line[:room], true
		}
		o.part = append(o.part, line...)
		if !complete {
			return n, nil
		}
		o.flush()
		p = rest
	}
}

// Lines returns the last lines. It is to be called when the program has ended, as it ends the line that
// was begun.
func (o *Output) Lines() []string {
	o.flush()
	return o.tail
}

// flush ends the line that was begun.
func (o *Output) flush() {
	text := strings.TrimRight(string(o.part), "\r")
	if o.cut {
		text += "…"
	}
	o.part, o.cut = o.part[:0], false
	if i := strings.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if strings.ContainsFunc(text, unicode.IsControl) { // seldom, and much cheaper to find out
		text = escapes.ReplaceAllString(text, "")
	}
	text = strings.TrimRight(withoutSecrets(text, o.Caches), " \t")
	if text == "" {
		return
	}
	if len(o.tail) == keptLines {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	o.tail = append(o.tail, text)
	if o.Emit != nil {
		o.Emit(text)
	}
}

// reason returns nix's own last word on why it failed, "" where it left none.
//
// The last error is the one to look at, as nix prints causes after their effects; except that
// "dependencies of derivation … failed to build" comes after the failure itself. A message that
// starts on a line below its "error:", as failed assertions of NixOS do, is joined to one line.
func reason(tail []string) string {
	last := ""
	for i := len(tail) - 1; i >= 0; i-- {
		text, found := strings.CutPrefix(strings.TrimSpace(tail[i]), "error:")
		if !found {
			continue
		}
		text = strings.TrimSpace(text)
		if text == "" {
			text = joined(tail[i+1:])
		}
		if last == "" {
			last = text
		}
		if !strings.Contains(text, "dependencies of derivation") {
			return strings.TrimRight(text, ":;")
		}
	}
	return last
}

// joined makes one line of the first few.
func joined(tail []string) string {
	var words []string
	for _, line := range tail[:min(len(tail), 6)] {
		words = append(words, strings.Fields(line)...)
	}
	return strings.Join(words, " ")
}

// foreign returns nix's words about a derivation for another platform than this machine's, or for one with features
// that this machine lacks; "" if there is none.
func foreign(tail []string) string {
	for _, line := range tail {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "error: a '") && strings.Contains(line, "is required to build") { // until nix 2.26 at least
			return strings.TrimPrefix(line, "error: ")
		}
		if strings.HasPrefix(line, "Required system: ") || strings.HasPrefix(line, "Required features: ") {
			return line
		}
	}
	return ""
}

// ranOutOfDisk tells whether nix itself, not one of the programs it ran, says so.
func ranOutOfDisk(tail []string) bool {
	for _, line := range tail {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "error:") && strings.HasSuffix(line, "No space left on device") ||
			strings.HasPrefix(line, "note: build failure may have been caused by lack of free disk space") {
			return true
		}
	}
	return false
}
