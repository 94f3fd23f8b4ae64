#!/usr/bin/env bash
# Builds the container image from these sources: scripts/image.sh [NAME], default frontgate.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-frontgate}
# shellcheck source=scripts/engine.sh
source scripts/engine.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
source=$(scripts/source-url.sh "$(git config --get remote.origin.url 2>/dev/null || true)")
arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "SOURCE=$source"
    --tag "$name" .)
if [ "$ENGINE" = docker ]; then
    docker build "${arguments[@]}"
else
    # HEALTHCHECK is in Docker's format only. Without privileges to make namespaces, chroot will do.
    buildah bud --pull-never --format docker --isolation chroot --network host "${arguments[@]}"
fi
