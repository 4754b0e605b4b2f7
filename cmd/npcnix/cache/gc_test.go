package cache

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// shared is a source of random numbers for many goroutines.
type shared struct {
	mu     sync.Mutex
	source rand.Source
}

func (s *shared) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source.Uint64()
}

// Over random histories, pushes, rollbacks and kills, a cache has at any time what kept releases and running hosts
// need, and each publish finds all that it has copied.
func TestSweepsAmongPushes(t *testing.T) {
	seeds := uint64(12)
	if many := os.Getenv("NPCNIX_TEST_SWEEPS"); many != "" { // make waves
		var err error
		if seeds, err = strconv.ParseUint(many, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	swept, reused, waited, refused := 0, 0, 0, 0
	tried := []uint64{278} // where a push that failed left a path which used the archive of one that was being deleted
	for seed := range seeds {
		tried = append(tried, seed)
	}
	for _, seed := range tried {
		synctest.Test(t, func(t *testing.T) {
			w := newMemoryWorld(t, rand.New(&shared{source: rand.NewPCG(seed, 21)}))
			end := time.Now().Add(40 * 24 * time.Hour)
			repeat := func(most time.Duration, do func()) {
				go func() {
					for time.Now().Before(end) && !t.Failed() {
						time.Sleep(time.Duration(w.random.Int64N(int64(most))))
						do()
					}
				}()
			}
			for _, r := range w.remotes {
				repeat(40*time.Hour, func() {
					go func() { w.pause(10 * time.Minute); w.collect() }()
					w.pause(10 * time.Minute)
					if w.random.IntN(4) == 0 {
						w.rollback(r)
						return
					}
					var systems []int
					for range 1 + w.random.IntN(2) {
						systems = append(systems, w.systems[w.random.IntN(len(w.systems))])
					}
					w.push(r, systems)
				})
				for h := range r.hosts {
					repeat(30*time.Hour, func() { w.host(r, h) })
				}
			}
			repeat(40*time.Hour, w.collect)
			time.Sleep(time.Until(end) + 10*24*time.Hour)
			synctest.Wait()
			if t.Failed() {
				t.Errorf("with seed %d", seed)
			}
			swept, reused, waited, refused = swept+w.swept, reused+w.reused, waited+w.waited, refused+w.refused
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d paths swept, %d copied paths were there, %d pushes waited for a sweep, %d rollbacks found nothing", swept, reused, waited, refused)
	if swept < 100 || reused < 1000 || waited < 5 || refused < 1 {
		t.Error("this shows nothing")
	}
}
