# A port that is a bond: DPDK's net_bonding over two TAPs, one active, one for backup.
#
# That the backup takes over is not shown: net_tap never tells net_bonding that its link went down.
# shellcheck shell=bash

vip=192.0.2.80
client c1 198.51.100.11
server s1 fullnat 10.0.0.11
server s2 fullnat 10.0.0.12
http_server s1
http_server s2
service fullnat tcp $vip:80 rr 10.0.0.11=1 10.0.0.12=1 | config "$LAB_DIR/weir.toml"
sed -i -e 's/^idle = .*/&\neal_args = ["--vdev=net_tap10,iface=weir10", "--vdev=net_tap11,iface=weir11"]/' \
    -e 's/^device = "net_tap0,.*/device = "net_bonding0,mode=1,slave=net_tap10,slave=net_tap11,primary=net_tap10"/' \
    "$LAB_DIR/weir.toml"
weir_launch "$LAB_DIR/weir.toml"
plug weir10 wan
plug weir11 wan
plug weir1 lan

check "the port is the bond" grep -q 'driver="net_bonding"' "$LAB_DIR/weir.log"
shared "requests are balanced over it" "s1 10, s2 10" "$(get c1 http://$vip/ 20 | tally)"
check "ping" on c1 ping -c 3 -i 0.2 -W 2 198.51.100.1
before=$(on weir cat /sys/class/net/weir11/statistics/rx_packets)
check "the backup sends nothing" test "$before" -lt 5
settled
