#!/usr/bin/env bash
# fetch-payload.sh [--plan] [--os OS]... [--only KIND] [--with TOOL]
#                  [--sources OS=FILE]... [--keyrings DIR] [--plain-http HOST]... DIR
#
# Fills DIR with all that this cluster's hosts need and that does not travel in the bundle: packages with all they depend
# on, files, container images (linux/amd64). What that is stands in payload.tsv, above this script. It is for a connected
# machine with bash 5. What is there and whole is kept: after a failure or a kill the same command goes on.
#   --plan             says what it would fetch, from where, with what; asks no network, writes nothing
#   --os OS            packages of this operating system only (debian-12, rocky-9); may stand several times
#   --only KIND        images, packages or files only
#   --with TOOL        fetches images with skopeo, docker, podman or ctr; without this, with the first of them that works
#   --sources OS=FILE  where packages of OS come from: a sources.list or deb822 file, or a .repo file. Without this it is what
#                      --plan prints: the distribution (for a .rpm family: as this machine has it), and the makers' own
#   --keyrings DIR     where the keys of Debian's and Ubuntu's sources are (/etc/apt/keyrings, then /usr/share/keyrings)
#   --plain-http HOST  the registry HOST[:PORT] has no TLS or a certificate that nobody vouches for
# Proxies and logins are the tools' own: https_proxy and no_proxy, skopeo login, apt's auth.conf, ~/.netrc.
# Upstream's checks stay on: digests of images, signatures of repositories, sums of files. "stowage lock" records what came.
# Exit status: 0 all is there, 1 something is missing (each is named), 2 usage.
set -Eeuo pipefail
shopt -s inherit_errexit nullglob
[[ ${BASH_VERSINFO[0]} -ge 5 ]] || { echo "error: bash 5.0 or newer is needed, this is $BASH_VERSION" >&2; exit 1; }
umask 022
export LC_ALL=C
unset CDPATH
ROWS=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)/payload.tsv

ARCH=amd64 # of every host
PLAN='' ONLY='' TOOL='' DIR='' KEYRINGS=(/etc/apt/keyrings /usr/share/keyrings) WANTED_OS=() PLAIN=()
declare -A SOURCES=()
# The rows of payload.tsv, column by column
KIND=() NAME=() OS=() SOURCE=() FILE=() SUM=()
WORK='' # below DIR, for what is not whole yet
# FAILED: a line for each thing that could not be fetched; WHY: of the last one
FAILED=() WHY='' LOOSE=() FETCHED=0 KEPT=0 COUNT=0 TOTAL=0

# --- words -----------------------------------------------------------------------------------------------------------

# die MSG [REMEDY]: says what is wrong and what to do, exits 1
die() {
  printf 'error: %s\n' "$1" >&2
  [[ -z ${2-} ]] || printf '  remedy: %s\n' "$2" >&2
  exit 1
}

wrong_usage() { printf 'error: %s\n  remedy: bash %s --help\n' "$1" "$0" >&2; exit 2; }
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; }

# give_up REASON [REMEDY]: this one thing is not to be had; the others are tried all the same
give_up() { WHY=$1${2:+$'\n'"    remedy: $2"}; return 1; }

# give_up_log WHAT: as give_up, with the last that the tool said
give_up_log() { WHY="$1"$'\n'"$(tail -n 5 -- "$WORK/log" | sed 's/^/    /')"; return 1; }

# size PATH: as people say it
size() { du -sk --apparent-size -- "$1" | awk '{ if ($1 < 1024) print $1 " kB"; else print int($1 / 1024 + 0.5) " MB" }'; }

has() { command -v "$1" >/dev/null; }

# tried CMD...: at most three times, what it says goes to the log
tried() {
  local try
  : >"$WORK/log"
  for try in 1 2 3; do
    if "$@" >>"$WORK/log" 2>&1 </dev/null; then return 0; fi
    if ((try < 3)); then sleep "$try"; fi
  done
  return 1
}

bounded() { timeout --foreground 3600 "$@"; }

