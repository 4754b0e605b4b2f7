package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix/nixtest"
)

// play runs the demo with a fleet that is ready. It returns a summary.
func (f *fleet) play(ctx context.Context) (string, error) {
	if err := f.open(ctx); err != nil {
		return "", err
	}
	var slowest []string
	good := func(version string) error {
		d, err := f.good(ctx, version)
		slowest = append(slowest, fmt.Sprint(d.Round(time.Millisecond).Milliseconds()))
		return err
	}

	f.say("\n1. A first version.\n")
	if err := good("one"); err != nil {
		return "", err
	}
	f.say("\n2. A second version.\n")
	if err := good("two"); err != nil {
		return "", err
	}
	f.say("\n3. A broken version, which does not build. Each host's config.json has \"retry_delays_secs\": [1, 1],\n" +
		"   to be quick; by default the pauses between attempts are 30 s, 2 min and 8 min.\n")
	if err := f.broken(ctx, "broken"); err != nil {
		return "", err
	}
	f.say("\n4. A fixed version: the rejected one does not delay it.\n")
	if err := good("fixed"); err != nil {
		return "", err
	}
	return fmt.Sprintf("three publishes applied, by the slowest host after %s ms; one rejected",
		strings.Join(slowest, ", ")), nil
}

func (f *fleet) say(format string, args ...any) { fmt.Fprintf(f.out, format, args...) }

// open introduces the fleet, and waits until every host listens.
func (f *fleet) open(ctx context.Context) error {
	nix, err := exec.CommandContext(ctx, "nix", "--version").Output()
	if err != nil {
		return fmt.Errorf("nix --version: %w", err)
	}
	f.say("publish → notice → decide → fetch → build → activate → verify → acknowledge\n\n")
	f.say("Three hosts follow %s\n", remote)
	f.say("  cloud   S3 → SNS → SQS, in this process, at %s\n", f.cloud.URL())
	f.say("  hosts   web1, web2, web3: three npcnix agents, each with a queue, a data folder and a nix profile\n")
	f.say("  builds  by %s; the systems are small, and their switch writes into the host's folder\n", strings.TrimSpace(string(nix)))
	for _, h := range f.hosts {
		_, err := f.await(ctx, h.name+" listens at its queue", func(e awsfake.Entry) bool {
			return e.What == awsfake.Parked && e.Queue == queueName(h.name)
		})
		if err != nil {
			return err
		}
	}
	// Each agent looks at the store when it starts. After that, what follows is due to events.
	looks := 0
	_, err = f.await(ctx, "every host has looked at the empty store", func(e awsfake.Entry) bool {
		if e.What == awsfake.Answered && e.Key == key {
			looks++
		}
		return looks >= len(f.hosts)
	})
	return err
}

// good publishes a version that every host applies. It returns the time until the last host acknowledged it.
func (f *fleet) good(ctx context.Context, version string) (time.Duration, error) {
	published, err := f.publish(ctx, nixtest.System{Version: version})
	if err != nil {
		return 0, err
	}
	f.say("\n  ms      published → noticed → fetched →  built → activated → acknowledged → message deleted\n")
	var systems []string
	var slowest time.Duration
	for _, h := range f.hosts {
		r, err := h.record(ctx, published, record.Applied)
		if err != nil {
			return 0, err
		}
		deleted, err := h.message(ctx, published, awsfake.Deleted, queueName(h.name))
		if err != nil {
			return 0, err
		}
		since := func(t time.Time) string {
			if t.IsZero() {
				return "-"
			}
			return ms(t.Sub(published.At))
		}
		t := r.Times
		f.say("  %-6s %10s %9s %9s %8s %11s %14s %17s\n", h.name, since(published.At), since(t.Noticed), since(t.Fetched),
			since(t.Built), since(t.Activated), since(t.Acknowledged), since(deleted.At))
		slowest = max(slowest, t.Acknowledged.Sub(published.At))

		runs, system, generation, err := h.runs()
		if err != nil {
			return 0, err
		}
		if runs != version || system != r.System {
			return 0, fmt.Errorf("%s acknowledges %s, and runs version %s, %s", h.name, r.System, runs, system)
		}
		systems = append(systems, fmt.Sprintf("  %s runs %s, generation %d\n", h.name, system, generation))
	}
	f.say("\n%s", strings.Join(systems, ""))
	return slowest, nil
}

// broken publishes a version that every host rejects.
func (f *fleet) broken(ctx context.Context, version string) error {
	before := map[string]string{}
	for _, h := range f.hosts {
		_, system, _, err := h.runs()
		if err != nil {
			return err
		}
		before[h.name] = system
	}
	published, err := f.publish(ctx, nixtest.System{Version: version, BuildFails: true})
	if err != nil {
		return err
	}
	f.say("\n  ms      published → received → rejected → in the dead-letter queue   still runs\n")
	var why record.Record
	for _, h := range f.hosts {
		first, err := h.message(ctx, published, awsfake.Received, queueName(h.name))
		if err != nil {
			return err
		}
		r, err := h.record(ctx, published, record.Rejected)
		if err != nil {
			return err
		}
		dead, err := h.message(ctx, published, awsfake.Sent, deadName(h.name))
		if err != nil {
			return err
		}
		if dead.MessageID != first.MessageID {
			return fmt.Errorf("the dead-letter queue of %s holds another message than that of the publish", h.name)
		}
		runs, system, generation, err := h.runs()
		if err != nil {
			return err
		}
		if system != before[h.name] || r.System != system {
			return fmt.Errorf("%s runs %s after the broken version; before that it ran %s", h.name, system, before[h.name])
		}
		f.say("  %-6s %10s %10s %10s %26s   version %s, generation %d\n", h.name, ms(0), ms(first.At.Sub(published.At)),
			ms(r.Times.Acknowledged.Sub(published.At)), ms(dead.At.Sub(published.At)), runs, generation)
		why = r
	}
	f.say("\n  %s's record: %s after %d attempts. Its error:\n", why.Host, why.Status, why.Attempt)
	f.quote(why.Error)
	f.say("  and its log_tail:\n")
	f.quote(why.LogTail...)
	return nil
}

// quote prints lines within a terminal's width.
func (f *fleet) quote(lines ...string) {
	for _, line := range lines {
		for _, part := range wrap(line, 94) {
			f.say("  | %s\n", part)
		}
	}
}

// ms formats milliseconds, to a tenth.
func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64)
}

// wrap cuts a text into lines of at most width characters, between words if possible.
func wrap(text string, width int) []string {
	var lines []string
	for line := range strings.Lines(text) {
		rest := []rune(strings.TrimRight(line, "\n"))
		for len(rest) > width {
			cut := width
			for i := width; i > 0; i-- {
				if rest[i] == ' ' {
					cut = i
					break
				}
			}
			lines = append(lines, string(rest[:cut]))
			rest = []rune(strings.TrimLeft(string(rest[cut:]), " "))
		}
		lines = append(lines, string(rest))
	}
	return lines
}
