# Real servers' own connections outwards, by [[snat]]: the kernel's TCP, UDP and ping at both ends, and its routers between.
#
#   scripts/lab tests/lab/snat.sh
#
#     far ── (MTU 1300) ── r1 ── wan [ weir ] lan ── s1, s2
# shellcheck shell=bash

quiet_namespace far
host r1 wan 198.51.100.254/24
has r1 wan 2001:db8:51::fe/64
leg far wan r1 far 1300
# It does not know, and says that it takes long segments; its own would be lost.
ip -n far link set wan mtu 1500
has far wan 203.0.113.7/24 2001:db8:7::7/64
has r1 far 203.0.113.1/24 2001:db8:7::1/64
router r1
goes far default 203.0.113.1 default 2001:db8:7::1
for n in 1 2; do
    server s$n nat 10.0.0.1$n
    has s$n lan 2001:db8:10::1$n/64
    goes s$n default 2001:db8:10::1
done

head -c 5000000 /dev/urandom >"$LAB_DIR/big"
mkdir -p "$LAB_DIR/files"
mv "$LAB_DIR/big" "$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")
http_server far
http_server r1
http_server s1
spawn far dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= --no-resolv --no-hosts --cache-size=0 \
    --txt-record=who.lab,far
within 10 who far 127.0.0.1 || fail "no DNS in far"
# shellcheck disable=SC2016
spawn far socat -u TCP6-LISTEN:9000,fork,reuseaddr,ipv6only=0 SYSTEM:"sha256sum >$LAB_DIR/uploaded"

rules() {
    printf '\n[[local_pool]]\nname = "outside"\naddresses = ["198.51.100.200-198.51.100.201"]\n'
    printf '\n[[local_pool]]\nname = "outside6"\naddresses = ["2001:db8:51::200"]\n'
    printf '\n[[route]]\nto = "0.0.0.0/0"\nvia = "198.51.100.254"\n\n[[route]]\nto = "::/0"\nvia = "2001:db8:51::fe"\n'
    [[ $1 == off ]] || printf '\n[[snat]]\nfrom = "10.0.0.0/24"\npool = "outside"\n\n[[snat]]\nfrom = "2001:db8:10::/64"\npool = "outside6"\n'
    service nat tcp 192.0.2.80:80 rr 10.0.0.11=1
}
written() {
    rules "$1" | config "$LAB_DIR/weir.toml"
    sed -i 's|"198.51.100.1/24"|&, "2001:db8:51::1/64"|; s|"10.0.0.1/24"|&, "2001:db8:10::1/64"|' "$LAB_DIR/weir.toml"
}
written on
weir_start "$LAB_DIR/weir.toml"
goes r1 192.0.2.0/24 198.51.100.1

of_pool() { [[ $1 == "far 198.51.100.20"[01] || $1 == "far 2001:db8:51::200" ]]; }

for to in 203.0.113.7 2001:db8:7::7; do
    url=http://$(in_url "$to")
    check "HTTP from a real server to $to, from the pool" of_pool "$(on s1 curl -sS --max-time 10 "$url/")"
    same "100 connections of two real servers at once to $to" 200 \
        "$({ get s1 "$url/" 100 & get s2 "$url/" 100; wait; } | grep -c far)"
    near=198.51.100.254
    [[ $to != *:* ]] || near=2001:db8:51::fe
    same "5 MB down from $near" "$digest" "$(on s1 curl -sS --max-time 60 "http://$(in_url $near)/files/big" | sha256sum)"
    rm -f "$LAB_DIR/uploaded"
    on s2 socat -u "FILE:$LAB_DIR/files/big" "TCP:$(in_url "$to"):9000"
    within 20 test -s "$LAB_DIR/uploaded" || fail "the upload does not end"
    same "5 MB up to $to, past a link of 1,300 bytes" "$digest" "$(<"$LAB_DIR/uploaded")"
    same "20 DNS queries to $to" "far 20" "$(who s1 "$to" 20 | tally)"
    check "ping $to" on s1 ping -q -c 5 -i 0.2 -W 2 "$to"
    check "ping $near with 3,000 bytes" on s2 ping -q -c 3 -i 0.2 -W 2 -s 3000 "$near"
    first=10.0.0.1 then=198.51.100.254
    [[ $to != *:* ]] || first=2001:db8:10::1 then=2001:db8:51::fe
    for by in "-U -p 33434" "-I" "-T -p 80"; do
        # shellcheck disable=SC2086
        same "traceroute $by to $to" "$first $then $to" \
            "$(on s1 timeout 30 traceroute -n -q 1 -w 3 -m 8 $by "$to" | awk '/^ *[0-9]/ { printf "%s%s", between, $2; between = " " }')"
    done
    same "a closed port of $to, at once" 7 "$(on s1 curl -s --max-time 5 "http://$(in_url "$to"):81/" || echo $?)"
done
same "the service beside it: its replies are its own" "s1 203.0.113.7" "$(on far curl -sS --max-time 10 http://192.0.2.80/)"
check "they are counted" test "$(metrics | awk '/^weir_snat_connections_total.*10.0.0.0/ { print $NF }')" -gt 200
of_rule() { weir show snat --json | /usr/bin/python3 -c 'import json, sys; print(next(row[sys.argv[1]] for row in json.load(sys.stdin) if row["from"] == "10.0.0.0/24"))' "$1"; }
check "by their rule too" test "$(of_rule connections_total)" -gt 200
same "which has a pool with room for so many, and none was without a pair" "outside 129024 0" "$(of_rule pool) $(of_rule pairs) $(of_rule exhausted)"
check "as a table" grep -q "10.0.0.0/24 .*outside " <<<"$(weir show snat)"
check "and shown, by their rule" grep -q "snat:10.0.0.0/24" <(weir show connections --service snat:10.0.0.0/24)

# A connection that is open while the rule goes.
on s1 curl -sS --limit-rate 200k --max-time 20 "http://198.51.100.254/files/big" -o /dev/null 2>"$LAB_DIR/cut" &
slow=$!
sleep 1
written off
weir reload >/dev/null
refuse "nothing goes outwards without the rule" on s2 curl -sS --max-time 2 http://203.0.113.7/
refuse "and what was open ends" wait $slow
written on
weir reload >/dev/null
check "with the rule it does again" of_pool "$(on s2 curl -sS --max-time 10 http://203.0.113.7/)"

settled
