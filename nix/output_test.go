package nix

import (
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name  string
		write []string
		want  []string
	}{
		{"come one by one, however they are written", []string{"a\nb", "c\n", "\nd"}, []string{"a", "bc", "d"}},
		{"lose colours and cursor movements", []string{"\x1b[31;1merror:\x1b[0m x\x1b[K\n", "\x1b]0;title\x07y\x1b(B\n"}, []string{"error: x", "y"}},
		{"lose other control characters but tabs", []string{"a\x00\x07\tb\x1b\n"}, []string{"a\tb"}},
		{"keep the last state of a progress bar", []string{"10%\r50%", "\r100%\r\n"}, []string{"100%"}},
		{"are cut when they are too long", []string{strings.Repeat("x", maxLine-1), "yyy", "zzz\nnext\n"}, []string{strings.Repeat("x", maxLine-1) + "y…", "next"}},
		{"are valid UTF-8", []string{"a\xffb\n"}, []string{"a\uFFFDb"}},
		{"lose users and passwords of caches", []string{"get 'https://me:p@ss@cache/x', s3://me:p@ss@cache and https://open/x@y\n"}, []string{"get 'https://cache/x', s3://me:p@ss@cache and https://open/x@y"}},
		{"are none when they are blank", []string{"\n \t\r\n\x1b[0m\n"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			l := Output{Emit: func(line string) { got = append(got, line) }, Caches: []string{"https://me:p@ss@cache/y", "https://open/x@y", ""}}
			for _, w := range c.write {
				if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			l.flush()
			if !slices.Equal(got, c.want) || !slices.Equal(l.tail, c.want) {
				t.Errorf("emitted %q, kept %q, want %q", got, l.tail, c.want)
			}
		})
	}
}

func TestReasonIsTheMostTellingErrorOfTheLog(t *testing.T) {
	for _, c := range []struct {
		name string
		log  string
		want string
	}{
		{"none", "building 'x'...\nx> done", ""},
		{"nix 2.8", "warning: w\nerror: attribute 'a' missing\n       at /nix/store/x/flake.nix:1:2:", "attribute 'a' missing"},
		{"nix 2.26 prints the cause last", "error:\n       … while calling the 'throw' builtin\n         at x:1:2:\n       error: thrown", "thrown"},
		{"a dependency that failed", "b> boom\nerror: builder for 'b.drv' failed with exit code 1\nerror: 1 dependencies of derivation 'a.drv' failed to build", "builder for 'b.drv' failed with exit code 1"},
		{"only the dependents are left", "error: 2 dependencies of derivation 'a.drv' failed to build", "2 dependencies of derivation 'a.drv' failed to build"},
		{"failed assertions of NixOS", "error:\n       Failed assertions:\n       - No root file system.\n", "Failed assertions: - No root file system."},
		{"a builder's error is not nix's", "x> error: in gcc\nerror: builder failed;", "builder failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Output
			if _, err := l.Write([]byte(c.log)); err != nil {
				t.Fatal(err)
			}
			l.flush()
			if got := reason(l.tail); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}

func TestDiskFullIsWhatNixItselfSays(t *testing.T) {
	for _, c := range []struct {
		name string
		line string
		want bool
	}{
		{"nix cannot write", "       error: writing to file: No space left on device", true},
		{"nix suspects it", "       note: build failure may have been caused by lack of free disk space", true},
		{"a builder cannot write", "x> error: No space left on device", false},
		{"another error", "error: Permission denied", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ranOutOfDisk([]string{"building", c.line}); got != c.want {
				t.Errorf("ranOutOfDisk = %v, want %v", got, c.want)
			}
		})
	}
}

func TestForeign(t *testing.T) {
	for name, c := range map[string]struct {
		tail []string
		want string
	}{
		"nix 2.8 and 2.26": {[]string{"error: a 'riscv64-linux' with features {} is required to build '/nix/store/x.drv', but I am a 'x86_64-linux'"},
			"a 'riscv64-linux' with features {} is required to build '/nix/store/x.drv', but I am a 'x86_64-linux'"},
		"nix 2.34":      {[]string{"error: Cannot build '/nix/store/x.drv'.", "       Reason: platform mismatch", "       Required system: 'riscv64-linux'"}, "Required system: 'riscv64-linux'"},
		"another error": {[]string{"error: builder for '/nix/store/x.drv' failed with exit code 1"}, ""},
		"a builder":     {[]string{"x> error: a 'riscv64-linux' is required to build"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := foreign(c.tail); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestChangesAreBounded(t *testing.T) {
	lines, more := bounded(strings.Repeat("tool: 1 → 2\n\n", MaxChanges+7))
	if len(lines) != MaxChanges || more != 7 {
		t.Errorf("%d lines, %d more", len(lines), more)
	}
}
