# The parts that a lab is made of. Read by `scripts/lab`, which gives it namespaces of its own, so
# names need not be unique and nothing here cleans up.
#
#     client c1 ──┐ wan: 198.51.100.0/24        lan: 10.0.0.0/24 ┌── server s1
#     client c2 ──┴─ bridge ─ TAP weir0 [ weir ] TAP weir1 ─ bridge ─┴── server s2
#
# Clients reach every VIP (192.0.2.0/24) via weir's address on the wan, 198.51.100.1. Real servers
# find weir at 10.0.0.1. Those of a dr service have a second leg in the wan: replies skip weir.
# The same in IPv6 (`families`): 2001:db8:51::/64 is the wan, 2001:db8:10::/64 the lan, 2001:db8:2::/64 has the VIPs.
# shellcheck shell=bash

# shellcheck source=scripts/lib/say.sh
. "$LAB_TOP/scripts/lib/say.sh"
# What the scenario started may outlive a failed line of it, but not the lab.
set -Eeuo pipefail
trap 'lab_end $?' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

weir_pid='' # the running weir, if any
front=4 back=4 # what `families` says

## Names, time and checks

# on NAME COMMAND…: runs it in that namespace.
on() { ip netns exec "$@"; }

# spawn NAME COMMAND…: starts it there in the background; its output goes to a log, its id to $!.
spawn() {
    local name=$1
    shift
    ip netns exec "$name" "$@" >>"$LAB_DIR/$name.log" 2>&1 </dev/null &
}

fail() {
    error "$*"
    exit 1
}

# within SECONDS COMMAND…: true as soon as the command is, false if it never is.
within() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# check WHAT COMMAND…: the scenario ends unless the command succeeds. What it prints is not shown.
check() {
    local what=$1
    shift
    if "$@" >/dev/null; then good "$what"; else fail "$what: failed: $*"; fi
}

# refuse WHAT COMMAND…: the scenario ends if the command succeeds.
refuse() {
    local what=$1
    shift
    if "$@" >/dev/null; then fail "$what: succeeded, but must not: $*"; else good "$what"; fi
}

# same WHAT EXPECTED ACTUAL
same() {
    [[ $2 == "$3" ]] || fail "$1: expected '$2', got '$3'"
    good "$1: $3"
}

# shared WHAT EXPECTED ACTUAL: as `same`, of what tally counts. Several workers take turns each for itself, so that their
# sum may be off by two for each worker more.
shared() {
    /usr/bin/python3 - "$2" "$3" $(((${LAB_WORKERS:-1} - 1) * 2)) <<'EOF' || fail "$1: expected '$2', got '$3'"
import sys
expected, actual = (dict(pair.split() for pair in text.split(", ")) for text in sys.argv[1:3])
slack = int(sys.argv[3])
sys.exit(expected.keys() != actual.keys() or any(abs(int(expected[name]) - int(actual[name])) > slack for name in expected))
EOF
    good "$1: $3"
}

# After a failure, says what weir knew.
lab_end() {
    trap - EXIT
    if (($1 != 0)) && [[ -s $LAB_DIR/weir.log ]]; then
        {
            echo "--- the end of weir's log"
            tail -n 30 "$LAB_DIR/weir.log"
            if [[ -n $weir_pid ]] && kill -0 "$weir_pid" 2>/dev/null; then
                echo "--- its services, ports and drops"
                timeout 5 ip netns exec weir "$WEIR" show services
                timeout 5 ip netns exec weir "$WEIR" show ports
                metrics | grep '^weir_dropped_packets_total.* [1-9]'
            fi
        } >&2 || true
    fi
    exit "$1"
}

## Addresses

# families FRONT BACK: 4 or 6, what clients and VIPs have, and what real servers have. Once one is 6, weir's ports have both.
families() { front=$1 back=$2; }

# wan N, lan N, vip N: the address of host N among the clients and among the real servers, and a VIP.
wan() { if ((front == 6)); then echo "2001:db8:51::$1"; else echo "198.51.100.$1"; fi; }
lan() { if ((back == 6)); then echo "2001:db8:10::$1"; else echo "10.0.0.$1"; fi; }
vip() { if ((front == 6)); then echo "2001:db8:2::$1"; else echo "192.0.2.$1"; fi; }

# in_url ADDRESS: as a URL has it.
in_url() { if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi; }

