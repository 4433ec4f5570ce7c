# Health checks: a dead real server is out of rotation within interval × fall + timeout, and no request fails beyond that.
#
#   scripts/lab tests/lab/health.sh dr|nat|fullnat [FRONT [BACK [companion]]]
#
# FRONT, BACK: the families of clients and of real servers, 4 or 6 (default: 4, and as the front). s1 and s2 are nginx and dnsmasq,
# s3 is a server that can be told to misbehave. The host has a leg of its own in the real servers' subnet; with `companion` it has
# weir's port there, and no other way.
# shellcheck shell=bash

mode=$1
behind=${3:-${2:-4}}
families "${2:-4}" "$behind"
vip=$(vip 80)
client c1 "$(wan 11)"
for n in 1 2 3; do server "s$n" "$mode" "$(lan "1$n")" "$vip"; done
http_server s1
http_server s2
dns_server s1
dns1=$!
dns_server s2
echo ok >"$LAB_DIR/mood"
moody() { spawn s3 /usr/bin/python3 "$LAB_TOP/tests/lab/moody.py" s3 "$LAB_DIR/mood"; }
moody
length=24
((behind != 6)) || length=64
if [[ ${4:-} == companion ]]; then
    # The bridge is in the same namespace, and must not answer for the companion's address.
    on weir sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv6.conf.default.disable_ipv6=0
else
    address weir lan "$(lan 250)/$length"
    within 5 settled_addresses weir || fail "the host's address stays tentative"
fi

# 500 ms × 2 + 300 ms, and what a loaded machine needs to take it over.
window=1.5
checked() { sed "s/^scheduler = .*/&\nhealth = \"$1\"/"; }
reals=("[$(lan 11)]=1" "[$(lan 12)]=1" "[$(lan 13)]=1")
{
    cat <<'EOF'

[health.web]
type = "http"
interval = "500ms"
timeout = "300ms"
rise = 2
fall = 2
port = 80
request = { path = "/", status = 200 }

[health.names]
type = "dns"
interval = "500ms"
timeout = "300ms"
fall = 2
request = { name = "who.lab", type = "TXT" }

[health.there]
type = "icmp"
interval = "500ms"
timeout = "300ms"
fall = 2
EOF
    service "$mode" tcp "[$vip]:80" rr "${reals[@]}" | checked web
    service "$mode" udp "[$vip]:53" rr "${reals[@]:0:2}" | checked names
    service "$mode" tcp "[$vip]:81" rr "${reals[@]:0:2}" | checked there
    service "$mode" tcp "[$vip]:82" rr "${reals[@]}" | checked web
} | config "$LAB_DIR/weir.toml"
[[ ${4:-} != companion ]] || sed -i 's/^device = "net_tap1.*/&\ncompanion = "host1"/' "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"

# state PORT SERVER: what `weir show health` says of that real server in the service of that port.
state() {
    local protocol=tcp
    [[ $1 != 53 ]] || protocol=udp
    weir show health --json --service "$protocol:$(in_url "$vip"):$1" | /usr/bin/python3 -c '
import json, sys
for row in json.load(sys.stdin):
    if row["real"].rsplit(":", 1)[0].strip("[]") == sys.argv[1]:
        print(row["state"])' "$(lan "1${2#s}")"
}
is() { [[ $(state "$1" "$2") == "$3" ]]; }
for n in 1 2 3; do within 10 is 80 "s$n" up || fail "s$n is not up: $(weir show health)"; done
for n in 1 2; do within 10 is 53 "s$n" up || fail "dnsmasq of s$n is not up: $(weir show health)"; done
for n in 1 2; do within 10 is 81 "s$n" up || fail "s$n does not answer ping: $(weir show health)"; done
good "every real server is up"
# Checks go another way than packets: weir itself may have to find its next hops yet.
found() { weir show neighbours | grep -F "$(lan "1$1") " | grep -qi reachable; }
for n in 1 2 3; do within 10 found "$n" || fail "weir does not find s$n: $(weir show neighbours)"; done
same "two services share their checks" 7 "$(metrics | awk '$1 == "weir_health_checks_configured" { print $2 }')"

