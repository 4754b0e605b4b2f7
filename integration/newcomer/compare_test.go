package newcomer

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// variable is what differs from run to run, and what stands for it.
var variable = []struct {
	text *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\x1b\[[0-9;]*m`), ""},
	{regexp.MustCompile(`/nix/store/[0-9a-z]{32}`), "/nix/store/HASH"},
	{regexp.MustCompile(`SHA256:[A-Za-z0-9+/]{43}`), "SHA256:HASH"},
	{regexp.MustCompile(`\b[0-9a-f]{12,64}\b`), "HASH"},
	{regexp.MustCompile(`\b\d{13}\b`), "SERIAL"},
	{regexp.MustCompile(`\b(x86_64|aarch64)\b`), "CPU"},
	{regexp.MustCompile(`^host: .*`), "host: NAME"},
	{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?UTC|Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`\b\d+:\d\d\b`), "TIME"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(ms|s|min|h|d|seconds?|minutes?|hours?|days?)\b`), "TIME"},
	{regexp.MustCompile(`\b\d+\.\d+\b`), "NUMBER"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

func normal(line string) string {
	for _, v := range variable {
		line = v.text.ReplaceAllString(line, v.with)
	}
	return strings.TrimSpace(line)
}

// shows returns an error unless the output is what the page shows.
func shows(page, output string) error {
	if page == "" {
		return nil
	}
	got := strings.Split(strings.TrimRight(output, "\n"), "\n")
	skip := false
	for line := range strings.Lines(page) {
		want := normal(line)
		if want == "..." {
			skip = true
			continue
		}
		for skip && len(got) > 0 && normal(got[0]) != want {
			got = got[1:]
		}
		if len(got) == 0 || normal(got[0]) != want {
			return fmt.Errorf("the page shows %q, and in its place stands %q", strings.TrimSpace(line), append(got, "the end")[0])
		}
		got, skip = got[1:], false
	}
	if len(got) > 0 && !skip {
		return fmt.Errorf("the page does not show %q", got[0])
	}
	return nil
}

func TestShows(t *testing.T) {
	t.Parallel()
	const page = "begins\n...\nweb1  applied  12 s ago  0a1b2c3d4e5f\n"
	for output, is := range map[string]bool{
		"begins\nweb1 applied 3.5 s ago aaaaaaaaaaaa\n":       true,
		"begins\nmore\nweb1 applied 3 s ago aaaaaaaaaaaa\n":   true,
		"web1 applied 3 s ago aaaaaaaaaaaa\n":                 false,
		"begins\nweb1 failed 3 s ago aaaaaaaaaaaa\n":          false,
		"begins\nweb1 applied 3 s ago aaaaaaaaaaaa\nmore\n":   false,
		"begins\nweb1 applied 3 s ago aaaaaaaaaaaa and more ": false,
		"begins\n": false,
	} {
		if err := shows(page, output); (err == nil) != is {
			t.Errorf("%q: %v", output, err)
		}
	}
}
