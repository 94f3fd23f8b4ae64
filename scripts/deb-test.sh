#!/usr/bin/env bash
# Installs, upgrades, removes and purges the Debian package in a Debian root of its own:
#     scripts/deb-test.sh PROGRAM
# No systemd runs there: a stand-in for systemctl notes every call, starts and stops Frontgate, and
# sends it the signals. Needs root, debootstrap and a mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "$1")
name=deb-test
load=
. scripts/debian.sh
root=$work/root

fail() {
    say "FAILED: $*"
    tail -n 40 "$root/var/log/frontgate.stderr" "$root/var/log/systemctl.calls" >&2 2>/dev/null || true
    exit 1
}
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"; }

end() {
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    # Only what runs in this root.
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/root" 2>/dev/null)" = "$root" ]; then
            kill -KILL "${process#/proc/}" 2>/dev/null || true
        fi
    done
    umount "$root/proc" 2>/dev/null || true
}
trap end EXIT

debian_root
umount "$root/proc" 2>/dev/null || true
rm -rf "$root"
mkdir -p "$root"
tar -C "$root" -xf "$work/root-$release.tar"
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
# Behind the time, as Frontgate tells it: the text of another attempt is another one.
*" show "*StatusText*) sed -n 's/^\[\([^ ]*\) .*\(upgrade failed: .*\); this .*/\2 (\1)/p' "$log" | tail -n 1 ;;
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

pack
cp "$work"/packages/*.deb "$root/tmp/"
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
has 644 root:root /etc/needrestart/conf.d/frontgate.conf
# As needrestart reads it.
# shellcheck disable=SC2016
inside perl -e '
    our %nrconf;
    eval do { local(@ARGV, $/) = "/etc/needrestart/conf.d/frontgate.conf"; <> };
    die $@ if $@;
    my ($rule) = grep { "frontgate.service" =~ /$_/ } keys %{$nrconf{override_rc}};
    exit($nrconf{override_rc}{$rule} // 1);
' || fail "needrestart would restart it"
has 750 root:frontgate /etc/frontgate
has 777 root:root /etc/systemd/system/multi-user.target.wants/frontgate.service
[ "$(pid)" = 0 ] || fail "it runs without a configuration"
inside getent passwd frontgate | grep -q ':/usr/sbin/nologin$' || fail "the user"

configuration_at 127.0.0.87:18080 'admin: { listen: "unix:/var/lib/frontgate/admin.sock" }
shutdown: { drain: 60s }' >"$root/etc/frontgate/config.yaml"
inside chown root:frontgate /etc/frontgate/config.yaml
chmod 0640 "$root/etc/frontgate/config.yaml"
inside frontgate check || fail "the configuration of this test"
inside systemctl start frontgate.service || fail "start"
old=$(pid)
[ "$old" != 0 ] || fail "it does not run"

say "upgrading under load"
load_begins 127.0.0.87 18080
inside dpkg -i "/tmp/$(package 2)" 2>"$work/told" || fail "upgrade: $(cat "$work/told")"
new=$(pid)
[ "$new" != 0 ] && [ "$new" != "$old" ] || fail "nobody took over: $(cat "$work/told")"
load_ends
grep -q 'kill --kill-whom=main --signal=SIGUSR2' "$root/var/log/systemctl.calls" || fail "no signal"
grep -q '^stop\|^restart' "$root/var/log/systemctl.calls" && fail "an upgrade stopped it"
i=0
while [ -e "/proc/$old" ]; do
    i=$((i + 1)); [ "$i" -lt 300 ] || fail "the old process stays"
    sleep 0.1
done
[ "$(readlink "/proc/$new/exe")" = "$root/usr/bin/frontgate" ] || fail "it is not the new program"

say "upgrading to what cannot take over"
serves() { # WHAT
    grep -q 'upgrade failed: ' "$work/told" || fail "$1: nobody says why: $(cat "$work/told")"
    grep -q 'goes on serving' "$work/told" || fail "$1: nobody says what serves"
    [ "$(pid)" = "$new" ] || fail "$1: the old one does not serve any more"
    ! grep '^stop\|^restart' "$root/var/log/systemctl.calls" || fail "$1: it was stopped"
}
configuration=$root/etc/frontgate/config.yaml
echo 'nonsense: true' >>"$configuration"
inside dpkg -i "/tmp/$(package 1)" 2>"$work/told" || fail "downgrade: $(cat "$work/told")"
serves "an invalid configuration"
sed -i '$d' "$configuration"
# Root can read it, and finds nothing wrong with it.
chown 0:0 "$configuration"
chmod 0600 "$configuration"
inside frontgate check || fail "the configuration of this test"
inside dpkg -i "/tmp/$(package 2)" 2>"$work/told" || fail "upgrade: $(cat "$work/told")"
serves "a configuration that cannot be read"
# What was told of those counts no more.
inside chgrp frontgate /etc/frontgate/config.yaml
chmod 0640 "$configuration"
inside dpkg -i "/tmp/$(package 1)" 2>"$work/told" || fail "downgrade: $(cat "$work/told")"
[ "$(pid)" != 0 ] && [ "$(pid)" != "$new" ] || fail "nobody took over: $(cat "$work/told")"

say "removing and purging"
inside dpkg --remove frontgate 2>"$work/told" || fail "remove: $(cat "$work/told")"
[ "$(pid)" = 0 ] || fail "it still runs"
grep -q 'systemctl kill --signal=SIGINT frontgate' "$work/told" || fail "nobody says what takes long"
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
