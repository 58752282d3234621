# shellcheck shell=bash
# kube.sh: what the steps that talk to kubeadm, the API server and etcd share. Sourced after lib.sh, never run.

KUBE=/etc/kubernetes
ADMIN_CONF=$KUBE/admin.conf
DISCOVERY=$KUBE/stowage-discovery.conf # join.yaml names it; here from taking the handoff in until the join is done
MANIFESTS=$KUBE/manifests
# The CA pairs and the service account pair, which every control plane shares, and nothing else: a copied leaf certificate would carry
# the names of another host, and kubeadm keeps what it finds.
SHARED_PKI=(pki/ca.crt pki/ca.key pki/sa.key pki/sa.pub pki/front-proxy-ca.crt pki/front-proxy-ca.key pki/etcd/ca.crt pki/etcd/ca.key)

# There is no proxy between members, and kubeadm would write the one it sees into the manifests of the control plane.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY KUBECONFIG
unset PASSPHRASE # of somebody's environment: it is asked for, and no child inherits it

# --- what the bundle brings ---------------------------------------------------------------------------------------------

SECRETS=$BUNDLE/secrets # stowage bundle --secrets; the frame has verified its sums

# brought NAME...: true when the bundle brings these files.
brought() { local name; for name; do [[ -f $SECRETS/$name ]] || return 1; done; }

# install_pki FOLDER: the files that every control plane shares. The mark comes first: from here on, whatever lies in /etc/kubernetes is ours
# to reset.
install_pki() {
  local name
  mark "$STEP-started"
  for name in "${SHARED_PKI[@]}"; do
    case $name in
      *.crt | *.pub) lay_whole "$1/$name" "$KUBE/$name" 0644 ;;
      *) lay_whole "$1/$name" "$KUBE/$name" 0600 ;;
    esac
  done
}

# pki_fits: ends the script when the cluster here runs by another CA than the one that the bundle brings.
pki_fits() {
  if ! brought pki/ca.crt || cmp -s -- "$SECRETS/pki/ca.crt" "$KUBE/pki/ca.crt"; then return; fi
  die "$CLUSTER runs by another CA than the one in $SECRETS" "build the bundle with the secrets that the cluster was made with, or without any"
}

# --- the bootstrap token ---------------------------------------------------------------------------------------------

token_brought() { brought bootstrap-token || brought stowage-discovery.conf; }

# bundle_token: prints the token that the bundle brings, to $(...).
bundle_token() {
  local token=''
  if brought bootstrap-token; then token=$(cat -- "$SECRETS/bootstrap-token")
  elif brought stowage-discovery.conf; then token=$(sed -n 's/^    token: //p' "$SECRETS/stowage-discovery.conf"); fi
  [[ $token =~ ^[a-z0-9]{6}\.[a-z0-9]{16}$ ]] || die "there is no bootstrap token in $SECRETS" "stowage bundle --secrets DIR; carry this folder again"
  printf '%s' "$token"
}

# token_there ID: the cluster has the token whose public half this is. Those that have ended are removed by the controller manager.
token_there() { kube --namespace=kube-system get secret "bootstrap-token-$1" >/dev/null 2>&1; }
bundle_token_there() { local token; token=$(bundle_token); token_there "${token%%.*}"; }

