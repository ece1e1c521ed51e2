package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bdbvault/cmd/bdbvault/status"
)

// service runs the watches of all environments side by side, and tells systemd, the journal and whoever asks over HTTP how they are.
type service struct {
	plan    *watchPlan
	log     *logbook
	guards  []*guard
	host    string
	started time.Time

	drilling chan struct{} // holds something while an environment drills

	mu      sync.Mutex
	failing int // guards whose watch has ended
}

func newService(plan *watchPlan, out io.Writer) *service {
	s := &service{plan: plan, log: newLogbook(plan.calls[0], out), started: time.Now().UTC(), drilling: make(chan struct{}, 1)}
	s.host, _ = os.Hostname() // shown only
	for _, spec := range plan.specs {
		s.guards = append(s.guards, newGuard(s, spec))
	}
	return s
}

// run goes on until ctx ends, which is no error, or until there is nothing left to watch.
func (s *service) run(ctx context.Context) error {
	group, within := errgroup.WithContext(ctx)
	if s.plan.listen != "" {
		l, err := net.Listen("tcp", s.plan.listen)
		if err != nil {
			return fmt.Errorf("status page: %w", err)
		}
		s.announce(l.Addr())
		group.Go(func() error { return serve(within, l, s.snapshot) })
	}
	notifier := newNotifier(s)
	group.Go(func() error { return notifier.run(within) })
	for _, g := range s.guards {
		group.Go(func() error { return g.run(within) })
		if s.plan.listen != "" {
			group.Go(func() error { return g.readHistory(within) })
		}
		if g.spec.drill != nil {
			group.Go(func() error { return g.drill(within) })
		}
	}
	err := group.Wait()
	if interrupted(ctx) && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// announce says where the status page is, and to whom.
func (s *service) announce(a net.Addr) {
	line := fmt.Sprintf("status page, metrics and health at http://%s/", a)
	if host, _, err := net.SplitHostPort(a.String()); err != nil || !isLoopback(host) {
		s.log.write("", levelWarning, line+": other hosts can read it and there is no password; restrict it by a firewall or a proxy")
		return
	}
	s.log.write("", levelInfo, line)
}

// failed counts a guard whose watch has ended. If no other is left, there is no use in going on.
func (s *service) failed(n int) (all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing += n
	return s.failing >= len(s.guards)
}

// serve answers over HTTP until ctx ends.
func serve(ctx context.Context, l net.Listener, snapshot func() status.Snapshot) error {
	srv := status.Server(status.Handler(snapshot))
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("status page: %w", err)
	}
	return nil
}

// snapshot is how everything is at this moment.
func (s *service) snapshot() status.Snapshot {
	snap := status.Snapshot{Now: time.Now(), Version: version, Host: s.host, Repository: s.plan.location.String(), Started: s.started}
	for _, g := range s.guards {
		snap.Environments = append(snap.Environments, g.snapshot())
	}
	return snap
}
