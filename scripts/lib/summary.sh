# The last lines of a run of the tests.
# shellcheck shell=bash

# failed_tests LOG: the names of the tests that failed, if nothing else did: no build, no test binary that ended by a signal.
failed_tests() {
    local ended told
    ended=$(grep -c '^error: test failed, to rerun pass' "$1" || true)
    told=$(grep -c '^test result: FAILED' "$1" || true)
    if ((ended == told)); then
        sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1"
    fi
}

# passed_again LOG AGAIN: the failed tests of LOG that AGAIN saw pass, and nowhere fail.
passed_again() {
    comm -12 <(failed_tests "$1" | sort -u) <(sed -n 's/^test \(.*\) \.\.\. ok$/\1/p' "$2" | sort -u) |
        comm -23 - <(failed_tests "$2" | sort -u)
}

# summary LOG SKIPPED [AGAIN]: sums what every test binary says at its end in LOG. Tests that were skipped while they ran, a line each
# in SKIPPED, have passed as far as those know: they are taken off, and named with their reason. So are tests that failed in LOG
# and passed in AGAIN.
summary() {
    local flaky=()
    if [ -n "${3:-}" ]; then
        mapfile -t flaky < <(passed_again "$1" "$3")
    fi
    sed 's/^/skipped: /' "$2"
    ((${#flaky[@]} == 0)) || printf 'passed only when it was alone: %s\n' "${flaky[@]}"
    awk -v skipped="$(wc -l <"$2")" -v flaky="${#flaky[@]}" '/^test result:/ {
            for (n = 1; n < NF; n++) {
                if ($(n + 1) ~ /^passed/) passed += $n
                if ($(n + 1) ~ /^failed/) failed += $n
                if ($(n + 1) ~ /^ignored/) ignored += $n
            }
        }
        END { printf "%d passed, %d failed, %d skipped\n", passed - skipped + flaky, failed - flaky, ignored + skipped }' "$1"
}
