package events

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// deliveries makes n deliveries received a while ago.
func deliveries(n int, ago time.Duration) []Delivery {
	ds := make([]Delivery, n)
	for i := range ds {
		ds[i] = Delivery{receipt: fmt.Sprintf("receipt-%d", i), Received: time.Now().Add(-ago)}
	}
	return ds
}

// receiptsOf returns the receipts of a batch request in order.
func receiptsOf(c call) (receipts []string) {
	for _, e := range c.body["Entries"].([]any) {
		e := e.(map[string]any)
		receipts = append(receipts, e["ReceiptHandle"].(string))
	}
	return receipts
}

// refuse answers a batch request, refusing entries by their receipts.
func refuse(c call, codes map[string]string) any {
	done, failed := []any{}, []any{}
	for _, e := range c.body["Entries"].([]any) {
		e := e.(map[string]any)
		if code := codes[e["ReceiptHandle"].(string)]; code != "" {
			failed = append(failed, map[string]any{"Id": e["Id"], "Code": code, "Message": "no can do", "SenderFault": true})
		} else {
			done = append(done, map[string]any{"Id": e["Id"]})
		}
	}
	return map[string]any{"Successful": done, "Failed": failed}
}

func TestLease(t *testing.T) {
	t.Run("is extended and deleted by tens", byTens)
	t.Run("is extended though others are refused", refusedExtension)
	t.Run("is deleted at a second try", refusedDeletion)
	t.Run("is left when a request fails", failedRequest)
	t.Run("counts in whole seconds up to 12 h after the receive", wholeSeconds)
	t.Run("is counted from the receive", heldTime)
}

func byTens(t *testing.T) {
	for name, request := range map[string]func(*Queue, context.Context, []Delivery) error{
		"ChangeMessageVisibilityBatch": func(q *Queue, ctx context.Context, ds []Delivery) error { return q.Extend(ctx, ds, time.Minute) },
		"DeleteMessageBatch":           (*Queue).Ack,
	} {
		for _, test := range []struct{ deliveries, requests int }{{0, 0}, {1, 1}, {10, 1}, {11, 2}, {23, 3}} {
			t.Run(fmt.Sprintf("%s of %d", name, test.deliveries), func(t *testing.T) {
				s := newServer(t, func(c call) any { return refuse(c, nil) })
				ds := deliveries(test.deliveries, 0)
				if err := request(s.open(t, nil), t.Context(), ds); err != nil {
					t.Fatal(err)
				}
				if n := len(s.trace()); n != test.requests {
					t.Errorf("%d requests, want %d", n, test.requests)
				}
				var sent []string
				for _, c := range s.trace() {
					receipts := receiptsOf(c)
					sent = append(sent, receipts...)
					if c.op != name || len(receipts) > 10 || c.body["QueueUrl"] != s.URL+"/123456789012/web1" {
						t.Errorf("request is %s of %d entries to %v", c.op, len(receipts), c.body["QueueUrl"])
					}
				}
				for i, d := range ds {
					if sent[i] != d.receipt {
						t.Errorf("entry %d has receipt %q, want %q", i, sent[i], d.receipt)
					}
				}
			})
		}
	}
}

func refusedExtension(t *testing.T) {
	s := newServer(t, func(c call) any {
		return refuse(c, map[string]string{
			"receipt-0": "ReceiptHandleIsInvalid", "receipt-3": "InternalError", "receipt-9": "ReceiptHandleIsInvalid", "receipt-11": "ReceiptHandleIsInvalid",
		})
	})
	err := s.open(t, nil).Extend(t.Context(), deliveries(12, 0), time.Minute)
	want := "extend leases: 3 of 12 messages: ReceiptHandleIsInvalid: no can do\nextend leases: 1 of 12 messages: InternalError: no can do"
	if err == nil || err.Error() != want {
		t.Errorf("error is\n%v, want\n%s", err, want)
	}
	if n := len(s.trace()); n != 2 {
		t.Errorf("%d requests, want 2: the second batch is extended in spite of the first", n)
	}
}

