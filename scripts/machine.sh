# shellcheck shell=bash
#
# A whole machine with systemd and a Docker engine of its own, as a container: where packages and units are tried for real.
# To be sourced, after lib.sh:
#
#     machine_image            builds $MACHINE_IMAGE unless it is there; it stays, so that a second run is fast
#     machine_start NAME       starts the machine NAME and waits until its systemd is up; its address is in MACHINE_ADDRESS
#     on_machine COMMAND...    runs a command on it
#     machine_restart          pulls its plug and starts it again
#     machine_remove NAME      removes it with all that was in it
#
# The name of the image carries what it is made of: another list of packages is another image. `docker image rm` it to have
# newer packages in it.

# What a node has before Lapstrake comes: what its packages depend on, so that installing them needs no network.
MACHINE_PACKAGES=(systemd systemd-sysv dbus docker.io nftables iproute2 iptables curl ca-certificates procps bash-completion)
MACHINE_IMAGE=lapstrake-machine:bookworm-$(printf '%s\n' "${MACHINE_PACKAGES[@]}" | sha256sum | cut -c -12)
readonly MACHINE_PACKAGES MACHINE_IMAGE

# machine_image: 40 s for debootstrap, about a minute for the packages.
machine_image() {
    local folder
    ! docker image inspect "$MACHINE_IMAGE" >/dev/null 2>&1 || return 0
    need_packages debootstrap
    note "building $MACHINE_IMAGE, once; it takes some minutes"
    mkdir -p "$STATE"
    # Left by a run that was killed.
    rm -rf --one-file-system "$STATE"/machine-root.*
    folder=$(mktemp -d "$STATE/machine-root.XXXXXX")
    debootstrap --variant=minbase bookworm "$folder" >"$STATE/debootstrap.log" 2>&1 || {
        rm -rf --one-file-system "$folder"
        tail -n 15 "$STATE/debootstrap.log" >&2
        die "debootstrap could not make a Debian. Its whole output is in $STATE/debootstrap.log"
    }
    tar --create --directory "$folder" --numeric-owner . | docker import - lapstrake-machine:base >/dev/null
    rm -rf --one-file-system "$folder"
    # The engine of a machine in a container has the outer engine's network below it, whose MTU may be smaller than usual;
    # nobody logs in to it on a console. The tarballs of man pages are left out by minbase's own configuration.
    DOCKER_BUILDKIT=0 docker build --tag "$MACHINE_IMAGE" - >"$STATE/machine-image.log" 2>&1 <<DOCKERFILE || {
FROM lapstrake-machine:base
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${MACHINE_PACKAGES[*]} \
 && rm -rf /usr/sbin/policy-rc.d /var/lib/apt/lists/* /var/cache/apt/*.bin \
 && mkdir -p /etc/docker && printf '{"mtu": 1400}\n' >/etc/docker/daemon.json \
 && systemctl mask systemd-firstboot.service systemd-networkd-wait-online.service getty.target console-getty.service systemd-logind.service apt-daily.timer apt-daily-upgrade.timer \
 && : >/etc/machine-id
CMD ["/sbin/init"]
DOCKERFILE
        tail -n 15 "$STATE/machine-image.log" >&2
        die "the machine's image could not be built. The whole output is in $STATE/machine-image.log"
    }
    docker image rm --no-prune lapstrake-machine:base >/dev/null 2>&1 || true
}

# machine_start NAME [DOCKER OPTION...]. --privileged would ask for capabilities that not every host may give.
machine_start() {
    local capability capabilities=()
    MACHINE=$1
    shift
    for capability in AUDIT_WRITE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE \
        MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_CHROOT \
        SYS_NICE SYS_PTRACE; do
        capabilities+=(--cap-add "$capability")
    done
    # A volume for the engine's own files: overlay file systems do not stand on each other.
    docker run --detach --name "$MACHINE" --hostname "${MACHINE_HOSTNAME:-$MACHINE}" "${capabilities[@]}" \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cgroupns=host \
        --volume /sys/fs/cgroup:/sys/fs/cgroup:rw --tmpfs /run --tmpfs /tmp --device /dev/net/tun --volume /var/lib/docker \
        "$@" "$MACHINE_IMAGE" >/dev/null
    machine_is_started
}

# machine_is_started: waits for systemd; MACHINE_ADDRESS is where it is reached.
machine_is_started() {
    wait_until 60 "systemd on $MACHINE" machine_is_up || {
        docker logs --tail 20 "$MACHINE" >&2 || true
        on_machine systemctl --failed >&2 || true
        die "the machine $MACHINE did not come up"
    }
    MACHINE_ADDRESS=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$MACHINE")
}

# Also `degraded`: what of Debian's own does not start in a container is not ours; the test looks at our units by name.
machine_is_up() { [[ $(docker exec "$MACHINE" systemctl is-system-running 2>/dev/null) =~ ^(running|degraded)$ ]]; }

on_machine() { docker exec --interactive "$MACHINE" "$@"; }

# machine_restart: as if the power went and came back; what is in /run and /tmp is gone.
machine_restart() {
    docker kill --signal KILL "$MACHINE" >/dev/null
    docker start "$MACHINE" >/dev/null
    machine_is_started
}

# machine_remove NAME
machine_remove() {
    ! docker container inspect "$1" >/dev/null 2>&1 || docker rm --force --volumes "$1" >/dev/null
}
