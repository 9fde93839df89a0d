#!/bin/sh
# Mails what happened. With `format = "report"` in `[notify]` the mail holds the figures of the
# attack; with `"seed"` the packets alone.
# Called by fastnetmon: IP DIRECTION PPS ACTION
set -eu

to=root

subject="fastnetmon: $1 $4, $2 attack with $3 pps"
case $4 in
ban | attack_details | unban)
    # The body is what there is on standard input, be it nothing.
    mail -s "$subject" "$to"
    ;;
*)
    echo "unknown action \`$4\`" >&2
    exit 2
    ;;
esac
