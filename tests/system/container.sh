#!/usr/bin/env bash
# The container: built from the Dockerfile, run read-only and without rights, with a simulator beside it, used from outside
# through the mounted socket, stopped, killed and started. No image registry is needed: the base of the build stage is
# made from Debian's packages and the Rust of this machine, which is what the build arguments are for.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/debian.sh

die() {
    echo "container.sh: $*" >&2
    exit 1
}

[[ $(id -u) == 0 ]] || die "needs root: it makes a Debian system and runs podman with it"
for tool in podman:podman runc:runc debootstrap:debootstrap podman-compose:podman-compose curl:curl; do
    if ! command -v "${tool%:*}" >/dev/null; then
        install_packages "${tool#*:}"
    fi
done

readonly work="$PWD/target/system/container"
readonly base="$PWD/target/system/build-base"
rm -rf "$work"
mkdir -p "$work/run" "$work/storage"
chown 10001:10001 "$work/run"
chmod 0770 "$work/run"

# A store of its own, so that nothing of this machine's is touched. runc, because crun refuses machines whose control
# groups are half of the old kind; limits that are below any hard one, because a process without CAP_SYS_RESOURCE may not raise them.
cat > "$work/containers.conf" <<EOF
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=16384:16384"]
EOF
cat > "$work/storage.conf" <<EOF
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/runroot"
EOF
export CONTAINERS_CONF="$work/containers.conf" CONTAINERS_STORAGE_CONF="$work/storage.conf"

