#!/usr/bin/env bash
# 10-packages.sh [--plan | --rollback | --help]
#
# Installs the operating system packages of this host (PACKAGES of host.env): from payload/packages, without any network (by name,
# with all that they depend on, where it has the index of a repository: Packages, repodata/; else its files), or from the repositories
# that the host has configured (PACKAGE_SOURCE). Passes when all are there already, in the pinned versions.
# No service starts by being installed. kubelet, kubeadm and kubectl are held, so that no upgrade of the host moves them.
#   --plan      says what it would change, changes nothing
#   --rollback  removes the packages that it added (not what stood here before, nor upgrades of that)
# Exit status: 0 done, 1 failed, 2 usage, 3 the payload is not there yet.
set -euo pipefail
STEP=10 TITLE="operating system packages"
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

POLICY=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 # Ubuntu's needrestart would restart services

# missing: the packages of PACKAGES that are not installed, one a line
missing() {
  local package
  for package in $PACKAGES; do
    installed "$package" || printf '%s\n' "$package"
  done
}

# all_installed: one line for each package of this system, sorted
all_installed() {
  if [[ $OS_FAMILY == rhel ]]; then rpm -qa --qf '%{NAME}\n'; else dpkg-query -W -f='${db:Status-Status} ${binary:Package}\n' | sed -n 's/^installed //p'; fi | sort -u
}

# count_added: what came since `before` was written counts as ours; also after a kill
count_added() {
  if [[ $PLAN || ! -e $BACKUP/before ]]; then return; fi
  { all_installed | comm -13 "$BACKUP/before" -; cat "$BACKUP/added" 2>/dev/null || :; } | sort -u >"$BACKUP/added.new" # there may be no list yet
  mv -f -- "$BACKUP/added.new" "$BACKUP/added"
  rm -f -- "$BACKUP/before"
}

# services_silent, services_free: Debian starts what it installs unless policy-rc.d forbids it. Laid like any file, so a kill is made good.
services_silent() {
  if [[ $OS_FAMILY == debian ]]; then
    lay_text "$POLICY" 0755 root:root - $'#!/bin/sh\n# Stowage installs packages: nothing is to start by that. Gone when 10-packages.sh has run.\nexit 101'
  fi
}
services_free() { if [[ $OS_FAMILY == debian ]]; then unlay "$POLICY"; fi; }

