package awsfake

import (
	"net/http"
	"sync"
	"time"
)

// S3's own limits for each partitioned prefix of a bucket (Amazon S3 user guide, "Best practices design patterns").
// A bucket begins as one partition.
const (
	S3Reads  = 5500 // GET and HEAD a second; LIST counts as one
	S3Writes = 3500 // PUT, COPY, POST and DELETE a second
)

// throttles bound how many requests a bucket takes. Without them it takes all.
type throttles struct {
	mu            sync.Mutex
	reads, writes float64             // a second; 0: no limit
	buckets       map[string]*[2]rate // of reads and of writes
}

// rate is what is left of a limit: it fills up to a tenth of a second's worth.
type rate struct {
	left float64
	at   time.Time
}

func (r *rate) take(perSecond float64) bool {
	now, most := time.Now(), perSecond/10
	if r.at.IsZero() {
		r.left = most
	} else {
		r.left = min(most, r.left+now.Sub(r.at).Seconds()*perSecond)
	}
	r.at = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}

// Limit has each bucket refuse with SlowDown, as S3 does, what is beyond so many reads and writes a second. 0: it
// takes all.
func (c *Cloud) Limit(reads, writes int) {
	c.throttles.mu.Lock()
	defer c.throttles.mu.Unlock()
	c.throttles.reads, c.throttles.writes, c.throttles.buckets = float64(reads), float64(writes), map[string]*[2]rate{}
}

// slowDown refuses a request that is beyond the limit.
func (c *Cloud) slowDown(r *request) error {
	l := &c.throttles
	l.mu.Lock()
	defer l.mu.Unlock()
	kind, perSecond := 1, l.writes
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		kind, perSecond = 0, l.reads
	}
	if r.Service != "s3" || perSecond == 0 {
		return nil
	}
	if l.buckets[r.Bucket] == nil {
		l.buckets[r.Bucket] = &[2]rate{}
	}
	if l.buckets[r.Bucket][kind].take(perSecond) {
		return nil
	}
	return refuse(http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
}
