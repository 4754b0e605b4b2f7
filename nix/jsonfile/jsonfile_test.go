package jsonfile_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nix/jsonfile"
)

// thing is a file's content as one version of a program knows it.
type thing struct {
	Name  string `json:"name"`
	Count int    `json:"count,omitempty"`

	rest jsonfile.Unknown
}

func (th *thing) UnmarshalJSON(data []byte) error {
	type plain thing
	var p plain
	rest, err := jsonfile.Decode(data, &p)
	if err != nil {
		return err
	}
	*th = thing(p)
	th.rest = rest
	return nil
}

func (th thing) MarshalJSON() ([]byte, error) {
	type plain thing
	return jsonfile.Encode(plain(th), th.rest)
}

func TestUnknownMembers(t *testing.T) {
	t.Run("survive a rewrite, as they are", func(t *testing.T) {
		var th thing
		if err := json.Unmarshal([]byte(`{"name": "a", "count": 1, "newer": {"deep": [1, 2.50]}, "big": 12345678901234567890}`), &th); err != nil {
			t.Fatal(err)
		}
		th.Name, th.Count = "b", 0
		data, err := th.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"name": "b"`, "2.50", "12345678901234567890"} {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s lacks %s", data, want)
			}
		}
		if strings.Contains(string(data), "count") {
			t.Errorf("%s has a member that was omitted", data)
		}
	})
	t.Run("do not replace a known one", func(t *testing.T) {
		data, err := thing{Name: "a", rest: jsonfile.Unknown{"name": []byte(`"other"`)}}.MarshalJSON()
		if err != nil || !strings.Contains(string(data), `"name": "a"`) {
			t.Errorf("%s, %v", data, err)
		}
	})
	t.Run("are none where the file is damaged", func(t *testing.T) {
		for _, text := range []string{"", "{", "[]", `{"name": 1}`} {
			if rest, err := jsonfile.Decode([]byte(text), &struct {
				Name string `json:"name"`
			}{}); err == nil || rest != nil {
				t.Errorf("%q: %v, %v", text, rest, err)
			}
		}
	})
}

func TestWrite(t *testing.T) {
	read := func(t *testing.T, path string) (string, os.FileMode) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(data), info.Mode().Perm()
	}
	t.Run("a new file is its owner's alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a.json")
		if err := jsonfile.Write(path, thing{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		if text, mode := read(t, path); text != "{\n  \"name\": \"a\"\n}\n" || mode != 0o600 {
			t.Errorf("%q, %v", text, mode)
		}
	})
	t.Run("an existing file keeps its mode, and a link stays one", func(t *testing.T) {
		dir := t.TempDir()
		target, link := filepath.Join(dir, "target.json"), filepath.Join(dir, "link.json")
		if err := os.WriteFile(target, []byte("{}"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := jsonfile.Write(link, thing{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		if text, mode := read(t, target); !strings.Contains(text, `"a"`) || mode != 0o640 {
			t.Errorf("%q, %v", text, mode)
		}
		if to, err := os.Readlink(link); err != nil || to != target {
			t.Errorf("the link leads to %q, %v", to, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	})
	t.Run("what cannot be written leaves the old content, and names the file", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.json")
		if err := jsonfile.Write(path, thing{Name: "old"}); err != nil {
			t.Fatal(err)
		}
		err := jsonfile.Write(path, broken{})
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "a.json") {
			t.Errorf("%v", err)
		}
		if text, _ := read(t, path); !strings.Contains(text, "old") {
			t.Errorf("it is %q", text)
		}
		if err := jsonfile.Write(filepath.Join(dir, "gone", "b.json"), thing{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "b.json") {
			t.Errorf("%v", err)
		}
	})
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) MarshalJSON() ([]byte, error) { return nil, errBroken }
