package engine

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"bdbvault/localenv/bdb"
)

// maxFrame bounds what a reader allocates for one message.
const maxFrame = 1 << 20

// verb says what a message is.
type verb string

const (
	verbSetup   verb = "setup"   // parent: the options
	verbReady   verb = "ready"   // child: the engine's version, or why there is none
	verbCall    verb = "call"    // parent: begin a call
	verbHeld    verb = "held"    // child: the hot-backup flag is set
	verbRelease verb = "release" // parent: reset it
	verbAsk     verb = "ask"     // child: where does the log end?
	verbAnswer  verb = "answer"  // parent: there
	verbPercent verb = "percent" // child: progress of recovery
	verbText    verb = "text"    // child: what the engine said
	verbNote    verb = "note"    // child: what a person should know
	verbResult  verb = "result"  // child: the call is over
)

// operations that a call can ask for.
const (
	opHotBackup  = "hot backup"
	opCheckpoint = "checkpoint"
	opRecover    = "recover"
	opVerify     = "verify"
)

// message is one frame. Which fields count depends on the verb.
type message struct {
	Verb  verb       `json:"verb"`
	ID    uint64     `json:"id,omitempty"` // of the call that it belongs to
	Setup *setup     `json:"setup,omitempty"`
	Op    string     `json:"op,omitempty"`
	Home  []byte     `json:"home,omitempty"` // paths are bytes, JSON strings must be UTF-8
	File  []byte     `json:"file,omitempty"`
	Cache int64      `json:"cache,omitempty"`
	LSN   bdb.LSN    `json:"lsn,omitzero"`
	Num   int        `json:"num,omitempty"`
	Text  string     `json:"text,omitempty"`
	Err   *wireError `json:"err,omitempty"`
}

// setup is the part of Options that the child needs.
type setup struct {
	Kind     string `json:"kind"`
	Home     []byte `json:"home"`
	Password []byte `json:"password"`
	DBBin    []byte `json:"dbBin"`
	LogDir   []byte `json:"logDir,omitempty"`
	AskLog   bool   `json:"askLog"` // the parent can answer verbAsk
}

// sender writes frames, from any goroutine.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) send(m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("message of %d bytes is too long", len(body))
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.w.Write(append(frame, body...))
	return err
}

// receive reads one frame. It returns io.EOF between frames only.
func receive(r io.Reader) (message, error) {
	var m message
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return m, fmt.Errorf("message of %d bytes is too long", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, noEOF(err)
	}
	return m, json.Unmarshal(body, &m)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
