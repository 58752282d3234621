# shellcheck shell=bash
# lay.sh: the files and units that a step changes, and the way back. Sourced by lib.sh, never run.
#
# The first backup of a path wins for ever: backup/NN/had/PATH is a copy, backup/NN/not/PATH says that there was none. A second one,
# previous/NN, holds what ran before this run, until reload_changed takes the new files as good. backup/NN/laid lists what was laid,
# units the states of units before us, made the directories that we made. All of it is written before the change that it is for.

ROW=-                 # `row` while lay goes through files.tsv: what lies there for a row goes with the row
declare -A PENDING=() # unit -> the changed files that it has not read yet

# keep ROOT PATH: remembers PATH as it is, the first time only: had/PATH is a copy, not/PATH says that there was none.
keep() {
  if [[ -e $1/had$2 || -L $1/had$2 || -e $1/not$2 ]]; then return; fi
  local kind=not
  (umask 077 && mkdir -p "$1")
  rm -rf -- "$1/tmp"
  if [[ -e $2 || -L $2 ]]; then kind=had; cp -a -- "$2" "$1/tmp"; else : >"$1/tmp"; fi
  [[ -L $1/tmp ]] || sync -- "$1/tmp"
  mkdir -p "$(dirname "$1/$kind$2")"
  mv -fT -- "$1/tmp" "$1/$kind$2"
}

# beside PATH: name of the temporary file that is renamed to PATH; always the same, so that a kill leaves one at most.
beside() { printf '%s/.%s.stowage' "$(dirname "$1")" "$(basename "$1")"; }

# relabel PATH: the SELinux type of its place, where there is SELinux.
relabel() { if command -v selinuxenabled >/dev/null && selinuxenabled; then restorecon -F "$1"; fi; }

# put_back ROOT PATH: PATH as keep found it.
put_back() {
  local tmp
  if [[ -e $1/not$2 ]]; then rm -f -- "$2"; return; fi
  tmp=$(beside "$2")
  rm -f -- "$tmp"
  mkdir -p "$(dirname "$2")"
  cp -a -- "$1/had$2" "$tmp"
  mv -fT -- "$tmp" "$2"
}

# pend UNIT PATH: UNIT has to read PATH again; on disk, so that a kill before the reload is made good by the next run.
pend() {
  local unit
  for unit in "$1" "$([[ $2 != /etc/systemd/system/* ]] || echo systemd)"; do
    if [[ -z $unit || $unit == - ]]; then continue; fi
    PENDING[$unit]+=" $2"
    [[ $PLAN ]] || printf '%s\n' "$2" >>"$VAR/pending/${STEP:?}/$unit"
  done
}

# parents PATH: makes its missing directories (0755) and remembers them for restore.
parents() {
  local directory
  directory=$(dirname "$1")
  if [[ -d $directory ]]; then return; fi
  parents "$directory"
  printf '%s\n' "$directory" >>"$BACKUP/made"
  mkdir -m 0755 "$directory"
}

# place HOW PATH MODE OWNER UNIT <bytes: backup first, then a whole new file by rename.
place() {
  local tmp record
  tmp=$(beside "$2")
  record="$2"$'\t'"$5"$'\t'"$1"$'\t'"$ROW"
  keep "$BACKUP" "$2"
  keep "$PREVIOUS" "$2"
  grep -Fxq -- "$record" "$BACKUP/laid" 2>/dev/null || printf '%s\n' "$record" >>"$BACKUP/laid"
  parents "$2"
  rm -f -- "$tmp"
  (umask 077 && cat >"$tmp") || { rm -f -- "$tmp"; die "cannot write $2" "see what is said above, then run this again"; }
  chown -- "$4" "$tmp"
  chmod -- "$3" "$tmp"
  sync -- "$tmp"
  pend "$5" "$2" # before the rename: a kill between them must not lose the reload
  mv -fT -- "$tmp" "$2"
  relabel "$2"
}

# is_laid PATH MODE OWNER: a regular file with this mode and owner.
is_laid() { [[ -f $1 && ! -L $1 && $(stat -c '%04a %U:%G' -- "$1") == "$2 $3" ]]; }

# lay_file SOURCE PATH MODE OWNER UNIT: PATH gets the bytes of SOURCE, if it does not have them.
lay_file() {
  [[ -f $1 ]] || die "files.tsv names $1, which is not there" "copy the host folder again"
  if cmp -s -- "$1" "$2" && is_laid "$2" "$3" "$4"; then return; fi
  [[ -z $PLAN ]] || pend "$5" "$2"
  act "lay $2" place file "$2" "$3" "$4" "$5" <"$1"
}

