# The same checks of the same server by HAProxy and by weir: of each of its moods both must think the same.
#
#   scripts/lab tests/lab/second-opinion.sh [BACK]
#
# BACK: the family of the real server, 4 (default) or 6.
# shellcheck shell=bash

families "${1:-4}" "${1:-4}"
length=24
[[ ${1:-4} != 6 ]] || length=64
server s1 fullnat "$(lan 11)"
real=$(in_url "$(lan 11)"):80
mood() { echo "$1" >"$LAB_DIR/mood"; }
mood ok
moody() { spawn s1 /usr/bin/python3 "$LAB_TOP/tests/lab/moody.py" s1 "$LAB_DIR/mood"; }
moody
address weir lan "$(lan 250)/$length"
within 5 settled_addresses weir || fail "the host's address stays tentative"

# check_of TYPE REQUEST: a service whose only real server has that check.
number=0
check_of() {
    number=$((number + 1))
    service fullnat tcp "[$(vip 80)]:$((80 + number))" rr "[$(lan 11)]:80=1"
    cat <<END
[service.health]
type = "$1"
interval = "200ms"
timeout = "150ms"
rise = 2
fall = 2
request = $2
END
}
{
    check_of tcp '{}'
    check_of http '{ status = "200-399" }'
    check_of http '{ status = "200", body = "s1" }'
    check_of http '{ status = "200-599", body_regex = "^s[0-9]" }'
    check_of http '{ method = "HEAD", status = "200" }'
    check_of tcp '{ send = "GET / HTTP/1.0\r\n\r\n", expect = "HTTP/1.1 200" }'
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

backend() {
    cat <<END
backend $1
    server s1 $real check inter 200ms fall 2 rise 2
$(cat)
END
}
{
    cat <<END
global
    stats socket $LAB_DIR/haproxy.sock mode 600
defaults
    mode http
    timeout connect 150ms
    timeout check 150ms
    timeout server 5s
END
    backend b1 <<<'    option tcp-check'
    backend b2 <<'END'
    option httpchk GET /
    http-check expect status 200-399
END
    backend b3 <<'END'
    option httpchk GET /
    http-check expect status 200
    http-check expect string s1
END
    backend b4 <<'END'
    option httpchk GET /
    http-check expect status 200-599
    http-check expect rstring ^s[0-9]
END
    backend b5 <<'END'
    option httpchk HEAD /
    http-check expect status 200
END
    backend b6 <<'END'
    option tcp-check
    tcp-check send "GET / HTTP/1.0\r\n\r\n"
    tcp-check expect string "HTTP/1.1 200"
END
} >"$LAB_DIR/haproxy.cfg"
spawn weir haproxy -db -f "$LAB_DIR/haproxy.cfg"

# A sign for each check, in their order: + for up.
haproxy_says() {
    socat - "UNIX-CONNECT:$LAB_DIR/haproxy.sock" <<<'show stat -1 4 -1' |
        awk -F, '$2 == "s1" { printf "%s", ($18 ~ /^UP/ ? "+" : "-") }'
}
weir_says() {
    weir show health --json | /usr/bin/python3 -c '
import json, sys
rows = sorted(json.load(sys.stdin), key=lambda row: int(row["service"].rsplit(":", 1)[1]))
print("".join({"up": "+", "down": "-"}.get(row["state"], "?") for row in rows), end="")'
}
agree() { [[ $(haproxy_says) == "$1" && $(weir_says) == "$1" ]]; }
# thinks CHECKS WHAT: both think so of the server. They stay with it for two more checks.
thinks() {
    if ! within 5 agree "$1" || ! sleep 0.5 || ! agree "$1"; then
        fail "$2: expected $1, HAProxy says $(haproxy_says), weir $(weir_says): $(weir show health)"
    fi
    good "$1  $2"
}

within 10 test -S "$LAB_DIR/haproxy.sock" || fail "HAProxy does not start: $(cat "$LAB_DIR/weir.log")"
# The checks: tcp, 200-399, 200 with a body, a body by expression, HEAD, an answer as text.
#      tcp|200-399|body|regex|HEAD|text
while IFS='|' read -r expected what; do
    mood "$what"
    thinks "$expected" "$what"
done <<'EOT'
++++++|ok
+-----|500
+--+--|503 with the body
+-----|404
++----|302
++----|204
++--++|another body
++++++|chunks
+++++-|HTTP/1.0
+-----|no HTTP
+----+|nothing but a status line
+----+|late
+-----|hang
+-----|close
++++++|ok
EOT
pkill -f "moody.py s1 $LAB_DIR/mood"
thinks ------ "no server at that port"
moody
mood ok
thinks ++++++ "ok again"
ip -n weir link set lan.s1 down
thinks ------ "no link"
ip -n weir link set lan.s1 up
thinks ++++++ "and back"
settled
