# weir-server-kit in a lab: built, in a cgroup of the lab's own, run in a real server's namespace.
# shellcheck shell=bash

kit=$LAB_TOP/target/server-kit/weir-server-kit
kit_pid=''
kit_cgroup=''

# kit_build: scenarios side by side want the same.
kit_build() {
    mkdir -p "$LAB_TOP/target"
    flock "$LAB_TOP/target/server-kit.lock" make -s -C "$LAB_TOP/server-kit" OUT="$(dirname "$kit")" >"$LAB_DIR/kit.make" 2>&1 ||
        fail "weir-server-kit cannot be built (scripts/setup kit): $(cat "$LAB_DIR/kit.make")"
}

# kit_here: from here on the lab is in a cgroup of its own, whose sockets alone the kit sees; and it has a BPF file system.
kit_here() {
    local old
    mkdir -p "$LAB_DIR/cgroup" "$LAB_DIR/bpf"
    mount -t cgroup2 cgroup2 "$LAB_DIR/cgroup"
    mount -t bpf bpf "$LAB_DIR/bpf"
    # What a lab that was killed has left. One with processes in it stays.
    for old in "$LAB_DIR"/cgroup/weir-lab-*; do
        rmdir "$old" 2>/dev/null || true
    done
    kit_cgroup=$LAB_DIR/cgroup/weir-lab-$(head -c 6 /dev/urandom | od -An -tx1 | tr -d ' \n')
    trap 'kit_end $?' EXIT
    mkdir "$kit_cgroup"
    echo 0 >"$kit_cgroup/cgroup.procs"
}

# shellcheck disable=SC2317 # called by the trap
kit_end() {
    if [[ -n $kit_pid ]] && (($1 != 0)); then
        echo "--- the kit's log, and what it counted" >&2
        cat "$LAB_DIR/kit.log" >&2
        "$kit" status "$LAB_DIR/kit.conf" >&2 || true
    fi
    lab_said=$(lab_end "$1" 2>&1) || true
    [[ -z $lab_said ]] || echo "$lab_said" >&2
    # The shell would tell of each process.
    exec 2>/dev/null
    echo 0 >"$LAB_DIR/cgroup/cgroup.procs"
    echo 1 >"$kit_cgroup/cgroup.kill"
    within 5 rmdir "$kit_cgroup" || true
    trap - EXIT
    exit "$1"
}

# kit_file: the file of stdin, with the lab's places.
kit_file() {
    {
        cat
        echo "cgroup $kit_cgroup"
        echo "pins $LAB_DIR/bpf/kit"
    } >"$LAB_DIR/kit.conf"
}

kit_said() { grep -q 'directors; toa' "$LAB_DIR/kit.log"; }

# kit_start NAME: with the file on stdin, in that namespace.
kit_start() {
    kit_file
    : >"$LAB_DIR/kit.log"
    # With what the unit leaves it.
    ip netns exec "$1" setpriv --inh-caps=-all --bounding-set=-all,+bpf,+perfmon,+net_admin,+net_raw "$kit" run "$LAB_DIR/kit.conf" >>"$LAB_DIR/kit.log" 2>&1 </dev/null &
    kit_pid=$!
    within 10 kit_said || fail "the kit does not start: $(cat "$LAB_DIR/kit.log")"
    good "weir-server-kit: $(tail -n 1 "$LAB_DIR/kit.log")"
}

# kit_reload: with the file on stdin.
kit_reload() {
    kit_file
    : >"$LAB_DIR/kit.log"
    kill -HUP "$kit_pid"
    within 10 kit_said || fail "the kit does not reload: $(cat "$LAB_DIR/kit.log")"
}

kit_stop() {
    local status=0
    kill "$kit_pid"
    wait "$kit_pid" || status=$?
    kit_pid=''
    same "the kit's exit status" 0 "$status"
}

# kit_counted NAME: how often.
kit_counted() { "$kit" status "$LAB_DIR/kit.conf" | awk -v name="$1" '$1 == name { print $2 }'; }
