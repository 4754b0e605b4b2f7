package fleet

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// printable is what may be printed of a character of a foreign text; -1: nothing. What speaks to a terminal,
// or changes the order or the look of what stands around it, is a control or a format character.
func printable(r rune) rune {
	switch {
	case unicode.IsPrint(r):
		return r
	case r == '\n' || r == '\t' || r == '\r' || unicode.Is(unicode.Zs, r):
		return ' '
	}

	return -1
}

// Clean is what may be printed of a foreign text: one line without control and format characters. So no host,
// store or service can speak to a terminal or to a CI system.
func Clean(s string) string { return clean(s) }

func clean(s string) string { return strings.TrimSpace(strings.Map(printable, s)) }

// Text is what may be printed of a text of several lines, whoever wrote the parts of it.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return printable(r)
	}, s)
}

// Escaping returns a writer of JSON, or of a log's lines, to w. It writes what Clean removes as \uXXXX, which
// is the same JSON.
func Escaping(w io.Writer) io.Writer { return escaping{w} }

type escaping struct{ w io.Writer }

func (e escaping) Write(p []byte) (int, error) {
	text := string(p)
	if strings.ContainsFunc(text, needsEscape) {
		var b strings.Builder
		for _, r := range text {
			if !needsEscape(r) {
				b.WriteRune(r)
				continue
			}
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
		text = b.String()
	}
	if _, err := io.WriteString(e.w, text); err != nil {
		return 0, err
	}

	return len(p), nil
}

func needsEscape(r rune) bool { return r != '\n' && printable(r) == -1 }
