# Packages of Debian, for scripts that may run at the same time. To be sourced.
# shellcheck shell=bash

# Runs apt-get, after whoever runs it already: of two at once one would fail.
apt_get() {
    mkdir -p target/system
    DEBIAN_FRONTEND=noninteractive flock --close target/system/apt.lock apt-get -q "$@"
}

install_packages() {
    apt_get update
    apt_get install -y --no-install-recommends "$@"
}
