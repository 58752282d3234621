#!/usr/bin/env bash
# 30-images.sh [--plan | --rollback | --help]
#
# Sees to it that every container image of images.txt is known to the container runtime: loads those of the archives in
# payload/images (*.tar, *.tar.gz) that are named for a missing image, then, if one is missing still, the others; without any
# network. Passes when all images are there already. What is missing then is pulled where the inventory names a registry of the
# site (step 20 has told the runtime), or where it names a package repository and the bundle has no payload.
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
    containerd) containerd images ls -q | grep -Fxq -- "$(whole "$1")" ;;
    cri-dockerd) docker image inspect "$1" >/dev/null 2>&1 ;;
    cri-o) podman image exists "$1" ;;
  esac
}

# whole REF: as containerd has it: what names no registry is Docker Hub's
whole() {
  if [[ $1 != */* ]]; then printf 'docker.io/library/%s\n' "$1"
  elif [[ ${1%%/*} == *[.:]* || ${1%%/*} == localhost ]]; then printf '%s\n' "$1"
  else printf 'docker.io/%s\n' "$1"; fi
}

# missing: the references of images.txt that the runtime does not have, one a line
missing() {
  local ref
  while read -r -u 8 ref; do
    if [[ -n $ref && $ref != '#'* ]] && ! image_there "$ref"; then printf '%s\n' "$ref"; fi
  done 8<"$BUNDLE/images.txt"
}

# archive_of REF: prints the archive that is named for it; fails when there is none
archive_of() {
  local name=$PAYLOAD/images/${1//[\/:@]/_}.tar
  if [[ -e $name ]]; then printf '%s\n' "$name"
  elif [[ -e $name.gz ]]; then printf '%s\n' "$name.gz"
  else return 1; fi
}

# names: what the runtime's own tool calls its images, sorted; the CRI's names by digest are not ours
names() {
  case $RUNTIME in
    containerd) containerd images ls -q ;;
    cri-dockerd) docker image ls --format '{{.Repository}}:{{.Tag}}' ;;
  esac | grep -Ev '^sha256:|<none>' | sort -u
}

# load ARCHIVE [REF]: all images in it. An archive that is named for REF may know its one image by another name.
load() {
  local before='' new=() name
  if [[ $RUNTIME != cri-o ]]; then before=$(names) || :; fi # there may be none
  case $RUNTIME in
    containerd) plain "$1" | containerd images import - ;;
    cri-dockerd) plain "$1" | docker load ;;
    cri-o)
      if command -v skopeo >/dev/null; then load_by_skopeo "$@"
      elif command -v podman >/dev/null; then podman load -i "$1"
      else die "neither skopeo nor podman is there, and CRI-O itself loads no archives" "install skopeo (bash run.sh 10)"; fi
      return ;;
  esac
  mapfile -t new < <(names | comm -13 <(printf '%s\n' "$before") -)
  for name in "${new[@]}"; do undo remove_name "$name"; done
  if [[ -z ${2-} ]]; then return; fi
  if ((${#new[@]} == 1)) && [[ ${new[0]} != "$2" && ${new[0]} != "$(whole "$2")" ]]; then
    case $RUNTIME in
      containerd) containerd images tag "${new[0]}" "$(whole "$2")" ;;
      cri-dockerd) docker tag "${new[0]}" "$2" ;;
    esac
  fi
  bounded 10 "$2 in the runtime" image_there "$2" || : # the CRI hears of it a little later; what is missing is told below
}

plain() { if [[ $1 == *.gz ]]; then gzip -dc -- "$1"; else cat -- "$1"; fi; }

# load_by_skopeo ARCHIVE [REF]: without REF the missing references that this archive holds; it tells only by being asked for each
load_by_skopeo() {
  local ref
  if [[ ${2-} ]]; then skopeo copy -q "docker-archive:$1:@0" "containers-storage:$2"; return; fi
  for ref in "${LACKING[@]}"; do
    skopeo copy "docker-archive:$1:$ref" "containers-storage:$ref" || note "$ref is not in $(basename "$1")"
  done
}

# drop NAME: containerd's image of that name; the CRI's own names for it, by digest, go with the last one, or its layers would stay
drop() {
  local digest left=() name
  digest=$(containerd images ls | awk -v name="$1" '$1 == name { print $3 }')
  containerd images rm "$1"
  mapfile -t left < <(containerd images ls | awk -v digest="$digest" 'NR > 1 && $3 == digest { print $1 }')
  for name in "${left[@]}"; do
    if [[ $name != sha256:* && $name != "${1%:*}@"* ]]; then return; fi
  done
  for name in "${left[@]}"; do containerd images rm "$name"; done
}

remove_image() {
  if ! image_there "$1"; then return; fi
  case $RUNTIME in
    containerd) drop "$(whole "$1")" ;;
    cri-dockerd) docker rmi "$1" ;;
    cri-o) cri rmi "$1" ;;
  esac
}

# remove_name NAME: the same for what an archive brought along
remove_name() {
  if ! names | grep -Fxq -- "$1"; then return; fi
  case $RUNTIME in
    containerd) drop "$1" ;;
    cri-dockerd) docker rmi "$1" ;;
  esac
}

# pull REF: by the runtime, which asks the registry of the site where there is one. What fails is said, and counted at the end.
pull() {
  case $RUNTIME in
    cri-dockerd) timeout 900 docker ${REGISTRY_SECRET:+--config /var/lib/kubelet} pull "$1" ;; # step 20 has laid config.json there
    *) timeout 900 crictl --runtime-endpoint "$CRI_SOCKET" --image-endpoint "$CRI_SOCKET" pull "$1" ;;
  esac || warn "$1 was not pulled"
}

read_missing() { mapfile -t LACKING < <(missing); }

step_check() {
  [[ $KUBERNETES == 1 ]] || return 0
  bounded 60 "the container runtime ($RUNTIME)" runtime_answers || die "$RUNTIME does not answer on $CRI_SOCKET" "bash run.sh 20, then: systemctl status ${RUNTIME_UNITS// / }"
  LACKING=()
  if [[ $PLAN ]] && ! runtime_answers >/dev/null 2>&1; then note "the container runtime does not answer yet: what is missing cannot be known"; return; fi
  read_missing
  if ((${#LACKING[@]})) && [[ -z $REGISTRY && $PACKAGE_SOURCE == payload ]] && ! payload; then
    wait_for_peer "the payload; these images are missing: ${LACKING[*]}" "save them into payload/images with a payload/SHA256SUMS and copy payload/ into $BUNDLE; or load them by hand"
  fi
}

# load_missing: the archives that are named for a missing image; then the others, as long as one is missing
load_missing() {
  local ref archive left=() tried=' '
  for ref in "${LACKING[@]}"; do
    if archive=$(archive_of "$ref"); then act "load $(basename "$archive")" load "$archive" "$ref"; tried+="$(basename "$archive") "; else left+=("$ref"); fi
  done
  if [[ $PLAN ]]; then LACKING=("${left[@]}"); else read_missing; fi
  for archive in "$PAYLOAD"/images/*.tar "$PAYLOAD"/images/*.tar.gz; do
    if [[ ! -e $archive || $tried == *" $(basename "$archive") "* ]] || ((${#LACKING[@]} == 0)); then continue; fi
    act "load $(basename "$archive")" load "$archive"
    [[ $PLAN ]] || read_missing
  done
}

step_do() {
  local ref source=''
  if [[ $KUBERNETES != 1 ]]; then finish "" "a dedicated load balancer needs no images"; return; fi
  for ref in "${LACKING[@]}"; do undo remove_image "$ref"; done
  if ((${#LACKING[@]})) && payload; then load_missing; elif [[ $PACKAGE_SOURCE == repository ]]; then source='its registry'; fi
  if [[ $REGISTRY ]]; then source=$REGISTRY; fi
  if [[ $source ]]; then
    for ref in "${LACKING[@]}"; do act "pull $ref from $source" pull "$ref"; done
    [[ $PLAN ]] || read_missing
  fi
  if ((${#LACKING[@]})) && [[ ! $PLAN ]]; then
    if [[ $source ]]; then die "these images are still missing: ${LACKING[*]}" "see what $source answers above: push them there under exactly these names"; fi
    die "the payload was loaded, these images are still missing: ${LACKING[*]}" "put archives with exactly these names into payload/images"
  fi
  finish "all images are there" "40-load-balancer.sh, or 50-init.sh or a join, when all hosts are through 30"
}

step_rollback() {
  restore
  finish "the added images are gone" "nothing"
}

stowage_main "$@"
