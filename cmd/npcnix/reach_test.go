package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/store"
)

// A fault of the store hides none of the queue's: the store's alone can be excused.
func TestReachTriesStoreAndQueue(t *testing.T) {
	cloud, err := awsfake.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	for _, e := range cloud.Env() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	conf := config.Default()
	conf.Remote = "s3://none/npcnix/remotes/dev.npcnix?path-style=true&endpoint=" + cloud.URL()
	conf.QueueURL = cloud.URL() + "/" + awsfake.Account + "/none"

	err = reach(t.Context(), conf, true)
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "the queue cannot be reached") {
		t.Errorf("%v", err)
	}
	if err = reach(t.Context(), conf, false); err == nil || strings.Contains(err.Error(), "the queue") {
		t.Errorf("without the queue: %v", err)
	}
}
