#!/usr/bin/env bash
# What tests/package.sh runs in its Debian: each line that begins with "ok" was seen.
set -euo pipefail
fail() {
    echo "FAILED  $*"
    systemctl status --no-pager weir || true
    journalctl --no-pager --lines 30 --unit weir || true
    exit 1
}
ok() {
    local what=$1
    shift
    "$@" >/root/out 2>&1 || {
        cat /root/out
        fail "$what"
    }
    echo "  ok    $what"
}
refused() {
    local what=$1
    shift
    if "$@" >/root/out 2>&1; then fail "$what"; fi
    echo "  ok    $what"
}
within() {
    for _ in $(seq "$(($1 * 10))"); do
        if "${@:2}" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    return 1
}
export DEBIAN_FRONTEND=noninteractive
config=/etc/weir/weir.toml

ok "installed" dpkg -i /root/old.deb
ok "the user weir is there" id weir
ok "its folder is for its group" test "$(stat -c '%U:%G %a' /etc/weir)" = 'root:weir 750'
refused "not enabled, as it is not configured" systemctl is-enabled weir
refused "… nor started" systemctl is-active weir
ok "manual pages" man -w weir weir-show
ok "completions" grep -q drain /usr/share/bash-completion/completions/weir
refused "the first file cannot be used" weir check $config
said=$(weir check $config 2>&1 || true)
ok "… since a port is missing" grep -q port <<<"$said"
ok "the unit's paths are the package's" grep -q '^ExecStart=/usr/bin/weir run --config /etc/weir/weir.toml' /lib/systemd/system/weir.service
ok "systemd finds nothing wrong with the unit" systemd-analyze verify /lib/systemd/system/weir.service
exposure=$(systemd-analyze security --no-pager weir | sed -n 's/.*Overall exposure level for weir.service: \([0-9.]*\).*/\1/p')
ok "the unit exposes little: $exposure" awk -v "level=$exposure" 'BEGIN {exit !(level != "" && level <= 4)}'

cat >$config <<'END'
[dpdk]
eal_args = ["--no-huge", "-m", "256"]
idle = "adaptive"

[[port]]
name = "lan"
device = "net_tap0,iface=weir0"
addresses = ["10.0.0.1/24"]

[[service]]
name = "web"
address = "10.0.0.80"
port = 80
protocol = "tcp"
mode = "nat"

  [[service.real]]
  address = "10.0.0.11"
  [[service.real]]
  address = "10.0.0.12"
END
ok "started" systemctl enable --now weir
ok "active" systemctl is-active weir
pid() { systemctl show --property MainPID --value weir; }
first=$(pid)
ok "as the user weir" test "$(stat -c %U "/proc/$first")" = weir
ok "it answers" weir show services
sed -i 's/^port = 80$/port = 81/' $config
ok "reloaded" systemctl reload weir
ok "… to what the file says" grep -q '10.0.0.80:81' <<<"$(weir show services)"
ok "… by the same process" test "$(pid)" = "$first"
echo 'services = 1' >>$config
refused "a reload of a bad file fails" systemctl reload weir
ok "… with its place in the log" grep -q 'weir.toml:[0-9]*:[0-9]*' <<<"$(journalctl --no-pager -u weir)"
ok "… and weir goes on" grep -q '10.0.0.80:81' <<<"$(weir show services)"
sed -i '$d' $config
ok "drained" weir drain web 10.0.0.12:81

ok "upgraded" dpkg -i /root/new.deb
ok "the file of the operator is kept" grep -q 'port = 81' $config
another() { [[ $(pid) != "$first" && $(systemctl is-active weir) == active ]]; }
within 10 another || fail "restarted by the upgrade"
echo "  ok    restarted by the upgrade"
drained() { weir show reals | grep -q drained; }
within 5 drained || fail "the drain outlives the restart"
echo "  ok    the drain outlives the restart"

kill -9 "$(pid)"
back() { [[ $(systemctl is-active weir) == active ]] && weir show services; }
within 10 back || fail "killed, it comes again"
echo "  ok    killed, it comes again"

ok "removed" dpkg -r weir
refused "… and stopped" pgrep -x weir
ok "the file of the operator is kept" test -e $config
ok "purged" dpkg -P weir
for left in /etc/weir /var/lib/weir /usr/bin/weir /usr/lib/sysusers.d/weir.conf /lib/systemd/system/weir.service; do
    refused "$left is gone" test -e $left
done
ok "no unit has failed" test -z "$(systemctl list-units --failed --plain --no-legend | grep -i weir)"
echo 'all of it'
