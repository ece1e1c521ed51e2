package main

import (
	"bytes"
	"errors"
	"flag"
	"slices"

	"bdbvault/localenv/envtest/bdbc"
)

// resolve ends all prepared transactions of a home, and prints the names that they were prepared under.
func resolve(f *flag.FlagSet, args []string) error {
	p := placeFlags(f)
	var commit list
	f.Var(&commit, "commit", "`name` of a transaction to commit, may be repeated; all others are aborted")
	f.Parse(args)
	names := []string{}
	err := withEnv(p.home, bdbc.EnvOptions{Password: p.password, Recover: true}, func(env *bdbc.Env) error {
		txns, gids, err := env.Prepared()
		for i, t := range txns {
			name := string(bytes.TrimRight(gids[i][:], "\x00"))
			names = append(names, name)
			if slices.Contains(commit, name) {
				_, e := t.Commit(bdbc.Sync)
				err = errors.Join(err, e)
			} else {
				err = errors.Join(err, t.Abort())
			}
		}
		return errors.Join(err, env.Checkpoint(true))
	})
	if err != nil {
		return err
	}
	return printJSON(names)
}
