package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"bdbvault/localenv"
	"bdbvault/manifest"
	"bdbvault/remote"
	"bdbvault/remote/awsconf"
	"bdbvault/remote/repository"
)

// storePatience is how long doctor tries again where a backup would for minutes.
const storePatience = 2 * time.Second

// lookAtStore tries the store out, and looks for the environment in it.
func (d *doctor) lookAtStore(ctx context.Context) error {
	d.subject = aboutStore
	loc, err := d.location()
	if err != nil {
		return err
	}
	b, err := d.openBucket(ctx, loc)
	if is[usageError](err) {
		return err
	}
	d.Repository = loc.String()
	if err != nil {
		d.add("connection", "connection").fault(err)
		return nil
	}
	d.checkConnection(ctx, d.add("connection", "connection"), loc)
	if d.exam, err = b.Examine(ctx, remote.ExamineOptions{Quick: d.Bool(flagQuick)}); err != nil {
		return err
	}
	e := d.exam
	checkTrials(d.doctorReport, e)
	if e.Answered {
		checkPromises(d.doctorReport, e, loc.dir != "")
		if loc.dir == "" { // a directory has neither settings nor credentials
			checkFacts(d.doctorReport, e)
			checkRights(d.add("permissions", "permissions"), e)
		}
		checkSpeed(d.doctorReport, e, d.survey, d.Bool(flagQuick))
		checkLeft(d.add("left", "left behind"), e)
	}
	checkSkew(d.add("store-clock", "clock"), e)
	if e.List.Worked() {
		d.lookAtArchive(ctx, b)
	}
	d.meter.count(e.Stats)
	return nil
}

// checkConnection says who can listen on the way, and for a directory who can read it.
func (d *doctor) checkConnection(ctx context.Context, c *check, loc location) {
	if loc.dir != "" {
		checkDirectory(c, loc.dir)
		return
	}
	conf, err := awsconf.Resolve(ctx, d.storeConfig(loc))
	if err != nil {
		c.fault(err)
		return
	}
	checkEndpoint(c, conf.Endpoint)
}

func checkEndpoint(c *check, endpoint *url.URL) {
	switch {
	case endpoint == nil:
		c.note("https, to AWS")
	case endpoint.Scheme == "https":
		c.note("https, to %s", endpoint.Host)
	case isLoopback(endpoint.Hostname()):
		c.note("http, on this host")
	default:
		c.warn("http, to "+endpoint.Host, "Everybody on the way can read what is stored. Use https.")
	}
}

func checkDirectory(c *check, dir string) {
	info, err := os.Stat(dir)
	if err != nil {
		c.fail(err.Error(), "Check the path, and that the file system is mounted. A new repository: bdbvault init")
		return
	}
	disk, err := localenv.DiskOf(dir)
	found := fmt.Sprintf("directory on %s, %s free", firstText(disk.Type, "some file system"), size(disk.Free))
	switch {
	case err != nil:
		c.fault(err)
	case info.Mode().Perm()&0o077 != 0:
		c.warn(fmt.Sprintf("%s, mode %03o", found, info.Mode().Perm()), "Other users may get at what is stored: chmod 700 it.")
	case disk.Free < littleSpaceLeft(disk):
		c.warn(found, "Make room there.")
	default:
		c.note("%s", found)
	}
}

func littleSpaceLeft(d localenv.Disk) int64 { return int64(littleSpace * float64(d.Size)) }

// checkTrials judges what every backup and every restore needs.
func checkTrials(r *doctorReport, e *remote.Examination) {
	for _, t := range []struct {
		id, title string
		trial     remote.Trial
		works     string
	}{
		{"put", "put", e.Put, "works"},
		{"get", "get", e.Get, "gives back what was put"},
		{"range", "ranged get", e.Range, "gives back the range"},
		{"list", "list", e.List, "has what was just put"},
	} {
		c := r.add(t.id, t.title)
		switch {
		case t.trial.Worked():
			c.note("%s", t.works)
		case t.trial.Tried:
			c.fault(t.trial.Err)
		default:
			c.unsure("not tried", "")
		}
	}
}

// checkPromises judges what backups rely on when several run, and what protects them from thieves.
func checkPromises(r *doctorReport, e *remote.Examination, directory bool) {
	checkAbsent(r.add("if-absent", "put if absent"), e.IfAbsent)
	checkUpload(r.add("upload-check", "damaged upload"), e.Altered)
	checkOverwrite(r.add("overwrite", "overwrite"), e.Overwrite, e.Facts.Versioning == "Enabled", directory)
	checkDelete(r.add("delete", "delete"), e.Delete)
}

