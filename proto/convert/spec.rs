//! A service's spec.

use super::field::{self, Malformed, Why, list, required};
use crate::{limits, v1};
use lapstrake_core::spec::{
    Check, CheckKind, DeployPolicy, ImageSource, Port, Protocol, Pull, ServiceSpec, ServiceType, Size, Strategy,
    WhenCutOff,
};
use lapstrake_core::time::Millis;
use std::collections::BTreeMap;

/// An enum of the core and its mirror on the wire. A new variant does not compile until it is in the list.
macro_rules! mirror {
    ($core:ident { $($variant:ident),+ $(,)? }) => {
        impl From<$core> for v1::$core {
            fn from(core: $core) -> Self {
                match core {
                    $($core::$variant => v1::$core::$variant,)+
                }
            }
        }

        impl crate::convert::spec::Mirrored for $core {
            fn mirrored(field: &str, number: i32) -> Result<Self, crate::convert::Malformed> {
                match v1::$core::try_from(number) {
                    $(Ok(v1::$core::$variant) => Ok($core::$variant),)+
                    Ok(v1::$core::Unspecified) => Err(Malformed::new(field, crate::convert::Why::Missing)),
                    Err(_) => Err(Malformed::new(field, crate::convert::Why::UnknownValue(number))),
                }
            }
        }
    };
}
pub(super) use mirror;

/// An enum of the core, from the number on the wire.
pub(super) trait Mirrored: Sized {
    fn mirrored(field: &str, number: i32) -> Result<Self, Malformed>;
}

/// An enum's value that has to be there.
pub(super) fn value<T: Mirrored>(field: &str, number: i32) -> Result<T, Malformed> {
    T::mirrored(field, number)
}

mirror!(ServiceType { Web, Worker });
mirror!(Pull { Registry, Local });
mirror!(Protocol { Http, Tcp, H2c });
mirror!(Strategy { Rolling, Recreate, BlueGreen, Canary });
mirror!(WhenCutOff { Keep, Stop });

impl From<ServiceSpec> for v1::ServiceSpec {
    fn from(core: ServiceSpec) -> Self {
        v1::ServiceSpec {
            r#type: v1::ServiceType::from(core.service_type).into(),
            image: Some(core.image.into()),
            command: core.command,
            size: Some(core.size.into()),
            scale: core.scale,
            ports: core.ports.into_iter().map(Into::into).collect(),
            health: core.health.into_iter().map(Into::into).collect(),
            deploy: Some(core.deploy.into()),
            env: core.env,
            replace_after_ms: core.replace_after.0,
            when_cut_off: v1::WhenCutOff::from(core.when_cut_off).into(),
            init: core.init,
            read_only: core.read_only,
        }
    }
}

