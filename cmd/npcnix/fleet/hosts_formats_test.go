package fleet

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/prometheus"
	"github.com/npcnix/npcnix/store"
)

// promtool takes the metrics of a fleet with a host in each status, of one of which nothing can be read, and of no
// host at all.
func TestOpenMetrics(t *testing.T) {
	rows := []Row{{Host: "gone", Status: Unreadable, Silent: true, Behind: true}, {Host: `w"eb\`, Status: Elsewhere}}
	for _, s := range record.Statuses {
		rows = append(rows, Row{Host: "of-" + string(s), Status: string(s), Running: "v1", Heard: time.UnixMilli(1500)})
	}
	for _, rows := range [][]Row{rows, nil} {
		var out bytes.Buffer
		if err := OpenMetrics(&out, rows, store.Version{ETag: "v2", Modified: time.Unix(9, 0)}); err != nil {
			t.Fatal(err)
		}
		prometheus.Check(t, out.Bytes())
		for _, want := range []string{`npcnix_fleet_host_status{host="of-held",status="held"} 1`, `npcnix_fleet_host_silent{host="gone"} 1`,
			`npcnix_fleet_host_last_heard_timestamp_seconds{host="of-applied"} 1.5`, `npcnix_fleet_host_status{host="w\"eb\\",status="elsewhere"} 1`} {
			if has := strings.Contains(out.String(), want+"\n"); has != (rows != nil) {
				t.Errorf("%s: %t in\n%s", want, has, &out)
			}
		}
	}
}

func TestCSVHoldsNoFormulas(t *testing.T) {
	var out bytes.Buffer
	if err := CSV(&out, []Row{{Host: "web1", Why: `=HYPERLINK("x")`, Warning: "a, b", Heard: time.Unix(0, 0)}}); err != nil {
		t.Fatal(err)
	}
	want := "web1,,,,,,,\"'=HYPERLINK(\"\"x\"\")\",false,,1970-01-01T00:00:00Z,false,,false,\"a, b\",,,,,,,\n"
	if _, line, _ := strings.Cut(out.String(), "\n"); line != want {
		t.Errorf("got %s", line)
	}
}
