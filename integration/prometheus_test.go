package integration

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/prometheus"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// A host that rolls a version back, and is then repaired, fires the one alert for that, and resolves it: by its
// textfile, a real node_exporter and a real Prometheus with the rules of the docs.
func TestAlertsOfAHostThatRollsBack(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../docs/observability/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, newCloud(t).URL())
	h := newHost(w, "web1")
	w.must(os.Mkdir(h.path("metrics"), 0o755))
	p := prometheus.Start(t, h.path("metrics"), string(rules))
	firing := func() []string {
		return slices.Sorted(maps.Keys(p.Query(`ALERTS{alertstate="firing"}`, "alertname")))
	}
	status := func(s record.Status) func() bool {
		return func() bool { return p.Query("npcnix_status == 1", "status")[string(s)] == "1" }
	}
	h.configure(map[string]any{
		"remote": remote, "configuration": "web1", "min_sleep_secs": 1, "max_sleep_secs": 1, "metrics_textfile": h.path("metrics", "npcnix.prom"),
	})

	h.publish(nixtest.System{Version: "one"})
	h.start()
	h.await("status applied in Prometheus", status(record.Applied))
	h.await("the size of the closure in Prometheus", func() bool { return p.Query("npcnix_closure_bytes > 0", "job")["node"] != "" })
	if got := firing(); got != nil {
		t.Errorf("a host that is well fires %q", got)
	}

	h.publish(nixtest.System{Version: "two", SwitchExit: 1})
	h.await("the alert of the rollback", func() bool { return slices.Equal(firing(), []string{"NpcnixRolledBack"}) })
	if got := p.Query("npcnix_rollbacks_total", "cause")["version"]; got != "1" {
		t.Errorf("%s rollbacks", got)
	}

	h.publish(nixtest.System{Version: "three"})
	h.await("status applied in Prometheus", status(record.Applied))
	h.await("the end of the alert", func() bool { return firing() == nil })
	if got := slices.Sorted(maps.Keys(p.Query(`count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1h]))`, "alertname"))); !slices.Equal(got, []string{"NpcnixRolledBack"}) {
		t.Errorf("in all this fired: %q", got)
	}
	if h.terminate() != 0 {
		t.Error("the agent did not end well")
	}
}
