//! From the written ledger and what is seen: what to do, when to wake, what waits and why.
//!
//! Level-triggered: each action is planned while its effect is not seen, and no longer.

use crate::assignment::BoundImage;
use crate::ids::{EnvironmentId, SlotId, ValueId};
use crate::node::action::{Action, Plan};
use crate::node::advance::{self, Next, STRAY_GRACE};
use crate::node::health::{Sight, sight};
use crate::node::images;
use crate::node::ledger::{Job, Ledger};
use crate::node::reason::Reason;
use crate::node::report::report;
use crate::node::seen::{Attempt, Container, Image, NodeConfig, Now, Seen};
use crate::probe::checks_of;
use crate::report::JobPhase;
use crate::time::{Tick, earlier};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// What follows from the ledger as it is written and from what is seen.
pub fn plan(ledger: &Ledger, seen: &Seen, config: &NodeConfig, now: Now) -> Plan {
    let mut actions = Vec::new();
    publish(ledger, seen, &mut actions);
    networks(ledger, seen, &mut actions);
    pulls(ledger, seen, &mut actions);
    runs(ledger, seen, &mut actions);
    watches(ledger, seen, &mut actions);
    stops(ledger, seen, now.tick, &mut actions);
    removals(ledger, seen, &mut actions);
    if let Some((pinned, one, why)) = images::garbage(ledger, seen, config, now.tick) {
        let (name, id) = (one.name.clone(), one.id.clone());
        actions.push(Action::RemoveImage { pinned: pinned.into(), name, id, why });
    }
    Plan {
        actions,
        wake: earlier(wake(ledger, seen, now.tick), images::wake(ledger, seen, config, now.tick)),
        waits: waits(ledger, seen, now.tick),
        report: report(ledger, seen, now),
    }
}

/// The table goes out until the file and every live proxy have it.
fn publish(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    let generation = ledger.table.generation;
    let is_late = seen.table_written < generation || seen.proxies.iter().any(|one| one.acknowledged < generation);
    if is_late {
        actions.push(Action::PublishTable);
    }
}

/// Bridges for the environments that have a job up or about to start, none for those that have no job any more.
fn networks(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    let needs = |job: &&Job| {
        let is_up = matches!(job.phase, JobPhase::Creating | JobPhase::Starting | JobPhase::Running);
        is_up && !seen.networks.contains(&job.assignment.run.environment)
    };
    let needed: BTreeSet<EnvironmentId> =
        ledger.jobs.values().filter(needs).map(|job| job.assignment.run.environment).collect();
    for environment in needed {
        if let Some(subnet) = ledger.subnets.get(&environment).copied() {
            actions.push(Action::EnsureNetwork { environment, subnet });
        }
    }
    let unused = advance::unused_networks(ledger, seen).filter(|one| seen.networks.contains(one));
    actions.extend(unused.map(|environment| Action::RemoveNetwork { environment }));
}

/// Images that a job waits for. A failure from before the attempt's wait is old news: ask again.
fn pulls(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    let waits = |job: &&Job| job.phase == JobPhase::Pulling && job.retry_at.is_none() && job.drain_until.is_none();
    let mut asked: BTreeMap<&str, (&BoundImage, Option<ValueId>)> = BTreeMap::new();
    for job in ledger.jobs.values().filter(waits) {
        let image = &job.assignment.run.image;
        let is_due = match seen.images.get(image.pinned()) {
            None => true,
            Some(Image::Failed { at, .. }) => *at < job.since,
            Some(Image::Pulling | Image::Present) => false,
        };
        if is_due {
            // The newest word on the job: credentials that were renewed since it came are those to pull with.
            let wanted = ledger.wanted.get(&job.assignment.slot).filter(|one| one.job == job.assignment.job);
            let login = wanted.unwrap_or(&job.assignment).run.registry_login();
            // One pull is for all that wait; the newest job's credentials are those that were good last.
            let (_, known) = asked.entry(image.pinned()).or_insert((image, None));
            *known = login.or(*known);
        }
    }
    actions.extend(asked.into_values().map(|(image, login)| Action::Pull { image: image.clone(), login }));
}

/// Containers to make and start: on a standing bridge, with an address, and when nothing of an earlier attempt is left, nor of
/// another job where that cannot be.
fn runs(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    for job in ledger.jobs.values().filter(|job| job.drain_until.is_none() && seen.engine_answers) {
        let run = &job.assignment.run;
        let is_due = match (job.phase, sight(job, seen)) {
            (JobPhase::Creating | JobPhase::Starting, Sight::Missing | Sight::There(Container::Created)) => true,
            (JobPhase::Creating | JobPhase::Starting, Sight::Silent | Sight::There(_)) => false,
            (
                JobPhase::Assigned
                | JobPhase::Pulling
                | JobPhase::Running
                | JobPhase::Stopping
                | JobPhase::Stopped
                | JobPhase::Succeeded
                | JobPhase::Failed
                | JobPhase::Rejected,
                _,
            ) => false,
        };
        let has_older = seen.attempts_of(job.assignment.job).any(|one| *one != job.key());
        let stands = seen.networks.contains(&run.environment);
        let (Some(address), Some(subnet)) = (job.address, ledger.subnets.get(&run.environment)) else { continue };
        if is_due && stands && !has_older && advance::in_the_way(ledger, seen, job).is_none() {
            let (slot, run) = (job.assignment.slot.clone(), Box::new(run.clone()));
            actions.push(Action::Run { attempt: job.key(), slot, address, subnet: *subnet, run });
        }
    }
}

