package main

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tell sends a state to the service manager, where there is one (sd_notify(3)).
func (f *follower) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		f.log.Debug("the service manager cannot be told", "error", err)
	}
}

// supervise says that the service is ready and, where it is asked for, gives signs of life until
// stop is called. They show that the process runs, not that it gets anywhere: what it waits for
// has bounds of its own, and a build may take hours.
func (f *follower) supervise() (stop func(), err error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("read WATCHDOG_USEC: %w", err)
	}
	f.tell(daemon.SdNotifyReady)
	if interval == 0 {
		return func() { f.tell(daemon.SdNotifyStopping) }, nil
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval / 2)
		defer tick.Stop()
		for {
			f.tell(daemon.SdNotifyWatchdog)
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		f.tell(daemon.SdNotifyStopping)
	}, nil
}
