package endtoend

import (
	"os"
	"path/filepath"
	"testing"

	"bdbvault/localenv/engine"
	"bdbvault/localenv/envtest"
	"bdbvault/restore"
)

// restored is a home that was brought back, and beside it a copy of what recovery began with: files and log as they were laid down.
type restored struct {
	t        *testing.T
	home     string
	beside   string
	password string
	*restore.Result
}

// restoreBeside restores, every database verified.
func (v *vault) restoreBeside(target restore.Target, password string) (*restored, error) {
	v.t.Helper()
	plan, err := restore.MakePlan(v.t.Context(), v.repo, "test", target)
	if err != nil {
		return nil, err
	}
	dir := v.t.TempDir()
	r := &restored{t: v.t, home: filepath.Join(dir, "restored"), beside: filepath.Join(dir, "beside"), password: password}
	r.Result, err = restore.Restore(v.t.Context(), v.repo, plan, restore.Options{
		To: r.home, Verify: restore.VerifyAlways, Engine: engine.Options{Password: password},
		Step: func(stage string) error {
			if stage == "log" {
				return envtest.CopyHome(r.home, r.beside)
			}
			return nil
		},
	})
	return r, err
}

// stock is what db5.3_recover -c makes of the copy.
func (r *restored) stock(truth envtest.Contents) ([]string, error) {
	return stockRecovery(r.beside, r.password, truth)
}

// stockRecovery has db5.3_recover -c recover a home, and says in what that differs from the truth. The error is a program that failed, there or when
// the databases were read.
func stockRecovery(home, password string, truth envtest.Contents) ([]string, error) {
	if err := envtest.RecoverCatastrophic(home, password); err != nil {
		return nil, err
	}
	got, err := envtest.Dump(home, password)
	if err != nil {
		return nil, err
	}
	return envtest.Diff(truth, got), nil
}

func (r *restored) remove() {
	for _, dir := range []string{r.home, r.beside} {
		if err := os.RemoveAll(dir); err != nil {
			r.t.Fatal(err)
		}
	}
}
