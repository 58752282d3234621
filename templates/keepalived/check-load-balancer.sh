#!/bin/bash
# stowage-check ADDRESS PORT
#
# The health check of keepalived's vrrp_script: does the nginx of this host still do its work?
# nginx has a listener for this alone (server { listen 127.0.0.1:16444; return "ok\n"; }). A connection is
# not enough: the kernel accepts for an nginx that is frozen, so the answer is read. The API servers behind
# it are none of this script's business: a VIP that moves because of them only moves the trouble.
#
# Exit status: 0 nginx answers, 1 it does not, 2 wrong arguments. Quiet, read-only; it starts and stops nothing.
#
# Time: 0.4 s at most, so that a check that fails is over before the next one starts (interval 0.5; keepalived
# skips a check while the former one runs), and long before keepalived would kill it (timeout 1).
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin

if [[ $# -ne 2 || ! $1 =~ ^[0-9A-Fa-f.:]+$ || ! $2 =~ ^[0-9]{1,5}$ ]]; then
    echo "usage: ${0##*/} ADDRESS PORT" >&2
    exit 2
fi

# bash cannot bound its own connect, and that one blocks for two minutes once a frozen nginx has filled its
# backlog; timeout(1) can. In the foreground, so that all stays in the process group that keepalived signals;
# with SIGKILL, so that nothing outlives it: whoever is killed first, the rest is gone 0.4 s after its start.
# shellcheck disable=SC2016  # the inner bash expands these
answer=$(timeout --foreground --signal=KILL 0.4 /bin/bash -c '
    exec 3<>"/dev/tcp/$1/$2" && IFS= read -r line <&3 && printf %s "$line"
' stowage-check "$1" "$2" 2>/dev/null) || exit 1

[[ $answer == ok ]] || exit 1
