#!/usr/bin/env bash
# The drop folder, with the daemon killed at each step of a take: strace kills it at an exact system call.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v strace >/dev/null; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends strace
fi
cargo test --locked --test drop -- --ignored --exact a_kill_between_any_two_steps_leaves_one_job
