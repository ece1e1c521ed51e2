# plain.pl KIND HOME COUNT [hold]: writes records to an environment without a log, of Data Store ("ds") or Concurrent Data Store ("cds"), and closes it.
# With hold it leaves it open until its input ends.
use strict;
use warnings;
use BerkeleyDB;

my ($kind, $home, $count, $hold) = @ARGV;
my $flags = DB_CREATE | DB_INIT_MPOOL;
$flags |= DB_INIT_CDB if $kind eq 'cds';
my $env = BerkeleyDB::Env->new(-Home => $home, -Flags => $flags) or die "environment: $BerkeleyDB::Error";
my @open;
for my $spec (['tree.db', 'BerkeleyDB::Btree'], ['table.db', 'BerkeleyDB::Hash'], ['queue.db', 'BerkeleyDB::Queue', -Len => 40]) {
	my ($file, $class, @more) = @$spec;
	my $db = $class->new(-Filename => $file, -Flags => DB_CREATE, -Env => $env, @more) or die "$file: $BerkeleyDB::Error";
	for my $n (1 .. $count) {
		my $key = $class eq 'BerkeleyDB::Queue' ? $n : "key $n";
		$db->db_put($key, "value $n of $count") == 0 or die "$file: $BerkeleyDB::Error";
	}
	push @open, $db;
}
if ($hold) {
	$| = 1;
	print "ready\n";
	<STDIN>;
}
$_->db_close for @open;
