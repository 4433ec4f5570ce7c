# The commands of docs/getting-started.md, one after the other, as a newcomer types them.
#
#   scripts/lab tests/lab/first.sh
# shellcheck shell=bash

page=$LAB_TOP/docs/getting-started.md
quiet_namespace first
mkdir -p "$LAB_DIR/first" "$LAB_DIR/path"
ln -s "$WEIR" "$LAB_DIR/path/weir"
cd "$LAB_DIR/first" || exit
awk '/^```toml$/ {inside = 1; next} /^```$/ {inside = 0} inside' "$page" >first.toml
{
    # `kill %1` takes job control.
    echo 'set -meo pipefail'
    awk '/^```sh$/ {inside = 1; next} /^```$/ {inside = 0} inside' "$page"
} >commands
check "the page has its commands" test "$(wc -l <commands)" -gt 20
PATH=$LAB_DIR/path:$PATH on first bash commands >out 2>err </dev/null || {
    cat out err weir.log >&2
    fail "a command of $page fails"
}
answers=$(grep '^real server' out || true)
# Four in turn, and four while one is drained.
same "requests are answered" 8 "$(wc -l <<<"$answers")"
same "by both at first" "2 2" "$(head -n 4 <<<"$answers" | sort | uniq -c | awk '{print $1}' | paste -sd ' ')"
same "by one while the other is drained" "real server one" "$(tail -n 4 <<<"$answers" | sort -u)"
check "the packet is explained" grep -q 'forward by lan' out
check "the plan names the change" grep -q 'scheduler' out
same "nothing is complained about" "" "$(cat err)"