# lay_text PATH MODE OWNER UNIT TEXT: PATH gets TEXT and a newline. TEXT may be secret: it is in no command line, and MODE holds from the first byte on.
lay_text() {
  if printf '%s\n' "$5" | cmp -s -- - "$1" && is_laid "$1" "$2" "$3"; then return; fi
  [[ -z $PLAN ]] || pend "$4" "$1"
  act "lay $1" place "${HOW:-file}" "$1" "$2" "$3" "$4" < <(printf '%s\n' "$5")
}

# with_block PATH TEXT: prints PATH with our block holding TEXT (none if empty), where it stood or at the end.
with_block() {
  B="# BEGIN stowage $CLUSTER" E="# END stowage $CLUSTER" T=$2 awk '
    function block() { if (ENVIRON["T"] != "" && !done++) print ENVIRON["B"] "\n" ENVIRON["T"] "\n" ENVIRON["E"] }
    $0 == ENVIRON["B"] { begun++; inside = 1; block(); next }
    $0 == ENVIRON["E"] { ended++; inside = 0; next }
    !inside { print }
    END { block(); exit begun != ended || inside }  # a begin without its end would cut what follows
  ' "$1"
}

# lay_block PATH MODE OWNER UNIT TEXT: our block in a file of someone else, whose mode and owner stay (MODE, OWNER: when there is none yet).
lay_block() {
  local path text mode=$2 owner=$3 HOW=block
  path=$(readlink -f -- "$1") # a rename must not turn a symbolic link into a file
  if [[ -e $path ]]; then
    mode=$(stat -c '%04a' -- "$path") owner=$(stat -c '%U:%G' -- "$path")
  fi
  text=$(with_block "$([[ -e $path ]] && echo "$path" || echo /dev/null)" "$5") ||
    die "$path has a begin or an end of our block without the other" "take the lines '# BEGIN stowage $CLUSTER' and '# END stowage $CLUSTER' out of it"
  lay_text "$path" "$mode" "$owner" "$4" "$text"
}

# lay_commented PATH PATTERN UNIT: lines of someone else's file that match the awk PATTERN become comments of ours.
lay_commented() {
  local text HOW=commented
  text=$(awk -v mark="# stowage $CLUSTER: " "!/^[[:space:]]*#/ && ($2) { print mark \$0; next } { print }" "$1")
  if [[ $text == "$(cat "$1")" ]]; then return; fi
  lay_text "$1" "$(stat -c '%04a' -- "$1")" "$(stat -c '%U:%G' -- "$1")" "$3" "$text"
}

# lay_login SOURCE PATH MODE OWNER UNIT: PATH gets the text of SOURCE with LOGIN (of the step) where it has @login@.
lay_login() {
  local text
  if [[ -z ${LOGIN-} ]]; then note "would lay $2"; return; fi # a plan without the secret
  text=$(cat -- "$1")
  lay_text "$2" "$3" "$4" "$5" "${text//@login@/$LOGIN}"
}

# lay: the rows of files.tsv with this step; rows of an older bundle that are gone are put back.
lay() {
  local source path mode owner step unit how
  local -A rows=()
  ROW=row
  while IFS=$'\t' read -r -u 8 source path mode owner step unit how; do
    if [[ $source == '#'* || $step != "$STEP" ]]; then continue; fi
    rows[$path]=1
    case $how in
      file) lay_file "$BUNDLE/$source" "$path" "$mode" "$owner" "$unit" ;;
      login) lay_login "$BUNDLE/$source" "$path" "$mode" "$owner" "$unit" ;;
      block) lay_block "$path" "$mode" "$owner" "$unit" "$(grep -vE '^# (BEGIN|END) stowage ' "$BUNDLE/$source")" ;;
      *) die "files.tsv: $path is to be laid as '$how', which these scripts do not know" ;;
    esac
  done 8<"$BUNDLE/files.tsv"
  ROW=-
  [[ -e $BACKUP/laid ]] || return 0
  while IFS=$'\t' read -r -u 8 path unit how step; do
    if [[ $step == row && -z ${rows[$path]-} && -z ${rows[$(readlink -f -- "$path")]-} ]]; then unlay "$path"; fi
  done 8< <(cat "$BACKUP/laid")
}

