# IPv6 with the kernel at both ends: neighbour discovery, and real HTTP and DNS through one forwarding mode.
#
#   scripts/lab tests/lab/ipv6.sh dr|nat|fullnat
# shellcheck shell=bash

mode=$1
families 6 6
wan=2001:db8:51: lan=2001:db8:10:
# One on the clients' link, which they ask for, and one behind weir's address.
near=$wan:80 far=2001:db8:2::80
# With fullnat, in front of real servers of the other family.
to_four=2001:db8:2::46 to_six=192.0.2.64

# neighbour NAME ADDRESS: what the kernel there knows of a neighbour.
neighbour() { ip -n "$1" -6 neighbour show "$2"; }

for n in 1 2; do
    client "c$n" "198.51.100.1$n"
    address "c$n" wan "$wan:1$n/64"
    ip -n "c$n" -6 route add 2001:db8:2::/64 via "$wan:1"
done
for n in 1 2 3; do
    server "s$n" "$mode" "10.0.0.1$n" 192.0.2.80
    address "s$n" lan "$lan:1$n/64"
    case $mode in
    dr)
        address "s$n" wan "$wan:11$n/64"
        address "s$n" lo "$near/128" "$far/128"
        ;;
    nat) ip -n "s$n" -6 route add default via "$lan:1" ;;
    esac
    http_server "s$n"
    dns_server "s$n"
done
{
    for vip in $near $far; do
        service "$mode" tcp "[$vip]:80" rr "[$lan:11]=1" "[$lan:12]=1" "[$lan:13]=1"
        service "$mode" udp "[$vip]:53" rr "[$lan:11]=1" "[$lan:12]=1" "[$lan:13]=1"
    done
    service "$mode" tcp 192.0.2.80:80 rr 10.0.0.11=1 10.0.0.12=1 10.0.0.13=1
    if [[ $mode == fullnat ]]; then
        service fullnat tcp "[$to_four]:80" rr 10.0.0.11=1 10.0.0.12=1 10.0.0.13=1
        service fullnat udp "[$to_four]:53" rr 10.0.0.11=1 10.0.0.12=1 10.0.0.13=1
        service fullnat tcp $to_six:80 rr "[$lan:11]=1" "[$lan:12]=1" "[$lan:13]=1"
        service fullnat udp $to_six:53 rr "[$lan:11]=1" "[$lan:12]=1" "[$lan:13]=1"
    fi
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

same "the kernel finds no duplicates" "" "$(for name in c1 c2 s1 s2 s3; do ip -n $name -6 address show dadfailed; done)"

# weir's own link-local address is that of its MAC address.
macs=$(weir show ports --json)
link_local() { /usr/bin/python3 -c '
import ipaddress, json, sys
mac = bytes.fromhex(json.loads(sys.argv[1])[0]["mac"].replace(":", ""))
print(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]))' "$macs"; }
for address in $wan:1 $near $far "$(link_local)%wan"; do
    check "ping of $address" on c1 ping -6 -qc2 -i0.2 -W2 "$address"
done
check "a VIP on the link is found by neighbour discovery" grep -Eq "(REACHABLE|DELAY|STALE)" <<<"$(neighbour c1 $near)"
refuse "… which is no router" grep -q router <<<"$(neighbour c1 $near)"
same "… at weir's MAC address" "$(/usr/bin/python3 -c 'import json, sys; print(json.loads(sys.argv[1])[0]["mac"])' "$macs")" \
    "$(neighbour c1 $near | awk '{ print $5 }')"
same "another one by its router" "" "$(neighbour c1 $far)"

for vip in $near $far; do
    answers=$(get c1 "http://[$vip]/" 30)
    shared "HTTP over IPv6 goes round" "s1 10, s2 10, s3 10" "$(tally <<<"$answers")"
    if [[ $mode == fullnat ]]; then
        same "real servers see the local pool" "" "$(awk '{print $2}' <<<"$answers" | grep -v "^$lan:20[0-3]$" || true)"
    else
        same "real servers see the client" "$wan:11" "$(awk '{print $2}' <<<"$answers" | sort -u)"
    fi
    shared "DNS over IPv6 goes round" "s1 10, s2 10, s3 10" "$(who c1 "$vip" 30 | tally)"
done
shared "IPv4 beside it goes round" "s1 10, s2 10, s3 10" "$(get c1 http://192.0.2.80/ 30 | tally)"
head -c 1000000 /dev/urandom >"$LAB_DIR/files/some"
digest=$(sha256sum <"$LAB_DIR/files/some")
for vip in $near $far; do
    same "1 MB down over IPv6, unchanged" "$digest" "$(on c1 curl -6 -sS --max-time 30 "http://[$vip]/files/some" | sha256sum)"
done

