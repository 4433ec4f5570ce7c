# Several ports on one device, each in a VLAN of its own, behind a trunk (trunk.py): HTTP, DNS and a file pass between them, and the
# frames of other VLANs are told by name.
#
#   scripts/lab tests/lab/vlan.sh tap|af_packet|pcap
#
# tap: tags by software, one port with two. af_packet: the driver takes tags off and puts them on. pcap: an MTU of 9,000.
# shellcheck shell=bash

device=$1
far=200 mtu=1500 trunk=trunk
case $device in
tap) name=net_tap0,iface=weir0 trunk=weir0 far=300.400 ;;
af_packet) name=net_af_packet0,iface=nic ;;
pcap) name=net_pcap0,rx_iface_in=nic,tx_iface=nic mtu=9000 far=300.400 ;;
*) fail "no device '$device'" ;;
esac
payload=$((mtu - 28))

# leg BRIDGE: its leg in the trunk.
leg() {
    ip -n weir link add "t.$1" type veth peer name "$1.trunk"
    on weir ethtool -K "t.$1" tx off >/dev/null
    on weir ethtool -K "$1.trunk" tx off >/dev/null
    ip -n weir link set "$1.trunk" master "$1" mtu $mtu up
    ip -n weir link set "t.$1" mtu $mtu up
}

for bridge in far stray; do
    ip -n weir link add $bridge type bridge forward_delay 0 mcast_snooping 0
    ip -n weir link set $bridge up
done
for bridge in wan lan far stray; do leg $bridge; done
if [[ $device != tap ]]; then
    ip -n weir link add nic type veth peer name trunk
    for end in nic trunk; do
        on weir ethtool -K $end tx off >/dev/null
        ip -n weir link set $end mtu $((mtu + 8)) up
    done
fi

client c1 198.51.100.11
server s1 nat 10.0.0.11
server s2 nat 10.0.0.12
host s3 far 10.3.0.13/24
ip -n s3 route add default via 10.3.0.1
host x1 stray 10.9.0.11/24
for name in c1 s1 s2 s3; do
    for end in wan lan far; do
        if ip -n $name link set $end mtu $mtu 2>/dev/null; then ip -n weir link set "$end.$name" mtu $mtu; fi
    done
done
for name in s1 s2 s3; do
    http_server $name
    dns_server $name
done

one=192.0.2.80 other=192.0.2.81
{
    service nat tcp $one:80 rr 10.0.0.11=1 10.0.0.12=1 10.3.0.13=1
    service fullnat tcp $other:80 rr 10.0.0.11=1 10.0.0.12=1 10.3.0.13=1
    service nat udp $one:53 rr 10.0.0.11=1 10.0.0.12=1 10.3.0.13=1
} | config "$LAB_DIR/weir.toml"
# The ports of the lab, on one device.
/usr/bin/python3 - "$LAB_DIR/weir.toml" "$name" $far $mtu "$device" <<'EOF'
import re, sys
file, device, far, mtu, kind = sys.argv[1:]
device = {"tap": "net_tap0,iface=weir0", "af_packet": "net_af_packet0,iface=nic", "pcap": "net_pcap0,rx_iface_in=nic,tx_iface=nic"}[kind]
text = open(file).read()
text = re.sub(r'device = ".*"', f'device = "{device}"\nmtu = {mtu}', text)
text = text.replace('addresses = ["10.0.0.1/24"]', 'addresses = ["10.0.0.1/24", "fd00:a::1/64"]\nvlan = 100\ncompanion = "host100"')
far = far if "." not in far else f'"{far}"'
port = f'[[port]]\nname = "far"\ndevice = "{device}"\nvlan = {far}\nmtu = {mtu}\naddresses = ["10.3.0.1/24"]\n'
text = "limits = { connections = 100000 }\n" + text
open(file, "w").write(text.replace("[[local_pool]]", f"{port}\n[[local_pool]]"))
EOF
check "the configuration is taken" weir check "$LAB_DIR/weir.toml"
# The companion has the port's IPv6 address too.
on weir sysctl -q -w net.ipv6.conf.default.disable_ipv6=0
weir_launch "$LAB_DIR/weir.toml"
on weir sysctl -q -w net.ipv6.conf.default.disable_ipv6=1
# Raw sockets have room for one tag of 802.1Q beyond the MTU, and for no other.
ip -n weir link set $trunk mtu $((mtu + 8)) up
spawn weir /usr/bin/python3 "$LAB_TOP/tests/lab/trunk.py" $trunk t.wan=0 t.lan=100 t.far=$far t.stray=999

