package prometheus

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// startLimit bounds how long a server may take to answer.
const startLimit = time.Minute

// Server is a Prometheus that runs.
type Server struct {
	t   testing.TB
	URL string
}

// Start starts a Prometheus, with these rules, that scrapes a node_exporter, of which it starts one too. That shows
// the textfiles of the folder. A textfile may name another instance.
func Start(t testing.TB, textfiles, rules string) *Server {
	t.Helper()
	node, server := unusedPort(t), unusedPort(t)
	run(t, "prometheus-node-exporter", "http://"+node+"/metrics", "--web.listen-address="+node,
		"--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+textfiles)

	dir := t.TempDir()
	config := fmt.Sprintf(`global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}
rule_files: [rules.yml]
scrape_configs:
  - job_name: node
    honor_labels: true
    static_configs: [{targets: ["%s"]}]
`, node)
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &Server{t, "http://" + server}
	run(t, "prometheus", s.URL+"/-/ready", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+server, "--log.level=warn")
	return s
}

// run starts a program, waits until it answers at a URL, and ends it with the test.
func run(t testing.TB, program, answers string, args ...string) {
	t.Helper()
	cmd := exec.Command(find(t, program), args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for begun := time.Now(); time.Since(begun) < startLimit; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(answers); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatalf("%s does not answer at %s", program, answers)
}

func unusedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Query returns the values of a query at present, by the value of one label.
func (s *Server) Query(query, label string) map[string]string {
	s.t.Helper()
	values := map[string]string{}
	for _, series := range s.ask("query", url.Values{"query": {query}}) {
		values[series.Labels[label]] = fmt.Sprint(series.Value[1])
	}
	return values
}

// Series are the values of one set of labels.
type Series struct {
	Labels map[string]string `json:"metric"`
	Value  [2]any            // of a query at one moment: seconds, and a number as text
	Values [][2]any          // of a range
}

// Range returns the values of a query from a moment until now, step by step.
func (s *Server) Range(query string, from time.Time, step time.Duration) []Series {
	s.t.Helper()
	seconds := func(at time.Time) string { return fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000) }
	return s.ask("query_range", url.Values{
		"query": {query}, "start": {seconds(from)}, "end": {seconds(time.Now())}, "step": {fmt.Sprint(step.Seconds())},
	})
}

// Now returns the values of a query at present.
func (s *Server) Now(query string) []Series {
	s.t.Helper()
	return s.ask("query", url.Values{"query": {query}})
}

func (s *Server) ask(what string, values url.Values) []Series {
	s.t.Helper()
	resp, err := http.Get(s.URL + "/api/v1/" + what + "?" + values.Encode())
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var answer struct {
		Status string
		Data   struct{ Result []Series }
	}
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || answer.Status != "success" {
		s.t.Fatalf("%s: %v: %s", values.Get("query"), err, body)
	}
	return answer.Data.Result
}
