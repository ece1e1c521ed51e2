package envtest

import (
	"fmt"
	"testing"
)

func TestShapes(t *testing.T) {
	for _, size := range []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536} {
		for _, pw := range []string{"", "secret"} {
			for _, sum := range []bool{false, true} {
				t.Run(fmt.Sprint(size, pw, sum), func(t *testing.T) {
					env := Create(t, t.TempDir(), Spec{Password: pw, DataDirs: []string{"data"}, Databases: AllShapes(size, sum), Bank: &Bank{PageSize: size, Checksum: sum}})
					a, err := Dump(env.Home, pw)
					if err != nil {
						t.Fatal(err)
					}
					if err := RecoverCatastrophic(env.Home, pw); err != nil {
						t.Error(err)
					}
					b, err := Dump(env.Home, pw)
					if err != nil {
						t.Fatal(err)
					}
					if d := Diff(a, b); len(d) > 0 {
						t.Error(d)
					}
					if err := Verify(env.Home, pw); err != nil {
						t.Error(err)
					}
					if _, err := CheckBank(env.Home, pw); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}
