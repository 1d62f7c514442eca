#!/usr/bin/env bash
# Programs made for Marketo, used with the daemon at another address.
#
# Each program imports once into a simulator of Marketo and once into the daemon in front of another one; what it got must
# be the same. The programs are in tests/system/clients/. At last forty files come at once through marketorestpython.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/lib.sh

readonly programs=tests/system/clients
# golang.org/x/oauth2 and a Java compiler come from Debian, with Node where there is none.
packages=(golang-go golang-golang-x-oauth2-dev)
command -v javac >/dev/null || packages+=(default-jdk-headless)
command -v npm >/dev/null || packages+=(nodejs npm)
command -v curl >/dev/null || packages+=(curl)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    install_packages "${packages[@]}"
fi
venv clients marketorestpython==0.5.25 requests==2.32.5 httpx==0.28.1
node_modules clients axios@1.13.2 form-data@4.0.5 undici@6.22.0
mkdir -p target/system/clients-build
GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=$PWD/target/system/go-cache \
    go build -o target/system/clients-build/with_oauth2 "$programs/with_oauth2.go"
javac -d target/system/clients-build "$programs/WithHttpClient.java"

start_daemon 100

files=$work/files
mkdir "$files"
printf 'email,firstName\na@example.com,Ann\nb@example.com,!fail:Value is too long\nc@example.com,!warn:Odd name\n' \
    >"$files/people.csv"
printf 'vin,make\n1,Opel\n2,!fail:No such make\n3,Skoda\n' >"$files/cars.csv"

# compare NAME COMMAND…: runs it against a simulator of its own and against the daemon.
compare() {
    local name=$1
    shift
    simulator 100 --lenient
    "$@" "$simulator" simulator secret "$files" >"$work/$name.simulator"
    "$@" "$url" crm crm-secret "$files" >"$work/$name.daemon"
    python3 "$programs/compare.py" "$name" "$work/$name.simulator" "$work/$name.daemon"
}

compare curl "$programs/curl.sh"
compare marketorestpython python3 "$programs/with_marketorestpython.py"
compare requests python3 "$programs/with_requests.py"
compare httpx python3 "$programs/with_httpx.py"
compare email.mime python3 "$programs/with_email_mime.py"
# Modules are looked for beside the program, so it is run from where they were installed.
cp "$programs"/*.mjs "$node_modules/"
compare axios node "$node_modules/with_axios.mjs"
compare undici node "$node_modules/with_undici.mjs"
compare x-oauth2 target/system/clients-build/with_oauth2
compare java.net.http java -cp target/system/clients-build WithHttpClient
for program in rudderstack talend segment adobe-java adobe-php adobe-ruby mrkt; do
    compare "$program" python3 "$programs/replays.py" "$program"
done

# Talend asks so before each job, with a blank as it stands, and ends its job at anything but HTTP 200.
address=${url#http://}
exec 3<>"/dev/tcp/${address%:*}/${address#*:}"
printf 'GET /rest/v1/activities/pagingtoken.json?access_token=%s&sinceDatetime=2017-01-01 00:00:00 HTTP/1.1\r\n%s\r\n\r\n' \
    "$(token)" $'accept: text/json\r\nUser-Agent: Java/17.0.15\r\nHost: x\r\nConnection: close' >&3
read -r answer <&3
exec 3>&-
[[ "$answer" == 'HTTP/1.1 200 '* ]] || { echo "clients: talend's check of its connection: $answer" >&2; exit 1; }

python3 tests/system/clients.py "$url" "$work"

# A program may hide it by coming again; the daemon writes down whatever it refused.
if grep -E '"code":"?1016' "$log"; then
    echo 'clients: 1016 was answered' >&2
    exit 1
fi
# A token that stands in an address or a form is not to be found in any line.
if grep -F "$(token)" "$log" >/dev/null; then
    echo 'clients: a token stands in the log' >&2
    exit 1
fi
echo 'clients: done'
