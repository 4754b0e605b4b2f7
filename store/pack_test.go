package store_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/npcnix/npcnix/store"
)

// sampleFlake holds one of each thing that is packed.
func sampleFlake(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	writeFile(tb, dir, "flake.nix", "{ outputs = _: { }; }\n")
	writeFile(tb, dir, "empty", "")
	writeFile(tb, dir, "modules/web/default.nix", "{ }\n")
	writeFile(tb, dir, "modules/run.sh", "#!/bin/sh\n")
	writeFile(tb, dir, "hosts/"+strings.Repeat("long", 40)+"/ünïcode name", "x")
	chmod(tb, dir, "modules/run.sh", 0o755)
	symlink(tb, dir, "modules/link", "../flake.nix")
	symlink(tb, dir, "dangling", "nowhere")
	if err := os.Mkdir(filepath.Join(dir, "bare"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func TestPackedFlakeUnpacksToItself(t *testing.T) {
	src := sampleFlake(t)
	dir, err := unpackBeside(t, packDir(t, src), store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), tree(t, src); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestPackedTreesUnpackToThemselves(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		src := t.TempDir()
		writeFile(t, src, "flake.nix", fmt.Sprint(seed))
		dirs := []string{"."}
		for i := range rnd.IntN(60) {
			in := dirs[rnd.IntN(len(dirs))]
			name := filepath.Join(in, fmt.Sprintf("%s%d", strings.Repeat("né w", rnd.IntN(40)), i))
			switch rnd.IntN(4) {
			case 0:
				if err := os.Mkdir(filepath.Join(src, name), 0o755); err != nil {
					t.Fatal(err)
				}
				dirs = append(dirs, name)
			case 1:
				symlink(t, src, name, strings.Repeat("../", strings.Count(name, "/"))+"flake.nix")
			default:
				content := make([]byte, rnd.IntN(1<<rnd.IntN(19)))
				for j := range content {
					content[j] = byte(rnd.Uint32() >> (rnd.Uint32() % 8))
				}
				writeFile(t, src, name, string(content))
				chmod(t, src, name, []fs.FileMode{0o644, 0o755}[rnd.IntN(2)])
			}
		}
		first := packDir(t, src)
		dir, err := unpackBeside(t, first, store.Limits{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !maps.Equal(tree(t, dir), tree(t, src)) {
			t.Fatalf("seed %d: unpacked to something else", seed)
		}
		if !bytes.Equal(packDir(t, dir), first) {
			t.Fatalf("seed %d: packs to something else", seed)
		}
	}
}

func TestPackedBytesDependOnContentAlone(t *testing.T) {
	one := sampleFlake(t)
	want := packDir(t, one)

	// The same files, made in another order, at another time, with other rights.
	two := t.TempDir()
	names := slices.Sorted(maps.Keys(tree(t, one)))
	slices.Reverse(names)
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(one, name))
		if err != nil {
			t.Fatal(err)
		}
		switch info.Mode().Type() {
		case 0:
			writeFile(t, two, name, readFile(t, one, name))
			chmod(t, two, name, 0o600|info.Mode()&0o100)
		case fs.ModeSymlink:
			target, err := os.Readlink(filepath.Join(one, name))
			if err != nil || os.MkdirAll(filepath.Dir(filepath.Join(two, name)), 0o700) != nil {
				t.Fatal(err)
			}
			symlink(t, two, name, target)
		case fs.ModeDir:
			if err := os.MkdirAll(filepath.Join(two, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chtimes(filepath.Join(two, "flake.nix"), time.Now(), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(filepath.Join(two, "flake.nix"), 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(packDir(t, two), want) {
		t.Error("times, rights, owners or the order of creation show")
	}

	big := bigFlake(t, 400) // more than is compressed in one piece
	want = packDir(t, big)
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		if !bytes.Equal(packDir(t, big), want) {
			t.Errorf("%d processors show", procs)
		}
	}
}

// When this fails after an update of the compressor, every unchanged flake will
// look changed once: put that into the changelog, then the new digest here.
func TestPackedBytesStayTheSameFromReleaseToRelease(t *testing.T) {
	const want = "61ee6601f1b3f7a9b0878b7ffb9890dbd117646639df22b06c4fa1ffa2c7d22e"
	if got := digest(packDir(t, sampleFlake(t))); got != want {
		t.Errorf("got %s", got)
	}
}

func TestPackedHeadersHoldNothingOfTheMachine(t *testing.T) {
	zr, err := zstd.NewReader(bytes.NewReader(packDir(t, sampleFlake(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	var names []string
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 || !h.AccessTime.IsZero() {
			t.Errorf("%+v", h)
		}
		want := map[byte]int64{tar.TypeReg: 0o644, tar.TypeDir: 0o755, tar.TypeSymlink: 0o777}[h.Typeflag]
		if h.Name == "modules/run.sh" {
			want = 0o755
		}
		if h.Mode != want {
			t.Errorf("%s has mode %o, want %o", h.Name, h.Mode, want)
		}
	}
	if !slices.Contains(names, "bare/") || !slices.Contains(names, "flake.nix") || len(names) != 12 {
		t.Errorf("names %v", names)
	}
}

func TestSomeThingsAreLeftOut(t *testing.T) {
	src := sampleFlake(t)
	want := tree(t, src)
	writeFile(t, src, ".direnv/flake-profile", "x")
	symlink(t, src, "result", "/nix/store/x")
	symlink(t, src, "result-doc", "/nix/store/y")
	writeFile(t, src, "modules/.git/config", "token")
	writeFile(t, src, "hosts/.git", "gitdir: elsewhere")
	symlink(t, src, "absolute", "/etc/passwd")
	symlink(t, src, "modules/out", "../../x")
	symlink(t, src, "modules/winding", "web/../../../x")
	if err := syscall.Mkfifo(filepath.Join(src, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(src) // a socket's path must be short
	socket, err := net.Listen("unix", "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, name := range []string{"terraform.tfstate", "terraform.tfstate.backup", "infra/.terraform.tfstate.lock.info", "infra/.terraform/plugin"} {
		writeFile(t, src, name, "secret")
	}
	want["infra"] = "directory"
	// Not at the top, no link, or not state: these are the flake's own.
	symlink(t, src, "results.nix", "modules/web/default.nix")
	symlink(t, src, "result-handler", "modules/run.sh")
	want["results.nix"], want["result-handler"] = "link to modules/web/default.nix", "link to modules/run.sh"
	for _, name := range []string{"infra/main.tf", ".terraform.lock.hcl", "modules/tfstate.nix"} {
		writeFile(t, src, name, "x")
		want[name] = "file, x false: x"
	}

	var warned []string
	var b bytes.Buffer
	err = store.Pack(t.Context(), src, &b, store.PackOptions{Warn: func(msg string) { warned = append(warned, msg) }})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := unpackBeside(t, b.Bytes(), store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for i, text := range []string{"absolute: link to", "modules/out: link to", "modules/winding: link to", "pipe: neither", "socket: neither"} {
		if len(warned) != 5 || !strings.Contains(warned[i], filepath.Join(src, text)) {
			t.Errorf("warned %q, want %q", warned, text)
		}
	}
}

func TestWhatHostsRefuseIsNotPacked(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, src string)
		limits  store.Limits
		text    string
	}{
		{"too many entries", nil, store.Limits{Entries: 8}, "too many entries, more than 8"},
		{"too many bytes", func(t *testing.T, src string) { writeFile(t, src, "big", strings.Repeat("x", 1<<20)) }, store.Limits{Bytes: 1 << 20}, `"big": unsafe archive: too large`},
		{"many small files, by their headers", nil, store.Limits{Bytes: 2048}, "too large"},
		{"a file of holes", func(t *testing.T, src string) {
			if err := os.Truncate(filepath.Join(src, "empty"), 3<<30); err != nil {
				t.Fatal(err)
			}
		}, store.Limits{}, `"empty": unsafe archive: too large: unpacks to more than 2147483648 bytes`},
		{"too deep", func(t *testing.T, src string) { writeFile(t, src, strings.Repeat("d/", 255)+"x", "x") }, store.Limits{}, "too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := sampleFlake(t)
			if c.prepare != nil {
				c.prepare(t, src)
			}
			err := store.Pack(t.Context(), src, io.Discard, store.PackOptions{Limits: c.limits})
			wantError(t, err, store.ErrUnsafe, "every host would refuse it")
			wantError(t, err, store.ErrUnsafe, c.text)
		})
	}
	t.Run("what is just within them is", func(t *testing.T) {
		src := sampleFlake(t)
		writeFile(t, src, strings.Repeat("d/", 254)+"x", "x")
		if _, err := unpackBeside(t, packDir(t, src), store.Limits{}); err != nil {
			t.Error(err)
		}
	})
}

func TestIncludeKeepsNamedDirectories(t *testing.T) {
	src := sampleFlake(t)
	for _, include := range []string{"modules", "modules/", "./modules"} {
		dir, err := unpackBeside(t, packDir(t, src, include), store.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(maps.Keys(tree(t, dir)))
		want := []string{"dangling", "empty", "flake.nix", "modules", "modules/link", "modules/run.sh", "modules/web", "modules/web/default.nix"}
		if !slices.Equal(got, want) {
			t.Errorf("include %s: got %v", include, got)
		}
	}
}

func TestFlakesThatCannotBePackedSayWhy(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, src string)
		include []string
		text    string
	}{
		{"no flake.nix", func(t *testing.T, src string) { remove(t, src, "flake.nix") }, nil, "no flake.nix in "},
		{"a flake.nix that is a link to elsewhere", func(t *testing.T, src string) {
			remove(t, src, "flake.nix")
			symlink(t, src, "flake.nix", "/etc/passwd")
		}, nil, "flake.nix cannot be packed"},
		{"an include that does not exist", nil, []string{"modules", "module"}, `include "module"`},
		{"an include that is a file", nil, []string{"empty"}, "not a directory"},
		{"an include below the top", nil, []string{"modules/web"}, "at the top"},
		{"an include above the top", nil, []string{".."}, "at the top"},
		{"an include that is all", nil, []string{"."}, "at the top"},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := sampleFlake(t)
			if c.prepare != nil {
				c.prepare(t, src)
			}
			err := store.Pack(t.Context(), src, io.Discard, store.PackOptions{Include: c.include})
			if err == nil || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), src) && c.include == nil {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	src := sampleFlake(t)
	open := func(dir string) { // to others than the owner, and to root's group
		for ; dir != "/"; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err != nil || os.Chmod(dir, info.Mode()|0o55) != nil {
				t.Fatal(err)
			}
		}
	}
	open(src)
	denyFile(t, filepath.Join(src, "empty"))
	err := store.Pack(t.Context(), src, io.Discard, store.PackOptions{})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("got %v", err)
	}
}

// onWrite calls a function when the first bytes are written.
type onWrite struct{ do func() }

func (w *onWrite) Write(p []byte) (int, error) {
	if w.do != nil {
		w.do()
		w.do = nil
	}
	return len(p), nil
}

func TestFileThatChangesWhileItIsPackedIsAnError(t *testing.T) {
	for name, size := range map[string]int64{"shrinks": 15 << 20, "is emptied": 0, "grows": 16<<20 + 1} {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			writeFile(t, src, "flake.nix", "one")
			writeFile(t, src, "big", string(make([]byte, 16<<20))) // more than is held back before a write
			w := &onWrite{func() {
				if err := os.Truncate(filepath.Join(src, "big"), size); err != nil {
					t.Error(err)
				}
			}}
			err := store.Pack(t.Context(), src, w, store.PackOptions{})
			if err == nil || !strings.Contains(err.Error(), "big changed while it was packed") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPackEndsWithItsWriterAndItsContext(t *testing.T) {
	src := sampleFlake(t)
	r, w := io.Pipe()
	full := errors.New("disk full")
	r.CloseWithError(full)
	if err := store.Pack(t.Context(), src, w, store.PackOptions{}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Pack(ctx, src, io.Discard, store.PackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	err := store.Unpack(ctx, bytes.NewReader(packDir(t, src)), filepath.Join(t.TempDir(), "x"), store.Limits{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
