package events

import (
	"context"
	"sync"
	"time"
)

const (
	// receivesAtOnce is how many receives may follow each other without a pause: enough for a burst of
	// [maxReceived] deliveries. Beyond them there are receivesPerSecond, whatever a queue is full of.
	receivesAtOnce    = maxReceived / batchSize
	receivesPerSecond = 10
)

// pacer bounds the rate of receives. Its zero value is ready for a burst.
type pacer struct {
	mu   sync.Mutex
	used float64   // of receivesAtOnce
	at   time.Time // when used was last right
}

// wait waits until another receive may begin, or returns the error of ctx.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refill()
	if over := p.used + 1 - receivesAtOnce; over > 0 {
		if err := pause(ctx, time.Duration(over/receivesPerSecond*float64(time.Second))); err != nil {
			return err
		}
		p.refill()
	}
	p.used++
	return nil
}

func (p *pacer) refill() {
	now := time.Now()
	p.used = max(0, p.used-now.Sub(p.at).Seconds()*receivesPerSecond)
	p.at = now
}
