#!/usr/bin/env bash
# The drop folder, with the daemon killed at each step of a take, and with a folder that hangs: strace kills the daemon at
# an exact system call, or holds one up.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/debian.sh

if ! command -v strace >/dev/null; then
    install_packages strace
fi
cargo test --locked --test integration drop_folder:: -- --ignored
