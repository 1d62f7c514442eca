#!/usr/bin/env bash
# The page in a real Chromium, with a daemon before a simulator: dropped files, filters, actions, a lost connection, logins, other
# origins, markup in files, accessibility (axe-core) and pictures, which are kept in target/system/pictures. The argument is a
# part of a case's name.
#
# MARQUEUE=PROGRAM takes a program that is built already, JOBS=N measures the list with so many jobs.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/lib.sh

packages=()
command -v chromium >/dev/null || packages+=(chromium)
command -v npm >/dev/null || packages+=(nodejs npm)
if ((${#packages[@]})); then
    install_packages "${packages[@]}" fonts-dejavu-core
fi
node_modules browser playwright-core@1.65.1 axe-core@4.14.1

find_program
simulator 100
pictures=target/system/pictures
rm -rf "$pictures"
mkdir -p "$pictures"
JOBS=${JOBS:-100000} MARQUEUE=$marqueue WORK=$work SIMULATOR=$simulator PICTURES=$PWD/$pictures CHROMIUM=$(command -v chromium) \
    NODE_PACKAGES=$PWD/$node_modules/node_modules node tests/system/browser/run.mjs "$@"