func (c *check) untried(t remote.Trial) bool {
	if !t.Tried {
		c.unsure("not tried", "")
	}
	return !t.Tried
}

func checkAbsent(c *check, t remote.Trial) {
	switch {
	case c.untried(t):
	case t.Worked():
		c.note("of writers in a race one wins")
	case errors.Is(t.Err, remote.ErrUnsupported):
		c.warn("several writers may win a race", "Names are unique, so backups are safe. Do not run init, hold or prune twice at the same time.")
	default:
		c.fault(t.Err)
	}
}

func checkUpload(c *check, t remote.Trial) {
	switch {
	case c.untried(t):
	case errors.Is(t.Err, remote.ErrDamaged):
		c.note("refused")
	case t.Worked():
		c.warn("accepted", "What changes on the way there shows when it is read: run bdbvault verify --read-data often.")
	default:
		c.unsure(words(t.Err), "")
	}
}

func checkOverwrite(c *check, t remote.Trial, versions, directory bool) {
	switch {
	case c.untried(t):
	case t.Refused():
		c.note("refused")
	case !t.Worked():
		c.fault(t.Err)
	case versions:
		c.note("allowed, and the old version stays")
	case directory:
		c.warn("allowed, as in every directory", "Whoever gets this user's rights can destroy every backup. A bucket with object lock withstands that, or a copy elsewhere.")
	default:
		c.warn("allowed, and the old content is gone", "Whoever steals these credentials can destroy every backup. Have the bucket keep versions, better with object lock.")
	}
}

func checkDelete(c *check, t remote.Trial) {
	switch {
	case c.untried(t):
	case t.Refused():
		c.note("refused: whoever steals these credentials can't delete; prune and release need others")
	case t.Worked():
		c.note("works")
	default:
		c.fault(t.Err)
	}
}

// checkFacts judges how the bucket is set.
func checkFacts(r *doctorReport, e *remote.Examination) {
	versioning, lock := r.add("versioning", "versioning"), r.add("object-lock", "object lock")
	known := e.Settings.Worked()
	switch v := e.Facts.Versioning; {
	case v == "Enabled":
		versioning.note("on")
	case !known:
		versioning.unasked(e.Settings)
	default:
		versioning.warn(firstText(strings.ToLower(v), "off"), "What is deleted or overwritten is gone for good: aws s3api put-bucket-versioning --bucket BUCKET --versioning-configuration Status=Enabled,\nand a lifecycle rule for old versions.")
	}
	switch f := e.Facts; {
	case f.ObjectLock && f.DefaultMode != "":
		lock.note("on, by default %s for %s", strings.ToLower(string(f.DefaultMode)), days(f.DefaultFor))
	case f.ObjectLock:
		lock.note("on; what is locked, and for how long, --retain says")
	case !known:
		lock.unasked(e.Settings)
	default:
		lock.warn("off", "Only locked objects (--retain) withstand somebody who may delete versions too. It is chosen when the bucket is made.")
	}
}

// unasked is a setting that could not be asked for.
func (c *check) unasked(t remote.Trial) {
	switch {
	case c.untried(t):
	case t.Refused():
		c.unsure("these credentials may not ask (s3:GetBucketVersioning, s3:GetBucketObjectLockConfiguration)", "")
	default:
		c.unsure(words(t.Err), "")
	}
}

func days(d time.Duration) string { return count(int(d/(24*time.Hour)), "day") }

// checkRights judges what the credentials may that no backup needs.
func checkRights(c *check, e *remote.Examination) {
	var list []string
	add := func(may bool, what string) {
		if may {
			list = append(list, what)
		}
	}
	add(e.Delete.Worked(), "delete")
	add(e.OtherBuckets > 0, "list "+count(e.OtherBuckets, "other bucket"))
	add(e.ReadsPolicy, "read the bucket's policy")
	add(e.Outside.Worked(), "list what is not the repository's")
	switch {
	case !e.Put.Worked() && !e.List.Worked():
		c.unsure("nothing is permitted so far", "")
		return
	case len(list) == 0:
		c.note("no more than needed was found")
		return
	}
	c.Details = list
	advice := "backup, ship and watch need s3:PutObject, s3:GetObject and s3:ListBucket, the latter limited to the prefix."
	if e.Delete.Worked() {
		advice += " Give prune, which alone has to delete, credentials of its own."
	}
	c.warn("more than a backup needs: "+strings.Join(list, ", "), advice)
}

// Limits of what a watch that ships every second, and a person who waits, should bear.
const (
	slowRequest = time.Second
	longBackup  = 24 * time.Hour
)

