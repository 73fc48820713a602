# shellcheck shell=bash
#
# What the scripts share: words on the screen, the machine's set-up, the sample image, and the removal of what a test or
# a demonstration left behind. To be sourced:
#
#     . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# It sets ROOT (the repository), STATE (ROOT/.local, not in git: pid files, logs, what was started by whom), TARGET (cargo's
# directory) and BIN (the binaries), goes to ROOT, and leaves the rest to the functions.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STATE=$ROOT/.local
ENGINE_STATE=$STATE/engine
TARGET=$ROOT/target
[[ -z ${CARGO_TARGET_DIR:-} ]] || TARGET=$(realpath -m "$CARGO_TARGET_DIR")
# The binaries to run; LAPSTRAKE_BIN names a folder of binaries that are built already.
BIN=${LAPSTRAKE_BIN:-$TARGET/debug}
readonly TARGET
export ROOT STATE TARGET BIN
# A plain `su` leaves out where Debian keeps dockerd, nft, ip and iptables.
PATH=$PATH:/usr/sbin:/sbin
cd "$ROOT"

# ---------------------------------------------------------------------------------------------------------------------
# Words. Steps and notes are for people; colour only where a terminal shows it and nobody objects (https://no-color.org).

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' RED='' GREEN='' PLAIN=''
fi
# shellcheck disable=SC2034 # for the scripts that source this
readonly BOLD DIM RED GREEN PLAIN

# How a script ends that could test nothing here, for a reason that it has said: neither passed nor failed.
# shellcheck disable=SC2034 # for the scripts that source this
readonly SKIPPED=77

step() { printf '\n%s==> %s%s\n' "$BOLD" "$*" "$PLAIN"; }
note() { printf '%s    %s%s\n' "$DIM" "$*" "$PLAIN"; }
warn() { printf '%swarning:%s %s\n' "$RED" "$PLAIN" "$*" >&2; }
die() {
    printf '%serror:%s %s\n' "$RED" "$PLAIN" "$*" >&2
    exit 1
}

# ---------------------------------------------------------------------------------------------------------------------
# Ends. `on_exit FUNCTION` runs it when the script ends, however it ends short of kill -9; the last one first.

ON_EXIT=()

on_exit() { ON_EXIT=("$1" "${ON_EXIT[@]}"); }

run_on_exit() {
    local status=$? end
    # A second Ctrl-C must not leave half of it undone.
    trap '' INT TERM HUP
    trap - EXIT
    for end in "${ON_EXIT[@]}"; do
        "$end" || warn "$end did not finish"
    done
    exit "$status"
}

trap run_on_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------------------------------------------------------------
# Processes that outlive a command. A pid alone may have been given to another process since; with its start time (in
# clock ticks since boot) and the boot's id it names one process for ever.

# process_name PID: a name that no other process ever has; nothing, and 1, if there is no such process.
process_name() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The second field is the command's name in parentheses and may hold spaces: cut behind the last parenthesis.
    # shellcheck disable=SC2086
    set -- "$1" ${stat##*) }
    [[ $2 != Z ]] || return 1
    printf '%s %s %s\n' "$1" "${21}" "$(cat /proc/sys/kernel/random/boot_id)"
}

# remember_process PID FILE
remember_process() { process_name "$1" >"$2"; }

# remembered_process FILE: its pid, if it is still the same process.
remembered_process() {
    local name
    [[ -s $1 ]] && read -r name <"$1" || return 1
    [[ $(process_name "${name%% *}") == "$name" ]] && printf '%s\n' "${name%% *}"
}

# end_process PID SECONDS: SIGTERM, then SIGKILL if it is still there after SECONDS.
end_process() {
    local deadline=$((SECONDS + $2))
    kill -TERM "$1" 2>/dev/null || return 0
    while process_name "$1" >/dev/null; do
        if ((SECONDS >= deadline)); then
            kill -KILL "$1" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
}

# session_members SID: the pids in a session.
session_members() {
    local file pid stat
    for file in /proc/[0-9]*/stat; do
        stat=$(cat "$file" 2>/dev/null) || continue
        pid=${stat%% *}
        # shellcheck disable=SC2086 # the fields behind the name: state, parent, group, session
        set -- "$1" ${stat##*) }
        [[ $5 != "$1" || $2 == Z ]] || printf '%s\n' "$pid"
    done
}

# end_session SID SECONDS: SIGTERM to its first group, whose members pass it on as they see fit; SIGKILL to everything in
# the session that is still there after SECONDS.
end_session() {
    local deadline=$((SECONDS + $2)) members
    kill -TERM -- "-$1" 2>/dev/null || true
    while mapfile -t members < <(session_members "$1") && ((${#members[@]})); do
        if ((SECONDS >= deadline)); then
            kill -KILL "${members[@]}" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
}

# wait_until SECONDS WHAT COMMAND...: runs COMMAND until it succeeds; says once a second that it waits for WHAT.
wait_until() {
    local limit=$1 what=$2 begin=$SECONDS said=0
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS - begin >= limit)); then
            return 1
        fi
        if ((SECONDS - begin > said)); then
            said=$((SECONDS - begin))
            note "waiting for $what: ${said} s of at most ${limit} s"
        fi
        sleep 0.2
    done
}

# ---------------------------------------------------------------------------------------------------------------------
# What the machine must have.

# package_is_there PACKAGE: by what it brings, so that Docker's own packages do for docker.io.
package_is_there() {
    case $1 in
        docker.io) command -v docker && { command -v dockerd || docker_answers; } ;;
        nftables) command -v nft || [[ -x /usr/sbin/nft ]] ;;
        iproute2) command -v ip || [[ -x /usr/sbin/ip ]] ;;
        iptables) command -v iptables || [[ -x /usr/sbin/iptables ]] ;;
        gcc) command -v cc ;;
        python3-venv) python3 -c 'import venv, ensurepip' ;;
        libc6-dev) printf 'int main(void){return 0;}' | cc -static -x c -o /dev/null - ;;
        busybox-static) command -v busybox && ! busybox_needs_libraries ;;
        ca-certificates) [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]] ;;
        *) command -v "$1" || dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
    esac >/dev/null 2>&1
}

