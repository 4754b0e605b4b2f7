package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// TestContract holds every kind of remote to the same promises.
func TestContract(t *testing.T) {
	kinds := map[string]func(t *testing.T) (newRig func(t *testing.T) rig){
		"file":            func(*testing.T) func(*testing.T) rig { return fileRig },
		"https":           func(*testing.T) func(*testing.T) rig { return webRig },
		"s3 of moto":      motoRig,
		"s3 of awsfake":   awsfakeRig,
		"s3 of versitygw": versityRig,
	}
	for kind, prepare := range kinds {
		t.Run(kind, func(t *testing.T) {
			newRig := prepare(t)
			for _, c := range contract {
				t.Run(c.name, func(t *testing.T) {
					r := newRig(t)
					c.check(t, r, open(t, r.url))
				})
			}
		})
	}
}

var contract = []struct {
	name  string
	check func(t *testing.T, r rig, remote *store.Remote)
}{
	{"an object never published is not found", func(t *testing.T, r rig, remote *store.Remote) {
		_, err := remote.Latest(t.Context(), store.Version{})
		wantError(t, err, store.ErrNotFound, "npcnix push")
		err = remote.Fetch(t.Context(), store.Version{ETag: "some"}, filepath.Join(t.TempDir(), "x"))
		wantError(t, err, store.ErrNotFound, "npcnix push")
	}},
	{"what was published is the latest and can be fetched", func(t *testing.T, r rig, remote *store.Remote) {
		archive := packed(t, "one")
		v := publish(t, remote, archive)
		now := latest(t, remote)
		if !now.Same(v) || now.Size != int64(len(archive)) || now.Modified.IsZero() {
			t.Errorf("latest is %+v, published was %+v of %d bytes", now, v, len(archive))
		}
		wantFetch(t, remote, now, "one")
	}},
	{"an unchanged object costs one conditional request and is the version at hand", func(t *testing.T, r rig, remote *store.Remote) {
		publish(t, remote, packed(t, "one"))
		have := latest(t, remote)
		have.ID = "kept as it was given"
		if r.requests != nil {
			r.requests()
		}
		now, err := remote.Latest(t.Context(), have)
		if err != nil || now != have {
			t.Errorf("got %+v, %v; want %+v", now, err, have)
		}
		if r.requests != nil {
			trace := r.requests()
			if len(trace) != 1 || trace[0].Method != http.MethodHead || trace[0].Header.Get("If-None-Match") != `"`+have.ETag+`"` {
				t.Errorf("want one HEAD with If-None-Match, got %v", trace)
			}
		}
	}},
	{"the end of an object is read in one request", func(t *testing.T, r rig, remote *store.Remote) {
		archive := packed(t, "one")
		v := publish(t, remote, archive)
		if r.requests != nil {
			r.requests()
		}
		for _, n := range []int64{1, 12, int64(len(archive)), 1 << 20} {
			tail, err := remote.Tail(t.Context(), v, n)
			want := archive[max(0, int64(len(archive))-n):]
			if err != nil || !bytes.Equal(tail.Data, want) {
				t.Errorf("last %d bytes: got %d, want %d, %v", n, len(tail.Data), len(want), err)
			}
			if age := time.Since(tail.Now); age < -time.Minute || age > time.Minute {
				t.Errorf("the store's time is %s", tail.Now)
			}
			if r.requests != nil && len(r.requests()) != 1 {
				t.Error("more than one request")
			}
		}
		publish(t, remote, packed(t, "two"))
		_, err := remote.Tail(t.Context(), v, 12)
		wantError(t, err, store.ErrChanged, "")
	}},
	{"a look brings the end of a new version, and a small flake whole, in one request", lookBringsTheEnd},
	{"of publishers who saw the same version one replaces it, and no publish is lost", publishersContend},
	{"a packed flake is fetched only if it is the signed one", func(t *testing.T, r rig, remote *store.Remote) {
		archive := packed(t, "one")
		v := publish(t, remote, append(bytes.Clone(archive), "\x5b\x2a\x4d\x18\x01\x00\x00\x00x"...)) // and a skippable frame
		sum := sha256.Sum256(archive)
		signed := store.Archive{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(archive))}
		if err := remote.FetchSigned(t.Context(), v, signed, filepath.Join(t.TempDir(), "x")); err != nil {
			t.Error(err)
		}
		for what, other := range map[string]store.Archive{
			"another digest": {SHA256: strings.Repeat("0", 64), Size: signed.Size},
			"a shorter one":  {SHA256: signed.SHA256, Size: signed.Size - 1},
			"a longer one":   {SHA256: signed.SHA256, Size: signed.Size + 100},
		} {
			dir := filepath.Join(t.TempDir(), "x")
			err := remote.FetchSigned(t.Context(), v, other, dir)
			unpacked, _ := os.ReadDir(dir)
			if !errors.Is(err, store.ErrNotSigned) || len(unpacked) > 0 {
				t.Errorf("%s: %v; unpacked before it was compared: %v", what, err, unpacked)
			}
		}
		frame := "\x5b\x2a\x4d\x18\x01\x00\x00\x00x"
		v = publish(t, remote, append([]byte("garbage"), append(bytes.Clone(archive), frame...)...))
		wantError(t, remote.FetchSigned(t.Context(), v, signed, filepath.Join(t.TempDir(), "x")), store.ErrNotSigned, "not the one that was signed")
		v = publish(t, remote, append(append(bytes.Clone(archive), make([]byte, 5<<20)...), frame...))
		wantError(t, remote.FetchSigned(t.Context(), v, signed, filepath.Join(t.TempDir(), "x")), store.ErrNotSigned, "the object has")
		large := bytes.Clone(archive)
		for len(large) <= 1<<20 { // a frame that is skipped, too
			large = append(append(large, "\x50\x2a\x4d\x18\x00\x00\x04\x00"...), make([]byte, 4<<16)...)
		}
		sum = sha256.Sum256(large)
		v = publish(t, remote, append(bytes.Clone(large), frame...))
		dir := filepath.Join(t.TempDir(), "x")
		if err := remote.FetchSigned(t.Context(), v, store.Archive{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(large))}, dir); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
			t.Errorf("beside the flake there is %v", left)
		}
		v = publish(t, remote, append(append(bytes.Clone(archive), packed(t, "unsigned")...), "\x5b\x2a\x4d\x18\x01\x00\x00\x00x"...))
		wantError(t, remote.FetchSigned(t.Context(), v, signed, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "nobody signed")
	}},
	{"a changed object is another version", func(t *testing.T, r rig, remote *store.Remote) {
		one := publish(t, remote, packed(t, "one"))
		two := publish(t, remote, packed(t, "two"))
		now, err := remote.Latest(t.Context(), one)
		if err != nil || !now.Same(two) || now.Same(one) {
			t.Errorf("got %+v, %v; want %+v", now, err, two)
		}
	}},
	{"a version that was replaced cannot be fetched", func(t *testing.T, r rig, remote *store.Remote) {
		one := publish(t, remote, packed(t, "one"))
		two := publish(t, remote, packed(t, "two"))
		wantError(t, remote.Fetch(t.Context(), one, filepath.Join(t.TempDir(), "x")), store.ErrChanged, "")
		wantFetch(t, remote, two, "two")
	}},
	{"an archive is published from its start wherever it stands", func(t *testing.T, r rig, remote *store.Remote) {
		archive := packed(t, "one")
		body := bytes.NewReader(archive)
		if _, err := body.Seek(0, io.SeekEnd); err != nil {
			t.Fatal(err)
		}
		v, err := remote.Publish(t.Context(), body, int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		if again := publish(t, remote, archive); !again.Same(v) {
			t.Errorf("published %+v, the same from its start is %+v", v, again)
		}
	}},
	{"publishing the same again is no new version", func(t *testing.T, r rig, remote *store.Remote) {
		one := publish(t, remote, packed(t, "one"))
		if again := publish(t, remote, packed(t, "one")); !again.Same(one) {
			t.Errorf("got %+v, then %+v", one, again)
		}
		wantFetch(t, remote, one, "one")
	}},
	{"readers see the old or the new while it is published", func(t *testing.T, r rig, remote *store.Remote) {
		archives := [][]byte{packed(t, "one"), packed(t, "two")}
		publish(t, remote, archives[0])
		published := make(chan error, 1)
		go func() {
			var err error
			for i := range 20 {
				if _, e := remote.Publish(t.Context(), bytes.NewReader(archives[i%2]), int64(len(archives[i%2]))); e != nil {
					err = e
				}
			}
			published <- err
		}()
		for running := true; running; {
			select {
			case err := <-published:
				if err != nil {
					t.Error(err)
				}
				running = false
			default:
			}
			dir := filepath.Join(t.TempDir(), "x")
			err := remote.Fetch(t.Context(), latest(t, remote), dir)
			// A store may open the object more than once for an answer, as versitygw does: its parts are
			// then of two versions, and the download is tried again like any other that is cut short.
			if errors.Is(err, store.ErrChanged) || errors.Is(err, io.ErrUnexpectedEOF) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := readFile(t, dir, "flake.nix"); got != "one" && got != "two" {
				t.Fatalf("fetched %q", got)
			}
		}
	}},
	{"records stand beside the object and do not touch it", func(t *testing.T, r rig, remote *store.Remote) {
		v := publish(t, remote, packed(t, "one"))
		_, err := remote.GetRecord(t.Context(), "web1")
		wantError(t, err, store.ErrNotFound, "web1")
		for _, body := range []string{`{"state":"building"}`, `{"state":"applied"}`, ""} {
			if err := remote.PutRecord(t.Context(), "web1", []byte(body)); err != nil {
				t.Fatal(err)
			}
			got, err := remote.GetRecord(t.Context(), "web1")
			if err != nil || string(got) != body {
				t.Errorf("got %q, %v; want %q", got, err, body)
			}
		}
		if now := latest(t, remote); !now.Same(v) {
			t.Errorf("the object became %+v", now)
		}
		if r.requests != nil {
			for _, req := range r.requests() {
				if req.Method == http.MethodPut && filepath.Base(filepath.Dir(req.URL.Path)) == "dev.npcnix.acks" && filepath.Base(req.URL.Path) == "web1.json" {
					return
				}
			}
			t.Error("no PUT of dev.npcnix.acks/web1.json")
		}
	}},
	{"a copy of a record stands in a folder, and is no record", func(t *testing.T, r rig, remote *store.Remote) {
		if err := remote.PutRecordCopy(t.Context(), "failed", "web1", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := remote.PutRecordCopy(t.Context(), "failed", "../web1", []byte("{}")); err == nil {
			t.Error("a path was taken for a host")
		}
		_, err := remote.GetRecord(t.Context(), "web1")
		wantError(t, err, store.ErrNotFound, "web1")
		if !r.lists {
			return
		}
		if infos, err := remote.Records(t.Context()); err != nil || len(infos) != 0 {
			t.Errorf("%v, %v", infos, err)
		}
	}},
	{"records are listed, each with an ETag that changes when it does", func(t *testing.T, r rig, remote *store.Remote) {
		publish(t, remote, packed(t, "one"))
		if !r.lists {
			_, err := remote.Records(t.Context())
			wantError(t, err, store.ErrNoListing, "name the hosts")
			return
		}
		wantRecords(t, remote)
		for _, host := range []string{"web1", "db_1", "web1.json", "Uebung-x"} {
			putRecord(t, remote, host, "one")
		}
		before := wantRecords(t, remote, "web1", "db_1", "web1.json", "Uebung-x")
		putRecord(t, remote, "db_1", "two")
		after := wantRecords(t, remote, "web1", "db_1", "web1.json", "Uebung-x")
		for host := range after {
			changed := before[host].ETag != after[host].ETag
			if changed != (host == "db_1") {
				t.Errorf("%s: ETag %s, then %s", host, before[host].ETag, after[host].ETag)
			}
		}
	}},
	{"a record that is looked at without reading tells when it was written and when it changes", func(t *testing.T, r rig, remote *store.Remote) {
		_, err := remote.StatRecord(t.Context(), "web1")
		wantError(t, err, store.ErrNotFound, "web1")
		putRecord(t, remote, "web1", "one")
		before, err := remote.StatRecord(t.Context(), "web1")
		if err != nil || before.Host != "web1" || before.ETag == "" || before.Modified.IsZero() {
			t.Errorf("got %+v, %v", before, err)
		}
		putRecord(t, remote, "web1", "another")
		if after, err := remote.StatRecord(t.Context(), "web1"); err != nil || after.ETag == before.ETag {
			t.Errorf("got %+v, %v, before %+v", after, err, before)
		}
		_, err = remote.StatRecord(t.Context(), "../web1")
		if err == nil {
			t.Error("a host named ../web1 was looked at")
		}
	}},
	{"records are deleted with their copies, and again", func(t *testing.T, r rig, remote *store.Remote) {
		if !r.lists {
			wantError(t, remote.DeleteRecord(t.Context(), "web1"), store.ErrNoDeletion, "on the server")
			_, err := remote.Now(t.Context())
			wantError(t, err, store.ErrNoDeletion, "on the server")
			return
		}
		publish(t, remote, packed(t, "one"))
		putRecord(t, remote, "web1", "one")
		putRecord(t, remote, "web2", "two")
		if err := remote.PutRecordCopy(t.Context(), "failed", "web1", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := remote.DeleteRecord(t.Context(), "web1", "failed", "recovered"); err != nil {
				t.Fatal(err)
			}
		}
		wantRecords(t, remote, "web2")
		if err := remote.PutRecordCopy(t.Context(), "failed", "web1", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		if err := remote.DeleteRecord(t.Context(), "../dev.npcnix"); err == nil {
			t.Error("a path was taken for a host")
		}
		if _, err := remote.Latest(t.Context(), store.Version{}); err != nil {
			t.Errorf("the object: %v", err)
		}
		written, err := remote.StatRecord(t.Context(), "web2")
		if err != nil {
			t.Fatal(err)
		}
		if now, err := remote.Now(t.Context()); err != nil || now.Before(written.Modified.Add(-5*time.Second)) { // in steps of seconds
			t.Errorf("the store's clock says %s, %v; it wrote at %s", now, err, written.Modified)
		}
	}},
	{"a listing that is refused says what is lacking", func(t *testing.T, r rig, remote *store.Remote) {
		if !r.lists || r.requests == nil {
			return // for a file the same is asked of reading
		}
		r.forbid(t)
		_, err := remote.Records(t.Context())
		wantError(t, err, store.ErrForbidden, "s3:ListBucket")
	}},
	{"host names that are no path element name no record", func(t *testing.T, r rig, remote *store.Remote) {
		for _, host := range []string{"", ".", "..", "a/b", "../dev.npcnix", `a\b`, "a\x00b", "a\nb", "web 1", "ünï", "a\u009bb", "a\u202eb", "a|b"} {
			if err := remote.PutRecord(t.Context(), host, nil); err == nil {
				t.Errorf("%q was taken", host)
			}
			if _, err := remote.GetRecord(t.Context(), host); err == nil || errors.Is(err, store.ErrNotFound) {
				t.Errorf("%q was looked for: %v", host, err)
			}
			if store.CheckHost(host) == nil {
				t.Errorf("%q passes", host)
			}
		}
	}},
	{"host names of the usual kinds name records", func(t *testing.T, r rig, remote *store.Remote) {
		for _, host := range []string{"web1", "web-1.example.org", "i-0abc", "web_1", "..hidden"} {
			if err := store.CheckHost(host); err != nil {
				t.Error(err)
			}
			if err := remote.PutRecord(t.Context(), host, []byte(host)); err != nil {
				t.Error(err)
			}
			if got, err := remote.GetRecord(t.Context(), host); err != nil || string(got) != host {
				t.Errorf("got %q, %v; want %q", got, err, host)
			}
		}
	}},
	{"a cancelled context ends every call", func(t *testing.T, r rig, remote *store.Remote) {
		v := publish(t, remote, packed(t, "one"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := remote.Latest(ctx, store.Version{})
		wantError(t, err, context.Canceled, "")
		wantError(t, remote.Fetch(ctx, v, filepath.Join(t.TempDir(), "x")), context.Canceled, "")
		_, err = remote.Publish(ctx, bytes.NewReader(packed(t, "two")), int64(len(packed(t, "two"))))
		wantError(t, err, context.Canceled, "")
		wantError(t, remote.PutRecord(ctx, "web1", nil), context.Canceled, "")
		_, err = remote.GetRecord(ctx, "web1")
		wantError(t, err, context.Canceled, "")
		wantFetch(t, remote, v, "one")
	}},
	{"a body cut short on its way is an error that may heal", func(t *testing.T, r rig, remote *store.Remote) {
		v := publish(t, remote, packed(t, "one"))
		r.truncate(t)
		err := remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x"))
		if err == nil || errors.Is(err, store.ErrUnsafe) {
			t.Errorf("got %v", err)
		}
	}},
	{"a body cut short on its way says nothing about the archive", func(t *testing.T, r rig, remote *store.Remote) {
		noise := make([]byte, 4<<20)
		for i, rnd := 0, rand.New(rand.NewPCG(1, 1)); i < len(noise); i++ {
			noise[i] = byte(rnd.Uint32())
		}
		v := publish(t, remote, zst(t, tarOf(t, entry{name: "../x", body: string(noise)})))
		wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "leads out")
		r.truncate(t)
		err := remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x"))
		if err == nil || errors.Is(err, store.ErrUnsafe) {
			t.Errorf("got %v", err)
		}
	}},
	{"an archive cut short before it was published is unsafe", func(t *testing.T, r rig, remote *store.Remote) {
		archive := packed(t, "one")
		v := publish(t, remote, archive[:len(archive)-20])
		wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "cut short")
	}},
	{"an archive larger than the limits is unsafe", func(t *testing.T, r rig, _ *store.Remote) {
		remote, err := store.Open(t.Context(), r.url, store.Options{MaxBytes: 2000})
		if err != nil {
			t.Fatal(err)
		}
		v := publish(t, remote, packed(t, "one"))
		wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "too large")
		if r.requests != nil {
			r.requests()
		}
		v.Size = 2001
		wantError(t, remote.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "x")), store.ErrUnsafe, "too large")
		if r.requests != nil && len(r.requests()) != 0 {
			t.Error("what is too large already when packed was asked for")
		}
	}},
	{"what is no record is not read to its end", func(t *testing.T, r rig, remote *store.Remote) {
		if err := remote.PutRecord(t.Context(), "web1", make([]byte, 1<<20+1)); err != nil {
			t.Fatal(err)
		}
		if _, err := remote.GetRecord(t.Context(), "web1"); err == nil || !strings.Contains(err.Error(), "not a record") {
			t.Errorf("got %v", err)
		}
	}},
	{"nothing is fetched into a directory in use", func(t *testing.T, r rig, remote *store.Remote) {
		v := publish(t, remote, packed(t, "one"))
		dir := t.TempDir()
		writeFile(t, dir, "mine", "precious")
		if err := remote.Fetch(t.Context(), v, dir); err == nil || errors.Is(err, store.ErrUnsafe) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "flake.nix")); err == nil {
			t.Error("it was")
		}
	}},
	{"no version is fetched without an ETag", func(t *testing.T, r rig, remote *store.Remote) {
		publish(t, remote, packed(t, "one"))
		if err := remote.Fetch(t.Context(), store.Version{}, filepath.Join(t.TempDir(), "x")); err == nil {
			t.Error("it was")
		}
	}},
	{"a forbidden object says so", func(t *testing.T, r rig, remote *store.Remote) {
		v := publish(t, remote, packed(t, "one"))
		dir := filepath.Join(t.TempDir(), "x")
		r.forbid(t)
		_, err := remote.Latest(t.Context(), v)
		wantError(t, err, store.ErrForbidden, "forbidden")
		wantError(t, remote.Fetch(t.Context(), v, dir), store.ErrForbidden, "forbidden")
	}},
}
