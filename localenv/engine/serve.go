package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"bdbvault/localenv/bdb"
)

// afterParent is how long a child that works on private files goes on when its parent has gone: long enough to stop a program that
// it started, too short to disturb whoever begins the same work again.
const afterParent = 2 * time.Second

// regionsEvery is how often a child that can't leave looks whether the regions that it is in are still there.
const regionsEvery = time.Second

var regionFile = regexp.MustCompile(`/__db\.\d{3}$`)

// Serve is the child's side: it reads calls from r, has the engine that build makes carry them out, and writes what comes of them
// to w. It returns when r ends, with the environment left, and the program is meant to exit then. It changes how the whole process
// treats signals.
func Serve(r io.Reader, w io.Writer, build func(Options) (Engine, error)) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	m, err := receive(r)
	if err != nil {
		return fmt.Errorf("read set-up: %w", err)
	}
	if m.Verb != verbSetup || m.Setup == nil {
		return fmt.Errorf("first message is %q, not the set-up", m.Verb)
	}
	ctx, parentGone := context.WithCancel(context.Background())
	defer parentGone()
	s := &server{out: &sender{w: w}, ctx: ctx, live: len(m.Setup.Home) > 0,
		releases: map[uint64]chan struct{}{}, asks: map[uint64]chan message{}}
	if s.live {
		spareFromOOMKiller()
	}
	if s.eng, err = build(s.options(m.Setup)); err != nil {
		return s.out.send(message{Verb: verbReady, Err: encodeError(err)})
	}
	if err := s.out.send(message{Verb: verbReady, Text: s.eng.Version()}); err != nil {
		return err
	}
	err = s.listen(r)
	parentGone()
	return errors.Join(err, s.leave())
}

// spareFromOOMKiller asks for the lowest score that this user may have: -1000 as root, otherwise usually none below the inherited.
// A kill in the middle of a call could stop the application, which is the one that matters on this host.
func spareFromOOMKiller() {
	for score := -1000; score < 0; score += 100 {
		if os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0) == nil {
			return
		}
	}
}

// server is a child at work.
type server struct {
	out  *sender
	eng  Engine
	ctx  context.Context // ends when the parent has gone
	live bool

	calls sync.WaitGroup

	mu       sync.Mutex
	releases map[uint64]chan struct{} // by call
	asks     map[uint64]chan message  // by question
	asked    uint64
}

// options are those of the parent; its functions are reached through the pipe.
func (s *server) options(u *setup) Options {
	o := Options{Kind: u.Kind, Home: string(u.Home), Password: string(u.Password), DBBin: string(u.DBBin), LogDir: string(u.LogDir)}
	o.Note = func(text string) { s.tell(verbNote, text) }
	o.Message = func(text string) { s.tell(verbText, text) }
	if u.AskLog {
		o.LogEnd = s.askLogEnd
	}
	return o
}

// tell has no error to return: a parent that can't be told has gone, and listen learns that too.
func (s *server) tell(v verb, text string) {
	_ = s.out.send(message{Verb: v, Text: clip(text, transcriptWidth)})
}

func (s *server) askLogEnd(ctx context.Context) (bdb.LSN, error) {
	s.mu.Lock()
	s.asked++
	id, reply := s.asked, make(chan message, 1)
	s.asks[id] = reply
	s.mu.Unlock()
	if err := s.out.send(message{Verb: verbAsk, ID: id}); err != nil {
		return bdb.LSN{}, err
	}
	select {
	case m := <-reply:
		return m.LSN, m.Err.decode()
	case <-ctx.Done():
		return bdb.LSN{}, ctx.Err()
	}
}

// listen takes messages until the pipe ends, which is no error.
func (s *server) listen(r io.Reader) error {
	for {
		m, err := receive(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read call: %w", err)
		}
		s.take(m)
	}
}

func (s *server) take(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Verb {
	case verbCall:
		release := make(chan struct{})
		s.releases[m.ID] = release
		s.calls.Go(func() { s.serve(m, release) })
	case verbRelease:
		if c := s.releases[m.ID]; c != nil {
			close(c)
			delete(s.releases, m.ID)
		}
	case verbAnswer:
		if c := s.asks[m.ID]; c != nil {
			c <- m
			delete(s.asks, m.ID)
		}
	}
}

func (s *server) serve(m message, release <-chan struct{}) {
	err := s.do(m, release)
	s.mu.Lock()
	delete(s.releases, m.ID)
	s.mu.Unlock()
	_ = s.out.send(message{Verb: verbResult, ID: m.ID, Err: encodeError(err)})
}

func (s *server) do(m message, release <-chan struct{}) error {
	switch m.Op {
	case opHotBackup:
		return s.eng.HotBackup(s.ctx, func(ctx context.Context) error { return s.hold(ctx, m.ID, release) })
	case opCheckpoint:
		return s.eng.Checkpoint(s.ctx)
	case opRecover:
		percent := func(n int) { _ = s.out.send(message{Verb: verbPercent, ID: m.ID, Num: n}) }
		return s.eng.Recover(s.ctx, string(m.Home), RecoverOptions{Progress: percent, CacheBytes: m.Cache})
	case opVerify:
		return s.eng.Verify(s.ctx, string(m.Home), string(m.File))
	}
	return fmt.Errorf("unknown call %q", m.Op)
}

// hold keeps the flag until the parent releases it or is gone.
func (s *server) hold(ctx context.Context, id uint64, release <-chan struct{}) error {
	if err := s.out.send(message{Verb: verbHeld, ID: id}); err != nil {
		return err
	}
	select {
	case <-release:
	case <-ctx.Done():
	}
	return nil
}

// leave waits for the calls that are running and closes the engine. On a live environment it waits without end, unless the regions that
// it hangs in are removed.
func (s *server) leave() error {
	finished := make(chan error, 1)
	go func() { s.calls.Wait(); finished <- s.close() }()
	if !s.live {
		select {
		case err := <-finished:
			return err
		case <-time.After(afterParent):
			return nil // the exit of this process ends the call
		}
	}
	tick := time.NewTicker(regionsEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-finished:
			return err
		case <-tick.C:
			if regionsRemoved() {
				return nil
			}
		}
	}
}

func (s *server) close() error {
	if c, ok := s.eng.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// regionsRemoved tells that all region files which this process has open are gone: the application has made the environment anew, as it does
// after a crash (DB_RECOVER, DB_REGISTER). Nobody will ever release a mutex in the old ones that a dead process had, and nobody can be hurt there.
func regionsRemoved() bool {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return false
	}
	removed := false
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // that of the directory just read
		}
		path, gone := strings.CutSuffix(target, " (deleted)")
		if !regionFile.MatchString(path) {
			continue
		}
		if !gone {
			return false
		}
		removed = true
	}
	return removed
}
