package record

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write docs/record.schema.json")

// docs/record.schema.json is what a record's struct says, with the words of docs/files.md.
func TestSchema(t *testing.T) {
	t.Parallel()
	const file = "../../docs/record.schema.json"
	enum := func(values any) *jsonschema.Schema {
		s := &jsonschema.Schema{Type: "string"}
		for v := range reflect.ValueOf(values).Seq2() {
			s.Enum = append(s.Enum, reflect.ValueOf(values).Index(int(v.Int())).String())
		}
		return s
	}
	s, err := jsonschema.For[Record](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time"},
		reflect.TypeFor[Status]():    enum(Statuses), reflect.TypeFor[Trigger](): enum([]Trigger{Start, Event, Poll, Manual}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "The record of a host, schema 2"
	s.Description = "What a host says of a version, as docs/files.md describes. Members that a reader does not know are to be ignored."
	s.Properties["schema"].Const = jsonschema.Ptr[any](Schema)
	describe(t, s)
	want, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not that of the struct: go test ./agent/record -run Schema -update writes\n%s", file, want)
	}
}

// describe takes the descriptions from the table of the page, and opens the schema.
func describe(t *testing.T, s *jsonschema.Schema) {
	t.Helper()
	page, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## The record\n")
	link := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			if property := s.Properties[name[1]]; property != nil && property.Const == nil {
				property.Description = strings.ReplaceAll(link.ReplaceAllString(row[2], "$1"), "`", "")
			}
		}
	}
	open(s)
	for name, property := range s.Properties {
		if property.Description == "" && property.Const == nil {
			t.Errorf("docs/files.md has no row for %s", name)
		}
	}
}

// open lets a record have members of a later npcnix. What is empty is omitted, and never null.
func open(s *jsonschema.Schema) {
	s.AdditionalProperties = nil
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	for _, property := range s.Properties {
		open(property)
	}
}

// The schema takes what a host writes, and refuses what no host writes.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/record.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(Record{Schema: Schema, Host: "web1", Status: Applied, Trigger: Poll, Times: Times{Written: time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"": "", `"web1"`: `1`, `"applied"`: `"done"`, `"poll"`: `"chance"`, `"schema":2`: `"schema":3`, `"host":"web1",`: "",
	} {
		var value any
		if err := json.Unmarshal([]byte(strings.Replace(string(good), from, to, 1)), &value); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != (from == "") {
			t.Errorf("%s in the place of %s: %v", to, from, err)
		}
	}
}
