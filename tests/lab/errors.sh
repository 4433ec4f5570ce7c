# ICMP errors about connections, said by the kernel's own routers and hosts: path MTU discovery, closed ports, hops; and what
# tracepath, traceroute and large pings say.
#
#   scripts/lab tests/lab/errors.sh dr|nat|fullnat
#
#     far ── r2 ── (MTU 1300) ── r1 ── wan [ weir ] lan ── s1
#                                                      └── ri ── (MTU 1300) ── s9
# shellcheck shell=bash

mode=$1
four=192.0.2.80 six=2001:db8:2::80
# With fullnat, in front of real servers of the other family.
to_four=2001:db8:2::46 to_six=192.0.2.64

quiet_namespace far
quiet_namespace r2
host r1 wan 198.51.100.254/24
has r1 wan 2001:db8:51::fe/64
leg far wan r2 far 1500
leg r2 mid r1 mid 1300
has far wan 203.0.113.7/24 2001:db8:7::7/64
has r2 far 203.0.113.1/24 2001:db8:7::1/64
has r2 mid 10.99.0.2/24 2001:db8:99::2/64
has r1 mid 10.99.0.1/24 2001:db8:99::1/64
router r1
router r2
goes far default 203.0.113.1 default 2001:db8:7::1
goes r2 default 10.99.0.1 default 2001:db8:99::1
goes r1 203.0.113.0/24 10.99.0.2 2001:db8:7::/64 2001:db8:99::2 192.0.2.0/24 198.51.100.1 2001:db8:2::/64 2001:db8:51::1

server s1 "$mode" 10.0.0.11 $four
has s1 lan 2001:db8:10::11/64
case $mode in
dr)
    has s1 wan 2001:db8:51::111/64
    has s1 lo $six/128
    goes s1 203.0.113.0/24 198.51.100.254 2001:db8:7::/64 2001:db8:51::fe
    ;;
nat) goes s1 default 2001:db8:10::1 ;;
esac
host ri lan 10.0.0.254/24
has ri lan 2001:db8:10::fe/64
quiet_namespace s9
leg ri mid s9 lan 1300
# It does not know, and says that it takes long segments.
ip -n s9 link set lan mtu 1500
has ri mid 10.9.0.1/24 2001:db8:19::1/64
has s9 lan 10.9.0.5/24 2001:db8:19::5/64
router ri
goes s9 default 10.9.0.1 default 2001:db8:19::1
goes ri default 10.0.0.1 default 2001:db8:10::1

head -c 20000000 /dev/urandom >"$LAB_DIR/files.big"
mkdir -p "$LAB_DIR/files"
mv "$LAB_DIR/files.big" "$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
http_server s1
# shellcheck disable=SC2016
spawn s9 socat -u TCP6-LISTEN:9000,fork,reuseaddr,ipv6only=0 SYSTEM:"sha256sum >$LAB_DIR/uploaded"

six_service() { service "$@" | sed 's/"inside"/"inside6"/'; }
{
    printf '\n[[local_pool]]\nname = "inside6"\naddresses = ["2001:db8:10::200"]\n'
    for net in '"203.0.113.0/24" via "198.51.100.254"' '"2001:db8:7::/64" via "2001:db8:51::fe"' \
        '"10.9.0.0/24" via "10.0.0.254"' '"2001:db8:19::/64" via "2001:db8:10::fe"' '"2001:db8:99::/64" via "2001:db8:51::fe"' '"10.99.0.0/24" via "198.51.100.254"'; do
        printf '\n[[route]]\nto = %s\nvia = %s\n' "${net% via*}" "${net#*via }"
    done
    for port in 80 9999; do
        protocol=$([[ $port == 80 ]] && echo tcp || echo udp)
        service "$mode" "$protocol" $four:$port rr 10.0.0.11=1
        six_service "$mode" "$protocol" "[$six]:$port" rr "[2001:db8:10::11]=1"
    done
    if [[ $mode != dr ]]; then
        for protocol in tcp udp; do
            service "$mode" $protocol $four:9000 rr 10.9.0.5=1
            six_service "$mode" $protocol "[$six]:9000" rr "[2001:db8:19::5]=1"
        done
    fi
    if [[ $mode == fullnat ]]; then
        service fullnat tcp "[$to_four]:80" rr 10.0.0.11=1
        six_service fullnat tcp $to_six:80 rr "[2001:db8:10::11]=1"
        service fullnat udp "[$to_four]:9999" rr 10.0.0.11=1
        six_service fullnat udp $to_six:9999 rr "[2001:db8:10::11]=1"
        for protocol in tcp udp; do
            service fullnat $protocol "[$to_four]:9000" rr 10.9.0.5=1
            six_service fullnat $protocol $to_six:9000 rr "[2001:db8:19::5]=1"
        done
    fi
} | config "$LAB_DIR/weir.toml"
sed -i 's|"198.51.100.1/24"|&, "2001:db8:51::1/64"|; s|"10.0.0.1/24"|&, "2001:db8:10::1/64"|' "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

