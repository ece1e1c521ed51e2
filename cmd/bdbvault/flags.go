package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bdbvault/archive"
	"bdbvault/restore"
)

// Names of flags that the code asks for.
const (
	flagRepository     = "repository"
	flagEndpoint       = "endpoint"
	flagS3Client       = "s3-client"
	flagPathStyle      = "path-style"
	flagCAFile         = "ca-file"
	flagRegion         = "region"
	flagProfile        = "profile"
	flagRetryFor       = "retry-for"
	flagHome           = "home"
	flagEnv            = "env"
	flagStateDir       = "state-dir"
	flagPassword       = "password"
	flagPasswordFile   = "password-file"
	flagCheckpoint     = "checkpoint"
	flagBulkSafe       = "bulk-safe"
	flagReadAll        = "read-all"
	flagAllowDamaged   = "allow-damaged"
	flagOffline        = "offline"
	flagNewEnvironment = "new-environment"
	flagTo             = "to"
	flagDelta          = "delta"
	flagMapDir         = "map-dir"
	flagBackup         = "backup"
	flagVerify         = "verify"
	flagEngine         = "engine"
	flagDBBin          = "db-bin"
	flagQuiet          = "quiet"
	flagJSON           = "json"
	flagVerbose        = "verbose"
	flagConfig         = "config"
)

// passwordVariable is read by hand, so that the help never shows its value and -P can be told from it.
const passwordVariable = "BDBVAULT_DB_PASSWORD"

// Groups of flags in the help.
const (
	inRepository  = "Repository"
	inEnvironment = "Environment"
	inEngine      = "Engine"
	inOutput      = "Output"
	inTarget      = "Target"
)

// variables are the environment variables of a flag: its own, then those of others that say the same.
func variables(flag string, others ...string) []string {
	own := "BDBVAULT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
	return append([]string{own}, others...)
}

func stringFlag(group, name, usage string, others ...string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Category: group, Usage: usage, EnvVars: variables(name, others...)}
}

func boolFlag(group, name, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Category: group, Usage: usage, EnvVars: variables(name), DisableDefaultText: true}
}

func short(f cli.Flag, alias string) cli.Flag {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Aliases = []string{alias}
	case *cli.BoolFlag:
		f.Aliases = []string{alias}
	}
	return f
}

func repositoryFlags() []cli.Flag {
	return []cli.Flag{
		short(stringFlag(inRepository, flagRepository, "`URL` of the repository: file:///dir or s3://bucket/prefix"), "r"),
		stringFlag(inRepository, flagEndpoint, "`URL` of an S3-compatible store that is not AWS (default: as the AWS tools find it, AWS_ENDPOINT_URL)"),
		stringFlag(inRepository, flagS3Client, "`NAME` of the client for s3://: aws or minio (default: aws, with an endpoint minio)"),
		boolFlag(inRepository, flagPathStyle, "put the bucket into the path, not into the host name"),
		stringFlag(inRepository, flagCAFile, "`FILE` with certificates (PEM) to trust beside the system's"),
		stringFlag(inRepository, flagRegion, "`REGION` of the bucket (default: as the AWS tools find it)"),
		stringFlag(inRepository, flagProfile, "`NAME` of the profile in the AWS configuration"),
		&cli.DurationFlag{Name: flagRetryFor, Category: inRepository, Value: 5 * time.Minute, EnvVars: variables(flagRetryFor),
			Usage: "`DURATION` to go on trying while the store does not answer"},
		stringFlag(inRepository, flagStorageClass, "`CLASS` of S3 for packs and log, or for each kind of object its own: packs=CLASS,maps=CLASS,log=CLASS,tails=CLASS,manifests=CLASS (default: the bucket's)"),
		stringFlag(inRepository, flagUploadRate, "`RATE` of sending to the store, at most, in bytes a second: 10M or 10MiB"),
		stringFlag(inRepository, flagDownloadRate, "`RATE` of reading from the store, at most"),
		stringFlag(inRepository, flagConfig, "`FILE` (YAML) with settings for what neither flags nor variables say"),
	}
}

func outputFlags() []cli.Flag {
	return []cli.Flag{
		short(boolFlag(inOutput, flagQuiet, "print errors only"), "q"),
		boolFlag(inOutput, flagJSON, "print one JSON object to standard output (watch: one a line for each event)"),
		short(boolFlag(inOutput, flagVerbose, "name each file as it is done"), "v"),
	}
}

func homeFlag() cli.Flag {
	return short(stringFlag(inEnvironment, flagHome, "home `DIRECTORY` of the environment", "DB_HOME"), "h")
}

func envFlag(usage string) cli.Flag { return stringFlag(inEnvironment, flagEnv, usage) }

func passwordFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: flagPassword, Aliases: []string{"P"}, Category: inEnvironment,
			Usage: "`PASSWORD` of an encrypted environment; other users can see it here, better is --password-file [$" + passwordVariable + "]"},
		stringFlag(inEnvironment, flagPasswordFile, "`FILE` whose first line is the password"),
	}
}

func stateFlag() cli.Flag {
	return stringFlag(inEnvironment, flagStateDir,
		"`DIRECTORY` for what speeds up the next run (default: $XDG_STATE_HOME/bdbvault, for root /var/lib/bdbvault)")
}

func engineFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag(inEngine, flagEngine, "`NAME` of the engine: libdb (built in) or dbutil (the db_* programs)"),
		stringFlag(inEngine, flagDBBin, "`DIRECTORY` of the db_* programs (default: PATH)"),
	}
}

func join(groups ...[]cli.Flag) (all []cli.Flag) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

