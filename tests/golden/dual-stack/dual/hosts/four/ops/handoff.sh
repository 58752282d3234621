#!/usr/bin/env bash
# handoff: makes the archives that let the other hosts join, with a new token of 24 hours.
#
# usage: bash ops/handoff.sh [--plan] [--remove]
#
#   --plan     says what would be done, changes nothing
#   --remove   removes the archives here and their token instead
#
# On a control plane. Step 50 makes them first; run this when the token has expired or more hosts are to join. In
# /var/lib/stowage/CLUSTER/handoff/:
#
#   control-plane.handoff  the CA pairs, the service account pair and the token, encrypted (AES-256, PBKDF2 with 600,000 rounds):
#                          the passphrase is asked for twice, or read from the file that STOWAGE_PASSPHRASE_FILE names
#   worker.handoff         the certificate of the CA and the token, no key
#
# Each is made only if the inventory has hosts that need it. Step 80 removes both once every planned node has joined.
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
    if compgen -G "$VAR/handoff/*" >/dev/null; then act "remove the archives and their token" handoff_drop; fi
    finish "the handoff archives of this host are gone" "nothing"
    return
  fi
  if [[ -z $(handoff_names) ]]; then finish "" "nothing: the inventory has no other control plane and no worker"; return; fi
  act "write the handoff archives ($(handoff_names | paste -s -d ' '))" handoff_write
  handoff_say
  finish "the handoff archives are made, their token ends in 24 hours" "step 60 on control planes that join, step 65 on workers"
}

stowage_main "$@"
