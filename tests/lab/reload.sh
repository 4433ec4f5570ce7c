# Changes under load: what they do not touch does not notice.
#
#   scripts/lab tests/lab/reload.sh dr|nat|fullnat [FRONT [BACK [ROUNDS]]]
#
# FRONT, BACK: the families of clients and of real servers, 4 or 6 (default: 4, and as the front). ROUNDS of five reloads (5).
# shellcheck shell=bash

mode=$1
families "${2:-4}" "${3:-${2:-4}}"
rounds=${4:-5}
vip=$(vip 80)
url=http://$(in_url "$vip")
client c1 "$(wan 11)"
# Who counts the shares: in dr a port used once more stays with its real server, and c1 has used hundreds.
client c2 "$(wan 12)"
client c3 "$(wan 13)"
for n in 1 2 3; do
    server "s$n" "$mode" "$(lan "1$n")" "$vip"
    http_server "s$n"
done
other="[$(vip 81)]" others=("[$(lan 11)]=1" "[$(lan 12)]=1")
# write WEIGHTS… SERVICES: three real servers' weights ("-": not there), and so many services more.
write() {
    local n reals=()
    for n in 1 2 3; do [[ ${!n} == - ]] || reals+=("[$(lan "1$n")]=${!n}"); done
    {
        service "$mode" tcp "[$vip]:80" wrr "${reals[@]}"
        for ((n = 0; n < $4; n++)); do service "$mode" tcp "$other:$((1000 + n))" rr "${others[@]}"; done
    } | config "$LAB_DIR/weir.toml"
}
write 1 1 1 0
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"

load() {
    rm -f "$LAB_DIR/stop"
    on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" steady "$LAB_DIR/stop" 24 "$(in_url "$vip")" >"$LAB_DIR/load.json" &
    load=$!
    sleep 0.5
}
load_ends() {
    touch "$LAB_DIR/stop"
    wait "$load"
}

load
for ((round = 1; round <= rounds; round++)); do
    for change in "3 2 1 0" "1 1 1 200" "0 1 2 100" "5 1 2 101" "1 2 3 300"; do
        # shellcheck disable=SC2086
        write $change
        check "round $round: weights and services $change" weir reload
    done
done
on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections 500 4 "$(in_url "$vip")" >"$LAB_DIR/short.json"
load_ends
same "established connections under $((rounds * 5)) reloads, failures" '{}' "$(jq_field failed <"$LAB_DIR/load.json")"
check "… and they had work" test "$(jq_field requests 'min(value.values()) > 100' <"$LAB_DIR/load.json")" = True
same "new connections, failures" '{}' "$(jq_field failed <"$LAB_DIR/short.json")"

write 1 1 1 0
weir reload >/dev/null
load
write - 1 1 0
check "s1 is removed" weir reload
sleep 1
load_ends
same "failures on the others" '[]' "$(jq_field failed '[name for name in value if name != "s1"]' <"$LAB_DIR/load.json")"
# Each of the 24 clients can have met it once, before it left.
check "connections of s1 end once" test "$(jq_field failed 'value.get("s1", 0) <= 24' <"$LAB_DIR/load.json")" = True
shared "no client is sent to s1" "s2 10, s3 10" "$(get c2 "$url/" 20 | tally)"
write 1 1 1 0
check "s1 comes back" weir reload
shared "… and has its share" "s1 10, s2 10, s3 10" "$(get c3 "$url/" 30 | tally)"
settled
