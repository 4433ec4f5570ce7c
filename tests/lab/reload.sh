# Changes under load: what they do not touch does not notice.
#
#   scripts/lab tests/lab/reload.sh dr|nat|fullnat
# shellcheck shell=bash

mode=$1
vip=192.0.2.80
client c1 198.51.100.11
# Who counts the shares: in dr a port used once more stays with its real server, and c1 has used hundreds.
client c2 198.51.100.12
client c3 198.51.100.13
for n in 1 2 3; do
    server "s$n" "$mode" "10.0.0.1$n" "$vip"
    http_server "s$n"
done
# write WEIGHTS… SERVICES: three real servers' weights ("-": not there), and so many services more.
write() {
    local n reals=()
    for n in 1 2 3; do [[ ${!n} == - ]] || reals+=("10.0.0.1$n=${!n}"); done
    {
        service "$mode" tcp $vip:80 wrr "${reals[@]}"
        for ((n = 0; n < $4; n++)); do service "$mode" tcp "192.0.2.81:$((1000 + n))" rr 10.0.0.11=1 10.0.0.12=1; done
    } | config "$LAB_DIR/weir.toml"
}
write 1 1 1 0
weir_start "$LAB_DIR/weir.toml"

load() {
    rm -f "$LAB_DIR/stop"
    on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" steady "$LAB_DIR/stop" 24 $vip >"$LAB_DIR/load.json" &
    load=$!
    sleep 0.5
}
load_ends() {
    touch "$LAB_DIR/stop"
    wait "$load"
}

load
for round in 1 2 3 4 5; do
    for change in "3 2 1 0" "1 1 1 200" "0 1 2 100" "5 1 2 101" "1 2 3 300"; do
        # shellcheck disable=SC2086
        write $change
        check "round $round: weights and services $change" weir reload
    done
done
on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections 500 4 $vip >"$LAB_DIR/short.json"
load_ends
same "established connections under 25 reloads, failures" '{}' "$(jq_field failed <"$LAB_DIR/load.json")"
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
shared "no client is sent to s1" "s2 10, s3 10" "$(get c2 http://$vip/ 20 | tally)"
write 1 1 1 0
check "s1 comes back" weir reload
shared "… and has its share" "s1 10, s2 10, s3 10" "$(get c3 http://$vip/ 30 | tally)"
settled
