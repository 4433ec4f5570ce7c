# The state of real servers: what operators say outlives reloads and restarts, and nothing dead gets new connections.
#
#   scripts/lab tests/lab/state.sh dr|nat|fullnat
# shellcheck shell=bash

mode=$1
vip=192.0.2.80
client c1 198.51.100.11
for n in 1 2 3; do
    server "s$n" "$mode" "10.0.0.1$n" $vip
    http_server "s$n"
done
# write WEIGHT: of the first real server.
write() {
    {
        service "$mode" tcp $vip:80 wrr "10.0.0.11=$1" 10.0.0.12=1 10.0.0.13=1
    } | config "$LAB_DIR/services.toml"
    { echo "state_file = \"$LAB_DIR/state.json\"" && cat "$LAB_DIR/services.toml"; } >"$LAB_DIR/weir.toml"
}
write 1
weir_start "$LAB_DIR/weir.toml"
within 10 get c1 http://$vip/ || fail "no answer from $vip"

service=tcp:$vip:80
# served: the servers of thirty requests.
served() { get c1 http://$vip/ 30 | awk '{print $1}' | sort -u | paste -sd' '; }
serves() { [[ $(served) == "$1" ]]; }
# field REAL NAME: of `weir show reals --json`.
field() {
    weir show reals --json | /usr/bin/python3 -c 'import json, sys
print(next(row.get(sys.argv[2]) for row in json.load(sys.stdin) if row["real"] == sys.argv[1]))' "$1" "$2"
}
says() { [[ $(field "$1" "$2") == "$3" ]]; }

check "all three serve" within 10 serves "s1 s2 s3"
check "drain" weir drain $service 10.0.0.12:80
check "… it gets nothing" serves "s1 s3"
write 2
plan=$(weir plan "$LAB_DIR/weir.toml") || fail "plan"
check "plan names the change" grep -q 'real server 10.0.0.11:80: weight 1 -> 2' <<<"$plan"
check "reload" weir reload
check "… and it is still drained" serves "s1 s3"
weir_stop
weir_start "$LAB_DIR/weir.toml"
check "… after a restart, too" within 10 serves "s1 s3"
same "… and show says why" drained "$(field 10.0.0.12:80 why)"
check "enable" weir enable $service 10.0.0.12:80
check "all three serve again" serves "s1 s2 s3"

# An established connection, and what becomes of it.
on c1 /usr/bin/python3 - "$LAB_DIR" $vip >"$LAB_DIR/told" 2>&1 <<'END' &
import os, socket, sys, time
directory, vip = sys.argv[1:]
# Each comes to another real server.
connections = {}
while len(connections) < 3:
    connection = socket.create_connection((vip, 80), timeout=5)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connections[connection.recv(4096).decode().split("\r\n\r\n")[1].split()[0]] = connection
open(directory + "/connected", "w").close()
while not os.path.exists(directory + "/go"):
    time.sleep(0.02)
for name, connection in sorted(connections.items()):
    try:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = connection.recv(4096)
            time.sleep(0.1)
        print(name, "answers" if answer else "ends", flush=True)
    except ConnectionError as why:
        print(name, type(why).__name__, flush=True)
END
asker=$!
within 10 test -e "$LAB_DIR/connected" || fail "no connections: $(cat "$LAB_DIR/told")"
check "drain of one" weir drain $service 10.0.0.13:80
check "disable of another" weir disable $service 10.0.0.12:80
touch "$LAB_DIR/go"
wait $asker
same "a drained real server's connection lives on, a disabled one's is reset" \
    "s1 answers s2 ConnectionResetError s3 answers" "$(paste -sd' ' "$LAB_DIR/told")"
for n in 2 3; do check "enable" weir enable $service "10.0.0.1$n:80"; done
check "drain for a second" weir drain $service 10.0.0.12:80 --for 1s
check "… is over by itself" within 3 serves "s1 s2 s3"

# failures FILE: requests one after the other until FILE is there; the times since its start at which one failed.
asks() {
    on c1 /usr/bin/python3 - "$1" $vip <<'END'
import os, socket, sys, time
end, vip = sys.argv[1:]
start = time.monotonic()
open(end + ".started", "w").close()
while not os.path.exists(end):
    at = time.monotonic() - start
    try:
        connection = socket.create_connection((vip, 80), timeout=0.4)
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(4096)
        connection.close()
    except OSError as why:
        print(f"{at:.2f} {type(why).__name__}", flush=True)
    time.sleep(0.02)
END
}

asks "$LAB_DIR/end" >"$LAB_DIR/failures" &
asker=$!
within 5 test -e "$LAB_DIR/end.started" || fail "no requests"
ip -n weir link set lan.s3 down
check "a machine that falls silent is out of it within 3 s" within 3 says 10.0.0.13:80 why "no neighbour"
sleep 4
touch "$LAB_DIR/end"
wait $asker
echo "failed requests: $(wc -l <"$LAB_DIR/failures"), the last at $(tail -n1 "$LAB_DIR/failures")"
late=$(awk '$1 > 3.2' "$LAB_DIR/failures")
check "… and no request failed beyond that" [ -z "$late" ]
check "… it is down in the metrics" grep -q '^weir_real_up{.*real="10.0.0.13:80".*} 0' <<<"$(metrics)"
ip -n weir link set lan.s3 up
check "… and back within 3 s of its answer" within 3 says 10.0.0.13:80 why None
check "… with clients" within 5 serves "s1 s2 s3"

if [[ $mode != dr ]]; then
    before=$(date +%s%N)
    ip -n weir link set weir1 down
    within 2 says 10.0.0.11:80 why "link lan down" || fail "a dead link is not seen: $(field 10.0.0.11:80 why)"
    echo "a dead link was seen after $((($(date +%s%N) - before) / 1000000)) ms, two commands included"
    status=0
    on c1 curl -s --max-time 5 http://$vip/ || status=$?
    same "a dead link: clients are refused at once (curl's 7)" 7 "$status"
    ip -n weir link set weir1 up
    check "… and served again" within 10 serves "s1 s2 s3"
fi
settled
