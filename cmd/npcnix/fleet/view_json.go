package fleet

import (
	"encoding/json"
	"io"
	"time"
)

// JSON shows a wait as objects, one on a line: one for each change of a host, one for each
// note, and a summary at the end. The member "event" tells them apart.
type JSON struct {
	W io.Writer

	elapsed time.Duration
}

type hostObject struct {
	Event         string   `json:"event,omitempty"`
	Elapsed       *seconds `json:"elapsed_secs,omitempty"`
	Host          string   `json:"host"`
	Verdict       Verdict  `json:"verdict"`
	Status        string   `json:"status"`
	Why           string   `json:"why,omitempty"`
	Running       string   `json:"running,omitempty"` // the ETag of the version that runs
	Wanted        string   `json:"wanted,omitempty"`  // the ETag of the version that its record is about
	Configuration string   `json:"configuration,omitempty"`
	Attempt       int      `json:"attempt,omitempty"`
	Took          *seconds `json:"publish_to_applied_secs,omitempty"`
	Error         string   `json:"error,omitempty"`
	LogTail       []string `json:"log_tail,omitempty"`
	Queue         *Queue   `json:"queue,omitempty"`
}

type seconds float64

func secondsOf(d time.Duration) *seconds {
	s := seconds(d.Round(time.Millisecond).Seconds())
	return &s
}

func objectOf(h Host) hostObject {
	o := hostObject{Host: h.Name, Verdict: h.Verdict, Status: h.State, Why: h.Why, Queue: h.Queue}
	if r := h.Record; r != nil {
		o.Running, o.Wanted = r.Runs().ETag, r.Version.ETag
		o.Configuration, o.Attempt, o.Error, o.LogTail = r.Configuration, r.Attempt, r.Error, r.LogTail
	}
	if h.Timed && h.Verdict == Done {
		o.Took = secondsOf(h.Took)
	}
	return o
}

func (j *JSON) Update(p Progress, changed []Host) {
	j.elapsed = p.Elapsed
	for _, h := range changed {
		o := objectOf(h)
		o.Event, o.Elapsed = "host", secondsOf(p.Elapsed)
		j.put(o)
	}
}

func (j *JSON) Note(msg string) {
	j.put(struct {
		Event   string   `json:"event"`
		Elapsed *seconds `json:"elapsed_secs"`
		Message string   `json:"message"`
	}{"note", secondsOf(j.elapsed), msg})
}

func (j *JSON) End(r Result) {
	type latency struct {
		Hosts       int      `json:"hosts"`
		P50         *seconds `json:"p50"`
		P99         *seconds `json:"p99"`
		Slowest     *seconds `json:"slowest"`
		SlowestHost string   `json:"slowest_host"`
	}
	out := struct {
		Event    string       `json:"event"`
		Outcome  Outcome      `json:"outcome"`
		Error    string       `json:"error,omitempty"`
		Remote   string       `json:"remote"`
		ETag     string       `json:"etag"`
		Release  string       `json:"release,omitempty"`
		Rev      string       `json:"rev,omitempty"`
		Message  string       `json:"message,omitempty"`
		Newer    string       `json:"newer_etag,omitempty"`
		Elapsed  *seconds     `json:"elapsed_secs"`
		Expected int          `json:"expected"`
		Needed   int          `json:"needed"`
		Done     int          `json:"done"`
		Failed   int          `json:"failed"`
		Missing  int          `json:"missing"`
		Latency  *latency     `json:"publish_to_applied_secs,omitempty"`
		NotDone  []hostObject `json:"not_done,omitempty"`
		Resume   string       `json:"resume,omitempty"`
	}{
		Event: "summary", Outcome: r.Outcome, Remote: r.Remote, ETag: r.Version.ETag, Release: r.Release.ID, Rev: r.Release.Rev, Message: r.Release.Message, Newer: r.Newer.ETag,
		Elapsed: secondsOf(r.Elapsed), Expected: len(r.Hosts), Needed: r.Need, Done: r.Done, Failed: r.Failed, Missing: r.Missing,
		Resume: r.Resume,
	}
	if err := r.Err(); err != nil {
		out.Error = err.Error()
	}
	if l := r.Latency; l.Hosts > 0 {
		out.Latency = &latency{l.Hosts, secondsOf(l.P50), secondsOf(l.P99), secondsOf(l.Slowest), l.SlowestHost}
	}
	for _, h := range r.Hosts {
		if h.Verdict != Done {
			out.NotDone = append(out.NotDone, objectOf(h))
		}
	}
	j.put(out)
}

func (j *JSON) put(v any) {
	encoder := json.NewEncoder(Escaping(j.W))
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // a reader that went away ends the program by SIGPIPE
}