now() { date +%s.%N; }
# dies SERVER WHAT COMMAND…: has it die by the command in the middle of requests, and come back by `back`, which the scenario sets.
dies() {
    local server=$1 what=$2 died returned asking
    shift 2
    rm -f "$LAB_DIR/stop"
    on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/window.py" ask "$LAB_DIR/stop" "$vip" 80 "$LAB_DIR/results" &
    asking=$!
    sleep 1.2
    died=$(now)
    "$@"
    sleep "$window"
    is 80 "$server" down || fail "$what: $server is $(state 80 "$server"): $(weir show health)"
    is 82 "$server" down || fail "$what: the other service does not know of it"
    sleep 1.5
    returned=$(now)
    revive
    within 5 is 80 "$server" up || fail "$what: $server does not come back: $(weir show health)"
    sleep 1
    touch "$LAB_DIR/stop"
    wait "$asking"
    check "$what: no request fails beyond $window s" /usr/bin/python3 "$LAB_TOP/tests/lab/window.py" judge "$LAB_DIR/results" \
        "$server" "$died" "$window" "$returned"
}

revive() { http_server s2; }
nginx_of() { pgrep -f "nginx.*$LAB_DIR/nginx.$1/nginx.conf"; pgrep -P "$(pgrep -o -f "nginx.*$LAB_DIR/nginx.$1/nginx.conf")"; }
kill_nginx() { nginx_of s2 | sort -u | xargs kill -KILL; }
dies s2 "kill -9" kill_nginx
revive() { nginx_of s1 | sort -u | xargs kill -CONT; }
stop_nginx() { nginx_of s1 | sort -u | xargs kill -STOP; }
dies s1 "SIGSTOP" stop_nginx
revive() { echo ok >"$LAB_DIR/mood"; }
mood() { echo "$1" >"$LAB_DIR/mood"; }
dies s3 "answers 500" mood 500
dies s3 "accepts, and never answers" mood hang

reason() { weir show health --service "tcp:$(in_url "$vip"):80"; }
mood 500
within 5 is 80 s3 down || fail "s3 is not down"
check "the reason is shown in words" grep -q 'down .* status 500' <<<"$(reason)"
check "… and logged, with the services" grep -q "real server is down: status 500.*services=\"tcp:$(in_url "$vip" | sed 's/[][]/\\&/g'):80, tcp:" "$LAB_DIR/weir.log"
check "weir_real_up follows" test "$(metrics | grep '^weir_real_up' | grep "$(lan 13)" | awk '{ print $2 }' | sort -u)" = 0
reloaded() { weir reload "$LAB_DIR/weir.toml"; }
before=$(metrics | awk '$1 == "weir_health_changes_total" { print $2 }')
check "a reload" reloaded
same "… keeps what is known" down "$(state 80 s3)"
same "… and nothing flaps" "$before" "$(metrics | awk '$1 == "weir_health_changes_total" { print $2 }')"
echo ok >"$LAB_DIR/mood"

kill -KILL "$dns1"
within 3 is 53 s1 down || fail "dnsmasq of s1 is not down: $(weir show health)"
same "dnsmasq of s1 was killed" "s2 6" "$(who c1 "$vip" 6 | tally)"
dns_server s1
within 5 is 53 s1 up || fail "dnsmasq of s1 does not come back: $(weir show health)"
shared "… and is back" "s1 3, s2 3" "$(who c1 "$vip" 6 | tally)"

ip -n weir link set lan.s2 down
within 3 is 81 s2 down || fail "s2 is not down: $(weir show health)"
within 3 is 80 s2 down || fail "s2 is not down: $(weir show health)"
good "the link of s2 is cut"
ready() { on weir curl -s -o "$LAB_DIR/ready" -w '%{http_code}' "http://127.0.0.1:9900/ready?service=$1"; }
same "/ready of a service that has real servers" 200 "$(ready "udp:$(in_url "$vip"):53")"
ip -n weir link set lan.s1 down
within 3 is 81 s1 down || fail "s1 is not down"
unserved() { [[ $(ready "tcp:$(in_url "$vip"):81") == 503 ]]; }
within 5 unserved || fail "/ready of a service without real servers: $(cat "$LAB_DIR/ready")"
check "/ready says which real servers are missing" grep -q "$(lan 11).* (.*down" "$LAB_DIR/ready"
ip -n weir link set lan.s1 up
ip -n weir link set lan.s2 up
for n in 1 2; do within 8 is 81 "s$n" up || fail "s$n does not come back: $(weir show health)"; done
good "both are back"
settled