impl TryFrom<v1::ServiceSpec> for ServiceSpec {
    type Error = Malformed;
    fn try_from(wire: v1::ServiceSpec) -> Result<Self, Malformed> {
        Ok(ServiceSpec {
            service_type: value("type", wire.r#type)?,
            image: required("image", wire.image)?,
            command: field::texts("command", wire.command, limits::ARGUMENTS, field::argument)?,
            size: required("size", wire.size)?,
            scale: wire.scale,
            ports: list("ports", wire.ports, limits::PORTS)?,
            health: list("health", wire.health, limits::PORTS)?,
            deploy: required("deploy", wire.deploy)?,
            env: variables("env", wire.env)?,
            replace_after: Millis(wire.replace_after_ms),
            when_cut_off: value("when_cut_off", wire.when_cut_off)?,
            init: wire.init,
            read_only: wire.read_only,
            // A node is told the values that were bound, not where they were looked for.
            secrets: BTreeMap::new(),
            files: BTreeMap::new(),
            // Where a job is placed was decided before its node heard of it.
            constraints: Vec::new(),
        })
    }
}

/// Variables of a process: a name has no `=` in it, or it would be another name's value.
fn variables(name: &str, wire: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Malformed> {
    field::length(name, wire.len(), limits::ARGUMENTS)?;
    for (variable, value) in &wire {
        // The refusal shows no value and no name: both came from somebody's configuration.
        let refusal = |why| Malformed::new(name, why);
        if variable.is_empty() {
            return Err(refusal(Why::Empty));
        }
        if let Some(c) = variable.chars().find(|c| c.is_control() || *c == '=') {
            return Err(refusal(Why::Character(c)));
        }
        if value.contains('\0') {
            return Err(refusal(Why::Character('\0')));
        }
        // The process gets `NAME=value` as one text.
        field::length(name, variable.len() + 1 + value.len(), limits::ARGUMENT_BYTES)?;
    }
    Ok(wire)
}

impl From<ImageSource> for v1::ImageSource {
    fn from(core: ImageSource) -> Self {
        v1::ImageSource { reference: core.reference, pull: v1::Pull::from(core.pull).into() }
    }
}

impl TryFrom<v1::ImageSource> for ImageSource {
    type Error = Malformed;
    fn try_from(wire: v1::ImageSource) -> Result<Self, Malformed> {
        Ok(ImageSource { reference: field::reference("reference", wire.reference)?, pull: value("pull", wire.pull)? })
    }
}

impl From<Size> for v1::Size {
    fn from(core: Size) -> Self {
        v1::Size { cpu_milli: core.cpu_milli, memory_bytes: core.memory_bytes, pids: core.pids }
    }
}

impl TryFrom<v1::Size> for Size {
    type Error = Malformed;
    fn try_from(wire: v1::Size) -> Result<Self, Malformed> {
        Ok(Size { cpu_milli: wire.cpu_milli, memory_bytes: wire.memory_bytes, pids: wire.pids })
    }
}

impl From<Port> for v1::Port {
    fn from(core: Port) -> Self {
        v1::Port {
            port: core.port.into(),
            protocol: v1::Protocol::from(core.protocol).into(),
            path_prefix: core.path,
            public: core.public,
            host: core.host,
        }
    }
}

impl TryFrom<v1::Port> for Port {
    type Error = Malformed;
    fn try_from(wire: v1::Port) -> Result<Self, Malformed> {
        Ok(Port {
            port: field::port("port", wire.port)?,
            protocol: value("protocol", wire.protocol)?,
            path: wire.path_prefix.map(|path| field::url_path("path_prefix", path)).transpose()?,
            public: wire.public,
            host: wire.host.map(|host| field::host("host", host)).transpose()?,
        })
    }
}

impl From<Check> for v1::Check {
    fn from(core: Check) -> Self {
        use v1::check::Kind;
        let kind = match core.kind {
            CheckKind::Http { port, path } => Kind::Http(v1::HttpCheck { port: port.into(), path }),
            CheckKind::Tcp { port } => Kind::Tcp(v1::TcpCheck { port: port.into() }),
            CheckKind::Grpc { port, service } => Kind::Grpc(v1::GrpcCheck { port: port.into(), service }),
            CheckKind::Exec { command } => Kind::Exec(v1::ExecCheck { command }),
        };
        v1::Check {
            kind: Some(kind),
            interval_ms: core.interval.0,
            timeout_ms: core.timeout.0,
            grace_ms: core.grace.0,
            restart_after: core.restart_after,
        }
    }
}

impl TryFrom<v1::Check> for Check {
    type Error = Malformed;
    fn try_from(wire: v1::Check) -> Result<Self, Malformed> {
        Ok(Check {
            kind: required("kind", wire.kind)?,
            interval: Millis(wire.interval_ms),
            timeout: Millis(wire.timeout_ms),
            grace: Millis(wire.grace_ms),
            restart_after: field::at_least_one("restart_after", wire.restart_after)?,
        })
    }
}

impl TryFrom<v1::check::Kind> for CheckKind {
    type Error = Malformed;
    fn try_from(wire: v1::check::Kind) -> Result<Self, Malformed> {
        use v1::check::Kind;
        Ok(match wire {
            Kind::Http(http) => CheckKind::Http {
                port: field::port("http.port", http.port)?,
                path: field::url_path("http.path", http.path)?,
            },
            Kind::Tcp(tcp) => CheckKind::Tcp { port: field::port("tcp.port", tcp.port)? },
            Kind::Grpc(grpc) => CheckKind::Grpc {
                port: field::port("grpc.port", grpc.port)?,
                service: field::visible("grpc.service", grpc.service, limits::URL_PATH_BYTES)?,
            },
            Kind::Exec(exec) if exec.command.is_empty() => {
                return Err(Malformed::new("exec.command", Why::Empty));
            }
            Kind::Exec(exec) => CheckKind::Exec {
                command: field::texts("exec.command", exec.command, limits::ARGUMENTS, field::argument)?,
            },
        })
    }
}

impl From<DeployPolicy> for v1::DeployPolicy {
    fn from(core: DeployPolicy) -> Self {
        v1::DeployPolicy {
            strategy: v1::Strategy::from(core.strategy).into(),
            overlap_ms: core.overlap.0,
            drain_ms: core.drain.0,
            stop_grace_ms: core.stop_grace.0,
            min_healthy_ms: core.min_healthy.0,
            timeout_ms: core.timeout.0,
            max_surge: core.max_surge,
            max_attempts: core.max_attempts,
            max_unavailable: core.max_unavailable,
        }
    }
}

impl TryFrom<v1::DeployPolicy> for DeployPolicy {
    type Error = Malformed;
    fn try_from(wire: v1::DeployPolicy) -> Result<Self, Malformed> {
        Ok(DeployPolicy {
            strategy: value("strategy", wire.strategy)?,
            overlap: Millis(wire.overlap_ms),
            drain: Millis(wire.drain_ms),
            stop_grace: Millis(wire.stop_grace_ms),
            min_healthy: Millis(wire.min_healthy_ms),
            timeout: Millis(wire.timeout_ms),
            max_surge: match (wire.max_unavailable, value("strategy", wire.strategy)?) {
                // It replaces one slot at a time whatever the numbers say.
                (0, Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary) => {
                    field::at_least_one("max_surge", wire.max_surge)?
                }
                (1.., _) | (0, Strategy::Recreate) => wire.max_surge,
            },
            max_unavailable: wire.max_unavailable,
            // Only the controller counts the steps.
            steps: Vec::new(),
            // Only the controller knows what runs before a deployment; a node is told of the job.
            release: None,
            max_attempts: field::at_least_one("max_attempts", wire.max_attempts)?,
        })
    }
}
