# weir on PCI devices: emulated NICs in a guest, with real clients and servers around it.
#
#   scripts/lab tests/lab/pci.sh NIC/DRIVER/MODE[/WORKERS]…
#
# NIC: virtio, virtio4 (queue pairs), e1000e, vmxnet3, e1000. DRIVER: vfio-pci, uio_pci_generic. One boot serves all cases.
# shellcheck shell=bash

# shellcheck source=scripts/lib/guest.sh
. "$LAB_TOP/scripts/lib/guest.sh"

vip=192.0.2.80

guest_config() {
    local wan lan n workers=1 reals
    read -r wan lan < <(guest_nic "$1")
    for ((n = 1; n < $3; n++)); do workers+=", $((n % 2 + 1))"; done
    {
        cat <<END
[dpdk]
workers = [$workers]
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
for case; do
    IFS=/ read -r nic driver mode workers <<<"$case"
    read -r wan lan < <(guest_nic "$nic")
    guest_bind "$driver" "$wan" "$lan"
    guest_config "$nic" "$mode" "${workers:-1}" >"$LAB_DIR/weir.toml"
    guest_put "$LAB_DIR/weir.toml" /tmp/weir.toml
    guest_weir
    forwards "$case" "$mode" "$workers"
    guest_weir_stop || fail "weir does not stop cleanly in the guest"
done