func refusedDeletion(t *testing.T) {
	t.Run("which then succeed", func(t *testing.T) {
		var s *server
		s = newServer(t, func(c call) any {
			if len(s.calls) == 1 {
				return refuse(c, map[string]string{"receipt-2": "InternalError", "receipt-7": "InternalError"})
			}
			return refuse(c, nil)
		})
		if err := s.open(t, nil).Ack(t.Context(), deliveries(10, 0)); err != nil {
			t.Fatal(err)
		}
		if n := len(s.trace()); n != 2 {
			t.Fatalf("%d requests, want 2", n)
		}
		if receipts := receiptsOf(s.trace()[1]); !reflect.DeepEqual(receipts, []string{"receipt-2", "receipt-7"}) {
			t.Errorf("tried again: %v, want receipt-2 and receipt-7", receipts)
		}
	})
	t.Run("and reports those refused again, after doing the next batch", func(t *testing.T) {
		s := newServer(t, func(c call) any { return refuse(c, map[string]string{"receipt-2": "InternalError"}) })
		err := s.open(t, nil).Ack(t.Context(), deliveries(11, 0))
		if want := "acknowledge messages: 1 of 11 messages: InternalError: no can do"; err == nil || err.Error() != want {
			t.Errorf("error is %v, want %s", err, want)
		}
		var sizes []int
		for _, c := range s.trace() {
			receipts := receiptsOf(c)
			sizes = append(sizes, len(receipts))
		}
		if !reflect.DeepEqual(sizes, []int{10, 1, 1}) {
			t.Errorf("requests of %v entries, want 10, then 1 again, then the last 1", sizes)
		}
	})
}

func failedRequest(t *testing.T) {
	var s *server
	s = newServer(t, func(c call) any {
		if len(s.calls)%2 == 1 {
			return refuse(c, map[string]string{})
		}
		return apiError{http.StatusBadRequest, "QueueDoesNotExist", "gone"}
	})
	q := s.open(t, nil)
	for _, err := range []error{q.Extend(t.Context(), deliveries(30, 0), time.Minute), q.Ack(t.Context(), deliveries(30, 0))} {
		var gone *types.QueueDoesNotExist
		if !errors.As(err, &gone) {
			t.Errorf("error is %v, want QueueDoesNotExist", err)
		}
	}
	if n := len(s.trace()); n != 4 {
		t.Errorf("%d requests, want 2 each", n)
	}
}

func wholeSeconds(t *testing.T) {
	const nothing = -1 // an error, and no request
	tests := []struct {
		name string
		held time.Duration
		by   time.Duration
		want int32 // seconds
	}{
		{"whole seconds stay", 0, 2 * time.Minute, 120},
		{"parts of a second count whole", 0, 1200 * time.Millisecond, 2},
		{"a nanosecond is a second", 0, 1, 1},
		{"zero releases", 0, 0, 0},
		{"less than zero releases", 0, -time.Minute, 0},
		{"an hour may be had after 10 h", 10 * time.Hour, time.Hour, 3600},
		{"an hour is cut short after 11 h 30", 11*time.Hour + 30*time.Minute, time.Hour, 1800},
		{"a day is cut to 12 h", 0, 24 * time.Hour, 43200},
		{"part of a second is not rounded beyond 12 h", 500 * time.Millisecond, 24 * time.Hour, 43199},
		{"nothing is left after 12 h", 12 * time.Hour, time.Minute, nothing},
		{"nothing is left in the last second", 12*time.Hour - 500*time.Millisecond, time.Minute, nothing},
		{"releasing is possible even after 12 h", 13 * time.Hour, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				err := (&Queue{sqs: &r}).Extend(t.Context(), deliveries(1, test.held), test.by)
				if test.want == nothing {
					if err == nil || !strings.Contains(err.Error(), "HeldTooLong") || len(r.timeouts) != 0 {
						t.Errorf("timeouts %d and error %v, want none and one of 12 h", r.timeouts, err)
					}
					return
				}
				if err != nil || len(r.timeouts) != 1 || r.timeouts[0] != test.want {
					t.Errorf("timeouts %d and error %v, want %d", r.timeouts, err, test.want)
				}
			})
		})
	}
}

