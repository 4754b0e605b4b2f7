package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/health"
	"github.com/npcnix/npcnix/integration/awsfake"
	"github.com/npcnix/npcnix/nix"
)

// fault is one thing that can go wrong.
type fault struct {
	name  string
	begin func(w *world) (end func())
	// tells is what status or record must tell of meanwhile, if not what the others of the group do.
	tells health.Code
	// hidden: nothing on the host can tell, or it comes and goes.
	hidden bool
	// unrecorded: the host cannot write its record meanwhile, which is then not asked for the truth.
	unrecorded bool
	// requests is how many a minute there may be, if more than the others.
	requests int
	// outage: AWS says itself that it has one, so that it may outlast a verification.
	outage bool
	// disk: the data directory is on a file system of its own.
	disk bool
}

// group is the faults that befall one thing.
type group struct {
	name   string
	tells  health.Code
	faults []fault
}

// groups are all faults, by what they befall.
var groups = []group{
	{"the queue", health.Queue, queueFaults},
	{"the events", "", eventFaults},
	{"the store", health.Store, storeFaults},
	{"a download", health.Fetch, downloadFaults},
	{"credentials and clocks", health.Queue, identityFaults},
	{"the network", health.Queue, networkFaults},
	{"the record", health.Record, recordFaults},
	{"the host", health.Machine, hostFaults},
}

// call is a fault of awsfake's, for requests of the agent.
func call(c awsfake.Call, e awsfake.Effect) func(*world) func() {
	c.AccessKey = hostKey
	return func(w *world) func() { return w.cloud.Fault(c, e).Remove }
}

func queue(action string, e awsfake.Effect) func(*world) func() {
	return call(awsfake.Call{Service: "sqs", Action: action}, e)
}

func object(e awsfake.Effect) func(*world) func() {
	return call(awsfake.Call{Service: "s3", Key: key}, e)
}

func put(e awsfake.Effect) func(*world) func() {
	return call(awsfake.Call{Service: "s3", Key: recordKey}, e)
}

var queueFaults = []fault{
	{name: "receiving is forbidden", begin: queue("ReceiveMessage", awsfake.Effect{Status: 403, Code: "AccessDenied"})},
	{name: "the queue is gone", begin: queue("", awsfake.Effect{Status: 400, Code: "QueueDoesNotExist"}), outage: true},
	{name: "receiving is answered with 500", begin: queue("ReceiveMessage", awsfake.Effect{Status: 500})},
	{name: "everything is answered with 503", begin: queue("", awsfake.Effect{Status: 503, Code: "ServiceUnavailable"}), outage: true},
	{name: "receiving is throttled", begin: queue("ReceiveMessage", awsfake.Effect{Status: 403, Code: "ThrottlingException"})},
	{name: "receiving is reset", begin: queue("ReceiveMessage", awsfake.Effect{Reset: true})},
	{name: "receiving hangs", begin: queue("ReceiveMessage", awsfake.Effect{Hang: true})},
	{name: "answers break on their way", begin: queue("ReceiveMessage", awsfake.Effect{Truncate: true})},
	{name: "each request takes 10 s longer", hidden: true, begin: queue("", awsfake.Effect{Latency: 10 * time.Second})},
	{name: "a login page answers", begin: func(w *world) func() { return w.proxy.use(isSQS, portal) }},
	{name: "polls end at once, empty", hidden: true, begin: func(w *world) func() {
		return w.proxy.use(receives, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, "{}")
		})
	}},
	{name: "answers of 60 MB", begin: func(w *world) func() {
		return w.proxy.use(receives, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			chunk := bytes.Repeat([]byte("x"), 1<<20)
			_, err := io.WriteString(w, `{"Messages":[{"Body":"`)
			for range 60 {
				if err == nil {
					_, err = w.Write(chunk)
				}
			}
		})
	}},
	{name: "full of junk, at once", hidden: true, begin: junk, requests: 2 * 60 * 10 * 2}, // ten receives and deletes a second, after a burst
	{name: "deleting is forbidden", hidden: true, begin: queue("DeleteMessageBatch", awsfake.Effect{Status: 403, Code: "AccessDenied"})},
	{name: "deleting works, and is answered with an error", hidden: true, begin: queue("DeleteMessageBatch", awsfake.Effect{Truncate: true})},
	{name: "leases cannot be extended", hidden: true, begin: queue("ChangeMessageVisibilityBatch", awsfake.Effect{Status: 403, Code: "AccessDenied"})},
	{name: "extending leases hangs", hidden: true, begin: queue("ChangeMessageVisibilityBatch", awsfake.Effect{Hang: true})},
}

