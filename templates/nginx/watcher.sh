#!/bin/bash
# nginx-watcher: keeps API servers that do not answer out of nginx's upstream, and ends an nginx that hangs.
#
# nginx learns of a dead server only when a connection to it fails. A server that hangs accepts every connection,
# so nginx never learns. This asks each one for /readyz every INTERVAL seconds (any HTTP answer below 500 is
# alive: 401 and 403 come from a server that works) and rewrites the one file that nginx includes.
#
# Settings come from the environment (/etc/stowage/watcher.env); times are seconds, two decimals at most:
#   SEED  the list of servers that the bundle lays, never written here    LIVE  the file that nginx includes
#   INTERVAL  between two probes          TIMEOUT  of one probe
#   FALL      failures in a row, then it is down
#   RISE      a server must be good this long to be up again; twice as long each time it fails again within
#   RISE_MAX  after that, which is also the longest wait
#   RELOAD_INTERVAL  between two reloads, at least      UNIT  nginx's unit
#   CHECK_ADDRESS CHECK_PORT  nginx's own listener that answers "ok"
#
# While none is good, those stay in that answer at all, else all of them, and nginx then asks each of them every
# time (max_fails=0: it would not ask for fail_timeout after its own failures); the first that is good is in at once.
#
# What it does not do: it never starts nginx (a stopped one is left alone), and says only what changed. SIGTERM puts all servers
# back in first: with no watcher, nobody would notice that a server has recovered.
set -euo pipefail

: "${SEED:=/etc/nginx/stowage/apiserver.conf}" "${LIVE:=/run/nginx-stowage/apiserver.conf}"
: "${INTERVAL:=1}" "${TIMEOUT:=1}" "${FALL:=2}" "${RISE:=10}" "${RISE_MAX:=300}" "${RELOAD_INTERVAL:=5}"
: "${CHECK_ADDRESS:=127.0.0.1}" "${CHECK_PORT:=16444}" "${UNIT:=nginx.service}"

SERVER='^[[:space:]]*server[[:space:]]+([^[:space:];]+)[^;#]*;([[:space:]]*#[[:space:]]*(.*[^[:space:]]))?'

declare -a seed=()                        # the lines of SEED
declare -a servers=() labels=()           # address:port and name of each server; the arrays below have the same index
declare -a fails=() out=() good=() back=() hold=() # failures in a row; down?; good since; up since; how long to be good
declare -a sick=()                        # answers, but not well (HTTP 500 and more)?
any_in=1                                  # at the start of this round, was any server in?
mutes=0 kill_after=0 kill_hold=0          # nginx: silences in a row; when it may be killed (again); the wait after that
reload_after=0 reload_owed=''             # no reload before; nginx has not read LIVE yet
declare -A said=()                        # complaints that still hold

say() { printf '%s\n' "$*"; }
complain() { [[ ${said[$1]:-} ]] || say "$2"; said[$1]=1; }              # once, until `settled` says that it is over
settled() { [[ ! ${said[$1]:-} ]] || { unset "said[$1]"; say "$2"; }; }

