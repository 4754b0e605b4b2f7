package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAnInstanceIsKnownByItsFirmwareOrItsName(t *testing.T) {
	const nitro, named = "i-0123456789abcdef0", "i-00000000000000001"
	for _, c := range []struct{ name, tag, host, want string }{
		{"on Nitro", nitro + "\n", "web1", nitro},
		{"on Nitro, under another instance's name", nitro + "\n", "web-" + named, nitro},
		{"before Nitro", "", "web-" + named, named},
		{"on hardware of another kind", "Default string\n", "web1", ""},
		{"on such hardware, under an instance's name", "Default string\n", "web-" + named, named},
		{"elsewhere", "", "web1", ""},
		{"elsewhere, under a name that only has an instance's in it", "", named + ".example.org", ""},
	} {
		file := filepath.Join(t.TempDir(), "board_asset_tag")
		if c.tag != "" {
			if err := os.WriteFile(file, []byte(c.tag), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := instanceID(file, c.host); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
