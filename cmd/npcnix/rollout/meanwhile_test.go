package rollout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/npcnix/npcnix/agent/config"
	"github.com/npcnix/npcnix/agent/record"
	"github.com/npcnix/npcnix/store/release"
)

// waits runs the command, whose canary does not answer, until it says that it waits for it.
func (a *agents) waits() (ended chan error) {
	a.t.Helper()
	waiting := make(chan struct{}, 100)
	command, err := a.command(func(o *Options) {
		o.Interval = 10 * time.Millisecond
		say := o.Say
		o.Say = func(line string) {
			if say(line); strings.HasPrefix(line, "wave 1 of ") {
				waiting <- struct{}{}
			}
		}
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- command.Run(a.t.Context()) }()
	<-waiting
	a.poke()
	return ended
}

// resumed takes a halted rollout of web1 and web2 to its end.
func (a *agents) resumed() {
	a.t.Helper()
	a.stopped(1)
	command, err := a.command()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := command.Step(a.t.Context(), 1, release.Running); err != nil {
		a.t.Fatal(err)
	}
	if err := command.Run(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
	a.until("both run it", func() bool { return a.running("two") == 2 })
}

// soon has a wave be over at once, if it has not passed.
func soon(o *Options) { o.WaveTimeout = time.Nanosecond }

// What happens to a fleet of real agents in the middle of a rollout.
func TestInTheMiddleOfARollout(t *testing.T) {
	fleet := func(t *testing.T, off ...string) *agents {
		t.Helper()
		a := newAgents(t)
		stops := map[string]func(){}
		for _, name := range []string{"web1", "web2"} {
			stops[name] = a.join(name)
		}
		a.begun("web1", "web2")
		for _, name := range off {
			stops[name]()
		}
		a.publish("two", "web1", "100%")
		return a
	}

	t.Run("a plain upload overtakes it, and no host takes that", func(t *testing.T) {
		a := fleet(t, "web1")
		ended := a.waits()
		a.until("the other host is held", func() bool { return a.says("web2").Status == record.Held })
		_, err := a.client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("fleet"), Key: aws.String("npcnix/remotes/dev.npcnix"), Body: strings.NewReader(string(a.packed("copied"))),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, ErrOvertaken) || !strings.Contains(err.Error(), "which your keys do not vouch for") {
			t.Errorf("%v", err)
		}
		a.start("web1")
		a.poke()
		for _, name := range []string{"web1", "web2"} {
			a.until(name+" rejects it", func() bool { return a.says(name).Status == record.Rejected })
			a.evaluated(name, "one")
		}
	})

	t.Run("a host that joins keeps what it has until its wave is admitted", func(t *testing.T) {
		a := fleet(t, "web1")
		ended := a.waits()
		a.join("web3")
		a.until("it is held", func() bool { return a.says("web3").Status == record.Held })
		a.evaluated("web3")
		a.start("web1")
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		a.until("all run it", func() bool { return a.running("two") == 3 })
		a.evaluated("web3", "two")
	})

	t.Run("a canary that is paused does not pass and builds nothing, and takes it when it is not paused any more", func(t *testing.T) {
		a := newAgents(t)
		a.begun("web1", "web2")
		a.set("web1", func(c *config.Config) { c.Paused = &config.Pause{Type: config.Indefinitely} })
		a.poke()
		a.until("it says so", func() bool { return a.says("web1").Status == record.Paused })
		a.publish("two", "web1", "100%")
		if err := a.take(soon); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "1 hosts have not passed: web1 (paused)") {
			t.Errorf("%v", err)
		}
		a.until("the other host is held", func() bool { return a.says("web2").Status == record.Held })
		a.evaluated("web1", "one")
		a.evaluated("web2", "one")
		a.set("web1", func(c *config.Config) { c.Paused = nil })
		a.resumed()
	})

	t.Run("a canary that is off does not pass, and takes it when the rollout is resumed", func(t *testing.T) {
		a := fleet(t, "web1")
		if err := a.take(soon); !errors.Is(err, ErrTime) || !strings.Contains(err.Error(), "1 hosts have not passed: web1") {
			t.Errorf("%v", err)
		}
		a.poke()
		a.until("the other host is held", func() bool { return a.says("web2").Status == record.Held })
		a.evaluated("web2", "one")
		a.start("web1")
		a.resumed()
	})
}
