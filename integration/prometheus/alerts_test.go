package prometheus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const folder = "../../docs/observability"

// Each alert is tested by promtool, and has a paragraph in the runbook that its annotation leads to.
func TestAlerts(t *testing.T) {
	alerts, runbook := content(t, folder, "alerts.yml"), content(t, folder, "../runbook.md")
	tests := content(t, folder, "alerts_test.yml") + content(t, folder, "alerts_days_test.yml")
	Promtool(t, nil, "check", "rules", filepath.Join(folder, "alerts.yml"))
	Promtool(t, nil, "test", "rules", filepath.Join(folder, "alerts_test.yml"), filepath.Join(folder, "alerts_days_test.yml"))
	var named []string
	for _, rule := range strings.Split(alerts, "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		named = append(named, name)
		if !strings.Contains(rule, "/docs/runbook.md#"+strings.ToLower(name)+"\n") || !strings.Contains(runbook, "\n## "+name+"\n\nLook at ") {
			t.Errorf("%s does not lead to its paragraph of the runbook, which says what to look at", name)
		}
		if !strings.Contains(tests, `{alertname="`+name+`"}`) {
			t.Errorf("no test has %s fire", name)
		}
	}
	for _, title := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(runbook, -1) {
		if !slices.Contains(named, title[1]) {
			t.Errorf("the runbook has %s, which is no alert", title[1])
		}
	}
}

func content(t *testing.T, elements ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
