package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Extend makes the lease of each delivery end by from now, in whole seconds rounded up, and
// never more than 12 h after its receive. With 0 it ends now: others, or the next Receive,
// may have the message. No deliveries, no request.
//
// Messages for which that fails (most often, their lease had ended) are counted in the
// error, by reason; the others are extended all the same. When a request as a whole fails,
// those not yet tried are left.
func (q *Queue) Extend(ctx context.Context, ds []Delivery, by time.Duration) error {
	const op = "extend leases"
	now := time.Now()
	var entries []types.ChangeMessageVisibilityBatchRequestEntry
	var failed []types.BatchResultErrorEntry
	for i, d := range ds {
		left := max(maxHeld-d.Held(now), 0).Truncate(time.Second)
		if left == 0 && by > 0 {
			failed = append(failed, types.BatchResultErrorEntry{
				Code: aws.String("HeldTooLong"), Message: aws.String("SQS ends a lease 12 h after the receive"),
			})
			continue
		}
		entries = append(entries, types.ChangeMessageVisibilityBatchRequestEntry{
			Id:                aws.String(strconv.Itoa(i)),
			ReceiptHandle:     &d.receipt,
			VisibilityTimeout: seconds(min(max(by, 0), left)),
		})
	}
	for batch := range slices.Chunk(entries, batchSize) {
		out, err := q.sqs.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{
			QueueUrl: &q.options.URL, Entries: batch,
		})
		if err != nil {
			return errors.Join(notDone(op, failed, len(ds)), explain(ctx, op, err))
		}
		failed = append(failed, out.Failed...)
	}
	return notDone(op, failed, len(ds))
}

// Ack deletes the deliveries' messages from the queue, and tries once more those for which
// that fails. No deliveries, no request. Errors are as for Extend; messages they count come
// back when their lease ends. To delete a message twice is no error, and to delete one whose
// lease has ended may do nothing without saying so.
func (q *Queue) Ack(ctx context.Context, ds []Delivery) error {
	const op = "acknowledge messages"
	entries := make([]types.DeleteMessageBatchRequestEntry, len(ds))
	for i, d := range ds {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &d.receipt}
	}
	var failed []types.BatchResultErrorEntry
	for batch := range slices.Chunk(entries, batchSize) {
		refused, err := q.deleteBatch(ctx, batch)
		if len(refused) > 0 {
			batch = slices.DeleteFunc(batch, func(e types.DeleteMessageBatchRequestEntry) bool {
				return !slices.ContainsFunc(refused, func(r types.BatchResultErrorEntry) bool { return aws.ToString(r.Id) == *e.Id })
			})
			refused, err = q.deleteBatch(ctx, batch)
		}
		if err != nil {
			return errors.Join(notDone(op, failed, len(ds)), explain(ctx, op, err))
		}
		failed = append(failed, refused...)
	}
	return notDone(op, failed, len(ds))
}

// deleteBatch makes one request to delete at most ten messages and returns those refused.
func (q *Queue) deleteBatch(ctx context.Context, batch []types.DeleteMessageBatchRequestEntry) ([]types.BatchResultErrorEntry, error) {
	out, err := q.sqs.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.options.URL, Entries: batch})
	if err != nil {
		return nil, err
	}
	return out.Failed, nil
}

// notDone joins into one error the entries that failed of so many: one for each code, with
// its number and the first text. It returns nil if none failed.
func notDone(op string, failed []types.BatchResultErrorEntry, of int) error {
	var errs []error
	for len(failed) > 0 {
		code, text, before := aws.ToString(failed[0].Code), aws.ToString(failed[0].Message), len(failed)
		failed = slices.DeleteFunc(failed, func(f types.BatchResultErrorEntry) bool { return aws.ToString(f.Code) == code })
		errs = append(errs, fmt.Errorf("%s: %d of %d messages: %s: %s", op, before-len(failed), of, code, abridge(text)))
	}
	return errors.Join(errs...)
}
