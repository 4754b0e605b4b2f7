package metrics

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/integration/prometheus"
)

// writerVariable, in the environment of the test's own program, names the file that it writes until it is killed.
const writerVariable = "NPCNIX_TEST_METRICS_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		for n := 1.0; ; n++ {
			s := full(n)
			if err := replace(path, s.text()); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// full has a sample of each family, all of one value.
func full(n float64) Samples {
	s := Samples{}
	for _, f := range families {
		s.Set(f.Name, n)
	}
	return s
}

func TestPromtoolTakesEachFamily(t *testing.T) {
	s := full(0.001)
	s.Info(ReleaseInfo, "remote", `s3://b/"k"\`, "release", "two\nlines", "rev", "\xff")
	s.At(LastPoll, time.UnixMilli(1_790_000_000_123))
	prometheus.Check(t, s.text())
	if want := "npcnix_last_poll_timestamp_seconds 1790000000.123\n"; !strings.Contains(string(s.text()), want) {
		t.Errorf("no %q in\n%s", want, s.text())
	}
	if got := parse(s.text()); !reflect.DeepEqual(got, s) {
		t.Errorf("it reads %v, and wrote %v", got, s)
	}
}

func TestWriter(t *testing.T) {
	bubble(t, "it writes each change at once, and each minute, for everyone to read", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "folder", "npcnix.prom")
		w, _, stop := start(t, path)
		defer stop()
		w.Update(func(s Samples) { s.Set(Healthy, 1) })
		time.Sleep(pace)
		synctest.Wait()
		if got := read(t, path)[Healthy]; !maps.Equal(got, map[string]float64{"": 1}) {
			t.Errorf("healthy is %v", got)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Fatal(err, info.Mode())
		}
		remove(t, path)
		time.Sleep(every + pace)
		synctest.Wait()
		read(t, path)
	})
	bubble(t, "the next agent continues what it has counted", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "npcnix.prom")
		w, _, stop := start(t, path)
		w.Update(func(s Samples) {
			s.Add(Attempts, 2, "result", "applied")
			s.Set(LastFailure, 7)
			s.Info(BuildInfo, "version", "old")
			s.Set(Healthy, 0)
		})
		stop()
		w = NewWriter(func(error) {})
		w.Update(func(s Samples) {
			s.Info(BuildInfo, "version", "new")
			s.Set(Healthy, 1)
			s.Add(Attempts, 0, "result", "applied")
			s.Add(Attempts, 1, "result", "failed")
		})
		w.SetPath(path)
		w.write()
		want := Samples{
			Attempts:    {`{result="applied"}`: 2, `{result="failed"}`: 1},
			LastFailure: {"": 7}, BuildInfo: {`{version="new"}`: 1}, Healthy: {"": 1},
		}
		if got := read(t, path); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
	})
	bubble(t, "a damaged file is no obstacle", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "npcnix.prom")
		if err := os.WriteFile(path, []byte("# TYPE x\nnpcnix_healthy{\nnpcnix_attempts_total{result=\"applied\"} x\n\x00\x00 1"), 0o600); err != nil {
			t.Fatal(err)
		}
		w, reports, stop := start(t, path)
		w.Update(func(s Samples) { s.Set(Healthy, 1) })
		stop()
		if got := read(t, path); !reflect.DeepEqual(got, Samples{Healthy: {"": 1}}) || slices.ContainsFunc(*reports, failed) {
			t.Errorf("got %v, reported %v", got, *reports)
		}
	})
	bubble(t, "the file of a path that is not set any more goes", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "npcnix.prom")
		w, _, stop := start(t, path)
		defer stop()
		time.Sleep(time.Second)
		read(t, path)
		w.SetPath("")
		time.Sleep(2 * every)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

// A full disk costs the new file. The old one stays whole, grows stale, and an alert tells.
func TestOnAFullDiskTheOldFileStays(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("only root can have a small disk: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "npcnix.prom")
	if err := replace(path, full(1).text()); err != nil {
		t.Fatal(err)
	}
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 512))
	}
	fill.Close()
	if err := replace(path, full(2).text()); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if got := read(t, path); !reflect.DeepEqual(got, full(1)) {
		t.Errorf("the file has %v", got)
	}
	remove(t, fill.Name())
	if err := replace(path, full(3).text()); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("there is %v", entries)
	}
}

// Each family has the value of one state: a reader never finds a part of a file, or parts of two.
func TestAKilledWriterLeavesAWholeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "npcnix.prom")
	written := 0.0
	for range 20 {
		writer := exec.Command(os.Args[0])
		writer.Env = append(os.Environ(), writerVariable+"="+path)
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		var got Samples
		for got[Healthy][""] < 2 || got[Healthy][""] == written { // until this writer writes again
			if data, err := os.ReadFile(path); err == nil {
				got = parse(data)
				if !reflect.DeepEqual(got, full(got[Healthy][""])) {
					t.Fatalf("while it was written: %v", got)
				}
			}
		}
		_ = writer.Process.Kill()
		_ = writer.Wait()
		got = read(t, path)
		if written = got[Healthy][""]; !reflect.DeepEqual(got, full(written)) {
			t.Fatalf("after a kill: %v", got)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 2 {
		t.Errorf("kills have left %v", entries)
	}
}

// start runs a writer. Stop ends it, and returns when the last file is written.
func start(t *testing.T, path string) (w *Writer, reports *[]error, stop func()) {
	t.Helper()
	reports = new([]error)
	w = NewWriter(func(err error) { *reports = append(*reports, err) })
	w.SetPath(path)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	return w, reports, func() { cancel(); running.Wait() }
}

func failed(err error) bool { return err != nil }

func read(t *testing.T, path string) Samples {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(data)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func bubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
