# The host behind weir uses the same port over IPv6.
# shellcheck shell=bash

wan=2001:db8:51:
# Of the interfaces to come: the companion.
on weir sysctl -q -w net.ipv6.conf.lo.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.default.accept_ra=0 \
    net.ipv6.conf.default.router_solicitations=0
client c1 198.51.100.11
on c1 sysctl -q -w net.ipv6.conf.wan.accept_ra=0 net.ipv6.conf.wan.router_solicitations=0 net.ipv6.conf.wan.disable_ipv6=0
ip -n c1 -6 address add "$wan:11/64" dev wan
host s1 lan 10.0.0.11/24
http_server c1
export LAB_COMPANION=host0
{
    service fullnat tcp 192.0.2.80:80 rr 10.0.0.11=1
    printf '\n[[route]]\nto = "2001:db8:7::/48"\nvia = "%s"\n' "$wan:11"
} | config "$LAB_DIR/weir.toml"
sed -i "s|\"198.51.100.1/24\"|&, \"$wan:1/64\"|" "$LAB_DIR/weir.toml"
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

sed -i "s|\"$wan:1/64\"|\"$wan:2/64\"|; s|2001:db8:7::/48|2001:db8:8::/48|" "$LAB_DIR/weir.toml"
check "a reload changes the port's address and route" weir reload
other() { has "$wan:2" && ! has "$wan:1"; }
check "… and the kernel's" within 5 other
moved() { [[ -n $(ip -n weir -6 route show 2001:db8:8::/48) && -z $(ip -n weir -6 route show 2001:db8:7::/48) ]]; }
check "… its route too" within 5 moved
check "ping of the new address" within 5 on c1 ping -6 -qc2 -i0.2 -W2 "$wan:2"
settled
