#!/usr/bin/env bash
# The daemon against its OpenAPI description: Schemathesis reads /openapi.json, calls everything in it with all that
# is allowed and much that is not, and looks at the answers.
#
# Left out: /v1/events, whose answer has no end, and, by schemathesis itself, /openapi.json. It all goes over TCP, where
# what concerns the jobs of all (backup, retention) is refused, so of these two the refusals are seen and no more.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/lib.sh

venv schemathesis schemathesis==4.32.5 openapi-spec-validator==0.7.2
start_daemon 100

curl --silent --fail "$url/openapi.json" >"$work/openapi.json"
openapi-spec-validator "$work/openapi.json"

# Jobs to be found: with rows that failed and that have a warning, of all kinds.
token=$(token)
ask() { curl --silent --show-error --fail -H "Authorization: Bearer $token" "$@"; }
people=$'email,note\na@example.com,\nb@example.com,!fail:Bad\nc@example.com,!warn:Odd\n'
for query in target=leads 'target=custom-object&name=car_c' 'target=program-members&program_id=1044&status=Member' \
    'target=leads&lookup_field=email&group=g&priority=3'; do
    ask "$url/v1/jobs?format=csv&$query" --data-binary "$people" >/dev/null
done
for id in 1 2 3 4; do ask "$url/v1/jobs/$id?wait=60s" >/dev/null; done

cd "$work" # where it may leave its own files
schemathesis run "$url/openapi.json" --header "Authorization: Bearer $token" --exclude-path /v1/events \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --workers 4 --max-examples "${EXAMPLES:-10}" --seed "${SEED:-1}" --request-timeout 30 --continue-on-failure
