# Real servers beyond a router that take packets out of each kind of tunnel: HTTP, DNS, and path MTU discovery in an upload.
#
#   scripts/lab tests/lab/tunnel.sh ipip|gre|gue|gue0 [kit]     kit: weir-server-kit takes them out, not decapsulate.py
#   scripts/lab tests/lab/tunnel.sh l3dsr
#
#     c1 ── wan [ weir ] lan ── ri ── (MTU 1300) ── s9
#            └──────── answers ─┘
# shellcheck shell=bash

kind=$1 by=${2:-script}
if [[ $by == kit ]]; then
    # shellcheck source=scripts/lib/kit.sh
    . "$LAB_TOP/scripts/lib/kit.sh"
    kit_build
    kit_here
fi
# In IPv4, and in IPv6.
four=192.0.2.80 six=2001:db8:2::80
four_in_six=192.0.2.81 six_in_six=2001:db8:2::81
real4=10.9.0.5 real6=2001:db8:19::5

client c1 198.51.100.11
has c1 wan 2001:db8:51::11/64
goes c1 2001:db8:2::/64 2001:db8:51::1

host ri lan 10.0.0.254/24
has ri lan 2001:db8:10::fe/64
host ri wan 198.51.100.250/24
has ri wan 2001:db8:51::fa/64
on ri sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0

quiet_namespace s9
ip -n ri link add mid mtu 1300 type veth peer name lan netns s9 mtu 1300
on ri ethtool -K mid tx off >/dev/null
on s9 ethtool -K lan tx off >/dev/null
ip -n ri link set mid up
# By l3dsr routers speak of an address that the client does not know: the way has to take its packets whole.
[[ $kind != l3dsr ]] || ip -n ri link set mid mtu 1500
# It does not know, and says that it takes long segments.
ip -n s9 link set lan mtu 1500 up
has ri mid 10.9.0.1/24 2001:db8:19::1/64
has s9 lo $four/32 $six/128 $four_in_six/32 $six_in_six/128
vips=("$four" "$six" "$four_in_six" "$six_in_six")
if [[ $kind == l3dsr ]]; then
    # The real server's address leads to what puts the VIP back.
    has s9 lan 10.9.0.6/24 2001:db8:19::6/64
    goes ri $real4 10.9.0.6 $real6 2001:db8:19::6
    vips=("$four" "$six_in_six")
    spawn s9 /usr/bin/python3 "$LAB_TOP/tests/lab/decapsulate.py" l3dsr 9=$four 9=$six_in_six
else
    has s9 lan $real4/24 $real6/64
    [[ $by == kit ]] || spawn s9 /usr/bin/python3 "$LAB_TOP/tests/lab/decapsulate.py" "$kind"
fi
goes s9 default 10.9.0.1 default 2001:db8:19::1
if [[ $by == kit ]]; then
    # Receive offload, as NICs' drivers do it, puts segments together before the kit sees them.
    on s9 ethtool -K lan gro on rx-udp-gro-forwarding on >/dev/null
    on s9 sh -c 'echo 200000 >/sys/class/net/lan/gro_flush_timeout; echo 20 >/sys/class/net/lan/napi_defer_hard_irqs'
    kit_start s9 <<<"director 10.0.0.1 2001:db8:10::1
tunnel ${kind%0}
device lan
destination $real4 $real6"
fi
[[ $by == kit ]] || within 10 grep -q ready "$LAB_DIR/s9.log" || fail "no decapsulation: $(cat "$LAB_DIR/s9.log")"
if [[ $kind == l3dsr ]]; then
    on s9 sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip -n s9 route add $real4/32 dev weir
    ip -n s9 route add $real6/128 dev weir
fi

mkdir -p "$LAB_DIR/files"
head -c 20000000 /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
http_server s9
dns_server s9
# shellcheck disable=SC2016
spawn s9 socat -u TCP6-LISTEN:9000,fork,reuseaddr,ipv6only=0 SYSTEM:"sha256sum >$LAB_DIR/uploaded"

case $kind in
l3dsr) keys='mode = "l3dsr"\ndscp = 9' ;;
gue0) keys='mode = "tunnel"\ntunnel = "gue"\ngue_variant = 0' ;;
*) keys="mode = \"tunnel\"\\ntunnel = \"$kind\"" ;;
esac
{
    printf '\n[[route]]\nto = "10.9.0.0/24"\nvia = "10.0.0.254"\n\n[[route]]\nto = "2001:db8:19::/64"\nvia = "2001:db8:10::fe"\n'
    for vip in "${vips[@]}"; do
        case $vip in
        "$four" | "$six") real=$real4 ;;
        *) real=[$real6] ;;
        esac
        case $vip in *:*) vip=[$vip] ;; esac
        for port in tcp:80 tcp:9000 udp:53; do
            service tunnel "${port%:*}" "$vip:${port#*:}" rr "$real=1"
        done
    done | sed "s|^mode = .*|$keys|"
} | config "$LAB_DIR/weir.toml"
sed -i 's|"198.51.100.1/24"|&, "2001:db8:51::1/64"|; s|"10.0.0.1/24"|&, "2001:db8:10::1/64"|' "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

passed() { metrics | awk -v type="\"$1\"" '/^weir_icmp_errors_total/ && $0 ~ type { sum += $NF } END { print sum + 0 }'; }
bracketed() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }
for vip in "${vips[@]}"; do
    case $vip in *:*) as=2001:db8:51::11 ;; *) as=198.51.100.11 ;; esac
    same "HTTP by $kind to $vip" "s9 $as" "$(get c1 "http://$(bracketed "$vip")/")"
    same "20 requests" "s9 20" "$(get c1 "http://$(bracketed "$vip")/" 20 | tally)"
    same "DNS by $kind to $vip" "s9 10" "$(who c1 "$vip" 10 | tally)"
    rm -f "$LAB_DIR/uploaded"
    ip -n c1 route flush cache
    ip -n c1 -6 route flush cache
    on c1 timeout 60 socat -u "FILE:$LAB_DIR/files/big" "TCP:$(bracketed "$vip"):9000"
    within 20 test -s "$LAB_DIR/uploaded" || fail "the upload to $vip does not end"
    same "20 MB up to $vip by $kind, past a link of 1,300 bytes" "$digest" "$(<"$LAB_DIR/uploaded")"
    if [[ $kind != l3dsr ]]; then
        mtu=$(on c1 ip route get "$vip" | grep -o 'mtu [0-9]*' || true)
        good "the client knows: ${mtu:-nothing}"
        [[ -n $mtu ]] || fail "the client has not heard of the path's MTU"
    fi
done
[[ $kind == l3dsr ]] || check "routers told of the way's MTU" test "$(passed too_big)" -gt 0
wrong() { metrics | awk '/^weir_dropped_packets_total.*"(icmp_.*|tunnel_error|fragment|no_headroom|bad_.*)"/ && $NF > 0'; }
same "no error was dropped" "" "$(wrong)"
if [[ $by == kit ]]; then
    check "packets taken out in the kernel" test "$(kit_counted "tunnel_${kind%0}")" -gt 300
    for wrong in tunnel_malformed tunnel_congested tunnel_failed slow_malformed slow_congested; do
        same "$wrong" 0 "$(kit_counted "$wrong")"
    done
    aside "taken out at the device: $(kit_counted "tunnel_${kind%0}"), put together by the stack before: $(kit_counted slow_out)"
    kit_stop
else
    kill -0 "$(pgrep -f decapsulate.py | head -1)" || fail "decapsulation ended: $(tail -3 "$LAB_DIR/s9.log")"
fi

settled
