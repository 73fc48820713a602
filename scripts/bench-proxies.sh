# shellcheck shell=bash
#
# Proxies for scripts/bench: ours, HAProxy, nginx and Caddy in front of one nginx that serves two files, each of them with
# one worker on the same processor; the load and the files are on another. To be sourced, after lib.sh and bed.sh.

readonly OUR_SIDES=(ours haproxy nginx caddy)
readonly BENCH_HOST=web.example

need_proxies() {
    # The packages would start their daemons; a RUNLEVEL of 1 says that they must not.
    RUNLEVEL=1 need_packages haproxy nginx-light caddy nghttp2-client util-linux
}

# The processors: the last one for the proxies, the first one for everybody else. A machine with one has only that.
proxy_core() { echo $(($(nproc --all) - 1)); }

# start_proxies: sets PORT_OF[SIDE], for HTTP/1.1 and HTTP/2 on the same port, but for those that need one for each.
start_proxies() {
    local PORTS=() port P=()
    declare -gA H1_PORT H2_PORT
    for _ in {1..7}; do free_port; done
    P=("${PORTS[@]}")
    mkdir -p "$BED/proxies/www" "$BED/proxies/ours"
    head --bytes 1024 /dev/zero | tr '\0' a >"$BED/proxies/www/1k"
    head --bytes 20480 /dev/zero | tr '\0' a >"$BED/proxies/www/20k"
    H1_PORT=([ours]=${P[1]} [haproxy]=${P[2]} [nginx]=${P[4]} [caddy]=${P[6]})
    H2_PORT=([ours]=${P[1]} [haproxy]=${P[3]} [nginx]=${P[5]} [caddy]=${P[6]})
    write_files_server "${P[0]}"
    write_ours "${P[0]}"
    write_haproxy "${P[0]}"
    write_nginx "${P[0]}"
    write_caddy "${P[0]}"
    in_background files taskset --cpu-list 0 nginx -e "$BED/proxies/files.err" -c "$BED/proxies/files.conf"
    in_background side-ours taskset --cpu-list "$(proxy_core)" "$BIN/lapstrake-proxy" --config "$BED/proxies/ours.toml"
    in_background side-haproxy taskset --cpu-list "$(proxy_core)" haproxy -f "$BED/proxies/haproxy.cfg"
    in_background side-nginx taskset --cpu-list "$(proxy_core)" nginx -e "$BED/proxies/nginx.err" -c "$BED/proxies/nginx.conf"
    in_background side-caddy env HOME="$BED/proxies" XDG_DATA_HOME="$BED/proxies" XDG_CONFIG_HOME="$BED/proxies" \
        taskset --cpu-list "$(proxy_core)" caddy run --config "$BED/proxies/Caddyfile" --adapter caddyfile
    for port in "${P[@]}"; do
        wait_until 10 "port $port" answers_on "$port" || true
    done
}

answers_on() { [[ -n $(ss -Hltn "sport = :$1") ]]; }

nginx_begin() {
    local kind
    echo "daemon off; worker_processes 1; pid $BED/proxies/$1.pid; error_log $BED/proxies/$1.err;"
    echo "events { worker_connections 4096; }"
    echo "http { access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on; default_type application/octet-stream;"
    for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $BED/proxies/$1-$kind;"; done
}

write_files_server() {
    {
        nginx_begin files
        echo "open_file_cache max=10; server { listen 127.0.0.1:$1; root $BED/proxies/www; } }"
    } >"$BED/proxies/files.conf"
}

# A table as an agent would have written it.
write_ours() {
    local id=00000000000000000000000001
    cat >"$BED/proxies/ours.toml" <<TOML
listen = ["127.0.0.1:${H1_PORT[ours]}"]
control_dir = "$BED/proxies/ours"
table_file = "$BED/proxies/routes.json"
workers = 1
TOML
    cat >"$BED/proxies/routes.json" <<JSON
{"format":1,"generation":1,"node":"bench","routes":[{"host":"$BENCH_HOST","path":"/","service":"$id",
 "name":{"application":"shop","environment":"production","service":"web"},
 "backends":[{"job":"$id","address":"127.0.0.1:$1","weight":1}],"elsewhere":[]}]}
JSON
}

