# The host behind weir uses the same port: ping, TCP both ways, a BGP session of BIRD's that announces the VIP.
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

vip=192.0.2.80
# In this lab the host is also the bridge that weir's port is plugged into: only the companion is to answer for its
# addresses, not every interface of the host.
on weir sysctl -q -w net.ipv4.conf.all.arp_ignore=1
client c1 198.51.100.11
host r1 wan 198.51.100.254/24
server s1 fullnat 10.0.0.11
http_server s1
http_server c1
export LAB_COMPANION=host0
{
    service fullnat tcp $vip:80 rr 10.0.0.11=1
    printf '\n[[route]]\nto = "203.0.113.0/24"\nvia = "198.51.100.254"\n'
    printf '\n[[host_peer]]\naddress = "198.51.100.254"\n\n[limits]\nhost_packets_per_second = 2000\n'
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

check "the companion has the port's address" grep -q 'inet 198.51.100.1/24' <<<"$(ip -n weir address show host0)"
same "… and its MAC address" "$(weir show ports --json | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["mac"])')" \
    "$(ip -n weir -json link show host0 | /usr/bin/python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["address"])')"
check "… and the route by its gateway" grep -q 'via 198.51.100.254 .*metric 4096' <<<"$(ip -n weir route show 203.0.113.0/24)"

check "ping of the port's address" on c1 ping -qc2 -i0.2 -W2 198.51.100.1
check "ping from the host" on weir ping -qc2 -i0.2 -W2 198.51.100.11
check "HTTP from the host" get weir http://198.51.100.11/ 5
spawn weir /usr/bin/python3 -m http.server 8080 --bind 198.51.100.1 --directory "$LAB_DIR/files"
head -c 5000000 /dev/urandom >"$LAB_DIR/files/some"
within 5 on weir curl -fs http://198.51.100.1:8080/ || fail "the host's own server does not start"
same "5 MB from the host, unchanged" "$(sha256sum <"$LAB_DIR/files/some")" \
    "$(on c1 curl -sS --max-time 30 http://198.51.100.1:8080/some | sha256sum)"

bird weir <<EOF
router id 198.51.100.1;
protocol device {}
protocol bfd { interface "*" { interval 200 ms; multiplier 5; }; }
protocol static vips { ipv4; route $vip/32 blackhole; }
protocol bgp upstream {
    local 198.51.100.1 as 65001;
    neighbor 198.51.100.254 as 65002;
    hold time 3; keepalive time 1; bfd on;
    ipv4 { import none; export where source = RTS_STATIC; next hop self; };
}
EOF
bird r1 <<EOF
router id 198.51.100.254;
protocol device {}
protocol bfd { interface "*" { interval 200 ms; multiplier 5; }; }
protocol kernel { ipv4 { export all; }; }
protocol bgp balancer {
    local 198.51.100.254 as 65002;
    neighbor 198.51.100.1 as 65001;
    hold time 3; keepalive time 1; bfd on;
    ipv4 { import all; export none; };
}
EOF
established() { birdc r1 show protocols balancer | grep -q Established; }
within 40 established || fail "no BGP session: $(birdc r1 show protocols all balancer)"
good "BIRD peers through the companion"
bfd_up() { birdc r1 show bfd sessions | grep -q '198.51.100.1 .*Up'; }
check "… with BFD" within 5 bfd_up
announced() { ip -n r1 route show $vip | grep -q 'via 198.51.100.1 dev wan proto bird'; }
check "the VIP is announced" within 10 announced
same "the router's requests are balanced" "s1 20" "$(get r1 http://$vip/ 20 | tally)"

# More than the host is to get, from the router's own prefix: the load balancer goes on, and so do BGP and BFD.
on c1 /usr/bin/python3 - <<'EOF' &
import socket, time
flood, end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), time.monotonic() + 5
while time.monotonic() < end:
    for _ in range(100):
        flood.sendto(b"?" * 20, ("198.51.100.1", 9))
    time.sleep(0.004)  # as much as TAPs carry: what they lose is not weir's
EOF
flood=$!
sleep 0.3
same "under a flood of the host requests are balanced" "s1 50" "$(get r1 http://$vip/ 50 | tally)"
looks=0 seen=0
while kill -0 $flood 2>/dev/null; do
    looks=$((looks + 1))
    ! announced || seen=$((seen + 1))
    sleep 0.1
done
wait $flood
check "… and the VIP is announced all the while, in $looks looks" test "$looks" -gt 5 -a "$seen" = "$looks"
check "… of which a named part went up" grep -q '^weir_host_packets_total{port="wan",direction="in"} [1-9]' <<<"$(metrics)"
check "… and a named part did not" grep -q '^weir_dropped_packets_total{reason="host_rate_limited"} [1-9]' <<<"$(metrics)"
check "… and BGP and BFD live" established
bfd_up || fail "BFD is down"

sed -i 's|addresses = \["198.51.100.1/24"\]|addresses = ["198.51.100.1/24", "198.51.100.2/24"]|; s|203.0.113.0/24|203.0.113.128/25|' "$LAB_DIR/weir.toml"
check "a reload changes the port's addresses and routes" weir reload
second() { ip -n weir address show host0 | grep -q 'inet 198.51.100.2/24'; }
check "… and the kernel's" within 5 second
moved() { [[ -n $(ip -n weir route show 203.0.113.128/25) && -z $(ip -n weir route show 203.0.113.0/24) ]]; }
check "… its routes too" within 5 moved
settled

# What others do to the interface.
route_back() { ip -n weir route show 203.0.113.128/25 | grep -q 'via 198.51.100.254'; }
ip -n weir link set host0 down
ip -n weir link set host0 up
check "set down and up, it has its routes again" within 5 route_back
ip -n weir address del 198.51.100.1/24 dev host0
first() { ip -n weir address show host0 | grep -q 'inet 198.51.100.1/24'; }
check "an address that was removed by hand is there again" within 5 first
within 5 second || fail "the second address is missing"
sed -i 's|"198.51.100.1/24", ||' "$LAB_DIR/weir.toml"
check "the first address is removed" weir reload
only_second() { second && ! first; }
check "… the second stays, though the kernel removes it with the first" within 5 only_second
sed -i 's|"198.51.100.2/24"|"198.51.100.1/24"|' "$LAB_DIR/weir.toml"
weir reload >/dev/null

weir_stop
companion_is_there() { ip -n weir link show host0 2>/dev/null; }
refuse "the companion goes with weir" companion_is_there

weir_start "$LAB_DIR/weir.toml"
ip -n weir link delete host0
unhealthy() { [[ $(on weir curl -s --max-time 5 http://127.0.0.1:9900/health) == *"companion interfaces are gone: host0"* ]]; }
check "removed by hand, it is missed" within 5 unhealthy
before=$(awk '{print $14 + $15}' "/proc/$weir_pid/stat")
sleep 1
check "… and no thread spins" test $(($(awk '{print $14 + $15}' "/proc/$weir_pid/stat") - before)) -lt 50
