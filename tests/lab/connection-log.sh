# The connection log of a running weir: what real clients connect to is in a file that may be moved away, and at a collector that may not be there.
#
#   scripts/lab tests/lab/connection-log.sh
# shellcheck shell=bash

vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2; do
    server s$n fullnat 10.0.0.1$n
    http_server s$n
done
service fullnat tcp $vip:80 rr 10.0.0.11=1 10.0.0.12=1 | config "$LAB_DIR/services.toml"
# write LINE…: of [connection_log].
write() {
    {
        cat "$LAB_DIR/services.toml"
        (($# == 0)) || printf '[connection_log]\n'
        printf '%s\n' "$@"
    } >"$LAB_DIR/weir.toml"
}
write
weir_start "$LAB_DIR/weir.toml"
within 10 get c1 http://$vip/ >/dev/null || fail "no answer from $vip"

log=$LAB_DIR/connections.json
# lines EVENT: how many there are, of connections to both real servers by their local pairs.
lines() {
    /usr/bin/python3 -c '
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
for line in lines:
    assert line["client"].startswith("198.51.100.11:") and line["destination"] == "192.0.2.80:80", line
    assert line["server"] in ("10.0.0.11:80", "10.0.0.12:80") and "local" in line and line["protocol"] == "tcp", line
print(sum(line["event"] == sys.argv[2] for line in lines))' "$log" "$1"
}
has_starts() { [[ -e $log && $(lines start) == "$1" ]]; }

write "file = \"$log\"" 'events = ["start"]'
check "a reload turns it on" weir reload
get c1 http://$vip/ 20 >/dev/null
check "twenty connections are twenty lines" within 10 has_starts 20
mv "$log" "$log.1"
moved() {
    get c1 http://$vip/ >/dev/null
    [[ -e $log ]]
}
check "a file that was moved away is begun anew" within 20 moved
has_written() { [[ $(metrics | awk '$1 == "weir_connection_log_records_total" {print $2}') == "$1" ]]; }
all=$(cat "$log.1" "$log" | wc -l)
check "… and no line is missing" within 10 has_written "$all"

# Of no collector: weir forwards, counts, and says it once.
write 'collector = "127.0.0.1:4739"' 'transport = "tcp"'
check "another reload: a collector that is not there" weir reload
get c1 http://$vip/ 10 >/dev/null || fail "no answers"
has_lost() { [[ $(metrics | awk '$1 ~ /^weir_connection_log_lost_total.*output/ {print $2}') -ge 10 ]]; }
check "… its records are counted as lost" within 10 has_lost
same "… and that is said once" 1 "$(grep -c 'takes no records' "$LAB_DIR/weir.log")"
write
check "a reload turns it off" weir reload
get c1 http://$vip/ 5 >/dev/null || fail "no answers"
weir_stop
