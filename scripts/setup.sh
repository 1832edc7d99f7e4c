#!/usr/bin/env bash
# What a build needs besides Rust: a C++ compiler and libclang, for RocksDB and its bindings, and
# make for the client of Kafka.
set -euo pipefail

if ! command -v cargo > /dev/null; then
    echo "setup: Rust is missing: install it with rustup, version 1.88 or later" >&2
    exit 1
fi

missing=()
command -v c++ > /dev/null || missing+=(g++)
command -v make > /dev/null || missing+=(make)
find /usr/lib /usr/local/lib "${LIBCLANG_PATH:-/nonexistent}" \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) \
    -print -quit 2> /dev/null | grep -q . || missing+=(libclang-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get > /dev/null; then
    echo "setup: please install ${missing[*]} (or what your system calls them)" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: please run: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "setup: installing ${missing[*]}"
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" > /dev/null
