package store_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/store"
)

// unpackBeside unpacks below a directory with something precious in it, and
// checks that nothing but the directory named was touched.
func unpackBeside(tb testing.TB, archive []byte, limits store.Limits) (dir string, err error) {
	tb.Helper()
	parent := tb.TempDir()
	writeFile(tb, parent, "precious", "mine")
	writeFile(tb, parent, "outside/precious", "mine")
	before := tree(tb, parent)
	dir = filepath.Join(parent, "dir")
	err = store.Unpack(tb.Context(), bytes.NewReader(archive), dir, limits)
	after := tree(tb, parent)
	maps.DeleteFunc(after, func(name, _ string) bool {
		return name == "dir" || strings.HasPrefix(name, "dir/")
	})
	if !maps.Equal(before, after) {
		tb.Fatalf("outside the directory there is now %v", after)
	}
	for name, is := range tree(tb, dir) {
		if !strings.HasPrefix(is, "link to ") {
			continue
		}
		if at, err := filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil && at != dir && !strings.HasPrefix(at, dir+"/") {
			tb.Fatalf("%s leads to %s", name, at)
		}
	}
	return dir, err
}

func TestHostileArchivesAreRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name    string
		entries []entry
		text    string
	}{
		{"a name that leads out", []entry{{name: "../outside/x"}}, "leads out"},
		{"a name that leads out further on", []entry{{name: "a/../../outside/x"}}, "leads out"},
		{"a name with .. that stays", []entry{{name: "a/../x"}}, "leads out"},
		{"an absolute name", []entry{{name: "/tmp/x"}}, "absolute name"},
		{"an absolute directory", []entry{{name: "/tmp/x/", kind: tar.TypeDir}}, "absolute name"},
		{"a file in place of the directory", []entry{{name: "./."}}, "replace the directory"},
		{"a link in place of the directory", []entry{{name: ".", kind: tar.TypeSymlink, link: "x"}}, "replace the directory"},
		{"an element too long", []entry{{name: "a/" + long}}, "too long"},
		{"a link with a target that no file system takes", []entry{{name: "l", kind: tar.TypeSymlink, link: strings.Repeat("long/", 2000)}}, `entry "l": unsafe archive: link to "long/`},
		{"a name too deep", []entry{{name: strings.Repeat("a/", 300) + "x"}}, "too deep"},
		{"a name too long", []entry{{name: strings.Repeat(long[:200]+"/", 30) + "x"}}, "too long"},
		{"an absolute link", []entry{{name: "l", kind: tar.TypeSymlink, link: "/etc/passwd"}}, "not relative"},
		{"a link to nothing", []entry{{name: "l", kind: tar.TypeSymlink}}, "not relative"},
		{"a link that leads out", []entry{{name: "l", kind: tar.TypeSymlink, link: "../outside"}}, "lead out"},
		{"a link that leads out from below", []entry{{name: "a/b/l", kind: tar.TypeSymlink, link: "../../../outside"}}, "lead out"},
		{"a link that leads out in its middle", []entry{{name: "l", kind: tar.TypeSymlink, link: "a/../../outside"}}, "lead out"},
		{"a link that leads out through another", []entry{
			{name: "a/b/top", kind: tar.TypeSymlink, link: "../.."},
			{name: "l", kind: tar.TypeSymlink, link: "a/b/top/../outside"},
		}, "lead out"},
		{"a link that leads out through another beside it", []entry{
			{name: "d/top", kind: tar.TypeSymlink, link: ".."},
			{name: "d/l", kind: tar.TypeSymlink, link: "top/../outside"},
		}, "lead out"},
		{"a file behind a link", []entry{
			{name: "d/", kind: tar.TypeDir},
			{name: "l", kind: tar.TypeSymlink, link: "d"},
			{name: "l/x"},
		}, "was none before"},
		{"a file deep behind a link", []entry{
			{name: "l", kind: tar.TypeSymlink, link: "d"},
			{name: "l/a/b/c"},
		}, "was none before"},
		{"a link behind a link", []entry{
			{name: "d/e/", kind: tar.TypeDir},
			{name: "l", kind: tar.TypeSymlink, link: "d/e"},
			{name: "l/m", kind: tar.TypeSymlink, link: "../../.."},
		}, ""},
		{"a file written through a link", []entry{
			{name: "d/x", body: "1"},
			{name: "l", kind: tar.TypeSymlink, link: "d/x"},
			{name: "l", body: "2"},
		}, "twice"},
		{"a directory in place of a link", []entry{
			{name: "l", kind: tar.TypeSymlink, link: "d"},
			{name: "l/", kind: tar.TypeDir},
		}, "was none before"},
		{"a link in place of a directory", []entry{
			{name: "d/x"},
			{name: "d", kind: tar.TypeSymlink, link: "e"},
		}, "twice"},
		{"a file in place of a directory", []entry{{name: "d/x"}, {name: "d"}}, "twice"},
		{"a hard link that leads out", []entry{{name: "h", kind: tar.TypeLink, link: "../precious"}}, "leads out"},
		{"an absolute hard link", []entry{{name: "h", kind: tar.TypeLink, link: "/etc/passwd"}}, "absolute"},
		{"a hard link to what does not exist", []entry{{name: "h", kind: tar.TypeLink, link: "x"}}, "no earlier file"},
		{"a hard link to a link", []entry{
			{name: "l", kind: tar.TypeSymlink, link: "x"},
			{name: "h", kind: tar.TypeLink, link: "l"},
		}, "no earlier file"},
		{"a hard link to a directory", []entry{{name: "d/x"}, {name: "h", kind: tar.TypeLink, link: "d"}}, "no earlier file"},
		{"a character device", []entry{{name: "c", kind: tar.TypeChar}}, "a device"},
		{"a block device", []entry{{name: "b", kind: tar.TypeBlock}}, "a device"},
		{"a pipe", []entry{{name: "p", kind: tar.TypeFifo}}, "a pipe"},
		{"an entry of unknown type", []entry{{name: "v", kind: 'V'}}, "unknown type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackBeside(t, zst(t, tarOf(t, c.entries...)), store.Limits{})
			wantError(t, err, store.ErrUnsafe, c.text)
		})
	}
}

