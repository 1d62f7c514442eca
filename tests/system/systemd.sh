#!/usr/bin/env bash
# The Debian package, as docs/install.md installs it, in a Debian that is booted for it with a systemd of its own. In there
# tests/system/systemd/inside.sh does the checks, with the simulator as Marketo.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/system/debian.sh

die() {
    echo "systemd.sh: $*" >&2
    exit 1
}

[[ $(id -u) == 0 ]] || die "needs root: it boots a system"
for tool in debootstrap:debootstrap systemd-nspawn:systemd-container unshare:util-linux script:bsdutils; do
    if ! command -v "${tool%:*}" >/dev/null; then
        install_packages "${tool#*:}"
    fi
done

readonly base="$PWD/target/system/base" root="$PWD/target/system/systemd" share="$PWD/target/system/share"
readonly release=bookworm

# The system that has what the package depends on, and not the package, is made once, from where this machine has its own.
if [[ ! -x "$base/usr/sbin/update-ca-certificates" ]]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)' "Release: $release" 'Created-By: Packages' | head -n 1)
    rm -rf "$base.new"
    mkdir -p "$base.new"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,ca-certificates "$release" "$base.new" \
        ${mirror:+"$mirror"} >"$base.log" || { tail "$base.log" >&2; die "debootstrap failed"; }
    rm -rf "$base"
    mv "$base.new" "$base"
fi

rm -rf target/debian "$root" "$share"
packaging/debian/build

cp -a "$base" "$root"
mkdir -p "$share/target"
cp -a target/debian "$share/target/"
cp docs/install.md tests/system/systemd/* "$share/"
cat > "$root/etc/systemd/system/checks.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/share
ExecStart=/bin/bash /share/inside.sh
StandardOutput=append:/share/log
StandardError=append:/share/log
ExecStopPost=/bin/systemctl poweroff --no-block
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../checks.service "$root/etc/systemd/system/multi-user.target.wants/checks.service"
ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
# What waits for input at the console.
ln -s /dev/null "$root/etc/systemd/system/console-getty.service"

touch "$share/log"
tail -f "$share/log" &
readonly tail=$!
trap 'kill "$tail" 2>/dev/null || true' EXIT
# It needs a terminal as its console and a /run of its own, and is registered nowhere.
boot="mount --make-rprivate / && mount -t tmpfs tmpfs /run && exec systemd-nspawn -q -D '$root' --bind='$share:/share' \
    --boot --console=read-only --register=no --keep-unit"
timeout 700 script -qec "unshare -m sh -c \"$boot\"" "$share/console" </dev/null >/dev/null || true

if [[ "$(tail -n 1 "$share/log")" != 'all passed' ]]; then
    echo '--- the console ends with ---'
    tail -n 30 "$share/console" || true
    die "not all checks passed"
fi
rm -rf "$root"
