# Unmodified programs behind weir's fullnat see their clients, by weir-server-kit: every pair of families, and reloads.
#
#   scripts/lab tests/lab/kit-toa.sh
# shellcheck shell=bash

# shellcheck source=scripts/lib/kit.sh
. "$LAB_TOP/scripts/lib/kit.sh"
kit_build
kit_here

client c1 198.51.100.11
has c1 wan 2001:db8:51::11/64
goes c1 2001:db8:2::/64 2001:db8:51::1
server s1 fullnat 10.0.0.11
has s1 lan 2001:db8:10::11/64
# IPv6 clients of IPv4 connections need a socket of both families.
http_server s1
sed -i '/listen 80/d; s/listen \[::\]:80/& ipv6only=off/' "$LAB_DIR/nginx.s1/nginx.conf"
kill "$(<"$LAB_DIR/nginx.s1/pid")"
within 5 gone "$!"
spawn s1 nginx -c "$LAB_DIR/nginx.s1/nginx.conf" -e "$LAB_DIR/nginx.s1/error.log"
within 10 on s1 curl -fs http://127.0.0.1/ || fail "nginx does not start anew: $(cat "$LAB_DIR/nginx.s1/error.log")"
spawn s1 /usr/bin/python3 "$LAB_TOP/tests/lab/kit.py" serve
within 10 grep -q ready "$LAB_DIR/s1.log" || fail "no servers: $(cat "$LAB_DIR/s1.log")"
kit_start s1 <<<'director 10.0.0.200/30 2001:db8:10::200/126
toa accept getsockopt'

# VIP, and real server, in each pair of families.
pairs=("192.0.2.1 10.0.0.11" "2001:db8:2::1 [2001:db8:10::11]" "192.0.2.2 [2001:db8:10::11]" "2001:db8:2::2 10.0.0.11")
families 6 6
# weir_file CLIENT_ADDRESS
weir_file() {
    local pair port
    for pair in "${pairs[@]}"; do
        for port in 80 8004 8046; do
            [[ $port != 8004 || $pair != *']' ]] || port=8006
            service fullnat tcp "[${pair% *}]:$port" rr "${pair#* }=1" | sed "s/^mode = .*/&\nclient_address = \"$1\"/"
        done
    done | config "$LAB_DIR/weir.toml"
}
weir_file toa
weir_start "$LAB_DIR/weir.toml"

# told WHO VIP PORT COUNT: `client` or `director`, what accept and getpeername tell of so many connections.
told() { on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/kit.py" ask "$@" 2>&1; }
for pair in "${pairs[@]}"; do
    vip=${pair% *}
    case $vip in *:*) own=2001:db8:51::11 ;; *) own=198.51.100.11 ;; esac
    seen=$(get c1 "http://$(in_url "$vip")/" 40 | sed 's/::ffff://' | sort | uniq -c | xargs)
    same "40 requests for $vip by ${pair#* }: nginx tells" "40 s1 $own" "$seen"
    check "100 connections: accept and getpeername tell" told client "$vip" 8046 100
    case $pair in
    *']') check "at an IPv6 socket" told client "$vip" 8006 20 ;;
    *:*) check "at an IPv4 socket the director; the client by getsockopt" told getsockopt "$vip" 8004 20 ;;
    *) check "at an IPv4 socket" told client "$vip" 8004 20 ;;
    esac
done

on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/kit.py" stay "${pairs[0]% *}" 8046 "$LAB_DIR/stop" >"$LAB_DIR/stay" 2>&1 &
stay=$!
within 5 grep -q began "$LAB_DIR/stay" || fail "no connection: $(cat "$LAB_DIR/stay")"
weir_file none
weir reload "$LAB_DIR/weir.toml" >/dev/null
for pair in "${pairs[@]}"; do
    check "turned off by a reload: the director, for ${pair% *}" told director "${pair% *}" 8046 20
done
weir_file toa
weir reload "$LAB_DIR/weir.toml" >/dev/null
for pair in "${pairs[@]}"; do
    check "turned on again: the client, for ${pair% *}" told client "${pair% *}" 8046 20
done
touch "$LAB_DIR/stop"
wait "$stay" || fail "a connection over the reloads: $(cat "$LAB_DIR/stay")"
good "a connection kept its client over the reloads"
same "connections without the option" 80 "$(kit_counted toa_none)"
kit_stop
settled
