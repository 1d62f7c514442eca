#!/usr/bin/env bash
# Do programs that were made for Marketo work with the daemon by a changed address? curl as Adobe's pages show it, and
# the Python package marketorestpython.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/town.sh

venv clients marketorestpython==0.5.25
town 100

printf 'email,firstName\na@example.com,Ann\nb@example.com,!fail:Value is too long\nc@example.com,!warn:Odd name\n' \
    >"$work/people.csv"
printf 'vin,make\n1,Opel\n2,!fail:No such make\n' >"$work/cars.csv"

token=$(token)
ask() { curl --silent --show-error -H "Authorization: Bearer $token" "$@"; }
fail() {
    echo "clients: $1" >&2
    exit 1
}
holds() { [[ "$1" == *"$2"* ]] || fail "\"$2\" was not in: $1"; }
lacks() { [[ "$1" != *"$2"* ]] || fail "\"$2\" was in: $1"; }

# Uploads a form and waits for its end: upload CREATE STATUS, with @ for the batch's id.
import() {
    local create=$1 status=$2 answer
    shift 2
    answer=$(ask -i "$@" "$url$create")
    holds "$answer" '"success":true'
    holds "$answer" '"status":"Queued"'
    [[ "$answer" =~ \"batchId\":([0-9]+) ]] || fail "no batchId: $answer"
    id=${BASH_REMATCH[1]}
    for _ in $(seq 600); do
        answer=$(ask "$url${status/@/$id}")
        holds "$answer" '"success":true'
        if [[ "$answer" == *'"status":"Complete"'* ]]; then
            state=$answer
            return
        fi
        lacks "$answer" '"status":"Failed"'
        sleep 0.1
    done
    fail "import $id does not end: $answer"
}

import '/bulk/v1/leads.json?format=csv' /bulk/v1/leads/batch/@.json -F "file=@$work/people.csv;type=text/csv"
holds "$state" '"numOfLeadsProcessed":2,"numOfRowsFailed":1,"numOfRowsWithWarning":1'
rows=$(ask "$url/bulk/v1/leads/batch/$id/failures.json")
holds "$rows" 'Import Failure Reason'
holds "$rows" 'b@example.com'
lacks "$rows" 'a@example.com'
rows=$(ask "$url/bulk/v1/leads/batch/$id/warnings.json")
holds "$rows" 'Import Warning Reason'
holds "$rows" 'c@example.com'
lacks "$rows" 'b@example.com'

# As older pages of Adobe's have it: all that there is to say in the form.
import /bulk/v1/leads.json /bulk/v1/leads/batch/@.json -F format=csv -F lookupField=email -F "file=@$work/people.csv"
holds "$state" '"numOfRowsFailed":1'

import '/bulk/v1/customobjects/car_c/import.json?format=csv' \
    /bulk/v1/customobjects/car_c/import/@/status.json -F "file=@$work/cars.csv;type=text/csv"
holds "$state" '"numOfObjectsProcessed":1,"numOfRowsFailed":1'
rows=$(ask "$url/bulk/v1/customobjects/car_c/import/$id/failures.json")
holds "$rows" $'2,!fail:No such make'
[[ "$(ask -o /dev/null -w '%{http_code}' "$url/bulk/v1/customobjects/car_c/import/$id/warnings.json")" == 404 ]] ||
    fail 'a custom object without warnings has a file of them'

import '/bulk/v1/program/1044/members/import.json?format=csv&programMemberStatus=Member' \
    /bulk/v1/program/members/import/@/status.json -F "file=@$work/people.csv;type=text/csv"
holds "$state" '"numOfRowsFailed":1'
holds "$(ask "$url/bulk/v1/program/members/import/$id/failures.json")" 'b@example.com'
echo 'clients: curl imported leads, objects and members'

python3 tests/system/clients.py "$url" "$work"

# A program may hide it by coming again; the daemon writes down whatever it refused.
if grep -E '"code":"?1016' "$log"; then fail '1016 was answered'; fi
echo 'clients: done'
