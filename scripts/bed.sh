# shellcheck shell=bash
#
# The test bed of scripts/soak and scripts/crash: a cluster of one node on this machine, of the real binaries, beside
# whatever else runs here. To be sourced, after lib.sh:
#
#     bed_begin NAME      one run at a time; removes what an earlier run left; at the script's end, removes what this one did
#     bed_start           controller, agent and proxy, joined and ready; LAP_URL and LAP_TOKEN are set
#
# All that it makes is in BED ($STATE/NAME) or carries the cluster's label or the name lapt_PID, so that it can be found
# again after a kill -9.

# The tests' list of clusters to remove, see scripts/test.
: "${LAPSTRAKE_TEST_CLUSTERS:=}"

# bed_begin NAME
bed_begin() {
    local other
    BED=$STATE/$1
    readonly BED
    mkdir -p "$BED"
    chmod 700 "$BED"
    if other=$(remembered_process "$BED/script"); then
        die "another scripts/$1 is running here (pid $other)"
    fi
    bed_clear
    mkdir -p "$BED"
    remember_process $$ "$BED/script"
    on_exit bed_end
}

bed_end() {
    if [[ -n ${KEEP:-} ]]; then
        note "kept as asked: $BED; the next run removes it"
        bed_stop
        return 0
    fi
    bed_clear || return 1
    stop_docker_if_started
}

# bed_clear: removes what this run, or an earlier one, made.
bed_clear() {
    local cluster pid
    bed_stop
    if cluster=$(bed_cluster) && [[ -n $cluster ]]; then
        remove_cluster "$cluster" || {
            warn "the cluster's containers stay, and so does $BED, by which the next run finds them"
            return 1
        }
    fi
    if pid=$(cat "$BED/made-by" 2>/dev/null); then
        nft delete table inet "lapt_$pid" 2>/dev/null || true
        if docker_answers; then
            docker image rm "lapstrake-hello:lapt-$pid-v1" "lapstrake-hello:lapt-$pid-v2" >/dev/null 2>&1 || true
        fi
    fi
    rm -rf "$BED"
}

