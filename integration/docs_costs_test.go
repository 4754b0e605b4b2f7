package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/agent/config"
)

// List prices of AWS in us-east-1, in dollars for a million requests, without what is free of charge:
// https://aws.amazon.com/s3/pricing/ and https://aws.amazon.com/sqs/pricing/.
const (
	pricePerRead    = 0.40 / 1e6 // GET and HEAD of S3
	pricePerWrite   = 5.00 / 1e6 // PUT of S3
	pricePerReceive = 0.40 / 1e6 // any request to SQS
)

// The table of what hosts cost follows from the defaults of the settings.
func TestDocsCosts(t *testing.T) {
	const month = 730 * 3600.0 // seconds
	c := config.Default()
	records := month / c.RecordRefresh().Seconds() * pricePerWrite
	polls := func(secs float64) float64 { return month/secs*pricePerRead + records }
	const longPoll = 20.0
	columns := []float64{month/longPoll*pricePerReceive + polls(c.PollInterval().Seconds()), polls(10), polls(60), polls(600)}

	table := "| hosts | a queue each | polling every 10 s | every 60 s | every 10 min |\n|--:|--:|--:|--:|--:|\n"
	for _, hosts := range []struct {
		n    float64
		name string
	}{{10, "10"}, {1000, "1,000"}, {10000, "10,000"}} {
		table += "| " + hosts.name
		for _, dollars := range columns {
			table += fmt.Sprintf(" | $%.2f", hosts.n*dollars)
		}
		table += " |\n"
	}
	text, err := os.ReadFile("../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n\n"+table+"\n") {
		t.Errorf("docs/aws.md lacks the table of costs:\n%s", table)
	}
}
