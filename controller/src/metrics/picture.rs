//! The cluster in numbers: how many of what are how. No name of anybody's is in it, so that its series stay few.

use crate::ca::{Ca, LiveTls};
use crate::engine::Look;
use lapstrake_core::cluster::state::{Deployment, DeploymentPhase, Node, Service, Standing};
use lapstrake_core::cluster::status::ServiceState;
use lapstrake_core::liveness::Liveness;
use lapstrake_core::time::Wall;
use lapstrake_metrics::{Kind, Text};
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::mint;
use lapstrake_pki::names::Validity;
use std::collections::BTreeMap;

/// Every word of a label is told, also those that nothing has: a series that appears only with the first trouble cannot be
/// told from one that was never there.
const LIVENESS: [Liveness; 3] = [Liveness::Ready, Liveness::Suspect, Liveness::Lost];
const PHASES: [DeploymentPhase; 10] = [
    DeploymentPhase::Queued,
    DeploymentPhase::Resolving,
    DeploymentPhase::Preparing,
    DeploymentPhase::Placing,
    DeploymentPhase::Rolling,
    DeploymentPhase::Reverting,
    DeploymentPhase::Complete,
    DeploymentPhase::Superseded,
    DeploymentPhase::Failed,
    DeploymentPhase::Cancelled,
];
const STATES: [(ServiceState, &str); 8] = [
    (ServiceState::Starting, "starting"),
    (ServiceState::Healthy, "healthy"),
    (ServiceState::Degraded, "degraded"),
    (ServiceState::Unhealthy, "unhealthy"),
    (ServiceState::Pausing, "pausing"),
    (ServiceState::Paused, "paused"),
    (ServiceState::Resuming, "resuming"),
    (ServiceState::Deleting, "deleting"),
];

/// What one look found.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    taken: Option<Wall>,
    sessions: u64,
    cordoned: u64,
    not_good: u64,
    liveness: BTreeMap<Liveness, u64>,
    phases: BTreeMap<DeploymentPhase, u64>,
    states: BTreeMap<ServiceState, u64>,
    waiting: u64,
    wanted: u64,
    healthy: u64,
    /// When each certificate that a person has to see to ends.
    ends: Vec<(&'static str, String, Wall)>,
}

impl Picture {
    /// What is so now.
    pub fn of(look: &Look<'_>) -> Picture {
        let mut seen = Picture { taken: Some(mint::wall()), ..Picture::default() };
        for node in look.cluster.all::<Node>() {
            *seen.liveness.entry(look.live.liveness(node.id, look.now)).or_default() += 1;
            seen.sessions += u64::from(look.live.session(node.id).is_some());
            seen.cordoned += u64::from(node.wish.cordon().is_some());
            seen.not_good += u64::from(node.standing != Standing::Good);
        }
        for deployment in look.cluster.all::<Deployment>() {
            *seen.phases.entry(deployment.phase).or_default() += 1;
        }
        for service in look.cluster.all::<Service>() {
            let Some(status) = look.cluster.status(look.live, service.id, look.now) else { continue };
            *seen.states.entry(status.state).or_default() += 1;
            seen.wanted += u64::from(status.wanted);
            seen.healthy += u64::from(status.healthy);
            seen.waiting += u64::from(look.waits.contains_key(&service.id));
        }
        seen
    }

    /// The same with the ends of the authority's roots and of the operators' own certificate. The controller's own leaf and
    /// the nodes' renew themselves, and whoever fails to is Lost.
    pub fn with_certificates(mut self, ca: &Ca, tls: &LiveTls) -> Picture {
        let root = |root: &rustls::pki_types::CertificateDer<'static>| {
            // Enough of the fingerprint to tell two roots apart.
            let id: String = Fingerprint::of(root).to_string().chars().take(12).collect();
            Some(("root", id, Validity::of(root)?.not_after))
        };
        self.ends = ca.trusted().iter().filter_map(root).collect();
        self.ends.extend(tls.own_ends().map(|ends| ("operators", String::new(), ends)));
        self
    }

    /// Writes it.
    pub fn render(&self, text: &mut Text, now: Wall) {
        let age = self.taken.map_or(0, |taken| now.0.saturating_sub(taken.0));
        let mut gauge = |name: &'static str, help: &str, value: u64| {
            text.family(name, Kind::Gauge, help).sample(&[], value);
        };
        gauge(
            "lapstrake_controller_picture_age_seconds",
            "How old the numbers of nodes, services and deployments are.",
            age / 1000,
        );
        gauge("lapstrake_controller_sessions", "Agents that have a session.", self.sessions);
        gauge("lapstrake_controller_nodes_cordoned", "Nodes that get no new jobs.", self.cordoned);
        gauge(
            "lapstrake_controller_nodes_not_good",
            "Nodes that are revoked, quarantined or wait to return.",
            self.not_good,
        );
        gauge(
            "lapstrake_controller_services_waiting",
            "Services that wait for something; `lap why` says for what.",
            self.waiting,
        );
        gauge("lapstrake_controller_jobs_wanted", "Jobs that services should have.", self.wanted);
        gauge("lapstrake_controller_jobs_healthy", "Jobs that are healthy.", self.healthy);
        let mut nodes = text.family("lapstrake_controller_nodes", Kind::Gauge, "Nodes by liveness.");
        for liveness in LIVENESS {
            let count = self.liveness.get(&liveness).copied().unwrap_or_default();
            nodes.sample(&[("liveness", liveness.word())], count);
        }
        let mut deployments = text.family(
            "lapstrake_controller_deployments",
            Kind::Gauge,
            "Deployments in the store by phase; those that ended stay as long as their history is kept.",
        );
        for phase in PHASES {
            let count = self.phases.get(&phase).copied().unwrap_or_default();
            deployments.sample(&[("phase", phase.word())], count);
        }
        let mut services = text.family("lapstrake_controller_services", Kind::Gauge, "Services by state.");
        for (state, word) in STATES {
            services.sample(&[("state", word)], self.states.get(&state).copied().unwrap_or_default());
        }
        let mut ends = text.family(
            "lapstrake_controller_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            "When a certificate that a person has to replace ends, in seconds since 1970.",
        );
        for (certificate, id, at) in &self.ends {
            ends.sample(&[("certificate", certificate), ("id", id)], at.0 / 1000);
        }
    }
}
