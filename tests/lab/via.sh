# Health checks by the way of a client's packet, and out of weir's own port: they find what checks of the host's miss.
#
#   scripts/lab tests/lab/via.sh [ipip|gre|gue]
#
# Every mode at once. s1 and s2 are of dr, s3 and s4 of nat and fullnat, s5 takes packets out of a tunnel. What is missing (the VIP on
# s1, the gateway of s4, the tunnel of s5) is found, and as soon as it is there the real server is up.
# shellcheck shell=bash

kind=${1:-ipip}
vip=192.0.2.80 six=2001:db8:2::80 nat=192.0.2.81 full=192.0.2.82 wrapped=192.0.2.83 host=192.0.2.84 across=2001:db8:2::82

for n in 1 2 3 4 5; do host "s$n" lan "10.0.0.1$n/24"; done
for n in 1 2; do on "s$n" sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2; done
has s2 lan 2001:db8:10::12/64
has s2 lo $vip/32 $six/128
ip -n s3 route add default via 10.0.0.1
# Its default router is another real server, which forwards nothing.
ip -n s4 route add default via 10.0.0.13
has s5 lo $wrapped/32
for n in 1 2 3 4 5; do http_server "s$n"; done
dns_server s2
dns_server s3

# check NAME VIA TYPE [REQUEST]
template() {
    printf '\n[health.%s]\ntype = "%s"\nvia = "%s"\ninterval = "300ms"\ntimeout = "290ms"\nrise = 1\nfall = 3\n' "$1" "$3" "$2"
    [[ -z ${4:-} ]] || printf 'request = %s\n' "$4"
}
# checked CHECK SERVICE…
checked() { service "${@:2}" | sed "s/^scheduler = .*/&\nhealth = \"$1\"/"; }
{
    template web service http '{ path = "/", status = 200 }'
    template names service dns '{ name = "who.lab", type = "TXT" }'
    template open service tcp
    template datagram service udp
    template there service icmp
    template byhost host http '{ path = "/", status = 200 }'
    template byport port http '{ path = "/", status = 200 }'
    checked web dr tcp $vip:80 rr 10.0.0.11=1 10.0.0.12=1
    checked names dr udp $vip:53 rr 10.0.0.12=1
    checked datagram dr udp $vip:54 rr 10.0.0.12=1
    checked there dr tcp $vip:82 rr 10.0.0.11=1 10.0.0.12=1
    checked web dr tcp "[$six]:80" rr "[2001:db8:10::12]=1"
    checked there dr tcp "[$six]:82" rr "[2001:db8:10::12]=1"
    checked web nat tcp $nat:80 rr 10.0.0.13=1 10.0.0.14=1
    checked there nat tcp $nat:82 rr 10.0.0.13=1 10.0.0.14=1
    checked names nat udp $nat:53 rr 10.0.0.13=1
    checked datagram nat udp $nat:54 rr 10.0.0.13=1
    checked web fullnat tcp $full:80 rr 10.0.0.13=1 10.0.0.14=1
    checked there fullnat tcp $full:82 rr 10.0.0.14=1
    checked datagram fullnat udp $full:54 rr 10.0.0.13=1
    checked open fullnat tcp "[$across]:80" rr 10.0.0.14=1
    checked web dr tcp $wrapped:80 rr 10.0.0.15=1 | sed "s|^mode = .*|mode = \"tunnel\"\ntunnel = \"$kind\"|"
    checked byhost dr tcp $host:80 rr 10.0.0.11=1 10.0.0.12=1
    checked byport dr tcp $host:81 rr 10.0.0.12=1
} | config "$LAB_DIR/weir.toml"
sed -i 's|"198.51.100.1/24"|&, "2001:db8:51::1/64"|; s|"10.0.0.1/24"|&, "2001:db8:10::1/64"|
    s|^device = "net_tap1.*|&\ncompanion = "host1"|' "$LAB_DIR/weir.toml"
sed -i '/^\[health.byport\]/a port = 80' "$LAB_DIR/weir.toml"
# The bridge is in the same namespace, and must not answer for the companion's address.
on weir sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv6.conf.default.disable_ipv6=0
weir_start "$LAB_DIR/weir.toml"

