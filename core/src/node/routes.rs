//! Which request goes to which jobs of this node.

use crate::assignment::{RunSpec, ServicePath};
use crate::ids::{JobId, ServiceId};
use crate::message::Elsewhere;
use crate::node::health::{health, runs};
use crate::node::ledger::{Job, Ledger};
use crate::node::reason::Reason;
use crate::node::seen::Seen;
use crate::report::{Health, ReplacementPhase};
use crate::routes::{Backend, Route};
use crate::spec::Protocol;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr};

/// One way in: the public HTTP ports of a service as one revision of it says.
struct Entry<'a> {
    host: &'a str,
    path: &'a str,
    port: u16,
}

fn entries(run: &RunSpec) -> impl Iterator<Item = Entry<'_>> {
    run.spec.ports.iter().zip(&run.hosts).filter_map(|(port, host)| match port.protocol {
        Protocol::Http if port.public => {
            Some(Entry { host: host.as_deref()?, path: port.path.as_deref().unwrap_or("/"), port: port.port })
        }
        Protocol::Http | Protocol::Tcp => None,
    })
}

/// Whether anybody outside reaches it through the proxies.
pub fn is_routed(run: &RunSpec) -> bool {
    entries(run).next().is_some()
}

/// A route while its backends are still chosen.
struct Draft<'a> {
    service: ServiceId,
    name: &'a ServicePath,
    jobs: BTreeMap<JobId, (&'a Job, u16)>,
}

/// The routes that follow from who has each slot's traffic and how those jobs are.
///
/// A service that is wanted here keeps its routes even while it has no job, so that a request is told where to find it.
/// Two services with the same host and path are refused by the controller; should they meet, the older service wins.
pub fn compute(ledger: &Ledger, seen: &Seen) -> Vec<Route> {
    let mut drafts: BTreeMap<(&str, Reverse<usize>, &str), Draft<'_>> = BTreeMap::new();
    let carrying = ledger.current.values().filter_map(|id| ledger.jobs.get(id));
    let promised = ledger.wanted.values().filter(|one| !ledger.current.contains_key(&one.slot));
    let mut sources: Vec<_> = carrying.map(|job| (&job.assignment, Some(job))).collect();
    sources.extend(promised.map(|assignment| (assignment, None)));
    sources.sort_by_key(|(assignment, _)| &assignment.slot);
    for (assignment, job) in sources {
        for entry in entries(&assignment.run) {
            let draft = drafts.entry((entry.host, Reverse(entry.path.len()), entry.path)).or_insert(Draft {
                service: assignment.slot.service,
                name: &assignment.run.path,
                jobs: BTreeMap::new(),
            });
            if let Some(job) = job.filter(|_| draft.service == assignment.slot.service) {
                draft.jobs.insert(assignment.job, (job, entry.port));
            }
        }
    }
    let nodes_of = |service| {
        let other = ledger.elsewhere.iter().find(|one| one.service == service);
        other.map(|one| one.nodes.clone()).unwrap_or_default()
    };
    let mut routes: Vec<Route> = drafts
        .into_iter()
        .map(|((host, _, path), draft)| Route {
            host: String::from(host),
            path: String::from(path),
            service: draft.service,
            name: draft.name.clone(),
            backends: backends(&draft.jobs, seen),
            elsewhere: nodes_of(draft.service),
        })
        .collect();
    add_elsewhere(&mut routes, &ledger.elsewhere);
    routes
}

/// The jobs that may get a request: those whose last reading is not bad; if all are bad, those that run (invariant 1).
fn backends(jobs: &BTreeMap<JobId, (&Job, u16)>, seen: &Seen) -> Vec<Backend> {
    let running = || jobs.values().filter(|(job, _)| job.drain_until.is_none() && runs(job, seen));
    let good = running().filter(|(job, _)| is_good(health(job, seen)));
    let chosen: Vec<_> = if good.clone().next().is_some() { good.collect() } else { running().collect() };
    chosen
        .into_iter()
        .filter_map(|(job, port)| {
            let address = SocketAddr::new(IpAddr::V4(job.address?), *port);
            Some(Backend { job: job.assignment.job, address })
        })
        .collect()
}

/// Whether a job of this reading gets requests. Unknown is trusted: after the agent's own restart nothing is read yet.
pub const fn is_good(health: Health) -> bool {
    match health {
        Health::Healthy | Health::Unknown => true,
        Health::Starting | Health::Unhealthy => false,
    }
}