# across VIP HOST LOCAL: HTTP, DNS and 1 MB through a VIP, by real servers that see the other family's LOCAL addresses.
across() {
    local vip=$1 host=$2 local=$3 answers
    answers=$(get c1 "http://$host/" 30)
    shared "HTTP to $vip goes round" "s1 10, s2 10, s3 10" "$(tally <<<"$answers")"
    same "… from the local pool" "" "$(awk '{print $2}' <<<"$answers" | grep -v "$local" || true)"
    shared "DNS to $vip goes round" "s1 10, s2 10, s3 10" "$(who c1 "$vip" 30 | tally)"
    same "1 MB down from $vip, unchanged" "$digest" "$(on c1 curl -sS --max-time 30 "http://$host/files/some" | sha256sum)"
    same "1 MB up to $vip, taken" "1000000" "$(on c1 curl -sS --max-time 30 -o /dev/null -w '%{size_upload}' \
        --data-binary "@$LAB_DIR/files/some" "http://$host/")"
}
if [[ $mode == fullnat ]]; then
    across $to_four "[$to_four]" '^10\.0\.0\.20[0-9]$'
    across $to_six $to_six "^$lan:20[0-3]$"
fi

known() { weir show neighbours --json | /usr/bin/python3 -c '
import json, sys
print(sorted({row["state"] for row in json.load(sys.stdin) if row["address"] in sys.argv[1:]}))' "$@"; }
same "weir knows the real servers" "['reachable']" "$(known $lan:11 $lan:12 $lan:13)"

# A real server that is gone, and back: half a minute, and the same in each mode.
if [[ $mode == nat ]]; then
    down() { [[ $(known "$1") == "['failed']" ]]; }
    up() { [[ $(known "$1") == "['reachable']" ]]; }
    ip -n s3 link set lan down
    fails() {
        get c1 "http://[$near]/" 3 >/dev/null 2>&1 || true
        down $lan:13
    }
    check "a real server that is gone fails" within 60 fails
    check "… which the log says" grep -q "real server is down: it does not answer neighbour solicitations.*$lan:13" "$LAB_DIR/weir.log"
    shared "the others go on" "s1 10, s2 10" "$(get c1 "http://[$near]/" 20 | tally)"
    ip -n s3 link set lan up
    ip -n s3 -6 address replace "$lan:13/64" dev lan
    ip -n s3 -6 route replace default via "$lan:1"
    check "it is back" within 20 up $lan:13
fi

# Duplicates, both ways.
address c2 wan "$near/64"
failed() { ip -n c2 -6 address show dadfailed | grep -q "$near"; }
check "who wants a VIP of weir's is told that it may not" within 5 failed
ip -n c2 -6 address del "$near/64" dev wan
ip -n c2 -6 address add "$wan:81/64" dev wan
within 5 settled_addresses c2 || fail "c2 has no address"
service "$mode" tcp "[$wan:81]:80" rr "[$lan:11]=1" >>"$LAB_DIR/weir.toml"
check "a VIP is added that another host has" weir reload
duplicates() { grep -q '^weir_duplicate_addresses{port="wan"} 1$' <<<"$(metrics)"; }
check "it is found to be a duplicate" within 5 duplicates
check "… which the log says" grep -q "duplicate address.*$wan:81" "$LAB_DIR/weir.log"
check "… and the other host keeps it" on c1 ping -6 -qc2 -i0.2 -W2 "$wan:81"
same "… alone" "$(ip -n c2 -json link show wan | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["address"])')" \
    "$(neighbour c1 "$wan:81" | awk '{ print $5 }')"
shared "the others are served" "s1 10, s2 10, s3 10" "$(get c1 "http://[$near]/" 30 | tally)"

# A router that advertises itself, and a client behind it.
if [[ $mode != dr ]]; then
    host r1 wan 198.51.100.253/24
    address r1 wan "$wan:fd/64"
    on r1 sysctl -q -w net.ipv6.conf.all.forwarding=1 net.ipv6.conf.lo.disable_ipv6=0
    ip -n r1 -6 address add 2001:db8:7::7/128 dev lo
    within 5 settled_addresses r1 || fail "r1 has no address"
    from_behind() { on r1 curl -sS --fail --max-time 3 --interface 2001:db8:7::7 "http://[$near]/"; }
    refuse "without a route back, who is behind a router gets nothing" from_behind 2>/dev/null
    bird r1 <<EOF
router id 198.51.100.253;
protocol device {}
protocol radv { interface "wan" { min ra interval 3; max ra interval 4; default lifetime 60; }; }
EOF
    default_route() { grep -q '"to":"::/0"' <<<"$(weir show routes --json)"; }
    sleep 4
    refuse "a router's advertisements are not heeded" default_route
    sed -i 's|^name = "wan"|&\naccept_ra = true|' "$LAB_DIR/weir.toml"
    check "unless the port is to: a reload says so" weir reload
    check "… and the router has the default route" within 10 default_route
    check "… by which who is behind it is answered" within 5 from_behind
    kill "$(<"$LAB_DIR/bird.r1.pid")"
    no_default_route() { ! default_route; }
    check "the router says that it is none any more" within 10 no_default_route
fi

settled