# bed_stop: ends every process of the bed: first those that would start others anew.
bed_stop() {
    local file pid
    for file in "$BED"/*.keeper "$BED"/*.pid; do
        if pid=$(remembered_process "$file"); then
            end_session "$pid" 10
        fi
        rm -f "$file"
    done
}

# bed_cluster: what the store calls itself, read from its token.
bed_cluster() { cut -d _ -f 2 "$BED/controller/operator.token" 2>/dev/null; }

# in_background NAME COMMAND...: in a session of its own, with a log; remembered, so that it ends with the bed.
in_background() {
    local name=$1
    shift
    setsid "$@" >>"$BED/$name.log" 2>&1 </dev/null &
    remember_process $! "$BED/$name.pid" || true
}

# ---------------------------------------------------------------------------------------------------------------------

# free_port: one that nobody listens on, below those that the kernel gives to connections (from 32768).
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if [[ -z $(ss -Hltn "sport = :$port") && " ${PORTS[*]:-} " != *" $port "* ]]; then
            PORTS+=("$port")
            return 0
        fi
    done
}

# free_pool: a range of addresses that no route of this machine leads into, in POOL. The usual one is for real nodes.
free_pool() {
    local second
    for second in $(shuf --input-range 210-250); do
        if ! ip -4 route show | grep -q "^10\.$second\."; then
            POOL=10.$second.0.0/16
            return 0
        fi
    done
    die 'no range of addresses from 10.210.0.0/16 to 10.250.0.0/16 is free'
}

# bed_configure: writes the three configurations.
bed_configure() {
    local PORTS=() POOL
    free_port
    free_port
    free_port
    free_pool
    PROXY_PORT=${PORTS[2]}
    echo $$ >"$BED/made-by"
    cat >"$BED/controller.toml" <<TOML
state_dir = "$BED/controller"
api_listen = "127.0.0.1:${PORTS[0]}"
control_listen = "127.0.0.1:${PORTS[1]}"
control_address = "127.0.0.1:${PORTS[1]}"
TOML
    cat >"$BED/agent.toml" <<TOML
name = "bed"
state_dir = "$BED/agent"
run_dir = "$BED/run"
[network]
nft_table = "lapt_$$"
pool = "$POOL"
TOML
    cat >"$BED/proxy.toml" <<TOML
listen = ["127.0.0.1:$PROXY_PORT"]
control_dir = "$BED/run/proxy"
table_file = "$BED/agent/routes.json"
TOML
    export LAP_URL=https://127.0.0.1:${PORTS[0]}
    CONTROL=127.0.0.1:${PORTS[1]}
}

fail_with_log() {
    warn "$1; the end of $BED/$2.log:"
    tail -n 20 "$BED/$2.log" >&2 || true
    exit 1
}

lap() { "$BIN/lap" "$@"; }
controller_answers() { lap version; }
# shellcheck disable=SC2317 # called by its name
node_is_ready() { lap node show bed -o json | grep -q '"liveness": *"ready"'; }

# start_controller and start_agent may be given by the script, to start them in another way.
start_controller() { in_background controller "$BIN/lapstrake-controller" run --config "$BED/controller.toml"; }
start_agent() { in_background agent "$BIN/lapstrake-agent" run --config "$BED/agent.toml"; }

# keep NAME COMMAND...: runs the command, and again a second after it was killed. Its pid is in BED/NAME.process, and a
# line is added to BED/NAME.deaths each time. Whether and where it kills itself it reads from BED/NAME.order.
keep() {
    : >"$BED/$1.deaths"
    # shellcheck disable=SC2016 # for the other shell to expand
    in_background "$1" env LAPSTRAKE_CRASH_AT="@$BED/$1.order" bash -c '
        bed=$1 name=$2
        shift 2
        while :; do
            "$@" </dev/null &
            echo $! >"$bed/$name.process"
            wait $!
            status=$?
            ((status == 137)) || exit $status
            date +%s.%N >>"$bed/$name.deaths"
            sleep 1
        done' keep "$BED" "$@"
}

deaths() { wc -l <"$BED/$1.deaths"; }
has_died() { (($(deaths "$1") > $2)); }

# The phases of a replacement in their order. Some last a millisecond only; what is past is reached.
readonly PHASES=(accepted pulling emptying starting ready switched overlapping draining)

# reach PHASE: returns when a replacement of the node is in this phase or a later one, by the agent's ledger: the first to
# know.
reach() {
    local phase wanted='' deadline=$((SECONDS + 15))
    for phase in "${PHASES[@]}"; do
        [[ -z $wanted && $phase != "$1" ]] || wanted+=${wanted:+|}$phase
    done
    # An ended replacement stays in the ledger until the next one of its slot.
    [[ $1 != 'done' ]] || { reach draining && wanted='done'; }
    until grep -qE "\"phase\": *\"($wanted)\"" "$BED/agent/ledger.json"; do
        ((SECONDS < deadline)) || return 1
    done
}

# bed_start: a cluster with one ready node that is given to shop/production and shop/staging.
bed_start() {
    local token
    bed_configure
    start_controller
    wait_until 30 "the first operator's token" test -s "$BED/controller/operator.token" ||
        fail_with_log 'the controller did not start' controller
    [[ -z $LAPSTRAKE_TEST_CLUSTERS ]] || bed_cluster >>"$LAPSTRAKE_TEST_CLUSTERS"
    LAP_TOKEN=$(cat "$BED/controller/operator.token")
    export LAP_TOKEN
    wait_until 30 'the controller' controller_answers || fail_with_log 'the controller does not answer' controller
    lap app create shop
    token=$(lap node token create --env shop/production --name bed -o json | sed -n 's/.*"token": *"\([^"]*\)".*/\1/p')
    "$BIN/lapstrake-agent" join "$token" --controller "$CONTROL" --config "$BED/agent.toml"
    in_background proxy "$BIN/lapstrake-proxy" --config "$BED/proxy.toml"
    start_agent
    wait_until 30 'the node to be ready' node_is_ready || fail_with_log 'the node did not get ready' agent
    lap env attach-node shop/staging bed
}

# build_binaries: unless there are some.
build_binaries() { [[ -n ${LAPSTRAKE_BIN:-} ]] || cargo build --workspace --bins; }

# bed_images: the sample in two versions, under names of this run, in V1 and V2.
# shellcheck disable=SC2034 # for the scripts that source this
bed_images() {
    V1=$(hello_image "lapt-$$-v1")
    V2=$(hello_image "lapt-$$-v2")
}

# start_load FILE: 500 requests per second and 20 WebSockets, until stop_load; the report goes to FILE.
start_load() {
    in_background load "$BIN/lapstrake-load" run --url "http://127.0.0.1:$PROXY_PORT/" \
        --host web-production-shop.localhost --rate 500 --new-connections 12% --websockets 20 --until-signal --report "$1"
    LOAD=$!
}

# stop_load: its exit code is the judge's business, who reads the report.
stop_load() {
    kill -TERM "$LOAD" 2>/dev/null || true
    wait "$LOAD" || true
    rm -f "$BED/load.pid"
}

service_answers() {
    curl --fail --silent --max-time 2 -H 'Host: web-production-shop.localhost' "http://127.0.0.1:$PROXY_PORT/"
}

need_bed() {
    ((EUID == 0)) || die 'the agent needs root, for Docker and for the firewall'"'"'s rules'
    need_packages docker.io nftables iproute2 iptables gcc libc6-dev curl
    need_rust
    need_docker
}
