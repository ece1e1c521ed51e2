#!/bin/sh
# The whole story in under a minute: a live environment with writers at work is backed up, its log is shipped, its home is
# destroyed, and everything up to the shipped moment comes back. `make demo` builds what this needs and runs it.
set -eu

cd "$(dirname "$0")/.."
PATH=${BIN:-$PWD/bin}:$PATH
where=$(mktemp -d "${TMPDIR:-/tmp}/bdbvault-demo.XXXXXX")
home=$where/bank
export BDBVAULT_REPOSITORY="file://$where/repository" BDBVAULT_STATE_DIR="$where/state"

say()  { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }

# The writers end when the other end of their standard input does: with this script, however it ends.
mkfifo "$where/leash"
cleanup() {
	exec 9>&- || true
	wait 2>/dev/null || true
	rm -f "$where/leash"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

last_commit() { cat "$where"/writer.*.log | awk '$1 == "commit" && $2 > n { n = $2 } END { print n + 0 }'; }
wait_for_commit() {
	until [ "$(last_commit)" -ge "$1" ]; do
		kill -0 $writers 2>/dev/null || { echo "the writers ended:" >&2; cat "$where"/writer.*.log >&2; exit 1; }
		sleep 0.1
	done
}

say "1. An environment: accounts in a btree, a hash and a queue, a history, 64 MiB beside them"
dbworkload create --home "$home" --spec - <<SPEC
{ "DataDirs": ["data"], "LogFileSize": 4194304,
  "Databases": [ { "File": "archive/old.db", "Method": "btree", "PageSize": 8192, "Bytes": 50331648, "ValueSize": 1000 },
                 { "File": "index.db", "Method": "hash", "PageSize": 16384, "Checksum": true, "Bytes": 16777216, "ValueSize": 300 } ],
  "Bank": { "PageSize": 8192, "Checksum": true } }
SPEC
du -sh "$home" | awk '{ print $1 " in " $2 }'

say "2. Three processes transfer money between accounts; every commit is numbered"
writers=
for i in 0 1 2; do
	dbworkload bank-worker --home "$home" --worker $i --seed 1 --rate 300 <"$where/leash" >"$where/writer.$i.log" 2>&1 &
	writers="$writers $!"
done
exec 9>"$where/leash"
wait_for_commit 100
echo "commit $(last_commit) is done, and they go on"

say "3. A repository, and a full backup of the live environment"
echo "BDBVAULT_REPOSITORY=$BDBVAULT_REPOSITORY"
show bdbvault init
show bdbvault backup -h "$home"

say "4. Later: another full backup, after a checkpoint (-c), sends only what changed, and ship sends the new log"
wait_for_commit $(($(last_commit) + 300))
show bdbvault backup -c -h "$home"
wait_for_commit $(($(last_commit) + 500))
shipped=$(last_commit)
echo "commit $shipped is done; now its log is shipped:"
show bdbvault ship -h "$home"
show bdbvault list

say "5. Disaster: the writers are killed, the home is gone"
wait_for_commit $((shipped + 1))
# shellcheck disable=SC2086 # a list of process numbers
kill -9 $writers
show rm -rf "$home"

say "6. Restore"
show bdbvault restore --to "$home"

say "7. Is it right?"
for db in bank.db bank-history.db bank-accounts-0.db bank-accounts-1.db bank-accounts-2.db archive/old.db index.db; do
	show db5.3_verify -q "$home/data/$db"
done
dbworkload check-bank --json --home "$home" >"$where/report.json"
restored=$(tr ',{' '\n\n' <"$where/report.json" | sed -n 's/^"LastCommit"://p')
if [ "$restored" -lt "$shipped" ]; then
	echo "commit $shipped was shipped, but only $restored came back" >&2
	exit 1
fi
echo "No money came or went, and the history has commits 1 to $restored without a gap;"
echo "commit $shipped was the last before the log was shipped."

say "Everything is in $where:"
echo "  repository/   objects as a bucket would hold them      bank/   the restored home"
echo "Try: bin/bdbvault list -r $BDBVAULT_REPOSITORY"
echo "Remove it with: rm -r $where"