# thing LABEL WHERE HAVE FETCH ARGUMENTS...: one line of progress. HAVE and FETCH are functions, each called with ARGUMENTS; where HAVE finds
# it whole, nothing is fetched.
thing() {
  local label=$1 where=$2 have=$3 fetch=$4
  shift 4
  COUNT=$((COUNT + 1)) WHY=''
  printf '[%d/%d] %s ... ' "$COUNT" "$TOTAL" "$label"
  if "$have" "$@" 2>/dev/null; then
    KEPT=$((KEPT + 1))
    printf 'there already\n'
  elif [[ $PLAN ]]; then
    FETCHED=$((FETCHED + 1))
    printf 'to fetch into %s\n' "$where"
  elif "$fetch" "$@"; then
    FETCHED=$((FETCHED + 1))
    size "$DIR/$where"
  else
    FAILED+=("$label: $WHY")
    printf 'FAILED\n'
  fi
}

# --- payload.tsv -----------------------------------------------------------------------------------------------------

# read_rows: the first line names the columns. An empty field may be written "-".
read_rows() {
  local line i fields names number=1
  local -A row
  [[ -f $ROWS ]] || die "$ROWS is missing" "run this from the bundle (out/CLUSTER/scripts), or copy payload.tsv beside its scripts folder"
  {
    IFS= read -r line || die "$ROWS is empty" "take it from the bundle again"
    IFS=$'\t' read -r -a names <<<"${line#\#}"
    while IFS= read -r line; do
      number=$((number + 1))
      [[ -n $line && $line != '#'* ]] || continue
      IFS=$'\x1f' read -r -a fields <<<"${line//$'\t'/$'\x1f'}" # a tab for a separator would swallow empty fields
      row=([kind]='' [name]='' [os]='' [source]='' [path]='' [sha256]='')
      for i in "${!names[@]}"; do row[${names[i]}]=${fields[i]-}; done
      for i in "${!row[@]}"; do [[ ${row[$i]} != - ]] || row[$i]=''; done
      case ${row[kind]}:${row[path]} in
        repository:http*://* | edit:files/* | image:images/* | file:files/* | "file:packages/${row[os]}"/* | "package:packages/${row[os]}") ;;
        *) row[kind]='' ;;
      esac
      # The path of a repository is the address of its key; all others lie one folder below DIR, two those of packages.
      [[ ${row[kind]} && ${row[name]} =~ ^[^-[:cntrl:]][^[:cntrl:]]*$ && ${row[source]} =~ ^[^-[:cntrl:]][^[:cntrl:]]*$ &&
        ${row[os]} =~ ^([a-z0-9][a-z0-9.-]*)?$ && ${row[sha256]} =~ ^([0-9a-f]{64})?$ &&
        (${row[kind]} == repository || ${row[path]} =~ ^[a-z]+(/[A-Za-z0-9_+~%=-][A-Za-z0-9._+~%=-]*){1,2}$) ]] ||
        die "$ROWS line $number is not a row of a payload" "take it from the bundle again"
      KIND+=("${row[kind]}") NAME+=("${row[name]}") OS+=("${row[os]}") SOURCE+=("${row[source]}") FILE+=("${row[path]}") SUM+=("${row[sha256]}")
    done
  } <"$ROWS"
}

# systems: each os that packages are wanted for, one a line
systems() {
  local i os
  for i in "${!KIND[@]}"; do
    if [[ ${KIND[i]} == package ]]; then printf '%s\n' "${OS[i]}"; fi
  done | sort -u | while read -r os; do
    if ((${#WANTED_OS[@]} == 0)) || [[ " ${WANTED_OS[*]} " == *" $os "* ]]; then printf '%s\n' "$os"; fi
  done
}

# words OS: the packages asked for, one a line, as its package manager takes them (name, name=version, name-version)
words() {
  local i
  for i in "${!KIND[@]}"; do
    if [[ ${KIND[i]} == package && ${OS[i]} == "$1" ]]; then printf '%s\n' "${NAME[i]}"; fi
  done | sort -u
}

# --- images ----------------------------------------------------------------------------------------------------------

# choose_tool: the first that works; docker and ctr are clients, without their daemon they are nothing
choose_tool() {
  local tool
  for tool in ${TOOL:-skopeo docker podman ctr}; do
    has "$tool" || continue
    case $tool in
      docker) timeout 10 docker info ;;
      ctr) timeout 10 ctr version ;;
      *) : ;;
    esac >/dev/null 2>&1 || continue
    TOOL=$tool
    return
  done
  die "${TOOL:-neither skopeo, docker, podman nor ctr} ${TOOL:+does not work}${TOOL:-works} here" "install skopeo (the package has that name everywhere)"
}

