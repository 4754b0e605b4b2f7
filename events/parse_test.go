package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const etag = "d41d8cd98f00b204e9800998ecf8427e"

var put = Notice{Bucket: "example-bucket", Key: "npcnix/remotes/dev.npcnix", ETag: etag,
	At: time.Date(2026, 3, 1, 12, 0, 5, 123e6, time.UTC)}

// vary returns the notice of s3-put.json with a difference.
func vary(change func(*Notice)) Notice {
	n := put
	change(&n)
	return n
}

func TestParse(t *testing.T) {
	t.Run("understands each sample or says why not", parseSamples)
	t.Run("is bounded", parseHuge)
	t.Run("says what SNS sent instead", parseConfirmation)
	t.Run("reads the times that stores write", parseTimes)
}

func parseSamples(t *testing.T) {
	eventBridge := Notice{Bucket: "example-bucket", Key: "npcnix/remotes/red+flower%20.npcnix",
		ETag: "b1946ac92492d2347c6235b4d2611184", VersionID: "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
		At: time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)}
	moto := Notice{Bucket: "bucket1", Key: "npcnix/remotes/dev red+é.npcnix", ETag: "b1946ac92492d2347c6235b4d2611184"}

	tests := map[string]struct { // by file name
		want []Notice
		err  error
	}{
		"s3-put.json":         {want: []Notice{put}},
		"s3-bom.json":         {want: []Notice{put}},
		"s3-encoded-key.json": {want: []Notice{vary(func(n *Notice) { n.Key = "remotes/red flower+é%.npcnix" })}},
		"s3-multipart.json": {want: []Notice{vary(func(n *Notice) {
			n.ETag = "9b2cf535f27731c974343645a3985328-7"
			n.At = time.Date(2026, 3, 1, 12, 1, 0, 0, time.UTC)
		})}},
		"s3-copy.json": {want: []Notice{vary(func(n *Notice) {
			n.Key = "npcnix/remotes/prod.npcnix"
			n.At = time.Date(2026, 3, 1, 12, 2, 0, 0, time.UTC)
		})}},
		"s3-versioned.json": {want: []Notice{vary(func(n *Notice) { n.VersionID = "096fKKXTRTtl3on89fVO.nfljtsv6qko" })}},
		"s3-two-records.json": {want: []Notice{put, vary(func(n *Notice) {
			n.Key, n.ETag = "npcnix/remotes/prod.npcnix", "900150983cd24fb0d6963f7d28e17f72"
			n.At = time.Date(2026, 3, 1, 12, 0, 6, 0, time.UTC)
		})}},
		"s3-odd-time.json": {want: []Notice{vary(func(n *Notice) { n.At = time.Time{} })}},
		"s3-delete.json":   {},
		"testevent.json":   {},

		"sns-envelope.json":        {want: []Notice{put}},
		"sns-testevent.json":       {},
		"sns-eventbridge.json":     {want: []Notice{eventBridge}},
		"eventbridge.json":         {want: []Notice{eventBridge}},
		"eventbridge-deleted.json": {},

		"moto-put.json": {want: []Notice{func() Notice {
			n := moto
			n.At = time.Date(2026, 11, 23, 0, 3, 18, 536131e3, time.UTC)
			return n
		}()}},
		"moto-sns-envelope.json": {want: []Notice{func() Notice {
			n := moto
			n.At = time.Date(2026, 11, 23, 0, 3, 18, 536544e3, time.UTC)
			return n
		}()}},
		"moto-testevent.json": {},

		"unknown-array.json":            {err: ErrUnknown},
		"unknown-eventbridge.json":      {err: ErrUnknown},
		"unknown-object.json":           {err: ErrUnknown},
		"unknown-records.json":          {err: ErrUnknown},
		"unknown-sns-confirmation.json": {err: ErrUnknown},
		"unknown-sns-json.json":         {err: ErrUnknown},
		"unknown-version.json":          {err: ErrUnknown},

		"malformed-empty.json":                 {err: ErrMalformed},
		"malformed-escape.json":                {err: ErrMalformed},
		"malformed-eventbridge.json":           {err: ErrMalformed},
		"malformed-eventbridge-no-detail.json": {err: ErrMalformed},
		"malformed-no-bucket.json":             {err: ErrMalformed},
		"malformed-no-key.json":                {err: ErrMalformed},
		"malformed-no-records.json":            {err: ErrMalformed},
		"malformed-records.json":               {err: ErrMalformed},
		"malformed-second-record.json":         {err: ErrMalformed},
		"malformed-sns-no-message.json":        {err: ErrMalformed},
		"malformed-sns-text.json":              {err: ErrMalformed},
		"malformed-sns-too-deep.json":          {err: ErrMalformed},
		"malformed-text.json":                  {err: ErrMalformed},
		"malformed-truncated.json":             {err: ErrMalformed},
	}
	for _, path := range samples(t) {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			test, ok := tests[name]
			if !ok {
				t.Fatal("the table does not say what is expected of this sample")
			}
			delete(tests, name)
			got, err := Parse(read(t, path))
			if !errors.Is(err, test.err) || (test.err == nil && err != nil) {
				t.Errorf("error is %v, want %v", err, test.err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("notices are\n%+v, want\n%+v", got, test.want)
			}
		})
	}
	for name := range tests {
		t.Errorf("testdata/%s is missing", name)
	}
}

