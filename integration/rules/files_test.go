package rules

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent"
	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/nix/activation"
	"github.com/npcnix/npcnix/store/release"
)

// docs/files.md names each member of each file, in the file's own section.
func TestFilesAreDescribed(t *testing.T) {
	page, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	for title, files := range map[string][]any{
		"state.json": {agent.State{}}, "activation.json": {activation.Journal{}}, "agent.json": {health.Health{}}, "The record": {record.Record{}},
		"trust.json": {trust.Memory{}, release.Accepted{}},
	} {
		described := map[string]bool{}
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(sections[title], -1) {
			described[name[1]] = true
		}
		for _, file := range files {
			for _, name := range members(reflect.TypeOf(file)) {
				if !described[name] {
					t.Errorf("%s: nothing is said of %q", title, name)
				}
			}
		}
	}
	frame, err := os.ReadFile("../../agent/frame.go")
	if err != nil {
		t.Fatal(err)
	}
	kept := regexp.MustCompile("`json:\"([a-z_]+)").FindAllStringSubmatch(string(frame), -1)
	if len(kept) < 3 {
		t.Errorf("agent/frame.go has %d members of frame.json", len(kept))
	}
	for _, member := range kept {
		if !strings.Contains(sections["frame.json"], "`"+member[1]+"`") {
			t.Errorf("frame.json: nothing is said of %q", member[1])
		}
	}
	// The settings are described in a page that is made of their own table.
	if !strings.Contains(sections["config.json"], "(settings.md)") {
		t.Error("config.json: nothing leads to its settings")
	}
	for field := range reflect.TypeFor[config.Config]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if _, isSetting := config.Lookup(name); !isSetting && name != "" && !strings.Contains(sections["config.json"], "`"+name+"`") {
			t.Errorf("config.json: nothing is said of %q", name)
		}
	}
}

// members returns the names of the JSON members of a type, and of the structs of its package that it has.
func members(t reflect.Type) []string {
	var names []string
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		inner := field.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Map {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && inner.PkgPath() == t.PkgPath() {
			names = append(names, members(inner)...)
		}
	}
	return names
}
