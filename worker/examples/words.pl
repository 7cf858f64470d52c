#!/usr/bin/perl
# Counts the words of a text, most frequent first. It stays, and speaks netstrings:
#   hornpipe serve 6660 6661 --lines --framing netstring -- perl worker/examples/words.pl
#   hornpipe req 6660 'to be or not to be'
use strict;
use warnings;

binmode STDIN;
binmode STDOUT;
$| = 1;                                            # an answer must not wait in a buffer

while (defined(my $digit = getc)) {                # the length in digits, up to a colon
    my $length = '';
    until ($digit eq ':') { $length .= $digit; $digit = getc }
    read(STDIN, my $text, $length);
    getc;                                          # the comma
    my %count;
    $count{lc $1}++ while $text =~ /([\w']+)/g;
    my @words = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    my $reply = join '', map { "$count{$_} $_\n" } @words;
    print length $reply, ':', $reply, ',';
}