// junk fills each answer with messages of an unknown shape.
func junk(w *world) func() {
	return w.proxy.use(receives, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		var messages []string
		for i := range 10 {
			messages = append(messages, fmt.Sprintf(`{"MessageId":"j%d","ReceiptHandle":"r%d","Body":"junk"}`, i, i))
		}
		_, _ = io.WriteString(w, `{"Messages":[`+strings.Join(messages, ",")+`]}`)
	})
}

var eventFaults = []fault{
	{name: "lost", begin: func(w *world) func() { return w.cloud.Events(awsfake.Lose) }},
	{name: "five minutes late", begin: func(w *world) func() { return w.cloud.Events(awsfake.Delay(5 * time.Minute)) }},
	{name: "each a hundred times", begin: func(w *world) func() { return w.cloud.Events(awsfake.Duplicate(100)) }},
	{name: "without a sequencer, twice", begin: func(w *world) func() {
		first, second := w.cloud.Events(awsfake.NoSequencer), w.cloud.Events(awsfake.Duplicate(2))
		return func() { first(); second() }
	}},
	{name: "garbled", begin: func(w *world) func() { return w.cloud.Events(awsfake.Garble("{")) }},
	{name: "the same message again and again", begin: func(w *world) func() {
		return every(w, 20*time.Second, func() { w.cloud.ExpireReceipts(w.queueURL) })
	}},
	{name: "of another object, ten a second", begin: func(w *world) func() {
		return every(w, time.Second, func() {
			for range 10 {
				_, _ = w.sqs.SendMessage(w.ctx, &sqs.SendMessageInput{QueueUrl: &w.queueURL, MessageBody: aws.String(
					`{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"` + bucket + `"},"object":{"key":"other.npcnix","eTag":"e"}}}]}`)})
			}
		})
	}, requests: 900},
}

// every does something at intervals until the fault ends.
func every(w *world, interval time.Duration, do func()) (end func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			pause(ctx, interval)
			if ctx.Err() != nil {
				return
			}
			do()
		}
	}()

	return func() { cancel(); <-done }
}

var storeFaults = []fault{
	{name: "reading is forbidden", begin: object(awsfake.Effect{Status: 403, Code: "AccessDenied"})},
	{name: "the object is gone", begin: object(awsfake.Effect{Status: 404, Code: "NoSuchKey"}), outage: true},
	{name: "the bucket is gone", begin: call(awsfake.Call{Service: "s3"}, awsfake.Effect{Status: 404, Code: "NoSuchBucket"}), unrecorded: true, outage: true},
	{name: "answers 500", begin: object(awsfake.Effect{Status: 500}), outage: true},
	{name: "answers 503 SlowDown", begin: call(awsfake.Call{Service: "s3"}, awsfake.Effect{Status: 503, Code: "SlowDown"}), unrecorded: true, outage: true},
	{name: "resets connections", begin: object(awsfake.Effect{Reset: true})},
	{name: "hangs", begin: object(awsfake.Effect{Hang: true})},
	{name: "each request takes 20 s", tells: health.Record, begin: call(awsfake.Call{Service: "s3"}, awsfake.Effect{Latency: 20 * time.Second}), unrecorded: true},
	{name: "answers break on their way", begin: object(awsfake.Effect{Truncate: true})},
	{name: "a login page answers", begin: func(w *world) func() { return w.proxy.use(isS3, portal) }, unrecorded: true},
	{name: "redirects to itself", begin: func(w *world) func() {
		return w.proxy.use(isFlake, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			w.Header().Set("Location", endpoint+r.URL.Path)
			refuse(w, r, http.StatusTemporaryRedirect, "TemporaryRedirect")
		})
	}},
	{name: "a cache shows the version before", hidden: true, begin: stale},
	{name: "names no version", begin: func(w *world) func() {
		return w.proxy.alter(isFlake, func(a *httptest.ResponseRecorder) { a.Header().Del("ETag") })
	}},
	{name: "lets looks in and downloads not: 403", tells: health.Fetch, begin: fetchRefused(403, "AccessDenied")},
	{name: "contradicts itself: 412 for what it just showed", tells: health.Fetch, begin: fetchRefused(412, "PreconditionFailed")},
}

