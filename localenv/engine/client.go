package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	defaultPatience = 15 * time.Minute
	startLimit      = time.Minute      // for a child to say that it is ready
	graceLive       = 10 * time.Second // for a call on a live environment to end after its context did, and for its child to exit
	gracePrivate    = 2 * time.Second  // the same for recovery and verification, before the child is killed
)

// Client is an Engine whose work is done by a child process. It is safe for use by several goroutines; Checkpoint may also be called
// while HotBackup is running. It never starts another child: when its own has died, every call fails with the *ChildError that says
// how.
type Client struct {
	opt     Options
	live    bool
	version string
	child   *child
	out     *sender
	ready   chan message

	ctx    context.Context // ends with the client; for LogEnd
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	closeOnce sync.Once
	closeErr  error

	dead  chan struct{} // closed when the child can't be talked to any more
	cause error         // why, if not because it exited; set before dead is closed

	mu      sync.Mutex
	calls   map[uint64]*call
	nextID  uint64
	lastSay string
}

// call is one that the child is working on.
type call struct {
	id       uint64
	op       string          // for messages: what, and to what
	progress func(int)       // may be nil
	held     chan struct{}   // closed when the flag is set
	done     chan *wireError // the result
}

// Start starts the child and has it make its engine. It joins no environment yet. The caller closes the client.
func Start(ctx context.Context, opt Options) (*Client, error) {
	ch, err := spawn(opt.Executable, opt.Inherit)
	if err != nil {
		return nil, fmt.Errorf("start engine process: %w", err)
	}
	c := &Client{opt: opt, live: opt.Home != "", child: ch, out: &sender{w: ch.stdin}, ready: make(chan message, 1),
		dead: make(chan struct{}), calls: map[uint64]*call{}}
	c.opt.Patience = cmp.Or(opt.Patience, defaultPatience)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.tasks.Go(c.read)
	if err := c.handshake(ctx); err != nil {
		c.giveUp()
		return nil, err
	}
	return c, nil
}

func (c *Client) handshake(ctx context.Context) error {
	o := &c.opt
	m := message{Verb: verbSetup, Setup: &setup{Kind: o.Kind, Home: []byte(o.Home), Password: []byte(o.Password),
		LogDir: []byte(o.LogDir), DBBin: []byte(o.DBBin), AskLog: o.LogEnd != nil}}
	const op = "start engine"
	if err := c.out.send(m); err != nil {
		return c.death(op)
	}
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case m := <-c.ready:
		c.version = m.Text
		return m.Err.decode()
	case <-c.dead:
		return c.death(op)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	case <-limit.C:
		return fmt.Errorf("%s: process %d says nothing", op, c.child.cmd.Process.Pid)
	}
}

// giveUp ends a child that has not joined anything yet.
func (c *Client) giveUp() {
	c.cancel()
	c.child.stdin.Close()
	if !c.child.waitExit(gracePrivate) {
		c.child.kill()
	}
	c.tasks.Wait()
}

// Version names the code that runs in the child.
func (c *Client) Version() string { return c.version }

// Close lets the child leave the environment and exit. It waits for that, but not for ever: a child that is stuck in a call on a live
// environment is reported as a *HungError and left alone.
func (c *Client) Close() error {
	c.closeOnce.Do(func() { c.closeErr = c.close() })
	return c.closeErr
}

func (c *Client) close() error {
	wasDead := c.isDead()
	c.cancel()
	c.child.stdin.Close() // the child takes the end of its input as its cue
	grace := gracePrivate
	if c.live {
		grace = graceLive
	}
	if !c.child.waitExit(grace) {
		if c.live {
			return &HungError{Op: "close engine", PID: c.child.cmd.Process.Pid, Waited: grace}
		}
		c.child.kill()
	}
	c.tasks.Wait()
	if e := c.child.obituary("close engine", c.lastMessage(), nil); c.live && !wasDead && e.ExitCode != 0 {
		return e // it could not leave the environment properly
	}
	return nil
}

// Gone is closed when the child can't be talked to any more: it died, or Close had it exit.
func (c *Client) Gone() <-chan struct{} { return c.dead }