busybox_needs_libraries() {
    local loader=/lib64/ld-linux-x86-64.so.2
    [[ -x $loader ]] || loader=/lib/ld-linux-aarch64.so.1
    "$loader" --list "$(command -v busybox)"
}

# need_packages PACKAGE...: Debian's names. Installs what is missing where it may, else says what to install.
need_packages() {
    local package missing=()
    for package in "$@"; do
        package_is_there "$package" || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    if ! command -v apt-get >/dev/null; then
        die "this machine lacks (by Debian's package names): ${missing[*]}. Install them and run this again"
    elif ((EUID != 0)); then
        die "packages are missing. Run: sudo apt-get install --yes ${missing[*]}"
    fi
    note "installing ${missing[*]}"
    install_packages "${missing[@]}"
    # From Debian 13 on the command is a package of its own.
    if [[ " ${missing[*]} " == *' docker.io '* ]] && ! command -v docker >/dev/null; then
        install_packages docker-cli
    fi
}

# install_packages PACKAGE...: quiet when all goes well. The lists are fetched only if they do not have them.
install_packages() {
    local log=$STATE/apt.log
    mkdir -p "$STATE"
    local install=(apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=120)
    DEBIAN_FRONTEND=noninteractive "${install[@]}" "$@" >"$log" 2>&1 && return
    apt-get update >"$log" 2>&1 || true
    DEBIAN_FRONTEND=noninteractive "${install[@]}" "$@" >>"$log" 2>&1 && return
    tail -n 15 "$log" >&2
    die "apt-get could not install: $*. Its whole output is in $log"
}

# need_rust: cargo of at least the version that the workspace asks for.
need_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    # Where rustup put it, if the shell does not know yet.
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null ||
        die "cargo is missing. Install Rust $wanted or newer, for example with rustup (https://rustup.rs), and run this again"
    have=$(cargo --version | cut -d ' ' -f 2)
    [[ $(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]] ||
        die "Rust $wanted or newer is needed, here is $have. With rustup: rustup update stable"
}

# ---------------------------------------------------------------------------------------------------------------------
# A Docker engine: the one that runs, or one that is started here and remembered in ENGINE_STATE.

docker_answers() { timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# need_docker: returns when an engine answers. DOCKER_HOST is respected.
need_docker() {
    need_packages docker.io
    if docker_answers; then
        return
    fi
    [[ -z ${DOCKER_HOST:-} ]] || die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST"
    ((EUID == 0)) || die "no Docker engine answers (or this user may not ask it). Run as root, or: sudo systemctl start docker; sudo usermod -aG docker $(id -un)"

    mkdir -p "$ENGINE_STATE"
    if [[ -d /run/systemd/system ]]; then
        note 'starting the Docker engine: systemctl start docker'
        systemctl start docker || die 'systemd could not start Docker. See: journalctl -u docker'
        echo systemd >"$ENGINE_STATE/started-by"
        wait_until 60 'the Docker engine' docker_answers || die 'the Docker engine did not come up. See: journalctl -u docker'
        return
    fi
    # Twice: an engine that was killed leaves a containerd that may still be dying, and the first new one trips over it.
    start_docker_engine || start_docker_engine || {
        tail -n 15 "$ENGINE_STATE/log" >&2
        die "the Docker engine did not come up. Its whole log is $ENGINE_STATE/log"
    }
}

# Starts dockerd without systemd, in a session of its own, so that it outlives this script. It starts its containerd.
# Returns when it answers, or fails when it ended or did not come up.
start_docker_engine() {
    local other
    other=$(cat /run/docker.pid 2>/dev/null || true)
    if [[ -n $other && $(cat "/proc/$other/comm" 2>/dev/null) == dockerd ]]; then
        # Just started, by the package's own script perhaps.
        wait_until 30 "the Docker engine that is there already (pid $other)" docker_answers && return
        die "a Docker engine is running (pid $other) but does not answer"
    fi
    # dockerd takes this socket for a running containerd, and would wait for ever if it was left by a dead one.
    if [[ -S /run/containerd/containerd.sock ]] && ! timeout 5 ctr version >/dev/null 2>&1; then
        rm -f /run/containerd/containerd.sock
    fi
    # Likewise a pid that is a zombie, or somebody else's by now.
    other=$(cat /run/docker/containerd/containerd.pid 2>/dev/null || true)
    if [[ -n $other ]] && ! { process_name "$other" && [[ $(cat "/proc/$other/comm") == containerd ]]; } >/dev/null 2>&1; then
        rm -f /run/docker/containerd/containerd.pid
    fi
    note "no Docker engine answers: starting one, its log is $ENGINE_STATE/log"
    # Its input, output and inherited descriptors are not ours: a lock or a pipe of ours must end with us.
    (
        close_descriptors
        exec setsid dockerd --pidfile "$ENGINE_STATE/pid" >"$ENGINE_STATE/log" 2>&1 </dev/null
    ) &
    local pid=$!
    disown "$pid"
    echo dockerd >"$ENGINE_STATE/started-by"
    remember_process "$pid" "$ENGINE_STATE/process" || return 1
    wait_until 60 'the Docker engine' engine_is_decided "$pid" && docker_answers
}

# Whether an engine answers, or will not any more.
engine_is_decided() { ! process_name "$1" || docker_answers; }

close_descriptors() {
    local descriptor
    for descriptor in /proc/self/fd/*; do
        descriptor=${descriptor##*/}
        ((descriptor <= 2)) || eval "exec $descriptor>&-" 2>/dev/null || true
    done
}

