# The demo's scenario, run by scripts/lab: every mode, HTTP and DNS, a weight changed, a real server taken away.
# shellcheck shell=bash

modes=(dr nat fullnat)
declare -A vip=([dr]=192.0.2.1 [nat]=192.0.2.2 [fullnat]=192.0.2.3)
declare -A subnet_part=([dr]=1 [nat]=2 [fullnat]=3)
declare -A summary
weights=(3 2 1)
file=$LAB_DIR/weir.toml

# real MODE N: the address of that mode's N-th real server.
real() { echo "10.0.0.${subnet_part[$1]}$2"; }

# write_config [WEIGHT OF fullnat-1 | gone]
write_config() {
    local mode n reals
    for mode in "${modes[@]}"; do
        reals=()
        for n in 1 2 3; do
            if [[ $mode == fullnat && $n == 1 && -n ${1:-} ]]; then
                [[ $1 == gone ]] || reals+=("$(real "$mode" "$n")=$1")
            else
                reals+=("$(real "$mode" "$n")=${weights[n - 1]}")
            fi
        done
        service "$mode" tcp "${vip[$mode]}:80" wrr "${reals[@]}"
        service "$mode" udp "${vip[$mode]}:53" rr "${reals[@]}"
    done | config "$file"
}

# spread WHAT EXPECTED ANSWERS: the answers counted by real server, against what the weights say.
spread() {
    local got
    got=$(tally <<<"$3")
    summary[$1]=$got
    same "$1" "$2" "$got"
}

title "Two clients, nine real servers (nginx, dnsmasq), weir between them on DPDK's net_tap"
client c1 198.51.100.11
client c2 198.51.100.12
for mode in "${modes[@]}"; do
    for n in 1 2 3; do
        server "$mode-$n" "$mode" "$(real "$mode" $n)" "${vip[$mode]}"
        http_server "$mode-$n"
        dns_server "$mode-$n"
    done
done
write_config
say "weir check: $(weir check "$file")"
weir_start "$file"
say "weir runs:"
sed 's/^/    /' "$LAB_DIR/weir.log" | cut -c1-150
check "ping of a port's address" on c1 ping -qc1 -W2 198.51.100.1
check "ping of a VIP" on c1 ping -qc1 -W2 "${vip[nat]}"

for mode in "${modes[@]}"; do
    title "$mode: ${vip[$mode]}, real servers of weight ${weights[*]}"
    aside "one request: $(get c1 "http://${vip[$mode]}/")  (who answers, and the client that it sees)"
    # Five more complete the round of wrr.
    get c1 "http://${vip[$mode]}/" 5 >/dev/null
    spread "HTTP, 60 connections, wrr" "$mode-1 30, $mode-2 20, $mode-3 10" \
        "$(get c1 "http://${vip[$mode]}/" 30)
$(get c2 "http://${vip[$mode]}/" 30)"
    summary[$mode.http]=${summary["HTTP, 60 connections, wrr"]}
    spread "DNS, 30 queries, rr" "$mode-1 10, $mode-2 10, $mode-3 10" "$(who c1 "${vip[$mode]}" 30)"
    summary[$mode.dns]=${summary["DNS, 30 queries, rr"]}
    load=$(on c2 wrk -t1 -c32 -d3s "http://${vip[$mode]}/")
    refuse "wrk, 32 connections for 3 s: no socket or HTTP error" grep -qE 'Socket errors|Non-2xx' <<<"$load"
    summary[$mode.rate]=$(awk '/^Requests\/sec/ {printf "%d", $2}' <<<"$load")
    aside "${summary[$mode.rate]} requests/s (nginx, wrk and weir share this machine's cores)"
done

title "weir show services"
weir show services | sed 's/^/  /'

title "A weight is changed live: fullnat-1 from 3 to 1 (the file is edited, then: weir reload)"
write_config 1
say "$(weir reload "$file")"
get c1 "http://${vip[fullnat]}/" 4 >/dev/null
spread "HTTP, 60 connections, weights 1 2 1" "fullnat-1 15, fullnat-2 30, fullnat-3 15" \
    "$(get c1 "http://${vip[fullnat]}/" 60)"
summary[weight]=${summary["HTTP, 60 connections, weights 1 2 1"]}

title "fullnat-1 is taken away under load"
on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/load.py" steady "$LAB_DIR/stop" 16 "${vip[fullnat]}" >"$LAB_DIR/load.json" &
load=$!
sleep 2
write_config gone
say "$(weir reload "$file")"
sleep 2
touch "$LAB_DIR/stop"
wait "$load"
result() { jq_field "$@" <"$LAB_DIR/load.json"; }
same "failed requests on the other real servers" 0 \
    "$(result failed 'sum(n for server, n in value.items() if server != "fullnat-1")')"
summary[removed]=$(result requests '", ".join(f"{server} {n}" for server, n in sorted(value.items()))')
say "requests answered: ${summary[removed]}"
say "connections of fullnat-1 that ended with it: $(result failed 'value.get("fullnat-1", 0)') (each client's next went elsewhere)"
spread "HTTP, 30 connections, fullnat-1 gone" "fullnat-2 20, fullnat-3 10" "$(get c1 "http://${vip[fullnat]}/" 30)"

title "What weir counted"
metrics | awk '/^weir_(received|transmitted|answered)_packets_total|^weir_dropped_packets_total.* [1-9]/ {print "  " $0}'
weir_stop || fail "weir ended with status $?"
good "SIGTERM: weir stopped cleanly"

title "Summary"
row() { printf '  %-8s %-44s %-44s %10s\n' "$@"; }
row mode 'HTTP, wrr 3:2:1' 'DNS, rr' 'wrk, req/s'
for mode in "${modes[@]}"; do
    row "$mode" "${summary[$mode.http]}" "${summary[$mode.dns]}" "${summary[$mode.rate]}"
done
say "weight changed live (fullnat, now 1:2:1): ${summary[weight]}"
say "real server taken away under load: no request failed on the others"