fn is_watched(job: &Job) -> bool {
    job.phase == JobPhase::Running && !checks_of(&job.assignment.run.spec).is_empty()
}

fn watches(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    let watched: BTreeMap<Attempt, &Job> =
        ledger.jobs.values().filter(|job| is_watched(job)).map(|job| (job.key(), job)).collect();
    for (attempt, job) in watched.iter().filter(|(attempt, _)| !seen.checks.contains_key(attempt)) {
        let Some(address) = job.address else { continue };
        let checks = checks_of(&job.assignment.run.spec);
        actions.push(Action::Watch { attempt: *attempt, address, checks, was_good: job.was_good });
    }
    let needless = seen.checks.keys().filter(|attempt| !watched.contains_key(attempt));
    actions.extend(needless.map(|attempt| Action::Unwatch { attempt: *attempt }));
}

/// Stop signals and kills that the ledger has decided.
fn stops(ledger: &Ledger, seen: &Seen, now: Tick, actions: &mut Vec<Action>) {
    let jobs = ledger.jobs.values().filter(|job| job.phase == JobPhase::Stopping);
    let jobs = jobs.map(|job| (job.key(), advance::job::kill_at(job, seen)));
    let strays = ledger.strays.iter().map(|(attempt, since)| (*attempt, stray_kill_at(*attempt, *since, seen)));
    for (attempt, kill_at) in jobs.chain(strays) {
        let Some(Container::Running { terminated, .. }) = seen.containers.get(&attempt) else { continue };
        if !terminated {
            actions.push(Action::Terminate { attempt });
        } else if now >= kill_at {
            actions.push(Action::Kill { attempt });
        }
    }
}

fn stray_kill_at(attempt: Attempt, since: Tick, seen: &Seen) -> Tick {
    advance::job::end_of_grace(attempt, since, STRAY_GRACE, seen)
}

/// Containers that do not run and are nobody's attempt any more.
fn removals(ledger: &Ledger, seen: &Seen, actions: &mut Vec<Action>) {
    for (attempt, container) in &seen.containers {
        let runs = matches!(container, Container::Running { .. });
        let is_kept = advance::once::is_kept(ledger, *attempt);
        if !runs && seen.engine_answers && !advance::is_live(ledger, *attempt) && !is_kept {
            actions.push(Action::Remove { attempt: *attempt });
        }
    }
}

/// What each slot waits for, if it waits: its replacement first, then what holds back one that has not begun, then its job.
pub(super) fn waits(ledger: &Ledger, seen: &Seen, now: Tick) -> Vec<(SlotId, Reason)> {
    let slots = advance::begin::slots(ledger).into_iter();
    slots.filter_map(|slot| Some((slot.clone(), wait_of(ledger, seen, &slot, now)?))).collect()
}

fn wait_of(ledger: &Ledger, seen: &Seen, slot: &SlotId, now: Tick) -> Option<Reason> {
    if ledger.under_way(slot).is_some() {
        return Some(match advance::replacement::next(ledger, seen, slot, now) {
            Next::Wait(reason, _) => reason,
            Next::Rest | Next::Go(_) => Reason::NextStep,
        });
    }
    if let Next::Wait(reason, _) = advance::begin::next(ledger, seen, slot) {
        return Some(reason);
    }
    if let Some(one) = ledger.wanted.get(slot).filter(|one| one.once.is_some()) {
        return advance::once::wait_of(ledger, seen, one, now);
    }
    let job = ledger.current.get(slot).and_then(|id| ledger.jobs.get(id))?;
    match advance::job::next(ledger, seen, job, now) {
        Next::Wait(reason, _) => Some(reason),
        Next::Rest | Next::Go(_) => None,
    }
}

/// The earliest instant at which time alone changes something. A step that is due was taken by `advance`, or the ledger
/// could not be written; then its writer knows when to try again, and being awake would not help.
fn wake(ledger: &Ledger, seen: &Seen, now: Tick) -> Option<Tick> {
    let of_slot = |slot: &SlotId| match advance::replacement::next(ledger, seen, slot, now) {
        Next::Wait(_, wake) => wake,
        Next::Rest | Next::Go(_) => None,
    };
    let of_job = |job: &Job| {
        let own = match advance::job::next(ledger, seen, job, now) {
            Next::Wait(_, wake) => wake,
            Next::Rest | Next::Go(_) => None,
        };
        earlier(own, advance::cut_off::deadline(&job.assignment.run, seen, now))
    };
    let slots = advance::begin::slots(ledger);
    let of_slots = slots.iter().filter_map(of_slot);
    let of_jobs = ledger.jobs.values().filter_map(of_job);
    let of_strays =
        ledger.strays.iter().map(|(attempt, since)| stray_kill_at(*attempt, *since, seen)).filter(|kill| *kill > now);
    of_slots.chain(of_jobs).chain(of_strays).min()
}
