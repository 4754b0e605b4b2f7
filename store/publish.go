package store

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"time"
)

// ErrUnconfirmed means that the archive was published, but that the store does not name
// the version. Nothing can wait for it.
var ErrUnconfirmed = errors.New("published, but not confirmed")

// noAnswer marks the error of a request without an answer. The store can have carried
// it out.
type noAnswer struct{ error }

func (e noAnswer) Unwrap() error { return e.error }

// confirmPauses come between looks at what was published, since a cache can answer with
// what was there before.
var confirmPauses = []time.Duration{0, 200 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second}

// replacedPauses come between looks for what made a conditional upload fail.
var replacedPauses = []time.Duration{0, 200 * time.Millisecond, time.Second}

// Publish replaces the object by archive, which is read from its start and holds
// size bytes, and returns the version that hosts will see. Readers see the old
// object or the new one.
//
// The result is what the store holds afterwards, not its answer to the upload. If that
// cannot be seen, Options.Warn says so and the answer counts; if the answer names no
// version, the error is ErrUnconfirmed. Modified is then when the upload began. After any other error hosts do not run the
// archive, unless the error says that the store may hold it.
func (r *Remote) Publish(ctx context.Context, archive io.ReadSeeker, size int64) (Version, error) {
	return r.publishOver(ctx, archive, size, nil)
}

// PublishOver is Publish if the object still is the version over; a zero version says that there must be
// none. Otherwise nothing was published, and the error is ErrChanged if the store shows another version by now. In a
// directory, and in a store without conditional writes, it looks before it writes.
func (r *Remote) PublishOver(ctx context.Context, archive io.ReadSeeker, size int64, over Version) (Version, error) {
	return r.publishOver(ctx, archive, size, &over)
}

// began is when a request began whose answer is dated so, by the clock that dates it; zero without a date.
func began(dated, sent time.Time) time.Time {
	if dated.IsZero() {
		return dated
	}
	return dated.Add(-time.Since(sent)).Truncate(time.Second)
}

func (r *Remote) publishOver(ctx context.Context, archive io.ReadSeeker, size int64, over *Version) (Version, error) {
	v, err := r.publish(ctx, archive, size, over)
	if err != nil {
		return Version{}, fmt.Errorf("publish %s: %w", r.url, err)
	}
	return v, nil
}

func (r *Remote) publish(ctx context.Context, archive io.ReadSeeker, size int64, over *Version) (Version, error) {
	p := publication{Remote: r, archive: archive, size: size}
	_, local := r.backend.(*fileBackend)
	if !local {
		p.before = r.before(ctx)
	}
	put, err := r.put(ctx, archive, size, over)
	for _, pause := range replacedPauses {
		if !errors.Is(err, errConflict) || !p.still(ctx, *over, pause) {
			break
		}
		put, err = r.put(ctx, archive, size, over)
	}
	if errors.Is(err, errNoConditions) {
		put, err = p.lookFirst(ctx, *over, err)
	}
	lost := errors.As(err, new(noAnswer)) && connected(err)
	if over != nil && errors.Is(err, ErrChanged) {
		if p.repeated(ctx) {
			put, err, lost = Version{}, nil, false
		} else {
			err = p.replaced(ctx, *over, err)
		}
	}
	switch {
	case err != nil && !lost, err != nil && ctx.Err() != nil:
		return Version{}, err
	case local:
		return put, nil
	}
	held, doubt := p.confirm(ctx, put)
	switch {
	case doubt == nil:
		return held, nil
	case errors.Is(doubt, errMangled):
		return Version{}, doubt
	case lost:
		return Version{}, fmt.Errorf("%w; the store may hold it all the same: push again, which changes nothing if it does", err)
	case put.ETag == "":
		return Version{}, fmt.Errorf("%w: the store names no version: %w", ErrUnconfirmed, doubt)
	}
	r.warn("published, but the store was not seen to hold it: " + doubt.Error())
	return put, nil
}

// connected reports whether a request that got no answer can have reached the store.
func connected(err error) bool {
	call, ok := errors.AsType[*net.OpError](err)
	return !(ok && call.Op == "dial") && !errors.As(err, new(*tls.CertificateVerificationError))
}

func (r *Remote) put(ctx context.Context, archive io.ReadSeeker, size int64, over *Version) (Version, error) {
	ctx, watch := watchTransfer(ctx, size)
	defer watch.stop()
	bar := newBar(r.progress, "push", size)
	defer bar.finish()
	v, err := r.backend.put(ctx, "", &upload{rs: archive, watch: watch, bar: bar, size: size}, size, over)
	return v, watch.explain(err)
}

// repeated reports whether the object is other than what it was said to be because
// the store holds the archive: of an attempt whose answer was lost, and that the SDK
// repeated.
func (p publication) repeated(ctx context.Context) bool {
	now, err := p.look(ctx)
	if err != nil || now.Size != p.size {
		return false
	}
	ours, err := p.holds(ctx, now)
	return err == nil && ours
}

// replaced returns err, which says that the object is no longer over, if the store shows something else by now.
// While it shows over, nobody is known to have published anything.
func (p publication) replaced(ctx context.Context, over Version, err error) error {
	for _, pause := range replacedPauses {
		if ended := sleep(ctx, pause); ended != nil {
			return ended
		}
		now, failed := p.look(ctx)
		missing := errors.Is(failed, ErrNotFound)
		if failed == nil && now.ETag != over.ETag || missing && over.ETag != "" {
			return err
		}
	}
	held := "that it holds nothing"
	if over.ETag != "" {
		held = over.ETag
	}
	return fmt.Errorf("nothing was published: the store says that something else was published, and was not seen to hold anything but what was there before (%s). "+
		"Try again; if that happens each time, it does not recognize its own ETags, so use another store: %v", held, err)
}