func checkSpeed(r *doctorReport, e *remote.Examination, s *localenv.Survey, quick bool) {
	checkLatency(r.add("latency", "latency"), e.Latency)
	if e.Stats.Retries > 0 {
		r.add("retries", "repeated requests").warn(fmt.Sprintf("%d of %d", e.Stats.Retries, e.Stats.Requests.Total()), "Store or network fail now and then. Backups bear it, and take longer.")
	}
	if quick {
		return
	}
	c := r.add("throughput", "throughput")
	switch {
	case e.Throughput.Worked():
		checkThroughput(c, e, s)
	case e.Throughput.Tried:
		c.fault(e.Throughput.Err)
	case e.Delete.Refused():
		c.unsure("not measured: what it takes could not be removed again", "")
	default:
		c.unsure("not measured", "")
	}
}

func checkLatency(c *check, all map[string]remote.Latency) {
	var parts []string
	slow := false
	for _, what := range []string{"put", "get", "list"} {
		if l, ok := all[what]; ok {
			parts = append(parts, fmt.Sprintf("%s %s (95 %%: %s)", what, millis(l.P50), millis(l.P95)))
			slow = slow || l.P50 > slowRequest
		}
	}
	found := strings.Join(parts, ", ")
	switch {
	case len(parts) == 0:
		c.unsure("not measured", "")
	case slow:
		c.warn(found, "A watch can't ship more often than that. Is the store far away, or overloaded?")
	default:
		c.note("%s", found)
	}
}

// millis is a short time, in two digits or more.
func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}

func checkThroughput(c *check, e *remote.Examination, s *localenv.Survey) {
	found := fmt.Sprintf("put %s/s, get %s/s", size(int64(e.Up)), size(int64(e.Down)))
	if s == nil || s.Bytes == 0 {
		c.note("%s", found)
		return
	}
	first := time.Duration(float64(s.Bytes) / e.Up * float64(time.Second))
	if first > longBackup {
		c.warn(fmt.Sprintf("%s: a first full backup takes %s if nothing can be compressed", found, duration(first)), "Later ones send what changed.")
		return
	}
	c.note("%s", found)
}

func checkLeft(c *check, e *remote.Examination) {
	switch {
	case e.Left > 0:
		c.note("%s of %s, %s*: these credentials can't remove them", count(e.Left, "object"), size(e.LeftBytes), e.LeftAt)
		if !e.Delete.Refused() {
			c.warn(c.Found, "Remove them by hand.")
		}
	case e.Facts.Versioning == "Enabled":
		c.note("old versions of %s, %s*: a lifecycle rule for old versions removes them", size(e.Stats.BytesUp), e.LeftAt)
	default:
		c.note("nothing")
	}
}

const (
	// skewFine is what NTP keeps to anywhere, skewEnd where S3 begins to refuse signatures.
	skewFine = 5 * time.Second
	skewEnd  = 15 * time.Minute
)

func checkSkew(c *check, e *remote.Examination) {
	const advice = "Set this host's clock (chronyc makestep, timedatectl). From 15 minutes on S3 refuses every request."
	skew := e.Skew.Abs()
	where := "ahead of"
	if e.Skew < 0 {
		where = "behind"
	}
	found := fmt.Sprintf("the store's is %s %s this host's", duration(skew), where)
	switch {
	case remote.KindOf(cmp.Or(e.Put.Err, e.List.Err)) == remote.ClockSkew:
		c.fail("the store's differs so much that it refuses every request", advice)
	case !e.HasClock:
		c.unsure("the store did not tell its own", "")
	case skew >= skewEnd:
		c.fail(found, advice)
	case skew > skewFine:
		c.warn(found, advice+" Prune and retention go by the store's.")
	default:
		c.note("agrees with this host's")
	}
}

// lookAtArchive opens the repository, and looks what of the environment is in it.
func (d *doctor) lookAtArchive(ctx context.Context, b *remote.Bucket) {
	limited, cancel := context.WithTimeout(remote.WithRetry(ctx, remote.Retry{For: storePatience}), lookLimit)
	defer cancel()
	c := d.add("repository", "repository")
	repo, err := repository.Open(limited, b)
	switch {
	case errors.Is(err, repository.ErrNone):
		c.warn("none yet", "Make one: bdbvault init -r "+d.Repository)
		return
	case err != nil:
		c.fault(err)
		return
	}
	c.note("made %s by %s", stamp(repo.Info.Created), repo.Info.Tool)
	if d.env == nil || d.survey == nil || d.log == nil || d.log.Files == 0 || manifest.CheckEnv(d.name) != nil {
		return
	}
	d.subject = aboutArchive
	d.compare(limited, repo)
}