# plain REF: true where its registry may go without TLS
plain() { ((${#PLAIN[@]})) && [[ " ${PLAIN[*]} " == *" ${1%%/*} "* ]]; }

# spellings REF: how an archive may write this name: Docker's own registry may go unnamed
spellings() {
  local host=${1%%/*}
  printf '%s\n' "$1"
  if [[ $1 != */* ]]; then printf 'docker.io/library/%s\n' "$1"
  elif [[ $1 == docker.io/library/* ]]; then printf '%s\n' "${1#docker.io/library/}" "library/${1#docker.io/library/}"
  elif [[ $host == docker.io ]]; then printf '%s\n' "${1#docker.io/}"
  elif [[ $host != *[.:]* && $host != localhost ]]; then printf 'docker.io/%s\n' "$1"; fi
}

# archive_whole FILE REF: it is an archive to its end, and holds REF under this name
archive_whole() {
  local manifest name
  [[ -s $1 ]] && tar -tf "$1" >/dev/null && manifest=$(tar -xOf "$1" manifest.json) || return 1
  while read -r name; do
    if [[ $manifest == *"\"$name\""* ]]; then return 0; fi
  done < <(spellings "$2")
  return 1
}

have_image() { archive_whole "$DIR/$3" "${1%@*}"; }

# fetch_image REF SOURCE PATH: the archive carries the name without a digest, which no archive can; by a digest it is asked for
fetch_image() {
  local name=${1%@*} source=${2:-$1} part=$WORK/${3##*/}
  source=${source#docker://}
  if [[ $source == *@* && ${source%@*} =~ ^(.*):[^/:]*$ ]]; then source=${BASH_REMATCH[1]}@${source##*@}; fi
  if [[ ${name##*/} != *:* ]]; then give_up "has no tag, so an archive cannot name it" "give it a tag in the inventory"; return; fi
  tried "by_$TOOL" "$source" "$name" "$part" || { give_up_log "$TOOL does not get $source"; return; }
  archive_whole "$part" "$name" 2>>"$WORK/log" || { give_up "$TOOL made an archive that does not hold the name $name" "use another tool: --with skopeo"; return; }
  put "$part" "$3"
}

# by_TOOL SOURCE NAME FILE
by_skopeo() {
  local options=()
  if plain "$1"; then options=(--src-tls-verify=false); fi
  rm -f -- "$3" # it adds to no archive
  bounded skopeo --override-os linux --override-arch "$ARCH" copy "${options[@]}" "docker://$1" "docker-archive:$3:$2"
}
by_docker() {
  bounded docker pull --platform "linux/$ARCH" "$1" || return
  if [[ $1 != "$2" ]]; then docker tag "$1" "$2" || return; fi
  bounded docker save -o "$3" "$2"
}
by_podman() {
  local options=()
  if plain "$1"; then options=(--tls-verify=false); fi
  bounded podman pull --os linux --arch "$ARCH" "${options[@]}" "$1" || return
  if [[ $1 != "$2" ]]; then podman tag "$1" "$2" || return; fi
  rm -f -- "$3"
  bounded podman save --format docker-archive -o "$3" "$2"
}
# In a namespace of its own, so that nothing of this machine's is touched; ctr wants whole names.
by_ctr() {
  local options=() source name
  source=$(whole_name "$1") name=$(whole_name "$2")
  if plain "$1"; then options=(--plain-http); fi
  bounded ctr --namespace stowage-fetch content fetch --platform "linux/$ARCH" "${options[@]}" "$source" || return
  if [[ $source != "$name" ]]; then ctr --namespace stowage-fetch images tag --force "$source" "$name" || return; fi
  bounded ctr --namespace stowage-fetch images export --platform "linux/$ARCH" "$3" "$name" || return
  ctr --namespace stowage-fetch images rm "$source" "$name" || : # what stays is this machine's room, not the payload's
}
whole_name() {
  local spelling
  while read -r spelling; do
    if [[ ${spelling%%/*} == *[.:]* || ${spelling%%/*} == localhost ]]; then printf '%s\n' "$spelling"; return; fi
  done < <(spellings "$1")
}

# put PART PATH: what is whole gets its name
put() {
  if mkdir -p -- "$DIR/${2%/*}" && chmod 0644 -- "$1" && mv -f -- "$1" "$DIR/$2"; then return; fi
  give_up "cannot be laid at $DIR/$2"
}

# --- files -----------------------------------------------------------------------------------------------------------

sum_of() { sha256sum -- "$1" | cut -d ' ' -f 1; }

have_file() { [[ -s $DIR/$3 && (-z $4 || $(sum_of "$DIR/$3") == "$4") ]]; }

# fetch_file NAME SOURCE PATH SUM: the sum is of what lies there in the end, so of an edited file once it is edited
fetch_file() {
  local part=$WORK/${3##*/}.part wanted=$4
  if [[ $(edits "$3") ]]; then wanted=''; fi
  fetch_to "$part" "$2" "$wanted" || return
  edit "$part" "$3" || return
  if [[ $4 && $(sum_of "$part") != "$4" ]]; then give_up "once edited, its SHA-256 is $(sum_of "$part") and should be $4"; return; fi
  put "$part" "$3"
}

# edits PATH: the expressions for sed that change it, one a line
edits() {
  local i
  for i in "${!KIND[@]}"; do
    if [[ ${KIND[i]} == edit && ${FILE[i]} == "$1" ]]; then printf '%s\n' "${SOURCE[i]}"; fi
  done
}

# edit PART PATH: the sandbox leaves sed no command that runs or writes anything else
edit() {
  local expressions
  expressions=$(edits "$2")
  [[ $expressions ]] || return 0
  sed --sandbox -e "$expressions" -- "$1" >"$1.edited" 2>"$WORK/log" || { give_up_log "sed"; return; }
  mv -f -- "$1.edited" "$1"
}

# fetch_to PART SOURCE SUM: where there is no sum, upstream's is asked for, which many lay beside the file
fetch_to() {
  local part=$1 source=$2 wanted=$3 beside
  has curl || { give_up "curl is missing" "install the package curl"; return; }
  if [[ -z $wanted ]]; then
    beside=$(loaded --max-time 60 "$source.sha256" 2>/dev/null </dev/null | head -c 4096 | tr -d '\0') || beside=''
    if [[ ${beside%%[[:space:]]*} =~ ^[0-9a-f]{64}$ ]]; then wanted=${beside%%[[:space:]]*}; fi
  fi
  tried resumed "$source" "$part" "$wanted" || { give_up_log "curl does not get $source"; return; }
}

# loaded ARGUMENTS...: curl, with what every request wants
loaded() {
  curl --netrc-optional --fail --location --silent --show-error --proto '=http,https' --connect-timeout 20 --speed-limit 1 --speed-time 60 "$@"
}

# resumed SOURCE PART SUM: goes on where the last run was cut off. What cannot be gone on with (a server without ranges, a part that was
# whole already or is of another file) is fetched from its start.
resumed() {
  local status=0
  if [[ ! $3 ]]; then rm -f -- "$2" # half of one file and half of another would go unseen
  elif [[ -s $2 && $(sum_of "$2") == "$3" ]]; then return 0; fi
  bounded_load "$1" "$2" || status=$?
  if ((status == 22 || status == 33 || status == 36)) && [[ -e $2 ]]; then
    rm -f -- "$2"
    bounded_load "$1" "$2" || return
  elif ((status)); then return "$status"; fi
  if [[ $3 && $(sum_of "$2") != "$3" ]]; then
    printf 'its SHA-256 is %s and should be %s\n' "$(sum_of "$2")" "$3"
    rm -f -- "$2"
    return 1
  fi
}
bounded_load() { loaded --continue-at - --max-time 3600 --output "$2" "$1"; }

# --- packages --------------------------------------------------------------------------------------------------------

is_debian() { [[ $1 == debian-* || $1 == ubuntu-* ]]; }

have_packages() { have_loose "$1" && if is_debian "$1"; then have_debs "$1"; else have_rpms "$1"; fi; }
fetch_packages() { if is_debian "$1"; then fetch_debs "$1"; else fetch_rpms "$1"; fi; }

# loose OS: the rows of packages that are in no repository, by number; they become part of this one
loose() {
  local i
  for i in "${!KIND[@]}"; do
    if [[ ${KIND[i]} == file && ${FILE[i]} == "packages/$1/"* ]]; then printf '%s\n' "$i"; fi
  done
}

have_loose() {
  local i
  while read -r i; do have_file - - "${FILE[i]}" "${SUM[i]}" || return; done < <(loose "$1")
}

# fetch_loose OS FOLDER: LOOSE are their files then
fetch_loose() {
  local i file
  LOOSE=()
  mkdir -p -- "$2"
  while read -r i <&8; do
    file=$2/${FILE[i]##*/}
    if [[ ! -s $file ]]; then
      fetch_to "$file.part" "${SOURCE[i]}" "${SUM[i]}" || return
      mv -f -- "$file.part" "$file"
    fi
    LOOSE+=("$file")
  done 8< <(loose "$1")
}

# have_debs OS: the folder was laid whole; it holds each package that is asked for now, and every file is as its index says
have_debs() {
  local folder=$DIR/packages/$1 name version found
  [[ -s $folder/Packages && -s $folder/Packages.gz && -s $folder/Release ]] || return 1
  while IFS='=' read -r name version; do
    # shellcheck disable=SC2053 # the version may be a pattern
    while read -r found; do [[ $found != ${version:-*} ]] || continue 2; done < <(
      awk -v name="$name" '/^Package: / { here = ($2 == name) } here && /^Version: / { print $2 }' "$folder/Packages"
    )
    return 1
  done < <(words "$1")
  (cd -- "$folder" && awk '/^Filename: / { file = $2 } /^SHA256: / { print $2 "  " file }' Packages | sha256sum --check --status --strict)
}

have_rpms() {
  local folder=$DIR/packages/$1 word files
  [[ -s $folder/repodata/repomd.xml ]] || return 1
  while read -r word; do
    files=("$folder/$word"-[0-9]*.rpm "$folder/$word"[-.]*.rpm) # by its name, or by name and version
    ((${#files[@]})) || return 1
  done < <(words "$1")
}

# makers OS: a line "NAME KEY SOURCE" for each repository of payload.tsv, beside the distribution's own
makers() {
  local i
  for i in "${!KIND[@]}"; do
    if [[ ${KIND[i]} == repository && ${OS[i]} == "$1" ]]; then printf '%s %s %s\n' "${NAME[i]}" "${FILE[i]}" "${SOURCE[i]}"; fi
  done
}

# distribution OS: the same for Debian and Ubuntu themselves; the key is a package
distribution() {
  local name
  case $1 in
    debian-12) name=bookworm ;;
    debian-13) name=trixie ;;
    ubuntu-22.04) name=jammy ;;
    ubuntu-24.04) name=noble ;;
    *) return 1 ;;
  esac
  if [[ $1 == debian-* ]]; then
    printf 'debian-archive-keyring - %s main\n' "https://deb.debian.org/debian $name" "https://deb.debian.org/debian $name-updates" \
      "https://deb.debian.org/debian-security $name-security"
  else
    printf 'ubuntu-archive-keyring - %s main universe\n' "http://archive.ubuntu.com/ubuntu $name" "http://archive.ubuntu.com/ubuntu $name-updates" \
      "http://security.ubuntu.com/ubuntu $name-security"
  fi
}

# keyring NAME: its file, also under the names that the makers' own instructions use
keyring() {
  local folder file
  for folder in "${KEYRINGS[@]}"; do
    for file in "$folder/$1".{gpg,asc} "$folder/$1-apt-keyring".{gpg,asc}; do
      if [[ -s $file ]]; then printf '%s\n' "$file"; return; fi
    done
  done
  return 1
}

# how_to_get KEYRING KEY: for a person
how_to_get() {
  case $1 in
    debian-archive-keyring) echo "install the package debian-archive-keyring" ;;
    ubuntu-archive-keyring) echo "install the package ubuntu-keyring" ;;
    *) echo "lay $2, once you trust it, at ${KEYRINGS[0]}/$1.asc" ;;
  esac
}

# lay_apt_sources OS FOLDER: the one file of sources that apt reads
lay_apt_sources() {
  local given=${SOURCES[$1]-} lines name key rest file
  if [[ $given ]]; then
    if grep -qiE '^types:' -- "$given"; then cp -- "$given" "$2/given.sources"; else cp -- "$given" "$2/given.list"; fi
    return
  fi
  lines=$(distribution "$1" && makers "$1") || { give_up "no sources are known for $1" "name a sources.list: --sources $1=FILE"; return; }
  while read -r name key rest; do
    file=$(keyring "$name") || { give_up "the keyring $name is not in ${KEYRINGS[*]}" "$(how_to_get "$name" "$key"), or name sources of your own: --sources $1=FILE"; return; }
    printf 'deb [arch=%s signed-by=%s] %s\n' "$ARCH" "$file" "$rest"
  done <<<"$lines" >"$2/stowage.list"
}

# apt_of FOLDER ARGUMENTS...: apt-get with an empty system below FOLDER: nothing counts as installed, and nothing of this machine's is
# touched. Of its configuration the proxies, logins and keys have a say; its hooks have not.
apt_of() {
  local folder=$1
  shift
  cat >"$folder/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
#clear APT::Default-Release;
Dir "$folder/";
Dir::State "state";
Dir::State::status "$folder/status";
Dir::State::extended_states "$folder/extended_states";
Dir::Cache "cache";
Dir::Etc "etc";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$folder/etc/sources.list.d";
Dir::Etc::trusted "/etc/apt/trusted.gpg";
Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
Dir::Log "log";
APT::Architecture "$ARCH";
APT::Architectures:: "$ARCH";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
  bounded apt-get -c "$folder/apt.conf" -y -q "$@"
}

# fetch_debs OS: resolved against an empty system, so that no host lacks what this machine happens to have
fetch_debs() {
  local os=$1 folder=$WORK/$1 asked file sum
  has apt-get || { give_up "apt-get is missing" "run this on a Debian or Ubuntu machine, or in a container of one: --only packages --os $os"; return; }
  has apt-ftparchive || has dpkg-scanpackages || { give_up "neither apt-ftparchive nor dpkg-scanpackages is here" "install the package apt-utils or dpkg-dev"; return; }
  rm -rf -- "${folder:?}"/{etc,none,new}
  mkdir -p -- "$folder"/{etc/sources.list.d,etc/preferences.d,state/lists/partial,cache/archives/partial,none/partial,log,new}
  : >"$folder/status"
  lay_apt_sources "$os" "$folder/etc/sources.list.d" || return
  fetch_loose "$os" "$folder/loose" || return
  mapfile -t asked < <(words "$os")
  asked+=("${LOOSE[@]}")
  tried apt_of "$folder" update || { give_up_log "apt-get update"; return; }
  # The whole list, as if nothing had been fetched yet: 'address' name size sum
  apt_of "$folder" -qq -o Dir::Cache::archives="$folder/none" --print-uris install "${asked[@]}" >"$folder/uris" 2>"$WORK/log" </dev/null ||
    { give_up_log "apt-get install"; return; }
  tried apt_of "$folder" --download-only install "${asked[@]}" || { give_up_log "apt-get download"; return; }
  while read -r _ file _ sum; do
    if [[ -e $folder/loose/$file ]]; then continue; fi # it is given by path, below
    file=$folder/cache/archives/$file
    [[ -f $file ]] || { give_up "${file##*/} is in a source of the kind file:, from which apt fetches nothing" "write copy: instead of file: in its sources"; return; }
    copy "$file" "$folder/new" || { give_up "no room for ${file##*/}"; return; }
    # apt looks at sums as it fetches, at sizes only of what an earlier run has left
    if [[ $sum == SHA256:* && $(sum_of "$file") != "${sum#*:}" ]]; then
      rm -f -- "$file"
      give_up "${file##*/} is not what the repository promised" "run this again: it is fetched anew"
      return
    fi
  done <"$folder/uris"
  for file in "${LOOSE[@]}"; do copy "$file" "$folder/new" || { give_up "no room for ${file##*/}"; return; }; done
  (index_debs "$folder/new") 2>"$WORK/log" || { give_up_log "the index could not be made"; return; }
  put_folder "$folder/new" "packages/$os"
}

# copy FILE FOLDER: a hard link will do
copy() { ln -- "$1" "$2/" 2>/dev/null || cp -- "$1" "$2/"; }

# index_debs FOLDER: a flat repository. Release is written here, for the tools put the time into theirs.
index_debs() {
  local file
  cd -- "$1" || return
  if has apt-ftparchive; then apt-ftparchive packages . >Packages || return
  else dpkg-scanpackages --multiversion . /dev/null >Packages || return; fi
  gzip -9 -n -k Packages || return
  {
    printf 'Origin: stowage\nLabel: stowage\nArchitectures: %s all\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n' "$ARCH"
    for file in Packages Packages.gz; do printf ' %s %s %s\n' "$(sum_of "$file")" "$(stat -c %s "$file")" "$file"; done
  } >Release
}

# fetch_rpms OS: "dnf install" that only downloads looks at signatures; "dnf download" and dnf 5 do not
fetch_rpms() {
  local os=$1 folder=$WORK/$1 asked repositories here="run this on a $1 machine, or as root in a container of it: --only packages --os $1"
  has dnf || { give_up "dnf is missing" "$here"; return; }
  [[ $(dnf --version 2>/dev/null) != dnf5* ]] || { give_up "dnf 5 looks at no signature of what it only downloads" "$here"; return; }
  ((EUID == 0)) || { give_up "dnf wants root for an empty system" "run this as root"; return; }
  has createrepo_c || { give_up "createrepo_c is missing" "install the package createrepo_c"; return; }
  rm -rf -- "${folder:?}"/{repos.d,rpms/repodata}
  mkdir -p -- "$folder"/{root,repos.d,rpms}
  if [[ ${SOURCES[$os]-} ]]; then
    cp -- "${SOURCES[$os]}" "$folder/repos.d/given.repo"
    repositories=$folder/repos.d
  elif [[ $(this_os) == "$os" ]]; then
    lay_dnf_sources "$os" >"$folder/repos.d/stowage.repo"
    repositories=/etc/yum.repos.d,$folder/repos.d
  else give_up "this machine is $(this_os), its repositories are not those of $os" "name them: --sources $os=FILE.repo, or $here"; return; fi
  fetch_loose "$os" "$folder/loose" || return
  mapfile -t asked < <(words "$os")
  asked+=("${LOOSE[@]}")
  tried bounded dnf -y --installroot="$folder/root" --releasever="${os#*-}" --forcearch=x86_64 --setopt=reposdir="$repositories" \
    --setopt=cachedir="$folder/cache" --setopt=install_weak_deps=False --setopt=skip_if_unavailable=False \
    --downloadonly --destdir="$folder/rpms" install "${asked[@]}" || { give_up_log "dnf"; return; }
  if ((${#LOOSE[@]})); then cp -- "${LOOSE[@]}" "$folder/rpms/" || { give_up "no room for ${LOOSE[*]##*/}"; return; }; fi
  tried createrepo_c --quiet "$folder/rpms" || { give_up_log "createrepo_c"; return; }
  put_folder "$folder/rpms" "packages/$os"
}

# lay_dnf_sources OS: the makers' repositories. The distribution's are this machine's own.
lay_dnf_sources() {
  local name key source
  makers "$1" | while read -r name key source; do
    printf '[stowage-%s]\nname=%s\nbaseurl=%s\nenabled=1\ngpgcheck=1\ngpgkey=%s\n' "$name" "$name" "$source" "$key"
  done
}

# this_os: as an inventory calls it
this_os() (
  ID=linux VERSION_ID=''
  # shellcheck source=/dev/null
  if [[ -r /etc/os-release ]]; then . /etc/os-release; fi
  if [[ $ID =~ ^(rhel|rocky|almalinux)$ ]]; then VERSION_ID=${VERSION_ID%%.*}; fi
  printf '%s-%s\n' "${ID,,}" "$VERSION_ID"
)

# put_folder NEW PATH: a folder of packages is there as a whole or not at all
put_folder() {
  if mkdir -p -- "$DIR/packages" && rm -rf -- "${DIR:?}/$2" && mv -- "$1" "$DIR/$2"; then return; fi
  give_up "cannot be laid at $DIR/$2"
}

# --- the work --------------------------------------------------------------------------------------------------------

read_options() {
  while (($#)); do
    case $1 in
      --help | -h) usage; exit 0 ;;
      --plan) PLAN=1; shift; continue ;;
      --os | --only | --with | --sources | --keyrings | --plain-http) (($# > 1)) || wrong_usage "$1 wants a value" ;;
      -*) wrong_usage "no option is named $1" ;;
      *)
        [[ -z $DIR && $1 ]] || wrong_usage "one DIR is wanted, not two: $DIR $1"
        DIR=$1
        shift
        continue ;;
    esac
    case $1 in
      --os) WANTED_OS+=("$2") ;;
      --only) [[ $2 =~ ^(images|packages|files)$ ]] || wrong_usage "--only takes images, packages or files, not $2"; ONLY=$2 ;;
      --with) [[ $2 =~ ^(skopeo|docker|podman|ctr)$ ]] || wrong_usage "--with takes skopeo, docker, podman or ctr, not $2"; TOOL=$2 ;;
      --sources)
        [[ $2 =~ ^[a-z0-9][a-z0-9.-]*=. ]] || wrong_usage "--sources takes OS=FILE, not $2"
        [[ -f ${2#*=} && -r ${2#*=} ]] || wrong_usage "--sources: there is no file ${2#*=}"
        SOURCES[${2%%=*}]=${2#*=} ;;
      --keyrings) [[ -d $2 ]] || wrong_usage "--keyrings: there is no folder $2"; KEYRINGS=("$(cd -P -- "$2" && pwd)") ;;
      --plain-http) PLAIN+=("$2") ;;
    esac
    shift 2
  done
  [[ $DIR ]] || wrong_usage "the DIR to fill is missing"
}

# open_folder: one run at a time; what a killed one has left running counts, until it ends
open_folder() {
  if [[ $DIR != /* ]]; then DIR=$PWD/$DIR; fi
  # apt's configuration and its sources know no escape for these
  [[ $DIR != *[\"\\]* && ! $DIR =~ [[:cntrl:]] ]] || die "DIR has a quote, a backslash or a control character in its name" "take another one"
  WORK=$DIR/.fetch
  [[ ! $PLAN ]] || return 0
  mkdir -p -- "$WORK" || die "cannot make $WORK" "take a DIR that you may write to"
  if has flock; then
    exec 9>"$WORK/running"
    flock -n 9 || die "another fetch works in $DIR" "wait until it has ended"
  fi
}

# say_sources OS: under --plan, where its packages come from
say_sources() {
  local name key source
  if [[ ${SOURCES[$1]-} ]]; then
    printf 'packages of %s: from the sources in %s\n' "$1" "${SOURCES[$1]}"
    return
  fi
  if ! is_debian "$1"; then printf 'packages of %s: from the repositories that this machine has, which must be one\n' "$1"; fi
  { if is_debian "$1"; then distribution "$1" || :; fi; makers "$1"; } | while read -r name key source; do
    printf 'packages of %s: from %s\n' "$1" "$source"
    if ! is_debian "$1"; then printf '  signed by %s\n' "$key"
    elif keyring "$name" >/dev/null; then printf '  signed by %s\n' "$(keyring "$name")"
    else printf '  its keyring %s is missing: %s\n' "$name" "$(how_to_get "$name" "$key")"; fi
  done
}

main() {
  local i os systems=() things=()
  read_options "$@"
  read_rows
  for os in "${WANTED_OS[@]}"; do
    [[ $(words "$os") ]] || die "payload.tsv wants no packages for $os" "name one of these: $(WANTED_OS=() && systems | tr '\n' ' ')"
  done
  open_folder
  if [[ ! $ONLY || $ONLY == packages ]]; then mapfile -t systems < <(systems); fi
  for i in "${!KIND[@]}"; do
    case ${KIND[i]}:${FILE[i]%%/*}:$ONLY in image:images: | image:images:images | file:files: | file:files:files) things+=("$i") ;; esac
  done
  TOTAL=$((${#systems[@]} + ${#things[@]}))
  if [[ ! $ONLY || $ONLY == images ]] && [[ " ${KIND[*]} " == *' image '* ]]; then choose_tool; fi
  if [[ $PLAN ]]; then
    for os in "${systems[@]}"; do say_sources "$os"; done
    if [[ $TOOL ]]; then printf 'images: with %s\n' "$TOOL"; fi
  fi
  for os in "${systems[@]}"; do
    thing "packages of $os ($(words "$os" | wc -l) named)" "packages/$os" have_packages fetch_packages "$os"
  done
  for i in "${things[@]}"; do
    if [[ ${KIND[i]} == image ]]; then thing "image ${NAME[i]}" "${FILE[i]}" have_image fetch_image "${NAME[i]}" "${SOURCE[i]}" "${FILE[i]}"
    else thing "file ${NAME[i]}" "${FILE[i]}" have_file fetch_file "${NAME[i]}" "${SOURCE[i]}" "${FILE[i]}" "${SUM[i]}"; fi
  done
  if [[ $PLAN ]]; then
    printf 'plan: %d to fetch, %d there already, nothing was fetched\n' "$FETCHED" "$KEPT"
  elif ((${#FAILED[@]})); then
    printf 'error: %d of %d could not be fetched:\n' "${#FAILED[@]}" "$TOTAL" >&2
    printf '  %s\n' "${FAILED[@]}" >&2
    printf '  remedy: put right what is said above, then run this again: it fetches what is missing\n' >&2
    exit 1
  else
    rm -rf -- "$WORK"
    printf '%d fetched, %d there already. Next: stowage lock INVENTORY --payload %q\n' "$FETCHED" "$KEPT" "$DIR"
  fi
}

main "$@"
