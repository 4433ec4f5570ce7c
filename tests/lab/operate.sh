# What an operator sees of a running weir: answers, refusals, tools, signals.
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

vip=192.0.2.80
client c1 198.51.100.11
server s1 fullnat 10.0.0.11
http_server s1
{
    service fullnat tcp $vip:80 rr 10.0.0.11=1
    service fullnat tcp $vip:81 rr 10.0.0.11=0
    service fullnat udp $vip:53 rr 10.0.0.11=0
    service fullnat tcp 198.51.100.80:80 rr 10.0.0.11=1
    service fullnat tcp $vip:82 rr 10.0.0.99=1
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

for address in 198.51.100.1 $vip 198.51.100.80; do
    check "ping $address" on c1 ping -qc2 -i0.2 -W2 "$address"
done
same "a VIP in the port's subnet is found by ARP" s1 "$(get c1 http://198.51.100.80/ | tally | cut -d' ' -f1)"
curl_status() {
    local status=0
    on c1 curl -s --max-time 5 "$1" || status=$?
    echo "$status"
}
same "no service: refused at once (curl's 7)" 7 "$(curl_status http://$vip:8/)"
same "no real server: refused at once" 7 "$(curl_status http://$vip:81/)"
check "no real server: a UDP client hears of it" grep -q refused <<<"$(on c1 dig +tries=1 +time=3 @$vip who.lab 2>&1)"
check "a real server that is not there: no answer at first, then refused at once (curl's 28, 7)" \
    grep -qE '^(28|7)$' <<<"$(curl_status http://$vip:82/)"
same "… and from then on refused at once" 7 "$(curl_status http://$vip:82/)"
check "… and the others go on" get c1 http://$vip/

# A machine is replaced: the same address, another MAC address.
ip -n s1 link set lan address 02:00:00:00:77:77
on s1 ping -qc1 -W2 10.0.0.1 >/dev/null
same "a real server with another MAC address is found again" s1 "$(get c1 http://$vip/ | tally | cut -d' ' -f1)"

for what in services reals connections ports workers neighbours routes; do
    check "show $what" weir show $what
    check "show $what --json" /usr/bin/python3 -c 'import json, sys; assert json.load(sys.stdin)' <<<"$(weir show $what --json)"
done
top_draws() {
    (sleep 1 && printf q) | on weir timeout 20 script -qec "stty cols 130 rows 24; $WEIR top" /dev/null |
        grep -q 'weir at unix:.*/weir.sock: services [1-9]'
}
check "top draws on a terminal" top_draws
refuse "top without a terminal" weir top
for path in health ready; do
    check "/$path" on weir curl -fsS "http://127.0.0.1:9900/$path"
done
check "promtool finds nothing wrong with the metrics" promtool check metrics <<<"$(metrics)"
check "metrics" grep -q '^weir_service_connections_total{.*} [1-9]' <<<"$(metrics)"

cp "$LAB_DIR/weir.toml" "$LAB_DIR/good.toml"
echo 'services = 1' >>"$LAB_DIR/weir.toml"
refuse "a bad file is refused" weir reload 2>/dev/null
check "… and the running configuration stays" get c1 http://$vip/
kill -HUP "$weir_pid"
within 5 grep -q 'weir.toml:' "$LAB_DIR/weir.log" || fail "SIGHUP with a bad file says nothing in the log"
check "… after SIGHUP too" get c1 http://$vip/
sed '/^port = 81$/s/81/83/' "$LAB_DIR/good.toml" >"$LAB_DIR/weir.toml"
kill -HUP "$weir_pid"
shows() { grep -q "$vip:83" <<<"$(weir show services)"; }
within 5 shows || fail "SIGHUP does not apply the file"
good "SIGHUP applies the file"
settled
check "SIGTERM ends it cleanly" weir_stop TERM
weir_start "$LAB_DIR/weir.toml"
check "started again" get c1 http://$vip/
check "SIGINT ends it cleanly" weir_stop INT
