# weir on PCI devices: emulated NICs in a guest, with real clients and servers around it.
#
#   scripts/lab tests/lab/pci.sh NIC/DRIVER/MODE[/WORKERS]… [setup] [black-hole] [refusals] [states/DRIVER]
#
# NIC: virtio, virtio4 (queue pairs), e1000e, vmxnet3, e1000. DRIVER: vfio-pci, uio_pci_generic. WORKERS: 0 for weir's own
# choice. `black-hole`: a device that sends nothing; `states`: what happens to running devices; `refusals`: what weir says of those that it cannot have; `setup`: weir setup. One boot serves
# all cases.
# shellcheck shell=bash
# shellcheck disable=SC2016 # what is in single quotes is for the guest's shell

# shellcheck source=scripts/lib/guest.sh
. "$LAB_TOP/scripts/lib/guest.sh"

vip=192.0.2.80

guest_config() {
    local wan lan n workers="workers = [1" reals
    read -r wan lan < <(guest_nic "$1")
    for ((n = 1; n < $3; n++)); do workers+=", $((n % 2 + 1))"; done
    workers+="]"
    (($3)) || workers=''
    {
        cat <<END
[dpdk]
$workers
idle = "adaptive"
[limits]
connections = 10000
[[port]]
name = "wan"
device = "$wan"
addresses = ["198.51.100.1/24"]
[[port]]
name = "lan"
device = "$lan"
addresses = ["10.0.0.1/24"]
[[local_pool]]
name = "inside"
addresses = ["10.0.0.200-10.0.0.203"]
END
        if [[ $2 == dr ]]; then reals=(10.0.0.11=1 10.0.0.12=1); else reals=(10.0.0.13=1 10.0.0.14=1); fi
        service "$2" tcp $vip:80 rr "${reals[@]}"
        service "$2" udp $vip:53 rr "${reals[@]}"
    }
}

guest_ready() { guest "wget -q -O - http://127.0.0.1:9900/ready"; }

# guest_weir: runs weir with /tmp/weir.toml, and waits until it is ready.
guest_weir() {
    guest 'weir run --config /tmp/weir.toml >>/tmp/weir.log 2>&1 & echo $! >/tmp/weir.pid'
    within 30 guest_ready || {
        guest 'tail -n 30 /tmp/weir.log' >&2
        fail "weir is not ready in the guest"
    }
}

# guest_weir_stop: ends it, and gives its exit status.
guest_weir_stop() { guest 'kill $(cat /tmp/weir.pid); wait $(cat /tmp/weir.pid)'; }

# forwards CASE MODE: each of many workers takes turns for itself.
forwards() {
    local name=$1 a=s3 b=s4
    [[ $2 != dr ]] || a=s1 b=s2
    LAB_WORKERS=${3:-1} shared "$name: HTTP" "$a 10, $b 10" "$(get c1 http://$vip/ 20 | tally)"
    LAB_WORKERS=${3:-1} shared "$name: DNS" "$a 5, $b 5" "$(who c1 $vip 10 | tally)"
    same "$name: 1 MB down" "$digest" "$(on c1 curl -sS --max-time 30 http://$vip/files/big | sha256sum)"
}

client c1 198.51.100.11
server s1 dr 10.0.0.11 $vip
server s2 dr 10.0.0.12 $vip
server s3 nat 10.0.0.13
server s4 nat 10.0.0.14
for n in 1 2 3 4; do
    http_server s$n
    dns_server s$n
done
head -c 1000000 /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")

guest_start
guest 'echo 200 >/proc/sys/vm/nr_hugepages'
# guest_case CASE: binds its NICs, and has its configuration there; sets nic, driver, mode, workers, wan, lan.
guest_case() {
    IFS=/ read -r nic driver mode workers <<<"$1"
    workers=${workers:-1}
    read -r wan lan < <(guest_nic "$nic")
    guest_bind "$driver" "$wan" "$lan"
    guest_config "$nic" "$mode" "$workers" >"$LAB_DIR/weir.toml"
    guest_put "$LAB_DIR/weir.toml" /tmp/weir.toml
    guest ': >/tmp/weir.log'
}

# refused WHAT TEXT [COMMAND]: weir does not start, and says so, in one line for each fault.
refused() {
    local said
    said=$(guest "${3:-weir run --config /tmp/weir.toml} 2>&1") && fail "$1: weir started"
    [[ $said == *"$2"* ]] || fail "$1: weir said: $said"
    [[ $said != *dpdk:* ]] || fail "$1: DPDK's words: $said"
    good "$1: …$2…"
}

# logged TEXT: weir said so.
logged() { guest "grep -q '$1' /tmp/weir.log"; }

