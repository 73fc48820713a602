//! The invariants of one node: over a step of its ledger, and over a plan.
//!
//! Each check looks at what is there and not at how it was decided, so that a wrong rule in the decisions does not
//! repeat itself here.

use crate::assignment::Traffic;
use crate::check::Violation;
use crate::ids::{JobId, SlotId};
use crate::node::action::{Action, Plan};
use crate::node::health::{health, runs};
use crate::node::images;
use crate::node::ledger::{Job, Ledger, Manner, Replacement};
use crate::node::routes::is_good;
use crate::node::seen::{Container, NodeConfig, Now, Seen};
use crate::report::{Health, JobPhase};
use crate::routes::Route;
use crate::spec::{Strategy, WhenCutOff};
use crate::values::Binding;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The invariants' numbers, as `docs/ARCHITECTURE.md` lists them.
mod number {
    pub const ROUTES: u8 = 1;
    pub const STOP_AFTER_ACKNOWLEDGEMENT: u8 = 2;
    pub const ONE_REPLACEMENT: u8 = 3;
    pub const FORWARD: u8 = 4;
    pub const SETTLED: u8 = 5;
    pub const CUT_OFF: u8 = 7;
    pub const ONE_WRITER: u8 = 9;
    pub const HEALTHY_STAYS: u8 = 10;
    pub const ORDER: u8 = 0;
}

/// Collects what is wrong.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn unless(&mut self, holds: bool, invariant: u8, sentence: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Violation { invariant, sentence: sentence() });
        }
    }
}

/// What one `accept` or `advance` may never do, whatever was seen.
pub fn check_ledger(before: &Ledger, after: &Ledger, seen: &Seen, now: Now) -> Vec<Violation> {
    let mut found = Findings::default();
    generations_go_forward(&mut found, before, after);
    phases_go_forward(&mut found, before, after);
    replacements_end(&mut found, before, after);
    stops_are_allowed(&mut found, before, after, seen, now);
    healthy_jobs_stay(&mut found, before, after, seen);
    retired_jobs_are_unwanted(&mut found, before, after, seen, now);
    routes_are_good(&mut found, before, after, seen);
    addresses_are_unique(&mut found, before, after, seen);
    values_are_held(&mut found, after);
    found.0
}

/// A job can be started again without asking anybody, with what it had.
fn values_are_held(found: &mut Findings, after: &Ledger) {
    for job in after.jobs.values() {
        for Binding { place, value } in &job.assignment.run.values {
            found.unless(after.values.contains_key(value), number::ORDER, || {
                format!("the job {} has lost its value for {}", job.assignment.job, place.name())
            });
        }
    }
}

/// What no plan may ever say.
pub fn check_plan(ledger: &Ledger, seen: &Seen, plan: &Plan) -> Vec<Violation> {
    let mut found = Findings::default();
    for action in &plan.actions {
        action_is_allowed(&mut found, ledger, seen, action);
    }
    let explained: BTreeSet<&SlotId> =
        plan.waits.iter().filter(|(_, why)| !why.to_string().is_empty()).map(|(slot, _)| slot).collect();
    for (slot, one) in ledger.replacements.iter().filter(|(_, one)| !one.phase.is_final()) {
        let word = one.phase.word();
        found.unless(explained.contains(slot), number::ORDER, || format!("slot {slot} is {word} and nobody knows why"));
    }
    found.0
}

/// The same instant, the same things seen: a second advance changes nothing, and what took effect is not planned again.
pub fn check_settled(ledger: &Ledger, seen: &Seen, config: &NodeConfig, now: Now) -> Vec<Violation> {
    let mut found = Findings::default();
    let mut again = ledger.clone();
    let changed = crate::node::advance(&mut again, seen, config, now);
    found.unless(!changed && again == *ledger, number::SETTLED, || {
        String::from("a second advance at the same instant changed the ledger")
    });
    found.0
}

