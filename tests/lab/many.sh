# 20,000 services of 8 real servers each, all of them checked: reloads under load flap nothing and lose nothing.
#
#   scripts/lab tests/lab/many.sh [MODE [SERVICES]]
#
# Services ask for one of 250 ports of 8 addresses: 2,000 checks every two seconds, each shared by 80 services.
# shellcheck shell=bash

mode=${1:-nat}
services=${2:-20000}
families 4 4
vip=$(vip 80)
client c1 "$(wan 11)"
for n in 1 2; do
    server "s$n" "$mode" "$(lan "1$n")" "$vip"
    for address in 2 3 4; do address "s$n" lan "$(lan "$address$n")/24"; done
    http_server "s$n"
    seq 8000 8249 | sed 's/.*/listen &;/' >"$LAB_DIR/ports"
    sed -i "/listen \[::\]/r $LAB_DIR/ports" "$LAB_DIR/nginx.s$n/nginx.conf"
    on "s$n" nginx -c "$LAB_DIR/nginx.s$n/nginx.conf" -s reload
    within 10 on "s$n" curl -fs http://127.0.0.1:8249/ || fail "nginx of s$n has not all of its ports"
done
address weir lan "$(lan 250)/24"

# write WEIGHT FIRST LAST: services from FIRST on to LAST, whose first real server has that weight.
write() {
    {
        cat <<'END'

[health.web]
type = "http"
interval = "2s"
timeout = "1s"
request = { path = "/", status = 200 }
END
        service "$mode" tcp "[$vip]:80" rr "[$(lan 11)]=1" "[$(lan 12)]=1" | sed 's/^scheduler = .*/&\nhealth = "web"/'
        /usr/bin/python3 - "$mode" "$@" <<'END'
import sys
mode, weight, first, last = sys.argv[1], *map(int, sys.argv[2:])
for n in range(first, last):
    print(f'[[service]]\naddress = "192.0.2.{81 + n // 250}"\nport = {8000 + n % 250}\nprotocol = "tcp"\nmode = "{mode}"')
    print('scheduler = "rr"\nhealth = "web"' + '\nlocal_pool = "inside"' * (mode == "fullnat"))
    for place, address in enumerate(f"10.0.0.{tens}{server}" for tens in (1, 2, 3, 4) for server in (1, 2)):
        print(f'[[service.real]]\naddress = "{address}"\nport = {8000 + n % 250}\nweight = {weight if place == 0 else 1}')
END
    } | config "$LAB_DIR/weir.toml"
}
write 1 0 "$services"
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"
metric() { metrics | awk -v name="$1" '$1 == name { print $2 }'; }
all_known() { ! grep -q '^weir_real_health.*unknown' <<<"$(metrics)" && [[ $(metric weir_health_checks_total'{result="passed"}') -ge 4000 ]]; }
within 30 all_known || fail "not all checks have passed: $(metrics | grep '^weir_health')"
same "checks" 2002 "$(metric weir_health_checks_configured)"
same "real servers that are down" 0 "$(metric weir_health_checks_down)"
changes=$(metric weir_health_changes_total)

rm -f "$LAB_DIR/stop"
on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" steady "$LAB_DIR/stop" 8 "$vip" >"$LAB_DIR/load.json" &
load=$!
ip netns exec c1 ping -qi 0.01 "$vip" >"$LAB_DIR/ping" &
ping=$!
for change in "3 0 $services" "1 0 $((services - 200))" "1 0 $services" "2 100 $services" "1 0 $services"; do
    # shellcheck disable=SC2086
    write $change
    before=$EPOCHREALTIME
    check "a reload: weight, first and last service $change" weir reload
    good "… took $(awk -v a="$before" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }')"
done
sleep 4
kill -INT "$ping"
wait "$ping"
touch "$LAB_DIR/stop"
wait "$load"
same "requests that failed meanwhile" '{}' "$(jq_field failed <"$LAB_DIR/load.json")"
check "… and there were some" test "$(jq_field requests 'min(value.values()) > 100' <"$LAB_DIR/load.json")" = True
same "changes of health" "$changes" "$(metric weir_health_changes_total)"
same "real servers that are down" 0 "$(metric weir_health_checks_down)"
same "checks that came late" 0 "$(metric weir_health_late_checks_total)"
good "pings meanwhile: $(tail -n 2 "$LAB_DIR/ping" | paste -sd" ")"
check "… of which none is lost" grep -q ' 0% packet loss' "$LAB_DIR/ping"
settled
