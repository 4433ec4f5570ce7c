# weir-server-kit without a weir: clients' addresses that hand-made directors tell by TCP option 254, and packets out of hand-made tunnels,
# right and wrong ones.
#
#   scripts/lab tests/lab/kit.sh toa|tunnel
#
#     d1 (frames made by hand, 10.0.0.200) ── lan ── s1 (the kit, nginx and Python)
# shellcheck shell=bash

# shellcheck source=scripts/lib/kit.sh
. "$LAB_TOP/scripts/lib/kit.sh"

what=$1
kit_build
kit_here

host d1 lan 10.0.0.9/24
has d1 lan 2001:db8:10::9/64
host s1 lan 10.0.0.11/24
has s1 lan 10.0.0.12/24 2001:db8:10::11/64 2001:db8:10::12/64
mac() { on "$1" cat /sys/class/net/lan/address; }
for address in 10.0.0.200 10.0.0.8 2001:db8:10::200 2001:db8:10::8; do
    ip -n s1 neigh replace "$address" lladdr "$(mac d1)" dev lan nud permanent
done
spawn s1 /usr/bin/python3 "$LAB_TOP/tests/lab/kit.py" serve
within 10 grep -q ready "$LAB_DIR/s1.log" || fail "no servers: $(cat "$LAB_DIR/s1.log")"

director() { on d1 /usr/bin/python3 "$LAB_TOP/tests/lab/kit.py" "$1" "$(mac s1)" "${@:2}" 2>&1; }

# A mistake in the file is told with its line, and nothing runs then.
wrong() {
    local expected=$1
    kit_file
    refuse "refused: $expected" ip netns exec s1 "$kit" run "$LAB_DIR/kit.conf" 2>"$LAB_DIR/kit.said"
    grep -qF "$expected" "$LAB_DIR/kit.said" || fail "expected '$expected', got '$(cat "$LAB_DIR/kit.said")'"
}
wrong "no director" <<<$'toa accept'
wrong "nothing to do" <<<$'director 10.0.0.200/30'
wrong ":2: no key 'directors'" <<<$'toa accept\ndirectors 10.0.0.1'
wrong ":1: '10.0.0.300' is no address" <<<$'director 10.0.0.300\ntoa accept'
wrong ":1: '10.0.0.201/30' has bits behind its length of 30" <<<$'director 10.0.0.201/30\ntoa accept'
wrong ":1: '10.0.0.0/33': a prefix of this family has 1 to 32 bits" <<<$'director 10.0.0.0/33\ntoa accept'
wrong ":1: '::/0' is every host" <<<$'director ::/0\ntoa accept'
for every in ::/1 ::/8 ::/80 ::fffe:0:0/95 ::ffff:0:0/96; do
    wrong ":1: '$every' holds ::ffff:0:0/96, which is every host of IPv4" <<<"director $every"
done
for large in 0.0.0.0/1 128.0.0.0/1 10.0.0.0/7 2000::/3 fc00::/6 ::ffff:0.0.0.0/97 ::ffff:10.0.0.0/103; do
    wrong ":1: '$large' is too much" <<<"director $large"
done
largest='director 10.0.0.0/8 fc00::/7 ::ffff:11.0.0.0/104 ::/97 ::fffe:0:0/96'
check "the largest prefixes" grep -q '^5 directors' <<<"$(kit_file <<<"$largest"$'\ntoa accept' && "$kit" check "$LAB_DIR/kit.conf")"
wrong ":2: toa has no value" <<<$'director 10.0.0.1\ntoa # accept'
wrong ":2: no toa 'always'" <<<$'director 10.0.0.1\ntoa always'
wrong ":2: no tunnel 'vxlan'" <<<$'director 10.0.0.1\ntunnel vxlan'
wrong "a tunnel, but no device" <<<$'director 10.0.0.1\ntunnel ipip\ndestination 10.0.0.11'
wrong "a tunnel, but no destination" <<<$'director 10.0.0.1\ntunnel ipip\ndevice lan'
wrong ":1: '65536' is no port" <<<$'gue-port 65536'
wrong ":1: gue-port has one value" <<<$'gue-port 6080 6081'
wrong ":1: 'sys' is no path from the root" <<<$'pins sys'
wrong "no device lan9" <<<$'director 10.0.0.1\ntunnel ipip\ndevice lan9\ndestination 10.0.0.11'
wrong ":1: 'a-name-of-16-chars' is too long for a device's name" <<<$'device a-name-of-16-chars'

toa_file() { printf 'director 10.0.0.200/30 2001:db8:10::200\ntoa %s\n' "${1:-accept getsockopt}"; }