func (c *Client) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// read takes what the child says until its output ends.
func (c *Client) read() {
	var err error
	for err == nil {
		var m message
		if m, err = receive(c.child.stdout); err == nil {
			c.take(m)
		}
	}
	c.child.stdin.Close() // whatever ended the talk, the child is to leave
	c.child.stdout.Close()
	if !c.child.waitExit(gracePrivate) && !c.live {
		c.child.kill() // or it would go on working on files that are about to be used again
	}
	if err != io.EOF {
		c.cause = err
	}
	close(c.dead)
}

func (c *Client) take(m message) {
	switch m.Verb {
	case verbReady:
		select {
		case c.ready <- m:
		default:
		}
	case verbText:
		c.mu.Lock()
		c.lastSay = m.Text
		c.mu.Unlock()
		say(c.opt.Message, m.Text)
	case verbNote:
		say(c.opt.Note, m.Text)
	case verbAsk:
		c.tasks.Go(func() { c.answer(m.ID) })
	default:
		c.forward(m)
	}
}

func say(fn func(string), text string) {
	if fn != nil {
		fn(text)
	}
}

// answer looks where the log ends, in a goroutine of its own, because that takes time.
func (c *Client) answer(id uint64) {
	m := message{Verb: verbAnswer, ID: id}
	if c.opt.LogEnd == nil {
		m.Err = encodeError(ErrNotSupported)
	} else {
		lsn, err := c.opt.LogEnd(c.ctx)
		m.LSN, m.Err = lsn, encodeError(err)
	}
	_ = c.out.send(m) // a child that can't be told is dead, which its call learns
}

// forward passes m to the call that it belongs to. A call that was given up is not there any more.
func (c *Client) forward(m message) {
	c.mu.Lock()
	k := c.calls[m.ID]
	if m.Verb == verbResult {
		delete(c.calls, m.ID)
	}
	c.mu.Unlock()
	if k == nil {
		return
	}
	switch m.Verb {
	case verbPercent:
		if k.progress != nil {
			k.progress(m.Num)
		}
	case verbHeld:
		select {
		case <-k.held:
		default:
			close(k.held)
		}
	case verbResult:
		k.done <- m.Err
	}
}

// begin sends a call to the child, unless ctx has ended. op is the name that errors give it.
func (c *Client) begin(ctx context.Context, op string, progress func(int), m message) (*call, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	k := &call{op: op, progress: progress, held: make(chan struct{}), done: make(chan *wireError, 1)}
	c.mu.Lock()
	c.nextID++
	k.id = c.nextID
	c.calls[k.id] = k
	c.mu.Unlock()
	m.Verb, m.ID = verbCall, k.id
	if err := c.out.send(m); err != nil {
		return nil, c.unsent(op, err)
	}
	return k, nil
}

// unsent explains why nothing could be written to the child: normally because it is dead.
func (c *Client) unsent(op string, err error) error {
	select {
	case <-c.dead:
		return c.death(op)
	case <-time.After(2 * gracePrivate):
		return &ChildError{Op: op, ExitCode: -1, Err: err}
	}
}

// death says how the child died. It waits for that to be known.
func (c *Client) death(op string) error {
	<-c.dead
	return c.child.obituary(op, c.lastMessage(), c.cause)
}

func (c *Client) lastMessage() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastSay
}

// result is how the call ended, if it did before the child.
func (c *Client) result(k *call) error {
	select {
	case w := <-k.done:
		return w.decode()
	default:
		return c.death(k.op)
	}
}

// awaitLive waits for the end of a call on the live environment, or for held if that is wanted: not longer than the patience that was
// asked for, and only a little after ctx has ended, because its child must not be shot.
func (c *Client) awaitLive(ctx context.Context, k *call, held <-chan struct{}) error {
	began := time.Now()
	limit := time.NewTimer(c.opt.Patience)
	defer limit.Stop()
	cancelled := ctx.Done()
	for {
		select {
		case <-held:
			return nil
		case w := <-k.done:
			return w.decode()
		case <-c.dead:
			return c.result(k)
		case <-cancelled:
			cancelled = nil
			limit.Reset(min(graceLive, c.opt.Patience))
		case <-limit.C:
			hung := &HungError{Op: k.op, PID: c.child.cmd.Process.Pid, Waited: time.Since(began)}
			return errors.Join(ctx.Err(), hung)
		}
	}
}

