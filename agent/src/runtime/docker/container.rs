//! Making and starting containers, with the hardening that every job gets.

use super::{DockerRuntime, WORK, wire, within};
use crate::config::Logs;
use crate::runtime::{BoundFile, Look, RunOrder, RuntimeError};
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount,
    MountType, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions};
use std::collections::HashMap;

/// What stays of the capabilities. nginx and PostgreSQL need these to start as root, own their folders and become an
/// ordinary user; nothing that a service does needs more.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"];
/// A host name may not be longer (RFC 1123).
const HOSTNAME_LIMIT: usize = 63;

impl DockerRuntime {
    pub(super) async fn make_and_start(&self, order: &RunOrder) -> Result<(), RuntimeError> {
        match self.make(order).await {
            Ok(()) => {}
            Err(RuntimeError::NameTaken(said)) => {
                if self.clear_corpse(order, said).await? {
                    return Ok(());
                }
                self.make(order).await?;
            }
            Err(error) => return Err(error),
        }
        let name = wire::container_name(order.attempt);
        let docker = self.engine().await?;
        match within(WORK, "start", docker.start_container(&name, None::<StartContainerOptions>)).await {
            // The container is there, so the engine misses something else: a network, an executable's file.
            Err(RuntimeError::NotThere(said) | RuntimeError::NoSuchImage(said) | RuntimeError::NameTaken(said)) => {
                Err(RuntimeError::Refused(said))
            }
            other => other,
        }
    }

    async fn make(&self, order: &RunOrder) -> Result<(), RuntimeError> {
        let name = wire::container_name(order.attempt);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let body = self.body(order);
        match within(WORK, "create", self.engine().await?.create_container(Some(options), body)).await {
            Ok(_) => Ok(()),
            Err(RuntimeError::NotThere(said)) => Err(RuntimeError::Refused(said)),
            Err(error) => Err(error),
        }
    }

    /// The name is taken: by ourselves, before a crash or a lost answer. Whether the container has been started already;
    /// if not, it was removed, because a start may have failed halfway.
    async fn clear_corpse(&self, order: &RunOrder, said: String) -> Result<bool, RuntimeError> {
        let Some(found) = self.inspect(order.attempt).await? else { return Ok(false) };
        if found.owner != Some(self.owner) {
            return Err(RuntimeError::Refused(format!("a container that is not ours has the name: {said}")));
        }
        match found.look {
            Look::Running { .. } | Look::Exited { .. } => Ok(true),
            // A start that was cut off may have begun the command. What is to run once is not made again then.
            Look::Created if runs_once(order) => Err(RuntimeError::Refused(
                "the container was made before; whether its command began is not known".into(),
            )),
            Look::Created => {
                let options = RemoveContainerOptionsBuilder::default().v(true).force(true).build();
                let removal = self.engine().await?.remove_container(&found.id, Some(options));
                match within(WORK, "remove", removal).await {
                    Ok(()) | Err(RuntimeError::NotThere(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn body(&self, order: &RunOrder) -> ContainerCreateBody {
        let spec = &order.run.spec;
        let network = self.network_name(order.run.environment);
        let address = EndpointIpamConfig { ipv4_address: Some(order.address.to_string()), ..Default::default() };
        let endpoint = EndpointSettings { ipam_config: Some(address), ..Default::default() };
        ContainerCreateBody {
            hostname: Some(hostname(order)),
            image: Some(order.run.image.pinned().to_owned()),
            cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
            env: Some(order.environment().into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(wire::labels(self.owner, order)),
            // The checks are ours; the image's own would start a process in the container at every interval.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
            host_config: Some(host_config(order, &network, &self.logs)),
            networking_config: Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network, endpoint)])) }),
            ..Default::default()
        }
    }
}

/// Whether this is a one-off job's container: these have slots of their own kinds.
fn runs_once(order: &RunOrder) -> bool {
    matches!(order.slot.target.as_str(), "run" | "release")
}

fn host_config(order: &RunOrder, network: &str, logs: &Logs) -> HostConfig {
    let spec = &order.run.spec;
    let memory = i64::try_from(spec.size.memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        network_mode: Some(network.to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        cap_drop: Some(vec!["ALL".into()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".into()]),
        pids_limit: Some(i64::from(spec.size.pids)),
        memory: Some(memory),
        // Memory and swap together: no swap, or the limit would be no limit.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::from(spec.size.cpu_milli) * 1_000_000),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".into()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), format!("{}m", logs.max_size_mib)),
                ("max-file".to_owned(), logs.max_files.to_string()),
            ])),
        }),
        init: Some(spec.init),
        readonly_rootfs: Some(spec.read_only),
        mounts: Some(order.given.files.iter().map(mount).collect()),
        ..Default::default()
    }
}

/// A file of the machine in the container. Bound, not copied: a copy would be on the engine's disk.
fn mount(file: &BoundFile) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(file.source.to_string_lossy().into_owned()),
        target: Some(file.path.clone()),
        read_only: Some(true),
        ..Default::default()
    }
}

/// `web-1`: what a person in the container's shell wants to see.
fn hostname(order: &RunOrder) -> String {
    let number = format!("-{}", order.slot.number);
    let service = &order.run.path.service;
    let kept: String = service.chars().take(HOSTNAME_LIMIT - number.len()).collect();
    kept + &number
}