fn generations_go_forward(found: &mut Findings, before: &Ledger, after: &Ledger) {
    found.unless(after.table.generation >= before.table.generation, number::FORWARD, || {
        format!("the route table went from {} back to {}", before.table.generation, after.table.generation)
    });
    let same_number = after.table.generation == before.table.generation;
    found.unless(!same_number || after.table == before.table, number::FORWARD, || {
        format!("the route table {} changed without a new number", after.table.generation)
    });
    if let (Some(held), Some(now)) = (before.generation, after.generation) {
        found.unless(held.epoch != now.epoch || now.number >= held.number, number::FORWARD, || {
            format!("the assignment set went from {held} back to {now}")
        });
    }
}

fn phases_go_forward(found: &mut Findings, before: &Ledger, after: &Ledger) {
    for (id, job) in &after.jobs {
        let Some(was) = before.jobs.get(id) else { continue };
        found.unless((job.attempt, job.phase) >= (was.attempt, was.phase), number::FORWARD, || {
            format!(
                "job {id} went from {:?} of attempt {} to {:?} of {}",
                was.phase, was.attempt, job.phase, job.attempt
            )
        });
    }
    for (slot, one) in &after.replacements {
        let Some(was) = before.replacements.get(slot).filter(|was| is_same(was, one)) else { continue };
        found.unless(one.phase >= was.phase, number::FORWARD, || {
            format!("the replacement of {slot} went from {} to {}", was.phase.word(), one.phase.word())
        });
        found.unless(was.stopped_at.is_none() || one.stopped_at == was.stopped_at, number::FORWARD, || {
            format!("the old job of {slot} was told to stop twice")
        });
    }
}

fn is_same(a: &Replacement, b: &Replacement) -> bool {
    (a.old, a.new, a.deployment, a.reached.first()) == (b.old, b.new, b.deployment, b.reached.first())
}

/// One replacement per slot: after its switch it runs to its end before the next begins.
fn replacements_end(found: &mut Findings, before: &Ledger, after: &Ledger) {
    let switched = before.replacements.iter().filter(|(_, was)| was.phase.is_after_switch() && !was.phase.is_final());
    for (slot, was) in switched {
        let is_there =
            after.replacements.get(slot).is_some_and(|one| is_same(was, one) || was_finished(before, after, was, one));
        found.unless(is_there, number::ONE_REPLACEMENT, || {
            format!("the replacement of {slot} was {} and made way for another", was.phase.word())
        });
    }
    let mut news: BTreeSet<JobId> = BTreeSet::new();
    for (slot, one) in after.replacements.iter().filter(|(_, one)| !one.phase.is_final()) {
        let is_first = one.new.is_none_or(|new| news.insert(new));
        found.unless(is_first, number::ONE_REPLACEMENT, || format!("the new job of {slot} is new in another slot too"));
    }
}

/// Whether a replacement that is no longer recorded can have ended in the same step: its old or its new job has the slot
/// alone, or it went back and the next one begins from the old job again. A job that ended and is wanted once more is up in
/// another attempt.
fn was_finished(before: &Ledger, after: &Ledger, was: &Replacement, next: &Replacement) -> bool {
    let attempt = |id| before.jobs.get(&id).map(|job| job.attempt);
    let is_up = |id: Option<JobId>| {
        let job = id.and_then(|id| after.jobs.get(&id));
        job.is_some_and(|job| !job.phase.is_final() && Some(job.attempt) == attempt(job.assignment.job))
    };
    !(is_up(was.old) && is_up(was.new)) || (was.old.is_some() && next.old == was.old)
}

