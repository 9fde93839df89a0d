#!/bin/sh
# Drops what comes to (or from) a banned host on this machine, by a set of nftables. Load once:
#
#   table inet fastnetmon {
#     set incoming4 { type ipv4_addr; }
#     set incoming6 { type ipv6_addr; }
#     set outgoing4 { type ipv4_addr; }
#     set outgoing6 { type ipv6_addr; }
#     chain prerouting {
#       type filter hook prerouting priority raw; policy accept;
#       ip daddr @incoming4 drop
#       ip6 daddr @incoming6 drop
#       ip saddr @outgoing4 drop
#       ip6 saddr @outgoing6 drop
#     }
#   }
#
# The agent counts before nftables sees a packet, so it knows when the attack is over.
# Called by fastnetmon: IP DIRECTION PPS ACTION
set -eu

case $1 in
*:*) set="$2"6 ;;
*) set="$2"4 ;;
esac

case $4 in
ban) nft add element inet fastnetmon "$set" "{ $1 }" ;;
# A set that was loaded anew does not hold it any more: that is what was wanted.
unban) nft delete element inet fastnetmon "$set" "{ $1 }" || true ;;
attack_details) ;;
*)
    echo "unknown action \`$4\`" >&2
    exit 2
    ;;
esac
