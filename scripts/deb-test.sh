#!/usr/bin/env bash
# Installs, upgrades, removes and purges the Debian package in a Debian root of its own:
#     scripts/deb-test.sh PROGRAM
# No systemd runs there: a stand-in for systemctl notes every call, starts and stops Frontgate, and
# sends it the signals. Needs root, debootstrap and a mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "$1")
mkdir -p target/deb-test
work=$(realpath target/deb-test)
root=$work/root

say() { echo "deb-test: $*" >&2; }
fail() {
    say "FAILED: $*"
    tail -n 40 "$root/var/log/frontgate.stderr" "$root/var/log/systemctl.calls" >&2 2>/dev/null || true
    exit 1
}
[ "$(id -u)" = 0 ] || { say "SKIPPED: needs root, for a Debian root of its own"; exit 0; }
for tool in debootstrap python3; do
    command -v "$tool" >/dev/null || { say "SKIPPED: there is no $tool"; exit 0; }
done

inside() { chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }

end() {
    [ -z "${load:-}" ] || kill "$load" 2>/dev/null || true
    # Only what runs in this root.
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/root" 2>/dev/null)" = "$root" ]; then
            kill -KILL "${process#/proc/}" 2>/dev/null || true
        fi
    done
    umount "$root/proc" 2>/dev/null || true
}
trap end EXIT

if [ ! -e "$work/root.tar" ]; then
    say "making a Debian root"
    rm -rf "$root"
    # libstdc++6: what the program is linked with, so that no mirror is needed from here on.
    debootstrap --variant=minbase --include=adduser,libstdc++6 bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
        fail "debootstrap; see $work/debootstrap.log"
    rm -rf "$root"/var/cache/apt/archives/*.deb
    tar -C "$root" -cf "$work/root.tar" .
fi
umount "$root/proc" 2>/dev/null || true
rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$work/root.tar"
mount -t proc proc "$root/proc"
mkdir -p "$root/run/systemd/system"

cat >"$root/usr/local/sbin/systemctl" <<'SYSTEMCTL'
#!/bin/sh
echo "$*" >>/var/log/systemctl.calls
log=/var/log/frontgate.stderr
main() {
    pid=$(sed -n 's/.*handed over to process \([0-9]*\);.*/\1/p' "$log" 2>/dev/null | tail -n 1)
    if [ -z "$pid" ]; then pid=$(cat /run/frontgate.pid 2>/dev/null || echo 0); fi
    if [ "$pid" != 0 ] && [ -e "/proc/$pid/exe" ]; then echo "$pid"; else echo 0; fi
}
start() {
    [ -e /etc/frontgate/config.yaml ] || return 0
    : >"$log"
    install -d -o frontgate -g frontgate -m 0700 /var/lib/frontgate
    install -d -o frontgate -g frontgate -m 0750 /var/log/frontgate
    setpriv --reuid frontgate --regid frontgate --clear-groups \
        sh -c 'echo $$ >&3; exec 3>&-; exec /usr/bin/frontgate run' 3>/run/frontgate.pid 2>>"$log" >/dev/null </dev/null &
    i=0
    until grep -q 'started: Frontgate' "$log"; do
        i=$((i + 1)); [ "$i" -lt 200 ] || return 1
        sleep 0.1
    done
}
stop() {
    pid=$(main)
    [ "$pid" = 0 ] || kill -TERM "$pid"
    while [ "$(main)" != 0 ]; do sleep 0.1; done
}
case " $* " in
*" daemon-reload "*) ;;
*" is-active "*) [ "$(main)" != 0 ] ;;
*" is-enabled "*) echo enabled ;;
*" show "*MainPID*) main ;;
*" show "*StatusText*) sed -n 's/.*\(upgrade failed: .*\)/\1/p' "$log" | tail -n 1 ;;
*" kill "*) kill -USR2 "$(main)" ;;
*" start "*) start ;;
*" restart "*) stop; start ;;
*" stop "*) stop ;;
*) ;;
esac
SYSTEMCTL
chmod 0755 "$root/usr/local/sbin/systemctl"

files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./var/lib/dpkg -o -path ./var/log \
        -o -path ./var/cache -o -path ./var/lib/apt -o -path ./tmp -o -path ./run \) -prune -o -print | sort)
}
has() { # MODE OWNER PATH
    local found
    found=$(inside stat -c '%a %U:%G' "$3") || fail "$3 is not there"
    [ "$found" = "$1 $2" ] || fail "$3 is $found and not $1 $2"
}
pid() { inside systemctl show --property=MainPID --value frontgate.service; }

