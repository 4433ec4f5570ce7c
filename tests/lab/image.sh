# The appliance's image: booted by BIOS and by UEFI, set up by a configuration drive and by a person on the serial line; it forwards
# between real clients and servers through PCI NICs.
#
#   scripts/lab tests/lab/image.sh IMAGE [bios] [uefi] [hand]
#
# A boot takes some minutes, as QEMU emulates the CPU: KVM inside of another virtual machine is slower still in GRUB's real mode.
# shellcheck shell=bash

image=$1
cases=("${@:2}")
((${#cases[@]})) || cases=(bios uefi hand)
vip=192.0.2.80
wan=0000:00:06.0 lan=0000:00:07.0

client c1 198.51.100.11
server s1 nat 10.0.0.13
server s2 nat 10.0.0.14
http_server s1
http_server s2

cat >"$LAB_DIR/weir.toml" <<END
[dpdk]
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
addresses = ["10.0.0.200"]
END
service fullnat tcp $vip:80 rr 10.0.0.13=1 10.0.0.14=1 >>"$LAB_DIR/weir.toml"

# drive FILE NAME=TEXT…: a configuration drive.
drive() {
    local file=$1 entry
    truncate -s 1M "$file"
    mkfs.vfat -n WEIR "$file" >/dev/null
    mcopy -i "$file" "$LAB_DIR/weir.toml" ::weir.toml
    shift
    for entry; do
        printf '%s\n' "${entry#*=}" >"$LAB_DIR/entry"
        mcopy -i "$file" "$LAB_DIR/entry" "::${entry%%=*}"
    done
}

for side in wan lan; do
    ip -n weir tuntap add "vm.$side" mode tap
    ip -n weir link set "vm.$side" master "$side" up
done

# boot OPTION…: the image's changes are kept nowhere.
boot() {
    rm -f "$LAB_DIR/serial"
    ip netns exec weir qemu-system-x86_64 -nodefaults -no-user-config -display none -vga std -no-reboot \
        -machine q35 -accel tcg -cpu max -smp 2 -m 1536 \
        -device intel-iommu,intremap=on,caching-mode=on,device-iotlb=on \
        -drive "file=$image,format=raw,if=virtio,snapshot=on" \
        -netdev tap,id=wan,ifname=vm.wan,script=no,downscript=no \
        -device "virtio-net-pci,netdev=wan,mac=02:00:00:00:01:01,bus=pcie.0,addr=6,disable-legacy=on,iommu_platform=on,ats=on,romfile=" \
        -netdev tap,id=lan,ifname=vm.lan,script=no,downscript=no \
        -device "virtio-net-pci,netdev=lan,mac=02:00:00:00:01:02,bus=pcie.0,addr=7,disable-legacy=on,iommu_platform=on,ats=on,romfile=" \
        -chardev "socket,id=serial,path=$LAB_DIR/serial,server=on,wait=off,logfile=$LAB_DIR/console" -serial chardev:serial \
        "$@" >"$LAB_DIR/qemu.log" 2>&1 &
    machine=$!
}

halt() {
    kill "$machine"
    wait "$machine" || true
}

forwards() { get c1 http://$vip/ >/dev/null 2>&1; }

told() {
    tail -n 60 "$LAB_DIR/console" "$LAB_DIR/qemu.log" | tr -d '\r' >&2
}

# serves NAME
serves() {
    within 600 forwards || {
        told
        fail "$1: it does not forward"
    }
    same "$1: it forwards" "s1 10, s2 10" "$(get c1 http://$vip/ 20 | tally)"
}

drive "$LAB_DIR/drive" devices="$wan $lan" hugepages=256 hostname=edge1 \
    authorized_keys="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA lab"
config=(-drive "file=$LAB_DIR/drive,format=raw,if=virtio,readonly=on")
image_bios() {
    boot "${config[@]}"
    serves "BIOS, a configuration drive"
}

image_uefi() {
    cp /usr/share/OVMF/OVMF_VARS_4M.fd "$LAB_DIR/vars"
    boot "${config[@]}" -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
        -drive "if=pflash,format=raw,file=$LAB_DIR/vars"
    serves "UEFI, a configuration drive"
}

image_hand() {
    boot
    /usr/bin/python3 "$LAB_TOP/tests/lab/answer.py" "$LAB_DIR/serial" "$LAB_DIR/weir.toml" "$wan" "$lan" || {
        told
        fail "the first boot does not go on as it should"
    }
    good "a person on the serial line is asked, and answers"
    serves "by hand"
}

for name in "${cases[@]}"; do
    "image_$name"
    halt
done
