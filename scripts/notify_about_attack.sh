#!/bin/sh
# Called by fastnetmon: IP DIRECTION PPS ACTION
#
#   ban             the host is under attack; standard input is empty
#   attack_details  the packets of the attack on standard input, one a line
#   unban           the attack is over; standard input is empty
#
# Mails what happened when there is a `mail` program, else writes it to the system log.
# Put what your network needs (a blackhole route, a call to your router) where it says so.
set -eu

ip=$1
direction=$2
pps=$3
action=$4

# Whom to tell.
email=${FASTNETMON_EMAIL:-root}

tell() {
    # $1 subject; text on standard input
    if command -v mail >/dev/null 2>&1; then
        mail -s "$1" "$email"
    elif command -v logger >/dev/null 2>&1; then
        { echo "$1"; cat; } | logger -t fastnetmon
    else
        { echo "$1"; cat; } >>"${FASTNETMON_LOG:-/var/log/fastnetmon_notify.log}"
    fi
}

case $action in
ban)
    # Block the host here, for example: ip route add blackhole "$ip"
    tell "fastnetmon: $ip banned, $direction attack with $pps pps" </dev/null
    ;;
attack_details)
    tell "fastnetmon: packets of the $direction attack on $ip ($pps pps)"
    ;;
unban)
    # Undo it here, for example: ip route del blackhole "$ip"
    tell "fastnetmon: $ip unbanned, $direction attack with $pps pps is over" </dev/null
    ;;
*)
    echo "unknown action \`$action\`: expected ban, attack_details or unban" >&2
    exit 2
    ;;
esac
