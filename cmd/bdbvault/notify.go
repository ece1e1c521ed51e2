package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"bdbvault/archive"
	"bdbvault/cmd/bdbvault/status"
)

// pulse is the sign that a watch makes progress: whatever it does beats it.
type pulse struct {
	last atomic.Int64 // Unix nanoseconds
}

func newPulse() *pulse {
	p := &pulse{}
	p.beat()
	return p
}

func (p *pulse) beat() { p.last.Store(time.Now().UnixNano()) }

// rest waits on purpose, which is no standstill.
func (p *pulse) rest(ctx context.Context, d time.Duration) {
	until := time.Now().Add(d)
	for left := d; left > 0 && ctx.Err() == nil; left = time.Until(until) {
		p.beat()
		sleepFor(ctx, min(left, time.Second))
	}
}

// watchProgress hears of the full backups of a watch.
type watchProgress struct {
	pulse *pulse
	say   func(string)
}

func (p *watchProgress) Phase(string, int64) { p.pulse.beat() }
func (p *watchProgress) Add(int64)           { p.pulse.beat() }
func (p *watchProgress) File(string)         { p.pulse.beat() }
func (p *watchProgress) Note(text string)    { p.say("note: " + text) }

// alive reports whether the watch did anything within the time given.
func (g *guard) alive(within time.Duration) bool {
	g.mu.Lock()
	w := g.watcher
	g.mu.Unlock()
	turned := time.Time{}
	if w != nil {
		s := w.Status()
		turned = s.Turned
		// Where --upload-rate is low, a pack may take longer than the time given.
		if moved := s.Store.Sent + s.Store.Received; moved != g.moved {
			g.moved = moved
			g.pulse.beat()
		}
	}
	last := time.Unix(0, g.pulse.last.Load())
	return min(time.Since(last), time.Since(turned)) < within
}

// notifier tells systemd that the service is up, how it is, that it still lives, and that it ends. Without systemd it does nothing.
type notifier struct {
	service  *service
	watchdog time.Duration // 0: nobody wants to know
	said     string
}

func newNotifier(s *service) *notifier {
	n := &notifier{service: s}
	n.watchdog, _ = daemon.SdWatchdogEnabled(false) // what can't be read is not meant for us
	return n
}

// statusEvery is how often systemd is told how things are, if that has changed.
const statusEvery = 5 * time.Second

func (n *notifier) run(ctx context.Context) error {
	if ok, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS="+n.status()); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	} else if !ok {
		return nil
	}
	every := statusEvery
	if n.watchdog > 0 {
		every = min(every, n.watchdog/2)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.tell(daemon.SdNotifyStopping + "\nSTATUS=ending in order")
			return nil
		case <-tick.C:
			n.tick()
		}
	}
}

func (n *notifier) tick() {
	if n.watchdog > 0 && n.alive() {
		n.tell(daemon.SdNotifyWatchdog)
	}
	if text := n.status(); text != n.said {
		n.tell("STATUS=" + text)
		n.said = text
	}
}

// alive reports whether every watch makes progress.
func (n *notifier) alive() bool {
	for _, g := range n.service.guards {
		if !g.alive(n.watchdog) {
			return false
		}
	}
	return true
}

// tell says one thing. A socket that is full or gone must not end what protects the environments.
func (n *notifier) tell(text string) { daemon.SdNotify(false, text) }

// status is the line that systemctl status shows.
func (n *notifier) status() string {
	snap := n.service.snapshot()
	return statusLine(&snap)
}

func statusLine(s *status.Snapshot) string {
	bad, first := s.Trouble()
	switch all := len(s.Environments); {
	case bad == 1 && all == 1:
		return first
	case bad > 0:
		return fmt.Sprintf("%d of %s not healthy; %s", bad, count(all, "environment"), first)
	case all == 1:
		return s.Environments[0].Watch.Environment + " is protected" + busy(s)
	default:
		return fmt.Sprintf("all %d environments are protected%s", all, busy(s))
	}
}

// busy names who is taking a full backup.
func busy(s *status.Snapshot) string {
	for i := range s.Environments {
		if w := &s.Environments[i].Watch; w.State == archive.WatchBackingUp {
			return ", a full backup of " + w.Environment + " is under way"
		}
	}
	return ""
}
