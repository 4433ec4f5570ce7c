# Live packets of a running weir: both sides of each in one file, told by tshark, and as many of them as tcpdump sees.
#
#   scripts/lab tests/lab/capture.sh MODE [FRONT [BACK]]
#
# MODE: dr, nat or fullnat. FRONT, BACK: the families of clients and real servers, 4 (default) or 6.
# shellcheck shell=bash

mode=$1
families "${2:-4}" "${3:-${2:-4}}"
client c1 "$(wan 11)"
vip=$(vip 80)
server s1 "$mode" "$(lan 11)" "$vip"
server s2 "$mode" "$(lan 12)" "$vip"
http_server s1
http_server s2
service "$mode" tcp "[$vip]:80" rr "[$(lan 11)]=1" "[$(lan 12)]=1" | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
# Next hops are known from here on.
get c1 "http://$(in_url "$vip")/" 4 >/dev/null
has_begun() { (($(grep -c 'packets are captured' "$LAB_DIR/weir.log") == begun)); }
begun=0

# capture FILE ARGUMENT…: begins, and waits until the workers have heard of it.
capture() {
    local file=$1
    shift
    ip netns exec weir "$WEIR" capture -w "$file" "$@" >"$LAB_DIR/capture.out" 2>"$LAB_DIR/capture.err" </dev/null &
    capture_pid=$!
    begun=$((begun + 1))
    within 20 has_begun || fail "no capture begins: $(cat "$LAB_DIR/capture.err")"
}
# ended: as by Ctrl-C.
ended() {
    kill -INT "$capture_pid"
    wait "$capture_pid" || fail "the capture ends with $?: $(cat "$LAB_DIR/capture.err")"
}
fields() { tshark -r "$1" -Y "$2" -T fields -E separator='|' "${@:3}" 2>"$LAB_DIR/tshark.err"; }
comments() { fields "$1" "${2:-frame}" -e frame.comment; }

# tcpdump, on the interface that weir's port is.
on weir tcpdump -i weir0 -U -w "$LAB_DIR/wan.pcap" tcp port 80 2>"$LAB_DIR/tcpdump.err" &
tcpdump_pid=$!
within 10 grep -q 'listening on' "$LAB_DIR/tcpdump.err" || fail "tcpdump does not listen"
capture "$LAB_DIR/web.pcapng" tcp port 80 and host "$vip"
refuse "a second capture waits for the end of the first" weir capture -w "$LAB_DIR/second.pcapng" icmp
check "and says of what that is" grep -q "host $vip" <<<"$(weir capture -w "$LAB_DIR/second.pcapng" icmp 2>&1)"
check "nothing is written by it" test ! -e "$LAB_DIR/second.pcapng"
same "requests are answered" "s1 4, s2 4" "$(get c1 "http://$(in_url "$vip")/" 8 | tally)"
# What tcpdump has seen is all there is.
sleep 0.5
ended
kill "$tcpdump_pid"
wait "$tcpdump_pid" || true
check "a summary is told" grep -Eq '^[0-9]+ packets matched of [0-9]+ looked at, [0-9]+ written$' "$LAB_DIR/capture.err"
same "nothing is lost" 1 "$(wc -l <"$LAB_DIR/capture.err")"
same "the file is for its owner alone" 600 "$(stat -c %a "$LAB_DIR/web.pcapng")"
web=$LAB_DIR/web.pcapng
same "the ports are interfaces" "lan wan" "$(fields "$web" frame -e frame.interface_name | sort -u | paste -sd ' ')"
same "as many frames of the wan as tcpdump sees" "$(tshark -r "$LAB_DIR/wan.pcap" 2>/dev/null | wc -l)" \
    "$(fields "$web" 'frame.interface_name == "wan"' -e frame.number | wc -l)"

# The first SYN: as it came in, and as it left.
first=$(comments "$web" 'tcp.flags.syn == 1 && tcp.flags.ack == 0' | head -n 1)
check "a client's first packet says what was decided" \
    grep -Eq "^packet [0-9]+, forward by lan: new connection, now in state syn_recv; service tcp:.*, real server .*, $mode; worker [01]" <<<"$first"
number=${first%%,*}
pair=$(fields "$web" "frame.comment contains \"$number,\"" -e frame.interface_name)
same "and is there twice, on both sides" "wan lan" "$(paste -sd ' ' <<<"$pair")"
check "its second frame is said to be sent for it" grep -q "^$number, sent by lan; service" <<<"$(comments "$web")"
if [[ $mode == fullnat || $mode == nat ]]; then
    check "replies are there, too" grep -Eq '^packet [0-9]+, sent by wan' <<<"$(comments "$web")"
