# SPDX-License-Identifier: MIT
"""perl fills hashes and arrays, sorts and joins.

The small form has fewer rows with longer notes: as many pages, touched less often.
"""
NEEDS = ["perl"]

PROGRAM = r"""
my ($n, $times) = @ARGV; my $x = 12345; my (%by, @rows);
for my $i (1 .. $n) {
	$x = ($x * 69069 + 1) % 4294967296;
	my $key = sprintf "%08x", $x;
	push @{$by{substr $key, 0, 4}}, $key;
	push @rows, { id => $i, key => $key, note => "row $i of $n" x $times };
}
my $sum = 0;
for my $row (sort { $a->{key} cmp $b->{key} || $a->{id} <=> $b->{id} } @rows) {
	$sum = ($sum * 31 + $row->{id} + length $row->{note}) % 1000000007;
}
print "$sum\n";
print join(",", map { "$_:" . scalar @{$by{$_}} } sort keys %by), "\n";
print join("", map { join "", reverse @$_ } @by{sort keys %by}), "\n";
"""


def run(t):
    count, times = (1500000, 1) if t.full else (25000, 120)
    return list(t.run(["perl", "-e", PROGRAM, str(count), str(times)],
                      env={"PERL_HASH_SEED": "0"}))
