package nixos

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkVerification measures, on a healthy host whose settle_secs is 1, how long a verification takes: from the end
// of the switch to the beginning of the commit, as systemd has it: with a store that is a file and no checks, and with
// a check that takes as long as a request to a store that is far away. If NPCNIX_BENCH_BEFORE is the path of another
// build of npcnix, hosts of the two take turns.
func BenchmarkVerification(b *testing.B) {
	b.Run("alone", func(b *testing.B) { benchVerification(b, "{ }") })
	b.Run("check", func(b *testing.B) {
		benchVerification(b, `{ services.npcnix.checks = [ { name = "far"; command = [ "/bin/sleep" "0.1" ]; } ]; }`)
	})
}

func benchVerification(b *testing.B, system string) {
	const publishes = 10
	agents := []struct{ name, path string }{{"now", agentBinary}}
	if before := os.Getenv("NPCNIX_BENCH_BEFORE"); before != "" {
		agents = append(agents, struct{ name, path string }{"before", before})
	}
	var hosts []*Host
	for _, agent := range agents {
		hosts = append(hosts, New(b, Options{Suite: "trixie", Flavour: RustNow, Agent: agent.path, Module: Module(b)}))
	}
	took := make([][]time.Duration, len(hosts))
	for b.Loop() {
		for range publishes {
			for i, h := range hosts {
				version, etag := h.Publish("nothing", system)
				if r := h.Final(etag); r.Status != "applied" {
					b.Fatalf("%s is %s: %s", version, r.Status, r.Text())
				}
				took[i] = append(took[i], h.verification())
			}
		}
	}
	var medians []float64
	for i, agent := range agents {
		slices.Sort(took[i])
		medians = append(medians, float64(took[i][len(took[i])/2])/float64(time.Millisecond))
		b.ReportMetric(medians[i], agent.name+"-p50-ms")
		b.Logf("%s: %v", agent.name, took[i])
	}
	b.ReportMetric(float64(len(took[0])), "samples")
	if len(medians) > 1 {
		b.ReportMetric(medians[0]/medians[1], "now/before")
	}
}

// verification is how long that of the last activation took: the worker that commits is started after it.
func (h *Host) verification() time.Duration {
	h.t.Helper()
	h.Must("journalctl", "--sync")
	said := h.Must("journalctl", "--boot", "--no-pager", "--output=short-unix")
	last := func(what string) float64 {
		found := regexp.MustCompile(`(?m)^(\d+\.\d+) .*`+what).FindAllStringSubmatch(said, -1)
		if found == nil {
			h.t.Fatalf("the journal lacks %s", what)
		}
		seconds, err := strconv.ParseFloat(found[len(found)-1][1], 64)
		if err != nil {
			h.t.Fatal(err)
		}
		return seconds
	}
	return time.Duration((last("Starting npcnix-activate") - last("finished switching to system configuration")) * float64(time.Second))
}
