# Real QUIC (quinn) whose clients change their address and port in the middle of a stream: with `quic` each connection keeps its real
# server, without it breaks.
#
#   scripts/lab tests/lab/quic.sh MODE [FRONT [BACK]]
#
# MODE: dr, nat, fullnat. FRONT, BACK: the families of clients and of real servers, 4 or 6 (default: 4, and as the front).
# shellcheck shell=bash

mode=$1 pool=inside length=24
[[ ${2:-4} != 6 ]] || length=64
[[ ${3:-${2:-4}} != 6 ]] || pool=inside6
families "${2:-4}" "${3:-${2:-4}}"
quic=${WEIR%/*}/examples/quic
[[ -x $quic ]] || fail "no QUIC program at $quic: \`cargo build --example quic\` makes it"
vip=$(vip 44) key=8f95f09245765f80256934e50c66207f
# Each of four workers has a rotation of its own: with more flows than workers one of them gives two, to two real servers.
moves=9

client c1 "$(wan 11)"
address c1 wan "$(wan 12)/$length"
for n in 1 2; do
    server s$n "$mode" "$(lan 1$n)" "$vip"
    # In plain, encrypted, and without a word of weir's configuration.
    spawn s$n "$quic" server 4431 0a0$n 5
    spawn s$n "$quic" server 4432 0a0$n 14 $key
    spawn s$n "$quic" server 4433 0a0$n 5
done

# following PORT QUIC: a service whose real servers' connection ids are as QUIC says.
following() {
    printf '\n[[service]]\nname = "quic-%s"\naddress = "%s"\nport = %s\nprotocol = "udp"\nmode = "%s"\nscheduler = "rr"\n' \
        "$1" "$vip" "$1" "$mode"
    [[ $mode != fullnat ]] || printf 'local_pool = "%s"\n' "$pool"
    [[ -z $2 ]] || printf 'quic = { server_id_length = 2, %s }\n' "$2"
    for n in 1 2; do
        printf '\n  [[service.real]]\n  address = "%s"\n' "$(lan 1$n)"
        [[ -z $2 ]] || printf '  server_id = "0a0%s"\n' $n
    done
}
{
    following 4431 'connection_id_length = 8'
    following 4432 "connection_id_length = 17, key = \"$key\""
    following 4433 ''
} | config "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"
within 10 on c1 ping -qc1 -W1 "$vip" || fail "no answer from $vip"

# moving PORT: a client's connection, of 10 lines from as many addresses and ports.
moving() { on c1 "$quic" client "$(in_url "$vip"):$1" $moves "$(wan 11)" "$(wan 12)" 2>&1; }

for port in 4431 4432; do
    seen=''
    for _ in 1 2 3 4 5 6; do
        said=$(moving $port) || fail "$port: the connection ended: $said"
        [[ $said == "0a0"[12]" $((moves + 1))" ]] || fail "$port: not one real server: $said"
        seen+=" ${said% *}"
    done
    good "$port: each connection keeps its real server:$seen"
    same "$port: both real servers have had some" 2 "$(tr ' ' '\n' <<<"${seen# }" | sort -u | wc -l)"
done
same "connection ids of no real server" 0 "$(metrics | awk '/^weir_quic_unknown_ids_total/ { sum += $NF } END { print sum + 0 }')"
refuse "without \`quic\` a connection does not survive" moving 4433

settled
