package bdb

import (
	"encoding/json"
	"testing"
)

func TestLSN(t *testing.T) {
	for _, text := range []string{"0/0", "0/1", "1/28", "4294967295/4294967295"} {
		l, err := ParseLSN(text)
		if err != nil || l.String() != text {
			t.Errorf("%s: %v, %v", text, l, err)
		}
	}
	for _, text := range []string{"", "1", "1/", "/1", "1/2/3", "01/2", "1/+2", "-1/2", "4294967296/0", "1/ 2", "1/0x2"} {
		if l, err := ParseLSN(text); err == nil {
			t.Errorf("%q parsed as %v", text, l)
		}
	}
	ascending := []LSN{{}, NotLogged, {1, 0}, {1, 28}, {2, 0}, {2, 1}, {10, 0}}
	for i, a := range ascending {
		for j, b := range ascending {
			if a.Before(b) != (i < j) {
				t.Errorf("%v before %v: %v", a, b, a.Before(b))
			}
		}
	}
}

func TestIdentifiersInJSON(t *testing.T) {
	type both struct {
		At LSN
		ID FileID
	}
	in := both{LSN{3, 12345}, FileID{1, 0xfe}}
	text, err := json.Marshal(in)
	if want := `{"At":"3/12345","ID":"01fe000000000000000000000000000000000000"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	var out both
	if err := json.Unmarshal(text, &out); err != nil || out != in {
		t.Errorf("%+v, %v", out, err)
	}
	for _, bad := range []string{`{"At":"3"}`, `{"ID":"01"}`, `{"ID":"01FE000000000000000000000000000000000000"}`, `{"ID":"zz00000000000000000000000000000000000000"}`} {
		if err := json.Unmarshal([]byte(bad), &out); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}
