# What goes wrong is noticed, told, and over when it is over: links, devices, the service manager's watchdog.
# shellcheck shell=bash
# shellcheck disable=SC2154 # $weir_pid is of scripts/lib/lab.sh

vip=192.0.2.80
client c1 198.51.100.11
server s1 fullnat 10.0.0.11
http_server s1
service fullnat tcp $vip:80 rr 10.0.0.11=1 | config "$LAB_DIR/weir.toml"

# As systemd listens.
/usr/bin/python3 - "$LAB_DIR/notify" >"$LAB_DIR/told" <<'EOF' &
import socket, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
while True:
    print(f"{time.monotonic():.1f}", listener.recv(4096).decode().replace("\n", " "), flush=True)
EOF
within 5 test -S "$LAB_DIR/notify" || fail "the listener does not start"
export NOTIFY_SOCKET=$LAB_DIR/notify WATCHDOG_USEC=1000000
weir_start "$LAB_DIR/weir.toml"
unset NOTIFY_SOCKET WATCHDOG_USEC

told() { grep -c "$1" "$LAB_DIR/told"; }
check "the service manager is told: ready" within 5 told READY=1
check "… and that weir lives" within 5 told WATCHDOG=1
ready() {
    local said
    said=$(on weir curl -s --max-time 5 "http://127.0.0.1:9900/ready")
    [[ $said == "$1" || $said == *"\"detail\":\"$1\""* ]]
}
check "/ready" within 5 ready ok
check "requests are balanced" get c1 http://$vip/ 5

ip -n weir link set weir0 down
check "a link that is down: not ready" within 5 ready "links are down: wan"
check "… it is logged" grep -q 'the link is down.*wan' "$LAB_DIR/weir.log"
ip -n weir link set weir0 up
check "… and up again: ready" within 5 ready ok
balanced_again() { get c1 http://$vip/ 5; }
check "… and forwarding" within 10 balanced_again

# What a worker that sleeps too long does to it: nothing, when all of it was asleep.
kill -STOP "$weir_pid"
sleep 1
kill -CONT "$weir_pid"
check "a pause of all of it is survived" within 10 ready ok
check "… and requests are balanced" within 10 balanced_again

ip -n weir link delete weir0
check "a device that is gone: not ready" within 5 ready "devices are gone: wan"
check "… it is logged, with a remedy" grep -q 'the device is gone: weir has to start again.*wan' "$LAB_DIR/weir.log"
before=$(told WATCHDOG=1)
sleep 1.5
same "… and the service manager gets no sign of life, so that it starts weir anew" "$before" "$(told WATCHDOG=1)"
weir_stop
check "the service manager is told: stopping" within 5 told STOPPING=1
weir_start "$LAB_DIR/weir.toml"
check "after a new start requests are balanced" within 20 balanced_again
