// Package doctor checks every link of the chain from a publish to a host. It says of each whether it is
// ok, wrong or unknown, or works and could do better, and what to change.
//
//	credentials → clock → remote → notification → topic → subscription → queue → dead letters → host
//
// It promises: what it is not allowed to read, or gets no answer about, is [Unknown] and never [OK]. It only
// reads: it receives, publishes and writes nothing, and disturbs no message. Only Options.Probe does more,
// and removes what it made.
package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/release"
)

// Verdict is what became of the check of a link.
type Verdict string

const (
	OK      Verdict = "ok"
	Warning Verdict = "warning" // it works, and something about it is to be changed all the same
	Wrong   Verdict = "wrong"
	Unknown Verdict = "unknown" // it could not be read, or not be evaluated
)

// Finding is the result for one link.
type Finding struct {
	Link    string  `json:"link"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Fix     string  `json:"fix,omitempty"` // what to change, or what to allow so that it can be checked
	Hops    []Hop   `json:"hops,omitempty"`
}

// Hop is one step of a probe.
type Hop struct {
	Name   string  `json:"name"`
	Millis float64 `json:"ms"`
}

// Options say which chain to check.
type Options struct {
	Remote string // its URL; required
	Region string // of the remote's bucket, if the URL names none
	// CredentialsFile has USER:PASSWORD for a remote on a web server; "": none.
	CredentialsFile string
	QueueURL        string // "": the host polls, or none was given
	TopicARN        string // "": the one that the bucket's notification names
	Host            *Host  // this host; nil if the doctor runs elsewhere
	// Probe sends an event through the chain.
	Probe        bool
	ProbeTimeout time.Duration // default 2 min
}

const askLimit = 30 * time.Second // for the answers about one link

// chain is one run: what it knows so far, for the links that depend on it.
type chain struct {
	Options
	aws  *clients
	tell func(Finding)

	bucket, key string
	blind       string            // why AWS cannot be asked; "" if it can
	account     string            // of the credentials; "" if unknown
	direct      bool              // the bucket sends to the queue without a topic
	suffix      string            // of the keys that the notification matches
	matched     bool              // the notification is known
	topic       string            // ARN; "" if unknown
	bridged     bool              // EventBridge publishes to the topic, not the bucket
	queueARN    string            // "" if unknown
	queue       map[string]string // its attributes; nil if unknown
	gone        bool              // there is no such queue
	prebuilt    string            // this host's toplevel in the release; "" if the host evaluates, or nobody vouches for it
	caches      []release.Cache   // of the release
}

// Run checks one link after the other, in the order of the chain, and calls tell with each finding. It
// ends early, with ctx's error, when ctx ends. An error that is store.ErrURL is the remote's.
func Run(ctx context.Context, o Options, tell func(Finding)) error {
	if err := store.CheckURL(o.Remote); err != nil {
		return err
	}
	u, err := url.Parse(o.Remote)
	if err != nil {
		return err
	}
	c := &chain{Options: o, tell: tell}
	var links []func(context.Context) Finding
	if u.Scheme == "s3" || o.QueueURL != "" {
		if u.Scheme == "s3" {
			c.bucket, c.key = u.Host, strings.TrimPrefix(u.Path, "/")
		}
		if c.aws, err = newClients(ctx, u, o); err != nil {
			return err
		}
		links = append(links, c.credentials, c.clock)
	} else if u.Scheme != "file" {
		links = append(links, func(ctx context.Context) Finding { return webClock(ctx, u) })
	}
	links = append(links, c.remote)
	if o.Host != nil && len(o.Host.Config.Signers) > 0 {
		links = append(links, c.release, c.cache)
	}
	links = append(links, c.events()...)
	if o.Host != nil {
		links = append(links, o.Host.links(ctx, o)...)
	}
	for _, link := range links {
		asking, cancel := context.WithTimeout(ctx, askLimit)
		f := link(asking)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		tell(f)
	}
	if o.Probe {
		f := c.probe(ctx)
		tell(f)
	}
	return ctx.Err()
}

// events are the links between the bucket and the queue.
func (c *chain) events() []func(context.Context) Finding {
	switch {
	case c.QueueURL == "" && c.Host != nil:
		return []func(context.Context) Finding{func(context.Context) Finding {
			if strings.HasPrefix(c.Remote, "file:") {
				return ok("events", "the file is watched")
			}
			return ok("events", "no queue is set, so this host polls the store")
		}}
	case c.bucket == "" && c.QueueURL == "":
		return nil
	case c.bucket == "":
		return []func(context.Context) Finding{c.readQueue, c.deadLetters}
	}
	return []func(context.Context) Finding{c.notification, c.topicPolicy, c.subscription, c.readQueue, c.deadLetters}
}

// remote says whether the published flake can be read.
func (c *chain) remote(ctx context.Context) Finding {
	const link = "remote"
	if c.blind != "" && c.bucket != "" {
		return unknown(link, c.blind, "")
	}
	r, err := store.Open(ctx, c.Remote, store.Options{Region: c.Region, CredentialsFile: c.CredentialsFile})
	if err != nil {
		return wrong(link, err.Error(), "fix the remote's URL, or the settings that it depends on")
	}
	v, err := r.Latest(ctx, store.Version{})
	switch {
	case err == nil && v.Modified.IsZero():
		return ok(link, "%s holds %s", r.URL(), v.ETag)
	case err == nil:
		return ok(link, "%s holds %s, published %s", r.URL(), v.ETag, v.Modified.UTC().Format(time.RFC3339))
	case isNotFound(err):
		return wrong(link, err.Error(), "publish with `npcnix push`, or fix the remote's URL")
	case isForbidden(err) && c.Host == nil:
		return unknown(link, err.Error(), "give these credentials s3:GetObject on the remote's object, or run the doctor on a host")
	case isForbidden(err):
		return wrong(link, err.Error(), "give the host's role s3:GetObject on the remote's object, as the Terraform module host_policy does")
	case isNetwork(err) || ctx.Err() != nil:
		return wrong(link, err.Error(), "check the network between this machine and the store: names, routes, proxy, firewall")
	}
	return wrong(link, err.Error(), "see the error")
}

// maxSkew is what AWS's services tolerate between a request's time and their own
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html).
const maxSkew = 5 * time.Minute

func judgeClock(skew time.Duration, who string) Finding {
	if skew.Abs() > maxSkew {
		return wrong("clock", fmt.Sprintf("this machine's clock differs from %[2]s's by %[1]s", skew.Abs().Round(time.Second), who),
			"set the clock (`timedatectl`, services.timesyncd.enable): AWS refuses requests signed more than 5 minutes off")
	}
	if skew.Abs() < 2*time.Second { // a Date has seconds
		return ok("clock", "agrees with %s's", who)
	}
	return ok("clock", "differs from %[2]s's by %[1]s, which is harmless", skew.Abs().Round(time.Second), who)
}

// webClock compares the clock with that of a web server.
func webClock(ctx context.Context, u *url.URL) Finding {
	root := url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, root.String(), nil)
	if err != nil {
		return unknown("clock", err.Error(), "")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return unknown("clock", "the store's server does not answer: "+err.Error(), "")
	}
	_ = answer.Body.Close()
	at, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return unknown("clock", "the store's server sends no time", "")
	}
	return judgeClock(time.Since(at), "the store")
}

func ok(link, format string, args ...any) Finding {
	return Finding{Link: link, Verdict: OK, Found: fmt.Sprintf(format, args...)}
}

func warning(link, found, fix string) Finding {
	return Finding{Link: link, Verdict: Warning, Found: found, Fix: fix}
}

func wrong(link, found, fix string) Finding {
	return Finding{Link: link, Verdict: Wrong, Found: found, Fix: fix}
}

func unknown(link, found, fix string) Finding {
	return Finding{Link: link, Verdict: Unknown, Found: found, Fix: fix}
}

// Host is this host, as the agent sees it.
type Host struct {
	Dir           config.Dir
	Config        config.Config
	CurrentSystem string // the link to the running system
	Store         string // of nix; default /nix/store
}
