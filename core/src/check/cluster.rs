//! The invariants of the cluster, as far as the controller decides them: over one state, over two states that follow each
//! other, and over what the store gives back.

use crate::access::Author;
use crate::assignment::{Assignment, AssignmentSet, Traffic};
use crate::check::Violation;
use crate::cluster::live::Live;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Ids, Key, Record};
use crate::ids::{JobId, NodeId, SlotId};
use crate::policy::JOBS_PER_SERVICE;
use crate::quota::Holder;
use crate::time::{Tick, Wall};
use crate::values::{Bound, Place};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub(super) fn broken(invariant: u8, sentence: String) -> Violation {
    Violation { invariant, sentence }
}

/// What must hold of every state.
pub fn of_state(cluster: &Cluster) -> Vec<Violation> {
    let mut violations = one_unfinished_deployment(cluster);
    violations.extend(each_job_in_one_slot(cluster));
    violations.extend(who_is_alone_is_not_held_back(cluster));
    violations.extend(within_policy(cluster));
    violations.extend(each_route_leads_to_one_service(cluster));
    violations.extend(each_job_has_its_values(cluster));
    violations.extend(nothing_deploys_what_is_paused(cluster));
    violations.extend(super::one_offs::of_state(cluster));
    violations
}

/// 3: at most one unfinished deployment per service, and the service knows which.
fn one_unfinished_deployment(cluster: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for service in cluster.all::<Service>() {
        let unfinished: Vec<u32> =
            cluster.deployments_of(service.id).filter(|it| !it.phase.is_final()).map(|it| it.number).collect();
        if unfinished != Vec::from_iter(service.unfinished) {
            let sentence = format!(
                "{} has the unfinished deployments {unfinished:?} and knows of {:?}",
                cluster.path_of(service),
                service.unfinished
            );
            violations.push(broken(3, sentence));
        }
    }
    violations
}

/// 6: a paused service has no deployment under way.
fn nothing_deploys_what_is_paused(cluster: &Cluster) -> Vec<Violation> {
    let paused = cluster.all::<Service>().filter(|service| service.wanted.pause().is_some());
    let deployed = paused.filter_map(|service| Some((cluster.path_of(service), service.unfinished?)));
    deployed.map(|(path, number)| broken(6, format!("{path} is paused and deployment {number} is under way"))).collect()
}

/// 6: while a service is paused no slot of it gets a job; and where it was paused before, none has one.
fn nothing_starts_what_is_paused(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let is_paused = |cluster: &Cluster, slot: &Slot| {
        cluster.get::<Service>(&slot.id.service).is_some_and(|it| it.wanted.pause().is_some() && !it.deleting)
    };
    let job_of = |slot: &Slot| slot.job.map(|job| job.job);
    let starts = after.all::<Slot>().filter(|slot| {
        let was = before.get::<Slot>(&slot.id).and_then(job_of);
        slot.job.is_some() && is_paused(after, slot) && is_paused(before, slot) && job_of(slot) != was
    });
    starts.map(|slot| broken(6, format!("{} got a job, and its service is paused", slot.id))).collect()
}

/// 3: a job fills one slot, for life.
fn each_job_in_one_slot(cluster: &Cluster) -> Vec<Violation> {
    let mut seen: BTreeMap<JobId, &SlotId> = BTreeMap::new();
    let mut violations = Vec::new();
    for slot in cluster.all::<Slot>() {
        if let Some(other) = slot.job.and_then(|job| seen.insert(job.job, &slot.id)) {
            violations.push(broken(3, format!("one job fills {other} and {}", slot.id)));
        }
    }
    violations
}

/// Whoever fills a slot alone has all of its traffic: a word that held it back would hold back nobody.
fn who_is_alone_is_not_held_back(cluster: &Cluster) -> Vec<Violation> {
    let is_alone = |slot: &&Slot| slot.outcome == Some(SlotOutcome::Settled);
    let held = cluster.all::<Slot>().filter(is_alone).filter(|slot| slot.traffic != Traffic::Full);
    held.map(|slot| broken(0, format!("{} is settled and waits to be released", slot.id))).collect()
}

/// 8: the versions that jobs have are kept, so that a job can be started again with what it had.
fn each_job_has_its_values(cluster: &Cluster) -> Vec<Violation> {
    let jobs = cluster.all::<Slot>().flat_map(|slot| slot.job.iter().chain(&slot.previous).map(move |job| (slot, job)));
    let missing = jobs.filter_map(|(slot, job)| {
        let bindings = cluster.bindings_of(slot.id.service, job.bound_by);
        let is_kept = job.bound_by == 0 || cluster.get::<Deployment>(&(slot.id.service, job.bound_by)).is_some();
        if !is_kept {
            return Some(broken(8, format!("{} has a job of deployment {}, which is not kept", slot.id, job.bound_by)));
        }
        let lost = bindings.iter().find(|one| cluster.version(one).is_none())?;
        Some(broken(
            8,
            format!("{} has the job {}, whose value for {} is not kept", slot.id, job.job, lost.place.name()),
        ))
    });
    missing.collect()
}

