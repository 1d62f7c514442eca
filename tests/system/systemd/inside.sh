#!/usr/bin/env bash
# What has to hold of the package in a system with systemd. Each line is one finding; the last one is "all passed".
# It ends at the first check that fails.
set -euEo pipefail
# A reader that leaves early, as grep -q does, would fail what it reads from: so no -q behind a pipe.
cd /share
export USER=ann

report_failure() {
    echo "FAILED at line $1: $2"
    systemctl --no-pager --lines 0 status marqueue.service marqueue.socket || true
    journalctl --no-pager -n 40 -o cat -u marqueue -u marqueue.socket -u simulator || true
}
trap 'report_failure "$LINENO" "$BASH_COMMAND"' ERR

ok() {
    echo "ok: $*"
}

# The commands of the n-th block below a heading of one of the package's pages, as they stand there, as root.
recipe() {
    local page=/usr/share/doc/marqueue/docs/$1
    # Before the package is installed.
    [[ -e $page ]] || page=$1
    awk -v heading="$2" -v wanted="$3" '/^#+ /{here = ($0 ~ "^#+ " heading "$")} here && /^```$/{inside = 0}
        here && inside && n == wanted
        here && /^```sh$/{inside = 1; n++}' "$page" > /tmp/recipe
    [[ -s /tmp/recipe ]] || { echo "$1 has no block $3 below $2" >&2; return 1; }
    sed -e 's/sudo //' /tmp/recipe
}

# Of docs/install.md, with the simulator as Marketo.
readme() {
    recipe install.md 'Debian package' "$1" | sed -e 's,https://123-ABC-456.mktorest.com,http://127.0.0.1:8438,' \
        -e 's/00000000-0000-0000-0000-000000000000/simulator/' -e "s/the client's secret/secret/"
}

# Runs a block of docs/operations.md.
operate() {
    recipe operations.md "$1" "$2" > /tmp/operate
    bash -e /tmp/operate > /tmp/last 2>&1 || { cat /tmp/operate /tmp/last; return 1; }
}

# Starts what a block of docs/operations.md runs in the foreground, and waits until it answers. end_foreground ends it.
foreground() {
    recipe operations.md "$1" "$2" > /tmp/foreground
    bash -ec "exec $(cat /tmp/foreground)" > /tmp/foreground.log 2>&1 &
    foreground=$!
    until_so marqueue health || { cat /tmp/foreground.log; false; }
}

end_foreground() {
    local status=0
    kill "$foreground"
    wait "$foreground" || status=$?
    [[ $status == 143 ]] || { echo "status $status"; cat /tmp/foreground.log; false; }
    [[ -z $(find /run -maxdepth 1 -name 'marqueue-service*') && ! -e /run/systemd/system/marqueue-serve.service ]]
}

# Asks until it is so, for half a minute or $patience.
until_so() {
    for _ in $(seq "$((${patience:-30} * 10))"); do
        if "$@" >/tmp/last 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    echo "in vain: $*"
    cat /tmp/last
    return 1
}

# Ends with this status, and prints this.
ends() {
    local status=$1 text=$2 found=0
    shift 2
    "$@" >/tmp/last 2>&1 || found=$?
    [[ $found == "$status" ]] && grep -q -- "$text" /tmp/last && return 0
    echo "status $found of: $*"
    cat /tmp/last
    return 1
}

ann() {
    runuser -u ann -- "$@"
}

main_pid() {
    systemctl show -p MainPID --value marqueue
}

# Another process than this one is at work.
anew() {
    [[ $(main_pid) != "$1" && $(main_pid) != 0 ]] && systemctl is-active marqueue
}

jobs_in() {
    marqueue list --state "$1" --limit 10000 --json | grep -c '"filename"' || true
}

all_complete() {
    [[ $(jobs_in complete) == "$1" ]]
}

# One request to the simulator's own paths.
simulator() {
    exec 3<>/dev/tcp/127.0.0.1/8438
    printf '%s %s HTTP/1.1\r\nHost: simulator\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
        "$1" "$2" "${#3}" "$3" >&3
    cat <&3
    exec 3>&-
}

# The next upload's answer comes so late.
slow_upload() {
    simulator POST /simulator/faults "{\"call\": \"create\", \"nth\": 1, \"times\": 1, \"effect\": {\"delay-ms\": $1}}" \
        >/tmp/last
    grep -q '^HTTP/1.1 2' /tmp/last
}

uploading() {
    marqueue show "$1" | grep uploading >/dev/null
}

event_of() {
    marqueue show "$1" --json | grep -c "\"event\": \"$2\""
}

printf 'email,firstName\nann@example.com,Ann\nbob@example.com,Bob\n' > /tmp/people.csv
chmod 0644 /tmp/people.csv
useradd --create-home ann
useradd --create-home mallory

# Installation.
readme 1 | grep '^apt install' | sed 's/install/install -y/' > /tmp/install
grep -q marqueue_ /tmp/install
bash -e /tmp/install > /tmp/last 2>&1 || { cat /tmp/last; false; }
[[ $(grep -c '^marqueue: ' /tmp/last) == 2 ]]
[[ $(systemctl is-enabled marqueue.service || true) == disabled ]]
[[ $(systemctl is-active marqueue.socket || true) == inactive ]]
[[ $(stat -c '%a %U:%G' /etc/marqueue/marqueue.toml) == '640 root:marqueue' ]]
[[ $(stat -c '%a %U:%G' /var/spool/marqueue) == '2770 marqueue:marqueue' ]]
ok "installed as on the page: nothing is started before it is configured, and two lines say what to do"
gzip -dc /usr/share/man/man1/marqueue-add-leads.1.gz | grep 'marqueue add leads people.csv' >/dev/null
gzip -dc /usr/share/man/man5/marqueue.toml.5.gz | grep '^marqueue.toml \\- ' >/dev/null
bash -ec '. /usr/share/bash-completion/completions/marqueue; complete -p marqueue' >/dev/null
[[ -s /usr/share/zsh/vendor-completions/_marqueue && -s /usr/share/fish/vendor_completions.d/marqueue.fish ]]
gzip -dc /usr/share/doc/marqueue/third-party-licences.gz | grep '^=== tokio-' >/dev/null
ok "the manual, completions and licences are there"

install -m 0600 /dev/stdin /etc/marqueue/client_secret <<<wrong
ends 1 failed systemctl start marqueue.service
until_so sh -c 'journalctl -u marqueue -o cat | grep base_url'
[[ $(systemctl is-active marqueue.service || true) == failed ]]
systemctl stop marqueue.socket
ok "without an instance it does not start, the log names the key, and it is not tried in vain again"

systemd-run --quiet --unit=simulator marqueue simulate --speed 20
readme 2 > /tmp/configure
grep -q '^systemctl enable --now marqueue$' /tmp/configure
bash -e /tmp/configure > /tmp/last 2>&1 || { cat /tmp/last; false; }
readme 3 > /tmp/member
bash -e /tmp/member
[[ $(systemctl is-active marqueue.service) == active && $(systemctl is-active marqueue.socket) == active ]]
[[ $(systemctl is-enabled marqueue.service) == enabled && $(systemctl is-enabled marqueue.socket) == enabled ]]
[[ $(stat -c '%U:%G' "/proc/$(main_pid)") == marqueue:marqueue ]]
[[ $(stat -c '%a %U:%G' /run/marqueue/marqueue.sock) == '660 marqueue:marqueue' ]]
ok "configured as on the page: enabled, active, and run by the user marqueue"

# The secret.
[[ $(stat -c '%a %U' /etc/marqueue/client_secret) == '600 root' ]]
ends 1 'Permission denied' runuser -u marqueue -- cat /etc/marqueue/client_secret
! tr '\0' '\n' < "/proc/$(main_pid)/environ" | grep -x '.*=secret' || false
until_so sh -c 'marqueue health --ready'
ok "the secret comes as a credential: only root can read its file, and it is not in the environment"

# Who may use it.
cp /tmp/people.csv /home/ann/people.csv
readme 4 > /tmp/use
chmod 0644 /tmp/use
(cd /home/ann && ann bash -e /tmp/use) > /tmp/last 2>&1 || { cat /tmp/last; false; }
grep -q 'is complete: 2 rows, 2 processed' /tmp/last
until_so all_complete 2
[[ ! -e /var/spool/marqueue/default/leads/people.csv ]]
marqueue show 2 --json | grep '"type": "drop"' >/dev/null
ok "a member of the group adds a file and waits for its end, and drops one into the folder, as on the page"
marqueue show 1 --json > /tmp/last
grep -q '"type": "socket"' /tmp/last
! grep -q '"uid"' /tmp/last || false
ok "a job's source has no user id, since the sandbox hides it"
ends 1 'may not be opened' runuser -u mallory -- marqueue add leads /tmp/people.csv
ends 1 'Permission denied' runuser -u mallory -- cp /tmp/people.csv /var/spool/marqueue/default/leads/
[[ $(jobs_in complete) == 2 ]]
ok "one who is no member is refused, by the socket and by the folder"

exposure=$(systemd-analyze security --no-pager marqueue.service | sed -n 's/.*Overall exposure level for marqueue.service: \([0-9.]*\).*/\1/p')
awk -v found="$exposure" 'BEGIN { exit !(found != "" && found <= 1.1) }'
ok "systemd-analyze security: $exposure"

# Reload.
tee -a /etc/marqueue/marqueue.toml >/dev/null <<'END'
[instances.default.limits]
calls = 90
[instances.default.polling]
min = "250ms"
END
before=$(main_pid)
systemctl reload marqueue
until_so sh -c "marqueue status default | grep 'of 90 in 20 s'"
[[ $(main_pid) == "$before" ]]
ok "systemctl reload puts a limit in force"
cp -a /etc/marqueue/marqueue.toml /tmp/good.toml
printf 'calls = "many"\n' >> /etc/marqueue/marqueue.toml
systemctl reload marqueue
until_so sh -c "journalctl -u marqueue -o cat | grep 'the old one stays in force'"
marqueue status default | grep 'of 90 in 20 s' >/dev/null
[[ $(main_pid) == "$before" && $(systemctl is-active marqueue) == active ]]
cp -a /tmp/good.toml /etc/marqueue/marqueue.toml
systemctl reload marqueue
# The journal has the priority of each line, and not as text.
[[ $(journalctl -u marqueue -p err -o cat | grep 'the old one stays in force' | head -1) == ERROR\ * ]]
ok "a wrong configuration is named in the log as an error, and the old one stays"

# Killed.
ann marqueue pause >/dev/null
ann marqueue add leads /home/ann/people.csv /home/ann/people.csv >/dev/null
before=$(main_pid)
kill -9 "$before"
until_so anew "$before"
[[ $(jobs_in pending) == 2 ]]
ann marqueue resume >/dev/null
until_so all_complete 4
ok "after kill -9 systemd starts it again, and nothing is lost"

mkdir -p /etc/systemd/system/marqueue.service.d
printf '[Service]\nWatchdogSec=3s\n' > /etc/systemd/system/marqueue.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart marqueue
before=$(main_pid)
# A healthy daemon runs for longer than the timeout of the watchdog.
sleep 7
[[ $(main_pid) == "$before" ]]
kill -STOP "$before"
until_so anew "$before"
journalctl -u marqueue -o cat | grep -i 'watchdog timeout' >/dev/null
rm -r /etc/systemd/system/marqueue.service.d
systemctl daemon-reload
ok "a daemon that hangs is killed by the watchdog and started anew; one that is well is not"

# Restarts under load. Restarts by an operator count as tries too.
systemctl reset-failed marqueue.service
systemctl restart marqueue
mkdir -p /tmp/load
chmod 0777 /tmp/load
clients=()
for client in $(seq 8); do
    ann bash -c "for n in \$(seq 8); do marqueue add leads /home/ann/people.csv || echo \"status \$?\"; sleep 0.2; done" \
        > "/tmp/load/$client" 2>&1 &
    clients+=($!)
done
restarts=0
while [[ -n $(jobs -r) ]] && ((restarts < 4)); do
    systemctl restart marqueue
    restarts=$((restarts + 1))
done
wait "${clients[@]}"
cat /tmp/load/* > /tmp/last
[[ $(grep -c '^job [0-9]*: people.csv, 2 rows in 1 batch$' /tmp/last) == 64 ]] || { sort /tmp/last | uniq -c | sort -n | tail; false; }
[[ $(cut -d : -f 1 /tmp/last | sort -u | wc -l) == 64 ]]
patience=180 until_so all_complete 68
[[ $(marqueue list --limit 10000 --json | grep -c '"filename"') == 68 ]]
ok "of 64 files that 8 clients add through $restarts restarts, none is refused and none is lost"

# Stopped in the middle of an upload.
systemctl reset-failed marqueue.service
slow_upload 4000
job=$(ann marqueue add leads /home/ann/people.csv | sed -n 's/^job \([0-9]*\):.*/\1/p')
until_so uploading "$job"
from=$SECONDS
systemctl stop marqueue.service
((SECONDS - from < 30))
[[ $(systemctl show -p Result --value marqueue) == success ]]
systemctl start marqueue
until_so all_complete 69
[[ $(event_of "$job" upload-began) == 1 && $(event_of "$job" accepted) == 1 ]] || { marqueue show "$job"; false; }
ok "a stop waits for the upload under way ($((SECONDS - from)) s) and records it: it is not sent again"

slow_upload 110000
job=$(ann marqueue add leads /home/ann/people.csv | sed -n 's/^job \([0-9]*\):.*/\1/p')
until_so uploading "$job"
from=$SECONDS
systemctl stop marqueue.service
took=$((SECONDS - from))
((took < 85))
[[ $(systemctl show -p Result --value marqueue) == success ]]
systemctl start marqueue
until_so all_complete 70
[[ $(event_of "$job" upload-began) == 2 ]] || { marqueue show "$job"; false; }
ok "an upload that does not end is left after $took s, within systemd's patience, and sent again by the next start"

# The drop folder: the sandbox hides who has a file open, and ann is another user than the daemon.
readonly drop=/var/spool/marqueue/default/leads
cat > /tmp/writer <<'END'
set -eu
cd "$1"
exec 3>"$2"
printf 'email,firstName\nann@example.com,Ann\n' >&3
mv "$2" "$3"
sleep "$4"
printf 'bob@example.com,Bob\n' >&3
END
chmod 0644 /tmp/writer
rows_of() {
    marqueue list --limit 10000 --json | tr -d '\n ' | grep -o "\"filename\":\"$1\"[^{]*{[^}]*}" | grep -o '"total":[0-9]*'
}
# The draft lies in the folder, so that it was written and not closed is known whatever the pause is: longer than settle.
ann bash /tmp/writer "$drop" inside.csv.part inside.csv 12 &
# Nothing is known of this one before it comes, so it waits until it is quiet for drop.settle.
ann bash /tmp/writer /home/ann outside.csv "$drop/outside.csv" 2 &
wait
until_so sh -c "! test -e $drop/inside.csv && ! test -e $drop/outside.csv"
[[ $(rows_of inside.csv) == '"total":2' && $(rows_of outside.csv) == '"total":2' ]] ||
    { marqueue list --limit 3 --json; false; }
until_so all_complete 72
ok "a file that another user renames in and still writes to is taken when all is written, though the sandbox hides its writer"

# Port 443, for programs that cannot use another, by the drop-in of the page on existing clients.
mkdir -p /etc/systemd/system/marqueue.service.d
sed -n '/^   ```ini$/,/^   ```$/p' /usr/share/doc/marqueue/docs/existing-clients.md | sed -n '2,/```/p' |
    sed '/```/d; s/^   //' > /etc/systemd/system/marqueue.service.d/port.conf
grep -q '^AmbientCapabilities=CAP_NET_BIND_SERVICE$' /etc/systemd/system/marqueue.service.d/port.conf
printf '[api]\nlisten = "127.0.0.1:443"\n[[api.clients]]\nclient_id = "crm"\nclient_secret = "crm-secret-4711"\n' \
    >> /etc/marqueue/marqueue.toml
systemctl daemon-reload
systemctl reset-failed marqueue.service
systemctl restart marqueue
exec 3<>/dev/tcp/127.0.0.1/443
printf 'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3
read -r answer <&3
exec 3>&-
[[ "$answer" == 'HTTP/1.1 200 '* ]] || { echo "$answer"; false; }
[[ $(stat -c %U "/proc/$(main_pid)") == marqueue ]]
cp -a /tmp/good.toml /etc/marqueue/marqueue.toml
rm -r /etc/systemd/system/marqueue.service.d
systemctl daemon-reload
systemctl restart marqueue
ok "with the drop-in of the page the daemon listens on port 443, and is still no root"

# The recipes of the page on operations.
systemctl reset-failed marqueue.service
ends 2 'Usage: marqueue-service doctor' marqueue-service
ends 1 'marqueue.socket is active' marqueue-service serve --paused
ends 2 'needs root' runuser -u ann -- /usr/sbin/marqueue-service doctor
operate 'When something is wrong' 1
marqueue-service doctor > /tmp/last 2>&1
grep -q 'issued a token' /tmp/last
! grep -w 'fault\|missing' /tmp/last || false
ends 0 '"check"' marqueue-service doctor --json
ends 2 'unexpected argument' marqueue-service doctor --nonsense
mv /etc/marqueue/client_secret /tmp/
ends 1 'client_secret, a credential of marqueue.service, cannot be read' marqueue-service doctor
mv /tmp/client_secret /etc/marqueue/
[[ -z $(find /run -maxdepth 1 -name 'marqueue-service*') && ! -e /run/systemd/system/marqueue-doctor.service ]]
ok "marqueue-service doctor sees what the unit has, and fails with the status of doctor"

pending_only() {
    [[ $(jobs_in pending) == "$1" && $(jobs_in complete) == "$2" ]]
}
marqueue pause >/dev/null
ann marqueue add leads /home/ann/people.csv >/dev/null
operate Backup 1
ann marqueue add leads /home/ann/people.csv >/dev/null
pending_only 2 72
operate Restore 1
foreground Restore 2
pending_only 1 72
marqueue status | grep -i paused >/dev/null
ends 1 'marqueue-serve.service runs already' marqueue-service serve
end_foreground
[[ $(systemctl is-active marqueue.socket || true) == inactive ]]
operate Restore 3
until_so all_complete 73
[[ $(marqueue list --limit 10000 --json | grep -c '"filename"') == 73 ]]
ok "a backup is restored by the page's commands: what it has goes on, and what came after it is not there"

operate 'What is erased, and when' 1
marqueue show 12 --json | grep -c content_erased >/dev/null
rm /var/lib/marqueue/marqueue.db*
until_so ends 1 '' marqueue health --ready
operate 'Recovering a deleted database' 1
until_so marqueue health --ready
all_complete 73
ok "a deleted database is recovered from the running daemon by the page's commands"

marqueue pause >/dev/null
ann marqueue add leads /home/ann/people.csv >/dev/null
printf 'email\nlater@example.com\n' > /var/spool/marqueue/default/leads/.later.csv
operate 'Moving to another machine' 1
[[ $(systemctl is-enabled marqueue.service || true) == disabled && $(systemctl is-active marqueue.socket || true) == inactive ]]
dpkg --purge marqueue > /tmp/last 2>&1 || { cat /tmp/last; false; }
rm -rf /var/lib/marqueue /var/spool/marqueue /etc/marqueue
dpkg -i target/debian/marqueue_*.deb > /tmp/last 2>&1 || { cat /tmp/last; false; }
operate 'Moving to another machine' 2
foreground 'Moving to another machine' 3
operate 'Moving to another machine' 4
[[ ! -s /tmp/last ]] || { cat /tmp/last; false; }
pending_only 1 73
end_foreground
operate 'Moving to another machine' 5
until_so all_complete 74
[[ -s /var/spool/marqueue/default/leads/.later.csv ]]
cmp /tmp/good.toml /etc/marqueue/marqueue.toml
ok "the daemon moves to another machine by the page's commands, with its jobs, secrets and dropped files"

BODY='{"event": "job-ended"}' TIMESTAMP=1700000000 SECRET=secret operate 'A URL' 1
grep -q "$(printf '%s' '1700000000.{"event": "job-ended"}' | openssl dgst -sha256 -mac HMAC -macopt key:secret | sed 's/.*= *//')" /tmp/last
ok "the page's line computes the signature of a notification"
rm -rf /root/marqueue* /root/jobs-before.txt /var/backups/marqueue*

# Upgrade.
before=$(main_pid)
dpkg -i target/debian/marqueue_*.deb > /tmp/last 2>&1 || { cat /tmp/last; false; }
until_so anew "$before"
all_complete 74
cmp /tmp/good.toml /etc/marqueue/marqueue.toml
[[ $(stat -c '%a %U:%G' /etc/marqueue/marqueue.toml) == '640 root:marqueue' ]]
! grep -q '^marqueue: ' /tmp/last || false
ok "an upgrade starts it anew and keeps jobs and configuration"

# Removal.
dpkg -r marqueue > /tmp/last 2>&1 || { cat /tmp/last; false; }
[[ $(systemctl show -p LoadState --value marqueue.service) == not-found ]]
[[ $(systemctl show -p LoadState --value marqueue.socket) == not-found ]]
[[ -s /var/lib/marqueue/marqueue.db && -s /etc/marqueue/client_secret && ! -e /usr/bin/marqueue ]]
[[ -z $(find /etc/systemd -name '*marqueue*') ]]
dpkg -i target/debian/marqueue_*.deb > /tmp/last 2>&1 || { cat /tmp/last; false; }
[[ $(systemctl is-active marqueue.service || true) == inactive ]]
systemctl enable --quiet --now marqueue
all_complete 74
ok "removal stops it and keeps jobs and configuration, for when it comes back"

dpkg --purge marqueue > /tmp/last 2>&1 || { cat /tmp/last; false; }
[[ $(systemctl show -p LoadState --value marqueue.service) == not-found ]]
! getent passwd marqueue || false
! getent group marqueue || false
find / -xdev -path /share -prune -o \( -name '*marqueue*' -o -nouser -o -nogroup \) -print > /tmp/left
find /run -name '*marqueue*' >> /tmp/left
[[ ! -s /tmp/left ]] || { cat /tmp/left; false; }
ok "a purge leaves no file, no unit and no user"

echo 'all passed'