func TestOversizedArchivesAreRefused(t *testing.T) {
	thousand := bytes.Repeat(tarOf(t, entry{name: "d/", kind: tar.TypeDir})[:512], 1000)
	million := slices.Repeat([][]byte{thousand}, 1000)
	var files []entry
	for _, letter := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		files = append(files, entry{name: letter})
	}
	zeros := make([]byte, 8<<20)
	terabyte := rawHeader(tar.TypeReg, "big", 1<<32, nil)
	sparse := rawHeader(tar.TypeGNUSparse, "holes", 0, func(h []byte) {
		copy(h[257:], "ustar  \x00")
		copy(h[386:], "10000000000\x0000000000000\x00") // nothing at 1 GiB
		copy(h[483:], "77777777777\x00")                // of 8 GiB
	})
	comment := rawHeader(tar.TypeXHeader, "x", 1<<20, nil)
	comment = append(comment, "1048576 comment="...)
	comment = append(comment, bytes.Repeat([]byte("x"), 512+1<<20-len(comment)-1)...)
	comment = append(comment, '\n')
	for _, c := range []struct {
		name    string
		archive []byte
		limits  store.Limits
		text    string
	}{
		{"a million entries", zst(t, million...), store.Limits{}, "too many entries, more than 200000"},
		{"more files than allowed", zst(t, tarOf(t, files...)), store.Limits{Entries: 25}, "too many entries"},
		{"directories that only names imply", zst(t, tarOf(t, entry{name: strings.Repeat("d/", 30) + "x"})), store.Limits{Entries: 25}, "too many entries"},
		{"global headers without end", zst(t, bytes.Repeat(rawHeader(tar.TypeXGlobalHeader, "g", 0, nil), 100)), store.Limits{Entries: 25}, "too many entries"},
		{"a decompression bomb", zst(t, tarOf(t, entry{name: "bomb", body: string(zeros)})), store.Limits{Bytes: 1 << 20}, "too large"},
		{"a bomb in several files", zst(t, tarOf(t, entry{name: "a", body: string(zeros[:1<<20])}, entry{name: "b", body: string(zeros[:1<<20])})), store.Limits{Bytes: 3 << 19}, "too large"},
		{"a bomb behind the last entry", zst(t, tarOf(t, entry{name: "a"}), zeros), store.Limits{Bytes: 1 << 20}, "too large"},
		{"a bomb of headers", zst(t, bytes.Repeat(comment, 8)), store.Limits{Bytes: 1 << 20}, "too large"},
		{"a file that claims more than the default limit", zst(t, terabyte), store.Limits{}, "too large: unpacks to more than 2147483648 bytes"},
		{"a file of holes", zst(t, sparse), store.Limits{}, "too large"},
		{"a window of a gibibyte", []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 1, 0, 0}, store.Limits{}, "of memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackBeside(t, c.archive, c.limits)
			wantError(t, err, store.ErrUnsafe, c.text)
		})
	}
}

