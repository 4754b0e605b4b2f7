package awsfake_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/integration/awsfake"
)

// A bucket takes so many reads and writes a second, and another one as many.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := awsfake.New("http://cloud.test")
		defer cloud.Close()
		taken := func(method, path string, n int) (taken int) {
			for range n {
				w := httptest.NewRecorder()
				cloud.ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
				switch w.Code {
				case http.StatusOK:
					taken++
				case http.StatusServiceUnavailable:
				default:
					t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
				}
			}
			return taken
		}
		for _, path := range []string{"/a", "/a/k", "/b", "/b/k"} {
			taken(http.MethodPut, path, 1)
		}
		cloud.Limit(200, 100)
		for i, c := range []struct {
			method, path string
			wait         time.Duration
			want         int
		}{
			{http.MethodGet, "/a/k", 0, 20}, // a tenth of a second's
			{http.MethodHead, "/a/k", 0, 0},
			{http.MethodGet, "/a?list-type=2", 0, 0},
			{http.MethodPut, "/a/k", 0, 10},
			{http.MethodGet, "/b/k", 0, 20},
			{http.MethodHead, "/a/k", 25 * time.Millisecond, 5},
			{http.MethodGet, "/a/k", time.Hour, 20},
		} {
			time.Sleep(c.wait)
			if got := taken(c.method, c.path, 30); got != c.want {
				t.Errorf("%d: of 30 %s %s after %v, %d were taken; want %d", i, c.method, c.path, c.wait, got, c.want)
			}
		}
		cloud.Limit(0, 0)
		if got := taken(http.MethodGet, "/a/k", 300); got != 300 {
			t.Errorf("without limits, %d of 300 were taken", got)
		}
	})
}