# address NAME INTERFACE ADDRESS/LENGTH…: of either family. The kernel looks for duplicates of an IPv6 one, which `weir_start`
# waits for.
address() {
    local name=$1 leg=$2 address
    shift 2
    for address; do
        [[ $address != *:* ]] || on "$name" sysctl -q -w "net.ipv6.conf.$leg.accept_ra=0" \
            "net.ipv6.conf.$leg.router_solicitations=0" "net.ipv6.conf.$leg.disable_ipv6=0"
        ip -n "$name" address add "$address" dev "$leg"
    done
}

# settled_addresses NAME: the kernel uses every address of it.
settled_addresses() { [[ -z $(ip -n "$1" -6 address show tentative) ]]; }

## Hosts

quiet_namespace() {
    ip netns add "$1"
    # IPv6 off: captures and counters without router solicitations. rp_filter off: with dr a request
    # comes in by another leg than its reply goes out.
    on "$1" sysctl -q -e -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 \
        net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    ip -n "$1" link set lo up
}

# host NAME BRIDGE ADDRESS/LENGTH: a namespace (made if need be) with a leg in that bridge.
host() {
    local name=$1 bridge=$2 address=$3
    [[ -e /run/netns/$name ]] || quiet_namespace "$name"
    ip -n weir link add "$bridge.$name" type veth peer name "$bridge" netns "$name"
    # No offloads: every checksum on the wire is a real one.
    on weir ethtool -K "$bridge.$name" tx off >/dev/null
    on "$name" ethtool -K "$bridge" tx off >/dev/null
    ip -n weir link set "$bridge.$name" master "$bridge" up
    ip -n "$name" link set "$bridge" up
    address "$name" "$bridge" "$address"
}

# client NAME ADDRESS: of either family.
client() {
    if [[ $2 == *:* ]]; then
        host "$1" wan "$2/64"
        ip -n "$1" route add 2001:db8:2::/64 via 2001:db8:51::1
    else
        host "$1" wan "$2/24"
        ip -n "$1" route add 192.0.2.0/24 via 198.51.100.1
    fi
}

# server NAME MODE ADDRESS [VIP…]: a real server as the forwarding mode wants it, of either family.
server() {
    local name=$1 mode=$2 address=$3 vip length=24 whole=32 clients=198.51.100. gateway=10.0.0.1
    shift 3
    [[ $address != *:* ]] || length=64 whole=128 clients=2001:db8:51:: gateway=2001:db8:10::1
    host "$name" lan "$address/$length"
    case $mode in
    dr) # has the VIPs, does not answer ARP for them, and a way to the clients that is not weir
        on "$name" sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
        host "$name" wan "${clients}1${address##*[.:]}/$length"
        for vip; do address "$name" lo "$vip/$whole"; done
        ;;
    nat) # its replies pass through weir
        ip -n "$name" route add default via "$gateway"
        ;;
    fullnat) ;; # knows its own subnet and nothing else
    *) fail "server: no mode '$mode'" ;;
    esac
}

# hop NAME: frames of that real server take a way that loses, repeats and reorders some.
hop() {
    ip -n weir link set "lan.$1" nomaster
    ip -n weir link add "hop.$1" type veth peer name "far.$1"
    ip -n weir link set "hop.$1" up
    ip -n weir link set "far.$1" master lan up
    spawn weir /usr/bin/python3 "$LAB_TOP/tests/lab/hop.py" "lan.$1" "hop.$1" 10 10 30
}

# known NAME ADDRESS: a static neighbour of weir's: a machine with more to do than it can says nothing of those.
known() { printf '\n[[neighbour]]\naddress = "%s"\nmac = "%s"\n' "$2" "$(on "$1" cat /sys/class/net/lan/address)"; }

# http_server NAME [PORT]: nginx; "/" answers "NAME CLIENT-ADDRESS", "/files/" serves $LAB_DIR/files.
http_server() {
    local name=$1 port=${2:-80} dir=$LAB_DIR/nginx.$1
    mkdir -p "$dir" "$LAB_DIR/files"
    cat >"$dir/nginx.conf" <<EOF
daemon off;
worker_processes 1;
user root;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
    keepalive_requests 1000000;
    server {
        listen $port backlog=4096;
        listen [::]:$port backlog=4096;
        default_type text/plain;
        location / { return 200 "$name \$remote_addr\n"; }
        location /files/ { root $LAB_DIR; }
    }
}
EOF
    on "$name" sysctl -q -w net.core.somaxconn=4096
    spawn "$name" nginx -c "$dir/nginx.conf" -e "$dir/error.log"
    within 10 on "$name" curl -fs "http://127.0.0.1:$port/" || fail "nginx does not start in $name: $(cat "$dir/error.log")"
}

