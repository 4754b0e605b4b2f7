package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slowStore is a store whose bytes take their time, and which may hang.
type slowStore struct {
	archive []byte
	step    int           // bytes in a read
	pause   time.Duration // before each read
	hangAt  int           // bytes after which nothing comes any more; 0: never
	missing int64         // bytes announced that never come
	noise   int           // bytes in the flake that cannot be compressed
	silent  bool          // nothing is answered but of transfers
	answer  time.Duration // before an upload is answered
	lost    bool          // no upload is answered

	stored bool
}

func (s *slowStore) head(ctx context.Context, _ string, _ Version) (Version, error) {
	if s.silent {
		<-ctx.Done()
		return Version{}, ctx.Err()
	}
	if !s.stored {
		return Version{}, ErrNotFound
	}
	return Version{ETag: "x", Size: int64(len(s.archive)), Modified: time.Now()}, nil
}

func (s *slowStore) get(ctx context.Context, suffix string, _ Version) (io.ReadCloser, int64, error) {
	if suffix != "" {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	return io.NopCloser(&slowReader{s, ctx, bytes.NewReader(s.archive), 0, 0}), int64(len(s.archive)) + s.missing, nil
}

func (s *slowStore) put(ctx context.Context, suffix string, body io.ReadSeeker, size int64, over *Version) (Version, error) {
	if suffix != "" {
		<-ctx.Done()
		return Version{}, ctx.Err()
	}
	_, err := io.Copy(io.Discard, &slowReader{s, ctx, body, 0, 0})
	s.stored = err == nil
	if waited := sleep(ctx, s.answer); err == nil && (waited != nil || s.lost) {
		return Version{}, noAnswer{errors.Join(waited, io.ErrUnexpectedEOF)}
	}
	return Version{ETag: "x", Size: size}, err
}

type slowReader struct {
	s    *slowStore
	ctx  context.Context
	r    io.Reader
	done int
	left int // until the next pause
}

func (r *slowReader) Read(p []byte) (int, error) {
	if r.s.hangAt > 0 && r.done >= r.s.hangAt {
		<-r.ctx.Done()
		return 0, r.ctx.Err()
	}
	if r.left == 0 {
		time.Sleep(r.s.pause) // of the test's bubble
		r.left = r.s.step
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.done += n
	r.left -= n
	return n, err
}

// inBubble runs a test on a slow store of a small flake, in time of its own.
func inBubble(t *testing.T, s slowStore, test func(t *testing.T, remote *Remote, screen *bytes.Buffer)) {
	t.Helper()
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "flake.nix"), []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, s.noise)
	for i, rnd := 0, rand.New(rand.NewPCG(1, 1)); i < len(noise); i++ {
		noise[i] = byte(rnd.Uint32())
	}
	if err := os.WriteFile(filepath.Join(src, "noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := Pack(t.Context(), src, &archive, PackOptions{}); err != nil {
		t.Fatal(err)
	}
	s.archive = archive.Bytes()
	synctest.Test(t, func(t *testing.T) {
		var screen bytes.Buffer
		test(t, &Remote{backend: &s, url: "slow:", progress: &screen, limits: Limits{}.orDefault(), warn: func(string) {}}, &screen)
	})
}

func pull(t *testing.T, remote *Remote) error {
	return remote.Fetch(t.Context(), Version{ETag: "x"}, filepath.Join(t.TempDir(), "x"))
}

func push(t *testing.T, remote *Remote) error {
	archive := remote.backend.(*slowStore).archive
	_, err := remote.Publish(t.Context(), bytes.NewReader(archive), int64(len(archive)))
	return err
}

func TestTransferLastsAsLongAsBytesFlow(t *testing.T) {
	for name, transfer := range map[string]func(*testing.T, *Remote) error{"pull": pull, "push": push} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, slowStore{noise: 2 << 20, step: 128 << 10, pause: stallTimeout - time.Second}, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
				remote.progress = nil
				start := time.Now()
				if err := transfer(t, remote); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took < 10*stallTimeout {
					t.Errorf("it took %v, which shows nothing", took)
				}
			})
		})
	}
}

