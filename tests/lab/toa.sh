# An unmodified nginx behind fullnat knows its clients by TCP option 254, which weir-server-kit reads, with a hop before it that
# loses, repeats and reorders packets.
#
#   scripts/lab tests/lab/toa.sh [FAMILY [MEGABYTES [CONNECTIONS]]]
#
# FAMILY: 4 (default) or 6. MEGABYTES down (20), so many short connections (1000).
# shellcheck shell=bash

# shellcheck source=scripts/lib/kit.sh
. "$LAB_TOP/scripts/lib/kit.sh"

families "${1:-4}" "${1:-4}"
megabytes=${2:-20} connections=${3:-1000}
kit_build
kit_here

vip=$(vip 80) s1="[$(lan 11)]"
url=http://$(in_url "$vip")
client c1 "$(wan 11)"
server s1 fullnat "$(lan 11)"
hop s1
http_server s1
kit_start s1 <<<$'director 10.0.0.200/30 2001:db8:10::200/126\ntoa accept getsockopt'
head -c "${megabytes}000000" /dev/urandom >"$LAB_DIR/files/big"
{
    service fullnat tcp "[$vip]:80" rr "$s1:80=1" | sed 's|^scheduler = .*|&\nclient_address = "toa"|'
    service fullnat tcp "[$vip]:81" rr "$s1:80=1"
    known s1 "$(lan 11)"
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
check "nginx answers" within 10 get c1 "$url/"

same "nginx knows the client" "s1 $(wan 11)" "$(get c1 "$url/" 50 | sort -u)"
same "and not of a service that tells nothing" "s1 $(lan 20)" "$(get c1 "$url:81/" 50 | sed 's/20[0-3]$/20/' | sort -u)"

load=$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections "$connections" 16 "$(in_url "$vip")")
same "$connections short connections, failures" '{}' "$(jq_field failed <<<"$load")"
check "the kit has read as many options" test "$(kit_counted toa_handshake)" -ge "$connections"
digest=$(sha256sum <"$LAB_DIR/files/big")
same "$megabytes MB down" "$digest" "$(on c1 curl -sS --max-time 120 "$url/files/big" | sha256sum)"

settled
kit_stop
