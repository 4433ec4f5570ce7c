#!/usr/bin/env bash
# A weir package under a real systemd (systemd-nspawn on a Debian made by mmdebstrap): installed, configured, started, reloaded,
# upgraded, removed and purged.
#
#   tests/package.sh BINARY
#
# As root. The Debian is kept in target/guest/package.tar; it takes about 3 minutes to make.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
binary=$(realpath "$1")
base=target/guest/package.tar
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

scripts/setup package
if [[ ! -e $base ]]; then
    mkdir -p target/guest
    # What the package depends on is there, so that dpkg installs it without a network.
    mmdebstrap --quiet --variant=minbase \
        --include=systemd,systemd-sysv,udev,dbus,adduser,iproute2,procps,man-db,librte-meta-net,librte-meta-bus,librte-meta-mempool \
        bookworm "$base.new"
    mv "$base.new" "$base"
fi
root=$work/root
mkdir "$root"
tar -xf "$base" -C "$root"
scripts/package --weir "$binary" "$root/root/old.deb"
cargo=(env "PATH=$top/target/tools/bin:$PATH" cargo deb --quiet --no-build --no-strip --fast)
"${cargo[@]}" --deb-version 99.0.0-1 --output "$root/root/new.deb"
install -m 755 tests/package-inside.sh "$root/root/inside.sh"
cat >"$root/etc/systemd/system/inside.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/inside.sh
StandardOutput=file:/root/said
StandardError=file:/root/said
ExecStopPost=/bin/systemctl --no-block poweroff
END
ln -s ../inside.service "$root/etc/systemd/system/multi-user.target.wants/inside.service"
# DPDK asks /sys/module for vfio, and does not start where that is missing.
timeout 300 unshare --cgroup --mount --pid --fork --kill-child \
    systemd-nspawn --register=no --keep-unit --quiet --private-network --bind=/dev/net/tun --bind-ro=/sys/module \
    --capability=CAP_NET_ADMIN,CAP_IPC_LOCK --directory "$root" --boot </dev/null >"$work/boot.log" 2>&1 || true
cat "$root/root/said" || tail -n 50 "$work/boot.log"
[[ $(tail -n 1 "$root/root/said") == 'all of it' ]]