# dns_server NAME: dnsmasq; the TXT record of who.lab is the server's name.
dns_server() {
    local name=$1
    spawn "$name" dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --no-resolv --no-hosts \
        --cache-size=0 --txt-record="who.lab,$name"
    within 10 who "$name" 127.0.0.1 || fail "dnsmasq does not start in $name: $(cat "$LAB_DIR/$name.log")"
}

# bird NAME: BIRD there, with the configuration on stdin.
bird() {
    cat >"$LAB_DIR/bird.$1.conf"
    spawn "$1" bird -f -c "$LAB_DIR/bird.$1.conf" -s "$LAB_DIR/bird.$1.ctl" -P "$LAB_DIR/bird.$1.pid"
}

# birdc NAME COMMAND…: what that BIRD answers.
birdc() { on "$1" birdc -s "$LAB_DIR/bird.$1.ctl" "${@:2}"; }

## Clients

# get CLIENT URL [N]: N requests, each in a connection of its own; prints the answers.
get() { on "$1" curl -sS --fail --fail-early --max-time 10 -H 'Connection: close' "$2?[1-${3:-1}]"; }

# who CLIENT ADDRESS [N]: N DNS queries, each from a port that none had before; prints the answers.
who() {
    local left=${3:-1} any=0.0.0.0 port=10000
    [[ $2 != *:* ]] || any=::
    [[ ! -e $LAB_DIR/port ]] || port=$(<"$LAB_DIR/port")
    echo $((port + left)) >"$LAB_DIR/port"
    while ((left-- > 0)); do
        on "$1" dig +short +tries=1 +time=3 -b "$any#$((port + left))" "@$2" who.lab TXT | tr -d '"'
    done
}

# tally: counts equal first words: "s1 30, s2 20".
tally() { awk '{n[$1]++} END {for (k in n) print k, n[k]}' | sort | paste -sd, | sed 's/,/, /g'; }

# jq_field NAME [EXPRESSION]: of the JSON object on stdin that field, or what Python makes of it as `value`.
jq_field() {
    /usr/bin/python3 -c 'import json, sys; value = json.load(sys.stdin)[sys.argv[1]]; print(eval(sys.argv[2]))' "$1" "${2:-value}"
}

## weir

