# weir is killed, and its connections go on when it is there again: with as many workers, with others, and with another file.
#
#   scripts/lab tests/lab/restart.sh dr|nat|fullnat [CONNECTIONS]
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

mode=$1 count=${2:-300}
vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2 3; do
    server "s$n" "$mode" "10.0.0.1$n" $vip
    on "s$n" sysctl -q -w net.core.somaxconn=4096
    spawn "s$n" /usr/bin/python3 "$LAB_TOP/tests/lab/talk.py" serve "s$n" 80
done
on c1 sysctl -q -w net.ipv4.ip_local_port_range="2000 65000"

# write WORKERS REAL…
write() {
    local workers=$1
    shift
    service "$mode" tcp $vip:80 rr "$@" | LAB_WORKERS=$workers config "$LAB_DIR/services.toml"
    # A table of the usual size takes a build without optimisation seconds to read.
    { printf 'connections_file = "%s"\nlimits.connections = 50000\n' "$LAB_DIR/connections" && cat "$LAB_DIR/services.toml"; } >"$LAB_DIR/weir.toml"
}
reals=(10.0.0.11=1 10.0.0.12=1 10.0.0.13=1)
write 1 "${reals[@]}"
weir_start "$LAB_DIR/weir.toml"

spawn c1 /usr/bin/python3 "$LAB_TOP/tests/lab/talk.py" talk "$count" $vip 80 "$LAB_DIR"
within 60 test -e "$LAB_DIR/open" || fail "the connections are not made: $(cat "$LAB_DIR/c1.log")"
echo "open: $(<"$LAB_DIR/open")"

# ask: how the connections fare; what is found is in $told.
ask() {
    touch "$LAB_DIR/ask"
    within 90 test -e "$LAB_DIR/told" || fail "nothing is heard of the connections: $(cat "$LAB_DIR/c1.log")"
    told=$(<"$LAB_DIR/told")
    rm "$LAB_DIR/told"
}
of() { jq_field "$@" <<<"$told"; }
# taken NAME: a number of the line that tells what was taken over, the last one.
taken() { grep 'connections from before the restart go on' "$LAB_DIR/weir.log" | tail -n1 | grep -o "$1=[0-9]*" | cut -d= -f2; }
# again WHAT WORKERS BROKEN REAL…: weir ends as it was told, and begins with so many workers and real servers.
again() {
    local what=$1 workers=$2 expected=$3 before
    shift 3
    write "$workers" "$@"
    before=$(date +%s%N)
    weir_start "$LAB_DIR/weir.toml"
    echo "$what: ready after $((($(date +%s%N) - before) / 1000000)) ms; taken over: $(taken connections) in $(taken took_ms) ms"
    ask
    echo "$what: $told"
    same "$what: broken" "$expected" "$(of broken)"
}
dies() { weir_stop KILL || true; }

ask
same "before: broken" 0 "$(of broken)"
each=$(of servers 'value["s3"]')
dies
again "kill -9" 1 0 "${reals[@]}"
same "all were taken over" "$count" "$(taken connections)"
active() { weir show reals --json | /usr/bin/python3 -c 'import json, sys
print(sum(row["active_connections"] for row in json.load(sys.stdin)))'; }
same "… and are counted" "$count" "$(active)"
dies
again "kill -9, then two workers" 2 0 "${reals[@]}"
dies
again "kill -9, then three" 3 0 "${reals[@]}"
status=0
weir_stop || status=$?
same "SIGTERM: exit status" 0 "$status"
again "SIGTERM" 1 0 "${reals[@]}"
dies
again "kill -9, then without a real server" 1 "$each" "${reals[@]:0:2}"
ask
same "… and all others go on" 0 "$(of broken)"
check "new connections are made" on c1 timeout 5 bash -c "exec 3<>/dev/tcp/$vip/80"
settled
