# Real nginx and HAProxy behind fullnat know their clients by the PROXY protocol, with a hop before them that loses, repeats and
# reorders packets; a real server of UDP does by a header in each datagram.
#
#   scripts/lab tests/lab/client-address.sh [FRONT [BACK [MEGABYTES [CONNECTIONS]]]]
#
# FRONT, BACK: the families of clients and of real servers, 4 or 6 (default: 4, and as the front). MEGABYTES each way by each of
# both programs (20), so many short connections (10000).
# shellcheck shell=bash

families "${1:-4}" "${2:-${1:-4}}"
megabytes=${3:-20} connections=${4:-10000}
vip=$(vip 80) dir=$LAB_DIR/told
url=http://$(in_url "$vip")
client c1 "$(wan 11)"
server s1 fullnat "$(lan 11)"
server s2 fullnat "$(lan 12)"
mkdir -p "$dir/up" "$LAB_DIR/files"

hop s1
hop s2

cat >"$dir/nginx.conf" <<CONF
daemon off;
worker_processes 1;
user root;
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $dir/up; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi; scgi_temp_path $dir/scgi;
    client_max_body_size 0;
    set_real_ip_from 0.0.0.0/0;
    set_real_ip_from ::/0;
    real_ip_header proxy_protocol;
    server {
        listen 8080 backlog=4096 proxy_protocol;
        listen [::]:8080 backlog=4096 proxy_protocol;
        default_type text/plain;
        location / { return 200 "s1 \$remote_addr \$proxy_protocol_server_port\n"; }
        location /files/ { root $LAB_DIR; }
        location /up { client_body_in_file_only on; proxy_pass http://127.0.0.1:8082; }
    }
    server { listen 127.0.0.1:8082; location / { return 200 "taken\n"; } }
}
CONF
on s1 sysctl -q -w net.core.somaxconn=4096
spawn s1 nginx -c "$dir/nginx.conf" -e "$dir/error.log"
cat >"$dir/haproxy.cfg" <<CONF
global
    maxconn 8000
defaults
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend web
    mode http
    bind :::8081 v4v6 accept-proxy
    http-request return status 200 content-type text/plain lf-string "s2 %[src] %[dst_port]\n"
listen upload
    mode tcp
    bind :::9000 v4v6 accept-proxy
    server sink 127.0.0.1:9001
listen download
    mode tcp
    bind :::9002 v4v6 accept-proxy
    server source 127.0.0.1:9003
CONF
spawn s2 haproxy -db -f "$dir/haproxy.cfg"
# shellcheck disable=SC2016
spawn s2 socat -u TCP4-LISTEN:9001,fork,reuseaddr SYSTEM:"sha256sum >$dir/uploaded"
spawn s2 socat -U TCP4-LISTEN:9003,fork,reuseaddr "FILE:$LAB_DIR/files/big"
spawn s2 /usr/bin/python3 "$LAB_TOP/tests/lab/proxied.py" 7000
head -c "${megabytes}000000" /dev/urandom >"$LAB_DIR/files/big"
digest=$(sha256sum <"$LAB_DIR/files/big")

# telling KEYS ARGUMENTS…: a service, with more keys.
telling() { service fullnat "${@:2}" | sed "s|^scheduler = .*|&\nclient_address = \"proxy-v2\"\n$1|"; }
# Real servers that drop a check's packets are not down: by patience.
check_http='health = { type = "http", interval = "1s", timeout = "900ms", fall = 10 }'
check_tcp='health = { type = "tcp", interval = "1s", timeout = "900ms", fall = 10 }'
s1="[$(lan 11)]" s2="[$(lan 12)]"
services() {
    telling "$check_http" tcp "[$vip]:80" rr "$s1:8080=1"
    telling "$check_http" tcp "[$vip]:81" rr "$s2:8081=1"
    telling "$check_tcp" tcp "[$vip]:9000" rr "$s2:9000=1"
    telling "$check_tcp" tcp "[$vip]:9002" rr "$s2:9002=1"
    telling '' udp "[$vip]:7000" rr "$s2:7000=1"
}
{
    services
    known s1 "$(lan 11)"
    known s2 "$(lan 12)"
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"

here=$(wan 11)
check "nginx answers" within 10 get c1 "$url/"
check "HAProxy answers" within 10 get c1 "$url:81/"
same "nginx knows the client and the VIP's port" "s1 $here 80" "$(get c1 "$url/" 20 | sort -u)"
same "HAProxy knows the client and the VIP's port" "s2 $here 81" "$(get c1 "$url:81/" 20 | sort -u)"
healthy() { metrics | awk '/^weir_real_up/ && $NF == 1 { up++ } END { exit up < 4 }'; }
check "health checks are taken for the proxy's own" within 20 healthy

asked() { echo "question" | on c1 socat -t 2 - "UDP:$(in_url "$vip"):7000"; }
heard() { [[ $(asked) == "$here 9" ]]; }
check "each datagram tells of its client" within 10 heard

load=$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" connections "$connections" 16 "$(in_url "$vip")")
same "$connections short connections, failures" '{}' "$(jq_field failed <<<"$load")"
same "$connections short connections, answers" "$connections" "$(jq_field 'requests' 'sum(value.values())' <<<"$load")"

same "$megabytes MB down from nginx" "$digest" "$(on c1 curl -sS --max-time 160 "$url/files/big" | sha256sum)"
on c1 curl -sS --max-time 160 -H 'Expect:' --data-binary "@$LAB_DIR/files/big" "$url/up" >/dev/null
up=$(find "$dir/up" -type f -size +1M | tail -1)
same "$megabytes MB up to nginx" "$digest" "$(sha256sum <"$up")"
on c1 socat -u "FILE:$LAB_DIR/files/big" "TCP:$(in_url "$vip"):9000"
within 30 test -s "$dir/uploaded" || fail "the upload does not end"
same "$megabytes MB up to HAProxy" "$digest" "$(<"$dir/uploaded")"
same "$megabytes MB down from HAProxy" "$digest" "$(on c1 socat -u "TCP:$(in_url "$vip"):9002" - | sha256sum)"

settled
