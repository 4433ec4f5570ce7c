# Real HTTP, DNS and iperf3 traffic through one forwarding mode: nothing fails, nothing is corrupted.
#
#   scripts/lab tests/lab/traffic.sh dr|nat|fullnat [FRONT [BACK [MEGABYTES [CONNECTIONS]]]]
#
# FRONT, BACK: the families of clients and of real servers, 4 or 6 (default: 4, and as the front). MEGABYTES of each file and
# measurement (120; 20 at least), so many short connections (10000).
# shellcheck shell=bash

mode=$1
families "${2:-4}" "${3:-${2:-4}}"
megabytes=${4:-120} connections=${5:-10000}
vip=$(vip 80) reals=()
url=http://$(in_url "$vip")
client c1 "$(wan 11)"
for n in 1 2 3; do
    reals+=("[$(lan "1$n")]")
    server "s$n" "$mode" "$(lan "1$n")" "$vip"
    http_server "s$n"
    dns_server "s$n"
done
# Over UDP iperf3 answers from the address it is bound to, which dr wants to be the VIP.
if [[ $mode == dr ]]; then spawn s1 iperf3 --server --bind "$vip"; else spawn s1 iperf3 --server; fi
# shellcheck disable=SC2016
spawn s1 socat -u TCP6-LISTEN:9000,ipv6only=0,fork,reuseaddr SYSTEM:"sha256sum >$LAB_DIR/uploaded"
{
    service "$mode" tcp "[$vip]:80" wrr "${reals[0]}=3" "${reals[1]}=2" "${reals[2]}=1"
    service "$mode" udp "[$vip]:53" rr "${reals[@]/%/=1}"
    service "$mode" tcp "[$vip]:5201" rr "${reals[0]}=1"
    service "$mode" udp "[$vip]:5201" rr "${reals[0]}=1"
    service "$mode" tcp "[$vip]:9000" rr "${reals[0]}=1"
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"

# 60 connections are ten rounds of 3 + 2 + 1.
answers=$(get c1 "$url/" 60)
shared "HTTP follows the weights" "s1 30, s2 20, s3 10" "$(tally <<<"$answers")"
if [[ $mode == fullnat ]]; then
    same "real servers see the local pool" "" "$(awk '{print $2}' <<<"$answers" | grep -v "^$(lan 20)[0-3]$" || true)"
else
    same "real servers see the client" "$(wan 11)" "$(awk '{print $2}' <<<"$answers" | sort -u)"
fi
shared "DNS goes round" "s1 10, s2 10, s3 10" "$(who c1 "$vip" 30 | tally)"

load=$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections "$connections" 16 "$(in_url "$vip")")
same "$connections short connections, failures" '{}' "$(jq_field failed <<<"$load")"
same "$connections short connections, answers" "$connections" "$(jq_field 'requests' 'sum(value.values())' <<<"$load")"

head -c "${megabytes}000000" /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
same "$megabytes MB down, unchanged" "$digest" "$(on c1 curl -sS --max-time 120 "$url/files/big" | sha256sum)"
on c1 socat -u "FILE:$LAB_DIR/files/big" "TCP:$(in_url "$vip"):9000"
within 20 test -s "$LAB_DIR/uploaded" || fail "the upload does not end"
same "$megabytes MB up, unchanged" "$digest" "$(<"$LAB_DIR/uploaded")"

# What is still on its way when iperf3 ends is not counted as received.
received="value['sum_received']['bytes'] >= $((megabytes - 10))_000_000"
sent=$(on c1 iperf3 --client "$vip" --bytes "${megabytes}M" --json)
check "iperf3: $megabytes MB over TCP" test "$(jq_field end "$received" <<<"$sent")" = True
sent=$(on c1 iperf3 --client "$vip" --bytes "${megabytes}M" --json --reverse)
check "iperf3: $megabytes MB over TCP, from the real server" \
    test "$(jq_field end "$received" <<<"$sent")" = True
# A datagram that a socket or a queue of a busy machine has no room for says nothing of weir: what weir received of them it must
# have sent on, or have found the device full. An end that is gone already answers late ones by ICMP errors.
lost() { metrics | awk '/^weir_dropped_packets_total/ && !/"(tx_full|redirect_full)"/ { sum += $NF } END { print sum + 0 }'; }
for way in "" --reverse; do
    before=$(lost)
    sent=$(on c1 iperf3 --client "$vip" --udp --bitrate 100M --length 1400 --bytes "$((megabytes / 2))M" --json ${way:+$way})
    check "iperf3${way:+ $way}: $((megabytes / 2)) MB over UDP" \
        test "$(jq_field end "value['sum']['bytes'] >= $((megabytes * 5 / 12))_000_000 and value['sum']['lost_percent'] < 100" <<<"$sent")" = True
    same "… of which weir drops none" "$before" "$(lost)"
done

settled