# useful_debs: the .deb files of the payload that are newer than what is installed
useful_debs() {
  local file name version have
  for file in "$PAYLOAD"/packages/*.deb; do
    [[ -e $file ]] || continue
    # shellcheck disable=SC2016 # dpkg fills it in
    { read -r name; read -r version; } < <(dpkg-deb --show --showformat='${Package}\n${Version}\n' "$file")
    have=$(dpkg-query -W -f='${db:Status-Status} ${Version}' "$name" 2>/dev/null) || have=''
    if [[ $have != installed\ * ]] || dpkg --compare-versions "${have#* }" lt "$version"; then printf '%s\0' "$file"; fi
  done
}

# useful_rpms: the .rpm files of the payload that are newer than what is installed, or pinned and another version than that. Left out is
# what something else stands in for (curl-minimal for curl: dnf would refuse the two).
useful_rpms() {
  local file name version have
  for file in "$PAYLOAD"/packages/*.rpm; do
    [[ -e $file ]] || continue
    read -r name version < <(rpm -qp --nosignature --qf "%{NAME} $EVR" "$file")
    if ! have=$(rpm -q --qf "$EVR" "$name" 2>/dev/null); then
      if ! pinned "$name" && rpm -q --quiet --whatprovides "$name" 2>/dev/null; then continue; fi
    elif pinned "$name"; then
      if grep -Fxq -- "$version" <<<"$have"; then continue; fi
    elif ! newer "$version" "${have%%$'\n'*}"; then continue; fi
    printf '%s\0' "$file"
  done
}
EVR='%{EPOCHNUM} %{VERSION} %{RELEASE}\n'
pinned() { [[ " $PACKAGES" == *" $1-"[0-9]* ]]; }

# newer THIS THAT: each "epoch version release", compared part by part, as rpm before 4.16 wants it
newer() {
  local this that i order
  read -r -a this <<<"$1"
  read -r -a that <<<"$2"
  for i in 0 1 2; do
    order=$(rpm --eval "%{lua: print(rpm.vercmp('${this[i]}', '${that[i]}'))}")
    if [[ $order != 0 ]]; then [[ $order == 1 ]]; return; fi
  done
  return 1
}

# apt, with what both sources want: no questions, our laid configuration stays, a held package may move when the bundle says so
apt() {
  apt-get -y -q --no-install-recommends --allow-change-held-packages -o DPkg::Lock::Timeout=60 \
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef "$@"
}

# indexed: the payload's packages are a repository, not only files
indexed() {
  if [[ $OS_FAMILY == rhel ]]; then [[ -e $PAYLOAD/packages/repodata/repomd.xml ]]
  else [[ -e $PAYLOAD/packages/Packages || -e $PAYLOAD/packages/Packages.gz ]]; fi
}

# install_payload: with no other repository left to either tool, there is nothing it could fetch
install_payload() {
  local files=() only=(-o Dir::Etc::SourceParts=/dev/null -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
  if indexed; then
    install_indexed "$@"
  elif [[ $OS_FAMILY == rhel ]]; then
    mapfile -d '' files < <(useful_rpms)
    if ((${#files[@]} == 0)); then return; fi # what is still missing is told later; dnf wants a word
    dnf -y --disablerepo='*' --disableplugin=versionlock --setopt=install_weak_deps=False install "${files[@]}"
  else
    mapfile -d '' files < <(useful_debs)
    apt "${only[@]}" -o Dir::Etc::SourceList=/dev/null install "${files[@]}"
  fi
}

# install_indexed PACKAGES...: from the payload as the only repository. It is trusted, for verify.sh has just seen every byte of it, and its
# date is not asked for: the clock of a host without network may be wrong. Lists and cache lie in a folder of ours, so that the host's own
# stay as they are; in it a link to the repository, whose own path may hold what an URL or a sources.list may not.
install_indexed() {
  local own=$VAR/repository status=0
  rm -rf -- "$own"
  mkdir -p -- "$own/lists/partial"
  ln -s -- "$PAYLOAD/packages" "$own/packages"
  if [[ $OS_FAMILY == rhel ]]; then
    dnf -y --disablerepo='*' --repofrompath="stowage-payload,file://$own/packages" --setopt=stowage-payload.gpgcheck=0 \
      --setopt=stowage-payload.repo_gpgcheck=0 --setopt=stowage-payload.module_hotfixes=1 --setopt=cachedir="$own/cache" \
      --setopt=disable_excludes=all --disableplugin=versionlock --setopt=install_weak_deps=False install "$@" || status=$?
  else
    printf 'deb [trusted=yes check-date=no check-valid-until=no] file:%s/packages ./\n' "$own" >"$own/sources.list"
    # The host's pins are of its own repositories.
    only+=(-o Dir::Etc::SourceList="$own/sources.list" -o Dir::State::Lists="$own/lists" -o Acquire::Languages=none
      -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null)
    apt "${only[@]}" update && apt "${only[@]}" install "$@" || status=$?
  fi
  rm -rf -- "$own"
  return "$status"
}

install_repository() {
  if [[ $OS_FAMILY == rhel ]]; then
    dnf -y --disableplugin=versionlock --setopt=install_weak_deps=False --setopt=disable_excludes=kubernetes install "$@"
  else
    apt-get -q update
    apt install "$@"
  fi
}

# idle: no package manager runs. apt gives dpkg a session of its own, so one outlives a script that was killed.
idle() { ! grep -qxE 'dpkg|apt-get|apt|dnf|yum|rpm' /proc/[0-9]*/comm 2>/dev/null; }

