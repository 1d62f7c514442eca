# What the other scripts share: Python packages of fixed versions, and a daemon in front of a simulator. To be sourced.
# shellcheck shell=bash
source tests/system/debian.sh

work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

# A folder of Python programs with these packages, below target: made once, and anew for other versions.
venv() {
    local name=$1 folder=target/system/$1
    shift
    if [[ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ]]; then
        rm -rf "$folder"
        # Debian has the module `venv` without what it needs to make one.
        if ! python3 -m venv "$folder" 2>/dev/null; then
            install_packages python3-venv
            rm -rf "$folder"
            python3 -m venv "$folder"
        fi
        "$folder/bin/pip" install --quiet "$@" || {
            echo "$name: the packages $* can't be installed, so nothing was checked" >&2
            exit 1
        }
        echo "$*" >"$folder/packages"
    fi
    export PATH="$PWD/$folder/bin:$PATH"
}

# Node packages of fixed versions, below target. Sets node_modules to the folder in which programs find them.
node_modules() {
    local name=$1
    node_modules=target/system/$1-node
    shift
    if [[ "$(cat "$node_modules/packages" 2>/dev/null)" != "$*" ]]; then
        rm -rf "$node_modules"
        mkdir -p "$node_modules"
        npm install --silent --no-audit --no-fund --prefix "$node_modules" "$@" || {
            echo "$name: the packages $* can't be installed, so nothing was checked" >&2
            exit 1
        }
        echo "$*" >"$node_modules/packages"
    fi
}

# A simulator of this speed, with further options. Sets simulator to its address.
simulator() {
    local speed=$1 output
    shift
    output=$(mktemp -p "$work" simulator.XXXX)
    "$marqueue" simulate --listen 127.0.0.1:0 --speed "$speed" "$@" >"$output" 2>&1 &
    pids+=($!)
    until simulator=$(grep -om1 'http://127\.0\.0\.1:[0-9]*' "$output"); do
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$output" >&2; exit 1; }
        sleep 0.1
    done
}

# Sets marqueue to the program: the one that the variable MARQUEUE names, or else that of a release build.
find_program() {
    if [[ -z "${MARQUEUE:-}" ]]; then
        cargo build --locked --release
        MARQUEUE=${CARGO_TARGET_DIR:-target}/release/marqueue
    fi
    marqueue=$(realpath "$MARQUEUE")
}

# A simulator, and a daemon before it with a client "crm". Sets socket, url and log; the argument is the simulator's speed.
start_daemon() {
    find_program
    local address
    simulator "$1"
    cat >"$work/marqueue.toml" <<END
[store]
path = "$work/q.db"
[log]
format = "json"
[api]
socket = "$work/m.sock"
listen = "127.0.0.1:0"
[[api.clients]]
client_id = "crm"
client_secret = "crm-secret"
[instances.default]
base_url = "$simulator"
client_id = "simulator"
client_secret = "secret"
END
    chmod 600 "$work/marqueue.toml"
    socket=$work/m.sock log=$work/log
    "$marqueue" serve --config "$work/marqueue.toml" 2>"$log" &
    pids+=($!)
    until "$marqueue" --socket "$socket" health >/dev/null 2>&1; do
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.1
    done
    address=$("$marqueue" --socket "$socket" status --json | grep -o '"listen": *"[^"]*"' | grep -o '127\.0\.0\.1:[0-9]*')
    url=http://$address
}

# A token of the client "crm".
token() {
    curl --silent --fail "$url/identity/oauth/token" -d grant_type=client_credentials -d client_id=crm \
        -d client_secret=crm-secret | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}