fi

# By the address of a real server: a packet is found by what it becomes.
if [[ $mode != dr ]]; then
    capture "$LAB_DIR/real.pcapng" --count 1 host "$(lan 11)" and tcp
    get c1 "http://$(in_url "$vip")/" 4 >/dev/null
    wait "$capture_pid" || fail "a capture of one packet ends with $?: $(cat "$LAB_DIR/capture.err")"
    same "a packet is found by its real server" 2 "$(comments "$LAB_DIR/real.pcapng" | wc -l)"
    check "which it is not sent to by the client" grep -q 'wan' <<<"$(fields "$LAB_DIR/real.pcapng" frame -e frame.interface_name)"
fi

# A drop, with its reason.
nowhere=$(vip 99)
capture "$LAB_DIR/drop.pcapng" --snaplen 64 host "$nowhere"
on c1 ping -c 2 -i 0.2 -W 1 "$nowhere" >/dev/null || true
within 10 test -s "$LAB_DIR/drop.pcapng" || fail "nothing is written"
sleep 0.5
ended
check "a drop has its reason" grep -Eq '^packet [0-9]+, drop: not_for_us; The destination is no VIP' <<<"$(comments "$LAB_DIR/drop.pcapng")"
same "a frame is kept as far as was asked" 64 "$(fields "$LAB_DIR/drop.pcapng" frame -e frame.cap_len | sort -u)"

# Down a pipe.
on weir bash -c "'$WEIR' capture -w - --count 2 tcp port 80 2>'$LAB_DIR/pipe.err' | tshark -r - 2>/dev/null" >"$LAB_DIR/pipe.out" </dev/null &
pipe_pid=$!
begun=$((begun + 1))
within 20 has_begun || fail "no capture begins: $(cat "$LAB_DIR/pipe.err")"
get c1 "http://$(in_url "$vip")/" >/dev/null
wait "$pipe_pid" || fail "the pipe ends with $?"
check "tshark reads from a pipe" test "$(wc -l <"$LAB_DIR/pipe.out")" -ge 2

# A client that goes away ends its capture.
capture "$LAB_DIR/gone.pcapng" --seconds 3600 icmp or icmp6
kill -KILL "$capture_pid"
wait "$capture_pid" 2>/dev/null || true
check "after a reader that was killed there may be another" \
    within 20 weir capture -w "$LAB_DIR/next.pcapng" --seconds 1 icmp or icmp6
begun=$(grep -c 'packets are captured' "$LAB_DIR/weir.log")

refuse "a filter that is none is refused" weir capture -w "$LAB_DIR/none.pcapng" tcp prot 80
check "in libpcap's words" grep -q 'syntax error' <<<"$(weir capture -w "$LAB_DIR/none.pcapng" tcp prot 80 2>&1)"
refuse "one that loops is, too" weir capture -w "$LAB_DIR/none.pcapng" ip6 protochain 6
same "and what was captured does not show in weir's counters" 0 "$(metrics | awk '/^weir_panics_total/ { print $2 }')"

# The same step by step.
trace() {
    ip netns exec weir "$WEIR" trace "$@" >"$LAB_DIR/trace.out" 2>"$LAB_DIR/trace.err" </dev/null &
    trace_pid=$!
    begun=$((begun + 1))
    within 20 has_begun || fail "no trace begins: $(cat "$LAB_DIR/trace.err")"
    get c1 "http://$(in_url "$vip")/" >/dev/null
    wait "$trace_pid" || fail "the trace ends with $?: $(cat "$LAB_DIR/trace.err")"
}
trace --count 1 "tcp port 80 and dst host $vip"
check "a trace tells the port" grep -q 'port  *it came in by wan' "$LAB_DIR/trace.out"
check "the verdict" grep -q 'verdict  *forward by lan: new connection, now in state syn_recv' "$LAB_DIR/trace.out"
if [[ $mode == fullnat || $mode == nat ]]; then
    check "and what the packet became" grep -Eq 'translation  .*:80 becomes .*:80$' "$LAB_DIR/trace.out"
else
    check "and what the packet became" grep -q 'translation  .*' "$LAB_DIR/trace.out"
fi
same "of one packet" 1 "$(grep -c verdict "$LAB_DIR/trace.out")"
check "with a summary" grep -q '1 told$' "$LAB_DIR/trace.err"
trace --count 2 --json "tcp port 80 and dst host $vip"
same "JSON has a packet a line" "wan wan" \
    "$(/usr/bin/python3 -c 'import json, sys; print(*(json.loads(line)["received"]["port"] for line in sys.stdin))' <"$LAB_DIR/trace.out")"
