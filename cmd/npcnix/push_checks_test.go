package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store"
)

// A pushed is a remote in a folder, and a flake that is pushed to it.
type pushed struct {
	t      *testing.T
	remote *store.Remote
	args   []string
}

func newPushed(t *testing.T) *pushed {
	t.Helper()
	src := t.TempDir()
	write(t, filepath.Join(src, "flake.nix"), "one")
	remote, err := store.Open(t.Context(), "file://"+filepath.Join(t.TempDir(), "dev.npcnix"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}

	return &pushed{t, remote, []string{"push", "--src", src, "--remote", remote.URL(), "--check=none"}}
}

// record writes a host's record.
func (p *pushed) record(r record.Record) {
	p.t.Helper()
	r.Schema, r.Status = record.Schema, record.Applied
	data, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.remote.PutRecord(p.t.Context(), r.Host, data); err != nil {
		p.t.Fatal(err)
	}
}

// push pushes, and returns all that it printed.
func (p *pushed) push(want error, more ...string) string {
	p.t.Helper()

	return command(p.t, want, append(append([]string{}, p.args...), more...)...)
}

// Hosts that have another name by now, or follow another remote, keep nobody from a publish, and make up no wave.
func TestHostsThatAreElsewhereDoNotCount(t *testing.T) {
	p, key := newPushed(t), sshKey(t)
	others := []string{"SHA256:other"}
	p.record(record.Record{Host: "renamed", RenamedTo: "web1", Remote: p.remote.URL(), Signers: others})
	p.record(record.Record{Host: "elsewhere", Remote: "s3://fleet/prod.npcnix", Signers: others})
	p.push(nil, "--sign-key", key)
	for _, wave := range []string{"renamed", "elsewhere"} {
		if out := p.push(errAny, "--sign-key", key, "--wave", wave, "--wave", "100%"); !strings.Contains(out, "is in the first wave") {
			t.Error(out)
		}
	}
	p.record(record.Record{Host: "web1", Remote: p.remote.URL(), Signers: others})
	if out := p.push(errAny, "--sign-key", key, "--again"); !strings.Contains(out, "nothing was published: web1 would refuse it") {
		t.Error(out)
	}
}