/// Public services that have no job here, so that a proxy can name the nodes that have.
fn add_elsewhere(routes: &mut Vec<Route>, elsewhere: &[Elsewhere]) {
    let taken: BTreeSet<(String, String)> = routes.iter().map(|one| (one.host.clone(), one.path.clone())).collect();
    let mut others: BTreeMap<&(String, String), &Elsewhere> = BTreeMap::new();
    for other in elsewhere {
        for way in other.routes.iter().filter(|way| !taken.contains(*way)) {
            others.entry(way).or_insert(other);
        }
    }
    routes.extend(others.into_iter().map(|((host, path), other)| Route {
        host: host.clone(),
        path: path.clone(),
        service: other.service,
        name: other.path.clone(),
        backends: Vec::new(),
        elsewhere: other.nodes.clone(),
    }));
    routes.sort_by(|a, b| (&a.host, Reverse(a.path.len()), &a.path).cmp(&(&b.host, Reverse(b.path.len()), &b.path)));
}

/// The jobs that a list of routes names.
pub fn named(routes: &[Route]) -> BTreeSet<JobId> {
    routes.iter().flat_map(|route| route.backends.iter().map(|backend| backend.job)).collect()
}

/// Puts the newest routes into the ledger's table if they changed.
///
/// Before the first set nothing is known about what should be routed, so nothing is said: a node that lost its ledger
/// leaves its proxies as they are. A proxy or a file that holds a newer number than the ledger comes from such a lost
/// ledger; the numbers go on above it, because a proxy refuses an older one.
pub(super) fn renew(ledger: &mut Ledger, seen: &Seen) {
    if ledger.generation.is_none() {
        return;
    }
    let routes = compute(ledger, seen);
    let newest_known = seen.proxies.iter().map(|proxy| proxy.acknowledged).fold(seen.table_written, u64::max);
    if routes != ledger.table.routes || newest_known > ledger.table.generation {
        let generation = ledger.table.generation.max(newest_known) + 1;
        let (before, after) = (named(&ledger.table.routes), named(&routes));
        for (id, job) in &mut ledger.jobs {
            match (before.contains(id), after.contains(id)) {
                (_, true) => job.unrouted_at = None,
                (true, false) => job.unrouted_at = Some(generation),
                (false, false) => {}
            }
        }
        ledger.table.routes = routes;
        ledger.table.generation = generation;
    }
    let runs = |job: Option<JobId>| job.and_then(|id| ledger.jobs.get(&id)).map(|job| &job.assignment.run);
    for (slot, one) in &mut ledger.replacements {
        let has_moved = one.phase == ReplacementPhase::Ready && ledger.current.get(slot) == one.new.as_ref();
        let is_routed = [runs(one.old), runs(one.new)].into_iter().flatten().any(is_routed);
        if has_moved && is_routed && one.table == 0 {
            one.table = ledger.table.generation;
        }
    }
}

/// What keeps a table from being obeyed by everybody who could reach its jobs; none when all do.
pub fn not_obeyed(generation: u64, seen: &Seen) -> Option<Reason> {
    if seen.table_written < generation {
        return Some(Reason::TableFile { generation });
    }
    let late = seen.proxies.iter().find(|proxy| proxy.acknowledged < generation)?;
    Some(Reason::Proxy { pid: late.pid, generation })
}

/// What keeps a job from being out of every request's way; none when no proxy sends it anything any more.
pub fn not_released(job: &Job, ledger: &Ledger, seen: &Seen) -> Option<Reason> {
    if named(&ledger.table.routes).contains(&job.assignment.job) {
        return Some(Reason::TableFile { generation: ledger.table.generation + 1 });
    }
    not_obeyed(job.unrouted_at?, seen)
}

/// What keeps a bad job from being out of every request's way when others can stand in for it; none when it is, and none
/// when nobody else is there to serve: then the sooner it is started anew the better.
pub fn not_relieved(job: &Job, ledger: &Ledger, seen: &Seen) -> Option<Reason> {
    let serves_for_want_of_others = named(&compute(ledger, seen)).contains(&job.assignment.job);
    if serves_for_want_of_others { None } else { not_released(job, ledger, seen) }
}

/// Open requests and connections of a job that the table no longer names.
pub fn open_connections(job: JobId, seen: &Seen) -> u32 {
    seen.proxies.iter().filter_map(|proxy| proxy.leaving.get(&job)).fold(0, |sum, open| sum.saturating_add(*open))
}

/// The services whose jobs here are all unhealthy and still get requests, as sentences.
pub fn all_bad(ledger: &Ledger, seen: &Seen) -> BTreeSet<String> {
    let is_bad = |backend: &Backend| ledger.jobs.get(&backend.job).is_some_and(|job| !is_good(health(job, seen)));
    let bad = ledger.table.routes.iter().filter(|route| route.backends.iter().any(is_bad));
    bad.map(|route| {
        alloc::format!("no job of {} on this node is healthy; requests still go to those that run", route.name)
    })
    .collect()
}
