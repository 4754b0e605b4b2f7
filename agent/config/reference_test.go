package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is made from the table of settings again")

// What is made from the table of settings is what it says now.
func TestReference(t *testing.T) {
	for _, c := range []struct {
		file string
		make func() string
	}{
		{"../../nix/settings.json", moduleTable},
		{"../../docs/settings.md", settingsPage},
	} {
		t.Run(c.file, func(t *testing.T) {
			want := c.make()
			if *update {
				if err := os.WriteFile(c.file, []byte(want), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(c.file); err != nil || string(got) != want {
				t.Errorf("it is not what the table says (%v): go test ./agent/config -run Reference -update", err)
			}
		})
	}
}

// moduleTable is what the NixOS module reads: each setting by the name of its option.
func moduleTable() string {
	type option struct {
		Default any      `json:"default,omitempty"`
		Min     *int64   `json:"min,omitempty"`
		Max     *int64   `json:"max,omitempty"`
		OneOf   []string `json:"oneOf,omitempty"`
		Text    string   `json:"text"`
	}
	options := map[string]option{}
	for _, s := range Settings {
		o := option{Default: s.Default, OneOf: s.OneOf, Text: camelNames(strings.TrimSpace(s.Text + " " + s.More))}
		if s.Max > 0 {
			o.Min, o.Max = &s.Min, &s.Max
		}
		options[camel(s.Name)] = o
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(options); err != nil {
		panic(err)
	}
	return b.String()
}

var quotedName = regexp.MustCompile("`[a-z_]+`")

// camelNames gives names in backticks the form that they have in Nix.
func camelNames(text string) string { return quotedName.ReplaceAllStringFunc(text, camel) }

func camel(name string) string {
	words := strings.Split(name, "_")
	for i := range words[1:] {
		words[i+1] = strings.ToUpper(words[i+1][:1]) + words[i+1][1:]
	}
	return strings.Join(words, "")
}

// settingsPage is the reference of settings.
func settingsPage() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made from the table in ` + "`agent/config/settings.go`" + ` by ` + "`go test ./agent/config -run Reference -update`" + `; do not edit.

Set a setting on a host with ` + "`npcnix config set NAME VALUE`" + `, which writes ` + "`config.json`" + `, or with the
[NixOS module](options.md). ` + "`npcnix config show`" + ` prints each setting in force and where it comes from.

`)
	for _, s := range Settings {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", s.Name, strings.TrimSpace(s.Text+" "+s.More))
		fmt.Fprintf(&b, "- Value: %s\n", s.Limits())
		if d := s.DefaultJSON(); d != "" {
			fmt.Fprintf(&b, "- Default: `%s`\n", d)
		}
		if s.Example != "" {
			fmt.Fprintf(&b, "- Example: `%s`\n", s.Example)
		}
		fmt.Fprintf(&b, "- NixOS option: `services.npcnix.%s`\n", camel(s.Name))
		if s.Flag != "" {
			variable := "NPCNIX_" + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_"))
			fmt.Fprintf(&b, "- Flag: `--%s`, environment: `%s`\n", s.Flag, variable)
		}
		for _, old := range s.Old {
			fmt.Fprintf(&b, "- Former name, which is still read: `%s`\n", old)
		}
		b.WriteString("\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}