# The first and the second CPU that this process may use: control thread and worker.
cpus() {
    local list part first last=''
    list=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
    for part in ${list//,/ }; do
        for ((first = ${part%-*}; first <= ${part#*-}; first++)); do
            if [[ -n $last ]]; then
                echo "$last $first"
                return
            fi
            last=$first
        done
    done
    echo "$last $last"
}

# config FILE: writes it: the companion of the wan ($LAB_COMPANION, by default none), the workers ($LAB_WORKERS, by default one),
# the two ports and their pools, and the services that stdin has. Several workers share the two CPUs.
config() {
    local main worker workers n wan='"198.51.100.1/24"' lan='"10.0.0.1/24"'
    if ((front == 6 || back == 6)); then wan+=', "2001:db8:51::1/64"' lan+=', "2001:db8:10::1/64"'; fi
    read -r main worker < <(cpus)
    workers=$worker
    for ((n = 1; n < ${LAB_WORKERS:-1}; n++)); do
        if ((n % 2)); then workers+=", $main"; else workers+=", $worker"; fi
    done
    {
        cat <<EOF
[dpdk]
workers = [$workers]
main_lcore = $main
idle = "adaptive"

[[port]]
name = "wan"
device = "net_tap0,iface=weir0"
addresses = [$wan]
${LAB_COMPANION:+companion = \"$LAB_COMPANION\"}

[[port]]
name = "lan"
device = "net_tap1,iface=weir1"
addresses = [$lan]

[[local_pool]]
name = "inside"
addresses = ["10.0.0.200-10.0.0.203"]
EOF
        ((back != 6)) || printf '\n[[local_pool]]\nname = "inside6"\naddresses = ["2001:db8:10::200-2001:db8:10::203"]\n'
        cat
    } >"$1"
}

# service MODE PROTOCOL VIP:PORT SCHEDULER REAL=WEIGHT…: one [[service]]; REAL is ADDRESS or ADDRESS:PORT, and an IPv6
# address stands in brackets, as any may.
service() {
    local mode=$1 protocol=$2 vip=${3%:*} vip_port=${3##*:} scheduler=$4 real address port pool=inside
    vip=${vip#\[} vip=${vip%\]}
    [[ ${5:-} != \[*:*\]* ]] || pool=inside6
    shift 4
    printf '\n[[service]]\naddress = "%s"\nport = %s\nprotocol = "%s"\nmode = "%s"\nscheduler = "%s"\n' \
        "$vip" "$vip_port" "$protocol" "$mode" "$scheduler"
    [[ $mode != fullnat ]] || printf 'local_pool = "%s"\n' "$pool"
    for real; do
        address=${real%=*} port=''
        case $address in
        \[*) address=${address#\[} port=${address##*\]} address=${address%\]*} port=${port#:} ;;
        *:*) port=${address#*:} address=${address%:*} ;;
        esac
        printf '\n  [[service.real]]\n  address = "%s"\n  weight = %s\n' "$address" "${real#*=}"
        [[ -z $port ]] || printf '  port = %s\n' "$port"
    done
}

# weir COMMAND…: a tool, beside the running daemon.
weir() { on weir "$WEIR" "$@"; }

# metrics: what Prometheus would read.
metrics() { on weir curl -fsS --max-time 5 http://127.0.0.1:9900/metrics; }

# leg NAME INTERFACE OTHER INTERFACE MTU: a cable between two hosts.
leg() {
    ip -n "$1" link add "$2" mtu "$5" type veth peer name "$4" netns "$3" mtu "$5"
    on "$1" ethtool -K "$2" tx off >/dev/null
    on "$3" ethtool -K "$4" tx off >/dev/null
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}

# has NAME INTERFACE ADDRESS/LENGTH…: addresses of either family.
has() {
    local name=$1 leg=$2 address
    shift 2
    on "$name" sysctl -q -w "net.ipv6.conf.$leg.disable_ipv6=0" "net.ipv6.conf.$leg.accept_dad=0"
    for address; do ip -n "$name" address add "$address" dev "$leg"; done
}

# goes NAME TO VIA…: routes of either family, in pairs.
goes() {
    local name=$1
    shift
    while (($#)); do
        ip -n "$name" route add "$1" via "$2"
        shift 2
    done
}

# router NAME: it forwards, and says what it cannot.
router() { on "$1" sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0; }

weir_ready_or_dead() {
    on weir curl -fs --max-time 1 http://127.0.0.1:9900/ready || ! kill -0 "$weir_pid"
}

# weir_launch CONFIG: runs weir, and waits until it is ready.
weir_launch() {
    ip netns exec weir "$WEIR" run --config "$1" >>"$LAB_DIR/weir.log" 2>&1 </dev/null &
    weir_pid=$!
    within 30 weir_ready_or_dead || fail "weir is not ready after 30 s"
    kill -0 "$weir_pid" 2>/dev/null || fail "weir ended while it started"
}

# weir_start CONFIG: runs weir, plugs its two ports into the bridges, and waits until every host uses its addresses.
weir_start() {
    local name
    weir_launch "$1"
    plug weir0 wan
    plug weir1 lan
    for name in $(ip netns list | awk '$1 != "weir" { print $1 }'); do
        within 5 settled_addresses "$name" || fail "addresses stay tentative: $(ip -n "$name" -6 address show tentative)"
    done
}

# plug TAP BRIDGE
plug() { ip -n weir link set "$1" master "$2" up; }

# weir_stop [SIGNAL]: ends it and gives its exit status.
weir_stop() {
    local pid=$weir_pid status=0
    kill -s "${1:-TERM}" "$pid"
    within 10 gone "$pid" || fail "weir still runs, 10 s after SIG${1:-TERM}"
    weir_pid=''
    wait "$pid" || status=$?
    return "$status"
}

# settled: every packet that weir received is accounted for, once none is under way.
settled() {
    within 5 balanced || fail "the counts do not add up: $(metrics | grep '_packets_total' | grep -v service)"
    good "received = transmitted + answered + local + queued + dropped"
    ! grep -E 'does not send them|hands none over' "$LAB_DIR/weir.log" || fail "a device was taken for a black hole"
}

balanced() {
    metrics | awk '
        /^weir_received_packets_total/ { received += $NF }
        /^weir_(transmitted|answered|local|dropped)_packets_total/ { settled += $NF }
        /^weir_queued_packets/ { settled += $NF }
        END { exit !(received > 0 && received == settled) }'
}

# gone PID: ended, or a zombie that waits for `wait`.
gone() { ! grep -qs '^State:[[:space:]]*[^Z]' "/proc/$1/status"; }

quiet_namespace weir
on weir sysctl -q -e -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-arptables=0
for bridge in wan lan; do
    ip -n weir link add "$bridge" type bridge forward_delay 0 mcast_snooping 0
    ip -n weir link set "$bridge" up
done
