package nix

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// buildLogFile is in the data directory; the one before it has the ending .1.
	buildLogFile = "build.log"
	// maxBuildLog bounds each of both files, in bytes.
	maxBuildLog = 32 << 20

	// journalLines is how many lines of a build reach the logger at once. Of those after them, one a second does:
	// a build that prints without end must not drive everything else out of the host's journal.
	journalLines = 1000
	journalPause = time.Second
)

// buildLog is where the output of a build goes: whole to a file, and at a bounded rate to the logger.
type buildLog struct {
	program string
	log     *slog.Logger
	path    string

	file    *os.File // nil: it cannot be written, which is no reason not to build
	size    int      // of file, in bytes
	lines   int      // so far
	logged  time.Time
	omitted int // lines that the logger did not get
}

// openBuildLog begins a new file, and keeps the one before.
func (h *Host) openBuildLog(program string) *buildLog {
	b := &buildLog{program: program, log: h.opts.Log, path: filepath.Join(h.opts.Dir, buildLogFile)}
	b.rotate()
	return b
}

func (b *buildLog) rotate() {
	if b.file != nil {
		_ = b.file.Close()
	}
	_ = os.Rename(b.path, b.path+".1") // there may be none
	file, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		file = nil
	}
	b.file, b.size = file, 0
}

// emit takes a line.
func (b *buildLog) emit(line string) {
	b.keep(line + "\n")
	b.lines++
	if b.lines > journalLines && time.Since(b.logged) < journalPause {
		b.omitted++
		return
	}
	b.logged = time.Now()
	b.log.Info(b.program, "line", line)
}

// keep writes a line to the file.
func (b *buildLog) keep(line string) {
	if b.size+len(line) > maxBuildLog {
		b.rotate()
	}
	if b.file == nil {
		return
	}
	n, err := b.file.WriteString(line)
	b.size += n
	if err != nil {
		_ = b.file.Close()
		b.file = nil
	}
}

// close tells of what the logger did not get.
func (b *buildLog) close() {
	if b.omitted > 0 {
		b.log.Warn("omitted lines of "+b.program+"; the file has them", "lines", b.omitted, "file", b.path)
	}
	if b.file != nil {
		_ = b.file.Close()
	}
}
