# A VIP is announced by BIRD while its services are served: the host has a route to it, by which BIRD goes.
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

vip=198.51.100.80 vip6=2001:db8:51::80
on weir sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0
client c1 198.51.100.11
host r1 wan 198.51.100.254/24
for n in 1 2 3; do
    server "s$n" fullnat "10.0.0.1$n"
    http_server "s$n"
done
export LAB_COMPANION=host0
# write ANNOUNCE [PORT…]: a service on each port, whose real server is s1 and whose sorry server is s3 on the first of them only; and
# one over IPv6, behind which is s1 as well.
write() {
    local announce=$1 port more='fallback = ["10.0.0.13:80"]'
    shift
    {
        for port; do
            service fullnat tcp "$vip:$port" rr 10.0.0.11:80=1 | sed "s|^scheduler .*|&\nannounce = \"$announce\"\n$more|"
            more=''
        done
        service fullnat tcp "[$vip6]:80" rr 10.0.0.11:80=1 | sed "s|^scheduler .*|&\nannounce = \"$announce\"|"
    } | front=6 config "$LAB_DIR/weir.toml"
}
write while-healthy 80
weir_start "$LAB_DIR/weir.toml"

# route: the VIP's, as the host has it; held and gone wait for it, and say how many milliseconds that took.
route() { ip -n weir route show $vip proto 226; }
held() { [[ $(route) == "$vip dev host0 "*"scope link metric 4096"* ]]; }
gone() { [[ -z $(route) ]]; }
route6() { ip -n weir -6 route show $vip6 proto 226; }
held6() { [[ $(route6) == "$vip6 dev host0 "*"metric 4096"* ]]; }
gone6() { [[ -z $(route6) ]]; }
check "the host has a route to the VIP" within 10 held
check "… over IPv6 as well" within 2 held6
check "… and says so" grep -q 'weir_service_announced{.*} 1' <<<"$(metrics)"

bird weir <<END
router id 198.51.100.1;
protocol device {}
protocol kernel { learn; scan time 1; ipv4 { import where krt_source = 226; export none; }; }
protocol bgp upstream {
    local 198.51.100.1 as 65001;
    neighbor 198.51.100.254 as 65002;
    hold time 9; keepalive time 3;
    ipv4 { import none; export where krt_source = 226; next hop self; };
}
END
bird r1 <<END
router id 198.51.100.254;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol bgp balancer {
    local 198.51.100.254 as 65002;
    neighbor 198.51.100.1 as 65001;
    hold time 9; keepalive time 3;
    ipv4 { import all; export none; };
}
END
announced() { ip -n r1 route show $vip | grep -q 'via 198.51.100.1 dev wan proto bird'; }
unannounced() { ! announced; }
check "BIRD announces it" within 40 announced
same "the router's requests are served" "s1 5" "$(get r1 http://$vip/ 5 | tally)"

# took COMMAND STATE: runs it, and says how many milliseconds the route took to be so afterwards.
took() {
    local since now
    "$1" >/dev/null || fail "$1"
    since=$(date +%s%N)
    until "$2"; do
        now=$(date +%s%N)
        ((now - since < 5000000000)) || fail "$1: not $2: $(route)"
    done
    now=$(date +%s%N)
    echo $(((now - since) / 1000000))
}
service=tcp:$vip:80
disable() { weir disable $service 10.0.0.11:80; }
enable() { weir enable $service 10.0.0.11:80; }
sorry() { weir disable $service 10.0.0.13:80; }
tells() { grep -q "$1" <<<"$(weir show events)"; }

disable >/dev/null
same "without real servers the sorry server serves" "s3 5" "$(get r1 http://$vip/ 5 | tally)"
check "… and the VIP stays announced" held
check "… an event tells" grep -q 'below its minimum: its fallback servers are used.*10.0.0.11:80 (disabled)' <<<"$(weir show events)"
ms=$(took sorry gone)
check "… without that one it is withdrawn, in ${ms} ms" test "$ms" -le 100
check "… by BIRD as well" within 5 unannounced
check "… an event tells" within 3 tells 'below its minimum: new connections are refused, as no fallback server can be used'
check "/ready says so" grep -q 'no available real server: 10.0.0.11:80 (disabled); its fallback servers cannot be used either' \
    <<<"$(on weir curl -s "http://127.0.0.1:9900/ready?service=$service")"
