//! Specs as people of this world write them: short times, so that much happens in a simulated minute.

use crate::images::Behaviour;
use crate::rng::Rng;
use lapstrake_core::label::{Comparison, Constraint};
use lapstrake_core::spec::{
    CanaryStep, Check, CheckKind, DeployPolicy, Port, Protocol, Pull, ReleaseCommand, ServiceSpec, ServiceType, Size,
    Strategy, WhenCutOff,
};
use lapstrake_core::time::Millis;
use std::collections::BTreeMap;

/// One that will run.
pub fn good(rng: &mut Rng, name: &str, version: u64) -> ServiceSpec {
    let mut spec = any(rng, name, version);
    spec.image = Behaviour::Good.source(version, Pull::Registry);
    spec.size = small();
    spec.deploy.release = None;
    spec
}

const fn small() -> Size {
    Size { cpu_milli: 200, memory_bytes: 64 << 20, pids: 512 }
}

/// Any.
pub fn any(rng: &mut Rng, name: &str, version: u64) -> ServiceSpec {
    let service_type = if name == "jobs" { ServiceType::Worker } else { ServiceType::Web };
    let pull = if rng.percent(15) { Pull::Local } else { Pull::Registry };
    let strategy = rng.pick(&[
        Strategy::Rolling,
        Strategy::Rolling,
        Strategy::Rolling,
        Strategy::Recreate,
        Strategy::BlueGreen,
        Strategy::Canary,
    ]);
    let large = Size { cpu_milli: 1_300, ..small() };
    ServiceSpec {
        service_type,
        image: Behaviour::any(rng, 25).source(version, pull),
        command: Vec::new(),
        size: if rng.percent(25) { large } else { small() },
        scale: rng.pick(&[1, 1, 2, 2, 2, 3, 4]),
        ports: ports(service_type),
        health: health(rng, service_type),
        deploy: DeployPolicy {
            strategy,
            overlap: Millis(rng.pick(&[0, 0, 700, 2_000, 6_000])),
            drain: Millis(rng.pick(&[0, 1_000, 4_000])),
            stop_grace: Millis(rng.pick(&[500, 2_000])),
            min_healthy: Millis(rng.pick(&[0, 300, 1_500])),
            timeout: Millis(rng.pick(&[6_000, 15_000])),
            max_surge: rng.between(1, 2) as u32,
            max_unavailable: rng.pick(&[0, 0, 1]),
            steps: if strategy == Strategy::Canary { steps(rng) } else { Vec::new() },
            max_attempts: rng.between(1, 3) as u32,
            release: rng.percent(30).then(|| release(rng)),
        },
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
        replace_after: Millis(rng.pick(&[0, 0, 4_000])),
        when_cut_off: if rng.percent(20) { WhenCutOff::Stop } else { WhenCutOff::Keep },
        init: true,
        read_only: false,
        constraints: Vec::new(),
    }
}

/// A release command that ends well, ends badly, or does not end; its name says it.
fn release(rng: &mut Rng) -> ReleaseCommand {
    let command = once(rng);
    ReleaseCommand { command, timeout: Millis(rng.pick(&[2_000, 8_000])) }
}

/// A command that runs once.
pub fn once(rng: &mut Rng) -> Vec<String> {
    vec![ONCE.into(), rng.pick(&["ok", "ok", "ok", "fail", "hang"]).into()]
}

/// The first word of every command that runs once.
pub const ONCE: &str = "once";

/// The label that tells where a node stands.
pub const ZONE: &str = "zone";
/// Where.
pub const ZONES: [&str; 2] = ["a", "b"];

/// What a spec may ask of a node's zone.
pub fn constraints(rng: &mut Rng) -> Vec<Constraint> {
    let comparison = match rng.below(10) {
        0..4 => return Vec::new(),
        4..8 => Comparison::Is,
        _ => Comparison::IsNot,
    };
    vec![Constraint { attribute: ZONE.into(), comparison, value: rng.pick(&ZONES).into() }]
}

fn steps(rng: &mut Rng) -> Vec<CanaryStep> {
    let step = |weight, hold| CanaryStep { weight, hold: Some(Millis(hold)) };
    match rng.percent(50) {
        true => vec![step(20, rng.between(500, 4_000))],
        false => vec![step(10, rng.between(500, 4_000)), step(60, rng.between(500, 4_000))],
    }
}

fn ports(service_type: ServiceType) -> Vec<Port> {
    let port = Port { port: 8080, protocol: Protocol::Http, path: Some("/".into()), public: true, host: None };
    if service_type == ServiceType::Web { vec![port] } else { Vec::new() }
}

fn health(rng: &mut Rng, service_type: ServiceType) -> Vec<Check> {
    if service_type == ServiceType::Worker || rng.percent(20) {
        return Vec::new();
    }
    vec![Check {
        kind: CheckKind::Http { port: 8080, path: "/healthz".into() },
        interval: Millis(rng.pick(&[1_000, 2_000])),
        timeout: Millis(500),
        grace: Millis(rng.pick(&[5_000, 8_000])),
        restart_after: rng.between(2, 3) as u32,
    }]
}
