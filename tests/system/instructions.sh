#!/usr/bin/env bash
# Counts the instructions of hot paths with valgrind: a count above its limit fails.
#
# The benchmarks are in benches/instructions/, their limits in limits.txt there. With --renew the limits become what was
# counted and a headroom, for a compiler or a change that is worth it.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/debian.sh

readonly BENCHES=benches/instructions
# Between two builds of the same source by compilers of one version there is less than one.
readonly HEADROOM_PERCENT=8

if ! command -v valgrind >/dev/null; then
    install_packages valgrind libc6-dbg
fi
.ci/tool gungraun-runner
PATH=$PWD/target/tools/bin:$PATH
if ! grep -qw avx2 /proc/cpuinfo; then
    echo 'instructions: the limits are for x86-64 with AVX2, which this processor lacks: nothing was checked' >&2
    exit 0
fi

output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
# Compared with nothing: the counts of the last run say nothing about the limits.
cargo bench --locked --bench instructions -- --nosummary --color=never 2>&1 | tee "$output" || status=$?

# A line for each benchmark: its name and what was counted.
counts=$(awk '/::hot_paths::/ { split($1, words, "::"); name = words[4] } $1 == "Instructions:" { sub(/\|.*/, "", $2); print name, $2 }' "$output")
names() { cut -d' ' -f1; }
if [[ -z "$counts" || ("${1-}" != --renew && "$(names <<<"$counts")" != "$(names <"$BENCHES/limits.txt")") ]]; then
    echo "instructions: not all of limits.txt was counted: $counts" >&2
    exit 1
fi
if [[ "${1-}" == --renew ]]; then
    awk -v percent=$HEADROOM_PERCENT '{ print $1, int($2 * (100 + percent) / 100) }' <<<"$counts" >"$BENCHES/limits.txt"
    echo "instructions: $BENCHES/limits.txt was written"
    exit 0
fi
echo 'instructions: counted, and the share of the limit'
join <(sort <<<"$counts") <(sort "$BENCHES/limits.txt") | awk '{ printf "  %-16s %12d %5.1f %%\n", $1, $2, $2 * 100 / $3 }'
exit "$status"
