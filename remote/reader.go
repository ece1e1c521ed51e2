package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// reader is a download that survives broken connections: it opens the object anew at the byte where it stopped.
type reader struct {
	b         *Bucket
	ctx       context.Context
	key, full string
	offset    int64 // of the next byte
	left      int64 // bytes still wanted; negative: to the end
	body      io.ReadCloser
	patience  *patience
	err       error // final
}

func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.left == 0 {
			r.err = io.EOF
			break
		}
		n, err := r.some(p)
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		if err != nil {
			r.resume(err)
		}
	}
	return 0, r.err
}

// some reads what the connection has, at most what is still wanted.
func (r *reader) some(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.body.Read(p[:r.b.opt.Down.piece(len(p))])
	if n > 0 {
		// Between two reads nobody takes the pause for a stalled connection.
		if waited := r.b.opt.Down.Wait(r.ctx, n); waited != nil {
			return 0, waited
		}
		r.patience.moved()
		r.b.stats.down.Add(int64(n))
		r.offset += int64(n)
		if r.left > 0 {
			r.left -= int64(n)
		}
	}
	return n, err
}

// resume goes on after err ended the body, or sets r.err.
func (r *reader) resume(err error) {
	if err == io.EOF && r.left < 0 {
		r.err = io.EOF
		return
	}
	if err == io.EOF {
		// Either cut short on the way or really that short; asking for the rest tells.
		err = &Error{Kind: Transient, Err: fmt.Errorf("body ended %d bytes early: %w", r.left, io.ErrUnexpectedEOF)}
	}
	r.body.Close() // it failed already
	r.body = nil
	r.err = r.open(err)
}

// open starts or, after a fault, continues the download.
func (r *reader) open(fault error) error {
	return r.b.do(r.ctx, opOpen, r.key, r.patience, func(ctx context.Context) (err error) {
		if fault != nil {
			err, fault = fault, nil
			return err
		}
		r.body, err = r.b.d.Open(ctx, r.full, r.offset, r.left)
		return err
	})
}

// Close ends the download, wherever it is.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = errors.New("read after close")
	}
	if r.body == nil {
		return nil
	}
	return r.body.Close()
}