# All times are hundredths of a second, for bash has no fractions; the clock is the time since boot, which no one sets.
now() { local up; read -r up _ </proc/uptime; NOW=$((10#${up/./})); }

settings() {
    local name fraction
    for name in INTERVAL TIMEOUT RISE RISE_MAX RELOAD_INTERVAL; do
        [[ ${!name} =~ ^([0-9]{1,6})(\.([0-9]{1,2}))?$ ]] || { say "$name: not a number of seconds: ${!name}" >&2; exit 2; }
        fraction=${BASH_REMATCH[3]:-}00
        printf -v "${name}_CS" %d $((10#${BASH_REMATCH[1]} * 100 + 10#${fraction:0:2}))
    done
    [[ $FALL =~ ^[1-9][0-9]?$ ]] || { say "FALL: not a small number: $FALL" >&2; exit 2; }
    ((INTERVAL_CS > 0 && TIMEOUT_CS > 0)) || { say "INTERVAL, TIMEOUT: must be above 0" >&2; exit 2; }
    kill_hold=$RISE_CS
}

# A server that LIVE has as down stays down until it has proved itself: a watcher that crashed and one whose
# list got a new member both go on where they were.
read_seed() {
    local -a lines=()
    local line is_down list i=0
    { mapfile -t lines <"$SEED"; } 2>/dev/null || :
    [[ ${lines[*]} != "${seed[*]}" || ! ${lines[*]} ]] || return 0
    for line in "${lines[@]}"; do if [[ $line =~ $SERVER ]]; then i=$((i + 1)); fi; done
    ((i)) || { complain seed "$SEED has no server line: the former list stays"; return 0; }
    is_down=$(sed -nE 's/^[[:space:]]*server[[:space:]]+([^[:space:];]+)[^;]* down;.*/\1/p' "$LIVE" 2>/dev/null || :)
    i=0 seed=("${lines[@]}") servers=() labels=() fails=() out=() good=() back=() hold=() sick=()
    for line in "${lines[@]}"; do
        [[ $line =~ $SERVER ]] || continue
        servers[i]=${BASH_REMATCH[1]} labels[i]="${BASH_REMATCH[3]:-server} ${BASH_REMATCH[1]}"
        fails[i]=0 out[i]='' good[i]='' back[i]='' sick[i]='' hold[i]=$RISE_CS
        [[ $'\n'$is_down$'\n' != *$'\n'"${servers[i]}"$'\n'* ]] || out[i]=1
        i=$((i + 1))
    done
    printf -v list '%s, ' "${labels[@]}"
    unset 'said[seed]'
    say "watching ${list%, }"
}

# One connection to nginx's own listener, in a child: prints ok; mute (accepted, silent: it hangs); or nothing
# (refused, closed, another answer: dead, starting or overloaded, all of which are systemd's or nobody's business).
ask_nginx() {
    local answer='' status=0
    { exec 3<>"/dev/tcp/$CHECK_ADDRESS/$CHECK_PORT"; } 2>/dev/null || return 0
    IFS= read -r -t "$TIMEOUT" answer <&3 2>/dev/null || status=$?
    if ((status > 128)); then echo mute; elif [[ $answer == ok ]]; then echo ok; fi
}

# One curl for all servers: it has timeouts of its own, reads the status line and is one process a round.
# The certificate is not verified: nothing secret is sent, and a load balancer has no cluster CA.
ask_servers() {
    local server
    local -a urls=()
    for server in "${servers[@]}"; do urls+=(-o /dev/null "https://$server/readyz"); done
    exec curl -q -gsk --noproxy '*' --http1.1 --parallel --parallel-immediate --max-time "$TIMEOUT" \
        -w '%{urlnum} %{http_code} %{exitcode}\n' "${urls[@]}" 2>/dev/null
}

# Sets REPLY to the next line of descriptor $1; fails at its end and at $deadline, whatever the writer does.
next_line() {
    local left
    now
    ((deadline > NOW)) || return 2
    printf -v left '%d.%02d' $(((deadline - NOW) / 100)) $(((deadline - NOW) % 100))
    IFS= read -r -t "$left" -u "$1" || { (($? <= 128)) || return 2; return 1; }
}

probe() {
    local api api_pid lb lb_pid deadline heard='' answer='' end=0
    exec {api}< <(ask_servers); api_pid=$!
    exec {lb}< <(ask_nginx); lb_pid=$!
    any_in=''
    for end in "${out[@]}"; do [[ $end ]] || any_in=1; done
    end=0
    now; deadline=$((NOW + TIMEOUT_CS + 50))
    while next_line "$api" || { end=$?; false; }; do
        [[ $REPLY =~ ^([0-9]{1,3})\ ([0-9]{3})\ ([0-9]+)$ ]] || continue
        heard=1
        judge "${BASH_REMATCH[@]:1}"
    done
    ((end == 1)) || kill -KILL "$api_pid" 2>/dev/null || :
    if [[ $heard ]]; then settled curl "curl works again"; else complain curl "curl gives no result: the API servers are not watched"; fi
    # What nginx said is read even when curl took all the time: silence is a reason to kill, a slow curl is none.
    now; ((deadline >= NOW + 10)) || deadline=$((NOW + 10))
    end=0
    if next_line "$lb"; then answer=$REPLY; else end=$?; fi
    # No end of file within the time: it hangs in connect, so a frozen nginx has filled its backlog.
    if ((end == 2)); then answer=mute; kill -KILL "$lb_pid" 2>/dev/null || :; fi
    exec {api}<&- {lb}<&-
    judge_nginx "$answer"
}

judge() {  # INDEX HTTP-STATUS CURL-EXIT
    local i=$1 why
    if ((10#$2 > 0 && 10#$2 < 500)); then
        fails[i]=0 sick[i]=''
        [[ ${out[i]} ]] || return 0
        [[ ${good[i]} ]] || good[i]=$NOW
        ((NOW - good[i] >= hold[i])) || [[ ! $any_in ]] || return 0
        out[i]='' back[i]=$NOW
        say "${labels[i]} is up: good for $(((NOW - good[i]) / 100)) s"
        return 0
    fi
    good[i]='' sick[i]=''
    ((10#$2 == 0)) || sick[i]=1
    fails[i]=$((fails[i] + 1))
    [[ ! ${out[i]} ]] && ((fails[i] >= FALL)) || return 0
    case $2-$3 in 000-28) why="no answer in $TIMEOUT s" ;; 000-7) why='no connection' ;; 000-*) why="curl error $3" ;; *) why="HTTP $2" ;; esac
    if [[ ${back[i]} ]] && ((NOW - back[i] < RISE_MAX_CS)); then hold[i]=$((hold[i] * 2)); else hold[i]=$RISE_CS; fi
    ((hold[i] <= RISE_MAX_CS)) || hold[i]=$RISE_MAX_CS
    out[i]=1
    say "${labels[i]} is down: $why, $FALL times; up again when it is good for $((hold[i] / 100)) s"
}

# A frozen process can't act on SIGTERM or SIGQUIT, so a restart would wait for all of the unit's stop timeouts.
# SIGKILL to all of the unit needs no consent; Restart= of the drop-in brings it back. An nginx that hangs again
# and again is killed ever more seldom.
judge_nginx() {
    case $1 in
    mute) mutes=$((mutes + 1)) ;;
    ok) mutes=0; ((NOW < kill_after + RISE_MAX_CS)) || kill_hold=$RISE_CS ;;
    *) mutes=0 ;;
    esac
    ((mutes >= FALL && NOW >= kill_after)) && nginx_runs || return 0
    say "nginx accepts connections but does not answer, $mutes times: killing it, $UNIT starts it again"
    control kill --signal=KILL "$UNIT" || say "could not kill $UNIT"
    mutes=0 kill_after=$((NOW + kill_hold)) kill_hold=$((kill_hold * 2))
    ((kill_hold <= RISE_MAX_CS)) || kill_hold=$RISE_MAX_CS
}

control() { timeout --kill-after=1 5 systemctl "$@" >/dev/null 2>&1; }
nginx_runs() { control is-active --quiet "$UNIT"; }

# Sets REPLY to what LIVE should hold: SEED, with ` down` for the servers that are out; when all are, for those
# that do not answer at all, and none when that is all.
wanted() {
    local line i any_good='' any_sick=''
    for i in "${!out[@]}"; do [[ ${out[i]} ]] || any_good=1; [[ ! ${sick[i]} ]] || any_sick=1; done
    REPLY='' i=0 taken_out=0
    for line in "${seed[@]}"; do
        if [[ $line =~ $SERVER ]]; then
            if [[ ${out[i]} && ( $any_good || ( $any_sick && ! ${sick[i]} ) ) ]]; then
                line=${line/;/ down;} taken_out=$((taken_out + 1))
            elif [[ ! $any_good ]]; then
                if [[ $line =~ max_fails=[0-9]+ ]]; then line=${line/"${BASH_REMATCH[0]}"/max_fails=0}; else line=${line/;/ max_fails=0;}; fi
            fi
            i=$((i + 1))
        fi
        REPLY+=$line$'\n'
    done
}

write_live() {  # a whole file or the former one, at any moment
    local new=${LIVE%/*}/.${LIVE##*/}.new
    { printf %s "$1" >"$new" && mv -f "$new" "$LIVE"; } 2>/dev/null || { complain live "cannot write $LIVE"; return 1; }
}

# Makes LIVE what it should be and nginx read it. LIVE is compared, not remembered: an edit or a loss of it heals.
# A stopped nginx reads LIVE when it starts. One that is just starting may have read the former LIVE, hence the
# debt; and `nginx -t` is not for then: it binds the ports that nginx is about to bind. While this one is stopped,
# systemd lets nginx's reload wait until that is done: waiting for the reload would be waiting for oneself.
apply() {
    local live='' want why taken_out owed=$reload_owed
    wanted; want=$REPLY
    { IFS= read -r -d '' live <"$LIVE"; } 2>/dev/null || :
    [[ $live != "$want" || $reload_owed ]] || return 0
    ((NOW >= reload_after)) || return 0
    reload_after=$((NOW + RELOAD_INTERVAL_CS))
    if [[ $live != "$want" ]]; then write_live "$want" || return 0; reload_owed=1; fi
    nginx_runs || return 0
    if ! why=$(timeout --kill-after=1 5 nginx -t -q 2>&1); then
        if [[ $live ]]; then write_live "$live" && reload_owed=$owed; fi
        complain test "nginx -t fails, the upstream stays as it was: ${why//$'\n'/; }"
        return 0
    fi
    settled test "nginx -t passes again"
    control reload ${ending:+--no-block} "$UNIT" || { complain reload "could not reload $UNIT"; return 0; }
    reload_owed=''
    unset 'said[live]' 'said[reload]'
    say "reloaded nginx: ${#servers[@]} API servers, $taken_out of them out"
}

all_in() {
    local i
    for i in "${!out[@]}"; do out[i]=''; done
    now; reload_after=0
    [[ ! ${seed[*]} ]] || apply
}

main() {
    local next left nap ending=''
    settings
    exec {nap}<> <(:)           # a pipe that no one writes to: reading it is a sleep without a process
    # Only a note: a trap runs within the `read` that it interrupts, with that one's IFS and timer.
    trap 'ending=1' TERM INT
    while [[ ! $ending ]]; do
        now; next=$((NOW + INTERVAL_CS))
        read_seed
        [[ ! ${seed[*]} ]] || { probe; apply; }
        now; ((next > NOW)) || continue
        printf -v left '%d.%02d' $(((next - NOW) / 100)) $(((next - NOW) % 100))
        read -r -t "$left" -u "$nap" || :
    done
    all_in
}

main
