#!/usr/bin/env bash
# Imports a file of leads over the daemon's socket and prints the rows that failed: client.sh SOCKET FILE. Needs curl and jq.
set -euo pipefail

daemon() {
    curl --silent --show-error --fail-with-body --unix-socket "$socket" "$@"
}

socket=$1
file=$2
name=$(jq -rn --arg name "$(basename "$file")" '$name | @uri')
job=$(daemon -X POST -T "$file" "http://marqueue/v1/jobs?target=leads&filename=$name")
id=$(jq .id <<<"$job")
while ! jq -e '.state | IN("complete", "failed", "cancelled")' >/dev/null <<<"$job"; do
    job=$(daemon "http://marqueue/v1/jobs/$id?wait=30s")
done
jq -c '[.state, .rows]' <<<"$job" >&2
if [[ $(jq '.rows.failed // 0' <<<"$job") != 0 ]]; then
    daemon "http://marqueue/v1/jobs/$id/failures"
fi