answers() { on "$1" ping -qc1 -W1 "$2"; }
check "a client reaches the untagged port" within 10 answers c1 198.51.100.1
check "a real server reaches the port of VLAN 100" within 10 answers s1 10.0.0.1
check "… and another one that of VLAN $far" within 10 answers s3 10.3.0.1
for name in s1 s2 s3; do within 5 answers $name "$(on $name ip route show default | awk '{ print $3 }')" || fail "$name"; done
served() { get c1 http://$one/; }
within 10 served || fail "no answer by HTTP"

for vip in $one $other; do
    shared "HTTP at $vip goes to both VLANs" "s1 10, s2 10, s3 10" "$(get c1 "http://$vip/" 30 | tally)"
done
shared "DNS goes to both VLANs" "s1 10, s2 10, s3 10" "$(who c1 $one 30 | tally)"

head -c 8000000 /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
for n in 1 2 3; do
    same "8 MB down, unchanged ($n)" "$digest" "$(on c1 curl -sS --max-time 60 http://$one/files/big | sha256sum)"
done
check "packets of $mtu bytes are answered" on c1 ping -qc2 -i0.2 -W2 -M do -s $payload 198.51.100.1
check "… in VLAN 100" on s1 ping -qc2 -i0.2 -W2 -M do -s $payload 10.0.0.1
check "… and in VLAN $far" on s3 ping -qc2 -i0.2 -W2 -M do -s $payload 10.3.0.1
if ((mtu == 9000)); then
    longest() { metrics | awk -F'[ ]' '/_received_bytes_total{port="wan"/ { bytes = $NF } /_received_packets_total{port="wan"/ { packets = $NF } END { exit !(bytes > 2000 * packets) }'; }
    check "most of what passed was longer than 1,500 bytes" longest
fi

on s1 sysctl -q -w net.ipv6.conf.lan.disable_ipv6=0
ip -n s1 -6 address add fd00:a::11/64 dev lan nodad
check "IPv6 finds its neighbours in VLAN 100" within 5 on s1 ping -6 -qc1 -W1 fd00:a::1
same "… by the port's tag alone" "" "$(ip -n s3 -6 neighbour show)"

http_server weir 8081
same "the host serves VLAN 100 by its companion" "weir 10.0.0.11" "$(get s1 http://10.0.0.1:8081/)"

dropped() { metrics | awk '/^weir_dropped_packets_total.*"other_vlan"/ { sum += $NF } END { print sum + 0 }'; }
same "no frame of another VLAN so far" 0 "$(dropped)"
on x1 ping -qc1 -W1 10.9.0.1 >/dev/null || true
check "the frames of another VLAN are dropped by name" test "$(dropped)" -gt 0

same "weir show ports has the VLANs" "wan 0, lan 100, far $far" "$(weir show ports --json | /usr/bin/python3 -c '
import json, sys
print(*("{port} {vlan}".format(**row) for row in json.load(sys.stdin)), sep=", ")')"
tags=$([[ $device == af_packet ]] && echo "by the device" || echo "by software")
check "the log says who puts tags on" grep -Eq "VLAN.*port=.?\"?lan.*$tags|VLAN.*$tags.*lan" "$LAB_DIR/weir.log"

cp "$LAB_DIR/weir.toml" "$LAB_DIR/before.toml"
sed -i 's/vlan = 100/vlan = 101/' "$LAB_DIR/weir.toml"
refuse "another VLAN needs a restart" weir reload
cp "$LAB_DIR/before.toml" "$LAB_DIR/weir.toml"
check "the same file is taken again" weir reload
shared "and all is as before" "s1 10, s2 10, s3 10" "$(get c1 http://$one/ 30 | tally)"

settled