// HotBackup is Engine's. If the child dies while fn runs, fn is left to end and the flag stays set until the application makes its
// regions anew, which harms nothing; the *ChildError is returned then. That the regions were made anew meanwhile, so that the flag was
// gone, is ErrFlagLost.
func (c *Client) HotBackup(ctx context.Context, fn func(context.Context) error) (err error) {
	if !c.live {
		return unsupported(opHotBackup, "this engine was started for no live environment")
	}
	regions := RegionsOf(c.opt.Home)
	k, err := c.begin(ctx, c.liveOp(opHotBackup), nil, message{Op: opHotBackup})
	if err != nil {
		return err
	}
	if err := c.awaitLive(ctx, k, k.held); err != nil {
		_ = c.release(k) // if the flag gets set late, it is reset at once
		return err
	}
	defer func() {
		lost := RegionsOf(c.opt.Home) != regions
		reset := c.unhold(ctx, k)
		if lost { // then what became of the flag in the old regions means nothing
			reset = &EngineError{Op: k.op, Kind: ErrFlagLost}
		}
		if reset != nil {
			err = errors.Join(err, reset)
		}
	}()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", k.op, err)
	}
	return fn(ctx)
}

func (c *Client) release(k *call) error {
	return c.out.send(message{Verb: verbRelease, ID: k.id})
}

// unhold has the flag reset, even if ctx has ended.
func (c *Client) unhold(ctx context.Context, k *call) error {
	if err := c.release(k); err != nil {
		return c.unsent(k.op, err)
	}
	return c.awaitLive(ctx, k, nil)
}

// Checkpoint is Engine's.
func (c *Client) Checkpoint(ctx context.Context) error {
	if !c.live {
		return unsupported(opCheckpoint, "this engine was started for no live environment")
	}
	k, err := c.begin(ctx, c.liveOp(opCheckpoint), nil, message{Op: opCheckpoint})
	if err != nil {
		return err
	}
	return c.awaitLive(ctx, k, nil)
}

// Recover is Engine's. When ctx is cancelled it waits a moment, then kills the child; the error is ErrUnusable then, and ctx's.
func (c *Client) Recover(ctx context.Context, home string, opt RecoverOptions) error {
	m := message{Op: opRecover, Home: []byte(home), Cache: opt.CacheBytes}
	err := c.private(ctx, "recover "+home, climbing(opt.Progress), m)
	if errors.Is(err, errKilled) {
		return fmt.Errorf("recover %s: %w: %w", home, ErrUnusable, ctx.Err())
	}
	return err
}

// climbing passes a percentage on only if it is higher than the last and possible.
func climbing(fn func(int)) func(int) {
	if fn == nil {
		return nil
	}
	last := -1
	return func(n int) {
		if n = min(n, 100); n > last {
			last = n
			fn(n)
		}
	}
}

// Verify is Engine's. When ctx is cancelled the child is killed and no further call can be made.
func (c *Client) Verify(ctx context.Context, home, file string) error {
	err := c.private(ctx, "verify "+file, nil, message{Op: opVerify, Home: []byte(home), File: []byte(file)})
	if errors.Is(err, errKilled) {
		return fmt.Errorf("verify %s: %w", file, ctx.Err())
	}
	return err
}

// errKilled: the call was cancelled and its child killed.
var errKilled = errors.New("engine process was killed")

// private makes a call on files that nobody else uses, for which there is no time limit.
func (c *Client) private(ctx context.Context, op string, progress func(int), m message) error {
	if c.live {
		return unsupported(m.Op, "this engine was started for a live environment")
	}
	k, err := c.begin(ctx, op, progress, m)
	if err != nil {
		return err
	}
	select {
	case w := <-k.done:
		return w.decode()
	case <-c.dead:
		return c.result(k)
	case <-ctx.Done():
	}
	select {
	case w := <-k.done:
		return w.decode()
	case <-time.After(gracePrivate):
		c.child.kill()
		<-c.dead
		return errKilled
	}
}

func (c *Client) liveOp(op string) string { return op + " of " + c.opt.Home }

func unsupported(op, why string) error {
	return &EngineError{Op: op, Kind: ErrNotSupported, Text: []string{why}}
}
