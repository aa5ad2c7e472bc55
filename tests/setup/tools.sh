#!/bin/sh
# Gets the programs that end-to-end tests run on a mount: rsync, fio, Python with pyarrow in a folder of its own, the helper that
# mounts for those who may not, and two suites for file systems.
set -eu
# What udev and systemd make on a usual machine, and only root can make up for.
if [ "$(id -u)" != 0 ]; then
    if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
        echo "the tests mount file systems: as root, chmod 666 /dev/fuse" >&2
        exit 1
    fi
    if ! grep -q " - fusectl " /proc/self/mountinfo; then
        echo "the tests end mounts: as root, mount -t fusectl fusectl /sys/fs/fuse/connections" >&2
        exit 1
    fi
fi
missing=""
command -v rsync >/dev/null || missing="$missing rsync"
command -v python3 >/dev/null || missing="$missing python3"
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
command -v fio >/dev/null || missing="$missing fio"
command -v fusermount3 >/dev/null || missing="$missing fuse3"
# A disk that breaks is made by root.
[ "$(id -u)" != 0 ] || command -v mkfs.ext4 >/dev/null || missing="$missing e2fsprogs"
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "the tests need these packages: apt-get install$missing" >&2
        exit 1
    fi
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing
fi
venv="${XDG_CACHE_HOME:-$HOME/.cache}/headpond-tests/python"
if ! "$venv/bin/python" -c 'import pyarrow' 2>/dev/null; then
    echo "installing pyarrow into $venv (once)"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check pyarrow
fi
# Each is installed once: cargo asks no registry for a version that is there.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/headpond-tests"
for suite in fsx@0.3.1 pjdfstest@0.2.0; do
    [ -x "$cache/bin/${suite%@*}" ] && grep -q "\"${suite%@*} ${suite#*@} " "$cache/.crates.toml" && continue
    # Outside the tree, whose toolchain and settings it shall not take.
    (cd / && cargo install --quiet --locked --root "$cache" "$suite")
done
