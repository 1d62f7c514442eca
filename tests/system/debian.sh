# Packages of Debian, for scripts that may run at the same time. To be sourced.
# shellcheck shell=bash

mkdir -p target/system
readonly apt_lock=$PWD/target/system/apt.lock

# Runs apt-get under a lock: of two at once one would fail.
apt_get() {
    DEBIAN_FRONTEND=noninteractive flock --close "$apt_lock" apt-get -q "$@"
}

install_packages() {
    apt_get update
    apt_get install -y --no-install-recommends "$@"
}