ms=$(took enable held)
check "it is back, in ${ms} ms" test "$ms" -le 100
check "… an event tells" within 3 tells 'service is served again'
check "… BIRD announces it" within 5 announced
same "… and the real server serves" "s1 5" "$(get r1 http://$vip/ 5 | tally)"

# Another service of the same VIP keeps it announced.
write while-healthy 80 81
check "reload with a second service" weir reload
disable >/dev/null
sleep 0.2
check "one of two services is served: still announced" held
disable81() { weir disable tcp:$vip:81 10.0.0.11:80; }
ms=$(took disable81 gone)
check "none is: withdrawn, in ${ms} ms" test "$ms" -le 100
weir enable tcp:$vip:81 10.0.0.11:80 >/dev/null
check "one is: announced" within 2 held

disable6() { weir disable "tcp:[$vip6]:80" 10.0.0.11:80; }
enable6() { weir enable "tcp:[$vip6]:80" 10.0.0.11:80; }
ms=$(took disable6 gone6)
check "over IPv6 it is withdrawn in ${ms} ms" test "$ms" -le 100
ms=$(took enable6 held6)
check "… and back in ${ms} ms" test "$ms" -le 100

# What others do to the interface takes routes away.
ip -n weir link set host0 down
check "the interface is down: no route" gone
is_told() { grep -q "weir_service_announced{.*} $1" <<<"$(metrics)"; }
check "… which the metric tells" within 2 is_told 0
ip -n weir link set host0 up
check "… up again: announced" within 3 held
check "… over IPv6 as well" within 3 held6
check "… as the metric tells" within 2 is_told 1

# What others remove is made anew.
ip -n weir route del $vip/32 dev host0 proto 226 metric 4096
check "a removed route is back" within 1 held
ip -n weir -6 route del $vip6/128 dev host0 proto 226 metric 4096
check "… over IPv6 as well" within 1 held6

# A replacement takes it away, of which the kernel tells only that another has come; and one that was there first keeps it away.
tells_of_other() { grep -q "host0.*route to $1: another route ($2, protocol boot) has this destination" "$LAB_DIR/weir.log"; }
stolen() {
    local version=$1 vip=$2
    ip -n weir "-$version" route replace "$vip" dev lo metric 4096
    check "IPv$version: another's in the place of weir's is told of" within 3 tells_of_other "$vip" unicast
    check "… by the metric as well" within 2 is_told_of "$vip" 0
    check "… and stays" test -z "$(ip -n weir "-$version" route show "$vip" proto 226)"
    ip -n weir "-$version" route del "$vip" dev lo metric 4096
    check "… without it weir's is back" within 2 "$3"
    check "… as the metric tells" within 2 is_told_of "$vip" 1
    weir disable "tcp:$4:80" 10.0.0.11:80 >/dev/null
    [[ $version == 6 ]] || weir disable "tcp:$4:81" 10.0.0.11:80 >/dev/null
    check "… it is withdrawn" within 2 "$5"
    ip -n weir "-$version" route add blackhole "$vip" metric 4096
    weir enable "tcp:$4:80" 10.0.0.11:80 >/dev/null
    check "… beside a blackhole none is made, which is told" within 3 tells_of_other "$vip" blackhole
    check "… by the metric as well" within 2 is_told_of "$vip" 0
    ip -n weir "-$version" route del blackhole "$vip" metric 4096
    check "… without the blackhole it is back" within 2 "$3"
    check "… as the metric tells" within 2 is_told_of "$vip" 1
}
is_told_of() { grep -q "weir_service_announced{.*address=\"$1\".*} $2" <<<"$(metrics)"; }
stolen 4 $vip held $vip gone
stolen 6 $vip6 held6 "[$vip6]" gone6
weir enable tcp:$vip:81 10.0.0.11:80 >/dev/null

write always 80 81
check "reload with announce = always" weir reload
check "… the route is gone" within 1 gone
check "… over IPv6 as well" within 1 gone6
write while-healthy 80 81
check "reload with while-healthy" weir reload
check "… it is back" within 1 held
# A killed weir's routes go with its interface; on one that stays they are what the next weir finds.
stop() { weir_stop; }
check "stop" stop
check "… no route is left" gone
if ip -n weir tuntap add mode tap name host0 2>/dev/null; then
    ip -n weir link set host0 up
    ip -n weir route add 192.0.2.99/32 dev host0 proto 226
    weir_start "$LAB_DIR/weir.toml"
    stale() { ip -n weir route show 192.0.2.99 | grep -q host0; }
    unstale() { ! stale; }
    check "the route that a killed weir left is gone" within 5 unstale
fi
