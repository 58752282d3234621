# shellcheck shell=bash
# attest.sh: what this host is, as one file to carry back: `90-verify.sh --attest FILE` writes it, `stowage attest` reads it. Sourced by step 90
# after kube.sh, never run. schema/attestation.v1.schema.json is the form.
#
# No secret is in it, nor the digest of one: a digest is written of those bytes alone that the bundle has. A file that somebody edited may
# hold a password now, and a short one could be guessed from the digest.

# attest_ready FILE: ends the script where FILE cannot be written, or is something else: nothing is lost by a slip of the hand.
attest_ready() {
  [[ ! -d $1 ]] || die "$1 is a directory" "name a file in it: --attest ${1%/}/$HOST.json"
  if [[ -L $1 || (-e $1 && ! -f $1) ]] || { [[ -s $1 ]] && [[ $(head -c 24 -- "$1" | tr -d '\0') != '{"stowage-attestation": ' ]]; }; then
    die "$1 is there and is no attestation" "name another file"
  fi
  [[ -d $(dirname -- "$1") && -w $(dirname -- "$1") ]] || die "$(dirname -- "$1") is no directory that can be written" "mount the medium, or name another file"
}

# attest FILE: writes it whole. The umask makes it 0644: FAT would refuse a chmod.
attest() {
  local text tmp
  text=$(attestation)
  tmp=$(beside "$1")
  rm -f -- "$tmp"
  # noclobber: a link that somebody puts there meanwhile is not followed
  if ! { (set -C && printf '%s\n' "$text" >"$tmp") && sync -- "$tmp" && mv -fT -- "$tmp" "$1"; }; then
    rm -f -- "$tmp"
    die "cannot write $1" "see what is said above, then run this again"
  fi
  note "attested in $1: carry it back, then: stowage attest out/$CLUSTER ${1##*/} ..."
}

attestation() {
  printf '{"stowage-attestation": 1'
  pair cluster "$CLUSTER"
  pair host "$HOST"
  pair role "$ROLE"
  pair bundle "$(sha256sum <"$BUNDLE/SHA256SUMS" | cut -d ' ' -f 1)"
  pair time "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  pair kernel "$(uname -r)"
  pair os "$(sed -n 's/^PRETTY_NAME=//p' /etc/os-release | tr -d "\"'")"
  pair kubernetes "$KUBERNETES_VERSION"
  pair mac "$(ip -o link show dev "$INTERFACE" | sed -n 's,.* link/[a-z]* \([0-9a-f:]*\).*,\1,p')"
  printf ',\n "passed": %d' "$PASSED"
  list failed failed_checks
  list steps steps_run
  list marks names_in "$VAR/state"
  list files attested_files
  list private attested_private
  list units attested_units
  list vips attested_vips
  list certificates attested_certificates
  list packages attested_packages
  list programs attested_programs
  if [[ $ROLE == control-plane ]]; then
    list etcd attested_members
    printf ',\n "healthy": %s' "$(if etcd_ctl endpoint health --cluster >/dev/null 2>&1; then echo true; else echo false; fi)"
  fi
  printf '\n}\n'
}

# --- JSON ------------------------------------------------------------------------------------------------------------

# pair NAME TEXT: a member of the document.
pair() { printf ',\n "%s": ' "$1"; json "${2:0:500}"; }

# list NAME CMD...: a member whose items CMD prints, one a line.
list() {
  local line comma=''
  printf ',\n "%s": [' "$1"
  while IFS= read -r line; do
    printf '%s\n  %s' "$comma" "$line"
    comma=,
  done < <("${@:2}")
  printf ']'
}

