#!/usr/bin/env bash
# Packs a program that is already built: scripts/deb.sh PROGRAM DIRECTORY [VERSION]
# Installs cargo-deb below target/tools where it is missing.
set -euo pipefail
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/.."
if [ ! -x target/tools/bin/cargo-deb ]; then
    CARGO_TARGET_DIR=target/tools/build cargo install cargo-deb --locked --root target/tools
    rm -rf target/tools/build
fi
# The package takes target/release/frontgate; this one may be another one.
staging=$(mktemp -d)
trap 'rm -rf "$staging"' EXIT
mkdir "$staging/release"
cp "$program" "$staging/release/frontgate"
CARGO_TARGET_DIR=$staging target/tools/bin/cargo-deb --no-build --no-strip --output "$out/" \
    ${3:+--deb-version "$3"}
