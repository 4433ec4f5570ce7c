# A bundle runs beside the distribution's DPDK, with its own drivers alone, and says so where it must not load them.
#
#   scripts/lab tests/lab/bundle.sh
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

# shellcheck source=scripts/lib/pack.sh
. "$LAB_TOP/scripts/lib/pack.sh"

vip=192.0.2.80
bundle=$LAB_DIR/bundle
pack "$WEIR" "$bundle" mempool_ring bus_vdev bus_pci net_tap net_ring net_virtio net_e1000
check "the distribution's drivers are there as well" test -n "$(compgen -G '/usr/lib/*/dpdk/pmds-*/librte_net_tap.so')"
client c1 198.51.100.11
server s1 nat 10.0.0.11
http_server s1
service nat tcp $vip:80 rr 10.0.0.11=1 | config "$LAB_DIR/weir.toml"
WEIR=$bundle/weir
weir_start "$LAB_DIR/weir.toml"
same "the bundle forwards" "s1 3" "$(get c1 http://$vip/ 3 | tally)"
drivers=$(grep -ho '/[^ ]*/librte_[a-z]*_[a-z0-9]*\.so[.0-9]*' "/proc/$weir_pid/maps" | sort -u)
same "libraries of DPDK from elsewhere" "" "$(grep -v "^$bundle/" <<<"$drivers" || true)"
check "the drivers are its own" grep -q "^$bundle/lib/librte_net_tap" <<<"$drivers"
weir_stop || fail "weir does not stop cleanly"

chmod 1777 "$bundle"
said=$(on weir "$WEIR" run --config "$LAB_DIR/weir.toml" 2>&1) && fail "weir loads drivers that any user may have put there"
check "a folder that every user may write to is named" grep -q "$bundle is writable by every user" <<<"$said"
same "… in one line" 1 "$(grep -c -v " WARN " <<<"$said")"
