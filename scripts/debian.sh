# What the tests of the package share: a Debian root, packages of two versions, load. To be sourced,
# with `name` (of the test) and `program`.
# shellcheck shell=bash
mkdir -p target/deb-test
work=$(realpath target/deb-test)
# The program runs with the libraries that it was linked with here.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

say() { echo "$name: $*" >&2; }
skip() {
    say "SKIPPED: $*"
    exit 0
}

[ "$(id -u)" = 0 ] || skip "needs root, for a Debian root of its own"
for tool in debootstrap python3; do
    command -v "$tool" >/dev/null || skip "there is no $tool"
done
[ -e "/usr/share/debootstrap/scripts/$release" ] || skip "debootstrap does not know this system (${release:-no name})"

# Makes $work/root-$release.tar, once.
debian_root() {
    local tar=$work/root-$release.tar
    [ ! -e "$tar" ] || return 0
    say "making a Debian root ($release)"
    rm -rf "$work/new"
    # libstdc++6: what the program is linked with, so that no mirror is needed from here on.
    debootstrap --variant=minbase --include=adduser,libstdc++6 "$release" "$work/new" \
        >"$work/debootstrap.log" 2>&1 || fail "debootstrap; see $work/debootstrap.log"
    rm -rf "$work"/new/var/cache/apt/archives/*.deb
    tar -C "$work/new" -cf "$tar.part" .
    rm -rf "$work/new"
    mv "$tar.part" "$tar"
}

# Packs the program as versions 0.1.0-1 and 0.1.0-2, unless that is done and nothing has changed since.
pack() {
    local packed=$work/packages/packed
    if [ -e "$packed" ] && [ -e "$work/frontgate" ] && [ "$(cat "$packed")" = "$program" ] &&
        [ -z "$(find "$program" Cargo.toml README.md CHANGELOG.md conf deploy docs scripts/deb.sh \
            -newer "$packed" -print -quit)" ]; then
        return
    fi
    say "packing two versions"
    rm -rf "$work/packages"
    echo "$program" >"$work/packing"
    # Only so that packing takes less time.
    strip -o "$work/frontgate" "$program"
    ./scripts/deb.sh "$work/frontgate" "$work/packages" 0.1.0-1
    ./scripts/deb.sh "$work/frontgate" "$work/packages" 0.1.0-2
    mv "$work/packing" "$packed"
}

# The file name of the package of version 0.1.0-N.
package() { basename "$(ls "$work"/packages/*"-$1_"*.deb)"; }

# A configuration with a listener at this address, and more lines.
configuration_at() {
    cat <<YAML
$2
domains: [contoso.com]
listeners: [{ name: plain, address: "$1" }]
farms: { a: { servers: [{ address: 127.0.0.1, ports: { http: 1 } }], bridge: http } }
publish:
  - { host: meet.*, farm: a, schemes: [http] }
  - { host: old.contoso.com, schemes: [http], redirect: "https://mail.contoso.com/owa" }
YAML
}

# Asks the listener at this address and port until `load_ends`.
load_begins() {
    python3 scripts/load.py "$1" "$2" "$work/load" &
    load=$!
    sleep 1
}

# Not one of the requests may have failed.
load_ends() {
    local good bad rest
    sleep 1
    kill -TERM "$load"
    wait "$load" || true
    load=
    read -r good bad rest <"$work/load"
    [ "$bad" = 0 ] && [ "$good" -gt 50 ] || fail "$good good and $bad failed requests: $rest"
    say "  $good requests, none failed"
}