/// Invariant 2, and the promise of the overlap. A bad job is stopped for its next attempt without waiting for the proxies
/// only when nobody else can serve.
fn stops_are_allowed(found: &mut Findings, before: &Ledger, after: &Ledger, seen: &Seen, now: Now) {
    for job in after.jobs.values().filter(|job| was_told_to_stop(before, job)) {
        let id = job.assignment.job;
        let ends = job.drain_until.is_some();
        let may_be_missed = ends || has_stand_in(job, before, after, seen);
        found.unless(!may_be_missed || is_out_of_reach(job, after, seen), number::STOP_AFTER_ACKNOWLEDGEMENT, || {
            format!("job {id} was told to stop while a proxy could still send it requests")
        });
        let replacement = after.under_way(&job.assignment.slot).filter(|one| ends && one.old == Some(id));
        if let Some(one) = replacement {
            let in_time = one.phase == one.old_ends_at() && now.tick >= one.since || is_cut_off(job, seen, now);
            found.unless(in_time, number::ORDER, || {
                format!("the old job {id} was told to stop before its overlap was over: {}", one.phase.word())
            });
        }
    }
}

/// Whether no proxy sends the job anything any more, as far as they have acknowledged.
fn is_out_of_reach(job: &Job, ledger: &Ledger, seen: &Seen) -> bool {
    let id = job.assignment.job;
    let is_named = ledger.table.routes.iter().flat_map(|route| &route.backends).any(|backend| backend.job == id);
    let obeyed = |generation: u64| {
        seen.table_written >= generation && seen.proxies.iter().all(|proxy| proxy.acknowledged >= generation)
    };
    !is_named && job.unrouted_at.is_none_or(obeyed)
}

/// Whether this step decided the stop signal of a running job, for good or for another attempt.
fn was_told_to_stop(before: &Ledger, job: &Job) -> bool {
    let was_up = before.jobs.get(&job.assignment.job).is_some_and(|was| was.phase == JobPhase::Running);
    was_up && job.phase == JobPhase::Stopping
}

/// Whether another job of the service had its slot's traffic and was good all the while.
fn has_stand_in(job: &Job, before: &Ledger, after: &Ledger, seen: &Seen) -> bool {
    let serves = |ledger: &Ledger, slot: &SlotId, id: JobId| {
        let carries = ledger.current.get(slot) == Some(&id);
        let is_well = |one: &Job| one.drain_until.is_none() && runs(one, seen) && is_good(health(one, seen));
        carries && ledger.jobs.get(&id).is_some_and(is_well)
    };
    let of_service = after.current.iter().filter(|(slot, _)| slot.service == job.assignment.slot.service);
    let mut others = of_service.filter(|(_, id)| **id != job.assignment.job);
    others.any(|(slot, id)| serves(before, slot, *id) && serves(after, slot, *id))
}

fn is_cut_off(job: &Job, seen: &Seen, now: Now) -> bool {
    let ends = crate::node::advance::cut_off::lease_ends(seen);
    job.assignment.run.when_cut_off() == WhenCutOff::Stop && now.tick >= ends
}

/// Invariant 10: what is healthy and wanted gets no new attempt.
fn healthy_jobs_stay(found: &mut Findings, before: &Ledger, after: &Ledger, seen: &Seen) {
    let healthy = before.jobs.values().filter(|job| {
        job.phase == JobPhase::Running
            && runs(job, seen)
            && matches!(health(job, seen), Health::Healthy | Health::Unknown)
    });
    for was in healthy.filter(|_| before.boot == after.boot) {
        let id = was.assignment.job;
        let Some(job) = after.jobs.get(&id) else {
            found.unless(false, number::HEALTHY_STAYS, || format!("the running job {id} was forgotten"));
            continue;
        };
        let stays = job.attempt == was.attempt && (job.phase == JobPhase::Running || job.drain_until.is_some());
        found.unless(stays, number::HEALTHY_STAYS, || format!("the healthy job {id} was stopped for another attempt"));
    }
}

