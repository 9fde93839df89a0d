#!/bin/sh
# Has ExaBGP announce a blackhole for a banned host, by its named pipe (`exabgp.run` with
# `exabgp.api.pipename`, or a `process` that reads a fifo).
# Called by fastnetmon: IP DIRECTION PPS ACTION
set -eu

pipe=/run/exabgp/exabgp.in
community=65535:666
next_hop4=192.0.2.1
next_hop6=100::1

# Routers blackhole by destination: for an attack of our own host that is no help.
[ "$2" = incoming ] || exit 0

case $1 in
*:*) route="$1/128 next-hop $next_hop6" ;;
*) route="$1/32 next-hop $next_hop4" ;;
esac

case $4 in
ban) line="announce route $route community [$community]" ;;
unban) line="withdraw route $route" ;;
attack_details) exit 0 ;;
*)
    echo "unknown action \`$4\`" >&2
    exit 2
    ;;
esac

if [ ! -p "$pipe" ]; then
    echo "\`$pipe\` is no pipe: is ExaBGP running?" >&2
    exit 1
fi
# A pipe that nobody reads would hold us up for ever. The inner shell is the one that expands.
# shellcheck disable=SC2016
timeout 5 sh -c 'printf "%s\n" "$1" >"$2"' sh "$line" "$pipe"
