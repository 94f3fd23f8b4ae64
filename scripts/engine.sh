#!/usr/bin/env bash
# Finds or makes what builds and runs container images, and tells its name: "docker" where a Docker
# engine answers, otherwise "podman" (with buildah), which is installed from the distribution and
# told what this machine cannot do. Its settings are in $CONTAINERS_CONF, which callers export:
#     source scripts/engine.sh; "$ENGINE" run …
# Where no registry is reachable, the base images of the Dockerfile are made here: Debian from its
# packages, and the same with a compiler and this machine's Rust toolchain.
set -euo pipefail

IMAGE_DIR=${IMAGE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/image}
BUILD_BASE=docker.io/library/rust:1-bookworm
mkdir -p "$IMAGE_DIR"

engine_is_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# runc and cgroupfs work where there is no systemd; the limits are ones that need no privilege.
engine_settings() {
    export CONTAINERS_CONF=$IMAGE_DIR/containers.conf
    cat >"$CONTAINERS_CONF" <<-CONF
	[containers]
	default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
	[engine]
	runtime = "runc"
	cgroup_manager = "cgroupfs"
	events_logger = "file"
	CONF
}

engine_install() {
    local missing=()
    for package in buildah podman runc debootstrap; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" != 0 ]; then
        echo "Packages are missing. Please run:" >&2
        echo "    sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
        return 1
    fi
    echo "Installing missing packages: ${missing[*]}" >&2
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# An image from a Debian root of its own: name, packages, and what else to do with the mounted root.
engine_debian() {
    local name=$1 packages=$2 finish=$3 container root
    echo "Making a stand-in for $name, which no registry gives" >&2
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    debootstrap --variant=minbase ${packages:+--include=$packages} bookworm "$root" \
        http://deb.debian.org/debian >"$IMAGE_DIR/debootstrap.log" 2>&1
    # The authorities this machine trusts: a mirror may need one.
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    "$finish" "$root" "$container"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    buildah umount "$container" >/dev/null
    buildah commit --quiet --rm "$container" "$name" >/dev/null
}

engine_no_more() { buildah config --cmd /bin/bash "$2"; }

engine_rust() {
    local root=$1 container=$2 toolchain
    toolchain=$(rustc --print sysroot)
    mkdir -p "$root/usr/local/rust" "$root/usr/local/cargo/bin"
    for part in bin lib libexec; do
        [ ! -e "$toolchain/$part" ] || cp -a "$toolchain/$part" "$root/usr/local/rust/"
    done
    ln -s ../../rust/bin/{cargo,rustc} "$root/usr/local/cargo/bin/"
    buildah config --cmd /bin/bash --env CARGO_HOME=/usr/local/cargo \
        --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$container"
}

engine_bases() {
    buildah inspect --type image "$BUILD_BASE" >/dev/null 2>&1 && return
    timeout 60 buildah pull --quiet "$BUILD_BASE" >/dev/null 2>&1 && return
    engine_debian "$BUILD_BASE" gcc,g++,libc6-dev,make,cmake,pkg-config,git,perl,ca-certificates,libclang-dev \
        engine_rust
}

if engine_is_docker; then
    ENGINE=docker
else
    ENGINE=podman
    if ! command -v dpkg-query >/dev/null; then
        echo "No Docker engine answers, and this is not Debian: cannot set up podman here" >&2
        return 1 2>/dev/null || exit 1
    fi
    engine_install
    engine_settings
    engine_bases
fi
