# Real HTTP, DNS and iperf3 traffic through one forwarding mode: nothing fails, nothing is corrupted.
#
#   scripts/lab tests/lab/traffic.sh dr|nat|fullnat
# shellcheck shell=bash

mode=$1
vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2 3; do
    server "s$n" "$mode" "10.0.0.1$n" "$vip"
    http_server "s$n"
    dns_server "s$n"
done
# Over UDP iperf3 answers from the address it is bound to, which dr wants to be the VIP.
if [[ $mode == dr ]]; then spawn s1 iperf3 --server --bind $vip; else spawn s1 iperf3 --server; fi
# shellcheck disable=SC2016
spawn s1 socat -u TCP-LISTEN:9000,fork,reuseaddr SYSTEM:"sha256sum >$LAB_DIR/uploaded"
{
    service "$mode" tcp $vip:80 wrr 10.0.0.11=3 10.0.0.12=2 10.0.0.13=1
    service "$mode" udp $vip:53 rr 10.0.0.11=1 10.0.0.12=1 10.0.0.13=1
    service "$mode" tcp $vip:5201 rr 10.0.0.11=1
    service "$mode" udp $vip:5201 rr 10.0.0.11=1
    service "$mode" tcp $vip:9000 rr 10.0.0.11=1
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

# 60 connections are ten rounds of 3 + 2 + 1.
answers=$(get c1 http://$vip/ 60)
shared "HTTP follows the weights" "s1 30, s2 20, s3 10" "$(tally <<<"$answers")"
if [[ $mode == fullnat ]]; then
    same "real servers see the local pool" "" "$(awk '{print $2}' <<<"$answers" | grep -v '^10\.0\.0\.20[0-3]$' || true)"
else
    same "real servers see the client" 198.51.100.11 "$(awk '{print $2}' <<<"$answers" | sort -u)"
fi
shared "DNS goes round" "s1 10, s2 10, s3 10" "$(who c1 $vip 30 | tally)"

load=$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections 10000 16 $vip)
same "10,000 short connections, failures" '{}' "$(jq_field failed <<<"$load")"
same "10,000 short connections, answers" 10000 "$(jq_field 'requests' 'sum(value.values())' <<<"$load")"

head -c 120000000 /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
same "120 MB down, unchanged" "$digest" "$(on c1 curl -sS --max-time 120 http://$vip/files/big | sha256sum)"
on c1 socat -u "FILE:$LAB_DIR/files/big" "TCP:$vip:9000"
within 20 test -s "$LAB_DIR/uploaded" || fail "the upload does not end"
same "120 MB up, unchanged" "$digest" "$(<"$LAB_DIR/uploaded")"

sent=$(on c1 iperf3 --client $vip --bytes 120M --json)
check "iperf3: 120 MB over TCP" test "$(jq_field end 'value["sum_received"]["bytes"] >= 120_000_000' <<<"$sent")" = True
sent=$(on c1 iperf3 --client $vip --bytes 120M --json --reverse)
check "iperf3: 120 MB over TCP, from the real server" \
    test "$(jq_field end 'value["sum_received"]["bytes"] >= 110_000_000' <<<"$sent")" = True
# A datagram that a socket or a queue of a busy machine has no room for says nothing of weir: what weir received of them it must
# have sent on, or have found the device full. An end that is gone already answers late ones by ICMP errors.
lost() { metrics | awk '/^weir_dropped_packets_total/ && !/"(tx_full|redirect_full)"/ { sum += $NF } END { print sum + 0 }'; }
before=$(lost)
sent=$(on c1 iperf3 --client $vip --udp --bitrate 100M --length 1400 --bytes 60M --json)
check "iperf3: 60 MB over UDP" \
    test "$(jq_field end 'value["sum"]["bytes"] >= 50_000_000 and value["sum"]["lost_percent"] < 100' <<<"$sent")" = True
same "… of which weir drops none" "$before" "$(lost)"

settled