// still reports whether the object is over after a pause, as far as the store shows.
func (p publication) still(ctx context.Context, over Version, pause time.Duration) bool {
	if sleep(ctx, pause) != nil {
		return false
	}
	now, err := p.look(ctx)
	return err == nil && now.ETag == over.ETag || errors.Is(err, ErrNotFound) && over.ETag == ""
}

// errConflict means that the store saw another write while it checked the condition of an upload, and took neither, or
// took the other one.
var errConflict = errors.New("the object is being written")

// errNoConditions means that the store takes no conditional writes.
var errNoConditions = errors.New("the store takes no conditional writes")

// lookFirst puts as a directory does: between the look and the upload another publisher may write.
func (p publication) lookFirst(ctx context.Context, over Version, refused error) (Version, error) {
	now, err := p.look(ctx)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return Version{}, fmt.Errorf("%w (%v)", err, refused)
	case now.ETag != over.ETag:
		return Version{}, fmt.Errorf("%w: it is %q by now, not %q", ErrChanged, now.ETag, over.ETag)
	}
	p.warn(errNoConditions.Error() + ": if another publisher writes at the same moment, one replaces the other without a sign")
	return p.put(ctx, p.archive, p.size, nil)
}

// before is what the store holds before an upload, as far as it tells.
func (r *Remote) before(ctx context.Context) Version {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout/3)
	defer cancel()
	v, err := r.backend.head(ctx, "", Version{})
	if err != nil {
		return Version{}
	}
	return v
}

// publication is one upload and what is known about it.
type publication struct {
	*Remote
	before  Version // zero: unknown or none
	archive io.ReadSeeker
	size    int64
}

// errMangled means that the store holds something else than was sent.
var errMangled = errors.New("the store does not hold what was sent")

// confirm finds out as which version the store holds what was put. On an error
// that is not errMangled the store holds it perhaps.
func (p publication) confirm(ctx context.Context, put Version) (Version, error) {
	doubt := errors.New("it shows what was there before")
	for i, pause := range confirmPauses {
		if err := sleep(ctx, pause); err != nil {
			return Version{}, err
		}
		now, err := p.look(ctx)
		switch {
		case errors.Is(err, ErrForbidden), errors.Is(err, errNoVersion):
			return Version{}, err
		case err != nil:
			doubt = err
			continue
		case put.ETag != "" && now.ETag == put.ETag && now.Size != p.size:
			return Version{}, p.mangled(ctx, now)
		case put.ETag != "" && now.ETag == put.ETag:
			return now, nil
		case p.stale(now, put) && put.ETag != "" && i < len(confirmPauses)-1:
			continue
		}
		held, err := p.identify(ctx, now, put)
		if err == nil || errors.Is(err, errMangled) {
			return held, err
		}
		doubt = err
	}
	return Version{}, doubt
}

func (p publication) look(ctx context.Context) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	return p.backend.head(ctx, "", Version{})
}

// stale reports whether now is older than the upload. Caches show what was there before, and stores that copy with
// a delay show one earlier version after another.
func (p publication) stale(now, put Version) bool {
	before := now.Same(p.before) && now.Modified.Equal(p.before.Modified)
	return before || !now.Modified.IsZero() && now.Modified.Before(put.Modified)
}

// identify finds out by its content whether now, which the store calls otherwise
// than its answer to the upload did, is what was put.
func (p publication) identify(ctx context.Context, now, put Version) (Version, error) {
	if now.Size != p.size {
		if err := p.mangled(ctx, now); errors.Is(err, errFramed) {
			return Version{}, err
		}
	} else if ours, err := p.holds(ctx, now); err != nil {
		return Version{}, err
	} else if ours {
		return now, nil
	}
	if put.ETag != "" && !p.stale(now, put) {
		return put, nil // something else was published since
	}
	return Version{}, fmt.Errorf("it holds %s, which is something else", now.ETag)
}

// holds compares the content of the object with the archive.
func (p publication) holds(ctx context.Context, v Version) (bool, error) {
	ctx, watch := watchTransfer(ctx, p.size)
	defer watch.stop()
	body, length, err := p.backend.get(ctx, "", v)
	if err != nil {
		return false, watch.explain(err)
	}
	defer body.Close()
	theirs, ours := sha256.New(), sha256.New()
	in := &download{r: body, watch: watch, want: length}
	if _, err := io.Copy(theirs, io.LimitReader(in, p.size+1)); err != nil {
		return false, watch.explain(err)
	}
	if _, err := p.archive.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	if _, err := io.Copy(ours, p.archive); err != nil {
		return false, err
	}
	return string(theirs.Sum(nil)) == string(ours.Sum(nil)), nil
}

// errFramed is the errMangled of a store that takes the SDK's framing for content.
var errFramed = fmt.Errorf("%w: it keeps the SDK's framing of checksums as content; publish again with checksum=when-required in the remote's URL", errMangled)

// framing is how a body in the SDK's chunks begins.
var framing = regexp.MustCompile(`^[0-9a-fA-F]{1,16}(;chunk-signature=[0-9a-f]+)?\r\n`)

// mangled explains that the store holds something else than was sent.
func (p publication) mangled(ctx context.Context, v Version) error {
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	sizes := fmt.Sprintf("it holds %d bytes, %d were sent", v.Size, p.size)
	if body, _, err := p.backend.get(ctx, "", v); err == nil {
		defer body.Close()
		head, _ := io.ReadAll(io.LimitReader(body, 128))
		if framing.Match(head) {
			return fmt.Errorf("%w (%s)", errFramed, sizes)
		}
	}
	return fmt.Errorf("%w: %s: every host will reject it; publish again, or use another store", errMangled, sizes)
}

// sleep waits, or returns the error of ctx when that ends before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
