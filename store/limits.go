package store

import (
	"fmt"
	"strings"
)

// Limits bounds what an archive may unpack to. Pack and Unpack hold to the same
// ones. Zero fields take the defaults.
type Limits struct {
	Entries int   // files, directories and links; default 200,000
	Bytes   int64 // of the unpacked archive, its headers included; default 2 GiB
}

func (l Limits) orDefault() Limits {
	if l.Entries <= 0 {
		l.Entries = 200_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 2 << 30
	}
	return l
}

// Names that are longer or deeper than any flake's would make each system call expensive.
const (
	maxName   = 4000 // bytes
	maxPart   = 255  // bytes of one path element, what file systems allow
	maxDepth  = 255  // path elements
	maxTarget = 4095 // bytes of a link's target, what Linux allows

	// meanDepth is how many path elements entries may have on average.
	meanDepth = 16
	// maxFrames bounds the zstd frames of an archive: each costs time, also an empty one.
	maxFrames = 50_000
)

// budget is what is left of the limits of one archive.
type budget struct {
	Limits
	entries  int
	elements int64 // of the entries' paths
}

func newBudget(l Limits) *budget { return &budget{Limits: l.orDefault()} }

// entry takes account of an entry by that name. Many deep ones cost the file
// system more than their number tells, so the elements of their paths count too.
func (b *budget) entry(name string) error {
	if b.entries++; b.entries > b.Entries {
		return unsafe("too many entries, more than %d", b.Entries)
	}
	b.elements += int64(strings.Count(name, "/")) + 1
	if limit := meanDepth * int64(b.Entries); b.elements > limit {
		return unsafe("too many deep entries: their paths have more than %d elements in all", limit)
	}
	return nil
}

func unsafe(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsafe, fmt.Errorf(format, args...))
}

func tooLarge(limit int64) error {
	return unsafe("too large: unpacks to more than %d bytes", limit)
}
