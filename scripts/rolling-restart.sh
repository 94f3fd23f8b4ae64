#!/usr/bin/env bash
# Restarts everything of deploy/compose.yaml, one after another, so that no request is lost: each
# server is drained first, and each Frontgate says that it is not ready before it goes.
#
#     scripts/rolling-restart.sh                  # all servers, then both Frontgates
#     scripts/rolling-restart.sh fe01 gate2       # only these
#
# Elsewhere than in Compose, say what differs:
#   FRONTGATE  the command; it may contain @GATE@, a Frontgate that is not the one being restarted
#   RESTART    gets a name: stops it with SIGTERM, waits for its end, starts it again
#   ADMINS     admin addresses of all Frontgates;  HEALTHS  NAME=ADDRESS, where /readyz is asked
#   TOKEN      file with the token, where the command runs
#   SETTLE     seconds in which a balancer notices that a Frontgate is ready (2 checks a second apart)
#   PROBES     seconds in which probes notice that a server is down (interval × fall, and a little)
#   PATIENCE   how long a server may take to end its requests, or to come back
set -euo pipefail
cd "$(dirname "$0")/.."

COMPOSE=${COMPOSE:-docker compose -f deploy/compose.yaml}
FRONTGATE=${FRONTGATE:-$COMPOSE exec -T @GATE@ /usr/local/bin/frontgate}
RESTART=${RESTART:-$COMPOSE restart}
ADMINS=${ADMINS:-gate1:9180 gate2:9180}
HEALTHS=${HEALTHS:-gate1=gate1:9181 gate2=gate2:9181}
TOKEN=${TOKEN:-/lab/admin.token}
SETTLE=${SETTLE:-4}
PATIENCE=${PATIENCE:-10m}
PROBES=${PROBES:-4}
SERVERS=${SERVERS:-fe01 fe02 fe03 fe04 owas01 owas02 exch01 exch02}

# What is in variables is words, not one word: they are commands and lists.
# shellcheck disable=SC2086
frontgate() { # GATE WORDS…
    local gate=$1
    shift
    ${FRONTGATE//@GATE@/$gate} "$@"
}

order() { # WORD SERVER
    local admins=() admin
    for admin in $ADMINS; do admins+=(--admin "$admin"); done
    frontgate gate1 "$1" "$2" --why "rolling restart" --wait "$PATIENCE" \
        --token-file "$TOKEN" "${admins[@]}"
}

is_gate() { [[ " $HEALTHS " == *" $1="* ]]; }

restart_server() {
    # Polls end by themselves; Windows sign-ins last as long as their clients like, and move when
    # their server is in maintenance.
    order drain "$1" || order maintain "$1" || echo "$1 is restarted with work left" >&2
    # shellcheck disable=SC2086
    $RESTART "$1"
    # It is drained still: nobody comes before its probes are good. One that was gone for less than
    # two probes would pass for healthy while it starts: let them see what it is like now.
    sleep "$PROBES"
    order ready "$1"
}

restart_gate() {
    local other=gate1 address=
    [ "$1" != gate1 ] || other=gate2
    for health in $HEALTHS; do [ "${health%%=*}" != "$1" ] || address=${health#*=}; done
    # shellcheck disable=SC2086
    $RESTART "$1"
    for _ in $(seq 120); do
        if frontgate "$other" healthcheck --admin "$address"; then
            # The balancer has to know, before the next one goes.
            sleep "$SETTLE"
            return
        fi
        sleep 0.5
    done
    echo "$1 is not ready" >&2
    return 1
}

[ $# -gt 0 ] || {
    gates=()
    for health in $HEALTHS; do gates+=("${health%%=*}"); done
    # shellcheck disable=SC2086
    set -- $SERVERS "${gates[@]}"
}
for name in "$@"; do
    echo "== $name"
    if is_gate "$name"; then restart_gate "$name"; else restart_server "$name"; fi
done
echo "== everything restarted"