func parseHuge(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		err  error
	}{
		{"a good body blown up to more than a queue carries", append(bytes.Repeat([]byte(" "), maxBody), read(t, "testdata/s3-put.json")...), ErrMalformed},
		{"an array nested a quarter of a million deep", bytes.Repeat([]byte("["), maxBody/4), ErrMalformed},
		{"an object nested beyond what the decoder takes", []byte(strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)), ErrMalformed},
		{"a name of half a megabyte", []byte(`{"detail-type":"x","source":"` + strings.Repeat("x", maxBody/2) + `"}`), ErrUnknown},
		{"a wrong type of half a megabyte", []byte(`{"Records":"` + strings.Repeat("x", maxBody/2) + `"}`), ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			notices, err := Parse(test.body)
			if notices != nil || !errors.Is(err, test.err) {
				t.Fatalf("got %v and %.200v, want no notices and %v", notices, err, test.err)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error text has %d bytes; a log line should not carry a body", len(err.Error()))
			}
		})
	}
}

func parseConfirmation(t *testing.T) {
	_, err := Parse(read(t, "testdata/unknown-sns-confirmation.json"))
	if err == nil || !strings.Contains(err.Error(), "SubscriptionConfirmation") {
		t.Errorf("error is %v, want it to name SubscriptionConfirmation", err)
	}
}

func parseTimes(t *testing.T) {
	want := time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-03-01T12:00:05.000Z":      want,
		"2026-03-01T12:00:05Z":          want,
		"2026-03-01T12:00:05":           want,
		"2026-03-01T12:00:05.123456":    want.Add(123456 * time.Microsecond),
		"2026-03-01T14:00:05.000+02:00": want,
		"":                              {},
		"soon":                          {},
		"1772366405":                    {},
	} {
		if got := parseTime(text); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("parseTime(%q) = %v, want %v", text, got, want)
		}
	}
}

// FuzzParse holds Parse to this: it does not panic; it gives notices or one of the two
// errors, never both; and the bucket and key of a notice are not empty and occur in the
// input as a JSON string, the key possibly URL-encoded.
func FuzzParse(f *testing.F) {
	for _, path := range samples(f) {
		f.Add(read(f, path))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		notices, err := Parse(body)
		if err != nil {
			if notices != nil {
				t.Errorf("notices %+v beside the error %v", notices, err)
			}
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknown) {
				t.Errorf("an error of neither kind: %v", err)
			}
			return
		}
		if len(notices) == 0 {
			return
		}
		said := map[string]bool{}
		collectStrings(body, said, 0)
		for _, n := range notices {
			if n.Bucket == "" || n.Key == "" {
				t.Errorf("notice %+v lacks bucket or key", n)
			}
			for field, text := range map[string]string{"bucket": n.Bucket, "key": n.Key, "version": n.VersionID} {
				if text != "" && !said[text] {
					t.Errorf("%s %q occurs nowhere in %q", field, text, body)
				}
			}
		}
	})
}

// collectStrings puts every string token of a JSON text into said, as it is and URL-decoded,
// and does the same with strings that are JSON themselves.
func collectStrings(text []byte, said map[string]bool, depth int) {
	text = bytes.TrimPrefix(bytes.TrimSpace(text), []byte("\ufeff"))
	for tokens := json.NewDecoder(bytes.NewReader(text)); ; {
		token, err := tokens.Token()
		if err != nil {
			return
		}
		s, ok := token.(string)
		if !ok {
			continue
		}
		said[s] = true
		if decoded, err := url.QueryUnescape(s); err == nil {
			said[decoded] = true
		}
		if depth < 5 && strings.ContainsAny(s, "{") {
			collectStrings([]byte(s), said, depth+1)
		}
	}
}

func samples(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	return paths
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
