package fleet

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/metrics"
	"github.com/npcnix/npcnix/store"
)

// JSONLines writes an object for each host, one per line.
func JSONLines(w io.Writer, rows []Row) error {
	encoder := json.NewEncoder(Escaping(w))
	for _, row := range rows {
		if err := encoder.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// CSV writes a line for each host, below the names of the columns. They are those of the JSON members.
func CSV(w io.Writer, rows []Row) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"host", "configuration", "running", "wanted", "running_rev", "wanted_rev", "status", "why", "behind", "behind_secs",
		"last_heard", "silent", "system", "reboot_due", "warning", "trouble", "agent_version", "running_release", "wanted_release", "wave", "unhealthy", "healthy_secs"})
	for _, r := range rows {
		behind := ""
		if r.BehindBy != nil {
			behind = strconv.FormatFloat(float64(*r.BehindBy), 'f', -1, 64)
		}
		cells := []string{r.Host, r.Configuration, r.Running, r.Wanted, r.RunningRev, r.WantedRev, r.Status, r.Why,
			strconv.FormatBool(r.Behind), behind, r.Heard.UTC().Format(time.RFC3339), strconv.FormatBool(r.Silent), r.System,
			strconv.FormatBool(r.RebootDue), r.Warning, r.Trouble, r.Agent,
			r.RunningRelease, r.WantedRelease, number(int64(r.Wave)), r.Unhealthy, number(r.HealthySecs)}
		for i, cell := range cells {
			cells[i] = plainCell(clean(cell))
		}
		_ = out.Write(cells)
	}
	out.Flush()
	return out.Error()
}

// number is empty for what is not known.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// plainCell keeps a spreadsheet from taking what a host wrote for a formula.
func plainCell(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// fleetFamilies are the metrics of a fleet. All are gauges, whose text is the same in OpenMetrics and in the older
// format that pushgateways and node_exporter read.
var fleetFamilies = []metrics.Family{
	{Name: "npcnix_fleet_hosts", Kind: metrics.Gauge, Help: "Hosts that have a record."},
	{Name: "npcnix_fleet_release_info", Kind: metrics.Gauge, Help: "The version that the remote holds."},
	{Name: "npcnix_fleet_release_published_timestamp_seconds", Kind: metrics.Gauge, Help: "When it was published."},
	{Name: "npcnix_fleet_host_info", Kind: metrics.Gauge, Help: "What a host runs."},
	{Name: "npcnix_fleet_host_status", Kind: metrics.Gauge, Help: "What has become of the version that a host wants."},
	{Name: "npcnix_fleet_host_behind", Kind: metrics.Gauge, Help: "Whether a host is not known to run the version that the remote holds."},
	{Name: "npcnix_fleet_host_silent", Kind: metrics.Gauge, Help: "Whether a host was not heard for too long."},
	{Name: "npcnix_fleet_host_last_heard_timestamp_seconds", Kind: metrics.Gauge, Help: "When a host wrote its record."},
	{Name: "npcnix_fleet_host_reboot_pending", Kind: metrics.Gauge, Help: "Whether a reboot is due."},
	{Name: "npcnix_fleet_host_troubled", Kind: metrics.Gauge, Help: "Whether something keeps a host from its work."},
}

// OpenMetrics writes the metrics of a fleet.
func OpenMetrics(w io.Writer, rows []Row, now store.Version) error {
	s := metrics.Samples{}
	s.Set("npcnix_fleet_hosts", float64(len(rows)))
	if now.ETag != "" {
		s.Info("npcnix_fleet_release_info", "release", now.ETag)
		s.At("npcnix_fleet_release_published_timestamp_seconds", now.Modified)
	}
	for _, r := range rows {
		s.Set("npcnix_fleet_host_info", 1, "host", r.Host, "configuration", r.Configuration, "release", r.Running, "rev", r.RunningRev, "version", r.Agent)
		s.Set("npcnix_fleet_host_status", 1, "host", r.Host, "status", r.Status)
		s.Bool("npcnix_fleet_host_behind", r.Behind, "host", r.Host)
		s.Bool("npcnix_fleet_host_silent", r.Silent, "host", r.Host)
		s.At("npcnix_fleet_host_last_heard_timestamp_seconds", r.Heard, "host", r.Host)
		s.Bool("npcnix_fleet_host_reboot_pending", r.RebootDue, "host", r.Host)
		s.Bool("npcnix_fleet_host_troubled", r.Trouble != "", "host", r.Host)
	}
	_, err := io.WriteString(w, Text(string(s.Text(fleetFamilies))+"# EOF\n"))
	return err
}
