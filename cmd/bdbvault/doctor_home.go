package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"bdbvault/archive"
	"bdbvault/localenv"
	"bdbvault/localenv/bdb"
	"bdbvault/localenv/engine"
)

// lookLimit bounds how long doctor looks at files, at the log, and waits for the engine, each.
const lookLimit = time.Minute

// lookAtEnvironment only reads, but for the engine's joining, which is done as a backup would do it.
func (d *doctor) lookAtEnvironment(ctx context.Context) {
	home := d.add("home", "home")
	env, err := localenv.Open(d.Home, d.key)
	if err != nil {
		home.fault(err)
		return
	}
	d.env = env
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if d.survey, err = env.Survey(limited); err != nil {
		home.fault(err)
		return
	}
	checkHome(home, d.survey)
	checkConfigText(d.add("config", "DB_CONFIG"), &env.Config)
	checkDirectories(d.add("directories", "directories"), env)
	checkLeftOut(d.add("left-out", "left out"), d.survey)
	checkDatabases(d.add("databases", "databases"), d.survey)
	checkSums(d.add("checksums", "page checksums"), d.survey)
	d.lookAtLog(ctx)
	checkEncryption(d.add("encryption", "encryption"), d.survey, d.log, d.pass != "")
	checkOpen(d.add("open", "opened by"), d.survey, env.Config.Private)
	d.join(ctx, d.add("engine", "joining it"))
	checkReplication(d.add("replication", "replication"), d.survey, env.Config.Replicated)
	checkRegistry(d.add("registry", "DB_REGISTER"), d.survey, env.Config.Register)
	d.lookAtHost()
}

func checkHome(c *check, s *localenv.Survey) {
	var denied []string
	for _, f := range s.Faults {
		if errors.Is(f.Err, fs.ErrPermission) {
			denied = append(denied, f.Path)
		}
	}
	switch {
	case s.Unfinished:
		c.fail("a restore into it has not ended", "Finish it by the same command, or remove the directory. It is not an environment before.")
	case s.Standby:
		c.fail("it is a standby that follows another home", "Look at that one. bdbvault standby --promote makes this a home of its own.")
	case len(denied) > 0:
		c.fail(c.several("file", denied)+" can't be read", "Run bdbvault as root or as the user who owns the files.")
	default:
		c.note("%s in %s, read as %s", size(s.Bytes), count(s.Files, "file"), userName())
	}
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "this user"
}

func checkConfigText(c *check, config *localenv.Config) {
	unknown := config.Unknown()
	switch {
	case !config.Present:
		c.note("none")
	case len(config.Problems) > 0:
		c.fail("Berkeley DB would refuse "+c.several("line", config.Problems), "Correct it, or neither the application nor a restore can open the environment.")
	case len(unknown) > 0:
		c.warn("Berkeley DB 5.3 does not know "+c.several("setting", unknown), "Correct it, unless the application runs with another release: a restore takes the file along.")
	default:
		c.note("%s, all understood", count(len(config.Settings), "setting"))
	}
}

func checkDirectories(c *check, env *localenv.Env) {
	if lines := env.Config.AbsoluteDirs(); len(lines) > 0 {
		c.warn("absolute in "+c.several("line", lines), "A restore has to be told where they go: --map-dir OLD=NEW. Paths relative to the home restore anywhere.")
		return
	}
	var names []string
	for _, dir := range env.Dirs {
		names = append(names, dir.Name)
	}
	c.note("data in %s, log in %s", some(names), env.LogDir.Name)
}

func checkLeftOut(c *check, s *localenv.Survey) {
	var left []string
	for _, l := range s.Left {
		if !strings.Contains(l.Reason, "backed up as data directory") {
			left = append(left, fmt.Sprintf("%s (%s)", l.Path, l.Reason))
		}
	}
	if len(left) == 0 {
		c.note("nothing that a restore would miss")
		return
	}
	c.warn(c.several("entry", left), "No backup has these. A directory behind a symbolic link is taken if DB_CONFIG names it (add_data_dir).")
}