toa() {
    local line expected
    kit_start s1 < <(toa_file)
    coproc asking { director toa; }
    read -r -t 60 line <&"${asking[0]}" || fail "the director ended"
    [[ $line == *cases ]] || fail "toa: $line $(cat <&"${asking[0]}")"
    good "toa: $line, from directors and strangers"
    asked() {
        echo >&"${asking[1]}"
        read -r -t 10 line <&"${asking[0]}" || fail "the connection is gone"
        same "$1" "$2" "$line"
    }
    asked "a connection's client" 203.0.113.7
    kit_reload < <(toa_file accept)
    asked "after a reload" 203.0.113.7
    refuse "a second one beside it" ip netns exec s1 "$kit" run "$LAB_DIR/kit.conf" 2>"$LAB_DIR/kit.said"
    check "… which is told of" grep -q 'another weir-server-kit runs' "$LAB_DIR/kit.said"
    # shellcheck disable=SC2016 # The inner shell expands it.
    refuse "… and whose lock no other user takes" setpriv --reuid=65534 --regid=65534 --clear-groups \
        sh -c 'flock -n /run/weir-server-kit true || flock -n "/run/weir-server-kit/$(stat -Lc %i /proc/self/ns/net)" true' 2>/dev/null
    kit_reload <<<$'director 10.0.0.200/30\ntunnel ipip\ndevice lan\ndestination 10.0.0.11'
    asked "with toa turned off" 10.0.0.200
    kit_reload < <(toa_file)
    asked "with toa turned on again" 203.0.113.7
    kit_file <<<'toa never'
    kill -HUP "$kit_pid"
    within 5 grep -q 'everything stays as it was' "$LAB_DIR/kit.log" || fail "a wrong file is not told of"
    asked "after a file that was refused" 203.0.113.7
    kit_stop
    asked "without the kit" 10.0.0.200
    kit_start s1 < <(toa_file)
    asked "with the kit started anew" 203.0.113.7

    http_server s1
    check "40 clients that nginx tells" director toa-many 40
    on s1 sysctl -q -w net.ipv4.tcp_syncookies=2
    check "40 clients by SYN cookies" director toa-many 40
    on s1 sysctl -q -w net.ipv4.tcp_syncookies=1
    for expected in toa_data toa_none toa_untrusted toa_ipv4_socket; do
        check "counted: $expected" test "$(kit_counted "$expected")" -gt 0
    done
    check "counted: toa_handshake" test "$(kit_counted toa_handshake)" -gt 90
}

tunnel_file() {
    printf 'director 10.0.0.200/30 2001:db8:10::200\ntunnel %s\ndevice lan\ndestination 10.0.0.11 2001:db8:10::11\n' "$*"
}

tunnel() {
    has s1 lo 192.0.2.80/32 2001:db8:2::80/128
    goes s1 default 10.0.0.200 default 2001:db8:10::200
    kit_start s1 < <(tunnel_file ipip gre gue)
    local said
    said=$(director tunnel "$kit" "$LAB_DIR/kit.conf") || fail "$said"
    good "$said of each pair of families, right and wrong packets"

    # By lan, while the file has another device.
    ip -n s1 link add other type bridge
    tunnel_file ipip gre gue | sed 's/^device lan$/device other/' | kit_reload
    said=$(director elsewhere "$kit" "$LAB_DIR/kit.conf") || fail "$said"
    good "packets by another device than the file's stay as they are"

    # A device that comes anew; every director and destination another; one kind less.
    {
        echo "tunnel ipip"
        echo "device lan late"
        seq 0 4095 | awk '{ printf "director 10.%d.%d.0/24\n", $1 / 256, $1 % 256 }'
        seq 0 255 | sed 's/^/destination 10.1.1./'
    } >"$LAB_DIR/full"
    kit_file <"$LAB_DIR/full"
    kill -HUP "$kit_pid"
    within 5 grep -q 'no device late' "$LAB_DIR/kit.log" || fail "a device that is not there is not told of"
    ip -n s1 link add late type bridge
    within 8 grep -q 'device late is there anew' "$LAB_DIR/kit.log" || fail "a late device is not attached to"
    check "a device that came later has the program" grep -q 'bpf' <<<"$(tc -n s1 filter show dev late ingress)"
    sed 's/ 10\.\([0-9]*\)\.\([0-9]*\)\./ 11.\1.\2./' "$LAB_DIR/full" | kit_reload
    good "4,096 directors and 256 destinations, all of them new ones by a reload"
    refuse "the port of GUE is free" grep -q ':17C0 ' <<<"$(on s1 cat /proc/net/udp /proc/net/udp6)"
    # Nothing of it stays.
    kit_stop
    same "filters left" "" "$(tc -n s1 filter show dev lan ingress)"
    refuse "the kit's device is gone" ip -n s1 link show weir-kit 2>/dev/null
}

"$what"
[[ -z $kit_pid ]] || kit_stop