func TestArchivesThatCostTooMuchWorkAreRefused(t *testing.T) {
	deep := func(yield func(entry) bool) {
		for i := 0; yield(entry{name: fmt.Sprintf("%d/%s", i, strings.Repeat("d/", 250)), kind: tar.TypeDir}); i++ {
		}
	}
	var dirs []entry
	for e := range deep {
		if dirs = append(dirs, e); len(dirs) == 100 {
			break
		}
	}
	for _, c := range []struct {
		name    string
		archive []byte
		text    string
	}{
		{"nested directories", zst(t, tarOf(t, dirs...)), "too many deep entries"},
		{"two million empty frames", bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0}, 2_000_000), "more than 50000 zstd frames"},
		{"two million frames to be skipped", bytes.Repeat([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, 2_000_000), "more than 50000 zstd frames"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackBeside(t, c.archive, store.Limits{Entries: 10_000})
			wantError(t, err, store.ErrUnsafe, c.text)
		})
	}
}

// A file system takes 65,000 names of a file (ext4), or as many as there is room for
// (tmpfs, overlay on xfs): where it refuses one, that is the archive's fault.
func TestFileSystemRefusesTheArchive(t *testing.T) {
	entries := []entry{{name: "flake.nix", body: "x"}}
	for i := range 70_000 {
		entries = append(entries, entry{name: fmt.Sprintf("h%d", i), kind: tar.TypeLink, link: "flake.nix"})
	}
	dir := smallExt4(t, "16M")
	err := store.Unpack(t.Context(), bytes.NewReader(zst(t, tarOf(t, entries...))), filepath.Join(dir, "x"), store.Limits{})
	wantError(t, err, store.ErrUnsafe, `entry "h6`)
	wantError(t, err, syscall.EMLINK, "this machine cannot write it")
}

// smallExt4 is a file system of that kind, in a file.
func smallExt4(t *testing.T, size string) (mount string) {
	t.Helper()
	image, mount := filepath.Join(t.TempDir(), "image"), t.TempDir()
	for _, command := range [][]string{{"mkfs.ext4", "-q", image, size}, {"mount", "-o", "loop", image, mount}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			skip(t, fmt.Sprintf("cannot mount a small file system, run as root: %s: %v: %s", command[0], err, out))
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	return mount
}

func TestWhatIsNoArchiveIsRefused(t *testing.T) {
	good := zst(t, tarOf(t, entry{name: "flake.nix", body: strings.Repeat("one", 1000)}))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1 // of the checksum
	plain := tarOf(t, entry{name: "flake.nix", body: "one"})
	badHeader := append(plain[:1024:1024], bytes.Repeat([]byte("x"), 1024)...)
	for _, c := range []struct {
		name    string
		archive []byte
		text    string
	}{
		{"gzip", []byte("\x1f\x8b\x08\x00 and so on"), "not a zstd archive"},
		{"a plain tar", plain, "not a zstd archive"},
		{"a web page", []byte("<html>Sign in</html>"), "not a zstd archive"},
		{"zstd of something else", zst(t, []byte(strings.Repeat("no tar ", 200))), "not a tar archive"},
		{"zstd of something short", zst(t, []byte("no tar")), "not a tar archive"},
		{"zstd of nothing", zst(t), "not a tar archive"},
		{"a tar cut short within whole zstd", zst(t, plain[:514]), "corrupt tar"},
		{"rubbish after the first entry", zst(t, badHeader), "corrupt tar"},
		{"a wrong checksum", flipped, "corrupt zstd"},
		{"rubbish behind the archive", append(bytes.Clone(good), "rubbish"...), "corrupt zstd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := unpackBeside(t, c.archive, store.Limits{})
			wantError(t, err, store.ErrUnsafe, c.text)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v looks like a download cut short", err)
			}
		})
	}
}

func TestArchiveCutShortAnywhereMayHeal(t *testing.T) {
	archive := zst(t, tarOf(t, entry{name: "flake.nix", body: "one"}, entry{name: "b/c", body: strings.Repeat("two", 100)}))
	for n := range len(archive) {
		err := store.Unpack(t.Context(), bytes.NewReader(archive[:n]), filepath.Join(t.TempDir(), "x"), store.Limits{})
		if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, store.ErrUnsafe) {
			t.Errorf("after %d of %d bytes: %v", n, len(archive), err)
		}
	}
}

