#!/usr/bin/env bash
# Tries deploy/compose.yaml for real: brings it up, asks for every published farm at the one address,
# restarts everything under load and counts what was lost. With Docker, or else with podman and
# podman-compose (PyPI; without the restart), and then an HAProxy from the distribution where no registry gives its image.
# IMAGE: the image of Frontgate, default frontgate-test (make image-test builds it).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/engine.sh
source scripts/engine.sh
export FRONTGATE_IMAGE=${IMAGE:-frontgate-test}
export HTTPS_PORT=${HTTPS_PORT:-18443} HTTP_PORT=${HTTP_PORT:-18080}
stand_in=localhost/frontgate-test-haproxy

# A project of its own: `down --volumes` at the end takes away what is there under this name, and a
# deployment of deploy/compose.yaml that runs here is called frontgate.
project=frontgate-test
export COMPOSE_PROJECT_NAME=$project
if [ -n "$("$ENGINE" ps --all --quiet --filter "label=com.docker.compose.project=$project")" ]; then
    echo "There are containers of $project: another test runs, or one was killed. If they may go:" >&2
    echo "    $ENGINE ps --all --quiet --filter label=com.docker.compose.project=$project | xargs $ENGINE rm --force" >&2
    exit 1
fi

if [ "$ENGINE" = docker ]; then
    if docker compose version >/dev/null 2>&1; then
        compose=(docker compose)
    elif docker-compose version --short 2>/dev/null | grep -q '^v\?[2-9]'; then
        compose=(docker-compose)
    else
        echo "Docker has no Compose 2 here: install docker-compose-plugin from Docker's repository, or" >&2
        echo "docker-compose of Debian 13 or newer. (Version 1, of Debian 12, does not know deploy/compose.yaml.)" >&2
        exit 1
    fi
else
    venv=$IMAGE_DIR/podman-compose
    [ -x "$venv/bin/podman-compose" ] || {
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet podman-compose
    }
    compose=("$venv/bin/podman-compose")
    # Names of containers, for each other.
    dpkg-query -W golang-github-containernetworking-plugin-dnsname >/dev/null 2>&1 ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            golang-github-containernetworking-plugin-dnsname >&2
    if ! timeout 60 podman pull --quiet docker.io/library/haproxy:3.0 >/dev/null 2>&1; then
        echo "No registry gives HAProxy's image: the distribution's HAProxy stands in" >&2
        container=$(buildah from scratch)
        root=$(buildah mount "$container")
        { echo /usr/sbin/haproxy; ldd /usr/sbin/haproxy | grep -o '/[^ ]*'; } |
            sort -u | cut -c2- | tar -C / -chf - -T - | tar -C "$root" -xf -
        buildah umount "$container" >/dev/null
        buildah config --user 65532 \
            --cmd '["/usr/sbin/haproxy","-db","-f","/usr/local/etc/haproxy/haproxy.cfg"]' "$container"
        buildah commit --quiet --rm "$container" "$stand_in" >/dev/null
        export HAPROXY_IMAGE=$stand_in
    fi
fi
compose+=(-p "$project" -f deploy/compose.yaml)
work=$(mktemp -d)
up() { "${compose[@]}" "$@" >>"$work/compose.log" 2>&1; }
finish() {
    local code=$?
    touch "$work/stop"
    wait
    if [ $code != 0 ]; then
        tail -n 40 "$work/compose.log"
        for gate in gate1 gate2 balancer; do "${compose[@]}" logs "$gate" 2>&1 | grep -v '"status":200' | tail -n 20 || true; done
    fi
    up down --volumes || true
    rm -rf "$work"
    exit $code
}
trap finish EXIT

up up --detach
ask() { # NAME PATH
    curl --silent --show-error --max-time 20 --noproxy '*' --cacert "$work/ca.pem" \
        --resolve "$1.contoso.com:$HTTPS_PORT:127.0.0.1" --output /dev/null --write-out '%{http_code}' \
        "https://$1.contoso.com:$HTTPS_PORT$2"
}
targets=("meet /meet/alice/X7K2" "lyncweb2 /scheduler/" "wac /hosting/discovery" "mail /owa/")
# The image has no program but Frontgate: certificates come out with cp.
ca() {
    if [ "$ENGINE" = docker ]; then
        "${compose[@]}" cp gate1:/lab/public-ca.pem "$work/ca.pem"
    else
        podman cp "$(podman ps --quiet --filter label=com.docker.compose.service=gate1 \
            --filter "label=com.docker.compose.project=$project")":/lab/public-ca.pem "$work/ca.pem"
    fi
}
for _ in $(seq 60); do
    good=0
    if ca >>"$work/compose.log" 2>&1; then
        for target in "${targets[@]}"; do
            # shellcheck disable=SC2086
            [ "$(ask $target 2>/dev/null)" != 200 ] || good=$((good + 1))
        done
    fi
    [ $good -lt ${#targets[@]} ] || break
    sleep 1
done
[ "$good" = ${#targets[@]} ] || { echo "only $good of ${#targets[@]} farms answer" >&2; exit 1; }
echo "every farm answers"

if [ "$ENGINE" != docker ]; then
    echo "SKIPPED: the restart of everything. Podman starts no container again that depends on one" >&2
    echo "which has ended, as \`prepare\` has. Tested as processes: cargo test --test black_box rolling" >&2
    exit 0
fi

load() { # NUMBER NAME PATH
    until [ -e "$work/stop" ]; do
        code=$(ask "$2" "$3" 2>&1) || true
        if [ "$code" = 200 ]; then echo >>"$work/good.$1"; else echo "$2$3: $code" >>"$work/lost.$1"; fi
    done
}
number=0
for target in "${targets[@]}"; do
    number=$((number + 1))
    # shellcheck disable=SC2086
    load $number $target &
done
COMPOSE="${compose[*]}" scripts/rolling-restart.sh
touch "$work/stop"
wait
good=$(cat "$work"/good.* | wc -l)
lost=$(cat "$work"/lost.* 2>/dev/null | wc -l)
echo "$good requests answered, $lost lost"
[ "$lost" = 0 ] || { sort "$work"/lost.* | uniq -c; exit 1; }
