package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
)

// bigFlake makes a flake of files of 26 KiB, of which 2,000 are 50 MiB: half of
// it text as flakes hold, half of it incompressible.
func bigFlake(tb testing.TB, files int) string {
	tb.Helper()
	dir := tb.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 3000)
	for i := range words {
		w := make([]byte, 3+rnd.IntN(9))
		for j := range w {
			w[j] = 'a' + byte(rnd.IntN(26))
		}
		words[i] = string(w)
	}
	for i := range files {
		name := filepath.Join(dir, fmt.Sprintf("modules/%02d/%02d/file-%04d.nix", i%20, i%7, i))
		if i == 0 {
			name = filepath.Join(dir, "flake.nix")
		}
		var b bytes.Buffer
		size := 50 << 20 / 2000
		if i%2 == 0 {
			for b.Len() < size {
				// Few words are frequent, many are rare, as in real text.
				w := words[int(float64(len(words))*rnd.Float64()*rnd.Float64()*rnd.Float64())]
				fmt.Fprintf(&b, "  services.%s.%s = %d;\n", w, words[rnd.IntN(len(words))], rnd.IntN(100))
			}
			b.Truncate(size)
		} else {
			for b.Len() < size {
				b.WriteByte(byte(rnd.Uint32()))
			}
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// shell runs a command line with a pipe in it, as people do in a shell.
func shell(tb testing.TB, dir, line string) {
	tb.Helper()
	cmd := exec.Command("bash", "-c", "set -o pipefail; "+line)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// BenchmarkPack packs the big flake beside tar and zstd doing the same, in turn.
func BenchmarkPack(b *testing.B) {
	dir, out := bigFlake(b, 2000), b.TempDir()
	var ours, theirs time.Duration
	for b.Loop() {
		t := time.Now()
		f, err := os.Create(filepath.Join(out, "ours"))
		if err != nil {
			b.Fatal(err)
		}
		if err := store.Pack(context.Background(), dir, f, store.PackOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(t)

		t = time.Now()
		shell(b, dir, "tar c . | zstd -3 -q -c > "+out+"/theirs")
		theirs += time.Since(t)
	}
	report(b, ours, theirs)
	b.ReportMetric(float64(fileSize(b, out+"/ours"))/float64(fileSize(b, out+"/theirs")), "size-ratio")
}

// BenchmarkUnpack unpacks the big flake beside zstd and tar doing the same, in turn.
func BenchmarkUnpack(b *testing.B) {
	out := b.TempDir()
	packed := filepath.Join(out, "packed")
	shell(b, bigFlake(b, 2000), "tar c . | zstd -3 -q -c > "+packed)
	var ours, theirs time.Duration
	for b.Loop() {
		t := time.Now()
		f, err := os.Open(packed)
		if err != nil {
			b.Fatal(err)
		}
		if err := store.Unpack(context.Background(), f, filepath.Join(out, "ours"), store.Limits{}); err != nil {
			b.Fatal(err)
		}
		f.Close()
		ours += time.Since(t)

		t = time.Now()
		shell(b, out, "mkdir theirs && zstd -d -q -c packed | tar x -C theirs")
		theirs += time.Since(t)

		os.RemoveAll(filepath.Join(out, "ours"))
		os.RemoveAll(filepath.Join(out, "theirs"))
	}
	report(b, ours, theirs)
}

// BenchmarkLatest measures a poll that finds nothing new: wall clock, and CPU of
// this process, which for s3 and https includes the server's.
func BenchmarkLatest(b *testing.B) {
	awsEnv(b)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("If-None-Match") != `"x"` {
			b.Errorf("%s %v", r.Method, r.Header)
		}
		w.WriteHeader(http.StatusNotModified)
	}))
	defer srv.Close()
	path := filepath.Join(b.TempDir(), "dev.npcnix")
	if err := os.WriteFile(path, make([]byte, 50<<20), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		b.Fatal(err)
	}
	for _, kind := range []struct{ name, url string }{
		{"s3", s3URL("bucket", "dev.npcnix", srv.URL)},
		{"https", srv.URL + "/dev.npcnix"},
		{"file", "file://" + path},
	} {
		b.Run(kind.name, func(b *testing.B) {
			remote := open(b, kind.url)
			have := store.Version{ETag: "x"}
			if kind.name == "file" {
				have = latest(b, remote)
			}
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if now, err := remote.Latest(b.Context(), have); err != nil || now != have {
					b.Fatal(now, err)
				}
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/1000/float64(b.N), "cpu-µs/op")
		})
	}
}

func report(b *testing.B, ours, theirs time.Duration) {
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "ms")
	b.ReportMetric(float64(theirs.Milliseconds())/float64(b.N), "tar-zstd-ms")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(0, "ns/op")
}

func fileSize(tb testing.TB, name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		tb.Fatal(err)
	}
	return info.Size()
}