# unlay PATH: puts back one path that this step laid once; nothing, if it never did.
unlay() {
  local path unit how _
  [[ -e $BACKUP/laid ]] || return 0
  while IFS=$'\t' read -r -u 7 path unit how _; do
    if [[ $path != "$1" ]]; then continue; fi
    pend "$unit" "$path"
    act "take back $path" take_back "$path" "$how"
    if [[ $PLAN ]]; then continue; fi
    awk -F '\t' -v p="$path" '$1 != p' "$BACKUP/laid" >"$BACKUP/laid.new"
    mv -f -- "$BACKUP/laid.new" "$BACKUP/laid"
    rm -f -- "$BACKUP/had$path" "$BACKUP/not$path"
  done 7< <(cat "$BACKUP/laid")
}

# without_ours PATH HOW: prints a file of someone else without our block or with our comments taken off.
without_ours() {
  case $2 in
    block) with_block "$1" '' ;;
    commented) sed "s/^# stowage $CLUSTER: //" "$1" ;;
  esac
}

# take_back PATH HOW: the first backup; in a file that others have changed since, only what is ours goes.
take_back() {
  local now tmp
  if [[ $2 != file && -e $1 ]]; then
    now=$(without_ours "$1" "$2") || die "$1 has a begin or an end of our block without the other" "take the block out by hand"
    if [[ -n $now && $now != "$(cat "$BACKUP/had$1" 2>/dev/null)" ]]; then # a last newline aside
      note "$1 was changed by others since: only what is ours goes"
      tmp=$(beside "$1")
      cp -a -- "$1" "$tmp"
      printf '%s\n' "$now" >"$tmp"
      mv -fT -- "$tmp" "$1"
      return
    fi
  fi
  put_back "$BACKUP" "$1"
}

# lay_undo: what this run (or one that was killed) laid goes back to what ran before it; for a step whose test of the new files failed.
lay_undo() {
  local path
  if [[ ! -d $PREVIOUS ]]; then return; fi
  while IFS= read -r -d '' path; do put_back "$PREVIOUS" "/${path#*/}"; done < <(cd "$PREVIOUS" && find had not ! -type d -print0 2>/dev/null)
  rm -rf -- "$PREVIOUS" "$VAR/pending/$STEP"
  mkdir "$VAR/pending/$STEP"
  PENDING=()
}

# --- units -----------------------------------------------------------------------------------------------------------

# each_line CMD... -- PATH...: runs CMD with every line of the files that is no comment, as its last word.
each_line() {
  local line command=()
  while [[ $1 != -- ]]; do command+=("$1"); shift; done
  shift
  while read -r -u 6 line; do
    if [[ -n $line && $line != ['#;']* ]]; then "${command[@]}" "$line"; fi
  done 6< <(cat -- "$@")
}

# reload_one UNIT PATH...: makes a changed file count. nginx and keepalived keep their connections and their VIP: they reload.
reload_one() {
  case $1 in
    systemd) systemctl daemon-reload ;;
    modules) each_line modprobe -- "${@:2}" ;;
    sysctl) /usr/lib/systemd/systemd-sysctl "${@:2}" ;;
    tmpfiles) systemd-tmpfiles --create "${@:2}" ;;
    ufw.service) ufw reload ;;
    systemd-networkd.service) networkctl reload ;;
    nginx.service | keepalived.service | NetworkManager.service) systemctl try-reload-or-restart "$1" ;;
    *) systemctl try-restart "$1" ;; # most daemons read little on reload (docker: not its cgroup driver)
  esac
}

# reload_changed: tells every unit whose files changed; whatever was laid counts as good from here on (lay_undo has nothing left).
# A unit that does not run has nothing to forget: it reads its files when it starts.
reload_changed() {
  local unit path there
  for unit in systemd modules sysctl tmpfiles "${!PENDING[@]}"; do
    [[ -n ${PENDING[$unit]-} ]] || continue
    there=()
    for path in ${PENDING[$unit]}; do
      if [[ -e $path || $PLAN ]]; then there+=("$path"); fi # gone after a rollback
    done
    case $unit in
      modules | sysctl | tmpfiles) if ((${#there[@]})); then act "apply ${there[*]}" reload_one "$unit" "${there[@]}"; fi ;;
      systemd) act "reload systemd" reload_one systemd ;;
      *) if [[ $(unit_state "$unit") == *' active' ]]; then act "reload $unit" reload_one "$unit"; fi ;;
    esac
    unset "PENDING[$unit]"
    [[ $PLAN ]] || rm -f -- "$VAR/pending/$STEP/$unit"
  done
  [[ $PLAN ]] || rm -rf -- "$PREVIOUS"
}

# unit_state UNIT: prints "ENABLED ACTIVE" as systemctl words them; not-found where there is no such unit.
unit_state() {
  local enabled active # the exit status only repeats the word
  enabled=$(systemctl is-enabled "$1" 2>/dev/null) || [[ -n $enabled ]] || enabled=not-found
  active=$(systemctl is-active "$1" 2>/dev/null) || [[ -n $active ]] || active=inactive
  printf '%s %s\n' "${enabled%%$'\n'*}" "${active%%$'\n'*}"
}

