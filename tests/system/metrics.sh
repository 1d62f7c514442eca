#!/usr/bin/env bash
# The metrics as Prometheus reads them: promtool looks at the rules, at the dashboard's
# expressions, and at what a daemon exports.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

if ! promtool=$(command -v promtool); then
    # The package would start a service of its own: only its file is wanted.
    apt-get update
    (cd "$work" && apt-get download prometheus && dpkg -x prometheus_*.deb prometheus)
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

cargo build --locked
marqueue=${CARGO_TARGET_DIR:-target}/debug/marqueue
"$marqueue" simulate --listen 127.0.0.1:0 --speed 100 >"$work/simulator" 2>&1 &
pids+=($!)
until url=$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$work/simulator"); do sleep 0.1; done
cat >"$work/marqueue.toml" <<END
[store]
path = "$work/q.db"
[api]
socket = "$work/m.sock"
[instances.default]
base_url = "$url"
client_id = "simulator"
client_secret = "secret"
END
chmod 600 "$work/marqueue.toml"
"$marqueue" serve --config "$work/marqueue.toml" 2>"$work/log" &
pids+=($!)
export MARQUEUE_SOCKET=$work/m.sock
until "$marqueue" health >/dev/null 2>&1; do sleep 0.1; done
printf 'email,note\na@example.com,\nb@example.com,!fail:Bad\n' >"$work/people.csv"
"$marqueue" add leads "$work/people.csv" --wait || [ $? -eq 4 ]

curl --silent --fail --unix-socket "$work/m.sock" http://marqueue/metrics >"$work/metrics"
"$promtool" check metrics <"$work/metrics"
echo "metrics: $(grep -c '^# TYPE' "$work/metrics") families, and promtool has nothing to say"
