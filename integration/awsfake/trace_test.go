package awsfake

import "testing"

func TestTraceLimit(t *testing.T) {
	const limit = 100
	events := trace{limit: limit, counts: map[Call]int{}}
	for range limit + 10 {
		events.add(Entry{What: Requested, Call: Call{Service: "s3", Action: "GetObject"}})
	}
	entries, next, _ := events.since(0)
	if len(entries) != limit/2+10 || next != limit+10 {
		t.Errorf("%d entries are kept, the next is number %d", len(entries), next)
	}
	if n := events.counts[Call{Service: "s3", Action: "GetObject"}]; n != limit+10 {
		t.Errorf("%d requests are counted", n)
	}
	events.add(Entry{What: Parked})
	entries, after, more := events.since(next)
	if len(entries) != 1 || entries[0].What != Parked || after != next+1 {
		t.Errorf("then come %v, the next is number %d", entries, after)
	}
	events.add(Entry{What: Sent})
	select {
	case <-more:
	default:
		t.Error("nobody is told of the next entry")
	}
}
