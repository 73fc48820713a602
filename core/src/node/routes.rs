//! Which request goes to which jobs of this node.

use crate::assignment::{Assignment, RunSpec, ServicePath, Traffic};
use crate::ids::{JobId, ServiceId};
use crate::message::Elsewhere;
use crate::node::health::{health, runs};
use crate::node::ledger::{Job, Ledger};
use crate::node::reason::Reason;
use crate::node::seen::Seen;
use crate::report::{Health, ReplacementPhase};
use crate::routes::{Backend, Route, Speaks, even};
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
    port: Door,
}

/// A port and how the job is spoken to there.
type Door = (u16, Speaks);

fn entries(run: &RunSpec) -> impl Iterator<Item = Entry<'_>> {
    run.spec.ports.iter().zip(&run.hosts).filter(|(port, _)| port.public).filter_map(|(port, host)| {
        let speaks = match port.protocol {
            Protocol::Http => Speaks::Http,
            Protocol::H2c => Speaks::H2c,
            Protocol::Tcp => return None,
        };
        let path = port.path.as_deref().unwrap_or("/");
        Some(Entry { host: host.as_deref()?, path, port: (port.port, speaks) })
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
    jobs: Ways<'a>,
    /// Jobs that wait beside them and get a share.
    waiting: Ways<'a>,
    /// Which one, in percent.
    share: u32,
}

/// Jobs and the ports on which they are asked.
type Ways<'a> = BTreeMap<JobId, (&'a Job, Door)>;

/// The routes that follow from who has each slot's traffic and how those jobs are.
///
/// A service that is wanted here keeps its routes even while it has no job, so that a request is told where to find it. A job
/// that only waits makes no route: it gets its share of the requests that somebody serves here without it.
/// Two services with the same host and path are refused by the controller; should they meet, the older service wins.
pub fn compute(ledger: &Ledger, seen: &Seen) -> Vec<Route> {
    let mut drafts: BTreeMap<(&str, Reverse<usize>, &str), Draft<'_>> = BTreeMap::new();
    let carrying = ledger.current.values().filter_map(|id| ledger.jobs.get(id));
    let is_promised = |one: &&Assignment| {
        one.once.is_none() && !ledger.current.contains_key(&one.slot) && one.traffic == Traffic::Full
    };
    let promised = ledger.wanted.values().filter(is_promised);
    let mut sources: Vec<_> = carrying.map(|job| (&job.assignment, Some(job))).collect();
    sources.extend(promised.map(|assignment| (assignment, None)));
    sources.sort_by_key(|(assignment, _)| &assignment.slot);
    for (assignment, job) in sources {
        for entry in entries(&assignment.run) {
            let draft = drafts.entry((entry.host, Reverse(entry.path.len()), entry.path)).or_insert(Draft {
                service: assignment.slot.service,
                name: &assignment.run.path,
                jobs: BTreeMap::new(),
                waiting: BTreeMap::new(),
                share: 0,
            });
            if let Some(job) = job.filter(|_| draft.service == assignment.slot.service) {
                draft.jobs.insert(assignment.job, (job, entry.port));
            }
        }
    }
    for (job, share) in waiting(ledger) {
        let Assignment { job: id, slot, run, .. } = &job.assignment;
        for entry in entries(run) {
            let draft = drafts.get_mut(&(entry.host, Reverse(entry.path.len()), entry.path));
            // Where nobody has a slot, a share of nothing is nothing.
            if let Some(draft) = draft.filter(|draft| draft.service == slot.service && !draft.jobs.is_empty()) {
                draft.share = draft.share.max(share);
                draft.waiting.insert(*id, (job, entry.port));
            }
        }
    }
    let told_of = |service| ledger.elsewhere.iter().find(|one| one.service == service);
    let mut routes: Vec<Route> = drafts
        .into_iter()
        .map(|((host, _, path), draft)| Route {
            host: String::from(host),
            path: String::from(path),
            service: draft.service,
            name: draft.name.clone(),
            backends: backends(&draft, seen),
            elsewhere: told_of(draft.service).map(|one| one.nodes.clone()).unwrap_or_default(),
            paused: told_of(draft.service).is_some_and(|one| one.paused),
        })
        .collect();
    add_elsewhere(&mut routes, &ledger.elsewhere);
    routes
}