func checkDatabases(c *check, s *localenv.Survey) {
	kinds := map[bdb.Kind]int{}
	for _, f := range s.Databases {
		kinds[f.Kind]++
	}
	var parts, bad []string
	for _, kind := range []bdb.Kind{bdb.KindBtree, bdb.KindHash, bdb.KindQueue, bdb.KindQueueExtent, bdb.KindHeap} {
		if n := kinds[kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	for _, f := range s.Faults {
		if !errors.Is(f.Err, fs.ErrPermission) && !errors.Is(f.Err, bdb.ErrPassword) {
			bad = append(bad, fmt.Sprintf("%s: %v", f.Path, f.Err))
		}
	}
	switch {
	case len(bad) > 0:
		c.fail("damaged: "+c.several("file", bad), "Check the disk, verify the database (db_verify), restore it: bdbvault restore.")
		c.code = exitDamage
	case len(parts) == 0:
		c.note("none yet")
	default:
		c.note("%s", strings.Join(parts, ", "))
	}
}

func checkSums(c *check, s *localenv.Survey) {
	var without []string
	for _, f := range s.Databases {
		if !f.Checksummed {
			without = append(without, f.Path)
		}
	}
	if len(without) == 0 {
		c.note("on in all databases")
		return
	}
	c.Details = without
	which := fmt.Sprintf("off in %d of %d databases", len(without), len(s.Databases))
	if len(without) == len(s.Databases) {
		which = "off in " + count(len(without), "database")
	}
	c.warn(which,
		"Torn pages are found all the same, by reading twice. What the disk itself changes is not: DB->set_flags(DB_CHKSUM) when a database is made.")
}

func checkEncryption(c *check, s *localenv.Survey, l *localenv.LogSurvey, password bool) {
	wrong := slices.ContainsFunc(s.Faults, func(f localenv.FileFault) bool { return errors.Is(f.Err, bdb.ErrPassword) })
	encrypted := s.Encrypted() > 0 || l != nil && l.Encrypted
	switch {
	case wrong:
		c.fail("the password is not the environment's", hint(bdb.ErrPassword))
	case encrypted && password:
		c.note("on, and the password fits")
	case encrypted:
		c.warn("on, and no password was given", "backup and ship work without. What needs it: joining, the look whether all databases are there, commit times and so --at, page HMACs, and every restore.\n"+
			hint(bdb.ErrPassword))
	case password:
		c.warn("off, but a password was given", "Leave it out: the engine refuses to join with it.")
	default:
		c.note("off")
	}
}

func checkOpen(c *check, s *localenv.Survey, private bool) {
	var who []string
	for _, h := range s.Holders {
		who = append(who, fmt.Sprintf("%s (%d)", h.Command, h.PID))
	}
	c.Details = who
	switch {
	case private, s.Regions == nil && len(who) > 0:
		c.warn("private to its process: "+firstText(some(who), "DB_PRIVATE in DB_CONFIG"),
			"Nobody can join it, so bulk transactions (DB_TXN_BULK) may be missing from its log, and backup -c can't be had.")
	case len(who) > 0:
		c.note("%s", some(who))
	case s.Regions == nil:
		c.note("nobody, and there are no region files")
	case s.Unseen > 0 && os.Geteuid() != 0:
		c.unsure(fmt.Sprintf("no process that can be seen; %d can't be looked into", s.Unseen), "Run bdbvault as root or as the application's user.")
	default:
		c.note("nobody; region files are left from before")
	}
}

// join does what a backup does, and lets go at once.
func (d *doctor) join(ctx context.Context, c *check) {
	mode := d.String(flagBulkSafe)
	if mode == archive.BulkOff {
		c.unsure("not tried: --bulk-safe off", "")
		return
	}
	closed := d.survey.Regions == nil && len(d.survey.Holders) == 0 && !d.env.Config.Private
	if closed && mode == archive.BulkAuto {
		c.note("not needed: the environment is closed")
		return
	}
	version, err := d.tryJoining(ctx)
	if err == nil {
		c.note("%s joined it, set the hot-backup flag and reset it", version)
		return
	}
	c.fault(err)
	if mode == archive.BulkAuto && !is[*engine.HungError](err) && !is[*engine.ChildError](err) {
		c.warn(c.Found, c.Advice+"\nBackups are taken all the same; they miss what bulk transactions (DB_TXN_BULK) write meanwhile.")
	}
}

func (d *doctor) tryJoining(ctx context.Context) (version string, err error) {
	o, err := d.engineOptions(d.pass)
	if err != nil {
		return "", err
	}
	o.Home, o.Patience, o.LogEnd = d.env.Home, lookLimit, (&source{Env: d.env}).logEnd
	client, err := engine.Start(ctx, o)
	if err != nil {
		return "", err
	}
	err = client.HotBackup(ctx, func(context.Context) error { return nil })
	return client.Version(), firstError(err, client.Close())
}

func checkReplication(c *check, s *localenv.Survey, configured bool) {
	if !s.Replication && !configured {
		c.note("none")
		return
	}
	c.warn("the environment is in a replication group", "Back up one site. __db.rep* is not archived, and --remove-shipped-logs is refused: peers may need those log files.")
}

func checkRegistry(c *check, s *localenv.Survey, configured bool) {
	switch {
	case configured:
		c.warn("DB_CONFIG sets it for whoever opens the environment", "bdbvault does not join such an environment: its death would force a recovery. Better set the flag in the application.")
	case s.Registry:
		c.note("used by the application; bdbvault does not register")
	default:
		c.note("not used")
	}
}
