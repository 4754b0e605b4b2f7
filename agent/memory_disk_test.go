package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/agent/trust"
	"github.com/npcnix/npcnix/events"
	"github.com/npcnix/npcnix/store/release"
)

// A release that the host could not remember could be replaced by an older one after a restart.
func TestWhatCannotBeRememberedIsNotActivated(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(t *testing.T, disk string)
		end   func(t *testing.T, disk string)
		says  string
	}{
		"the disk is full": {fill, func(t *testing.T, disk string) { noError(t, os.Remove(filepath.Join(disk, "filler"))) }, "no space left on device"},
		"the disk can only be read": {
			func(t *testing.T, disk string) {
				noError(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			},
			func(t *testing.T, disk string) { noError(t, unix.Mount("", disk, "", unix.MS_REMOUNT, "")) }, "read-only file system",
		},
	} {
		inBubble(t, name, func(t *testing.T) {
			r, key := trusting(t)
			disk := r.rememberOnADisk()
			r.publish("v1", released(t, key, asItIs))
			r.start()
			time.Sleep(time.Minute)
			c.begin(t, disk)
			r.mark()
			r.publish("v2", released(t, key, func(m *release.Manifest) { m.Archive.SHA256 = strings.Repeat("2", 64) }))
			r.host.set(func(h *fakeHost) { h.system = "/nix/store/sys-2" })
			r.queue.in <- []events.Delivery{message("m1")}
			time.Sleep(30 * time.Minute)
			equal(t, "work", r.of("fetch", "build", "activate", "realise"), nil)
			if told := r.store.lastRecord().Trouble; told == nil || told.Kind != "machine" || !strings.Contains(told.Error, "write trust.json") || !strings.Contains(told.Error, c.says) {
				t.Errorf("the record tells of %+v", told)
			}

			c.end(t, disk)
			time.Sleep(15 * time.Minute)
			r.end()
			rec := r.store.lastRecord()
			if rec.Trouble != nil || rec.Status != record.Applied || rec.Version.ETag != "v2" {
				t.Errorf("afterwards the record says %s of %s, and tells of %+v", rec.Status, rec.Version.ETag, rec.Trouble)
			}
			if m, err := trust.Load(r.dir); err != nil || m.Remotes[remoteName].Serial != rec.Version.Serial {
				t.Errorf("remembered: %+v, %v; the record: %+v", m, err, rec.Version)
			}
		})
	}
}

// rememberOnADisk has the host's trust.json on a file system of its own, so that all else can be written.
func (r *rig) rememberOnADisk() (disk string) {
	r.t.Helper()
	disk = r.t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=0700,size=64k"); err != nil {
		if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
			r.t.Fatal(err)
		}
		r.t.Skipf("only root can have a small disk: %v", err)
	}
	r.t.Cleanup(func() { noError(r.t, unix.Unmount(disk, unix.MNT_DETACH)) })
	noError(r.t, trust.Reset(r.dir))
	file := filepath.Join(disk, "trust.json")
	data, err := os.ReadFile(r.dir.Path("trust.json"))
	noError(r.t, err)
	noError(r.t, os.WriteFile(file, data, 0o600))
	noError(r.t, os.Remove(r.dir.Path("trust.json")))
	noError(r.t, os.Symlink(file, r.dir.Path("trust.json")))
	return disk
}

func fill(t *testing.T, disk string) {
	t.Helper()
	file, err := os.Create(filepath.Join(disk, "filler"))
	noError(t, err)
	for err == nil {
		_, err = file.Write(make([]byte, 512))
	}
	noError(t, file.Close())
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
