#!/bin/sh
# The script of an OpenVZ or Virtuozzo node: a container that is attacked, or that attacks, is
# suspended, and resumed when the ban is over.
#
#   openvz_suspend.sh IP DIRECTION PPS ACTION      (as `script` in [notify])
#
# VEIP, VZCTL and LOG name other places, for a trial run.
set -eu

if [ "$#" -ne 4 ]; then
    echo "usage: $0 IP DIRECTION PPS ban|attack_details|unban" >&2
    exit 2
fi
ip=$1 direction=$2 pps=$3 action=$4
veip=${VEIP:-/proc/vz/veip}
log=${LOG:-/var/log/fastnetmon_openvz.log}

# Virtuozzo 7 has `prlctl`; OpenVZ 6 and its legacy tools have `vzctl`.
if [ -n "${VZCTL:-}" ]; then
    tool=$VZCTL
elif command -v prlctl >/dev/null 2>&1; then
    tool=prlctl
else
    tool=vzctl
fi

# The container that has this address; the table writes IPv6 addresses without `::`, so they are
# compared in one form.
container=$(awk -v wanted="$ip" '
    function full(address,    halves, left, right, n, m, i, text) {
        if (address !~ /:/) return address
        n = split(address, halves, "::")
        m = split(halves[1], left, ":")
        text = ""
        for (i = 1; i <= m; i++) text = text ":" word(left[i])
        if (n > 1) {
            n = split(halves[2], right, ":")
            for (i = m + n; i < 8; i++) text = text ":0"
            for (i = 1; i <= n; i++) text = text ":" word(right[i])
        }
        return text
    }
    function word(group) {
        group = tolower(group)
        sub(/^0+/, "", group)
        return group == "" ? "0" : group
    }
    NR > 1 && full($1) == full(wanted) { print $2; exit }
' "$veip")

say() {
    printf '%s %s %s %s pps: %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$ip" "$direction" "$pps" "$1" >>"$log"
}

# What was suspended is kept, as its address leaves the table with it.
held=$log.suspended

case $action in
ban)
    if [ -z "$container" ]; then
        say "no container has this address, nothing is suspended"
        exit 0
    fi
    "$tool" suspend "$container" >/dev/null
    echo "$ip $container" >>"$held"
    say "container $container is suspended"
    ;;
attack_details)
    # The packets of the attack, one a line.
    say "packets:"
    cat >>"$log"
    ;;
unban)
    container=$(awk -v wanted="$ip" '$1 == wanted { found = $2 } END { print found }' "$held" 2>/dev/null || true)
    if [ -z "$container" ]; then
        say "nothing to resume"
        exit 0
    fi
    "$tool" resume "$container" >/dev/null
    awk -v wanted="$ip" '$1 != wanted' "$held" >"$held.new"
    mv "$held.new" "$held"
    say "container $container is resumed"
    ;;
*)
    echo "$0: $action is no action" >&2
    exit 2
    ;;
esac
