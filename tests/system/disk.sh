#!/usr/bin/env bash
# The daemon on small disks that get full or turn read-only. The disks are mounted in a mount namespace of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo test --locked --test integration --no-run
unshare --map-root-user --mount cargo test --locked --test integration disk:: -- --ignored
