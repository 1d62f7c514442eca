#!/usr/bin/env bash
# curl as Adobe's three pages on bulk import print it: all parameters and the token in the form.
#
# Adobe's line for program members has its status in the query; a blank in it has to be written as %20 for curl.
set -euo pipefail
url=$1 id=$2 secret=$3 files=$4

# record LABEL CURL_ARGUMENT…: calls, and prints the answer as compare.py reads it.
record() {
    local label=$1 status
    shift
    status=$(curl --silent --show-error --output "$files/answer" --write-out '%{http_code}' "$@")
    printf '%s\t%s\t%s\n' "$label" "$status" "$(base64 -w 0 "$files/answer")"
}

# import LABEL CREATE_PATH ASK_PATH FILE: uploads, polls until the end, fetches both files.
import() {
    local label=$1 create=$2 ask=$3 file=$4 batch status
    record "$label upload" -X POST -F format=csv -F "file=@$file" -F "access_token=$token" "$url$create"
    batch=$(grep -o '"batchId":[0-9]*' "$files/answer" | grep -o '[0-9]*') || return 1
    ask=${ask/@/$batch}
    status=$ask
    [[ "$ask" == */leads/* ]] && status=${ask%/}.json || status=$ask/status.json
    for _ in $(seq 240); do
        curl --silent --show-error -H "Authorization: Bearer $token" --output "$files/answer" "$url$status"
        grep -qE '"status":"(Complete|Failed)"' "$files/answer" && break
        sleep 0.25
    done
    record "$label status" -H "Authorization: Bearer $token" "$url$status"
    record "$label failures" -H "Authorization: Bearer $token" "$url$ask/failures.json"
    record "$label warnings" -H "Authorization: Bearer $token" "$url$ask/warnings.json"
}

token=$(curl --silent --fail "$url/identity/oauth/token?grant_type=client_credentials&client_id=$id&client_secret=$secret" |
    grep -o '"access_token":"[^"]*"' | cut -d'"' -f4)
import leads /bulk/v1/leads.json /bulk/v1/leads/batch/@ "$files/people.csv"
import objects /bulk/v1/customobjects/car_c/import.json /bulk/v1/customobjects/car_c/import/@ "$files/cars.csv"
import members '/bulk/v1/program/1044/members/import.json?programMemberStatus=On%20List' \
    /bulk/v1/program/members/import/@ "$files/people.csv"
