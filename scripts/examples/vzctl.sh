#!/bin/sh
# On an OpenVZ node: stops the container that attacks others, and takes an attacked address from its
# container until the attack is over. Run by root. IPv4: the table writes IPv6 addresses another way.
# Called by fastnetmon: IP DIRECTION PPS ACTION
set -eu

veip=/proc/vz/veip
# Whose address was taken: the node's table does not know it any more.
taken=/var/lib/fastnetmon/vzctl

case $4 in
ban)
    container=$(awk -v ip="$1" '$1 == ip { print $2; exit }' "$veip")
    if [ -z "$container" ]; then
        echo "\`$1\` belongs to no container" >&2
        exit 1
    fi
    if [ "$2" = outgoing ]; then
        # Whoever attacked is started again by a person.
        vzctl stop "$container"
    else
        mkdir -p "$taken"
        echo "$container" >"$taken/$1"
        vzctl set "$container" --ipdel "$1"
    fi
    ;;
unban)
    [ -e "$taken/$1" ] || exit 0
    vzctl set "$(cat "$taken/$1")" --ipadd "$1"
    rm "$taken/$1"
    ;;
attack_details) ;;
*)
    echo "unknown action \`$4\`" >&2
    exit 2
    ;;
esac