cleanup() {
    local status=$?
    if ((status)); then
        podman logs marqueue 2>&1 | tail -n 40 >&2 || true
    fi
    podman rm -f -t 0 marqueue simulator >/dev/null 2>&1 || true
    podman system reset -f >/dev/null 2>&1 || true
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT

checked() {
    echo "ok: $*"
}

# The base of the build stage.
if [[ ! -e "$base/usr/bin/gcc" ]]; then
    rm -rf "$base"
    debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates bookworm "$base" >"$work/debootstrap.log" ||
        { tail "$work/debootstrap.log" >&2; die "debootstrap failed"; }
    rm -rf "$base"/var/cache/apt/archives/*.deb
fi
tar -C "$base" -c . | podman import -q \
    --change 'ENV PATH=/usr/local/rust/bin:/usr/local/bin:/usr/bin:/bin' --change 'ENV CARGO_HOME=/cargo' \
    - marqueue-build-base >/dev/null

# A cargo home for it that has what this machine has fetched already.
cargo fetch --locked
mkdir -p "$work/cargo"
cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/cargo/registry"
cp -a "${CARGO_HOME:-$HOME/.cargo}"/config.toml "$work/cargo/" 2>/dev/null || true

podman build --format docker --isolation chroot --network host -t marqueue \
    --build-arg BUILD_IMAGE=localhost/marqueue-build-base \
    --volume "$(rustc --print sysroot):/usr/local/rust:ro" --volume "$work/cargo:/cargo" .
size=$(podman image inspect --format '{{.Size}}' marqueue)
((size < 30000000)) || die "the image has $size bytes, and 30 MB is what it may have"
checked "built; $((size / 1000)) kB"

[[ $(podman image inspect --format '{{.Config.User}}' marqueue) == 10001:10001 ]] || die "it would not run as its own user"
for shell in /bin/sh /bin/bash /usr/bin/sh /bin/busybox; do
    if podman run --rm --network none --entrypoint "$shell" marqueue -c true 2>/dev/null; then
        die "it has a shell: $shell"
    fi
done
checked "no root, no shell"

# Configuration by the environment alone; without it, one sentence and status 2.
status=0
# podman's own lines are about health checks that it would like systemd to make.
output=$(podman run --rm --network none marqueue 2>&1) || status=$?
output=${output##*$'\n'}
[[ $status == 2 && $output == *instances* ]] || die "without a configuration: status $status, $output"
checked "without a configuration it names what is missing: $output"

# The simulator has a network of its own with nothing but loopback, and the daemon shares it.
podman run -d --name simulator --network none --read-only marqueue simulate --listen 127.0.0.1:8438 --speed 5 >/dev/null
printf 'secret' > "$work/client_secret"
chmod 0444 "$work/client_secret"
start() {
    podman run -d --name marqueue --network container:simulator --read-only --cap-drop all \
        --security-opt no-new-privileges \
        -v state:/var/lib/marqueue -v "$work/run:/run/marqueue" -v "$work/client_secret:/run/secrets/client_secret:ro" \
        -e MARQUEUE_INSTANCES__DEFAULT__BASE_URL=http://127.0.0.1:8438 \
        -e MARQUEUE_INSTANCES__DEFAULT__CLIENT_ID=simulator \
        -e MARQUEUE_INSTANCES__DEFAULT__CLIENT_SECRET_FILE=/run/secrets/client_secret \
        -e MARQUEUE_INSTANCES__DEFAULT__POLLING__MIN=100ms -e MARQUEUE_INSTANCES__DEFAULT__POLLING__MAX=1s \
        marqueue >/dev/null
}

# Waits for a fact; two minutes are its last resort.
until_true() {
    local what="$1" deadline=$((SECONDS + 120))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "in vain: $what"
        sleep 0.2
    done
}

[[ -n "${MARQUEUE:-}" ]] || cargo build --locked --release
readonly program=${MARQUEUE:-$PWD/target/release/marqueue}
client() {
    "$program" "$@" --socket "$work/run/marqueue.sock"
}

start
until_true "the daemon is healthy" podman healthcheck run marqueue
checked "its own health check succeeds"

printf 'email,firstName\na@example.com,Ann\nb@example.com,Ben\n' > "$work/people.csv"
client add leads "$work/people.csv" --wait
checked "a file from outside, through the mounted socket"
curl -sS --fail --unix-socket "$work/run/marqueue.sock" http://marqueue/v1/jobs/1 | grep -q '"state":"complete"' ||
    die "curl sees no complete job 1"

podman exec -i marqueue marqueue add leads - --wait < "$work/people.csv"
podman exec marqueue marqueue file 2 | cmp - "$work/people.csv" || die "the file comes back changed"
checked "without the program on the host: a file through podman exec"

# Twenty files, and a stop with uploads and imports under way.
acknowledged=2
for _ in {1..20}; do
    client add leads "$work/people.csv" >/dev/null
    acknowledged=$((acknowledged + 1))
done
began=$SECONDS
podman stop -t 90 marqueue >/dev/null
code=$(podman inspect --format '{{.State.ExitCode}}' marqueue)
[[ $code == 0 ]] || die "after SIGTERM it ended with $code"
((SECONDS - began < 90)) || die "it did not end by itself"
checked "SIGTERM as process 1: ended by itself with 0, after $((SECONDS - began)) s"

podman start marqueue >/dev/null
until_true "the daemon is healthy again" podman healthcheck run marqueue
client add leads "$work/people.csv" >/dev/null
acknowledged=$((acknowledged + 1))
podman kill -s KILL marqueue >/dev/null
until_true "it has stopped" sh -c "[ \$(podman inspect --format '{{.State.Running}}' marqueue) = false ]"
# A new container on the same volume, as after an update of the image.
podman rm marqueue >/dev/null
start
until_true "a new container is healthy" podman healthcheck run marqueue
for ((job = 1; job <= acknowledged; job++)); do
    client wait "$job" >/dev/null || die "job $job did not end well"
done
[[ $(client list --state complete --limit 1000 --json | grep -o '"created_at"' | wc -l) == "$acknowledged" ]] ||
    die "not all $acknowledged jobs are complete"
checked "stopped, killed, replaced: all $acknowledged files that were accepted were imported"

# A daemon that hangs is not well.
podman pause marqueue >/dev/null
if timeout 60 podman healthcheck run marqueue >/dev/null 2>&1; then
    die "a paused daemon passes for healthy"
fi
podman unpause marqueue >/dev/null
checked "a daemon that hangs is not healthy"

# What compose would do with the example. It is not done: a network of its own takes rights that a test machine may lack.
mkdir -p "$work/compose"
cp compose.yaml Dockerfile "$work/client_secret" "$work/compose/"
compose() {
    (cd "$work/compose" && podman-compose --dry-run up -d 2>&1)
}
plan=$(MARKETO_BASE_URL=https://example.com MARKETO_CLIENT_ID=id compose) || die "compose.yaml can't be read: $plan"
for word in --read-only '--cap-drop ALL' :/var/lib/marqueue "$work/compose/run:/run/marqueue" :/run/secrets/client_secret \
    MARQUEUE_INSTANCES__DEFAULT__BASE_URL=https://example.com; do
    [[ $plan == *"$word"* ]] || die "compose.yaml does not lead to $word: $plan"
done
if plan=$(MARKETO_CLIENT_ID=id compose); then
    die "compose.yaml does without a base URL"
fi
checked "compose.yaml does what the test does"
echo "container.sh: all passed"