passed() { metrics | awk -v type="\"$1\"" '/^weir_icmp_errors_total/ && $0 ~ type { print $NF }'; }
# forget NAME: what the kernel there has learned of paths.
forget() {
    ip -n "$1" route flush cache
    ip -n "$1" -6 route flush cache
}
bracketed() { case $1 in *:*) echo "[$1]" ;; *) echo "$1" ;; esac; }

# down VIP: a client behind a link of 1,300 bytes gets a file, whose segments are longer at first.
down() {
    local before
    before=$(passed too_big)
    forget s1
    same "20 MB down from $1 past a link of 1,300 bytes" "$digest" \
        "$(on far curl -sS --max-time 60 "http://$(bracketed "$1")/files/big" | sha256sum)"
    check "… which a router has told of" test "$(passed too_big)" -gt "$before"
}

# up VIP: the same towards the real server.
up() {
    local before
    before=$(passed too_big)
    rm -f "$LAB_DIR/uploaded"
    forget c1
    on c1 socat -u "FILE:$LAB_DIR/files/big" "TCP:$(bracketed "$1"):9000"
    within 20 test -s "$LAB_DIR/uploaded" || fail "the upload does not end"
    same "20 MB up to $1, and past one behind weir" "$digest" "$(<"$LAB_DIR/uploaded")"
    check "… which a router has told of" test "$(passed too_big)" -gt "$before"
}

# asks HOST VIP PORT [TTL]: what becomes of a datagram: the kernel's word for the error, and who says it.
asks() {
    on "$1" /usr/bin/python3 - "${@:2}" <<'EOF'
import errno, ipaddress, select, socket, struct, sys
vip, port, ttl = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 64
six = ":" in vip
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
level, receive, hops = (41, 25, 16) if six else (0, 11, 2)
s.setsockopt(level, receive, 1)
s.setsockopt(level, hops, ttl)
s.connect((vip, port))
s.send(b"question")
if not select.select([s], [], [s], 3)[0]:
    sys.exit("no error within 3 seconds")
_, ancillary, _, _ = s.recvmsg(1024, 1024, socket.MSG_ERRQUEUE)
data = ancillary[0][2]
number = struct.unpack_from("=I", data)[0]
at = 16 + (8 if six else 4)
print(errno.errorcode[number], ipaddress.ip_address(data[at : at + (16 if six else 4)]))
EOF
}

# hops OPTIONS…: who answers far's traceroute, from hop to hop.
hops() { on far timeout 30 traceroute -n -q 1 -w 3 -m 8 "$@" | awk '/^ *[0-9]/ { printf "%s%s", between, $2; between = " " }'; }

# traced VIP: the way to a VIP, and through its services, as an operator looks at it.
traced() {
    local way="203.0.113.1 10.99.0.1"
    [[ $1 != *:* ]] || way="2001:db8:7::1 2001:db8:99::1"
    same "tracepath to $1" "pmtu 1300 hops 4" "$(on far timeout 60 tracepath -n -m 8 "$1" | grep -o 'pmtu 1300 hops [0-9]*')"
    # weir says so from the VIP, and from there on all is the VIP.
    same "traceroute to HTTP at $1" "$way $1 $1" "$(hops -T -p 80 "$1")"
    same "traceroute to a closed port at $1" "$way $1 $1" "$(hops -U -p 9999 "$1")"
    [[ $mode == dr ]] || same "traceroute through two routers behind $1" "$way $1 $1 $1" "$(hops -U -p 9000 "$1")"
    check "a ping of 3,000 bytes to $1" on far ping -q -c 2 -i 0.2 -W 2 -s 3000 "$1"
}

client c1 198.51.100.11
has c1 wan 2001:db8:51::11/64
goes c1 2001:db8:2::/64 2001:db8:51::1
vips=("$four" "$six")
[[ $mode != fullnat ]] || vips+=("$to_four" "$to_six")
for vip in "${vips[@]}"; do
    down "$vip"
    same "a closed port of $vip, at once" "ECONNREFUSED $vip" "$(asks far "$vip" 9999)"
    if [[ $mode != dr ]]; then
        up "$vip"
        # r2, r1 and weir take one each, and ri the last.
        same "a packet that dies behind $vip" "EHOSTUNREACH $vip" "$(asks far "$vip" 9000 4)"
    fi
    # Last: from then on the client knows how wide the way is.
    traced "$vip"
done
wrong() { metrics | awk '/^weir_dropped_packets_total.*"(icmp_.*|fragment|too_big|bad_.*)"/ && $NF > 0'; }
same "no error was dropped" "" "$(wrong)"

settled