// recorder takes every extension, in a synctest bubble, where no time passes on the way.
type recorder struct {
	api
	timeouts []int32
}

func (r *recorder) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	for _, e := range in.Entries {
		r.timeouts = append(r.timeouts, e.VisibilityTimeout)
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

// slow answers each poll after a time, in a synctest bubble, where no sockets are possible.
type slow struct {
	api
	takes time.Duration
	gives int
	polls int
}

func (s *slow) ReceiveMessage(ctx context.Context, _ *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	s.polls++
	if err := pause(ctx, s.takes); err != nil {
		return nil, err
	}
	return &sqs.ReceiveMessageOutput{Messages: make([]types.Message, s.gives)}, nil
}

func keepsTime(t *testing.T) {
	tests := []struct {
		name  string
		queue slow
		cut   time.Duration // the caller's own limit
		polls int
		takes time.Duration
		count int
		err   error
	}{
		{"a slow burst ends before its first leases do", slow{takes: 10 * time.Second, gives: 10}, time.Hour, 4, 40 * time.Second, 40, nil},
		{"a server that never holds a poll is asked once a second", slow{gives: 0}, time.Hour, 1, time.Second, 0, nil},
		{"a poll held for its time is not made longer", slow{takes: 20 * time.Second}, time.Hour, 1, 20 * time.Second, 0, nil},
		{"a poll is not held longer than the wait and an attempt", slow{takes: time.Hour}, time.Hour, 1, 55 * time.Second, 0, context.DeadlineExceeded},
		{"a cancelled poll returns at once", slow{takes: 20 * time.Second}, 3 * time.Second, 1, 3 * time.Second, 0, context.DeadlineExceeded},
		{"a burst that is cancelled gives what it has", slow{takes: 10 * time.Second, gives: 10}, 15 * time.Second, 2, 15 * time.Second, 10, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := QueueOptions{URL: "http://127.0.0.1/1/q"}
				if _, err := o.validate(); err != nil {
					t.Fatal(err)
				}
				q := &Queue{sqs: &test.queue, options: o}
				ctx, cancel := context.WithTimeout(t.Context(), test.cut)
				defer cancel()
				start := time.Now()
				ds, err := q.Receive(ctx)
				if !errors.Is(err, test.err) || len(ds) != test.count {
					t.Errorf("%d deliveries and error %v, want %d and %v", len(ds), err, test.count, test.err)
				}
				if took := time.Since(start); took != test.takes || test.queue.polls != test.polls {
					t.Errorf("%d polls took %s, want %d and %s", test.queue.polls, took, test.polls, test.takes)
				}
			})
		})
	}
}

func heldTime(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if got := (Delivery{Received: at}).Held(at.Add(11 * time.Hour)); got != 11*time.Hour {
		t.Errorf("held for %s, want 11h", got)
	}
	if got := (Delivery{}).Held(at); got != 0 {
		t.Errorf("a delivery that was not received is held for %s, want 0", got)
	}
}

func TestDelivery(t *testing.T) {
	t.Run("prints without its receipt", hiddenReceipt)
}

func hiddenReceipt(t *testing.T) {
	d := Delivery{ID: "id-1", Receives: 2, receipt: "hush"}
	for _, format := range []string{"%v", "%+v", "%s"} {
		if got := fmt.Sprintf(format, []Delivery{d}); strings.Contains(got, "hush") || !strings.Contains(got, "id-1") {
			t.Errorf("%s prints %q", format, got)
		}
	}
}