# held: the packages that the host's package manager will not move
held() {
  if [[ $OS_FAMILY == debian ]]; then apt-mark showhold; else dnf -q --cacheonly --disablerepo='*' versionlock list 2>/dev/null; fi
}
hold() { if [[ $OS_FAMILY == debian ]]; then apt-mark hold "$1"; else dnf -q --cacheonly --disablerepo='*' versionlock add "$1"; fi; }
unhold() { if [[ $OS_FAMILY == debian ]]; then apt-mark unhold "$1"; else dnf -q --cacheonly --disablerepo='*' versionlock delete "$1"; fi; }

hold_kubernetes() {
  local package now
  if ! now=$(held); then
    note "dnf has no versionlock here: keep kubelet, kubeadm and kubectl out of host upgrades yourself (exclude= in dnf.conf)"
    return
  fi
  for package in kubelet kubeadm kubectl; do
    if [[ " $PACKAGES" != *" $package"* ]] || grep -Eq "^$package(-[0-9]|$)|^$package-?[0-9]*:" <<<"$now"; then continue; fi
    undo unhold "$package"
    act "hold $package" hold "$package"
  done
}

step_check() {
  if [[ $OS_FAMILY == debian ]]; then command -v apt-get dpkg-query >/dev/null; else command -v dnf rpm >/dev/null; fi ||
    die "this is no $OS_FAMILY host: its package manager is not there" "correct os of this host in the inventory"
  LACKING=$(missing)
  if [[ -n $LACKING && $PACKAGE_SOURCE == payload ]] && ! payload; then
    wait_for_peer "the payload; these packages are missing: ${LACKING//$'\n'/ }" "gather them into payload/packages with a payload/SHA256SUMS and copy payload/ into $BUNDLE; or install them by hand"
  fi
}

step_do() {
  local lacking=() left
  [[ $PLAN ]] || bounded 300 "end of the package manager that runs already" idle || die "another package manager is at work on this host" "wait until it is done, then run this again"
  if [[ -e $BACKUP/before ]]; then note "an earlier run was interrupted"; fi
  if [[ $OS_FAMILY == debian && -n $(dpkg --audit) ]]; then
    services_silent
    act "finish the interrupted run of dpkg" dpkg --configure --pending --force-confold
  fi
  LACKING=$(missing)
  if [[ -n $LACKING ]]; then
    mapfile -t lacking <<<"$LACKING"
    services_silent
    if [[ ! $PLAN && ! -e $BACKUP/before ]]; then
      all_installed >"$BACKUP/before.new"
      mv -f -- "$BACKUP/before.new" "$BACKUP/before"
    fi
    act "install ${lacking[*]} (from the $PACKAGE_SOURCE)" "install_$PACKAGE_SOURCE" "${lacking[@]}"
  fi
  services_free
  reload_changed
  count_added
  left=$([[ $PLAN ]] || missing)
  [[ -z $left ]] || die "still missing: ${left//$'\n'/ }" "put their packages and all they depend on, in these versions, into the payload (or repository)"
  hold_kubernetes
  finish "packages are installed" "20-host.sh, when all hosts are through 10"
}

remove_added() {
  if [[ $OS_FAMILY == rhel ]]; then rpm -e "$@"; else dpkg --purge "$@"; fi # neither takes a package along that needs them: it refuses
}

step_rollback() {
  local added=()
  count_added
  if [[ -s $BACKUP/added ]]; then
    mapfile -t added < <(comm -12 "$BACKUP/added" <(all_installed))
    if ((${#added[@]})); then act "remove ${added[*]}" remove_added "${added[@]}"; fi
  fi
  restore
  finish "the added packages are gone" "nothing"
}

stowage_main "$@"
