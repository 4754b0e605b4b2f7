package activation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nix"
)

// activationVariable names the environment variable by which the processes of a switch are known.
const activationVariable = "NPCNIX_ACTIVATION"

// Exit codes of switch-to-configuration (nixpkgs, switch-to-configuration-ng/src/main.rs),
// and of a shell that cannot execute a program.
const (
	exitCheck         = 1   // a pre-switch check failed, or something else
	exitActivation    = 2   // a part of the activation script failed, and all of it ran
	exitUnits         = 4   // some unit is failing: which, is for Verify to see; or EINTR, before anything was done
	exitBusy          = 11  // EAGAIN: another process holds its lock, and nothing was done
	exitInit          = 100 // the init systems do not fit: it can only be booted
	exitNotExecutable = 126
	exitNotFound      = 127
)

// What a system's programs are asked for: of switch-to-configuration, or, with actionActivate, its activate script
// alone, which puts /etc in order without looking at units.
const (
	actionTest     = "test"
	actionBoot     = "boot"
	actionActivate = "activate"
)

// outcome is how a run of switch-to-configuration ended.
type outcome struct {
	err  error    // nil: with status 0
	exit int      // its status; -1 where it has none
	tail []string // of its output
	// begun: an earlier run of the same switch has ended without a result, and may have changed something.
	begun bool
}

// unexecuted reports whether a program of the system could not be executed: the switch itself, or one that it
// runs. Its file may be damaged.
func (o outcome) unexecuted() bool {
	return o.exit == exitNotExecutable || o.exit == exitNotFound || errors.As(o.err, new(*fs.PathError))
}

// lockTaken reports whether this run of the switch did nothing because another process was switching. The exit code
// alone may have another cause: switch-to-configuration ends with any errno.
func (o outcome) lockTaken() bool {
	return o.exit == exitBusy && slices.ContainsFunc(o.tail, func(line string) bool { return strings.Contains(line, "acquire lock") })
}

// unanswered reports whether the switch failed because the service manager gave no answer in time, as on a
// machine that is slow or busy. What the switch had asked for may still come about.
func (o outcome) unanswered() bool {
	return o.err != nil && o.exit > 0 && slices.ContainsFunc(o.tail, noAnswer().MatchString)
}

// activated reports whether the new system runs, whatever its units do. Status 4 hides a status of 2 that came
// before it; the output does not.
func (o outcome) activated() bool {
	return o.err == nil || o.exit == exitUnits && !slices.ContainsFunc(o.tail, activationFailed)
}

// activationFailed reports whether a line of output says that a part of the activation script failed.
func activationFailed(line string) bool {
	return strings.HasPrefix(line, "Failed to run activate script") || nix.FailedSnippet(line) != ""
}

// cause tells whose fault it is that the switch failed. A signal is not the worker's own: the kernel has
// sent it, for want of memory, or a person.
func (o outcome) cause() Cause {
	var exit *exec.ExitError
	switch {
	case errors.As(o.err, &exit) && !exit.Exited():
		return CauseInterrupted
	case o.unanswered():
		return CauseMachine
	}
	return causeOf(o.err)
}

// unwritten returns the line in which a program that installs a boot loader says that it could not write, for a reason
// of the machine's; "" if there is none. Of an activation it would say nothing: what its parts write to need not be a
// disk.
func (o outcome) unwritten() string {
	if i := slices.IndexFunc(o.tail, cannotWrite().MatchString); i >= 0 && o.err != nil {
		return o.tail[i]
	}
	return ""
}

// failure says how the switch to a system failed.
func (o outcome) failure(system string) string {
	text := fmt.Sprintf("switch to %s: %v", system, o.err)
	if line := telling(o.tail); line != "" {
		text += ": " + line
	}
	return text
}

// inhibited reports whether NixOS's own check refused the switch, as critical components differ: the system
// can only be booted. Newer versions of NixOS leave the comparison to whoever switches (inhibitors).
func (o outcome) inhibited() bool {
	return o.exit == exitCheck && slices.ContainsFunc(o.tail, func(line string) bool { return strings.Contains(line, "Pre-switch check 'switchInhibitors' failed") })
}

// telling returns the line of a switch's output that tells best why it failed; "" if there is none. The last
// line mostly tells what was done last, and not what failed.
func telling(tail []string) string {
	for _, tells := range tellings() {
		for _, line := range tail {
			if tells.MatchString(line) {
				return line
			}
		}
	}
	for _, line := range slices.Backward(tail) {
		if !progress().MatchString(line) {
			return line
		}
	}
	if len(tail) == 0 {
		return ""
	}
	return tail[len(tail)-1]
}

