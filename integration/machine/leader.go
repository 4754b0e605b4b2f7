package machine

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

var errOff = errors.New("the machine is off")

// leader returns the number that the machine's process 1 has outside of it. Each boot has another one,
// including the boots that run.sh makes when the machine reboots.
func (m *Machine) leader() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known.pid != "" && look(m.known.pid) == m.known {
		return strconv.Atoi(m.known.pid)
	}
	first, err := os.ReadFile(filepath.Join(m.disk, "pid"))
	if err != nil {
		return 0, errOff
	}
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		p := look(filepath.Base(path))
		// run.sh starts nspawn, and nspawn the leader.
		if p.first && look(p.parent).parent == strings.TrimSpace(string(first)) {
			m.known = p
			return strconv.Atoi(p.pid)
		}
	}
	return 0, errOff
}

// process holds what identifies the process 1 of a machine.
type process struct {
	pid, parent string
	first       bool // of a process namespace in a process namespace in this one
}

// look reads a process; it returns the zero process if that has ended.
func look(pid string) process {
	status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return process{}
	}
	numbers := strings.Fields(field(status, "NSpid:")) // in this namespace, in that of nspawn, and in its own
	return process{pid, field(status, "PPid:"), len(numbers) > 2 && numbers[len(numbers)-1] == "1"}
}

func field(status []byte, name string) string {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return strings.TrimSpace(string(value))
		}
	}
	return ""
}
