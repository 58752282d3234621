#!/usr/bin/env bash
# handoff: makes the archives that let the other hosts join, with a new token; or gives the token that the bundle brings a new life.
#
# usage: bash ops/handoff.sh [--plan] [--remove]
#
#   --plan     says what would be done, changes nothing
#   --remove   removes the archives here and the token instead
#
# On a control plane. Step 50 makes them first; run this when the token has expired or more hosts are to join. In
# /var/lib/stowage/CLUSTER/handoff/:
#
#   control-plane.handoff  the CA pairs, the service account pair and the token, encrypted (AES-256, PBKDF2 with 600,000 rounds):
#                          the passphrase is asked for twice, or read from the file that STOWAGE_PASSPHRASE_FILE names
#   worker.handoff         the certificate of the CA and the token, no key
#
# Each is made only if the inventory has hosts that need it. Step 80 removes both once every planned node has joined.
# A bundle that brings keys (stowage bundle --secrets) needs no archives: the hosts that have yet to join have all they need, but for a token
# that is good. It is from now on, for as long as bootstrapToken.ttl of the inventory says.
# Exit status: 0 done, 1 failed, 2 usage.
set -euo pipefail
STEP=handoff TITLE="archives for hosts that join"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/kube.sh"
REMOVE=''

step_option() { [[ $1 == --remove ]] && REMOVE=1; }

step_check() {
  [[ $ROLE == control-plane ]] || die "this is a $ROLE" "run it on a control plane"
  [[ -f $ADMIN_CONF ]] || die "$HOST is not in a cluster yet" "step 50 or 60 first"
}

step_do() {
  if [[ $REMOVE ]]; then
    if handoff_there; then act "remove the archives and the token" handoff_drop; fi
    finish "the token and the handoff archives of this host are gone" "nothing"
    return
  fi
  if [[ -z $(handoff_names) ]]; then finish "" "nothing: the inventory has no other control plane and no worker"; return; fi
  if token_brought; then
    pki_fits
    act "make the bootstrap token of the bundle good for $TOKEN_TTL" token_put
    finish "the token is good for $TOKEN_TTL from now on; nothing is carried" "step 60 on control planes that join, step 65 on workers"
    return
  fi
  act "write the handoff archives ($(handoff_names | paste -s -d ' '))" handoff_write
  handoff_say
  finish "the handoff archives are made, their token ends in $TOKEN_TTL" "step 60 on control planes that join, step 65 on workers"
}

stowage_main "$@"
