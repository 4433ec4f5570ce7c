# `scripts/lab shell [CONFIG]`: a client, three real servers, a running weir, and a shell among them.
# shellcheck shell=bash

vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2 3; do
    server "s$n" fullnat "10.0.0.1$n"
    http_server "s$n"
    dns_server "s$n"
done
file=${1:-$LAB_DIR/weir.toml}
if [[ -z ${1:-} ]]; then
    {
        service fullnat tcp $vip:80 wrr 10.0.0.11=3 10.0.0.12=2 10.0.0.13=1
        service fullnat udp $vip:53 rr 10.0.0.11=1 10.0.0.12=1 10.0.0.13=1
    } | config "$file"
fi
weir_start "$file"
say "weir runs with $file; its log is $LAB_DIR/weir.log. To try:"
say "  get c1 http://$vip/ 12 | tally      12 requests of the client, by real server"
say "  who c1 $vip 6                       6 DNS queries"
say "  weir show services                  what weir counted"
say "  on s1 COMMAND, on c1 COMMAND        in a namespace: c1, s1, s2, s3, weir"
say "  exit                                everything here is gone then"
export -f on get who tally weir metrics
PS1='lab# ' bash --norc -i || true