guest_states() {
    guest_case "virtio/$1/nat"
    guest_weir
    guest 'kill -9 $(cat /tmp/weir.pid); wait $(cat /tmp/weir.pid)' || true
    guest_weir
    forwards "after kill -9" nat
    guest_weir_stop || fail "weir does not stop cleanly"

    monitor set_link virtio-wan off
    guest ': >/tmp/weir.log'
    guest 'weir run --config /tmp/weir.toml >>/tmp/weir.log 2>&1 & echo $! >/tmp/weir.pid'
    within 20 logged ' ready' || fail "weir does not start without a link: $(guest 'cat /tmp/weir.log')"
    refuse "not ready while a link is down" guest_ready
    on c1 timeout 20 tcpdump -nn -l -c 1 -i wan 'arp and src host 198.51.100.1 and dst host 198.51.100.1' >"$LAB_DIR/announced" 2>&1 &
    sleep 1
    monitor set_link virtio-wan on
    within 10 guest_ready || fail "weir is not ready when the link is up"
    check "a link that comes up later is no link that went down" logged 'the link is up.*wan'
    refuse "… and was not reported as down" logged 'the link is down'
    wait $! || fail "no gratuitous ARP: $(cat "$LAB_DIR/announced")"
    good "… and hears a gratuitous ARP"

    monitor device_del virtio-lan
    within 10 logged 'the device is unplugged.*lan' || fail "weir does not notice: $(guest 'tail /tmp/weir.log')"
    good "an unplugged device is noticed"
    within 10 guest "[ ! -e /sys/bus/pci/devices/$lan ]" || fail "the kernel does not get the device back"
    good "… and given back"
    refuse "… weir is not ready then" guest_ready
    check "… but healthy" guest 'wget -q -O - http://127.0.0.1:9900/health'
    same "… and answers on the other port" 0 "$(on c1 ping -c 1 -W 5 198.51.100.1 >/dev/null; echo $?)"
    guest_weir_stop || fail "weir does not stop cleanly without its device: $(guest 'tail /tmp/weir.log')"
}

# master ADDRESS 7|3: whether a device may read and write memory.
guest_master() { guest "printf '\\x0$2' | dd of=/sys/bus/pci/devices/$1/config bs=1 seek=4 conv=notrunc 2>/dev/null"; }

stalled() { guest "wget -q -O - http://127.0.0.1:9900/metrics | grep -q '^weir_port_stalled.*$1.* 1$'"; }

# A device that takes packets and sends none, as one does whose access to memory was switched off.
guest_black_hole() {
    local load
    guest_case e1000/uio_pci_generic/nat
    guest_weir
    forwards "before the black hole" nat
    guest_master "$lan" 3
    on c1 /usr/bin/python3 -c "
import socket, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    client.sendto(b'?', ('$vip', 53))
    time.sleep(0.02)" &
    load=$!
    within 20 stalled lan || fail "a black hole is not noticed: $(guest 'tail /tmp/weir.log; weir show ports --json')"
    good "a black hole is in the metrics"
    check "… in the log" logged 'does not send them.*lan'
    refuse "… and weir is not ready" guest_ready
    refuse "… while the other port is fine" stalled wan
    kill $load
    guest_weir_stop || fail "weir does not stop cleanly"
}

guest_refusals() {
    guest_case e1000/vfio-pci/nat/2
    refused "two workers on a NIC of one queue" 'list at most 1 in [dpdk] workers'
    guest "chown weir /dev/vfio/*"
    refused "little memory may be locked" 'RLIMIT_MEMLOCK' 'ulimit -l 8192; su weir -c "/weir/weir run --config /tmp/weir.toml"'
    guest "chown root /dev/vfio/*; chmod 600 /dev/vfio/*"
    refused "another user's device" 'this user may not open /dev/vfio/' 'su weir -c "/weir/weir run --config /tmp/weir.toml"'
    check "check only warns of the machine" guest 'weir check /tmp/weir.toml'

    guest_case virtio4/uio_pci_generic/nat
    guest_weir
    refused "a second weir" 'in use by another weir (process' 'sed s/9900/9901/ /tmp/weir.toml >/tmp/b.toml; echo "[api]" >>/tmp/b.toml; echo "listen = \"\"" >>/tmp/b.toml; weir run --config /tmp/b.toml'
    forwards "the first weir goes on" nat
    guest_weir_stop || fail "weir does not stop cleanly"
    guest 'echo 0 >/proc/sys/vm/nr_hugepages'
    refused "uio without hugepages" 'sysctl vm.nr_hugepages='
    guest 'echo 200 >/proc/sys/vm/nr_hugepages'

    guest_bind e1000 "$(guest_nic e1000 | cut -d" " -f1)"
    guest_config e1000 nat 1 >"$LAB_DIR/weir.toml"
    guest_put "$LAB_DIR/weir.toml" /tmp/weir.toml
    refused "a device of the kernel's" "belongs to the kernel's driver e1000 as eth"
    guest "echo $wan >/sys/bus/pci/devices/$wan/driver/unbind"
    sed "s/$(guest_nic e1000 | cut -d" " -f1)/${wan#0000:}/" "$LAB_DIR/weir.toml" >"$LAB_DIR/other.toml"
    guest_put "$LAB_DIR/other.toml" /tmp/weir.toml
    refused "a device without a driver" "driverctl set-override $wan vfio-pci"
    sed "s/$(guest_nic e1000 | cut -d" " -f1)/0000:09:09.0/" "$LAB_DIR/weir.toml" >"$LAB_DIR/other.toml"
    guest_put "$LAB_DIR/other.toml" /tmp/weir.toml
    refused "a device that is not there" 'there is no PCI device 0000:09:09.0; the network devices here are'
}