// commands are all commands that a person may call.
func (p *program) commands() []*cli.Command {
	return []*cli.Command{
		{Name: "init", Usage: "make a repository", Action: p.deed(initRepository),
			Flags: join(repositoryFlags(), outputFlags())},
		{Name: "backup", Usage: "take a full backup of a live environment; unchanged data is not sent again", Action: p.deed(backup),
			Flags: join(backupFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		{Name: "ship", Usage: "send the log written since the last backup or ship", Action: p.deed(ship),
			Flags: join([]cli.Flag{homeFlag(), envFlag("`NAME` of the environment in the repository (default: the home's last part)"), stateFlag()},
				lockFlags(), passwordFlags(), repositoryFlags(), outputFlags())},
		{Name: "list", Usage: "show environments, backups and shipped log", Action: p.answer(reading(list)),
			Flags: join([]cli.Flag{envFlag("show only environment `NAME`"), asOfFlag()}, repositoryFlags(), outputFlags())},
		{Name: "show", Usage: "show everything about one backup", ArgsUsage: "ID", Action: p.answer(reading(show), "ID"),
			Flags: join([]cli.Flag{envFlag("`NAME` of the backup's environment (default: look in all)"), asOfFlag()}, repositoryFlags(), outputFlags())},
		{Name: "plan", Usage: "show what a restore would do; touches nothing", Action: p.answer(reading(planRestore)),
			Flags: join(targetFlags(), planFlags(), []cli.Flag{envFlag("`NAME` of the environment (default: the only one there is)"), stateFlag(), asOfFlag()},
				passwordFlags(), repositoryFlags(), outputFlags())},
		{Name: "restore", Usage: "bring an environment back, recovered and checked", Action: p.deed(reading(restoreHome)),
			Flags: join(restoreFlags(), targetFlags(), []cli.Flag{stateFlag(), asOfFlag()}, passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		{Name: commandWatch, Usage: "keep environments protected: ship as the log grows, take full backups when they are due", Action: p.stream(watch),
			Flags: join(watchFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		{Name: commandConfig, Usage: "check a configuration file, and print what watch makes of it", ArgsUsage: "check", Action: p.answer(checkConfig, "check"),
			Flags: join(configFlags(), watchFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		p.standbyCommand(),
		{Name: "prune", Usage: "remove backups and log that a policy does not keep, in two phases", Action: p.deed(prune),
			Flags: join(pruneFlags(), repositoryFlags(), outputFlags())},
		{Name: "verify", Usage: "look whether all that was stored is there and whole", Action: p.deed(reading(verify)),
			Flags: join(verifyFlags(), []cli.Flag{asOfFlag()}, repositoryFlags(), outputFlags())},
		{Name: "doctor", Usage: "look whether an environment can be backed up well, and try a store out", Action: p.answer(doctorCommand),
			Flags: join(doctorFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		{Name: commandDrill, Usage: "rehearse a restore: to scratch, recovered, every database verified, removed again, and the result stored", Action: p.deed(reading(drill)),
			Flags: join(drillFlags(), []cli.Flag{asOfFlag()}, targetFlags(), passwordFlags(), engineFlags(), repositoryFlags(), outputFlags())},
		{Name: "hold", Usage: "keep one backup from every prune", ArgsUsage: "ID", Action: p.deed(hold, "ID"),
			Flags: join(holdFlags(), repositoryFlags(), outputFlags())},
		{Name: "release", Usage: "end a hold", ArgsUsage: "ID", Action: p.deed(release, "ID"),
			Flags: join(holdFlags(), repositoryFlags(), outputFlags())},
		hotbackupCommand(),
		{Name: "version", Usage: "print versions", Action: p.answer(showVersion), Flags: join(engineFlags(), outputFlags())},
	}
}

func backupFlags() []cli.Flag {
	return join([]cli.Flag{
		homeFlag(),
		envFlag("`NAME` for the environment in the repository (default: the home's last part)"),
		stateFlag(),
		short(boolFlag(inEnvironment, flagCheckpoint, "let the engine make a checkpoint first, so that less log is needed"), "c"),
		stringFlag(inEnvironment, flagReadRate, "`RATE` of reading the environment's databases, at most, in bytes a second: 50M or 50MiB"),
		boolFlag(inEnvironment, flagReadAll, "read also files that have not changed since the last backup"),
		boolFlag(inEnvironment, flagOffline, "nobody has the environment open, which is checked: needed for environments without a log"),
		boolFlag(inEnvironment, flagAllowDamaged, "go on when pages are damaged on this disk, and record which"),
		boolFlag(inEnvironment, flagNewEnvironment, "the name belonged to another environment: begin afresh beside its backups"),
		&cli.StringFlag{Name: flagBulkSafe, Category: inEngine, Value: archive.BulkAuto, EnvVars: variables(flagBulkSafe),
			Usage: "`MODE` of the hot-backup flag for bulk transactions: auto (if the environment can be joined), require or off (never join it)"},
	}, lockFlags())
}

func restoreFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag(inEnvironment, flagTo, "`DIRECTORY` to restore to: a new or an empty one, or one that an interrupted restore left"),
		boolFlag(inEnvironment, flagDelta, "make use of the environment that is in the directory already: fetch what differs, remove what the backup lacks"),
		&cli.StringSliceFlag{Name: flagMapDir, Category: inEnvironment, EnvVars: variables(flagMapDir),
			Usage: "`OLD=NEW`: what the environment named by the absolute path OLD, or below it, goes to NEW; may be given more than once"},
		envFlag("`NAME` of the environment (default: the only one there is)"),
		&cli.StringFlag{Name: flagVerify, Category: inEngine, Value: restore.VerifyAuto, EnvVars: variables(flagVerify),
			Usage: "`WHEN` to verify the structure of every restored database: always, never or auto (up to a size)"},
	}
}