func fetchRefused(status int, code string) func(*world) func() {
	return func(w *world) func() {
		return w.proxy.use(isFetch, func(w http.ResponseWriter, r *http.Request, _ http.Handler) { refuse(w, r, status, code) })
	}
}

// stale answers looks as a cache does that has the object of before.
func stale(w *world) func() {
	before := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, endpoint+"/"+bucket+"/"+key, nil)
	request.Header.Set("Range", "bytes=-65536")
	w.cloud.ServeHTTP(before, request)
	return w.proxy.use(isLook, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.Header.Get("If-None-Match") == before.Header().Get("ETag") {
			w.Header().Set("ETag", before.Header().Get("ETag"))
			w.WriteHeader(http.StatusNotModified)
			return
		}
		send(w, before)
	})
}

var downloadFaults = []fault{
	{name: "drips, a byte each 20 s", begin: func(w *world) func() {
		return w.proxy.body(isFetch, func(ctx context.Context, w io.Writer, body []byte) {
			for i := 0; i < len(body) && ctx.Err() == nil; i++ {
				if _, err := w.Write(body[i : i+1]); err != nil {
					return
				}
				_ = http.NewResponseController(w.(http.ResponseWriter)).Flush()
				pause(ctx, 20*time.Second)
			}
		})
	}},
	{name: "stops in the middle", begin: func(w *world) func() {
		return w.proxy.body(isFetch, func(ctx context.Context, w io.Writer, body []byte) {
			_, _ = w.Write(body[:len(body)/2])
			_ = http.NewResponseController(w.(http.ResponseWriter)).Flush()
			<-ctx.Done()
		})
	}},
	{name: "a byte is flipped, each time another, and there is no checksum", begin: func(w *world) func() {
		n := 0
		return w.proxy.alter(isFetch, func(a *httptest.ResponseRecorder) {
			dropChecksums(a)
			if body := a.Body.Bytes(); len(body) > 0 {
				n++
				body[len(body)/2+n] ^= 1
			}
		})
	}},
	{name: "is short, and says so", begin: func(w *world) func() {
		return w.proxy.alter(isFetch, func(a *httptest.ResponseRecorder) {
			dropChecksums(a)
			a.Body.Truncate(a.Body.Len() / 2)
			a.Header().Set("Content-Length", length(a, 0))
		})
	}},
	{name: "is longer than the object", begin: func(w *world) func() {
		return w.proxy.alter(isFetch, func(a *httptest.ResponseRecorder) {
			dropChecksums(a)
			a.Body.Write(make([]byte, 1000))
			a.Header().Set("Content-Length", length(a, 0))
		})
	}},
	{name: "never ends", begin: func(w *world) func() {
		return w.proxy.use(isFetch, func(w http.ResponseWriter, r *http.Request, cloud http.Handler) {
			answer := httptest.NewRecorder()
			cloud.ServeHTTP(answer, r)
			answer.Header().Del("Content-Length")
			dropChecksums(answer)
			send(w, answer)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 16<<10)); err != nil {
					return
				}
				pause(r.Context(), time.Second)
			}
		})
	}},
}

func dropChecksums(a *httptest.ResponseRecorder) {
	for name := range a.Header() {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-checksum") {
			a.Header().Del(name)
		}
	}
}

var identityFaults = []fault{
	{name: "credentials are rotated, and the old ones refused", begin: rotated, unrecorded: true},
	{name: "the credentials expire", begin: call(awsfake.Call{}, awsfake.Effect{Status: 403, Code: "ExpiredToken"}), unrecorded: true},
	{name: "the host's clock is an hour behind", hidden: true, begin: func(w *world) func() { return w.proxy.use(isAny, skewed(time.Hour)) }},
	{name: "the host's clock is a day ahead", hidden: true, begin: func(w *world) func() { return w.proxy.use(isAny, skewed(-24*time.Hour)) }},
}

// rotated has the cloud refuse the host's credentials for ever. In the end, their file has others.
func rotated(w *world) func() {
	call(awsfake.Call{}, awsfake.Effect{Status: 403, Code: "InvalidAccessKeyId"})(w)
	return func() { w.identify(hostKey + "2") }
}

