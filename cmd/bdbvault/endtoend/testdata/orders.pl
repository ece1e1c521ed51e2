#!/usr/bin/perl
# A small order book, as somebody would write it against Perl's BerkeleyDB: every order is one transaction over three databases.
#
#   orders.pl create HOME
#   orders.pl work HOME     takes orders until it is told to end, then prints the number of the last
#   orders.pl check HOME    prints how many orders there are; fails unless totals and journal say the same
use strict;
use warnings;
use BerkeleyDB;

my ($command, $home) = @ARGV;
die "usage: orders.pl create|work|check HOME\n" unless defined $home && $command =~ /^(create|work|check)$/;

my $env = BerkeleyDB::Env->new(
	-Home     => $home,
	-Flags    => DB_CREATE | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_MPOOL | DB_INIT_LOCK,
	-LockDetect => DB_LOCK_DEFAULT,
) or die "environment $home: $BerkeleyDB::Error\n";

my @common = (-Env => $env, -Flags => DB_AUTO_COMMIT | ($command eq 'check' ? 0 : DB_CREATE));
my $orders  = BerkeleyDB::Btree->new(@common, -Filename => 'orders.db', -Pagesize => 4096)                or die "orders.db: $BerkeleyDB::Error\n";
my $totals  = BerkeleyDB::Hash->new(@common, -Filename => 'totals.db')                                    or die "totals.db: $BerkeleyDB::Error\n";
my $journal = BerkeleyDB::Btree->new(@common, -Filename => 'journal.db', -Property => DB_DUP)             or die "journal.db: $BerkeleyDB::Error\n";

sub ok { my ($status, $what) = @_; die "again\n" if $status == DB_LOCK_DEADLOCK; die "$what: $status\n" if $status }

# take stores the next order; its number is given out by the record "next", so that there never is a gap.
sub take {
	my $txn = $env->txn_begin() or die "txn_begin: $BerkeleyDB::Error\n";
	my @with = $txn->Txn($orders, $totals, $journal);
	my $number = 0;
	my $done = eval {
		my $status = $totals->db_get('next', $number, DB_RMW);
		$number = 1 if $status == DB_NOTFOUND;
		ok($status, 'next') unless $status == DB_NOTFOUND;
		my ($customer, $amount) = ('customer ' . $number * 7919 % 101, $number % 97 + 1);
		ok($orders->db_put(sprintf('%010d', $number), "$customer:$amount:" . 'x' x ($number % 900)), 'order');
		my $sum = 0;
		$status = $totals->db_get($customer, $sum, DB_RMW);
		ok($status, 'total') unless $status == DB_NOTFOUND;
		ok($totals->db_put($customer, $sum + $amount), 'total');
		ok($journal->db_put($customer, sprintf('%010d', $number)), 'journal');
		ok($totals->db_put('next', $number + 1), 'next');
		1;
	};
	my $why = $@;
	if (!$done) {
		$txn->txn_abort();
		die $why unless $why eq "again\n";
		return 0;
	}
	$txn->txn_commit() == 0 or die "commit of order $number: $BerkeleyDB::Error\n";
	return $number;
}

sub work {
	my ($end, $last) = (0, 0);
	local $SIG{TERM} = sub { $end = 1 };
	$| = 1;
	print "working\n";
	while (!$end) {
		$last = take() || $last;
		$env->txn_checkpoint(0, 0, 0) if $last % 50 == 0;
		select(undef, undef, undef, 0.002);
	}
	print "$last\n";
}

sub check {
	my ($key, $value, $count, %sum) = ('', '', 0);
	my $cursor = $orders->db_cursor();
	while ($cursor->c_get($key, $value, DB_NEXT) == 0) {
		$count++;
		die "order $count is missing, there is $key\n" unless $key == $count;
		my ($customer, $amount, $padding) = split /:/, $value, 3;
		die "order $key is not whole\n" unless length $padding == $key % 900 && $amount == $key % 97 + 1;
		$sum{$customer} += $amount;
		die "order $key is not in the journal\n" if $journal->db_get($customer, my $found = $key, DB_GET_BOTH);
	}
	while (my ($customer, $want) = each %sum) {
		die "no total of $customer\n" if $totals->db_get($customer, my $got);
		die "the total of $customer is $got, the orders' sum is $want\n" unless $got == $want;
	}
	print "$count\n";
}

if    ($command eq 'work')  { work() }
elsif ($command eq 'check') { check() }
undef $_ for $orders, $totals, $journal;
