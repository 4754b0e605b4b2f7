package store_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// strangeStore is an S3 in memory with one quirk that users of other projects met
// with a store of theirs.
type strangeStore struct {
	quirk
	url string

	mu       sync.Mutex
	objects  map[string]object
	previous map[string]object // what each was before
	heads    int               // since the last PUT
	gets     int
	warned   []string
}

type object struct {
	body     []byte
	etag     string
	modified time.Time
}

// quirk is what a store does otherwise than S3; its functions may be nil.
type quirk struct {
	refuse func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool // instead of a PUT
	put    func(w http.ResponseWriter, o *object)                             // before a PUT is answered; may change what is kept
	get    func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool // instead of the answer to a GET or HEAD
	header func(s *strangeStore, r *http.Request, h http.Header)              // of the answer to a GET or HEAD
	list   bool                                                               // without ETags
}

func (s *strangeStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	switch {
	case r.Method == http.MethodPut && s.refuse != nil && s.refuse(s, w, r):
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		sum := md5.Sum(body)
		o := object{body: body, etag: hex.EncodeToString(sum[:]), modified: time.Now()}
		w.Header().Set("ETag", `"`+o.etag+`"`)
		if s.put != nil {
			s.put(w, &o)
		}
		s.previous[key] = s.objects[key]
		s.objects[key] = o
		s.heads, s.gets = 0, 0
	case r.URL.Query().Get("list-type") == "2":
		s.listing(w)
	default:
		s.read(w, r, key)
	}
}

func (s *strangeStore) read(w http.ResponseWriter, r *http.Request, key string) {
	if r.Method == http.MethodHead {
		s.heads++
	} else {
		s.gets++
	}
	if s.get != nil && s.get(s, w, r) {
		return
	}
	s.serve(w, r, s.objects[key])
}

func (s *strangeStore) serve(w http.ResponseWriter, r *http.Request, o object) {
	if o.etag == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", `"`+o.etag+`"`)
	if s.header != nil {
		s.header(s, r, w.Header())
	}
	http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.body))
}

