#!/bin/sh
# Spreads the interrupts of a port's queues over the CPUs beside its card:
#
#   irq_balance.sh eth0
#
# This is `fastnetmon tune` for those who know the script of old. It shows what was and what is;
# `fastnetmon tune --undo` puts back what was. FASTNETMON names another program.
set -eu

if [ "$#" -ne 1 ] || [ -z "$1" ]; then
    echo "usage: $0 INTERFACE" >&2
    exit 2
fi

exec "${FASTNETMON:-fastnetmon}" tune --apply --only irq --interface "$1"
