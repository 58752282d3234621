#!/usr/bin/env bash
# 70-etcd: the etcd manifest of this control plane lists all members. One host after the other.
#
# usage: bash 70-etcd.sh [--plan | --rollback]
#
#   --plan      prints the change of the manifest, changes nothing
#   --rollback  puts the manifest back as it was, byte for byte, and waits until etcd runs with it
#
# kubeadm leaves the first member with itself alone in --initial-cluster and the others with --initial-cluster-state=existing. A
# member with a log ignores both; one that lost its disk would come back as an empty cluster of its own, or with its old name and an
# empty log, and lose writes. With all members listed and no state flag it refuses to start, and nothing is lost. kubeadm upgrade
# writes the manifest anew: /etc/kubernetes/patches-upgrade, which this step lays, keeps the change (kubeadm upgrade --patches).
#
# Before: all control planes of the inventory are healthy voters. After the rename: waits until the running etcd has the new flags
# (the kubelet may notice 20 s late), then until all are healthy; else the old manifest comes back. Safe to run again after a kill.
# Exit status: 0 done, 1 failed, 2 usage, 3 waits for something that is not there yet.
set -euo pipefail
STEP=70 TITLE="etcd manifest lists all members"
# shellcheck source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=kube.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/kube.sh"

MANIFEST=$MANIFESTS/etcd.yaml
BEFORE_SECONDS=30 FLAGS_SECONDS=180 HEALTH_SECONDS=180

step_check() {
  local trouble
  here_only control-plane "control planes"
  if [[ ! -f $MANIFEST ]]; then not_yet "$MANIFEST" "step 50 or 60 on this host"; return; fi
  only_manifest
  # A run that was killed behind the rename finds etcd as it left it: it has to go on, or back.
  if marked 70-started; then return; fi
  if [[ $PLAN ]]; then trouble=$(etcd_trouble); else bounded "$BEFORE_SECONDS" "etcd to be well" etcd_well 2>/dev/null || trouble=$(etcd_trouble); fi
  if [[ ${trouble-} ]]; then
    not_yet "etcd (${trouble//$'\n'/; })" "finish steps 60 and 70 on the host that it names, then run this again"
  fi
}

# only_manifest: the kubelet reads every file in the directory, whatever its name, and of two etcd pods the later name wins.
only_manifest() {
  local other
  other=$(grep -lE '^ *component: etcd$' "$MANIFESTS"/* | grep -vFx "$MANIFEST") || return 0
  die "$other is a second manifest of etcd: the kubelet reads every file there" "move it out of $MANIFESTS"
}

step_do() {
  local text
  lay
  if [[ ! -f $MANIFEST ]]; then finish "" "step 50 or 60"; return; fi # a plan before there is a cluster
  text=$(patched "$MANIFEST") || die "$MANIFEST does not look as kubeadm writes it" "compare it with $BUNDLE/etcd/manifest-patch.tsv by hand"
  if ! in_force; then
    if [[ $PLAN ]]; then diff -u "$MANIFEST" - <<<"$text" | sed 's/^/  /' || :; fi
    act "set the flags of $BUNDLE/etcd/manifest-patch.tsv in $MANIFEST" patch_manifest "$text"
  fi
  settle || fall_back
  unmark 70-started
  reload_changed
  finish "the etcd manifest of $HOST lists all members" "step 70 on the next control plane, then step 80 on $(first_control_plane)"
}

# in_force: of the flags of the manifest, the patch has nothing to change. kubeadm upgrade leaves a flag twice: etcd takes the last.
in_force() {
  awk -F '\t' '
    FILENAME == ARGV[1] { if (!/^#/) { verb[$2] = $1; value[$2] = $3 }; next }
    match($0, /^    - --[a-z0-9-]+/) { last[substr($0, 9, RLENGTH - 8)] = substr($0, RLENGTH + 2) }
    END { for (flag in verb) if (verb[flag] == "set" ? last[flag] != value[flag] : flag in last) exit 1 }' "$BUNDLE/etcd/manifest-patch.tsv" "$MANIFEST"
}

# patched FILE: FILE with the patch applied to the command of its container. Fails unless it is what kubeadm writes for this member.
patched() {
  local line
  for line in "--name=$HOST" "--data-dir=$ETCD_DATA_DIR"; do
    [[ $(grep -Fxc -- "    - $line" "$1") == 1 ]] || return 1
  done
  grep -q '^    - --initial-cluster=' "$1" || return 1 # kubeadm upgrade appends ours to its own
  awk '
    FILENAME == ARGV[1] {
      if (/^#/) next
      if (split($0, field, "\t") != 3 || field[1] !~ /^(set|remove)$/) exit failed = 1
      verb[field[2]] = field[1]; value[field[2]] = field[3]; flag[++n] = field[2]; next
    }
    function set_flag(name) { if (verb[name] == "set" && !done[name]++) print "    - --" name "=" value[name] }
    /^  - command:$/ { commands++; inside = 1; print; next }
    inside && /^    - --[a-z0-9-]+/ {
      name = substr($0, 9); sub(/=.*/, "", name)
      if (name in verb) { set_flag(name); next }
    }
    inside && /^    - / && !/^    - (etcd$|--[a-z0-9-]+)/ { exit failed = 1 }
    inside && !/^    - / { inside = 0; for (i = 1; i <= n; i++) set_flag(flag[i]) }
    { print }
    END { exit failed || commands != 1 || inside }' "$BUNDLE/etcd/manifest-patch.tsv" "$1"
}