# unit_keep UNIT: remembers its state for restore, the first time only.
unit_keep() {
  if [[ $PLAN ]] || grep -q "^$1 " "$BACKUP/units" 2>/dev/null; then return; fi
  printf '%s %s\n' "$1" "$(unit_state "$1")" >>"$BACKUP/units"
}

# unit_on UNIT [enable]: enables and starts it, each where it is not; with the word, enables only.
unit_on() {
  local enabled active
  unit_keep "$1"
  read -r enabled active <<<"$(unit_state "$1")"
  case $enabled in
    masked*) die "$1 is masked" "systemctl unmask $1" ;;
    enabled | static | indirect | generated | alias | transient) ;;
    *) act "enable $1" systemctl enable "$1" ;;
  esac
  if [[ ${2-} != enable && $active != active ]]; then act "start $1" systemctl start "$1"; fi
}

# unit_off UNIT: stops and masks it.
unit_off() {
  local enabled active
  unit_keep "$1"
  read -r enabled active <<<"$(unit_state "$1")"
  if [[ $active == active ]]; then act "stop $1" systemctl stop "$1"; fi
  if [[ $enabled != masked* ]]; then act "mask $1" systemctl mask "$1"; fi
}

# undo CMD...: to be said before a change that no function here knows: restore runs CMD (also a function of the step), the last one first.
undo() {
  local line
  line=$(printf '%q ' "$@")
  if [[ $PLAN ]] || grep -Fxq -- "$line" "$BACKUP/undo" 2>/dev/null; then return; fi
  printf '%s\n' "$line" >>"$BACKUP/undo"
}

# undo_all: runs what undo remembered. After a kill a command may run twice, so its failure is told, not fatal.
undo_all() {
  local line
  while IFS= read -r -u 7 line; do
    if [[ $PLAN ]]; then act "$line" true; continue; fi
    act "$line" eval "$line" || warn "this failed (it may have been undone before): $line"
    sed -i '$d' "$BACKUP/undo"
  done 7< <(tac "$BACKUP/undo" 2>/dev/null)
}

# restore: takes back what lay*, unit_on, unit_off and undo of this step did: units off that were off, bytes, modes and owners as before, units on that were on.
restore() {
  local path unit how _ enabled active
  if [[ ! -e $BACKUP/laid && ! -e $BACKUP/units && ! -e $BACKUP/undo ]]; then note "step $STEP has changed nothing here"; return; fi
  while read -r -u 7 unit enabled active; do
    if [[ $active != active && $(unit_state "$unit") == *' active' ]]; then act "stop $unit" systemctl stop "$unit"; fi
    # The RHEL family's nginx is killed after 5 s while somebody holds a connection, and counts as failed then: we ended it.
    if [[ $active != failed && $(unit_state "$unit") == *' failed' ]]; then act "forget how $unit ended" systemctl reset-failed "$unit"; fi
    if [[ $enabled != masked* && $(unit_state "$unit") == masked* ]]; then act "unmask $unit" systemctl unmask "$unit"; fi
    if [[ $enabled =~ ^(disabled|not-found)$ && $(unit_state "$unit") == 'enabled '* ]]; then act "disable $unit" systemctl disable "$unit"; fi
  done 7< <(tac "$BACKUP/units" 2>/dev/null)
  while IFS=$'\t' read -r -u 7 path unit how _; do
    pend "$unit" "$path"
    act "take back $path" take_back "$path" "$how"
  done 7< <(cat "$BACKUP/laid" 2>/dev/null)
  while read -r -u 7 path; do
    [[ $PLAN || ! -d $path ]] || rmdir --ignore-fail-on-non-empty -- "$path"
  done 7< <(tac "$BACKUP/made" 2>/dev/null)
  reload_changed
  undo_all
  while read -r -u 7 unit enabled active; do
    if [[ $enabled == enabled && $(unit_state "$unit") != 'enabled '* ]]; then act "enable $unit" systemctl enable "$unit"; fi
    if [[ $active == active && $(unit_state "$unit") != *' active' ]]; then act "start $unit" systemctl start "$unit"; fi
  done 7< <(cat "$BACKUP/units" 2>/dev/null)
  if [[ $PLAN ]]; then return; fi
  rm -rf -- "$BACKUP.old"
  mv -T -- "$BACKUP" "$BACKUP.old" # one rename: a kill leaves either the whole backup or none
  rm -rf -- "$BACKUP.old"
}
