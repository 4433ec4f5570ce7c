# Datagrams of 8,000 and 60,000 bytes between kernels, which send them in fragments, through one forwarding mode.
#
#   scripts/lab tests/lab/fragments.sh dr|nat|fullnat
# shellcheck shell=bash

mode=$1
wan=2001:db8:51: lan=2001:db8:10:
four=192.0.2.80 six=2001:db8:2::80
# With fullnat, in front of real servers of the other family.
to_four=2001:db8:2::46 to_six=192.0.2.64

# six NAME INTERFACE ADDRESS/LENGTH…: IPv6 on a leg.
six() {
    local name=$1 leg=$2 address
    shift 2
    on "$name" sysctl -q -w "net.ipv6.conf.$leg.accept_ra=0" "net.ipv6.conf.$leg.router_solicitations=0" \
        "net.ipv6.conf.$leg.disable_ipv6=0"
    for address; do ip -n "$name" -6 address add "$address" dev "$leg" nodad; done
}

echo_server() { spawn "$1" /usr/bin/python3 "$LAB_TOP/tests/lab/echo.py" serve 7; }
# echoed WHAT ADDRESS LENGTH COUNT [AT_ONCE]
echoed() {
    same "$1" "$4 of $4" "$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/echo.py" ask "$2" 7 "$3" "$4" "${5:-1}")"
}

client c1 198.51.100.11
six c1 wan "$wan:11/64"
ip -n c1 -6 route add 2001:db8:2::/64 via "$wan:1"
for n in 1 2; do
    server "s$n" "$mode" "10.0.0.1$n" $four
    six "s$n" lan "$lan:1$n/64"
    case $mode in
    dr)
        six "s$n" wan "$wan:11$n/64"
        six "s$n" lo "$six/128"
        ;;
    nat) ip -n "s$n" -6 route add default via "$lan:1" ;;
    esac
    echo_server "s$n"
done
service6() { service "$@" | sed 's/"inside"/"inside6"/'; }
{
    printf '\n[[local_pool]]\nname = "inside6"\naddresses = ["%s-%s"]\n' "$lan:200" "$lan:203"
    service "$mode" udp $four:7 rr 10.0.0.11=1 10.0.0.12=1
    service6 "$mode" udp "[$six]:7" rr "[$lan:11]=1" "[$lan:12]=1"
    if [[ $mode == fullnat ]]; then
        service fullnat udp "[$to_four]:7" rr 10.0.0.11=1 10.0.0.12=1
        service6 fullnat udp $to_six:7 rr "[$lan:11]=1" "[$lan:12]=1"
    fi
} | config "$LAB_DIR/weir.toml"
sed -i "s|\"198.51.100.1/24\"|&, \"$wan:1/64\"|; s|\"10.0.0.1/24\"|&, \"$lan:1/64\"|" "$LAB_DIR/weir.toml"
weir_start "$LAB_DIR/weir.toml"

# The first exchange finds the neighbours.
for vip in $four $six; do
    small() { [[ $(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/echo.py" ask "$vip" 7 10 1) == "1 of 1" ]]; }
    check "a small datagram to $vip" within 10 small
    check "… and to the other real server" within 10 small
done
vips="$four $six"
[[ $mode != fullnat ]] || vips+=" $to_four $to_six"
for vip in $vips; do
    echoed "8,000 bytes to $vip, echoed" "$vip" 8000 20
    echoed "8,000 bytes from 20 sockets at once" "$vip" 8000 40 20
    echoed "60,000 bytes" "$vip" 60000 10
done

# turned WHAT ADDRESS LENGTH COUNT [AT_ONCE]: the last fragment first.
turned() {
    same "$1" "$4 of $4" "$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/echo.py" turn "$2" 7 "$3" "$4" "${5:-1}")"
}
turned "8,000 bytes to $four, the last fragment first" $four 8000 20
turned "… from 20 sockets at once" $four 8000 40 20
turned "60,000 bytes, the last fragment first" $four 60000 10
# Between families a fragment without a checksum has no counterpart.
[[ $mode != fullnat ]] || same "none of them arrives in the other family" "0 of 1" \
    "$(on c1 /usr/bin/python3 "$LAB_TOP/tests/lab/echo.py" turn $to_six 7 8000 1)"

same "nothing was refused" "" "$(metrics | grep '^weir_dropped_packets_total{reason="\(fragment.*\|too_big\)"} [1-9]' || true)"
same "nothing waits any more" "" "$(metrics | grep '^weir_waiting_fragments{.*} [1-9]' || true)"
settled
