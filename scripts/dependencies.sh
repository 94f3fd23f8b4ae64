#!/usr/bin/env bash
# Installs the packages that building ("build"), testing ("test"), measuring ("bench") or the test
# of fail-over ("failover") needs.
# As root it installs what is missing and says so; otherwise it tells the one line to run.
set -euo pipefail

# BoringSSL: cmake, a C++ compiler, and libclang for its bindings. zlib-ng: cmake.
build=(cmake g++ make pkg-config libclang-dev)
# Real peers that the tests talk to and with.
# python3-venv: what comes from PyPI, installed by the tests that need it.
# kubernetes-client: kubectl, for its kustomize.
test=(apache2-bin chromium chromium-driver curl gss-ntlmssp haproxy kubernetes-client nginx-light openssl prometheus
    python3-venv systemd valgrind)

# What Frontgate is measured beside, and with.
bench=(curl haproxy nghttp2-client nginx-light)

case "${1:-build}" in
build) wanted=("${build[@]}") ;;
test) wanted=("${build[@]}" "${test[@]}") ;;
bench) wanted=("${build[@]}" "${bench[@]}") ;;
failover) wanted=("${build[@]}" iproute2 keepalived) ;;
*)
    echo "usage: $0 build|test|bench|failover" >&2
    exit 2
    ;;
esac

if ! command -v cargo >/dev/null; then
    echo "No Rust toolchain found: install one from https://rustup.rs first." >&2
    exit 1
fi
if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian or Ubuntu system: please install the equivalents of: ${wanted[*]}" >&2
    exit 0
fi

missing=()
for package in "${wanted[@]}"; do
    # Any nginx will do; installing another flavour would replace what is there.
    if [ "$package" = nginx-light ] && [ -x /usr/sbin/nginx ]; then continue; fi
    if [ "$package" = kubernetes-client ] && command -v kubectl >/dev/null; then continue; fi
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "Packages are missing. Please run:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
fi

echo "Installing missing packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A web server that is only a test peer must not start by itself.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