# stop_docker_if_started: stops the engine if need_docker started it, in this run or in one that was killed, and nothing
# runs in it any more.
stop_docker_if_started() {
    local pid by
    by=$(cat "$ENGINE_STATE/started-by" 2>/dev/null) || return 0
    if docker_answers && [[ -n $(docker ps --quiet) ]]; then
        note 'the Docker engine that was started here still runs containers: it stays'
        return 0
    fi
    case $by in
        systemd) systemctl stop docker.service docker.socket ;;
        dockerd)
            if pid=$(remembered_process "$ENGINE_STATE/process"); then
                note 'stopping the Docker engine that was started here'
                end_process "$pid" 30
            fi
            ;;
    esac
    rm -f "$ENGINE_STATE/started-by" "$ENGINE_STATE/process" "$ENGINE_STATE/pid"
}

# ---------------------------------------------------------------------------------------------------------------------
# The sample service as an image.

host_triple() { rustc --version --verbose | sed -n 's/^host: //p'; }

# build_hello: the sample as one static binary, at $(hello_binary). Its target directory is its own, since other flags
# would build everything anew. The prefixes keep this machine's paths out of it.
build_hello() {
    local flags=(
        -Ctarget-feature=+crt-static -Cstrip=symbols
        "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" "--remap-path-prefix=$ROOT=/lapstrake"
    )
    local encoded
    encoded=$(printf '%s\x1f' "${flags[@]}")
    CARGO_ENCODED_RUSTFLAGS=${encoded%$'\x1f'} cargo build --quiet --package hello \
        --target "$(host_triple)" --target-dir "$TARGET/static"
}

hello_binary() { printf '%s/static/%s/debug/hello\n' "$TARGET" "$(host_triple)"; }

# hello_image VERSION [NAME=VALUE...]: builds lapstrake-hello:VERSION and prints that name. NAME=VALUE are baked into it
# as environment: `hello_image v3-bad FAIL=unhealthy`. Nothing is pulled. The classic builder, as BuildKit is a plugin
# that not every client has.
hello_image() {
    local version=$1 context image=lapstrake-hello:$1 output setting
    shift
    # Always: a binary that an older tree left would be taken for this one.
    build_hello
    context=$(mktemp -d "$TARGET/static/image.XXXXXX")
    cp "$(hello_binary)" "$context/hello"
    {
        cat "$ROOT/examples/hello/Dockerfile"
        for setting in "$@"; do
            printf 'ENV %s="%s"\n' "${setting%%=*}" "${setting#*=}"
        done
    } >"$context/Dockerfile"
    output=$(DOCKER_BUILDKIT=0 docker build --build-arg VERSION="$version" --tag "$image" "$context" 2>&1) || {
        rm -rf "$context"
        printf '%s\n' "$output" >&2
        die "docker could not build $image"
    }
    rm -rf "$context"
    printf '%s\n' "$image"
}

# ---------------------------------------------------------------------------------------------------------------------
# Removing what clusters leave on a machine.

# remove_cluster ID: every container, with its volumes, and every network that carries the cluster's label. An engine that
# does not answer is started; fails when there is none, and then the caller keeps the id, or nobody would find them again.
remove_cluster() {
    local ids label=label=dev.lapstrake.cluster=$1
    docker_answers || (need_docker) || return 1
    mapfile -t ids < <(docker ps --all --quiet --no-trunc --filter "$label")
    ((${#ids[@]} == 0)) || docker rm --force --volumes "${ids[@]}" >/dev/null
    mapfile -t ids < <(docker network ls --quiet --no-trunc --filter "$label")
    ((${#ids[@]} == 0)) || docker network rm "${ids[@]}" >/dev/null
}
