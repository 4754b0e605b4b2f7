package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/npcnix/npcnix/store"
)

func open(tb testing.TB, url string) *store.Remote {
	tb.Helper()
	remote, err := store.Open(tb.Context(), url, store.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return remote
}

func publish(tb testing.TB, remote *store.Remote, archive []byte) store.Version {
	tb.Helper()
	v, err := remote.Publish(tb.Context(), bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		tb.Fatal(err)
	}
	if v.ETag == "" || v.Size != int64(len(archive)) {
		tb.Fatalf("published %+v of %d bytes", v, len(archive))
	}
	return v
}

func putRecord(tb testing.TB, remote *store.Remote, host, body string) {
	tb.Helper()
	if err := remote.PutRecord(tb.Context(), host, []byte(body)); err != nil {
		tb.Fatal(err)
	}
}

// wantRecords fails the test unless the remote lists the records of exactly these hosts.
func wantRecords(tb testing.TB, remote *store.Remote, hosts ...string) map[string]store.RecordInfo {
	tb.Helper()
	infos, err := remote.Records(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]store.RecordInfo{}
	for _, info := range infos {
		if info.ETag == "" || info.Modified.IsZero() || !slices.Contains(hosts, info.Host) {
			tb.Errorf("listed %+v", info)
		}
		found[info.Host] = info
	}
	if len(infos) != len(hosts) || len(found) != len(hosts) {
		tb.Errorf("listed %v, want %q", infos, hosts)
	}
	return found
}

func latest(tb testing.TB, remote *store.Remote) store.Version {
	tb.Helper()
	v, err := remote.Latest(tb.Context(), store.Version{})
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func wantFetch(t *testing.T, remote *store.Remote, v store.Version, flake string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fetched")
	if err := remote.Fetch(t.Context(), v, dir); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, dir, "flake.nix"); got != flake {
		t.Errorf("fetched %q, want %q", got, flake)
	}
}

func wantError(t *testing.T, err, want error, text string) {
	t.Helper()
	if !errors.Is(err, want) || !bytes.Contains([]byte(err.Error()), []byte(text)) {
		t.Errorf("got error %v; want %v, saying %q", err, want, text)
	}
}

// packed is the archive of a flake whose flake.nix holds the text.
func packed(tb testing.TB, text string) []byte {
	tb.Helper()
	dir := tb.TempDir()
	writeFile(tb, dir, "flake.nix", text)
	return packDir(tb, dir)
}

func packDir(tb testing.TB, dir string, include ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := store.Pack(tb.Context(), dir, &b, store.PackOptions{Include: include}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func writeFile(tb testing.TB, dir, name, text string) {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func readFile(tb testing.TB, dir, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// skip leaves a test out because a real part is missing, unless CI demands all.
func skip(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

func chmod(tb testing.TB, dir, name string, mode fs.FileMode) {
	tb.Helper()
	if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
		tb.Fatal(err)
	}
}

func symlink(tb testing.TB, dir, name, target string) {
	tb.Helper()
	if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
		tb.Fatal(err)
	}
}

func remove(tb testing.TB, dir, name string) {
	tb.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		tb.Fatal(err)
	}
}