# state SERVICE REAL: what `weir show health` says of it.
state() {
    weir show health --json --service "$1" | /usr/bin/python3 -c '
import json, sys
for row in json.load(sys.stdin):
    if row["real"].rsplit(":", 1)[0].strip("[]") == sys.argv[1]:
        print(row["state"])' "$2"
}
is() { [[ $(state "$1" "$2") == "$3" ]]; }
# finds WHAT SERVICE REAL STATE
finds() {
    within 8 is "$2" "$3" "$4" || fail "$1: $3 of $2 is $(state "$2" "$3"), not $4: $(weir show health)"
    good "$1: $4"
}
finds "host: dr, the VIP is missing" tcp:$host:80 10.0.0.11 up
finds "dr, the VIP is missing" tcp:$vip:80 10.0.0.11 down
finds "dr, ping, the VIP is missing" tcp:$vip:82 10.0.0.11 down
finds "dr" tcp:$vip:80 10.0.0.12 up
finds "dr, ping" tcp:$vip:82 10.0.0.12 up
finds "dr, DNS" udp:$vip:53 10.0.0.12 up
finds "dr, a closed port of UDP" udp:$vip:54 10.0.0.12 down
finds "dr, IPv6" "tcp:[$six]:80" 2001:db8:10::12 up
finds "dr, IPv6, ping" "tcp:[$six]:82" 2001:db8:10::12 up
finds "nat" tcp:$nat:80 10.0.0.13 up
finds "nat, ping" tcp:$nat:82 10.0.0.13 up
finds "nat, DNS" udp:$nat:53 10.0.0.13 up
finds "nat, a closed port of UDP" udp:$nat:54 10.0.0.13 down
finds "nat, the gateway is wrong" tcp:$nat:80 10.0.0.14 down
finds "nat, ping, the gateway is wrong" tcp:$nat:82 10.0.0.14 down
finds "fullnat, which needs none" tcp:$full:80 10.0.0.14 up
finds "fullnat, ping" tcp:$full:82 10.0.0.14 up
finds "fullnat, a closed port of UDP" udp:$full:54 10.0.0.13 down
finds "fullnat, IPv6 to IPv4" "tcp:[$across]:80" 10.0.0.14 up
finds "$kind, nothing takes it out" tcp:$wrapped:80 10.0.0.15 down
finds "out of the port" tcp:$host:81 10.0.0.12 up

address s1 lo $vip/32
ip -n s4 route replace default via 10.0.0.1
spawn s5 /usr/bin/python3 "$LAB_TOP/tests/lab/decapsulate.py" "$kind"
ip -n weir link add elsewhere type veth peer name nowhere
ip -n weir link set elsewhere up
ip -n weir link set nowhere up
ip -n weir route add 10.0.0.12/32 dev elsewhere
finds "dr, the VIP is there" tcp:$vip:80 10.0.0.11 up
finds "dr, ping, the VIP is there" tcp:$vip:82 10.0.0.11 up
finds "nat, the gateway is right" tcp:$nat:80 10.0.0.14 up
finds "$kind" tcp:$wrapped:80 10.0.0.15 up
finds "host: its routes lead elsewhere" tcp:$host:80 10.0.0.12 down
finds "out of the port, wherever the host's routes lead" tcp:$host:81 10.0.0.12 up
finds "the way of clients, wherever the host's routes lead" tcp:$vip:80 10.0.0.12 up
ip -n weir route del 10.0.0.12/32 dev elsewhere

reload_more() {
    checked web nat tcp 192.0.2.85:80 rr 10.0.0.13=1 >>"$LAB_DIR/weir.toml"
    weir reload "$LAB_DIR/weir.toml"
}

# A real server that takes no clients is checked as well; and checks are no clients.
weir drain tcp:$vip:80 10.0.0.11:80
ip -n s1 address del $vip/32 dev lo
finds "dr, drained, the VIP is missing" tcp:$vip:80 10.0.0.11 down
finds "dr, ping, the VIP is missing again" tcp:$vip:82 10.0.0.11 down
same "checks make no connections of workers" 0 "$(metrics | awk '/^weir_connections/ { sum += $NF } END { print sum + 0 }')"
states() {
    weir show health --json | /usr/bin/python3 -c '
import json, sys
for row in json.load(sys.stdin):
    if sys.argv[1] not in row["service"]:
        print(row["service"], row["real"], row["state"])' 192.0.2.85
}
before=$(states)
check "a reload with a service more" reload_more
finds "the new one" tcp:192.0.2.85:80 10.0.0.13 up
still() { [[ $(states) == "$before" ]]; }
sleep 0.5
within 3 still || fail "others have changed: $(diff <(echo "$before") <(states))"
good "… and all others stay what they are"

settled
