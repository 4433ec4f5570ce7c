# A virtual machine with emulated NICs beside the lab's clients and servers: QEMU without a disk, whose initramfs has
# busybox, weir's bundle and the modules of Debian's kernel. It is driven over the serial line.
# shellcheck shell=bash
#
#     guest_start            makes the initramfs, boots; every NIC model of guest_nics has a pair on the wan and the lan
#     guest COMMAND          runs a line of shell there, prints what it prints, and gives its status
#     guest_put FILE TO      copies a small file there
#     monitor COMMAND        a line for QEMU's monitor

guest_pid=''

# The NICs: name, PCI slots of the wan's and the lan's, QEMU's model with its properties, queue pairs of the TAP.
# Those whose slot is a bus of its own (01:00.0) are behind a root port, which is where devices can be unplugged.
guest_nics=(
    "virtio 0000:01:00.0 0000:02:00.0 virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on 1"
    "virtio4 0000:00:06.0 0000:00:07.0 virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on,mq=on,vectors=10,rss=on 4"
    "e1000e 0000:00:08.0 0000:00:09.0 e1000e 1"
    "vmxnet3 0000:00:0a.0 0000:00:0b.0 vmxnet3 1"
    "e1000 0000:00:0c.0 0000:00:0d.0 e1000 1"
)

# guest_nic NAME: its two PCI addresses.
guest_nic() {
    local nic
    for nic in "${guest_nics[@]}"; do
        [[ ${nic%% *} != "$1" ]] || awk '{print $2, $3}' <<<"$nic"
    done
}

# guest_initramfs KERNEL-FOLDER FILE
guest_initramfs() {
    local root=$LAB_DIR/guest
    # shellcheck source=scripts/lib/pack.sh
    . "$LAB_TOP/scripts/lib/pack.sh"
    mkdir -p "$root"/{bin,proc,sys,dev,etc,run,tmp,mnt/huge,lib,var}
    ln -s ../run "$root/var/run"
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    cp -r "$1/lib/modules" "$root/lib/"
    strip --strip-debug -o "$LAB_DIR/weir.stripped" "$WEIR"
    pack "$LAB_DIR/weir.stripped" "$root/weir" mempool_ring bus_vdev bus_pci net_virtio net_e1000 net_vmxnet3 net_ring
    printf 'root:x:0:0::/tmp:/bin/sh\nweir:x:1000:1000::/tmp:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nweir:x:1000:\n' >"$root/etc/group"
    cat >"$root/init" <<'END'
#!/bin/sh
# Takes lines of shell from the serial line, and says after each how it ended.
export PATH=/bin:/weir HOME=/tmp NO_COLOR=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mkdir -m 1777 /run/lock
mount -t tmpfs tmpfs /tmp
mount -t hugetlbfs huge /mnt/huge
ip link set lo up
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty raw -echo
echo '@@ 0'
while IFS= read -r line; do
    eval "$line"
    echo "@@ $?"
done
END
    chmod +x "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$2"
}

# guest_start: 1 GiB, three CPUs, a virtual IOMMU. The kernel's drivers of the NICs are not loaded.
guest_start() {
    local folder nic name wan lan model queues multi_queue n=0 side place
    folder=$(find "$LAB_TOP/target/guest" -maxdepth 1 -name 'linux-image-*' 2>/dev/null | sort -V | tail -n 1) || true
    [[ -n $folder ]] || fail "no kernel for the guest: scripts/setup guest"
    guest_initramfs "$folder" "$LAB_DIR/initramfs"
    local options=()
    for nic in "${guest_nics[@]}"; do
        # shellcheck disable=SC2034 # $wan and $lan are read as ${!side}
        read -r name wan lan model queues <<<"$nic"
        multi_queue=()
        ((queues == 1)) || multi_queue=(multi_queue)
        for side in wan lan; do
            n=$((n + 1))
            ip -n weir tuntap add "$name.$side" mode tap "${multi_queue[@]}"
            ip -n weir link set "$name.$side" master "$side" up
            place=${!side}
            if [[ $place == 0000:00:* ]]; then
                place=bus=pcie.0,addr=${place:8:2}
            else
                options+=(-device "pcie-root-port,id=root$n,bus=pcie.0,addr=$((n + 1)),chassis=$n,slot=$n")
                place=bus=root$n
            fi
            options+=(-netdev "tap,id=$name.$side,ifname=$name.$side,script=no,downscript=no,queues=$queues"
                -device "$model,id=$name-$side,netdev=$name.$side,mac=02:00:00:00:01:$(printf %02x $n),$place,romfile=")
        done
    done
    mkfifo "$LAB_DIR/serial.in" "$LAB_DIR/serial.out"
    # Open for both directions each, so that no end waits for the other.
    exec {guest_in}<>"$LAB_DIR/serial.in" {guest_out}<>"$LAB_DIR/serial.out"
    ip netns exec weir qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -machine q35 -accel tcg -cpu max -smp 3 -m 1024 \
        -device intel-iommu,intremap=on,caching-mode=on,device-iotlb=on \
        -kernel "$folder/vmlinux" -initrd "$LAB_DIR/initramfs" \
        -append "console=ttyS0 quiet loglevel=3 panic=-1 intel_iommu=on iommu=pt nokaslr no_timer_check" \
        -chardev stdio,id=serial,signal=off -serial chardev:serial \
        -monitor "unix:$LAB_DIR/monitor,server=on,wait=off" \
        "${options[@]}" <&"$guest_in" >"$LAB_DIR/serial.out" 2> >(grep -v libbpf >"$LAB_DIR/qemu.log") &
    guest_pid=$!
    guest_answer 90 >"$LAB_DIR/boot.log" || fail "the guest does not boot: $(tail -n 40 "$LAB_DIR/qemu.log" "$LAB_DIR/boot.log")"
    good "a guest has booted: $(guest uname -r)"
}

# guest_answer SECONDS: prints what the guest says until it is ready for the next command; the last command's status.
guest_answer() {
    local line part='' end=$((SECONDS + $1))
    while ((SECONDS < end)) && kill -0 "$guest_pid" 2>/dev/null; do
        IFS= read -r -t 5 -u "$guest_out" line || {
            # What has come of a line so far.
            part+=$line
            continue
        }
        line=$part${line%$'\r'} part=''
        [[ $line != '@@ '* ]] || return "${line#@@ }"
        printf '%s\n' "$line"
    done
    echo "the guest does not answer" >&2
    return 124
}

guest() {
    printf '%s\n' "$*" >&"$guest_in"
    guest_answer "${GUEST_SECONDS:-60}"
}

# monitor COMMAND: a line for QEMU's monitor (set_link NAME-wan off, device_del NAME-wan).
monitor() { echo "$*" | socat -t 1 - "UNIX-CONNECT:$LAB_DIR/monitor" >>"$LAB_DIR/monitor.log"; }

guest_put() { guest "echo $(gzip -c "$1" | base64 -w 0) | base64 -d | gunzip >$2"; }

# guest_bind DRIVER ADDRESS…: as driverctl does it.
guest_bind() {
    local driver=$1 address device
    shift
    guest "modprobe $driver"
    # Debian's modprobe takes it along, busybox's knows no such dependency.
    [[ $driver != vfio-pci ]] || guest "modprobe vfio_iommu_type1"
    for address; do
        device=/sys/bus/pci/devices/$address
        guest "echo $driver >$device/driver_override; [ ! -e $device/driver ] || echo $address >$device/driver/unbind; echo $address >/sys/bus/pci/drivers_probe; [ \$(basename \$(readlink $device/driver)) = $driver ]" ||
            fail "$address cannot be bound to $driver"
    done
}
