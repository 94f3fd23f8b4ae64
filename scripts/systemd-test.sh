#!/usr/bin/env bash
# The package under a real systemd, which is process 1 of namespaces of its own: rights, readiness,
# upgrades under load, reloads, crashes, exit codes, watchdog.
#     scripts/systemd-test.sh PROGRAM
# Needs root, and control groups that can be written.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "$1")
name=systemd-test
load=
. scripts/debian.sh
root=$work/systemd
group=frontgate-test-$$
first=

fail() {
    say "FAILED: $*"
    inside systemctl status frontgate --no-pager -l -n 30 >&2 || true
    tail -n 30 "$work/systemd.log" >&2
    exit 1
}
inside() { timeout 120 nsenter -t "$first" -m -p -C -u -i -r -w \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
end() {
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    [ -z "$first" ] || kill -KILL "$first" 2>/dev/null || true
    sleep 1
    find /sys/fs/cgroup/{systemd,unified,}/"$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
}
trap end EXIT
debian_root
pack
systemd=$work/systemd-$release.tar
if [ ! -e "$systemd" ]; then
    say "adding systemd to the Debian root"
    rm -rf "$root"
    mkdir "$root"
    tar -C "$root" -xf "$work/root-$release.tar"
    cp /etc/resolv.conf "$root/etc/"
    cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
    chroot "$root" env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd dbus' \
        >"$work/systemd-apt.log" 2>&1 || fail "apt; see $work/systemd-apt.log"
    for unit in systemd-logind.service getty.target tmp.mount; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    tar -C "$root" -cf "$systemd.part" .
    mv "$systemd.part" "$systemd"
fi
rm -rf "$root"
mkdir "$root"
tar -C "$root" -xf "$systemd"
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

say "installing"
inside dpkg -i "/root/$(package 1)" >"$work/told" 2>&1 || fail "install: $(cat "$work/told")"
configuration=$root/etc/frontgate/config.yaml
configuration_at 127.0.0.88:88 'admin: { listen: "unix:/run/frontgate/admin.sock" }
access_log: { path: /var/log/frontgate/access.log }
events: { command: told.sh }' >"$configuration"
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
load_begins 127.0.0.88 88
old=$(property MainPID)
inside dpkg -i "/root/$(package 2)" >"$work/told" 2>&1 || fail "upgrade: $(cat "$work/told")"
old=$(other "$old" "upgrade of the package")
for _ in 1 2 3; do
    usr2
    old=$(other "$old" "SIGUSR2")
    is ActiveState active "SIGUSR2"
done
echo '# another' >>"$configuration"
inside systemctl reload frontgate || fail "reload"
load_ends
[ "$(property NRestarts)" = 0 ] || fail "it was started anew"
grep -q '"code":"upgraded"' "$root/var/lib/frontgate/told" || fail "the command was not told"

say "what it sees of the machine"
cp "$configuration" "$work/good.yaml"
sed 's|path: /var/log/frontgate/access.log|path: "syslog:udp:127.0.0.88:5514"|' "$work/good.yaml" >"$configuration"
python3 - "/proc/$first/root/run/frontgate/admin.sock" "$work/seen" <<'PYTHON' &
import socket, sys, time
log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
log.bind(("127.0.0.88", 5514))
log.settimeout(0.5)
def ask(s, path, host):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    return b"".join(iter(lambda: s.recv(65536), b"")).decode()
line, end = None, time.time() + 30
while line is None and time.time() < end:
    with socket.create_connection(("127.0.0.88", 88), 20) as s: ask(s, "/", "old.contoso.com")
    try: line = log.recv(65536).decode()
    except TimeoutError: pass
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    page = ask(s, "/metrics", "localhost")
start = [l.split()[1] for l in page.splitlines() if l.startswith("process_start_time_seconds ")]
age = time.time() - float(start[0]) if start else -1
with open(sys.argv[2], "w") as f:
    print(line.split()[2] if line else "nothing", "young" if 0 <= age < 3600 else f"{age:.0f}", file=f)
PYTHON
seeing=$!
inside systemctl reload frontgate || fail "reload to syslog"
wait "$seeing" || fail "syslog and metrics cannot be asked"
seen=$(cat "$work/seen")
[ "$seen" = "$(inside cat /proc/sys/kernel/hostname) young" ] || fail "name of the machine, age: $seen"
cat "$work/good.yaml" >"$configuration"
inside systemctl reload frontgate || fail "reload"

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

say "without the package"
inside dpkg --purge frontgate >"$work/told" 2>&1 || fail "purge: $(cat "$work/told")"
rm -rf "$root/etc/frontgate"
mkdir -p "$work/made/release"
cp "$work/frontgate" "$work/made/release/frontgate"
make -s install TARGET="$work/made" DESTDIR="$root" || fail "make install"
cat "$work/good.yaml" >"$configuration"
printf '#!/bin/sh\ncat >>/var/lib/frontgate/told\n' >"$root/etc/frontgate/told.sh"
chmod 0755 "$root/etc/frontgate/told.sh"
documented() { # what docs/systemd.md says about this, but for the words that make it root's
    sed -n '/^sudo make install/,/^```/p' docs/systemd.md | sed '/^```/d; s/sudo //g'
}
documented | grep '^adduser' >"$root/root/user.sh"
inside sh -e /root/user.sh >"$work/told" 2>&1 || fail "user: $(cat "$work/told")"
check() { inside runuser -u frontgate -- /usr/local/bin/frontgate check >"$work/told" 2>&1; }
! check || fail "everybody can read the configuration"
documented | grep '^chgrp' >"$root/root/rights.sh"
inside sh -e /root/rights.sh || fail "rights"
check || fail "the service cannot read the configuration: $(cat "$work/told")"
sed 's|/usr/bin/frontgate|/usr/local/bin/frontgate|' deploy/frontgate.service \
    >"$root/etc/systemd/system/frontgate.service"
inside systemctl daemon-reload
inside systemctl reset-failed frontgate 2>/dev/null || true
inside systemctl enable --now frontgate 2>/dev/null || fail "start"
is ActiveState active "start without the package"
old=$(property MainPID)
usr2
other "$old" "SIGUSR2 without the package" >/dev/null
say "passed"