say "packing two versions"
rm -rf "$work/packages"
# Only so that packing takes less time.
strip -o "$work/frontgate" "$program"
./scripts/deb.sh "$work/frontgate" "$work/packages" 0.1.0-1
./scripts/deb.sh "$work/frontgate" "$work/packages" 0.1.0-2
cp "$work"/packages/*.deb "$root/tmp/"
package() { basename "$(ls "$work"/packages/*"-$1_"*.deb)"; }
files >"$work/before"

say "installing"
inside dpkg -i "/tmp/$(package 1)" 2>"$work/told" || fail "install: $(cat "$work/told")"
grep -q 'write /etc/frontgate/config.yaml' "$work/told" || fail "nobody says what is next"
[ -z "$(inside dpkg --verify frontgate)" ] || fail "dpkg --verify"
has 755 root:root /usr/bin/frontgate
for example in keepalived/keepalived.conf prometheus/alerts.yaml grafana/frontgate.json; do
    has 644 root:root "/usr/share/doc/frontgate/examples/$example"
    cmp "deploy/$example" "$root/usr/share/doc/frontgate/examples/$example" || fail "$example"
done
has 644 root:root /usr/lib/systemd/system/frontgate.service
has 750 root:frontgate /etc/frontgate
has 777 root:root /etc/systemd/system/multi-user.target.wants/frontgate.service
[ "$(pid)" = 0 ] || fail "it runs without a configuration"
inside getent passwd frontgate | grep -q ':/usr/sbin/nologin$' || fail "the user"

cat >"$root/etc/frontgate/config.yaml" <<'YAML'
admin: { listen: "unix:/var/lib/frontgate/admin.sock" }
shutdown: { drain: 60s }
domains: [contoso.com]
listeners: [{ name: plain, address: "127.0.0.87:18080" }]
farms: { a: { servers: [{ address: 127.0.0.1, ports: { http: 1 } }], bridge: http } }
publish:
  - { host: meet.*, farm: a, schemes: [http] }
  - { host: old.contoso.com, schemes: [http], redirect: "https://mail.contoso.com/owa" }
YAML
inside chown root:frontgate /etc/frontgate/config.yaml
chmod 0640 "$root/etc/frontgate/config.yaml"
inside frontgate check || fail "the configuration of this test"
inside systemctl start frontgate.service || fail "start"
old=$(pid)
[ "$old" != 0 ] || fail "it does not run"

say "upgrading under load"
python3 - "$work/load" <<'PYTHON' &
import signal, socket, sys, threading
stop, counts, lock = threading.Event(), {"good": 0, "bad": []}, threading.Lock()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def ask():
    while not stop.is_set():
        try:
            with socket.create_connection(("127.0.0.87", 18080), 20) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: old.contoso.com\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: s.recv(65536), b""))
            good = answer.startswith(b"HTTP/1.1 302 ")
            why = answer[:100]
        except OSError as e:
            good, why = False, e
        with lock:
            if good: counts["good"] += 1
            else: counts["bad"].append(repr(why))
threads = [threading.Thread(target=ask) for _ in range(8)]
for t in threads: t.start()
stop.wait()
for t in threads: t.join()
with open(sys.argv[1], "w") as f: print(counts["good"], len(counts["bad"]), *counts["bad"][:3], file=f)
PYTHON
load=$!
sleep 1
inside dpkg -i "/tmp/$(package 2)" 2>"$work/told" || fail "upgrade: $(cat "$work/told")"
new=$(pid)
[ "$new" != 0 ] && [ "$new" != "$old" ] || fail "nobody took over: $(cat "$work/told")"
sleep 1
kill -TERM "$load"
wait "$load" || true
load=
read -r good bad rest <"$work/load"
[ "$bad" = 0 ] && [ "$good" -gt 50 ] || fail "$good good and $bad failed requests: $rest"
say "  $good requests, none failed"
grep -q 'kill --kill-whom=main --signal=SIGUSR2' "$root/var/log/systemctl.calls" || fail "no signal"
grep -q '^stop\|^restart' "$root/var/log/systemctl.calls" && fail "an upgrade stopped it"
i=0
while [ -e "/proc/$old" ]; do
    i=$((i + 1)); [ "$i" -lt 300 ] || fail "the old process stays"
    sleep 0.1
done
[ "$(readlink "/proc/$new/exe")" = "$root/usr/bin/frontgate" ] || fail "it is not the new program"

say "upgrading to what the configuration is not valid for"
echo 'nonsense: true' >>"$root/etc/frontgate/config.yaml"
inside dpkg -i "/tmp/$(package 1)" 2>"$work/told" || fail "downgrade: $(cat "$work/told")"
grep -q 'goes on serving' "$work/told" || fail "nobody says why it did not take over"
[ "$(pid)" = "$new" ] || fail "the old one does not serve any more"
sed -i '$d' "$root/etc/frontgate/config.yaml"

say "removing and purging"
inside dpkg --remove frontgate 2>"$work/told" || fail "remove: $(cat "$work/told")"
[ "$(pid)" = 0 ] || fail "it still runs"
[ -e "$root/etc/frontgate/config.yaml" ] && [ -d "$root/var/lib/frontgate" ] || fail "removing is not purging"
[ ! -e "$root/usr/bin/frontgate" ] || fail "the program stays"
rm "$root/etc/frontgate/config.yaml"
inside dpkg --purge frontgate 2>"$work/told" || fail "purge: $(cat "$work/told")"
! inside getent passwd frontgate >/dev/null || fail "the user stays"
! inside getent group frontgate >/dev/null || fail "the group stays"
# Spare copies of the account files are adduser's business.
files | grep -v '^\./etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' >"$work/after"
grep -v '^\./etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' "$work/before" | diff - "$work/after" ||
    fail "purging leaves the above"
say "passed"