# item TEXT: an item of a list. object NAME VALUE...: another; a name that ends with = has a value that is JSON already; an empty value is left out.
item() { json "${1:0:500}"; echo; }
object() {
  local comma=''
  printf '{'
  while (($#)); do
    if [[ $2 ]]; then
      printf '%s"%s": ' "$comma" "${1%=}"
      if [[ $1 == *= ]]; then printf '%s' "$2"; else json "${2:0:500}"; fi
      comma=', '
    fi
    shift 2
  done
  printf '}\n'
}

# --- what it holds ---------------------------------------------------------------------------------------------------

failed_checks() { local one; for one in "${FAILED[@]}"; do item "$one"; done; }

# names_in DIRECTORY: what lies there.
names_in() { local path; for path in "$1"/*; do if [[ -e $path ]]; then item "${path##*/}"; fi; done; }

# steps_run: those that have begun to change this host, and were not rolled back: each has a backup.
steps_run() { local path; for path in "$VAR"/backup/[0-9][0-9]; do if [[ -d $path ]]; then item "${path##*/}"; fi; done; }

attested_files() {
  local source path step how state digest mode owner
  while IFS=$'\t' read -r -u 8 source path _ _ step _ how; do
    if [[ $source == '#'* ]]; then continue; fi
    state=$(laid_as "$how" "$BUNDLE/$source" "$path") digest='' mode='' owner=''
    if [[ $state == as-laid ]]; then digest=$(sha256sum <"$BUNDLE/$source"); fi
    if [[ $state != missing ]]; then read -r mode owner <<<"$(owned "$path")"; fi
    object path "$path" how "$how" step "$step" state "$state" sha256 "${digest%% *}" mode "$mode" owner "$owner"
  done 8<"$BUNDLE/files.tsv"
}

# laid_as HOW SOURCE PATH: as-laid, changed, missing, or other (no regular file). A block is as laid when laying it would change nothing, a
# file with a login whatever the login is.
laid_as() {
  local text
  if [[ ! -e $3 && ! -L $3 ]]; then echo missing
  elif [[ ! -f $3 || ($1 != block && -L $3) ]]; then echo other
  elif [[ $1 == file ]]; then if cmp -s -- "$2" "$3"; then echo as-laid; else echo changed; fi
  elif [[ $1 == login ]]; then if login_aside "$2" "$3"; then echo as-laid; else echo changed; fi
  elif ! grep -Fxq -- "# BEGIN stowage $CLUSTER" "$3"; then echo missing
  elif text=$(with_block "$3" "$(grep -vE '^# (BEGIN|END) stowage ' "$2")") && printf '%s\n' "$text" | cmp -s -- - "$3"; then echo as-laid
  else echo changed; fi
}

# login_aside SOURCE PATH: true when PATH has the text of SOURCE, with any base64 where that has @login@.
login_aside() {
  local wanted found login
  wanted=$(cat -- "$1") found=$(tr -d '\0' <"$2")
  while [[ $wanted == *@login@* ]]; do
    if [[ $found != "${wanted%%@login@*}"* ]]; then return 1; fi
    found=${found#"${wanted%%@login@*}"} wanted=${wanted#*@login@}
    login=${found%%[!A-Za-z0-9+/=]*}
    if [[ -z $login ]]; then return 1; fi
    found=${found#"$login"}
  done
  [[ $found == "$wanted" ]]
}

# owned PATH: mode and owner, of what a link leads to.
owned() { stat -L -c '%04a %U:%G' -- "$1" 2>/dev/null || :; }

# attested_private: files that hold a secret: that they are there, mode and owner, and nothing else.
attested_private() {
  local path mode owner
  for path in ${VRRP_AUTH:+/etc/keepalived/stowage-auth.conf} "$KUBE"/*.conf "$KUBE"/pki/*.key "$KUBE"/pki/etcd/*.key \
    /var/lib/kubelet/pki/kubelet-client-current.pem "$VAR"/secrets/* "$VAR"/handoff/*.handoff; do
    mode='' owner=''
    read -r mode owner <<<"$(owned "$path")"
    if [[ $mode || $path == /etc/keepalived/* ]]; then object path "$path" mode "$mode" owner "$owner"; fi
  done
}

attested_units() {
  local unit enabled active
  for unit in ${KUBERNETES:+kubelet.service} $RUNTIME_UNITS $(balancer_units) $(if own_vip; then echo "$VIP_UNIT"; fi) $(clock_units); do
    read -r enabled active <<<"$(unit_state "$unit")"
    object unit "$unit" enabled "$enabled" active "$active"
  done
}

# clock_units: what step 20 switches on for the time.
clock_units() { awk -F '\t' '$6 ~ /^(chrony|chronyd|systemd-timesyncd)\.service$/ && !seen[$6]++ { print $6 }' "$BUNDLE/files.tsv"; }

# attested_vips: who answered when the check asked; only a load balancer is to carry one.
attested_vips() {
  local vip here answers
  if [[ -z $LB ]]; then return; fi
  for vip in $VIPS; do
    here=false answers=${HOLDERS[$vip]-}
    if has_address "$vip" "$INTERFACE"; then here=true; fi
    object address "$vip" here= "$here" answers "${answers//$'\n'/ }"
  done
}

# attested_certificates: never a key: only the first certificate of a file is read.
attested_certificates() {
  local file line subject ends digest
  while IFS= read -r -u 8 file; do
    subject='' ends='' digest=''
    while IFS= read -r line; do
      case $line in
        subject=*) subject=${line#subject=} ;;
        notAfter=*) ends=$(date -u -d "${line#*=}" +%Y-%m-%dT%H:%M:%SZ) || ends='' ;;
        *ingerprint=*) digest=${line#*=} ;;
      esac
    done < <(certificate "$file" | openssl x509 -noout -subject -nameopt RFC2253 -enddate -fingerprint -sha256 2>/dev/null)
    digest=${digest//:/}
    object path "$file" subject "$subject" ends "$ends" sha256 "${digest,,}"
  done 8< <(certificate_files)
}

# attested_packages: those of PACKAGES, in the version that is installed.
attested_packages() {
  local word name version
  for word in $PACKAGES; do
    if [[ $OS_FAMILY == rhel ]]; then
      name=$(sed -E 's/-[0-9][^-]*(-[^-]+)?$//' <<<"$word")
      version=$(rpm -q --whatprovides --queryformat '%{VERSION}-%{RELEASE}\n' "$name" 2>/dev/null | head -n 1) || version=''
    else
      name=${word%%=*}
      version=$(dpkg-query -W -f='${db:Status-Status} ${Version}' "$name" 2>/dev/null) || version=''
      if [[ $version == 'installed '* ]]; then version=${version#* }; else version=''; fi
    fi
    object name "$name" version "$version"
  done
}

# attested_programs: what would run, whoever installed it: its own word for its version.
attested_programs() {
  local name version
  if [[ -z $KUBERNETES ]]; then return; fi
  for name in kubelet kubeadm $(case $RUNTIME in containerd) echo containerd ;; cri-o) echo crio ;; *) echo docker cri-dockerd ;; esac); do
    case $name in
      kubeadm) version=$(timeout 10 kubeadm version --output=short 2>/dev/null) || version='' ;;
      *) version=$(timeout 10 "$name" --version 2>/dev/null) || version='' ;;
    esac
    version=${version%%$'\n'*}
    object name "$name" version "${version#Kubernetes }"
  done
}

# attested_members: etcd's, as this host's member lists them.
attested_members() {
  local line id status name peers learner
  while IFS= read -r line; do
    IFS=$'\x1f' read -r id status name peers _ learner <<<"${line//, /$'\x1f'}"
    if [[ $learner ]]; then object id "$id" name "$name" status "$status" peers "$peers" learner= "$learner"; fi
  done < <(etcd_ctl member list 2>/dev/null)
}
