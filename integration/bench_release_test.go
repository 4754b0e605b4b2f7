package integration

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	nspawn "github.com/npcnix/npcnix/integration/machine"
	"github.com/npcnix/npcnix/store/release"
)

// operatorTypes is what an operator would type for a system that is in a cache: the system, the cache and its keys.
const operatorTypes = `
nix-store --realise "$1" --option substituters "$2" --option trusted-public-keys "$3" >/dev/null
nix-env --profile /nix/var/nix/profiles/system --set "$1"
"$1/bin/switch-to-configuration" switch
`

// BenchmarkRelease measures the whole way of a release that was built elsewhere, on a real machine: from the publish to
// the deletion of its message. Beside it, an operator's commands fetch such a system and switch to it. The two take
// turns. The cache is a folder of the machine; units have no time to fail.
func BenchmarkRelease(b *testing.B) {
	const publishes = 5
	for name, paths := range map[string]int{"one-path": 0, "1001-paths": 1000} {
		b.Run(name, func(b *testing.B) {
			g := newGuarded(b, nspawn.Options{}, nil)
			g.prebuild()
			g.cache = "file://" + publisherDir + "/cache"
			n := 0
			next := func() nspawn.System {
				n++
				unit := daemonUnit("/bin/sleep " + strconv.Itoa(1000000+n))
				return nspawn.System{Version: strconv.Itoa(n), Paths: paths, Units: map[string]string{"web.service": unit}}
			}
			g.publish(next()).want(record.Applied) // the first time makes connections
			var agent, hand time.Duration
			for b.Loop() {
				for range publishes {
					agent += g.timeToApplied(next())
					hand += g.timeTyped(next())
				}
			}
			quiet(b)
			samples := float64(b.N * publishes)
			b.ReportMetric(agent.Seconds()/samples, "agent-s")
			b.ReportMetric(hand.Seconds()/samples, "typed-s")
			b.ReportMetric(float64(agent)/float64(hand), "x-typed")
			b.ReportMetric(samples, "samples")
		})
	}
}

// timeToApplied publishes a release and waits until the host has applied it.
func (g *guarded) timeToApplied(s nspawn.System) time.Duration {
	g.t.Helper()
	before := len(g.cloud.Trace())
	p := g.publish(s)
	var published time.Time
	for _, e := range g.cloud.Trace()[before:] {
		if e.What == awsfake.Requested && e.Action == "PutObject" && e.Key == key {
			published = e.At
		}
	}
	deleted := g.awaitEntry("the message of "+s.Version+" deleted", func(e awsfake.Entry) bool {
		return e.What == awsfake.Deleted && e.MessageID == p.message
	})
	p.want(record.Applied)
	return deleted.At.Sub(published)
}

// timeTyped releases a system for another remote, which no host follows, and switches to it as an operator would.
func (g *guarded) timeTyped(s nspawn.System) time.Duration {
	g.t.Helper()
	dir := g.t.TempDir()
	g.must(nspawn.Flake(dir, "safety", map[string]nspawn.System{g.name: g.system(s)}))
	const other = "typed.npcnix"
	g.pushPrebuilt(dir, strings.Replace(g.settings["remote"].(string), key, other, 1))
	object, err := g.s3.GetObject(g.t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(other)})
	g.must(err)
	content, err := io.ReadAll(object.Body)
	g.must(err)
	frame, err := release.ParseFrame(content)
	g.must(err)
	m, err := release.Parse(frame.Manifest)
	g.must(err)

	begun := time.Now()
	g.m.Must("sh", "-ec", operatorTypes, "sh", m.Systems[g.name].Toplevel, m.Caches[0].URL, strings.Join(m.Caches[0].Keys, " "))
	elapsed := time.Since(begun)
	g.stands(s.Version)
	return elapsed
}