var networkFaults = []fault{
	{name: "connections are refused", begin: func(w *world) func() { return w.net.refuse(syscall.ECONNREFUSED) }, unrecorded: true},
	{name: "names are not resolved", begin: func(w *world) func() {
		return w.net.refuse(errors.New("lookup s3.us-east-1.amazonaws.com: no such host"))
	}, unrecorded: true},
	{name: "there is no route", begin: func(w *world) func() { return w.net.refuse(syscall.ENETUNREACH) }, unrecorded: true},
	{name: "everything sent vanishes", begin: func(w *world) func() { return w.net.swallow() }, unrecorded: true},
	{name: "connections are cut each 5 s", begin: func(w *world) func() { return every(w, 5*time.Second, w.net.cut) }},
	{name: "30 s off, 30 s on", hidden: true, begin: func(w *world) func() {
		on := func() {}
		stop := every(w, 30*time.Second, func() {
			if on != nil {
				on()
				on = nil
				return
			}
			on = w.net.refuse(syscall.ENETUNREACH)
		})
		return func() {
			stop()
			if on != nil {
				on()
			}
		}
	}, unrecorded: true},
}

var recordFaults = []fault{
	{name: "writing is forbidden", begin: put(awsfake.Effect{Status: 403, Code: "AccessDenied"}), unrecorded: true},
	{name: "writing hangs", begin: put(awsfake.Effect{Hang: true}), unrecorded: true},
	{name: "is written, and answered with an error", begin: put(awsfake.Effect{Truncate: true}), unrecorded: true},
	{name: "another host has the same name", hidden: true, begin: func(w *world) func() {
		dir := config.Dir(w.TempDir())
		w.must(dir.UpdateConfig(w.ctx, func(c *config.Config) error {
			c.Remote, c.Configuration, c.Host, c.QueueURL = "s3://"+bucket+"/"+key, "web1", "web1", w.queueURL
			return nil
		}))
		return w.start(dir, &host{running: "/nix/store/system-0"})
	}, unrecorded: true}, // it is the other's too
}

var hostFaults = []fault{
	{name: "nix is missing", begin: broken(nix.ErrNoNix)},
	{name: "the nix store is full", begin: broken(nix.ErrDiskFull)},
	{name: "nix is killed", begin: broken(fmt.Errorf("%w: nix ended by a signal (signal: killed): is there enough memory?", nix.ErrMachine))},
	{name: "config.json is damaged", tells: health.Config, begin: settings(`{"remote": `)},
	{name: "config.json is empty", tells: health.Config, begin: settings("")},
	{name: "config.json is gone", tells: health.Config, begin: func(w *world) func() {
		kept, err := os.ReadFile(w.dir.ConfigPath())
		w.must(err)
		w.must(os.Remove(w.dir.ConfigPath()))
		return func() { w.must(os.WriteFile(w.dir.ConfigPath(), kept, 0o600)) }
	}},
	{name: "the agent is restarted each minute", hidden: true, begin: func(w *world) func() {
		return every(w, time.Minute, func() { w.restart() })
	}},
	{name: "the disk is full", tells: health.State, begin: fullDisk, disk: true},
	{name: "the disk is read-only", tells: health.State, begin: readOnlyDisk, disk: true},
}

func broken(err error) func(*world) func() {
	return func(w *world) func() {
		w.host.set(func(h *host) { h.broken = func() error { return err } })
		return func() { w.host.set(func(h *host) { h.broken = nil }) }
	}
}

func settings(content string) func(*world) func() {
	return func(w *world) func() {
		kept, err := os.ReadFile(w.dir.ConfigPath())
		w.must(err)
		w.must(os.WriteFile(w.dir.ConfigPath(), []byte(content), 0o600))
		return func() { w.must(os.WriteFile(w.dir.ConfigPath(), kept, 0o600)) }
	}
}

func fullDisk(w *world) func() {
	filler := w.dir.Path("filler")
	file, err := os.Create(filler)
	w.must(err)
	chunk := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(chunk)
	}
	w.must(file.Close())
	if !errors.Is(err, syscall.ENOSPC) {
		w.Fatal(err)
	}
	return func() { w.must(os.Remove(filler)) }
}

func readOnlyDisk(w *world) func() {
	remount := func(flags uintptr) func() error {
		return func() error { return syscall.Mount("", string(w.dir), "", syscall.MS_REMOUNT|flags, "") }
	}
	w.must(remount(syscall.MS_RDONLY)())
	return func() { w.must(remount(0)()) }
}