# The machine of a newcomer: a NIC with an interface of the kernel's.
guest_setup() {
    local nic interface before
    nic=$(guest_nic e1000 | cut -d' ' -f1)
    guest "modprobe e1000"
    guest_bind e1000 "$nic"
    interface=$(guest "ls /sys/bus/pci/devices/$nic/net")
    guest "ip address add 198.51.100.1/24 dev $interface; ip link set $interface up; ip route add default via 198.51.100.254"
    before=$(guest 'cat /proc/sys/vm/nr_hugepages')
    check "a NIC is listed with what it would lose" guest "weir setup | grep -A 2 '^$nic e1000 as $interface' | grep -q 'would lose 198.51.100.1/24 on $interface'"
    check "a dry run ends well" guest "weir setup $nic --with-default-route --config /tmp/first.toml --dry-run >/tmp/dry"
    check "… and says the commands" guest "grep -q 'echo vfio-pci >/sys/bus/pci/devices/$nic/driver_override' /tmp/dry"
    check "… and does nothing" guest "[ ! -e /tmp/first.toml ] && [ -e /sys/class/net/$interface ]"
    refuse "what has the default route is not taken unasked" guest "weir setup $nic --config /tmp/first.toml"
    check "the NIC is given to weir" guest "weir setup $nic --with-default-route --hugepages 420 --config /tmp/first.toml"
    same "it has the driver" vfio-pci "$(guest "basename \$(readlink /sys/bus/pci/devices/$nic/driver)")"
    same "hugepages are reserved" 210 "$(guest 'cat /proc/sys/vm/nr_hugepages')"
    check "the file is one that weir takes, with the device" guest "weir check /tmp/first.toml"
    guest '{ echo "limits = { connections = 10000 }"; echo "dpdk = { idle = \"adaptive\" }"; cat /tmp/first.toml; } >/tmp/weir.toml; : >/tmp/weir.log'
    guest_weir
    check "weir runs with it" guest "weir show ports | grep -q '^wan .*$nic.*198.51.100.1/24'"
    refuse "it is not taken away from a running weir" guest 'weir setup --undo'
    guest_weir_stop || fail "weir does not stop cleanly"
    check "all is taken back" guest 'weir setup --undo'
    same "the kernel has its interface again" "$interface" "$(guest "ls /sys/bus/pci/devices/$nic/net")"
    same "… and its memory" "$before" "$(guest 'cat /proc/sys/vm/nr_hugepages')"
    refuse "… and the file is gone" guest '[ -e /tmp/first.toml ]'
    refuse "a second time there is nothing to take back" guest 'weir setup --undo'
}

for case; do
    case $case in
    setup)
        guest_setup
        continue
        ;;
    states/*)
        guest_states "${case#*/}"
        continue
        ;;
    black-hole)
        guest_black_hole
        continue
        ;;
    refusals)
        guest_refusals
        continue
        ;;
    esac
    guest_case "$case"
    guest_weir
    forwards "$case" "$mode" "$((workers ? workers : 1))"
    [[ $nic/$workers != virtio4/[2-9] ]] || same "$case: ports whose replies RSS steers" 2 "$(guest 'grep -c "replies steered by RSS" /tmp/weir.log')"
    [[ ${GUEST_LOG:-} != 1 ]] || guest 'cat /tmp/weir.log'
    refuse "$case: no device is taken for a black hole" guest "grep -E 'does not send them|hands none over' /tmp/weir.log"
    guest_weir_stop || fail "weir does not stop cleanly in the guest"
    # The kernel turns a line off once 100,000 such interrupts have come on it, for every device that shares it.
    refuse "$case: no interrupt came that no driver takes" guest "cat /proc/irq/*/spurious | awk '/^unhandled/ && \$2 > 1000' | grep ."
done