# patch_manifest TEXT: backup, mark, then a whole new file by rename from the directory above: the kubelet never sees half of it or a
# second one.
patch_manifest() {
  (umask 077 && cat -- "$MANIFEST" >"$VAR/backup/.etcd.yaml")
  sync -- "$VAR/backup/.etcd.yaml"
  mv -f -- "$VAR/backup/.etcd.yaml" "$VAR/backup/etcd.yaml"
  mark 70-started
  printf '%s\n' "$1" | replace_manifest
}

# replace_manifest <bytes: mode, owner and label of the manifest stay.
replace_manifest() {
  local tmp=$KUBE/.stowage-etcd.yaml
  [[ $(stat -c %d "$KUBE") == "$(stat -c %d "$MANIFESTS")" ]] || die "$MANIFESTS is a file system of its own: no rename from $KUBE" "unmount it there"
  rm -f -- "$tmp"
  cp -a -- "$MANIFEST" "$tmp"
  cat >"$tmp"
  sync -- "$tmp"
  mv -fT -- "$tmp" "$MANIFEST"
}

# settle: the etcd that runs has the flags of the manifest, every member is healthy, this API server is ready again.
settle() {
  bounded "$FLAGS_SECONDS" "etcd running with the flags of its manifest" etcd_runs_manifest &&
    bounded "$HEALTH_SECONDS" "every member to be healthy" etcd_well &&
    bounded "$HEALTH_SECONDS" "this API server" api_ready "$(host_port "$(node_address)" "$API_PORT")"
}

# etcd_runs_manifest: the words of the one etcd process with our name and data are those of the manifest. The process before it is
# healthy, too, and lives until the kubelet has noticed the new file.
etcd_runs_manifest() {
  local files=(/proc/[0-9]*/cmdline) file words process=''
  while IFS= read -r file; do
    mapfile -d '' -t words <"$file" || continue
    if [[ ${words[0]-} != *etcd ]]; then continue; fi
    [[ -z $process ]] || return 1 # the old one and the new one
    process=$(printf '%s\n' "${words[@]:1}" | sort)
  done < <(grep -lzFx --regexp="--data-dir=$ETCD_DATA_DIR" "${files[@]}" 2>/dev/null | xargs -r grep -lzFx --regexp="--name=$HOST" 2>/dev/null)
  [[ $process && $process == "$(sed -n 's/^    - \(--.*\)$/\1/p' "$MANIFEST" | sort)" ]]
}

# fall_back: a manifest that this step changed goes back to what ran before; a peer that is ill is not its fault.
fall_back() {
  local trouble
  trouble=$(etcd_trouble)
  marked 70-started || die "etcd is not well: ${trouble//$'\n'/; }" "nothing was changed here; repair it, then run this again"
  warn "etcd is not well with the new manifest, the old one goes back"
  replace_manifest <"$VAR/backup/etcd.yaml"
  settle || warn "nor is it with the old one"
  unmark 70-started
  die "etcd was not well in time: ${trouble:-it did not run with the new flags}" \
    "the old manifest is back; the log of the etcd container and journalctl -u kubelet say why; then run this again"
}

# step_rollback: only what this step did: a manifest that was written anew since (kubeadm upgrade) would come back with an old image.
step_rollback() {
  local kept=$VAR/backup/etcd.yaml
  if [[ -f $kept ]] && ! cmp -s -- "$kept" "$MANIFEST"; then
    [[ $(patched "$kept") == "$(cat "$MANIFEST")" ]] || die "$MANIFEST was changed after this step (kubeadm upgrade?)" "take the flags out by hand; $kept is what it was"
    act "put the former $MANIFEST back" replace_manifest <"$kept"
    settle || die "etcd is not well with the former manifest" "the log of the etcd container and journalctl -u kubelet say why"
    unmark 70-started
  fi
  restore
  finish "the etcd manifest of $HOST is as kubeadm wrote it" "step 70 again, when you want the change"
}

stowage_main "$@"