/// 4: a job has the same values for life.
fn jobs_keep_their_values(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let values = |cluster: &Cluster| -> BTreeMap<JobId, Vec<Bound>> {
        let jobs = cluster.all::<Slot>().filter_map(|slot| Some((slot.id.service, slot.job?)));
        jobs.map(|(service, job)| (job.job, cluster.bindings_of(service, job.bound_by).to_vec())).collect()
    };
    let was = values(before);
    let changed = values(after).into_iter().filter(|(job, now)| was.get(job).is_some_and(|was| was != now));
    changed.map(|(job, _)| broken(4, format!("the job {job} has other values than before"))).collect()
}

fn within_policy(cluster: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for service in cluster.all::<Service>() {
        let max = cluster.get::<Environment>(&service.environment).map_or(0, |it| it.policy.max_scale);
        if service.spec.scale > max.min(JOBS_PER_SERVICE) {
            let sentence = format!("{} wants {} jobs, {max} are allowed", cluster.path_of(service), service.spec.scale);
            violations.push(broken(0, sentence));
        }
    }
    violations
}

/// What is asked for never grows beyond a quota. A quota that was lowered meanwhile says nothing about that.
fn nothing_outgrows_its_quota(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let applications = after.all::<Application>().flat_map(|now| {
        let quota = before.get::<Application>(&now.id).map_or(now.quota, |was| was.quota);
        let (was, becomes) = (before.asked_of_application(now.id), after.asked_of_application(now.id));
        quota.against(Holder::Application, &now.name, was, becomes).into_iter().filter(move |_| quota == now.quota)
    });
    let environments = after.all::<Environment>().flat_map(|now| {
        let quota = before.get::<Environment>(&now.id).map_or(now.quota, |was| was.quota);
        let (was, becomes) = (before.asked_of_environment(now.id), after.asked_of_environment(now.id));
        let path = after.environment_path(now.id);
        quota.against(Holder::Environment, &path, was, becomes).into_iter().filter(move |_| quota == now.quota)
    });
    applications.chain(environments).map(|(_, why)| broken(0, why)).collect()
}

fn each_route_leads_to_one_service(cluster: &Cluster) -> Vec<Violation> {
    let mut routes: BTreeMap<(&str, &str), &Service> = BTreeMap::new();
    let mut violations = Vec::new();
    for service in cluster.all::<Service>() {
        let active = service.active.and_then(|active| cluster.get::<Revision>(&(service.id, active.revision)));
        let Some(revision) = active else { continue };
        for (port, host) in revision.spec.ports.iter().zip(&revision.hosts) {
            let Some(host) = host else { continue };
            let path = port.path.as_deref().unwrap_or("/");
            if let Some(other) = routes.insert((host, path), service).filter(|other| other.id != service.id) {
                let (a, b) = (cluster.path_of(other), cluster.path_of(service));
                violations.push(broken(0, format!("{host}{path} leads to {a} and to {b}")));
            }
        }
    }
    violations
}

/// What must hold from one state to a later one.
pub fn of_change(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let mut violations = nothing_goes_back(before, after);
    violations.extend(jobs_come_only_where_they_may(before, after));
    violations.extend(sets_have_new_numbers(before, after));
    violations.extend(nothing_outgrows_its_quota(before, after));
    violations.extend(jobs_keep_their_values(before, after));
    violations.extend(nothing_starts_what_is_paused(before, after));
    violations.extend(super::one_offs::of_change(before, after));
    violations
}

/// 4: phases and numbers never go back; a revision never changes.
fn nothing_goes_back(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in before.all::<Node>() {
        if after.get::<Node>(&node.id).is_some_and(|now| now.generation < node.generation) {
            violations.push(broken(4, format!("the set of {} went back from {}", node.name, node.generation)));
        }
    }
    for old in before.all::<Deployment>() {
        let Some(new) = after.get::<Deployment>(&(old.service, old.number)) else { continue };
        if new.phase < old.phase || (old.phase.is_final() && new.phase != old.phase) {
            let (from, to) = (old.phase.word(), new.phase.word());
            violations.push(broken(4, format!("deployment {} went back from {from} to {to}", old.number)));
        }
    }
    for old in before.all::<Revision>() {
        let Some(new) = after.get::<Revision>(&(old.service, old.number)) else { continue };
        if (&new.spec, &new.image, &new.hosts) != (&old.spec, &old.image, &old.hosts) {
            violations.push(broken(4, format!("the revision r{} was changed", old.number)));
        }
    }
    for old in before.all::<Service>() {
        let Some(new) = after.get::<Service>(&old.id) else { continue };
        if new.last_revision < old.last_revision || new.last_deployment < old.last_deployment {
            violations.push(broken(4, format!("the numbers of {} went back", old.name)));
        }
    }
    violations
}

