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
# It asks again for 0.7 s before it says no: one slow answer, or the 0.3 s that systemd takes to start a killed
# nginx again, must not move the VIP. The patience stands here, not in `fall`: keepalived before 2.3.2 checks
# once a second at most, so with `fall 2` a hung nginx would keep the VIP for 2.7 s and more; with `fall 1` and
# this it is 1.7 s at most. It is over long before the next check (interval 1) starts.
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin

if [[ $# -ne 2 || ! $1 =~ ^[0-9A-Fa-f.:]+$ || ! $2 =~ ^[0-9]{1,5}$ ]]; then
    echo "usage: ${0##*/} ADDRESS PORT" >&2
    exit 2
fi

# bash cannot bound its own connect, and that one blocks for two minutes once a frozen nginx has filled its
# backlog; timeout(1) can. In the foreground, so that all stays in the process group that keepalived signals;
# with SIGKILL, so that nothing outlives it: whoever is killed first, the rest is gone 0.7 s after its start.
# shellcheck disable=SC2016  # the inner bash expands these
timeout --foreground --signal=KILL 0.7 /bin/bash -c '
    until { exec 3<>"/dev/tcp/$1/$2"; } && IFS= read -r -t 0.3 answer <&3 && [[ $answer == ok ]]; do
        sleep 0.05
    done
' stowage-check "$1" "$2" >/dev/null 2>&1 || exit 1