write_haproxy() {
    cat >"$BED/proxies/haproxy.cfg" <<CFG
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    option forwardfor
frontend web
    bind 127.0.0.1:${H1_PORT[haproxy]}
    bind 127.0.0.1:${H2_PORT[haproxy]} proto h2
    http-request set-header X-Forwarded-Proto http
    acl known hdr(host) $BENCH_HOST
    use_backend files if known
backend files
    server files 127.0.0.1:$1
CFG
}

write_nginx() {
    {
        nginx_begin nginx
        cat <<CONF
upstream files { server 127.0.0.1:$1; keepalive 64; keepalive_requests 1000000000; }
server {
    listen 127.0.0.1:${H1_PORT[nginx]};
    listen 127.0.0.1:${H2_PORT[nginx]} http2;
    server_name $BENCH_HOST;
    location / {
        proxy_pass http://files;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host \$host;
        proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto \$scheme;
    }
}
}
CONF
    } >"$BED/proxies/nginx.conf"
}

write_caddy() {
    cat >"$BED/proxies/Caddyfile" <<CADDY
{
    admin off
    auto_https off
    servers {
        protocols h1 h2c
    }
}
http://$BENCH_HOST:${H1_PORT[caddy]} {
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:$1
}
CADDY
}

# ask_proxy SIDE PROTOCOL SIZE RATE SECONDS LOG: sixteen connections; of HTTP/2, too, as from sixteen clients.
ask_proxy() {
    local port=${H1_PORT[$1]} protocol=--h1
    if [[ $2 == h2 ]]; then port=${H2_PORT[$1]} protocol=--npn-list=h2c; fi
    local flags=("$protocol")
    [[ $2 == h1 ]] || flags=()
    rm -f "$6"
    taskset --cpu-list 0 timeout $(($5 + 30)) h2load "${flags[@]}" -t 1 -c 16 -r 2 --rate-period 1ms --rps $(($4 / 16)) \
        -n $(($4 / 16 * 16 * $5)) --log-file "$6" --connect-to "127.0.0.1:$port" "http://$BENCH_HOST/$3" >"$BED/h2load.out" ||
        { cat "$BED/h2load.out" >&2 && die "h2load failed against $1"; }
}

# proxy_turn SIDE PROTOCOL SIZE RATE ROUND
proxy_turn() {
    local seconds=5 pids before used log=$BED/proxy.log measure=$2-$3-$4
    [[ -z $QUICK ]] || seconds=2
    mapfile -t pids < <(session_members "$(process_of "side-$1")")
    # What a start costs and the first connections to the files are not what is measured.
    ask_proxy "$1" "$2" "$3" "$4" 1 "$log"
    before=$(cpu_ns "${pids[@]}")
    ask_proxy "$1" "$2" "$3" "$4" $seconds "$log"
    used=$(($(cpu_ns "${pids[@]}") - before))
    sample "proxy-cpu-$measure" "$1" "$5" "$(awk "BEGIN { print $used / 1000 / ($4 / 16 * 16 * $seconds) }")"
    sample "proxy-p99-$measure" "$1" "$5" "$("$BENCH" p99 "$log")"
}

proxying() {
    local round protocol size rate turn begun=$SECONDS rates=(2000 4000) count=${#OUR_SIDES[@]}
    [[ -z $QUICK ]] || rates=(2000)
    start_proxies
    for protocol in h1 h2; do
        for size in 1k 20k; do
            for rate in "${rates[@]}"; do
                for ((round = 1; round <= ROUNDS; round++)); do
                    # Another one begins each time.
                    for ((turn = 0; turn < count; turn++)); do
                        proxy_turn "${OUR_SIDES[(turn + round) % count]}" $protocol $size "$rate" $round
                    done
                done
                note "$protocol $size $rate/s: $(medians "proxy-cpu-$protocol-$size-$rate") us of a processor a request; $((SECONDS - begun)) s"
            done
        done
    done
    for side in files side-ours side-haproxy side-nginx side-caddy; do stop $side; done
}

# medians MEASURE: of each side, to say how it goes.
medians() {
    local side
    for side in "${OUR_SIDES[@]}"; do
        printf '%s %.1f, ' "$side" "$(grep "^$1 $side " "$BED/samples" | cut -d ' ' -f 4 | sort -g | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }')"
    done | sed 's/, $//'
}
