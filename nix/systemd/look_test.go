package systemd

import (
	"reflect"
	"testing"
	"time"
)

// As systemd 257 prints it.
const list = `web.service          loaded    active       running     a daemon
job.service          loaded    inactive     dead        a job
once.service         loaded    active       exited      a job that remains
bad.service          loaded    failed       failed      one that fails
slow.service         loaded    activating   start start a daemon that gets ready
gone.service         not-found inactive     dead        gone.service
db.socket            loaded    active       listening   a socket
idle.socket          loaded    inactive     dead        another socket
srv.mount            loaded    active       mounted     /srv
multi-user.target    loaded    active       active      Multi-User System
`

func TestOnlyUnitsInQuestionAreAskedFor(t *testing.T) {
	listed := parseList(list)
	if u := listed["slow.service"]; len(listed) != 10 || u.Name != "slow.service" || u.Load != "loaded" || u.Active != "activating" || u.Sub != "start" {
		t.Errorf("%d units: %+v", len(listed), u)
	}
	got := inQuestion(listed, []string{"web.service", "once.service", "alias.service", "db.socket", "idle.socket", "srv.mount", "multi-user.target"})
	want := []string{"alias.service", "bad.service", "idle.socket", "slow.service", "srv.mount", "web.service"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// What a list says of the units that are not asked for is enough for every verdict about them.
func TestAListIsEnoughForTheOthers(t *testing.T) {
	listed := parseList(list)
	asked := map[string]bool{}
	var ran []string
	for name, u := range listed {
		if u.Active == "active" {
			ran = append(ran, name)
		}
	}
	for _, name := range inQuestion(listed, ran) {
		asked[name] = true
	}
	befores := []Unit{
		{}, {Load: "loaded", Active: "inactive", Defined: true}, {Load: "loaded", Active: "failed", Result: "exit-code"},
		{Load: "loaded", Active: "activating", Sub: "start"},
	}
	up := Unit{Load: "loaded", Active: "active", Result: "success", Defined: true, UpSecs: 3600}
	for name, short := range listed {
		if asked[name] {
			continue
		}
		full := short
		full.Result, full.Defined, full.Wanted, full.UpSecs = "success", true, true, 1
		all := befores
		if short.Active == "active" {
			all = append(all, up)
		}
		for _, before := range all {
			for _, named := range []bool{false, true} {
				a, _ := Judge(before, short, named)
				b, _ := Judge(before, full, named)
				if a != b {
					t.Errorf("%s, which was %s: %s by a list, %s by all there is", name, before.Active, a, b)
				}
			}
		}
	}
}

func TestWhatIsUpIsKnownFromTheListToo(t *testing.T) {
	blocks := parseBlocks("Id=web.service\nNames=web.service alias.service\nLoadState=loaded\nActiveState=inactive\nTriggeredBy=db.socket\nWantedBy=multi-user.target bad.service\n")
	units := unitsOf(blocks, up(parseList(list), blocks), time.Hour)
	if u := units["alias.service"]; u.Name != "web.service" || !u.Triggered || !u.Wanted {
		t.Errorf("%+v", u)
	}
	if u := unitsOf(blocks, up(nil, blocks), time.Hour)["web.service"]; u.Triggered || u.Wanted {
		t.Errorf("of nothing else: %+v", u)
	}
}
