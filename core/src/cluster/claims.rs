//! Who has which host and path. Two services never share one, or chance would decide which of them a request reaches.

use crate::assignment::ServicePath;
use crate::cluster::Cluster;
use crate::cluster::command::{Apply, Refusal};
use crate::cluster::paths::hosts_of;
use crate::cluster::state::{Revision, Service};
use crate::spec::{Port, ServiceSpec};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// What requests are told apart by, written as the proxies compare it: `/api` and `/api/` are one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    host: String,
    /// Without slashes at its end; empty for all paths.
    prefix: String,
}

/// Each claim with the service that has it.
pub(crate) type Claims = BTreeMap<Claim, ServicePath>;

impl Claim {
    fn of(host: &str, port: &Port) -> Claim {
        let prefix = port.path.as_deref().unwrap_or_default().trim_end_matches('/');
        Claim { host: host.to_ascii_lowercase(), prefix: prefix.to_string() }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, if self.prefix.is_empty() { "/" } else { &self.prefix })
    }
}

impl Cluster {
    /// What all services have but those that the file will set anew.
    pub(crate) fn claims_beside(&self, apply: &Apply) -> Claims {
        let set: BTreeSet<(&str, &str)> = apply
            .environments
            .iter()
            .flat_map(|it| it.services.iter().map(|service| (it.name.as_str(), service.name.as_str())))
            .collect();
        self.claims_of_all(|_, path| {
            path.application != apply.application || !set.contains(&(path.environment.as_str(), path.service.as_str()))
        })
    }

    fn claims_of_all(&self, counts: impl Fn(&Service, &ServicePath) -> bool) -> Claims {
        let mut claims = Claims::new();
        for service in self.all::<Service>() {
            let path = self.path_of(service);
            if counts(service, &path) {
                claims.extend(self.claims_of(service, &path).into_iter().map(|claim| (claim, path.clone())));
            }
        }
        claims
    }

    /// What a service asks for and, where that is older, what its jobs still serve.
    fn claims_of(&self, service: &Service, path: &ServicePath) -> Vec<Claim> {
        let mut all = claims(&service.spec, &hosts_of(&service.spec, path, self.domain()));
        let active = service.active.and_then(|active| self.get::<Revision>(&(service.id, active.revision)));
        all.extend(active.into_iter().flat_map(|revision| claims(&revision.spec, &revision.hosts)));
        all
    }

    /// Takes what a spec asks for, and refuses what is taken already or cannot be a host.
    pub(crate) fn refuse_claims(
        &self,
        spec: &ServiceSpec,
        path: &ServicePath,
        place: &str,
        taken: &mut Claims,
    ) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let hosts = hosts_of(spec, path, self.domain());
        for (i, (port, host)) in spec.ports.iter().zip(&hosts).enumerate() {
            let Some(host) = host else { continue };
            let place = format!("{place}.ports.{i}.host");
            // A label of a host has at most 63 characters; the default one is put together from three names.
            if host.split('.').any(|label| label.len() > 63) {
                refusals.push(
                    Refusal::invalid(format!("the host {host} has a part of more than 63 characters"))
                        .at(&place)
                        .hint("name a shorter host"),
                );
            }
            let claim = Claim::of(host, port);
            if let Some(other) = taken.get(&claim) {
                let whose = if other == path { "another port of it".into() } else { other.to_string() };
                refusals.push(
                    Refusal::conflict(format!("{claim} already leads to {whose}"))
                        .at(&place)
                        .hint("take another host or path"),
                );
            } else {
                taken.insert(claim, path.clone());
            }
        }
        refusals
    }

    /// An older revision may have had a host and path that another service has taken since.
    pub(crate) fn refuse_old_claims(
        &self,
        service: &Service,
        path: &ServicePath,
        revision: &Revision,
    ) -> Option<Refusal> {
        let taken = self.claims_of_all(|other, _| other.id != service.id);
        let wanted = claims(&revision.spec, &revision.hosts);
        let (claim, other) = wanted.iter().find_map(|claim| Some((claim, taken.get(claim)?)))?;
        Some(
            Refusal::conflict(format!("r{} of {path} has {claim}, which leads to {other} by now", revision.number))
                .hint("apply a spec with another host or path instead"),
        )
    }
}

fn claims(spec: &ServiceSpec, hosts: &[Option<String>]) -> Vec<Claim> {
    spec.ports.iter().zip(hosts).filter_map(|(port, host)| Some(Claim::of(host.as_deref()?, port))).collect()
}
