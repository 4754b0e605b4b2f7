package awsfake

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// seconds reads an optional number of seconds within limits.
func seconds(name string, value *int, otherwise time.Duration, most int) (time.Duration, error) {
	if value == nil {
		return otherwise, nil
	}
	if *value < 0 || *value > most {
		return 0, invalid("Value %d for parameter %s is invalid. Reason: Must be between 0 and %d, if provided.",
			*value, name, most)
	}
	return time.Duration(*value) * time.Second, nil
}

func (q *queue) accept(body string, delaySeconds *int) (*message, error) {
	q.mu.Lock()
	s := q.settings
	q.mu.Unlock()
	delay, err := seconds("DelaySeconds", delaySeconds, s.delay, 900)
	if err != nil {
		return nil, err
	}
	if body == "" {
		return nil, refuse(http.StatusBadRequest, "MissingParameter", "The request must contain the parameter MessageBody.")
	}
	if len(body) > s.maxSize {
		return nil, invalid("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", s.maxSize)
	}
	return q.send(body, delay), nil
}

func sendMessage(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	m, err := q.accept(in.MessageBody, in.DelaySeconds)
	if err != nil {
		return nil, err
	}
	return map[string]string{"MessageId": m.id, "MD5OfMessageBody": md5Hex([]byte(m.body))}, nil
}

func receiveMessage(_ *Cloud, q *queue, r *request, in sqsInput) (any, error) {
	q.mu.Lock()
	s := q.settings
	q.mu.Unlock()
	most := 1
	if in.MaxNumberOfMessages != nil {
		most = *in.MaxNumberOfMessages
	}
	if most < 1 || most > 10 {
		return nil, invalid("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, "+
			"if provided.", most)
	}
	wait, err := seconds("WaitTimeSeconds", in.WaitTimeSeconds, s.wait, 20)
	if err != nil {
		return nil, err
	}
	visibility, err := seconds("VisibilityTimeout", in.VisibilityTimeout, s.visibility, 43200)
	if err != nil {
		return nil, err
	}
	got, err := q.receive(r.Context(), most, visibility, wait)
	if err != nil {
		return nil, err
	}
	var out struct {
		Messages []sqsMessage `json:",omitempty"`
	}
	names := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	for _, d := range got {
		m := sqsMessage{
			MessageId: d.id, ReceiptHandle: d.handle, Body: d.body, MD5OfBody: md5Hex([]byte(d.body)),
			Attributes: map[string]string{},
		}
		for name, value := range map[string]string{
			"ApproximateReceiveCount":          strconv.Itoa(d.receives),
			"ApproximateFirstReceiveTimestamp": strconv.FormatInt(d.first.UnixMilli(), 10),
			"SentTimestamp":                    strconv.FormatInt(d.sent.UnixMilli(), 10),
			"SenderId":                         Account,
		} {
			if slices.Contains(names, name) || slices.Contains(names, "All") {
				m.Attributes[name] = value
			}
		}
		out.Messages = append(out.Messages, m)
	}
	return out, nil
}

func deleteMessage(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	return empty{}, q.delete(in.ReceiptHandle)
}

func changeMessageVisibility(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	return empty{}, q.change(in.ReceiptHandle, in.VisibilityTimeout)
}

// change is changeVisibility with the check of its number.
func (q *queue) change(handle string, visibility *int) error {
	if visibility == nil {
		return refuse(http.StatusBadRequest, "MissingParameter", "The request must contain the parameter VisibilityTimeout.")
	}
	d, err := seconds("VisibilityTimeout", visibility, 0, 43200)
	if err != nil {
		return err
	}
	return q.changeVisibility(handle, d)
}

func sendMessageBatch(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	return batch(in.Entries, func(e sqsEntry) (map[string]string, error) {
		m, err := q.accept(e.MessageBody, e.DelaySeconds)
		if err != nil {
			return nil, err
		}
		return map[string]string{"Id": e.Id, "MessageId": m.id, "MD5OfMessageBody": md5Hex([]byte(m.body))}, nil
	})
}

func deleteMessageBatch(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	return batch(in.Entries, func(e sqsEntry) (map[string]string, error) {
		return map[string]string{"Id": e.Id}, q.delete(e.ReceiptHandle)
	})
}

func changeMessageVisibilityBatch(_ *Cloud, q *queue, _ *request, in sqsInput) (any, error) {
	return batch(in.Entries, func(e sqsEntry) (map[string]string, error) {
		return map[string]string{"Id": e.Id}, q.change(e.ReceiptHandle, e.VisibilityTimeout)
	})
}

// batch does each entry by itself and sorts the results into successful and failed ones.
func batch(entries []sqsEntry, do func(sqsEntry) (map[string]string, error)) (any, error) {
	seen := map[string]bool{}
	for _, e := range entries {
		if seen[e.Id] {
			return nil, refuse(http.StatusBadRequest, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id %s repeated.", e.Id)
		}
		seen[e.Id] = true
	}
	switch {
	case len(entries) == 0:
		return nil, refuse(http.StatusBadRequest, "AWS.SimpleQueueService.EmptyBatchRequest",
			"There should be at least one entry in the request.")
	case len(entries) > 10:
		return nil, refuse(http.StatusBadRequest, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
			"Maximum number of entries per request are 10. You have sent %d.", len(entries))
	}
	var out struct {
		Successful []map[string]string
		Failed     []sqsFailed `json:",omitempty"`
	}
	for _, e := range entries {
		done, err := do(e)
		if err != nil {
			f := failure(err)
			out.Failed = append(out.Failed, sqsFailed{Id: e.Id, Code: f.code, Message: f.message, SenderFault: f.status < 500})
			continue
		}
		out.Successful = append(out.Successful, done)
	}
	return out, nil
}
