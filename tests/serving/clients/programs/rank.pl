# Perl's HTTP::Tiny. perl rank.pl MODE URL: reads "METHOD\tPATH\tBODY" lines, writes "STATUS\tBODY" lines.
use strict;
use warnings;
use HTTP::Tiny;

my ($mode, $url) = @ARGV;
my $http = HTTP::Tiny->new(timeout => 10);
while (my $line = <STDIN>) {
    chomp $line;
    my ($method, $path, $body) = split /\t/, $line, -1;
    my %options;
    if ($method eq "POST") {
        my $sent = $body;
        $options{headers} = {"Content-Type" => "application/json"};
        $options{content} = $mode eq "chunked" ? sub { my $part = $sent; $sent = ""; $part } : $body;
    }
    my $response = $http->request($method, $url . $path, \%options);
    print $response->{status}, "\t", $response->{content} // "", "\n";
}
