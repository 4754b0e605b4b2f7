package fleet

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/store"
)

// A host that has no record while others have is named at once, before anything is published.
func TestNamedHosts(t *testing.T) {
	for _, c := range []struct {
		name       string
		hosts      []string
		mustKnow   []string
		records    []string
		fail, want string // want "": the gate is made
	}{
		{"all have a record", []string{"web1", "web2"}, []string{"web1", "web2"}, []string{"web1", "web2", "web3"}, "", ""},
		{"a mistyped one", []string{"web1", "web2.prodd"}, []string{"web1", "web2.prodd"}, []string{"web1", "web2.prod"}, "",
			"no record of web2.prodd (did you mean web2.prod?); known are web1, web2.prod; for hosts that are yet to come, give --allow-unknown"},
		{"one that resembles none", []string{"db1"}, []string{"db1"}, []string{"web1"}, "", "no record of db1; known are web1;"},
		{"one that differs by its number alone, which says nothing", []string{"web3"}, []string{"web3"}, []string{"web1"}, "", "no record of web3; known are web1;"},
		{"one that is allowed", []string{"web1", "db1"}, nil, []string{"web1"}, "", ""},
		{"one of a queue beside those that are named", []string{"web1", "db1"}, []string{"web1"}, []string{"web1"}, "", ""},
		{"no host has a record yet", []string{"web1"}, []string{"web1"}, nil, "", ""},
		{"the store does not answer: the wait says so", []string{"web1"}, []string{"web1"}, []string{"db1"}, "503", ""},
		{"none is named, and none is known", nil, nil, nil, "", "no host has a record beside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStore("v1")
			for _, host := range c.records {
				s.says(host, "applied", "v1")
			}
			if c.fail != "" {
				s.fail(errors.New(c.fail))
			}
			gate, err := Prepare(t.Context(), Options{Store: s, Hosts: c.hosts, MustKnow: c.mustKnow})
			if c.want == "" {
				if err != nil || !slices.Equal(gate.hosts, slices.Sorted(slices.Values(c.hosts))) {
					t.Fatalf("%v", err)
				}
				return
			}
			if !errors.Is(err, ErrHosts) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a store that cannot list knows none", func(t *testing.T) {
		s := newStore("v1")
		s.fail(store.ErrNoListing)
		if _, err := Prepare(t.Context(), Options{Store: s, Hosts: []string{"web1"}, MustKnow: []string{"web1"}}); err != nil {
			t.Error(err)
		}
	})
}

// The record that a host had under another name counts for nothing.
func TestARenamedHostIsExpectedByItsNewName(t *testing.T) {
	s := newStore("v1")
	s.says("web1", "applied", "v1", "renamed_to", "web2")
	s.says("web2", "applied", "v1")
	gate, err := Prepare(t.Context(), Options{Store: s})
	if err != nil || !slices.Equal(gate.hosts, []string{"web2"}) {
		t.Errorf("%+v, %v", gate, err)
	}
}
