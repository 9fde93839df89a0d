#!/bin/sh
# Tells a Slack channel (or Mattermost, which understands the same). Needs curl.
# Called by fastnetmon: IP DIRECTION PPS ACTION
set -eu

# One line, readable for the agent's user alone: https://hooks.slack.com/services/…
url_file=/etc/fastnetmon/slack_url

case $4 in
ban) text="$1 is banned: $2 attack with $3 packets a second" ;;
unban) text="$1 is let go: the $2 attack with $3 packets a second is over" ;;
# The packets are for the mail.
attack_details) exit 0 ;;
*)
    echo "unknown action \`$4\`" >&2
    exit 2
    ;;
esac

# Address, direction and number hold nothing that JSON would have to have escaped. The address of
# the channel is a secret: it goes by standard input, as arguments are seen by everybody.
printf 'url = "%s"\n' "$(cat "$url_file")" |
    curl --silent --show-error --fail --max-time 10 --config - \
        --header 'Content-Type: application/json' --data "{\"text\":\"$text\"}" --output /dev/null
