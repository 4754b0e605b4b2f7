package machine

import (
	"os"
	"path/filepath"
	"strconv"
)

// Slow holds the machine to so many hundredths of a processor core until it is off or told otherwise. 0 gives
// it all there is.
func (m *Machine) Slow(percent int) {
	m.t.Helper()
	const period = 100000 // in microseconds, the kernel's default
	quota, unlimited := strconv.Itoa(percent*period/100), percent == 0
	for file, all := range map[string]string{
		filepath.Join("/sys/fs/cgroup/cpu", m.name, "cpu.cfs_quota_us"): "-1",
		filepath.Join("/sys/fs/cgroup", m.name, "cpu.max"):              "max",
	} {
		text := quota
		if unlimited {
			text = all
		}
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			m.t.Fatalf("slow the machine down: %v", err)
		}
		return
	}
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		m.t.Fatal("the machine cannot be slowed down: its cgroup has no cpu controller")
	}
	m.t.Skip("the machine cannot be slowed down: its cgroup has no cpu controller")
}
