#!/usr/bin/env bash
# 30-images.sh [--plan | --rollback | --help]
#
# Sees to it that every container image of images.txt is known to the container runtime: loads the archives of
# payload/images (*.tar, *.tar.gz), without any network. Passes when all images are there already. Where the inventory
# names a package repository and the bundle has no payload, missing images are pulled.
#   --plan      says what it would change, changes nothing
#   --rollback  removes the images that it added
# Exit status: 0 done, 1 failed, 2 usage, 3 the payload is not there yet.
set -euo pipefail
STEP=30 TITLE="container images"
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# The runtime's own tools, always with this host's socket: no configuration file of crictl is trusted.
containerd() { ctr --address "${CRI_SOCKET#unix://}" --namespace k8s.io "$@"; }
cri() { timeout 60 crictl --runtime-endpoint "$CRI_SOCKET" --image-endpoint "$CRI_SOCKET" "$@"; }

runtime_answers() {
  case $RUNTIME in
    containerd) timeout 5 ctr --address "${CRI_SOCKET#unix://}" version ;;
    cri-dockerd) timeout 5 docker version ;;
    cri-o) [[ -S ${CRI_SOCKET#unix://} ]] ;;
    *) die "no container runtime is named '$RUNTIME'" ;;
  esac
}

# image_there REF: the runtime has it under this name. crictl asks what the kubelet would ask; without it the runtime's tool is asked.
image_there() {
  if command -v crictl >/dev/null; then cri inspecti -q "$1" >/dev/null 2>&1; return; fi
  case $RUNTIME in
    containerd) containerd images ls -q | grep -Fxq -- "$1" ;;
    cri-dockerd) docker image inspect "$1" >/dev/null 2>&1 ;;
    cri-o) podman image exists "$1" ;;
  esac
}

# missing: the references of images.txt that the runtime does not have, one a line
missing() {
  local ref
  while read -r -u 8 ref; do
    if [[ -n $ref && $ref != '#'* ]] && ! image_there "$ref"; then printf '%s\n' "$ref"; fi
  done 8<"$BUNDLE/images.txt"
}

load() {
  case $RUNTIME in
    containerd) plain "$1" | containerd images import - ;;
    cri-dockerd) plain "$1" | docker load ;;
    cri-o)
      if command -v podman >/dev/null; then podman load -i "$1"
      elif command -v skopeo >/dev/null; then load_by_skopeo "$1"
      else die "neither skopeo nor podman is there, and CRI-O itself loads no archives" "install skopeo (bash run.sh 10)"; fi ;;
  esac
}

plain() { if [[ $1 == *.gz ]]; then gzip -dc -- "$1"; else cat -- "$1"; fi; }

# load_by_skopeo ARCHIVE: the missing references that this archive holds; it tells only by being asked for each
load_by_skopeo() {
  local ref
  for ref in "${LACKING[@]}"; do
    skopeo copy "docker-archive:$1:$ref" "containers-storage:$ref" || note "$ref is not in $(basename "$1")"
  done
}

remove_image() {
  if ! image_there "$1"; then return; fi
  case $RUNTIME in
    containerd) containerd images rm "$1" ;;
    cri-dockerd) docker rmi "$1" ;;
    cri-o) cri rmi "$1" ;;
  esac
}

pull() {
  case $RUNTIME in
    cri-dockerd) timeout 900 docker pull "$1" ;;
    *) timeout 900 crictl --runtime-endpoint "$CRI_SOCKET" --image-endpoint "$CRI_SOCKET" pull "$1" ;;
  esac
}

read_missing() { mapfile -t LACKING < <(missing); }

step_check() {
  [[ $KUBERNETES == 1 ]] || return 0
  bounded 60 "the container runtime ($RUNTIME)" runtime_answers || die "$RUNTIME does not answer on $CRI_SOCKET" "bash run.sh 20, then: systemctl status ${RUNTIME_UNITS// / }"
  LACKING=()
  if [[ $PLAN ]] && ! runtime_answers >/dev/null 2>&1; then note "the container runtime does not answer yet: what is missing cannot be known"; return; fi
  read_missing
  if ((${#LACKING[@]})) && [[ $PACKAGE_SOURCE == payload ]] && ! payload; then
    wait_for_peer "the payload; these images are missing: ${LACKING[*]}" "save them into payload/images with a payload/SHA256SUMS and copy payload/ into $BUNDLE; or load them by hand"
  fi
}

step_do() {
  local archive ref
  if [[ $KUBERNETES != 1 ]]; then finish "" "a dedicated load balancer needs no images"; return; fi
  for ref in "${LACKING[@]}"; do undo remove_image "$ref"; done
  if ((${#LACKING[@]})) && payload; then
    for archive in "$PAYLOAD"/images/*.tar "$PAYLOAD"/images/*.tar.gz; do
      if [[ ! -e $archive ]] || ((${#LACKING[@]} == 0)); then continue; fi
      act "load $(basename "$archive")" load "$archive"
      [[ $PLAN ]] || read_missing
    done
  elif [[ $PACKAGE_SOURCE == repository ]]; then
    for ref in "${LACKING[@]}"; do act "pull $ref" pull "$ref"; done
    [[ $PLAN ]] || read_missing
  fi
  if ((${#LACKING[@]})) && [[ ! $PLAN ]]; then
    die "the payload was loaded, these images are still missing: ${LACKING[*]}" "put archives with exactly these names into payload/images"
  fi
  finish "all images are there" "40-load-balancer.sh, or 50-init.sh or a join, when all hosts are through 30"
}

step_rollback() {
  restore
  finish "the added images are gone" "nothing"
}

stowage_main "$@"