/// 6: a job comes only to a node that is given to its environment; a slot never comes to a cordoned node, nor to one that
/// its revision does not ask for; a job never changes its node or its revision.
fn jobs_come_only_where_they_may(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let was: BTreeMap<JobId, (NodeId, u32)> = before
        .all::<Slot>()
        .flat_map(|slot| slot.job.iter().chain(&slot.previous).map(|job| (job.job, (slot.node, job.revision))))
        .collect();
    let mut violations = Vec::new();
    for slot in after.all::<Slot>() {
        let Some(job) = slot.job else { continue };
        match was.get(&job.job) {
            Some(was) if *was == (slot.node, job.revision) => continue,
            Some(_) => violations.push(broken(6, format!("a job of {} changed its node or its revision", slot.id))),
            None => {}
        }
        let (id, name) = (&slot.id, after.node_name(slot.node));
        let environment = after.get::<Service>(&id.service).map(|service| service.environment);
        if !environment.is_some_and(|environment| after.is_allotted(environment, slot.node)) {
            violations.push(broken(6, format!("{id} got a job on {name}, which its environment was not given")));
        }
        let came = before.get::<Slot>(id).is_none_or(|was| was.node != slot.node);
        if came && after.get::<Node>(&slot.node).is_some_and(|node| node.wish.cordon().is_some()) {
            violations.push(broken(6, format!("{id} came to {name}, which is cordoned")));
        }
        let revision = after.get::<Revision>(&(id.service, job.revision));
        if let Some(why) = revision.filter(|_| came).and_then(|revision| after.unmet(revision, slot.node)) {
            violations.push(broken(6, format!("{id} came to {name}, though {why}")));
        }
    }
    violations
}

/// What a set says should run. With which credentials an image is pulled is no part of that: whoever still pulls is told
/// in a new set, and everybody else has the image.
fn without_logins(set: &AssignmentSet) -> Vec<Assignment> {
    let mut assignments = set.assignments.clone();
    for one in &mut assignments {
        one.run.values.retain(|binding| binding.place != Place::Registry);
    }
    assignments
}

/// 4: what a node should run never changes without a new number.
fn sets_have_new_numbers(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for node in before.all::<Node>() {
        let (Some(old), Some(new)) = (before.assignments(node.id, true), after.assignments(node.id, true)) else {
            continue;
        };
        if old.generation == new.generation && without_logins(&old) != without_logins(&new) {
            violations.push(broken(4, format!("set {} of {} was changed", old.generation, node.name)));
        }
    }
    violations
}

/// 5: after a look at every service, a second look at the same instant changes nothing and sends nothing.
pub fn of_a_second_look(cluster: &Cluster, live: &Live, tick: Tick) -> Vec<Violation> {
    let (mut cluster, mut live) = (cluster.clone(), live.clone());
    cluster.take_changes();
    let mut ids = Ids::from_base(u128::MAX / 2);
    let mut cx = Context { tick, wall: Wall(0), author: Author::Controller, ids: &mut ids };
    let services: Vec<_> = cluster.all::<Service>().map(|service| (service.id, cluster.path_of(service))).collect();
    let mut violations = Vec::new();
    for (id, path) in services {
        let follow = cluster.reconcile(&mut live, id, &mut cx);
        let changed: Vec<String> = cluster.take_changes().iter().map(|(key, _)| format!("{key}")).collect();
        if !changed.is_empty() || !follow.asks.is_empty() {
            let sentence = format!("a second look at {path} changed {changed:?} and asked {} times", follow.asks.len());
            violations.push(broken(5, sentence));
        }
    }
    violations
}

/// 8: the store gives back all that was acknowledged.
pub fn of_store(cluster: &Cluster, store: impl IntoIterator<Item = (Key, Record)>) -> Vec<Violation> {
    match Cluster::load(store) {
        Ok(loaded) => {
            let (missing, surplus) = (cluster.records(), loaded.records());
            let differs = |(key, _): &&(Key, Record)| cluster.record(key) != loaded.record(key);
            let mut keys: BTreeSet<&Key> = BTreeSet::new();
            keys.extend(missing.iter().filter(differs).map(|(key, _)| key));
            keys.extend(surplus.iter().filter(differs).map(|(key, _)| key));
            keys.into_iter().map(|key| broken(8, format!("the store has lost the newest {key}"))).collect()
        }
        Err(why) => alloc::vec![broken(8, why)],
    }
}