/// Invariant 7: a job begins to end only because a set or a replacement no longer wants it, or because it is cut off and
/// its spec says stop.
fn retired_jobs_are_unwanted(found: &mut Findings, before: &Ledger, after: &Ledger, seen: &Seen, now: Now) {
    for job in after.jobs.values().filter(|job| job.drain_until.is_some()) {
        let id = job.assignment.job;
        let was_retired = before.jobs.get(&id).is_some_and(|was| was.drain_until.is_some());
        let has_slot = after.current.get(&job.assignment.slot) == Some(&id);
        found.unless(was_retired || !has_slot || is_cut_off(job, seen, now), number::CUT_OFF, || {
            format!("job {id} has its slot and was told to end")
        });
    }
}

/// Of a table that a lost ledger left behind nothing is known until the first advance after a set renews it.
fn routes_are_good(found: &mut Findings, before: &Ledger, after: &Ledger, seen: &Seen) {
    let is_left = before.table == after.table;
    for route in &after.table.routes {
        let jobs: Vec<_> = route.backends.iter().map(|backend| (backend.job, after.jobs.get(&backend.job))).collect();
        for (id, job) in &jobs {
            let may_serve = job.map_or(is_left, |job| job.drain_until.is_none() && runs(job, seen));
            found.unless(may_serve || after.generation.is_none(), number::ROUTES, || {
                format!("a route of {} leads to job {id}, which is ending or does not run", route.name)
            });
        }
        // A table follows from a set with the first advance after it.
        if before.generation == after.generation {
            shares_are_kept(found, after, route);
        }
        let good = jobs.iter().filter(|(_, job)| job.is_some_and(|job| is_good(health(job, seen)))).count();
        found.unless(good == 0 || good == jobs.len(), number::ROUTES, || {
            format!("a route of {} leads to a bad job beside a good one", route.name)
        });
    }
}

/// A job that waits to be released gets the share that it was given, and without one nothing.
fn shares_are_kept(found: &mut Findings, after: &Ledger, route: &Route) {
    let (mut all, mut waiting, mut share) = (0, 0, 0);
    for backend in &route.backends {
        all += backend.weight;
        let Some(job) = after.jobs.get(&backend.job).filter(|job| !after.is_current(job)) else { continue };
        waiting += backend.weight;
        match after.traffic(job) {
            Traffic::Share(percent) => share = percent,
            Traffic::Full | Traffic::Held => found.unless(false, number::ROUTES, || {
                format!("a route of {} leads to job {}, which has not its slot", route.name, backend.job)
            }),
        }
    }
    // Where those that have the slots are all bad, the ones that wait stand in for them; where nobody has one, for nobody.
    let has_slot = after.current.keys().any(|slot| slot.service == route.service);
    let is_share = waiting * 100 == share * all || (waiting == all && has_slot);
    found.unless(waiting == 0 || is_share, number::ROUTES, || {
        format!("a route of {} gives {waiting} of {all} to those that wait for {share} %", route.name)
    });
}

fn addresses_are_unique(found: &mut Findings, before: &Ledger, after: &Ledger, seen: &Seen) {
    let mut used = BTreeSet::new();
    for job in after.jobs.values() {
        let is_alone = job.address.is_none_or(|address| used.insert(address));
        found.unless(is_alone, number::ORDER, || {
            format!("the address of job {} is another job's too", job.assignment.job)
        });
    }
    for was in before.jobs.values() {
        let gave_back =
            was.address.is_some() && after.jobs.get(&was.assignment.job).is_none_or(|job| job.address.is_none());
        let has_container = seen.containers.keys().any(|attempt| attempt.job == was.assignment.job);
        let job = after.jobs.get(&was.assignment.job).unwrap_or(was);
        found.unless(!gave_back || is_out_of_reach(job, after, seen), number::STOP_AFTER_ACKNOWLEDGEMENT, || {
            format!("job {} gave its address back while a proxy could still use it", was.assignment.job)
        });
        found.unless(!gave_back || (!has_container && seen.engine_answers), number::ORDER, || {
            format!("job {} gave its address back while its container was there", was.assignment.job)
        });
    }
}

