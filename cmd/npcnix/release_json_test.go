package main

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

func TestAReleaseAsJSON(t *testing.T) {
	p, key := newPushed(t), sshKey(t)
	signers, strangers := filepath.Join(t.TempDir(), "signers"), filepath.Join(t.TempDir(), "strangers")
	write(t, signers, publicKey(t, key))
	write(t, strangers, publicKey(t, sshKey(t)))
	keys, err := release.ParseSigners(publicKey(t, key))
	if err != nil {
		t.Fatal(err)
	}
	p.push(nil, "--sign-key", key, "--rev", "abc", "--message", "first \"one\"", "--expires", "2h")

	printed := func(args ...string) (v releaseView) {
		t.Helper()
		var stdout bytes.Buffer
		if err := execute(t.Context(), append(args, "--remote", p.remote.URL(), "--json"), &stdout, io.Discard); err != nil {
			t.Fatal(err)
		}
		decoder := json.NewDecoder(&stdout)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&v); err != nil || decoder.More() {
			t.Fatalf("%v: %v, more: %v", args, err, decoder.More())
		}
		now, err := p.remote.Latest(t.Context(), store.Version{})
		if err != nil {
			t.Fatal(err)
		}
		if v.Remote != p.remote.Name() || v.ETag != now.ETag || v.Rev != "abc" || v.Message != `first "one"` || len(v.Release) != 64 ||
			!slices.Equal(v.Keys, keys.Fingerprints()) || v.Expires.Sub(v.Created).Truncate(time.Minute) != 2*time.Hour {
			t.Errorf("%v prints %+v; the remote holds %+v", args, v, now)
		}
		return v
	}
	first := printed("release", "verify", "--signers", signers)
	renewed := printed("release", "renew", "--sign-key", key)
	if renewed.Release != first.Release || renewed.Serial <= first.Serial || renewed.ETag == first.ETag {
		t.Errorf("renewed was %+v, as %+v", first, renewed)
	}
	if again := printed("release", "verify", "--signers", signers); again.Serial != renewed.Serial {
		t.Errorf("renewed is %+v, and verified %+v", renewed, again)
	}

	var stdout bytes.Buffer
	err = execute(t.Context(), []string{"release", "verify", "--remote", p.remote.URL(), "--signers", strangers, "--json"}, &stdout, io.Discard)
	if err == nil || stdout.Len() > 0 {
		t.Errorf("what nobody vouches for: %v, %q", err, &stdout)
	}
}