/// The jobs that wait to be released and get a share of the requests meanwhile, and what share.
fn waiting(ledger: &Ledger) -> impl Iterator<Item = (&Job, u32)> {
    let ready = ledger.replacements.values().filter(|one| one.phase == ReplacementPhase::Ready);
    let new = ready.filter_map(|one| ledger.jobs.get(&one.new?)).filter(|job| !ledger.is_current(job));
    new.filter_map(|job| match ledger.traffic(job) {
        Traffic::Share(percent) => Some((job, percent)),
        Traffic::Full | Traffic::Held => None,
    })
}

/// The jobs that may get a request: those whose last reading is not bad; if all are bad, those that run and have their
/// slots (invariant 1). Those that wait beside them get their share together, whatever their number is.
fn backends(draft: &Draft<'_>, seen: &Seen) -> Vec<Backend> {
    let running = |ways: &Ways<'_>| -> Vec<(Backend, bool)> {
        let up = ways.values().filter(|(job, _)| job.drain_until.is_none() && runs(job, seen));
        let told = up.filter_map(|(job, (port, speaks))| {
            let address = SocketAddr::new(IpAddr::V4(job.address?), *port);
            let backend = Backend { job: job.assignment.job, address, speaks: *speaks, weight: even() };
            Some((backend, is_good(health(job, seen))))
        });
        told.collect()
    };
    let good = |all: &[(Backend, bool)], weight: u32| -> Vec<Backend> {
        let good = all.iter().filter(|(_, good)| *good);
        good.map(|(backend, _)| Backend { weight, ..backend.clone() }).collect()
    };
    let (jobs, waiting) = (running(&draft.jobs), running(&draft.waiting));
    let count = |all: &[(Backend, bool)]| all.iter().filter(|(_, good)| *good).count() as u32;
    let (old_weight, new_weight) = weights(count(&jobs), count(&waiting), draft.share);
    let mut chosen = good(&jobs, old_weight);
    chosen.extend(good(&waiting, new_weight));
    if chosen.is_empty() {
        chosen.extend(jobs.into_iter().map(|(backend, _)| backend));
    }
    chosen.sort_by_key(|one| one.job);
    chosen
}

/// What each of so many old and so many new jobs weighs, so that the new ones get `share` percent together.
fn weights(old: u32, new: u32, share: u32) -> (u32, u32) {
    if old == 0 || new == 0 {
        return (even(), even());
    }
    let (of_old, of_new) = ((100 - share.min(99)) * new, share.clamp(1, 99) * old);
    let common = common_divisor(of_old, of_new);
    match (of_old / common, of_new / common) {
        // A share that happens to be everybody's equal part is a share all the same: not whoever has the least to do.
        (old, new) if (old, new) == (even(), even()) => (2 * old, 2 * new),
        weights => weights,
    }
}

const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
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
        paused: other.paused,
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
        if ledger.first_table == 0 {
            ledger.first_table = generation;
        }
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

/// What keeps addresses from being given away: a proxy may still send to those that a lost ledger had given.
pub fn not_forgotten(ledger: &Ledger, seen: &Seen) -> Option<Reason> {
    not_obeyed(ledger.first_table, seen)
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

#[cfg(test)]
mod tests {
    use super::weights;

    #[test]
    fn the_waiting_jobs_of_a_service_get_their_share_together_whatever_their_number() {
        for (old, new, share) in [(1, 1, 50), (4, 1, 10), (3, 2, 5), (1, 3, 99), (32, 32, 1), (7, 5, 33)] {
            let (of_old, of_new) = weights(old, new, share);
            let all = old * of_old + new * of_new;
            assert_eq!(new * of_new * 100, all * share, "{old} old, {new} new, {share} %");
        }
    }

    #[test]
    fn a_share_of_equal_parts_is_told_from_no_share() {
        assert_eq!(weights(1, 1, 50), (2, 2));
        assert_eq!(weights(3, 1, 25), (2, 2));
    }

    #[test]
    fn jobs_that_nobody_waits_beside_are_equals() {
        assert_eq!(weights(3, 0, 10), (1, 1));
        assert_eq!(weights(0, 2, 10), (1, 1));
    }
}
