#!/usr/bin/env bash
# The metrics as Prometheus reads them: promtool looks at the rules, at the dashboard's
# expressions, and at what a daemon exports.
set -euo pipefail
cd "$(dirname "$0")/../.."

source tests/system/lib.sh

if ! promtool=$(command -v promtool); then
    # The package would start a service of its own: only its file is wanted.
    apt_get update
    (cd "$work" && apt_get download prometheus && dpkg -x prometheus_*.deb prometheus)
    promtool=$work/prometheus/usr/bin/promtool
fi

"$promtool" check rules packaging/prometheus/marqueue.rules.yml

# The dashboard's expressions as rules, since those can be checked.
{
    echo 'groups: [{name: dashboard, rules: ['
    grep -o '"expr": ".*"' packaging/grafana/marqueue.json | sed 's/\$instance/.*/; s/^"expr": \(.*\)$/{record: "dashboard:panel", expr: \1},/' | awk '{ sub(/panel/, "panel" NR); print }'
    echo ']}]'
} >"$work/dashboard.yml"
"$promtool" check rules "$work/dashboard.yml"

start_daemon 100
export MARQUEUE_SOCKET=$socket
printf 'email,note\na@example.com,\nb@example.com,!fail:Bad\n' >"$work/people.csv"
"$marqueue" add leads "$work/people.csv" --wait || [ $? -eq 4 ]

curl --silent --fail --unix-socket "$socket" http://marqueue/metrics >"$work/metrics"
"$promtool" check metrics <"$work/metrics"
echo "metrics: $(grep -c '^# TYPE' "$work/metrics") families, and promtool has nothing to say"
