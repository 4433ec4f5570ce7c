# The last lines of a run of the tests.
# shellcheck shell=bash

# summary LOG SKIPPED: sums what every test binary says at its end in LOG. Tests that were skipped while they ran, a line each
# in SKIPPED, have passed as far as those know: they are taken off, and named with their reason.
summary() {
    sed 's/^/skipped: /' "$2"
    awk -v skipped="$(wc -l <"$2")" '/^test result:/ {
            for (n = 1; n < NF; n++) {
                if ($(n + 1) ~ /^passed/) passed += $n
                if ($(n + 1) ~ /^failed/) failed += $n
                if ($(n + 1) ~ /^ignored/) ignored += $n
            }
        }
        END { printf "%d passed, %d failed, %d skipped\n", passed - skipped, failed, ignored + skipped }' "$1"
}