# token_end: when a token ends that is made now, as the API server has times.
token_end() {
  [[ $TOKEN_TTL =~ ^(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?$ ]] || die "TOKEN_TTL is no duration: $TOKEN_TTL"
  date -u -d "@$(($(date +%s) + 10#0${BASH_REMATCH[2]} * 3600 + 10#0${BASH_REMATCH[4]} * 60 + 10#0${BASH_REMATCH[6]}))" +%Y-%m-%dT%H:%M:%SZ
}

# token_secret TOKEN END: the object that kubeadm token create would make.
token_secret() {
  printf '%s\n' 'apiVersion: v1' 'kind: Secret' 'type: bootstrap.kubernetes.io/token' \
    'metadata:' "  name: bootstrap-token-${1%%.*}" '  namespace: kube-system' \
    'stringData:' "  token-id: '${1%%.*}'" "  token-secret: '${1#*.}'" "  expiration: '$2'" "  description: 'stowage'" \
    "  usage-bootstrap-authentication: 'true'" "  usage-bootstrap-signing: 'true'" \
    "  auth-extra-groups: 'system:bootstrappers:kubeadm:default-node-token'"
}

# token_put: the token of the bundle is good from now on for TOKEN_TTL, whether or not the cluster has it; another one that it brought before is
# good no longer: somebody may have seen it (stowage keys token). It goes through a pipe: kubeadm would take it on its command line, or print it.
token_put() {
  local token end verb=create said former
  token=$(bundle_token) end=$(token_end)
  former=$(token_former)
  if [[ $former && $former != "${token%%.*}" ]] && token_there "$former"; then token_drop "$former"; fi
  if token_there "${token%%.*}"; then verb=replace; fi
  said=$(token_secret "$token" "$end" | kube "$verb" --filename=- 2>&1) ||
    die "the cluster does not take the bootstrap token: ${said//"${token#*.}"/...}" "put right what it says, then run this again"
  printf '%s\n' "${token%%.*}" >"$VAR/state/token-id"
}

# token_former: the public half of the token that token_put made here last, if any. token_drop ID: the cluster has it no longer.
token_former() { if [[ -f $VAR/state/token-id ]]; then head -c 6 -- "$VAR/state/token-id"; fi; }
token_drop() { kubeadm token delete "--kubeconfig=$ADMIN_CONF" "$1" || warn "token $1 is gone already, or stays until it ends ($TOKEN_TTL)"; }

# --- names -----------------------------------------------------------------------------------------------------------

# names_of "NAME=ADDRESS ...": the names, one a line.
names_of() { local pair; for pair in $1; do printf '%s\n' "${pair%%=*}"; done; }

# node_address: the address that this host's kubelet, API server and etcd use.
node_address() { local first=${ADDRESSES%% *}; printf '%s\n' "${first%/*}"; }

# host_port HOST PORT: as a URL has it.
host_port() { if [[ $1 == *:* ]]; then printf '[%s]:%s\n' "$1" "$2"; else printf '%s:%s\n' "$1" "$2"; fi; }

# can_connect HOST PORT: true when something there takes a TCP connection.
# shellcheck disable=SC2016
can_connect() { timeout 3 bash -c ': <"/dev/tcp/$1/$2"' bash "$1" "$2" 2>/dev/null; }

# first_control_plane, here_only ROLE WHO: for messages; ends the script on a host that the step is not for.
first_control_plane() { names_of "$CONTROL_PLANES" | head -n 1; }
here_only() { [[ $ROLE == "$1" ]] || die "step $STEP is for $2, this is a $ROLE" "run.sh runs the steps of this host"; }

# not_yet WHAT REMEDY: waits for it, exit 3; a plan only says so, and goes on.
not_yet() { if [[ $PLAN ]]; then note "would wait for $1: $2"; else wait_for_peer "$1" "$2"; fi; }

# --- the VIP behind IPVS ----------------------------------------------------------------------------------------------

# IPVS hands a packet for the VIP on unchanged (DR, TUN): every API server carries the VIP, where it answers nobody's ARP. What this host
# itself sends to the VIP then stays here, so it is on only where an API server runs, or the first one is to.
VIP_UNIT=stowage-vip.service
own_vip() { [[ -z $LB ]] && grep -q $'\t'"/etc/systemd/system/$VIP_UNIT"$'\t' "$BUNDLE/files.tsv"; }
vip_on() { if own_vip; then unit_on "$VIP_UNIT"; fi; }
vip_off() {
  local enabled active
  if ! own_vip; then return; fi
  read -r enabled active <<<"$(unit_state "$VIP_UNIT")"
  if [[ $active == active ]]; then act "stop $VIP_UNIT" systemctl stop "$VIP_UNIT"; fi
  if [[ $enabled == enabled ]]; then act "disable $VIP_UNIT" systemctl disable "$VIP_UNIT"; fi
}

# --- the API server --------------------------------------------------------------------------------------------------

# kube WORDS...: kubectl as the administrator; no single request over 10 s, so that a wait can be bounded.
kube() { kubectl --kubeconfig="$ADMIN_CONF" "--request-timeout=${REQUEST_TIMEOUT:-10s}" "$@"; }

# api_ready HOST:PORT [--tls-server-name=NAME]: true when the API server there is ready, by the CA of this cluster.
api_ready() { kube "--server=https://$1" "${@:2}" get --raw=/readyz; }

# missing_nodes: the nodes of the inventory that the cluster does not have, one a line; only on control planes.
missing_nodes() {
  local there
  there=$(kube get nodes --output=name) || return 1
  comm -23 <(names_of "$CONTROL_PLANES $WORKERS" | sort) <(sort <<<"${there//node\//}")
}

# --- etcd ------------------------------------------------------------------------------------------------------------

# etcd_ctl WORDS...: etcdctl against this host's member, the one in its container (it fits the server), else the host's own.
etcd_ctl() {
  local pki=$KUBE/pki/etcd container='' runtime=(crictl "--runtime-endpoint=$CRI_SOCKET")
  local words=(--endpoints=https://127.0.0.1:2379 "--cacert=$pki/ca.crt" "--cert=$pki/healthcheck-client.crt"
    "--key=$pki/healthcheck-client.key" --command-timeout=5s "$@")
  container=$("${runtime[@]}" ps --quiet --state=Running --name='^etcd$' 2>/dev/null) || container=''
  if [[ $container ]]; then "${runtime[@]}" exec --sync "${container%%$'\n'*}" etcdctl "${words[@]}"
  else ETCDCTL_API=3 etcdctl "${words[@]}"; fi
}

# etcd_votes NAME: true when NAME is a started member and no learner.
etcd_votes() { etcd_ctl member list | awk -F ', ' -v name="$1" '$2 == "started" && $3 == name && $6 != "true" { found = 1 } END { exit !found }'; }

# etcd_trouble: one line for each thing that keeps this from being true: the members are the control planes of the inventory, all started,
# all voters, all healthy. Prints nothing when all is well.
etcd_trouble() {
  local members
  members=$(etcd_ctl member list 2>/dev/null) || { echo "the etcd of this host does not answer"; return 0; }
  awk -F ', ' -v planned="$(names_of "$CONTROL_PLANES" | tr '\n' ' ')" '
    BEGIN { n = split(planned, name, " "); for (i = 1; i <= n; i++) expected[name[i]] }
    NF < 5 { next }
    $2 != "started" { print "the member at " $4 " has not started"; next }
    { seen[$3] }
    $6 == "true" { print $3 " is a learner, it does not vote yet" }
    !($3 in expected) { print "member " $3 " is not in the inventory" }
    END { for (i = 1; i <= n; i++) if (!(name[i] in seen)) print name[i] " is not a started member" }' <<<"$members"
  etcd_ctl endpoint health --cluster >/dev/null 2>&1 || echo "not every member is healthy (etcdctl endpoint health --cluster)"
}
etcd_well() { [[ -z $(etcd_trouble) ]]; }

# --- kubeadm ---------------------------------------------------------------------------------------------------------

# former_cluster: what kubeadm would stumble over, one path a line: this host belongs, or has belonged, to a cluster.
former_cluster() {
  local path
  for path in "$KUBE"/{admin,super-admin,kubelet,bootstrap-kubelet,controller-manager,scheduler}.conf \
    "$MANIFESTS"/{etcd,kube-apiserver,kube-controller-manager,kube-scheduler}.yaml "$KUBE"/pki/ca.crt ${ETCD_DATA_DIR:+"$ETCD_DATA_DIR"/*}; do
    if [[ -e $path ]]; then printf '%s\n' "$path"; fi
  done
}

# no_former_cluster: ends the script when there is one.
no_former_cluster() {
  local found
  found=$(former_cluster)
  [[ -z $found ]] || die "this host has files of a cluster that step $STEP did not make: ${found//$'\n'/ }" \
    "if nothing of it is needed: bash $BUNDLE/ops/reset.sh"
}

# kubeadm_reset: takes back what a kubeadm that did not finish left here. Fails when a member of etcd may have stayed behind: kubeadm says that
# itself where it tried, and does not try where it cannot read its configuration from the cluster.
kubeadm_reset() {
  local said status=0 member=''
  if [[ -e $MANIFESTS/etcd.yaml ]]; then member=1; fi
  said=$(kubeadm reset -f "--cri-socket=$CRI_SOCKET" 2>&1) || status=$?
  printf '%s\n' "$said"
  ((status == 0)) || die "kubeadm reset failed ($status)" "put right what it says above, run this again"
  if [[ $ETCD_DATA_DIR ]]; then rm -rf -- "$ETCD_DATA_DIR"/member; fi # stays when kubeadm could not read its configuration; a worker has none
  [[ ${said,,} != *'manually remove this etcd member'* && ! ($member && ${said,,} =~ 'unable to fetch the kubeadm-config'|'no kubeadm config') ]]
}

# config_valid FILE: kubeadm init and join only warn of a field that they do not know.
config_valid() {
  if ! kubeadm config validate --help >/dev/null 2>&1; then return; fi
  kubeadm config validate "--config=$1" || die "kubeadm does not accept $1" "kubeadm here is $(kubeadm version --output=short), the inventory says v$KUBERNETES_VERSION"
}

# kubeadm_run init|join FILE [FLAG...]: the one call between the marks. A kubeadm that outlives a killed script keeps the lock (it inherits it).
kubeadm_run() {
  mark "$STEP-started"
  kubeadm "$1" "--config=$2" "${@:3}" || die "kubeadm $1 failed" "put right what it says above, run this again: it resets first"
  mark "$STEP-finished"
}

# --- the handoff -----------------------------------------------------------------------------------------------------

# private: PRIVATE, a directory in memory that only root reads; gone when the script ends, and what SIGKILL leaves the next run removes.
private() {
  PRIVATE=/run/stowage-$CLUSTER
  rm -rf -- "$PRIVATE"
  (umask 077 && mkdir -p "$PRIVATE/pki/etcd")
  trap 'status=$?; trap - ERR; set +e; rm -rf -- "$PRIVATE"; (exit "$status"); close_log' EXIT
}

# passphrase [twice]: sets PASSPHRASE, from the first line of the file STOWAGE_PASSPHRASE_FILE or from the terminal.
passphrase() {
  local again
  if [[ ${STOWAGE_PASSPHRASE_FILE-} ]]; then
    IFS= read -r PASSPHRASE <"$STOWAGE_PASSPHRASE_FILE" || [[ $PASSPHRASE ]] || die "$STOWAGE_PASSPHRASE_FILE is empty"
  else
    { : </dev/tty; } 2>/dev/null || die "no terminal to ask for the passphrase of the control-plane handoff" \
      "run this on a terminal, or name a file that holds it in STOWAGE_PASSPHRASE_FILE"
    IFS= read -r -s -p "passphrase of the control-plane handoff (not shown): " PASSPHRASE </dev/tty 2>/dev/tty && echo >/dev/tty
    if [[ ${1-} ]]; then
      IFS= read -r -s -p "again: " again </dev/tty 2>/dev/tty && echo >/dev/tty
      [[ $PASSPHRASE == "$again" ]] || die "not the same twice" "run this again"
    fi
  fi
  ((${#PASSPHRASE} >= 12)) || die "the passphrase is shorter than 12 characters" "it guards the CA keys of the cluster: take a longer one"
}

# crypt [-d]: stdin to stdout. The passphrase goes through a descriptor that the builtin printf fills: it is in no command line and no file.
crypt() { openssl enc "$@" -aes-256-cbc -md sha256 -pbkdf2 -iter 600000 -salt -pass fd:9 9< <(printf '%s\n' "$PASSPHRASE"); }

# undamaged FILE: true when its last line is the sum of what is before it. Encryption in CBC mode shows no change by itself; one bit changed
# anywhere garbles a block of what is summed, or the sum, and who has no passphrase cannot make the two fit. tar stops before that line.
undamaged() { head -c -68 -- "$1" | sha256sum | cmp -s -- - <(tail -c 68 -- "$1"); }

# pack NAME...: a tar of these files of PRIVATE and their sums, to stdout.
pack() (
  cd -- "$PRIVATE" || exit
  sha256sum -- "$@" >SHA256SUMS
  tar -cf - --format=ustar --owner=root --group=root -- SHA256SUMS "$@"
)

# unpack TAR NAME...: these files into PRIVATE. Fails unless the archive holds exactly them, each once and with its sum. Every file is
# read by its name into a path of ours, so that no link, mode or path of the archive counts.
unpack() (
  local name
  umask 077
  [[ $(tar -tf "$1" | sort) == "$(printf '%s\n' SHA256SUMS "${@:2}" | sort)" ]] || return 1
  for name in SHA256SUMS "${@:2}"; do tar -xOf "$1" -- "$name" >"$PRIVATE/$name"; done
  cd -- "$PRIVATE" && sha256sum -- "${@:2}" | cmp -s -- - SHA256SUMS
)

# discovery_conf TOKEN: the kubeconfig that a joining host trusts the cluster by.
discovery_conf() {
  printf '%s\n' 'apiVersion: v1' 'kind: Config' \
    'clusters:' "- name: $CLUSTER" '  cluster:' "    server: https://$SERVER" "    certificate-authority-data: $(base64 -w 0 "$KUBE/pki/ca.crt")" \
    'contexts:' '- name: join' '  context:' "    cluster: $CLUSTER" '    user: join' 'current-context: join' \
    'users:' '- name: join' '  user:' "    token: $1"
}

# handoff_names: the archives that hosts of the inventory need.
handoff_names() {
  if [[ $CONTROL_PLANES == *' '* ]]; then echo control-plane; fi
  if [[ $WORKERS ]]; then echo worker; fi
}

# handoff_write: the archives, with one new token. token-id (its public half) is written last: with it, they are whole.
handoff_write() {
  local names name token
  names=$(handoff_names)
  private
  if [[ $names == *control-plane* ]]; then [[ ${PASSPHRASE-} ]] || passphrase twice; fi
  token=$(kubeadm token create "--kubeconfig=$ADMIN_CONF" "--ttl=$TOKEN_TTL" --description=stowage-handoff)
  [[ $token =~ ^[a-z0-9]{6}\.[a-z0-9]{16}$ ]] || die "kubeadm token create gave no token" "kubeadm token create; see what it says"
  for name in "${SHARED_PKI[@]}"; do (umask 077 && cat -- "$KUBE/$name" >"$PRIVATE/$name"); done
  (umask 077 && discovery_conf "$token" >"$PRIVATE/stowage-discovery.conf")
  rm -f -- "$VAR/handoff/token-id"
  for name in $names; do
    (umask 077 && "handoff_$name" >"$VAR/handoff/.$name.handoff")
    sync -- "$VAR/handoff/.$name.handoff"
    mv -f -- "$VAR/handoff/.$name.handoff" "$VAR/handoff/$name.handoff"
  done
  printf '%s\n' "${token%%.*}" >"$VAR/handoff/token-id"
}
handoff_control-plane() {
  pack "${SHARED_PKI[@]}" stowage-discovery.conf >"$PRIVATE/tar"
  { cat -- "$PRIVATE/tar" && sha256sum <"$PRIVATE/tar"; } | crypt
}
handoff_worker() { pack stowage-discovery.conf; }

# handoff_current: true when all archives are there and their token still is.
handoff_current() {
  local name id
  for name in $(handoff_names); do [[ -f $VAR/handoff/$name.handoff ]] || return 1; done
  id=$(cat -- "$VAR/handoff/token-id" 2>/dev/null) || return 1
  token_there "$id"
}

# handoff_there: there are archives here, or the cluster has the token that the bundle brings.
handoff_there() { compgen -G "$VAR/handoff/*" >/dev/null || [[ $(bundle_tokens_there) ]]; }

# bundle_tokens_there: of the token that the bundle brings and the one that it brought before, the public halves of those that the cluster has.
bundle_tokens_there() {
  local token id
  id=$(token_former)
  if token_brought; then token=$(bundle_token) id+=" ${token%%.*}"; fi
  for id in $(tr ' ' '\n' <<<"$id" | sort -u); do
    if token_there "$id"; then printf '%s\n' "$id"; fi
  done
}

# handoff_drop: the archives here, their token and the one of the bundle; once every planned node has joined, nobody needs them.
handoff_drop() {
  local id
  for id in $(cat -- "$VAR/handoff/token-id" 2>/dev/null) $(bundle_tokens_there); do token_drop "$id"; done
  rm -f -- "$VAR"/handoff/{,.}{control-plane,worker}.handoff "$VAR/handoff/token-id" "$VAR/state/token-id"
}

# handoff_say: what to carry where.
handoff_say() {
  local name
  for name in $(handoff_names); do
    note "copy $VAR/handoff/$name.handoff to the same path on $(handoff_hosts "$name")"
  done
}
handoff_hosts() {
  local hosts=$WORKERS
  if [[ $1 == control-plane ]]; then hosts=${CONTROL_PLANES#* }; fi
  names_of "$hosts" | paste -s -d ' '
}

# handoff_find NAME: sets ARCHIVE to where it is to be taken in from, which is secrets/ where the bundle brings it; waits for it.
handoff_find() {
  if [[ -z $HANDOFF ]] && brought stowage-discovery.conf; then
    ARCHIVE=$SECRETS
    [[ $1 == worker ]] || brought "${SHARED_PKI[@]}" || die "$SECRETS is a worker's: it has no keys of the cluster" "stowage bundle --secrets DIR; carry this folder again"
    return
  fi
  ARCHIVE=${HANDOFF:-$VAR/handoff/$1.handoff}
  if [[ -f $ARCHIVE ]]; then return; fi
  [[ -z $HANDOFF ]] || die "there is no $ARCHIVE" "name the $1.handoff of $(first_control_plane)"
  not_yet "the handoff from $(first_control_plane)" \
    "copy $VAR/handoff/$1.handoff of $(first_control_plane) to $ARCHIVE here (or give it with --handoff FILE); if it is not there either: run step 50 or ops/handoff.sh on $(first_control_plane)"
}

# handoff_take NAME...: takes ARCHIVE in: all NAMEs into PRIVATE, the discovery file to its place (kubeadm's validator wants it to exist).
# Nothing of a cluster changes here yet.
handoff_take() {
  if [[ ! $PLAN ]]; then
    handoff_open "$@"
    handoff_usable
  fi
  act "lay $DISCOVERY" lay_whole "${PRIVATE-}/stowage-discovery.conf" "$DISCOVERY" 0600
  if [[ ! $PLAN ]]; then config_valid "$BUNDLE/kubeadm/join.yaml"; fi
}

# handoff_open NAME...: the verified files of ARCHIVE into PRIVATE. One that holds more than the discovery file is encrypted.
handoff_open() {
  local name
  private
  if [[ $ARCHIVE == "$SECRETS" ]]; then
    for name; do (umask 077 && cat -- "$SECRETS/$name" >"$PRIVATE/$name"); done
  elif (($# > 1)); then
    passphrase
    (umask 077 && crypt -d <"$ARCHIVE" 2>/dev/null >"$PRIVATE/tar") || die "$ARCHIVE does not open" "wrong passphrase, or copy it again from $(first_control_plane)"
    undamaged "$PRIVATE/tar" || die "$ARCHIVE is not as it was made" "wrong passphrase, or copy it again from $(first_control_plane)"
  else
    (umask 077 && cat -- "$ARCHIVE" >"$PRIVATE/tar")
  fi
  [[ $ARCHIVE == "$SECRETS" ]] || unpack "$PRIVATE/tar" "$@" 2>/dev/null || die "$ARCHIVE is not as it was made" "wrong passphrase, or copy it again from $(first_control_plane)"
  if ! grep -Fxq -- "- name: $CLUSTER" "$PRIVATE/stowage-discovery.conf" || ! grep -Fxq -- "    server: https://$SERVER" "$PRIVATE/stowage-discovery.conf"; then
    if [[ $ARCHIVE == "$SECRETS" ]]; then name="stowage bundle --secrets DIR; carry this folder again"; else name="copy the one of $(first_control_plane)"; fi
    die "$ARCHIVE is of another cluster than $CLUSTER at $SERVER" "$name"
  fi
}

# handoff_usable: asks the API server with the token of PRIVATE before anything here changes.
handoff_usable() {
  local said
  if ! command -v kubectl >/dev/null; then return; fi
  said=$(kubectl "--kubeconfig=$PRIVATE/stowage-discovery.conf" --request-timeout=10s get --raw=/readyz 2>&1) && return
  if [[ ${said,,} == *'unknown authority'* ]]; then
    die "the CA of $ARCHIVE is not that of the API server at $SERVER" "take bundle and secrets of this host from where those of $(first_control_plane) come from"
  fi
  if [[ ${said,,} == *unauthorized* || ${said,,} == *'logged in'* ]]; then
    if [[ $ARCHIVE == "$SECRETS" ]]; then
      wait_for_peer "the token of this bundle: the cluster does not have it, not yet or no longer" \
        "let step 50 end on $(first_control_plane); if it has, the token has expired: bash ops/handoff.sh there gives it a new life. A bundle with another token (stowage keys token) is carried to both"
    fi
    die "the token of $ARCHIVE has expired" "on $(first_control_plane): bash ops/handoff.sh, then copy the new archive here"
  fi
  wait_for_peer "the API server at $SERVER (${said##*$'\n'})" "see that step 50 is done on $(first_control_plane) and that $SERVER is reachable from here"
}

# no_ready_node: kubeadm refuses to join under the name of a node that is Ready, and a host that was just reset is Ready to the cluster until
# its heartbeats have been missed for 40 to 50 s. Whoever has a join token may get nodes.
no_ready_node() {
  if [[ $PLAN ]] || ! command -v kubectl >/dev/null; then return; fi
  bounded 90 "the cluster to see that the former node $HOST is gone" node_not_ready ||
    die "the cluster has a node $HOST, and it is Ready" \
      "if another host has taken that name, rename it; else on $(first_control_plane): kubectl delete node $HOST; then run this again"
}
node_not_ready() {
  [[ $(kubectl "--kubeconfig=$DISCOVERY" --request-timeout=10s get node "$HOST" --ignore-not-found \
    '--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) != True ]]
}

# lay_whole SOURCE PATH MODE: root's, atomic, on disk. No backup: these are keys.
lay_whole() {
  local tmp
  tmp=$(beside "$2")
  mkdir -p -- "$(dirname "$2")"
  rm -f -- "$tmp"
  (umask 077 && cat -- "$1" >"$tmp")
  chmod -- "$3" "$tmp"
  sync -- "$tmp"
  mv -fT -- "$tmp" "$2"
  relabel "$2"
}

# handoff_tidy: after the join, archive and token have served here. Not before: a join that is killed takes them in again.
# Once only: archives that ops/handoff.sh makes here later are not ours to remove.
handoff_tidy() {
  if marked "$STEP-tidied"; then return; fi
  act "remove the handoff that was taken in, and the token" rm -f -- "$DISCOVERY" "$VAR"/handoff/{control-plane,worker}.handoff
  if [[ ! $PLAN ]]; then mark "$STEP-tidied"; fi
}