func (s *strangeStore) listing(w http.ResponseWriter) {
	fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated>`)
	for key, o := range s.objects {
		etag := "<ETag>" + o.etag + "</ETag>"
		if s.quirk.list {
			etag = ""
		}
		if strings.Contains(key, ".acks/") {
			fmt.Fprintf(w, "<Contents><Key>%s</Key><LastModified>%s</LastModified>%s</Contents>", key, o.modified.UTC().Format(time.RFC3339), etag)
		}
	}
	fmt.Fprint(w, `</ListBucketResult>`)
}

func newStrange(t *testing.T, q quirk) (*strangeStore, *store.Remote) {
	t.Helper()
	awsEnv(t)
	s := &strangeStore{quirk: q, objects: map[string]object{}, previous: map[string]object{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = s3URL("bucket", "dev.npcnix", server.URL)
	remote, err := store.Open(t.Context(), s.url, store.Options{Warn: func(msg string) { s.warned = append(s.warned, msg) }})
	if err != nil {
		t.Fatal(err)
	}
	return s, remote
}

// noisy is the archive of a flake of some size that does not compress.
func noisy(t *testing.T) []byte { return packDir(t, bigFlake(t, 4)) }

func unpacked(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "want")
	if err := store.Unpack(t.Context(), bytes.NewReader(archive), dir, store.Limits{}); err != nil {
		t.Fatal(err)
	}
	return tree(t, dir)
}

// Each row is a store that was met: published to, then fetched from.
func TestStoresWithAQuirk(t *testing.T) {
	refuse := func(status int, code string) func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
		return func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodHead {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	for _, c := range []struct {
		name, source string
		quirk        quirk
		archive      func(t *testing.T) []byte
		published    string // in the error of Publish; empty: it works
		unconfirmed  bool
		fetched      string // in the error of Fetch, which is never ErrUnsafe; empty: it works
	}{
		{name: "PUT is answered without an ETag", source: "FilenCloudDienste/filen-s3#146",
			quirk: quirk{put: func(w http.ResponseWriter, _ *object) { w.Header().Del("ETag") }}},
		{name: "PUT is answered without an ETag, and HEAD without one too", source: "OpenListTeam/OpenList#2773",
			quirk: quirk{
				put:    func(w http.ResponseWriter, _ *object) { w.Header().Del("ETag") },
				header: func(_ *strangeStore, _ *http.Request, h http.Header) { h.Set("ETag", `""`) },
			}, published: "gives no ETag", unconfirmed: true},
		{name: "PUT is answered with another ETag than HEAD", source: "mojatter/s2#249",
			quirk: quirk{put: func(w http.ResponseWriter, o *object) { o.etag = "of-the-ciphertext" }}},
		{name: "HEAD shows the object before for some time", source: "apache/hadoop#646",
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				stale := r.Method == http.MethodHead && s.heads <= 2 && s.previous["dev.npcnix"].etag != ""
				if stale {
					s.serve(w, r, s.previous["dev.npcnix"])
				}
				return stale
			}}},
		{name: "HEAD says 404 for some time", source: "irods/irods_resource_plugin_s3#1931",
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				early := r.Method == http.MethodHead && s.heads <= 2
				if early {
					w.WriteHeader(http.StatusNotFound)
				}
				return early
			}}},
		{name: "the SDK's framing is kept as content", source: "apache/ozone#8020",
			quirk: quirk{put: func(w http.ResponseWriter, o *object) {
				o.body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", len(o.body), o.body)
			}}, published: "checksum=when-required"},
		{name: "content is cut short", source: "Altinity/clickhouse-backup#1471",
			quirk:     quirk{put: func(_ http.ResponseWriter, o *object) { o.body = o.body[:len(o.body)/2] }},
			published: "does not hold what was sent: it holds"},
		{name: "GET by its own ETag is 412", source: "seaweedfs/seaweedfs#7274",
			quirk: quirk{get: func(_ *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("If-Match") == "" {
					return false
				}
				w.WriteHeader(http.StatusPreconditionFailed)
				return true
			}}},
		{name: "HEAD is refused where GET works", source: "rustfs/rustfs#5840", quirk: quirk{get: refuse(403, "")}},
		{name: "HEAD is not implemented", source: "appwrite/appwrite#13744", quirk: quirk{get: refuse(501, "")}},
		{name: "GET is answered without an ETag", source: "localstack/localstack#2146",
			quirk: quirk{header: func(_ *strangeStore, r *http.Request, h http.Header) {
				if r.Method == http.MethodGet {
					h.Del("ETag")
				}
			}}, fetched: "has no ETag"},
		{name: "a first download is cut short without a sign", source: "aws/aws-sdk-ruby#319", archive: noisy,
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead || s.gets > 1 {
					return false
				}
				o := s.objects["dev.npcnix"]
				w.Header().Set("ETag", `"`+o.etag+`"`)
				_, _ = w.Write(o.body[:len(o.body)/2])
				return true
			}}, fetched: "ended after"},
		{name: "a first download is damaged", source: "boto/boto#2577",
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead || s.gets > 1 {
					return false
				}
				o := s.objects["dev.npcnix"]
				o.body = bytes.Clone(o.body)
				o.body[len(o.body)-1] ^= 1
				s.serve(w, r, o)
				return true
			}}},
		{name: "a first download has the ETag of the new and the content of the old", source: "versity/versitygw v1.8.0, in the contract",
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead || s.gets > 1 || s.previous["dev.npcnix"].etag == "" {
					return false
				}
				o := s.objects["dev.npcnix"]
				o.body = s.previous["dev.npcnix"].body
				s.serve(w, r, o)
				return true
			}}},
		{name: "each download is damaged otherwise", source: "boto/boto#2577",
			quirk: quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					return false
				}
				o := s.objects["dev.npcnix"]
				o.body = bytes.Clone(o.body)
				o.body[s.gets] ^= 1
				s.serve(w, r, o)
				return true
			}}, fetched: "4 downloads of one version differ"},
	} {
		t.Run(c.name+" ("+c.source+")", func(t *testing.T) {
			store.HurryRetries(t)
			_, remote := newStrange(t, c.quirk)
			archives := [][]byte{packed(t, "aaa"), packed(t, "bbb")} // of the same length
			if c.archive != nil {
				archives = [][]byte{c.archive(t)}
			}
			for _, archive := range archives {
				v, err := remote.Publish(t.Context(), bytes.NewReader(archive), int64(len(archive)))
				if (err != nil) != (c.published != "") || err != nil && (!strings.Contains(err.Error(), c.published) || errors.Is(err, store.ErrUnconfirmed) != c.unconfirmed) {
					t.Fatalf("published %+v, %v; want %q", v, err, c.published)
				}
				if err != nil {
					continue
				}
				if now := latest(t, remote); !now.Same(v) {
					t.Errorf("published %+v, and the store holds %+v", v, now)
				}
				dir := filepath.Join(t.TempDir(), "x")
				err = remote.Fetch(t.Context(), v, dir)
				if want := unpacked(t, archive); err == nil && !maps.Equal(tree(t, dir), want) {
					t.Errorf("fetched %v, want %v", tree(t, dir), want)
				}
				if (err != nil) != (c.fetched != "") || err != nil && !strings.Contains(err.Error(), c.fetched) || errors.Is(err, store.ErrUnsafe) {
					t.Errorf("fetched with %v, want %q", err, c.fetched)
				}
				if tail, err := remote.Tail(t.Context(), v, int64(len(archive))); c.fetched == "" && (err != nil || !bytes.Equal(tail.Data, archive)) {
					t.Errorf("its end is of %d bytes of %d, %v", len(tail.Data), len(archive), err)
				}
			}
		})
	}
}

func TestArchiveThatIsTheSameTwiceIsThePublishers(t *testing.T) {
	s, remote := newStrange(t, quirk{put: func(_ http.ResponseWriter, o *object) { o.etag = "of-the-ciphertext" }})
	archive := zst(t, tarOf(t, entry{name: "../x"}))
	v, err := remote.Publish(t.Context(), bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	s.gets = 0
	wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "leads out")
	if s.gets != 2 {
		t.Errorf("it was fetched %d times", s.gets)
	}
}

func TestETagOfTheCiphertextIsFetchedOnce(t *testing.T) {
	s, remote := newStrange(t, quirk{
		put: func(w http.ResponseWriter, o *object) {
			o.etag = strings.Repeat("0", 32)
			w.Header().Set("ETag", `"`+o.etag+`"`)
		},
		header: func(_ *strangeStore, _ *http.Request, h http.Header) {
			h.Set("X-Amz-Server-Side-Encryption", "aws:kms")
		},
	})
	v := publish(t, remote, packed(t, "one"))
	wantFetch(t, remote, v, "one")
	if s.gets != 1 {
		t.Errorf("it was fetched %d times", s.gets)
	}
}

func TestArchiveThatItsETagConfirmsIsJudgedAtOnce(t *testing.T) {
	s, remote := newStrange(t, quirk{})
	v := publish(t, remote, zst(t, tarOf(t, entry{name: "../x"})))
	wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "leads out")
	if s.gets != 1 {
		t.Errorf("it was fetched %d times", s.gets)
	}
}

func TestFramedArchiveNamesTheSettingOnTheHost(t *testing.T) {
	_, remote := newStrange(t, quirk{})
	archive := packed(t, "one")
	for _, frame := range []string{"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "%x;chunk-signature=0123abcd\r\n%s\r\n0\r\n\r\n"} {
		v := publish(t, remote, fmt.Appendf(nil, frame, len(archive), archive))
		wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "checksum=when-required")
	}
}

// NVIDIA/aistore#201
func TestListingWithoutETagsNamesTheRecords(t *testing.T) {
	_, remote := newStrange(t, quirk{list: true})
	putRecord(t, remote, "web1", "one")
	infos, err := remote.Records(t.Context())
	if err != nil || len(infos) != 1 || infos[0].Host != "web1" || infos[0].ETag != "" || infos[0].Modified.IsZero() {
		t.Errorf("listed %+v, %v", infos, err)
	}
}

// A body without a length that goes on and on is no archive that arrived.
func TestDownloadThatDoesNotEndIsAnError(t *testing.T) {
	archive := packed(t, "one")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if r.Method == http.MethodHead {
			return
		}
		_, _ = w.Write(archive)
		padding := bytes.Repeat([]byte{0x50, 0x2a, 0x4d, 0x18, 0xf8, 0xff, 0, 0}, 1)
		padding = append(padding, make([]byte, 0xfff8)...) // a zstd frame to be skipped
		for r.Context().Err() == nil {
			if _, err := w.Write(padding); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	remote, err := store.Open(t.Context(), server.URL+"/x", store.Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	err = remote.Fetch(t.Context(), store.Version{ETag: "x"}, filepath.Join(t.TempDir(), "x"))
	if err == nil || errors.Is(err, store.ErrUnsafe) || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("got %v", err)
	}
}

func TestAnnouncedVersionIsLookedForUntilItShows(t *testing.T) {
	s, remote := newStrange(t, quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
		stale := s.heads+s.gets <= 2 && s.previous["dev.npcnix"].etag != ""
		if stale {
			s.serve(w, r, s.previous["dev.npcnix"])
		}
		return stale
	}})
	one := publish(t, remote, packed(t, "one"))
	two := publish(t, remote, packed(t, "two"))
	// Since the old one was replaced, the event is younger than what the store shows.
	s.heads, s.gets = 0, 0
	o := s.previous["dev.npcnix"]
	o.modified = o.modified.Add(-time.Minute)
	s.previous["dev.npcnix"] = o
	now, err := remote.LatestAnnounced(t.Context(), one, two.ETag, time.Now())
	if err != nil || !now.Same(two) {
		t.Errorf("got %+v, %v; want %+v", now, err, two)
	}
	t.Run("but not when what shows is younger than the event", func(t *testing.T) {
		s.heads, s.gets = 10, 0
		now, err := remote.LatestAnnounced(t.Context(), two, one.ETag, time.Now().Add(-time.Hour))
		if err != nil || now != two || s.heads+s.gets != 12 {
			t.Errorf("got %+v, %v after %d looks", now, err, s.heads+s.gets-10)
		}
	})
	t.Run("nor when it is what the caller has", func(t *testing.T) {
		s.heads, s.gets = 10, 0
		if now, err := remote.LatestAnnounced(t.Context(), two, two.ETag, time.Now()); err != nil || now != two || s.heads+s.gets != 11 {
			t.Errorf("got %+v, %v after %d looks", now, err, s.heads+s.gets-10)
		}
	})
}

// The SDK repeats an upload whose answer was lost, and the condition of the second meets what the first stored.
func TestConditionalUploadThatIsRepeatedHasSucceeded(t *testing.T) {
	s, remote := newStrange(t, quirk{})
	one := publish(t, remote, packed(t, "one"))
	puts := 0
	lossy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPut:
			s.ServeHTTP(w, r)
		case puts == 0:
			puts++
			s.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			puts++
			w.WriteHeader(http.StatusPreconditionFailed)
		}
	}))
	t.Cleanup(lossy.Close)
	two := packed(t, "two")
	v, err := open(t, s3URL("bucket", "dev.npcnix", lossy.URL)).PublishOver(t.Context(), bytes.NewReader(two), int64(len(two)), one)
	if err != nil || puts != 2 || !v.Same(latest(t, remote)) {
		t.Errorf("published %+v, %v after %d uploads", v, err, puts)
	}
	three := packed(t, "three")
	_, err = open(t, s3URL("bucket", "dev.npcnix", lossy.URL)).PublishOver(t.Context(), bytes.NewReader(three), int64(len(three)), one)
	wantError(t, err, store.ErrChanged, "")
}

// conditional reports whether a PUT has a condition.
func conditional(r *http.Request) bool {
	return r.Header.Get("If-Match")+r.Header.Get("If-None-Match") != ""
}

// Each row is a store that treats the condition of an upload in a way of its own. That another publish came first is
// an error of its own kind, which pipelines take for a reason to be content: it needs evidence.
func TestConditionsOfStrangeStores(t *testing.T) {
	answer := func(status int, code string) func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
		return func(_ *strangeStore, w http.ResponseWriter, r *http.Request) bool {
			if conditional(r) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, s3Error(code))
			}
			return conditional(r)
		}
	}
	for _, c := range []struct {
		name, source string
		quirk        quirk
		published    string // in the error of a publish over what the store holds; empty: it works
		warned       string
		late         string // in the error, ErrChanged, of a publish over what it held before; empty: it works
	}{
		{name: "its own ETag is another one", source: "adobe/S3Mock#2665", quirk: quirk{refuse: answer(412, "PreconditionFailed")},
			published: "it does not recognize its own ETags", late: "PreconditionFailed"},
		{name: "there is a conflict each time", source: "versity/versitygw#2183", quirk: quirk{refuse: answer(409, "ConditionalRequestConflict")},
			published: "was not seen to hold anything but what was there before", late: "ConditionalRequestConflict"},
		{name: "no conditions are implemented", source: "tobi/walgit#67", quirk: quirk{refuse: answer(501, "NotImplemented")},
			warned: "takes no conditional writes", late: "it is"},
		{name: "conditions are ignored", source: "developmentseed/multistore#120", quirk: quirk{}},
	} {
		t.Run(c.name+" ("+c.source+")", func(t *testing.T) {
			store.HurryRetries(t)
			s, remote := newStrange(t, c.quirk)
			put := func(text string, over store.Version) error {
				archive := packed(t, text)
				v, err := remote.PublishOver(t.Context(), bytes.NewReader(archive), int64(len(archive)), over)
				if err == nil && !v.Same(latest(t, remote)) {
					t.Errorf("published %+v, and the store holds %+v", v, latest(t, remote))
				}
				return err
			}
			check := func(err error) {
				t.Helper()
				if (err != nil) != (c.published != "") || err != nil && (!strings.Contains(err.Error(), c.published) || errors.Is(err, store.ErrChanged)) {
					t.Errorf("published with %v, want %q", err, c.published)
				}
				if len(s.warned) > 0 != (c.warned != "") || c.warned != "" && !strings.Contains(s.warned[0], c.warned) {
					t.Errorf("warned %q, want %q", s.warned, c.warned)
				}
			}
			check(put("first", store.Version{}))
			one := publish(t, remote, packed(t, "one"))
			check(put("two", one))
			publish(t, remote, packed(t, "three"))
			if err := put("four", one); (err != nil) != (c.late != "") || err != nil && (!errors.Is(err, store.ErrChanged) || !strings.Contains(err.Error(), c.late)) {
				t.Errorf("too late: %v, want %q", err, c.late)
			}
		})
	}
}

// apache/hadoop#646: a store that copies with a delay shows one earlier version after another. None of them is a newer
// publish, and a wait knows that by the time at which the upload began.
func TestEarlierVersionsAreNoNewerPublish(t *testing.T) {
	for name, looks := range map[string]int{"until it is seen": 3, "as long as it is looked for": 100} {
		t.Run(name, func(t *testing.T) {
			store.HurryRetries(t)
			var shown []object // by one HEAD after another
			s, remote := newStrange(t, quirk{get: func(s *strangeStore, w http.ResponseWriter, r *http.Request) bool {
				if len(shown) == 0 || r.Method != http.MethodHead {
					return false
				}
				s.serve(w, r, shown[0])
				shown = shown[1:]
				return true
			}})
			var earlier []object
			for i, text := range []string{"one", "two"} {
				publish(t, remote, packed(t, text))
				o := s.objects["dev.npcnix"]
				o.modified = o.modified.Add(time.Duration(i-2) * time.Minute)
				earlier = append(earlier, o)
			}
			shown = []object{earlier[0]}
			for range looks {
				shown = append(shown, earlier[1])
			}
			began := time.Now().Truncate(time.Second)
			v := publish(t, remote, packed(t, "three"))
			if held := s.objects["dev.npcnix"]; v.ETag != held.etag || v.Modified.Before(began.Add(-time.Second)) {
				t.Errorf("published %+v, want %s", v, held.etag)
			}
			if unseen := len(s.warned) > 0; unseen != (looks == 100) {
				t.Errorf("warned %q", s.warned)
			}
		})
	}
}