func TestTransferThatIsTooSlowEnds(t *testing.T) {
	for name, transfer := range map[string]func(*testing.T, *Remote) error{"pull": pull, "push": push} {
		for _, c := range []struct {
			name  string
			store slowStore
			want  error
			after time.Duration
		}{
			{"a byte each 20 s", slowStore{step: 1, pause: 20 * time.Second}, errSlow, 80 * time.Second},
			{"20 KiB each 25 s", slowStore{noise: 4 << 20, step: 20 << 10, pause: 25 * time.Second}, errTooLong, 27*time.Minute + 30*time.Second},
		} {
			t.Run(name+" of "+c.name, func(t *testing.T) {
				inBubble(t, c.store, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
					remote.progress = nil
					start := time.Now()
					err := transfer(t, remote)
					if !errors.Is(err, c.want) || errors.Is(err, ErrUnsafe) {
						t.Errorf("got %v", err)
					}
					if took := time.Since(start); took > c.after {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

// aws/aws-sdk-go-v2#712: it is reported as failed, and was stored.
func TestUploadThatIsAnsweredLateOrNeverHasSucceeded(t *testing.T) {
	for name, s := range map[string]slowStore{
		"after 40 s":         {answer: 40 * time.Second},
		"after half an hour": {answer: 30 * time.Minute},
		"never":              {lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			s.step = 1 << 20
			inBubble(t, s, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
				if err := push(t, remote); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestTransferThatStallsEnds(t *testing.T) {
	for name, transfer := range map[string]func(*testing.T, *Remote) error{"pull": pull, "push": push} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, slowStore{step: 10, hangAt: 20}, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
				start := time.Now()
				err := transfer(t, remote)
				if !errors.Is(err, errStalled) || errors.Is(err, ErrUnsafe) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != stallTimeout {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestDownloadShorterThanAnnouncedMayHeal(t *testing.T) {
	inBubble(t, slowStore{step: 1 << 20, missing: 1}, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
		if err := pull(t, remote); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrUnsafe) {
			t.Errorf("got %v", err)
		}
	})
}

func TestSlowDiskIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, watch := watchTransfer(t.Context(), 6)
		defer watch.stop()
		d := download{r: strings.NewReader("abcdef"), watch: watch, want: 6}
		p := make([]byte, 3)
		for range 2 {
			if _, err := d.Read(p); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * stallTimeout)
		}
		if err := ctx.Err(); err != nil {
			t.Errorf("ended with %v", context.Cause(ctx))
		}
	})
}

func TestRequestsWithoutABodyEndInTime(t *testing.T) {
	for name, call := range map[string]func(*testing.T, *Remote) error{
		"latest": func(t *testing.T, r *Remote) error {
			_, err := r.Latest(t.Context(), Version{})
			return err
		},
		"put record": func(t *testing.T, r *Remote) error { return r.PutRecord(t.Context(), "web1", []byte("{}")) },
		"get record": func(t *testing.T, r *Remote) error {
			_, err := r.GetRecord(t.Context(), "web1")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, slowStore{silent: true}, func(t *testing.T, remote *Remote, _ *bytes.Buffer) {
				start := time.Now()
				if err := call(t, remote); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took != metadataTimeout {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestLongTransfersDrawABarAndShortOnesDoNot(t *testing.T) {
	for name, transfer := range map[string]func(*testing.T, *Remote) error{"pull": pull, "push": push} {
		t.Run(name+" of three seconds", func(t *testing.T) {
			inBubble(t, slowStore{step: 1 << 20, pause: 1500 * time.Millisecond}, func(t *testing.T, remote *Remote, screen *bytes.Buffer) {
				if err := transfer(t, remote); err != nil {
					t.Fatal(err)
				}
				shown := screen.String()
				if !strings.HasPrefix(shown, "\r"+name) || !strings.Contains(shown, "100%") || !strings.HasSuffix(shown, "\n") {
					t.Errorf("drew %q", shown)
				}
			})
		})
		t.Run(name+" of less than a second", func(t *testing.T) {
			inBubble(t, slowStore{step: 1 << 20, pause: 50 * time.Millisecond}, func(t *testing.T, remote *Remote, screen *bytes.Buffer) {
				if err := transfer(t, remote); err != nil {
					t.Fatal(err)
				}
				if screen.Len() > 0 {
					t.Errorf("drew %q", screen)
				}
			})
		})
	}
}

func TestBarFollowsAnUploadThatStartsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, watch := watchTransfer(t.Context(), 6)
		defer watch.stop()
		var screen bytes.Buffer
		b := newBar(&screen, "push", 6)
		defer b.finish()
		time.Sleep(2 * barDelay)
		u := upload{rs: strings.NewReader("abcdef"), watch: watch, bar: b}
		at := func() int64 { return b.drawn.State().CurrentNum }
		for range 2 { // once for a checksum, once for the wire
			if got, err := io.ReadAll(&u); err != nil || string(got) != "abcdef" {
				t.Fatalf("got %q, %v", got, err)
			}
			if at() != 6 {
				t.Errorf("the bar is at %d", at())
			}
			if _, err := u.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := u.Read(make([]byte, 1)); err != nil || at() != 1 {
			t.Errorf("the bar is at %d, %v", at(), err)
		}
	})
}
