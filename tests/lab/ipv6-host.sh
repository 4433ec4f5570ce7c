# The host behind weir uses the same port over IPv6: ping, TCP both ways, BGP sessions of BIRD's that announce the VIPs.
# shellcheck shell=bash

families 6 6
wan=2001:db8:51: vip=2001:db8:2::80 other=2001:db8:2::81
# Of the interfaces to come: the companion.
on weir sysctl -q -w net.ipv6.conf.lo.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.default.accept_ra=0 \
    net.ipv6.conf.default.router_solicitations=0
client c1 "$wan:11"
# Two routers: the one peers with the port's address, the other with its link-local one.
for name in r1 r2; do
    host $name wan "$wan:f${name#r}/64"
    on $name sysctl -q -w net.ipv6.conf.all.forwarding=1
done
server s1 fullnat 2001:db8:10::11
http_server s1
http_server c1
export LAB_COMPANION=host0
within 5 settled_addresses r2 || fail "r2 has no address"
r2=$(ip -n r2 -6 address show dev wan scope link | awk '/inet6/ { sub("/.*", "", $2); print $2 }')
{
    for one in $vip $other; do service fullnat tcp "[$one]:80" rr "[2001:db8:10::11]=1"; done
    printf '\n[[route]]\nto = "2001:db8:7::/48"\nvia = "%s"\n' "$wan:11"
    printf '\n[[host_peer]]\naddress = "%s"\n' "$wan:f1" "$r2%wan"
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

has() { ip -n weir -6 address show host0 | grep -q "inet6 $1/64"; }
check "the companion has the port's IPv6 address" has "$wan:1"
same "… at once" "" "$(ip -n weir -6 address show host0 tentative | grep "$wan" || true)"
check "… and the route by its gateway" grep -q "via $wan:11 dev host0 .*metric 4096" <<<"$(ip -n weir -6 route show 2001:db8:7::/48)"
mac=$(ip -n weir -json link show host0 | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["address"])')

check "ping of the port's address" within 5 on c1 ping -6 -qc2 -i0.2 -W2 "$wan:1"
same "… at the port's MAC address" "$mac" "$(ip -n c1 -6 neighbour show "$wan:1" | awk '{ print $5 }')"
check "ping from the host" on weir ping -6 -qc2 -i0.2 -W2 "$wan:11"
link_local=$(ip -n c1 -6 address show dev wan scope link | awk '/inet6/ { sub("/.*", "", $2); print $2 }')
check "ping from the host, by its link" on weir ping -6 -qc2 -i0.2 -W2 "$link_local%host0"
check "HTTP from the host" get weir "http://[$wan:11]/" 5
spawn weir /usr/bin/python3 -m http.server 8080 --bind "$wan:1" --directory "$LAB_DIR/files"
head -c 5000000 /dev/urandom >"$LAB_DIR/files/some"
within 5 on weir curl -fs "http://[$wan:1]:8080/" || fail "the host's own server does not start"
same "5 MB from the host, unchanged" "$(sha256sum <"$LAB_DIR/files/some")" \
    "$(on c1 curl -6 -sS --max-time 30 "http://[$wan:1]:8080/some" | sha256sum)"

# bgp NAME "OWN as N" "PEER as N" CHANNEL: a session of BIRD's.
bgp() { echo "protocol bgp $1 { local $2; neighbor $3; hold time 3; keepalive time 1; ipv6 { $4 }; }"; }
mine=$(ip -n weir -6 address show dev host0 scope link | awk '/inet6/ { sub("/.*", "", $2); print $2 }')
out='import none; export where source = RTS_STATIC; next hop self;' in='import all; export none;'
bird weir <<EOF
router id 198.51.100.1;
protocol device {}
protocol static vips { ipv6; route $vip/128 blackhole; route $other/128 blackhole; }
$(bgp by_address "$wan:1 as 65001" "$wan:f1 as 65002" "$out")
$(bgp by_link "$mine as 65001" "$r2%host0 as 65002" "$out")
EOF
declare -A session=(
    [r1]=$(bgp balancer "$wan:f1 as 65002" "$wan:1 as 65001" "$in")
    [r2]=$(bgp balancer "$r2 as 65002" "$mine%wan as 65001" "$in")
)
declare -A from=([r1]=$wan:1 [r2]=$mine)
for name in r1 r2; do
    bird $name <<EOF
router id 198.51.100.25${name#r};
protocol device {}
protocol kernel { ipv6 { export all; }; }
${session[$name]}
EOF
done
established() { birdc "$1" show protocols balancer | grep -q Established; }
announced() { ip -n "$1" -6 route show "$2" | grep -q "via $3 dev wan proto bird"; }
for name in r1 r2; do
    within 40 established $name || fail "no BGP session: $(birdc $name show protocols all balancer)"
    good "BIRD peers by the companion with ${from[$name]}"
    for one in $vip $other; do check "… which announces $one" within 10 announced $name "$one" "${from[$name]}"; done
    same "the router's requests are balanced" "s1 20" "$(get $name "http://[$vip]/" 20 | tally)"
done

since() { birdc "$1" show protocols balancer | awk '$1 == "balancer" { print $5 }'; }
before="$(since r1) $(since r2)"
service fullnat tcp "[2001:db8:2::82]:80" rr "[2001:db8:10::11]=1" >>"$LAB_DIR/weir.toml"
check "a reload adds a service" weir reload
sleep 4 # longer than the hold time
same "both sessions go on" "$before" "$(since r1) $(since r2)"
for name in r1 r2; do
    check "… with the routes to the VIPs" announced $name $vip "${from[$name]}"
    same "… by which requests are balanced" "s1 20" "$(get $name "http://[2001:db8:2::80]/" 20 | tally)"
done
kill "$(<"$LAB_DIR/bird.weir.pid")"

sed -i "s|\"$wan:1/64\"|\"$wan:2/64\"|; s|2001:db8:7::/48|2001:db8:8::/48|" "$LAB_DIR/weir.toml"
check "a reload changes the port's address and route" weir reload
other() { has "$wan:2" && ! has "$wan:1"; }
check "… and the kernel's" within 5 other
moved() { [[ -n $(ip -n weir -6 route show 2001:db8:8::/48) && -z $(ip -n weir -6 route show 2001:db8:7::/48) ]]; }
check "… its route too" within 5 moved
check "ping of the new address" within 5 on c1 ping -6 -qc2 -i0.2 -W2 "$wan:2"
settled
