package awsfake

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubble makes a queue inside a synctest bubble, and its trace.
func bubble(t *testing.T, attributes map[string]string, bury func(string, *message)) (*queue, *trace) {
	t.Helper()
	s, err := defaultSettings().with(attributes)
	if err != nil {
		t.Fatal(err)
	}
	events := &trace{limit: traceLimit, counts: map[Call]int{}}
	q := newQueue("q", s, map[string]string{}, events.add, bury)
	t.Cleanup(q.close)
	return q, events
}

// poll receives in a goroutine; what it got comes through the channel, which is closed without it.
func poll(q *queue, visibility, wait time.Duration) <-chan []delivery {
	out := make(chan []delivery, 1)
	go func() {
		defer close(out)
		if got, err := q.receive(context.Background(), 10, visibility, wait); err == nil && len(got) > 0 {
			out <- got
		}
	}()
	return out
}

func TestQueue(t *testing.T) {
	t.Run("shows a message again exactly when its lease ends", leaseEnds)
	t.Run("shows a delayed message when its delay ends", delayEnds)
	t.Run("wakes one waiter with a message", oneWaiter)
	t.Run("ends a lease 12 hours after the receive at most", longestLease)
	t.Run("deletes by the receipt of an ended lease until the next receive", oldReceipt)
	t.Run("buries a message received too often when it would be handed out again", buried)
	t.Run("gives a cancelled poll nothing", cancelledPoll)
	t.Run("ends its polls when it is closed", closedQueue)
}

func leaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		q.send("hello", 0)
		if got := <-poll(q, 30*time.Second, 0); len(got) != 1 {
			t.Fatalf("received %v", got)
		}
		start := time.Now()
		got := <-poll(q, 30*time.Second, time.Hour) // already waiting when the lease ends
		if waited := time.Since(start); len(got) != 1 || waited != 30*time.Second {
			t.Errorf("received %v after %v", got, waited)
		}
		if got[0].receives != 2 || got[0].first != start {
			t.Errorf("receives %d, first at %v", got[0].receives, got[0].first)
		}
	})
}

func delayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		start := time.Now()
		q.send("late", 7*time.Second)
		q.send("later", 9*time.Second)
		if n := q.count(); n != (counts{delayed: 2}) {
			t.Errorf("counts %+v", n)
		}
		got := <-poll(q, time.Minute, time.Hour)
		if len(got) != 1 || got[0].body != "late" || time.Since(start) != 7*time.Second {
			t.Errorf("received %v after %v", got, time.Since(start))
		}
	})
}

func oneWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, events := bubble(t, nil, nil)
		const polls = 100
		var woken atomic.Int64
		waiting := func() int {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.waiters)
		}
		for range polls {
			go func() {
				got, _ := q.receive(t.Context(), 10, time.Minute, 20*time.Second)
				woken.Add(int64(len(got)))
			}()
		}
		synctest.Wait()
		for sent := 1; sent <= 3; sent++ {
			q.send("hello", 0)
			synctest.Wait()
			if got, left := woken.Load(), waiting(); got != int64(sent) || left != polls-sent {
				t.Errorf("after %d messages %d were woken and %d wait", sent, got, left)
			}
		}
		start := time.Now()
		time.Sleep(20 * time.Second) // inside the bubble: the polls' own time limit
		synctest.Wait()
		if got, left := woken.Load(), waiting(); got != 3 || left != 0 || time.Since(start) != 20*time.Second {
			t.Errorf("%d wait and %d were woken at the end", left, got)
		}
		parked := 0
		entries, _, _ := events.since(0)
		for _, e := range entries {
			if e.What == Parked {
				parked++
			}
		}
		if parked != polls {
			t.Errorf("%d polls were parked, want %d", parked, polls)
		}
	})
}

func longestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		q.send("hello", 0)
		time.Sleep(24 * time.Hour) // the age of the message does not count
		m := (<-poll(q, time.Hour, 0))[0]
		for range 12 {
			time.Sleep(50 * time.Minute)
			if err := q.changeVisibility(m.handle, time.Hour); err != nil {
				t.Fatalf("extend within 12 hours: %v", err)
			}
		}
		time.Sleep(61 * time.Minute / 2) // 10 h 30 min 30 s after the receive
		if err := q.changeVisibility(m.handle, 91*time.Minute); failure(err).code != "InvalidParameterValue" {
			t.Errorf("extend past 12 hours: %v", err)
		}
		if err := q.changeVisibility(m.handle, 89*time.Minute); err != nil {
			t.Errorf("extend to just before 12 hours: %v", err)
		}
	})
}

func oldReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		q.send("hello", 0)
		m := (<-poll(q, time.Second, 0))[0]
		time.Sleep(2 * time.Second)
		if err := q.changeVisibility(m.handle, time.Minute); failure(err).code != "InvalidParameterValue" {
			t.Errorf("extend a lease that has ended: %v", err)
		}
		if n := q.count(); n != (counts{visible: 1}) {
			t.Errorf("counts %+v", n)
		}
		if err := q.delete(m.handle); err != nil {
			t.Errorf("delete: %v", err)
		}
		if n := q.count(); n != (counts{}) {
			t.Errorf("counts %+v after the delete", n)
		}
	})
}

func buried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buried []*message
		q, _ := bubble(t, map[string]string{
			"RedrivePolicy": `{"deadLetterTargetArn":"arn:dead","maxReceiveCount":3}`,
		}, func(arn string, m *message) {
			if arn != "arn:dead" {
				t.Errorf("buried in %s", arn)
			}
			buried = append(buried, m)
		})
		sent := q.send("hello", 0)
		for range 3 {
			if got := <-poll(q, time.Second, time.Minute); len(got) != 1 {
				t.Fatalf("received %v", got)
			}
		}
		time.Sleep(2 * time.Second)
		if n := q.count(); n != (counts{visible: 1}) || len(buried) != 0 {
			t.Errorf("counts %+v, buried %v before anyone asks", n, buried)
		}
		if got := <-poll(q, time.Second, time.Second); got != nil {
			t.Errorf("received %v", got)
		}
		if n := q.count(); n != (counts{}) || len(buried) != 1 || buried[0].id != sent.id || buried[0].receives != 3 {
			t.Errorf("counts %+v, buried %+v", n, buried)
		}
	})
}

func cancelledPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan []delivery)
		go func() {
			got, _ := q.receive(ctx, 10, time.Minute, 20*time.Second)
			ended <- got
		}()
		synctest.Wait()
		cancel()
		if got := <-ended; got != nil {
			t.Errorf("received %v", got)
		}
		q.send("hello", 0)
		if n := q.count(); n != (counts{visible: 1}) {
			t.Errorf("counts %+v", n)
		}
	})
}

func closedQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := bubble(t, nil, nil)
		ended := make(chan error)
		go func() {
			_, err := q.receive(t.Context(), 10, time.Minute, 20*time.Second)
			ended <- err
		}()
		synctest.Wait()
		q.close()
		q.close() // again does nothing
		if err := <-ended; failure(err).code != "AWS.SimpleQueueService.NonExistentQueue" {
			t.Errorf("the poll ends with %v", err)
		}
	})
}