/// Whether a job is beside another that is up and ends, where no two of the slot may be up together; or, coming in the place of
/// one, beside any. What runs is the engine's to say, and so is the slot of what the ledger does not know: its labels name it,
/// and as long as nobody has read them it may be any.
fn is_beside_another(ledger: &Ledger, seen: &Seen, job: JobId) -> bool {
    let Some(job) = ledger.jobs.get(&job) else { return false };
    let (slot, id) = (&job.assignment.slot, job.assignment.job);
    let comes_instead = ledger.under_way(slot).is_some_and(|one| one.manner == Manner::Instead && one.new == Some(id));
    let is_recreated = job.assignment.run.spec.deploy.strategy == Strategy::Recreate;
    let running = seen.containers.iter().filter(|(_, one)| matches!(one, Container::Running { .. }));
    let mut others = running.map(|(attempt, _)| attempt).filter(|attempt| attempt.job != id);
    others.any(|attempt| match ledger.jobs.get(&attempt.job) {
        Some(other) if other.assignment.slot != *slot => false,
        Some(other) => comes_instead || ((other.alone || job.alone) && !ledger.shall_be_up(other)),
        None => (is_recreated || comes_instead) && seen.slots.get(attempt).is_none_or(|of| of == slot),
    })
}

fn action_is_allowed(found: &mut Findings, ledger: &Ledger, seen: &Seen, action: &Action) {
    match action {
        Action::Run { attempt, .. } => {
            let others = seen.containers.iter().filter(|(other, _)| other.job == attempt.job && *other != attempt);
            let is_alone = !others.into_iter().any(|(_, one)| matches!(one, Container::Running { .. }));
            found.unless(is_alone, number::ORDER, || format!("two attempts of job {} at once", attempt.job));
            let beside = is_beside_another(ledger, seen, attempt.job);
            found.unless(!beside, number::ONE_WRITER, || {
                format!("job {} starts while another job of its slot is up, which is to end first", attempt.job)
            });
            let already = matches!(seen.containers.get(attempt), Some(Container::Running { .. }));
            found.unless(!already, number::SETTLED, || format!("job {} runs and shall be run again", attempt.job));
        }
        Action::Terminate { attempt } | Action::Kill { attempt } => {
            let job = ledger.jobs.get(&attempt.job).filter(|job| job.key() == *attempt);
            let is_decided =
                ledger.strays.contains_key(attempt) || job.is_some_and(|job| job.phase == JobPhase::Stopping);
            found.unless(is_decided, number::ORDER, || {
                format!("job {} gets a signal that the ledger does not hold", attempt.job)
            });
        }
        Action::Remove { attempt } => {
            let runs = matches!(seen.containers.get(attempt), Some(Container::Running { .. }));
            found.unless(!runs, number::ORDER, || {
                format!("a running container of job {} shall be removed", attempt.job)
            });
        }
        Action::RemoveImage { pinned, .. } => {
            let is_garbage = ledger.brought.contains_key(pinned) && !images::is_needed(ledger, seen, pinned);
            found.unless(is_garbage, number::ORDER, || {
                format!("the image {pinned} shall go, and it is needed or not ours")
            });
        }
        Action::RemoveNetwork { environment } => {
            // A job that has ended uses it until its container is gone and no proxy can send to its address any more.
            let uses = |job: &Job| {
                let has_container = seen.attempts_of(job.assignment.job).next().is_some();
                !job.phase.is_final() || job.address.is_some() || has_container
            };
            let of = |job: &&Job| job.assignment.run.environment == *environment;
            let is_empty = !ledger.jobs.values().filter(of).any(uses);
            found.unless(is_empty, number::ORDER, || format!("the bridge of {environment} shall go while jobs use it"));
        }
        Action::EnsureNetwork { .. }
        | Action::Pull { .. }
        | Action::Watch { .. }
        | Action::Unwatch { .. }
        | Action::PublishTable => {}
    }
}