// What a switch prints (nixpkgs, nixos/modules/system/activation, and pkgs/by-name/sw/switch-to-configuration-ng). Most
// processes switch nothing, and do without the memory of these expressions.
var (
	// tellings tell why it failed, the best first.
	tellings = sync.OnceValue(func() []*regexp.Regexp {
		return []*regexp.Regexp{
			regexp.MustCompile(`^Activation script snippet '.*' failed`),
			regexp.MustCompile(`^Pre-switch check '.*' failed`),
			regexp.MustCompile(`^(Error: )?Failed to `),
			regexp.MustCompile(`^A dependency job for .* failed`),
			regexp.MustCompile(`the following units failed: `),
		}
	})
	// noAnswer matches what D-Bus (sd-bus, libdbus) and those who use it say when no reply comes. The log of a
	// unit, which a switch prints too, has each line begin with a date.
	noAnswer = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(\s*(\d+: )?|(Error|Warning|Failed|Call failed)\b.*[: ])(Did not receive a reply|Connection timed out|Method call timed out|` +
			`Message recipient disconnected from message bus without replying|Transport endpoint is not connected|org\.freedesktop\.DBus\.Error\.(NoReply|Timeout|TimedOut))`)
	})
	// cannotWrite matches what programs say of a full or broken disk (strerror(3)).
	cannotWrite = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:^\s*(?:\d+: )?|: |\] )(?:No space left on device|Disk quota exceeded|Input/output error)(?:$|[ :.(])`)
	})
	// progress tells what it does.
	progress = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^((stopping|starting|restarting|reloading|NOT restarting|would (stop|start|restart|reload)) |` +
			`the following new units were started: |activating the configuration|setting up |reviving user |removing (user|group) |updating GRUB |Done\. )`)
	})
)

// switchRun is one run of a system's switch-to-configuration.
type switchRun struct {
	system, action string
	id             string        // of the activation
	timeout        time.Duration // for an error that says so; ctx has it
	noCheck        bool          // a rollback is not to be refused
}

// do runs the switch in a session of its own, which ends with this process, and kills it when ctx ends. Its
// output goes to a file in dir, as a pipe would break when its reader is restarted.
func (r switchRun) do(ctx context.Context, dir string, log *slog.Logger) outcome {
	file := filepath.Join(dir, switchLog)
	output, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return outcome{err: fmt.Errorf("%w: %w", nix.ErrMachine, err), exit: -1}
	}
	defer output.Close()
	written, err := os.Open(file)
	if err == nil {
		defer written.Close()
		_, err = written.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return outcome{err: fmt.Errorf("%w: %w", nix.ErrMachine, err), exit: -1}
	}
	lines := &nix.Output{Emit: func(line string) { log.Info(line, "program", "switch-to-configuration "+r.action) }}
	err = r.toItsEnd(ctx, output, written, lines)
	_, _ = io.Copy(lines, written)
	o := outcome{err: err, tail: lines.Lines()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		o.exit = exit.ExitCode()
	} else if err != nil {
		o.exit = -1
	}
	return o
}

// toItsEnd starts the switch and follows its output until it ends.
func (r switchRun) toItsEnd(ctx context.Context, output *os.File, written io.Reader, lines io.Writer) error {
	cmd := exec.Command(nix.System{Path: r.system}.Switcher(), r.action)
	if r.action == actionActivate {
		cmd = exec.Command(filepath.Join(r.system, "activate"), r.system)
	}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), activationVariable+"="+r.id)
	if r.noCheck {
		cmd.Env = append(cmd.Env, "NIXOS_NO_CHECK=1")
	}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = switchSession()
	// The kernel takes the end of the thread that forked for the end of the parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err := follow(ctx, lines, written, ended)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		killSwitch(r.id) // what is in another process group
		<-ended
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("it hung, and was ended after %s", r.timeout)
		}
	}
	return err
}

// follow copies what is appended to a file until ended yields, and returns what it yielded, or the
// error of ctx when that ends first.
func follow(ctx context.Context, to io.Writer, file io.Reader, ended <-chan error) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		// What cannot be read is lost to the log, and no reason to fail a switch.
		_, _ = io.Copy(to, file)
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
}

// killSwitch kills what an interrupted worker has left of its switch. Units that the switch
// has started do not carry its mark, as the service manager starts them.
func killSwitch(id string) {
	mark := activationVariable + "=" + id
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue
		}
		for v := range strings.SplitSeq(string(environ), "\x00") {
			if v == mark {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				break
			}
		}
	}
}