func TestArchiveWithOneWrongByte(t *testing.T) {
	archive := packDir(t, sampleFlake(t))
	dir := filepath.Join(t.TempDir(), "good")
	if err := store.Unpack(t.Context(), bytes.NewReader(archive), dir, store.Limits{}); err != nil {
		t.Fatal(err)
	}
	want := tree(t, dir)
	for i := range archive {
		bad := bytes.Clone(archive)
		bad[i] ^= 0x10
		dir, err := unpackBeside(t, bad, store.Limits{})
		if err == nil && !maps.Equal(tree(t, dir), want) {
			t.Errorf("byte %d: unpacked to something else", i)
		}
		if err != nil && !errors.Is(err, store.ErrUnsafe) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

func TestErrorsOfTheSourceArePassedOn(t *testing.T) {
	archive := packDir(t, sampleFlake(t))
	reset := errors.New("connection reset")
	for _, want := range []error{reset, io.ErrUnexpectedEOF} {
		for _, n := range []int{0, 1, len(archive) / 2, len(archive)} {
			r := io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(want))
			err := store.Unpack(t.Context(), r, filepath.Join(t.TempDir(), "x"), store.Limits{})
			if !errors.Is(err, want) || errors.Is(err, store.ErrUnsafe) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
	}
}

func TestOddButHonestArchivesAreUnpacked(t *testing.T) {
	longName := strings.Repeat("long/", 60) + "name"
	archive := zst(t, tarOf(t,
		entry{name: "pax_global_header", kind: tar.TypeXGlobalHeader, pax: map[string]string{"comment": "a commit"}},
		entry{name: "./", kind: tar.TypeDir, mode: 0},
		entry{name: "./flake.nix", body: "old"},
		entry{name: "./locked/", kind: tar.TypeDir, mode: 0},
		entry{name: "./locked/file", body: "x", mode: 0o4755},
		entry{name: "no//dirs/./named", body: "y"},
		entry{name: longName, body: "z"},
		entry{name: "ünïcode", body: "u"},
		entry{name: "hard", kind: tar.TypeLink, link: "./flake.nix"},
		entry{name: "hard", kind: tar.TypeLink, link: "hard"},
		entry{name: "a/b/up", kind: tar.TypeSymlink, link: "../../flake.nix"},
		entry{name: "top", kind: tar.TypeSymlink, link: "./a//b/"},
		entry{name: "top", kind: tar.TypeSymlink, link: "a/b"},
		entry{name: "locked/", kind: tar.TypeDir},
		entry{name: "flake.nix", body: "new"},
	))
	dir, err := unpackBeside(t, archive, store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"flake.nix": "file, x false: new", "hard": "file, x false: old",
		"locked": "directory", "locked/file": "file, x true: x",
		"no": "directory", "no/dirs": "directory", "no/dirs/named": "file, x false: y",
		longName: "file, x false: z", "ünïcode": "file, x false: u",
		"a": "directory", "a/b": "directory", "a/b/up": "link to ../../flake.nix", "top": "link to a/b",
	}
	for d := filepath.Dir(longName); d != "."; d = filepath.Dir(d) {
		want[d] = "directory"
	}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "locked/file")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestUnpackedTimesAreTheArchives(t *testing.T) {
	then := time.Unix(1700000000, 0)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, ModTime: then},
		{Name: "d/file", Typeflag: tar.TypeReg, ModTime: then.Add(time.Hour)},
		{Name: "d/link", Typeflag: tar.TypeSymlink, Linkname: "file", ModTime: then.Add(2 * time.Hour)},
		{Name: "implied/file", Typeflag: tar.TypeReg, ModTime: then},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	dir, err := unpackBeside(t, zst(t, b.Bytes()), store.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{
		".": time.Unix(0, 0), "d": then, "d/file": then.Add(time.Hour), "d/link": then.Add(2 * time.Hour),
		"implied": time.Unix(0, 0), "implied/file": then,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !info.ModTime().Equal(want) {
			t.Errorf("%s: %v, %v; want %v", name, info.ModTime(), err, want)
		}
	}
}

func TestFullDiskSaysSoAndIsNotTheArchivesFault(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64k"); err != nil {
		skip(t, "cannot mount a small file system, run as root: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	flake := t.TempDir()
	writeFile(t, flake, "flake.nix", strings.Repeat("x", 1<<20))
	remote := open(t, "file://"+filepath.Join(t.TempDir(), "dev.npcnix"))
	v := publish(t, remote, packDir(t, flake))
	err := remote.Fetch(t.Context(), v, filepath.Join(mount, "fetched"))
	wantError(t, err, syscall.ENOSPC, "make room under "+mount)
	if errors.Is(err, store.ErrUnsafe) {
		t.Errorf("the archive is blamed: %v", err)
	}

	full := open(t, "file://"+mount+"/dev.npcnix")
	_, err = full.Publish(t.Context(), bytes.NewReader(make([]byte, 1<<20)), 1<<20)
	wantError(t, err, syscall.ENOSPC, "no space left")
	_, err = full.Latest(t.Context(), store.Version{})
	wantError(t, err, store.ErrNotFound, "")
}

// What FuzzUnpack finds in memory holds on disk.
func TestHostileArchivesWriteNothingOutsideOnDisk(t *testing.T) {
	for _, archive := range store.SeedArchives(t) {
		_, _ = unpackBeside(t, archive, store.Limits{Entries: 200, Bytes: 1 << 20}) // which fails the test for what it finds
	}
}
