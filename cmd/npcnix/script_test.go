package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"npcnix": main})
}

// TestScripts runs the scripts in testdata/script. Each has the true command, a data directory,
// root folder and profile of its own, no AWS but what it starts, and the commands below.
func TestScripts(t *testing.T) {
	// A process that does not end is killed early enough for its script to say which it was. Until then it is
	// given the time: how long all scripts take depends on how busy the machine is.
	deadline, limited := t.Deadline()
	if limited {
		deadline = deadline.Add(-time.Minute)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Deadline:            deadline,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"archive":    archiveCmd,
			"await":      awaitCmd,
			"bucket":     bucketCmd,
			"capture":    captureCmd,
			"cloud":      cloudCmd,
			"exits":      exitsCmd,
			"fault":      faultCmd,
			"flake":      flakeCmd,
			"kms":        kmsCmd,
			"queue":      queueCmd,
			"real":       realCmd,
			"smalldisk":  smallDiskCmd,
			"substitute": substituteCmd,
			"webserver":  webServerCmd,
		},
	})
}

// rig is what the commands of one script share.
type rig struct {
	t     testscript.T
	salt  string
	cloud *awsfake.Cloud
}

func rigOf(ts *testscript.TestScript) *rig { return ts.Value(rig{}).(*rig) }

func setUp(env *testscript.Env) error {
	env.Values[rig{}] = &rig{t: env.T(), salt: nixtest.Salt()}
	for _, dir := range []string{"root", "profiles", "home"} {
		if err := os.Mkdir(filepath.Join(env.WorkDir, dir), 0o755); err != nil {
			return err
		}
	}
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("NPCNIX_DATA_DIR", filepath.Join(env.WorkDir, "data"))
	env.Setenv("NPCNIX_PROFILE", filepath.Join(env.WorkDir, "profiles", "system"))
	env.Setenv("NPCNIX_CURRENT_SYSTEM", filepath.Join(env.WorkDir, "root", nixtest.CurrentSystem))
	env.Setenv(nixtest.RootVariable, filepath.Join(env.WorkDir, "root"))
	env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process lasts a second longer under -race
	env.Vars = append(env.Vars, nixtest.Env()...)
	return nil
}

// arguments fails the script unless a command was called as its synopsis says.
func arguments(ts *testscript.TestScript, neg bool, args []string, least, most int, synopsis string) {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("usage: %s", synopsis)
	}
}

// real PROGRAM: the script needs a real part. Where it is missing the script is skipped, or
// fails if all parts are demanded.
func realCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "real PROGRAM")
	if _, err := exec.LookPath(args[0]); err != nil {
		missing(ts, err)
	}
}

func missing(ts *testscript.TestScript, err error) {
	if os.Getenv("NPCNIX_REQUIRE_ALL") != "" {
		ts.Fatalf("%v", err)
	}
	rigOf(ts).t.Skip(err)
}

// exits CODE PROGRAM ARGS...: like exec, of a program that ends with this exit code.
func exitsCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, 100, "exits CODE PROGRAM ARGS...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("it ended with %d, not %d", got, want)
	}
}

// capture NAME: keeps what the last program printed to stdout, without the line break at its end.
func captureCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "capture NAME")
	ts.Setenv(args[0], strings.TrimSuffix(ts.ReadFile("stdout"), "\n"))
}

// substitute FILE: puts the values of $NAME and ${NAME} into the file.
func substituteCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 1, 1, "substitute FILE")
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
}

// await FILE REGEXP: waits until the file holds a match.
func awaitCmd(ts *testscript.TestScript, neg bool, args []string) {
	arguments(ts, neg, args, 2, 2, "await FILE REGEXP")
	want, err := regexp.Compile(`(?m)` + args[1])
	ts.Check(err)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	giveUp := time.After(30 * time.Second)
	for {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && want.Match(data) {
			return
		}
		select {
		case <-look.C:
		case <-giveUp:
			ts.Fatalf("%s never holds %q: %q, %v", args[0], args[1], data, err)
		}
	}
}
