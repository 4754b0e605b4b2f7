package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
)

// rememberedFiles are what a process reads once, such as certificates and the time zone. Some it reads again if
// their size or time has changed, but all files of the Nix store have the same time.
var rememberedFiles = []string{
	"/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/localtime",
	"/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt",
}

// surroundings tells one state of the files that a process remembers, and of the host name, from another.
func surroundings() string {
	sum := sha256.New()
	name, _ := os.Hostname()
	_, _ = io.WriteString(sum, name)
	for _, path := range append(slices.Clone(rememberedFiles), os.Getenv("SSL_CERT_FILE"), os.Getenv("AWS_CA_BUNDLE")) {
		fmt.Fprintf(sum, "\x00%s\x00", path)
		if file, err := os.Open(path); err == nil {
			_, _ = io.Copy(sum, file)
			_ = file.Close()
		}
	}
	return string(sum.Sum(nil))
}

// stale reports whether the process remembers surroundings that are others by now. A process that is not to last
// does not mind.
func (f *follower) stale() bool { return f.once == "" && surroundings() != f.began }

// beginAgain replaces this process by one of the same program, which knows the host as it is. It has the same
// number, so that the service manager sees no restart. It returns only if that fails.
func (f *follower) beginAgain() {
	f.log.Info("the host's names, certificates or time zone have changed; beginning again as a new process")
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, againArgs(os.Args), slices.DeleteFunc(os.Environ(), func(v string) bool {
			return f.force && strings.HasPrefix(v, variable("ignore-etag")+"=") // it was for one build
		}))
	}
	f.log.Error("this process cannot be replaced; restart npcnix", "error", err)
	f.began = surroundings()
}

// againArgs are the arguments of a process that goes on with what another began.
func againArgs(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(arg string) bool {
		return arg == "--ignore-etag" || strings.HasPrefix(arg, "--ignore-etag=")
	})
}
