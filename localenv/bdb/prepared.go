package bdb

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Prepared is a transaction that has been prepared and is neither committed nor aborted. Recovery keeps it as it is; whoever coordinates
// the transaction has to say which (DB_ENV->txn_recover).
type Prepared struct {
	Txn      uint32 // as db_printlog shows it, in hexadecimal
	LSN      LSN    // of the record that prepared it
	GlobalID []byte // that the application gave it, without the zeros at its end
}

func newPrepared(r *Record, p Prepare) Prepared {
	return Prepared{Txn: r.Txn, LSN: r.LSN, GlobalID: bytes.TrimRight(bytes.Clone(p.GlobalID), "\x00")}
}

// Name is the global id as a person can read it: its text if it is one, else hexadecimal.
func (p Prepared) Name() string {
	if len(p.GlobalID) == 0 {
		return "(all zeros)"
	}
	for _, b := range p.GlobalID {
		if b < ' ' || b > '~' {
			return hex.EncodeToString(p.GlobalID)
		}
	}
	return fmt.Sprintf("%q", p.GlobalID)
}

type preparedText struct {
	Txn      string `json:"txn"`
	LSN      LSN    `json:"lsn"`
	GlobalID string `json:"globalID"`
}

// MarshalJSON writes the transaction id and the global id in hexadecimal.
func (p Prepared) MarshalJSON() ([]byte, error) {
	return json.Marshal(preparedText{fmt.Sprintf("%x", p.Txn), p.LSN, hex.EncodeToString(p.GlobalID)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (p *Prepared) UnmarshalJSON(data []byte) error {
	var t preparedText
	if err := json.Unmarshal(data, &t); err != nil {
		return err
	}
	id, err := hex.DecodeString(t.GlobalID)
	if err != nil {
		return err
	}
	p.LSN, p.GlobalID = t.LSN, id
	_, err = fmt.Sscanf(t.Txn, "%x", &p.Txn)
	return err
}

// Prepared lists the transactions that are prepared at the end of the log, in the order in which they were.
func (h *History) Prepared() []Prepared {
	return slices.SortedFunc(maps.Values(h.prepared), func(a, b Prepared) int { return a.LSN.Compare(b.LSN) })
}
