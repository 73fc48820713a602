# shellcheck shell=bash
#
# Docker Swarm for scripts/bench: an engine of its own, with a data folder of its own and in a network namespace of its own,
# so that the machine's engine stays as it is. To be sourced, after lib.sh and bed.sh.

swarm_docker() { docker --host "unix://$BED/swarm/docker.sock" "$@"; }
swarm_answers() { timeout 5 docker --host "unix://$BED/swarm/docker.sock" version >/dev/null 2>&1; }
swarm_is_decided() { swarm_answers || ! remembered_process "$BED/swarm-engine.pid"; }
swarm_namespace() { echo "lapt-$(cat "$BED/swarm/made-by")"; }

# start_swarm_engine: with the image V1, as a swarm of one node.
start_swarm_engine() {
    note 'starting an engine of its own for Docker Swarm'
    mkdir -p "$BED/swarm"
    echo $$ >"$BED/swarm/made-by"
    begin_swarm_engine
    docker save "$V1" | swarm_docker load >/dev/null
    swarm_docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1 >/dev/null
}

begin_swarm_engine() {
    local namespace
    namespace=$(swarm_namespace)
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    # The machine's engine's own configuration is not for this one.
    echo '{}' >"$BED/swarm/daemon.json"
    # Not `ip netns exec`: that hides the control groups. The storage driver is that of the machine's engine.
    in_background swarm-engine nsenter --net="/run/netns/$namespace" unshare --mount dockerd \
        --config-file "$BED/swarm/daemon.json" --data-root "$BED/swarm/data" --exec-root "$BED/swarm/exec" \
        --pidfile "$BED/swarm/pid" --host "unix://$BED/swarm/docker.sock" \
        --storage-driver "$(docker info --format '{{.Driver}}')"
    wait_until 60 'the engine' swarm_is_decided && swarm_answers || fail_with_log 'the engine did not start' swarm-engine
}

# stop_swarm_engine: with everything in it.
stop_swarm_engine() {
    [[ -e $BED/swarm/made-by ]] || return 0
    if swarm_answers; then
        # Its tasks end with the swarm, or are ended here.
        swarm_docker swarm leave --force >/dev/null 2>&1 || true
        swarm_docker ps --all --quiet | xargs --no-run-if-empty docker --host "unix://$BED/swarm/docker.sock" rm --force >/dev/null || true
    fi
    local pid
    if pid=$(remembered_process "$BED/swarm-engine.pid"); then end_session "$pid" 20; fi
    rm -f "$BED/swarm-engine.pid"
    ip netns delete "$(swarm_namespace)" 2>/dev/null || true
    rm -rf "$BED/swarm"
}

# recover_swarm_engine FOLDER: of a run that was killed, whose containers run on without an engine.
recover_swarm_engine() {
    local BED=$1 pid
    [[ -e $BED/swarm/made-by ]] || return 0
    note 'removing what an earlier run left in its engine for Docker Swarm'
    if pid=$(remembered_process "$BED/script"); then die "another scripts/bench is running here (pid $pid)"; fi
    if ! swarm_answers; then
        ip netns delete "$(swarm_namespace)" 2>/dev/null || true
        begin_swarm_engine
    fi
    stop_swarm_engine
}

# swarm_running COUNT: whether so many tasks run. From the engine itself: the client would take longer.
swarm_running() {
    local tasks
    tasks=$(curl --silent --unix-socket "$BED/swarm/docker.sock" 'http://docker/tasks')
    # Each task has its own state and the wanted one.
    [[ $(grep -o '"State":"running"' <<<"$tasks" | wc -l) == "$1" ]]
}

swarm_is_empty() { [[ -z $(swarm_docker ps --all --quiet) ]]; }

# swarm_service COUNT: creates services of so many replicas, waits until all run, removes them; prints the milliseconds.
# Only whether they run, as the image has nothing to be asked with: less than the others wait for.
swarm_service() {
    local begun name names=(a) took capability flags=(--cap-drop ALL)
    (($1 <= 32)) || names=(a b)
    for capability in CHOWN DAC_OVERRIDE FOWNER SETUID SETGID KILL NET_BIND_SERVICE; do flags+=(--cap-add "$capability"); done
    begun=$(now_ms)
    for name in "${names[@]}"; do
        swarm_docker service create --quiet --detach --no-resolve-image --name "$name" --replicas $(($1 / ${#names[@]})) \
            --init --restart-condition none --limit-cpu "0.$(printf %03d "$(cpu_of "$1")")" --limit-memory "${MEMORY_MIB}M" --limit-pids 512 \
            --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 --no-healthcheck "${flags[@]}" "$V1" >/dev/null
    done
    until swarm_running "$1"; do
        (($(now_ms) - begun < 300000)) || die 'the swarm did not get there within 5 min'
        sleep 0.02
    done
    took=$(($(now_ms) - begun))
    swarm_docker service rm "${names[@]}" >/dev/null
    until swarm_is_empty; do sleep 0.2; done
    echo $took
}
