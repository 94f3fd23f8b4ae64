#!/usr/bin/env bash
# The package under a real systemd, which is process 1 of namespaces of its own: rights, readiness,
# upgrades under load, reloads, crashes, exit codes, watchdog.
#     scripts/systemd-test.sh PROGRAM
# Needs root, and control groups that can be written.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1
mkdir -p target/deb-test
work=$(realpath target/deb-test)
root=$work/systemd
group=frontgate-test-$$
first=

say() { echo "systemd-test: $*" >&2; }
fail() {
    say "FAILED: $*"
    inside systemctl status frontgate --no-pager -l -n 30 >&2 || true
    tail -n 30 "$work/systemd.log" >&2
    exit 1
}
inside() { timeout 120 nsenter -t "$first" -m -p -C -u -i -r -w \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
end() {
    [ -z "${load:-}" ] || kill "$load" 2>/dev/null || true
    [ -z "$first" ] || kill -KILL "$first" 2>/dev/null || true
    sleep 1
    find /sys/fs/cgroup/{systemd,unified,}/"$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}
trap end EXIT
if [ "$(id -u)" != 0 ]; then say "SKIPPED: needs root"; exit 0; fi

if [ ! -e "$work/root.tar" ] || ! ls "$work"/packages/*.deb >/dev/null 2>&1; then
    ./scripts/deb-test.sh "$program"
    if [ ! -e "$work/root.tar" ]; then say "SKIPPED: no Debian root"; exit 0; fi
fi
if [ ! -e "$work/systemd.tar" ]; then
    say "adding systemd to the Debian root"
    rm -rf "$root"
    mkdir "$root"
    tar -C "$root" -xf "$work/root.tar"
    cp /etc/resolv.conf "$root/etc/"
    cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
    chroot "$root" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd dbus' \
        >"$work/systemd-apt.log" 2>&1 || fail "apt; see $work/systemd-apt.log"
    for unit in systemd-logind.service getty.target tmp.mount; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    tar -C "$root" -cf "$work/systemd.tar" .
fi
rm -rf "$root"
mkdir "$root"
tar -C "$root" -xf "$work/systemd.tar"
cp "$work"/packages/*.deb "$root/root/"

# A part of each hierarchy of its own, so that it sees nothing of this machine's.
cat >"$work/boot.sh" <<'BOOT'
set -e
root=$1 group=$2
for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ -e "$tree/cgroup.procs" ]; then
        mkdir -p "$tree/$group"
        echo $$ >"$tree/$group/cgroup.procs"
    fi
done
exec unshare -m -p -C -u -i -f sh -ec '
    root=$1
    mount --make-rprivate /
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs dev
    for n in null zero random urandom full tty; do touch dev/$n; mount --bind /dev/$n dev/$n; done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then
        mount -t cgroup2 cgroup2 sys/fs/cgroup
    else
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    fi
    exec chroot . env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=false
' sh "$root"
BOOT
setsid sh "$work/boot.sh" "$root" "$group" >"$work/systemd.log" 2>&1 &
boot=$!
i=0
until [ -n "$first" ] && inside systemctl is-system-running 2>/dev/null | grep -q '^running\|^degraded'; do
    i=$((i + 1))
    if [ "$i" -gt 300 ] || ! kill -0 "$boot" 2>/dev/null; then
        say "SKIPPED: systemd does not run here: $(tail -n 3 "$work/systemd.log")"
        exit 0
    fi
    sleep 0.1
    first=$(pgrep -P "$boot" || true)
done

property() { inside systemctl show --property="$1" --value frontgate; }
is() { # NAME VALUE WHAT
    local i=0
    until [ "$(property "$1")" = "$2" ]; do
        i=$((i + 1))
        [ "$i" -lt 100 ] || fail "$3: $1 is $(property "$1")"
        sleep 0.1
    done
}
other() { # PROCESS WHAT
    local i=0 now
    until now=$(property MainPID) && [ "$now" != "$1" ] && [ "$now" != 0 ]; do
        i=$((i + 1))
        [ "$i" -lt "${3:-100}" ] || fail "$2: the main process is still $now"
        sleep 0.1
    done
    echo "$now"
}
usr2() { inside systemctl kill --kill-whom=main --signal=SIGUSR2 frontgate; }

version() { basename "$(ls "$work"/packages/*"-$1_"*.deb)"; }
say "installing"
inside dpkg -i "/root/$(version 1)" >"$work/told" 2>&1 || fail "install: $(cat "$work/told")"
configuration=$root/etc/frontgate/config.yaml
cat >"$configuration" <<'YAML'
admin: { listen: "unix:/run/frontgate/admin.sock" }
access_log: { path: /var/log/frontgate/access.log }
events: { command: told.sh }
domains: [contoso.com]
listeners: [{ name: plain, address: "127.0.0.88:88" }]
farms: { a: { servers: [{ address: 127.0.0.1, ports: { http: 1 } }], bridge: http } }
publish:
  - { host: meet.*, farm: a, schemes: [http] }
  - { host: old.contoso.com, schemes: [http], redirect: "https://mail.contoso.com/owa" }
YAML
printf '#!/bin/sh\ncat >>/var/lib/frontgate/told\n' >"$root/etc/frontgate/told.sh"
chmod 0755 "$root/etc/frontgate/told.sh"
inside chgrp frontgate /etc/frontgate/config.yaml
chmod 0640 "$configuration"
# A machine may have fewer descriptors to give, or none of the rights that a setting needs.
limit=$(ulimit -H -n)
drop_in() {
    mkdir -p "$root/etc/systemd/system/frontgate.service.d"
    printf '[Service]\n%b' "$1" >"$root/etc/systemd/system/frontgate.service.d/test.conf"
    inside systemctl daemon-reload
    inside systemctl reset-failed frontgate 2>/dev/null || true
    inside systemctl start frontgate 2>/dev/null
}
drop_in "LimitNOFILE=$limit\n" || {
    say "NOTE: PrivateDevices= does not work on this machine, and is left out"
    drop_in "LimitNOFILE=$limit\nPrivateDevices=no\n" || fail "start"
}
is ActiveState active "start"
property StatusText | grep -q '^1 listeners, 1 farms' || fail "status"
[ "$(inside stat -c %U "/proc/$(property MainPID)")" = frontgate ] || fail "it runs as somebody else"

say "upgrading under load"
sed -n '/^python3 - .* <<.PYTHON. &$/,/^PYTHON$/p' scripts/deb-test.sh | sed '1d;$d' |
    sed 's/"127.0.0.87", 18080/"127.0.0.88", 88/' >"$work/load.py"
python3 "$work/load.py" "$work/load" &
load=$!
sleep 1
old=$(property MainPID)
inside dpkg -i "/root/$(version 2)" >"$work/told" 2>&1 || fail "upgrade: $(cat "$work/told")"
old=$(other "$old" "upgrade of the package")
for _ in 1 2 3; do
    usr2
    old=$(other "$old" "SIGUSR2")
    is ActiveState active "SIGUSR2"
done
echo '# another' >>"$configuration"
inside systemctl reload frontgate || fail "reload"
sleep 1
kill -TERM "$load"
wait "$load" || true
load=
read -r good bad rest <"$work/load"
[ "$bad" = 0 ] && [ "$good" -gt 50 ] || fail "$good good and $bad failed requests: $rest"
say "  $good requests, none failed"
[ "$(property NRestarts)" = 0 ] || fail "it was started anew"
grep -q '"code":"upgraded"' "$root/var/lib/frontgate/told" || fail "the command was not told"

say "what goes wrong"
cp "$configuration" "$work/good.yaml"
echo 'nonsense: true' >>"$configuration"
! inside systemctl reload frontgate 2>/dev/null || fail "a refused reload fails"
usr2
sleep 2
[ "$(property MainPID)" = "$old" ] || fail "an invalid configuration takes over"
property StatusText | grep -q '^upgrade failed: ' || fail "the status says $(property StatusText)"
cat "$work/good.yaml" >"$configuration"
sleep 2
inside systemctl kill --kill-whom=main --signal=SIGKILL frontgate
old=$(other "$old" "crash")
is ActiveState active "crash"
# Its parent still waits for a client: the crash is noticed all the same.
exec 8<>/dev/tcp/127.0.0.88/88
sleep 1
usr2
old=$(other "$old" "SIGUSR2")
inside systemctl kill --kill-whom=main --signal=SIGKILL frontgate
old=$(other "$old" "crash after a hand-over")
exec 8<&-
is ActiveState active "crash after a hand-over"
kill -STOP "$(pgrep -f -P "$first" '^/usr/bin/frontgate run')"
old=$(other "$old" "watchdog" 450)
is ActiveState active "watchdog"
rm -f "$work/holds"
# Somebody has the port, for longer than the five starts take after which systemd gives up by default.
python3 - "$work/holds" <<'PYTHON' &
import socket, sys, time
with socket.socket() as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for _ in range(600):
        try: s.bind(("127.0.0.88", 88)); break
        except OSError: time.sleep(0.1)
    s.listen()
    open(sys.argv[1], "w").close()
    time.sleep(15)
PYTHON
holder=$!
inside systemctl stop frontgate || fail "stop"
i=0
until [ -e "$work/holds" ]; do
    i=$((i + 1)); [ "$i" -lt 100 ] || fail "nobody takes the port"
    sleep 0.1
done
inside systemctl start --no-block frontgate
sleep 12
[ "$(property NRestarts)" -gt 5 ] || fail "it was started $(property NRestarts) times more while somebody had its port"
wait "$holder"
is ActiveState active "a port that somebody had"
say "  started again $(property NRestarts) times until its port was free"
echo 'nonsense: true' >>"$configuration"
! inside systemctl restart frontgate 2>/dev/null || fail "an invalid configuration starts"
sleep 3
[ "$(property ActiveState) $(property ExecMainStatus)" = "failed 78" ] || fail "exit code 78"
say "passed"
