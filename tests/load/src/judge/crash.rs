//! Judges what a killed process left behind: the cluster is in the new or the old version, whole, and nothing that was
//! well was touched.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::judge::Sheet;
use crate::judge::evidence::{Deployment, Load};

/// A service, as the controller's API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Its path.
    pub path: String,
    /// How it is, in a word.
    pub state: String,
    /// How it is, in a sentence.
    pub message: String,
    /// How many jobs are wanted.
    pub scale: u32,
    /// How many are healthy.
    pub healthy: u32,
    /// The active revision.
    pub revision: Option<u32>,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// A job, as the controller's API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The revision it runs.
    pub revision: u32,
    /// Which attempt.
    pub attempt: u32,
}

/// A container of the cluster, in whatever state: a line of `id started state path slot job attempt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// When it was started, in the engine's words.
    pub started: String,
    /// `running`, …
    pub state: String,
    /// The service's path.
    pub path: String,
    /// `web.1`.
    pub slot: String,
    /// The job that it is an attempt of.
    pub job: String,
    /// Which attempt.
    pub attempt: String,
}

impl Found {
    /// Reads a list, a container a line. A line with another number of words names no container of ours.
    pub fn list(text: &str) -> Vec<Found> {
        let found = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [id, started, state, path, slot, job, attempt] = words.as_slice() else { return None };
            let [id, started, state, path, slot, job, attempt] =
                [id, started, state, path, slot, job, attempt].map(|word| (*word).to_owned());
            Some(Found { id, started, state, path, slot, job, attempt })
        };
        text.lines().filter_map(found).collect()
    }
}

/// What was found.
#[derive(Debug)]
pub struct Case {
    /// The service that was deployed when the process died.
    pub service: String,
    /// The containers before.
    pub before: Vec<Found>,
    /// The containers after.
    pub after: Vec<Found>,
    /// The services after.
    pub services: Vec<Service>,
    /// All deployments after.
    pub deployments: Vec<Deployment>,
    /// What the controller had acknowledged: path and number.
    pub acknowledged: Vec<(String, u32)>,
    /// The load's report, once it ended.
    pub load: Option<Load>,
}

/// Judges.
pub fn judge(case: &Case) -> Sheet {
    let mut sheet = Sheet::default();
    judge_acknowledged(&mut sheet, case);
    judge_services(&mut sheet, case);
    judge_containers(&mut sheet, case);
    judge_untouched(&mut sheet, case);
    if let Some(load) = &case.load {
        let all = load.scheduled > 0
            && load.scheduled == load.sent
            && load.sent == load.answered
            && load.failed == 0
            && load.retried == 0
            && load.verdict == "passed";
        let what = || format!("{} of {}, {}", load.answered, load.scheduled, load.reasons.join("; "));
        sheet.every("no request was lost or sent twice", [(!all).then(what)]);
    }
    sheet
}

/// How the newest deployment of the service ended, in a word.
pub fn ended_as(case: &Case) -> String {
    let of_it = case.deployments.iter().filter(|deployment| deployment.service == case.service);
    match of_it.max_by_key(|deployment| deployment.number) {
        Some(newest) if newest.phase == "complete" => format!("complete, {}", newest.number),
        Some(newest) => format!("{}, {}", newest.phase, newest.number),
        None => "gone".to_owned(),
    }
}

fn judge_acknowledged(sheet: &mut Sheet, case: &Case) {
    // The controller keeps the newest of a service, in a row: what is older than all of them has been forgotten, what is
    // missing among them or newer than them is lost.
    let verdicts = case.acknowledged.iter().map(|(path, number)| {
        let mut listed = case.deployments.iter().filter(|one| one.service == *path).map(|one| one.number);
        let forgotten = listed.clone().min().is_some_and(|oldest| *number < oldest);
        let is_there = listed.any(|one| one == *number);
        (!is_there && !forgotten).then(|| format!("{path} {number} is not"))
    });
    sheet.every("every deployment that was acknowledged is listed", verdicts);
    let verdicts = case.deployments.iter().map(|one| {
        let ended = one.ended && matches!(one.phase.as_str(), "complete" | "failed" | "superseded");
        (!ended).then(|| format!("{} {} is {}", one.service, one.number, one.phase))
    });
    sheet.every("every deployment has ended", verdicts);
}

fn judge_services(sheet: &mut Sheet, case: &Case) {
    let verdicts = case.services.iter().map(|service| {
        let whole = service.healthy == service.scale && service.jobs.len() == service.scale as usize;
        let good = whole && matches!(service.state.as_str(), "healthy" | "degraded");
        let (healthy, jobs, scale) = (service.healthy, service.jobs.len(), service.scale);
        let what = || format!("{}: {healthy} of {scale} healthy, {jobs} jobs; {}", service.path, service.message);
        (!good).then(what)
    });
    sheet.every("every service has all its jobs, healthy", verdicts);
    let verdicts = case.services.iter().map(|service| {
        let revisions: BTreeSet<u32> = service.jobs.iter().map(|job| job.revision).collect();
        let one = revisions.len() == 1 && revisions.first().copied() == service.revision;
        (!one).then(|| format!("{} runs {revisions:?}, active is {:?}", service.path, service.revision))
    });
    sheet.every("every service runs one version, the active one", verdicts);
}

fn judge_containers(sheet: &mut Sheet, case: &Case) {
    let jobs: BTreeMap<&str, &Job> =
        case.services.iter().flat_map(|service| &service.jobs).map(|job| (job.id.as_str(), job)).collect();
    let named = |one: &Found| {
        let job = jobs.get(one.job.as_str());
        job.is_some_and(|job| job.attempt.to_string() == one.attempt) && one.state == "running"
    };
    let orphans = case.after.iter().map(|one| (!named(one)).then(|| format!("{one:?} is nobody's")));
    sheet.every("every container is the running attempt of a job that the controller names", orphans);
    let missing = jobs.keys().map(|id| {
        let is_there = case.after.iter().any(|one| one.job == **id);
        (!is_there).then(|| format!("job {id} has none"))
    });
    sheet.every("every job has its container", missing);
    let mut slots: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for one in &case.after {
        *slots.entry((&one.path, &one.slot)).or_default() += 1;
    }
    let doubles =
        slots.iter().map(|((path, slot), number)| (*number != 1).then(|| format!("{path} {slot} has {number}")));
    sheet.every("no slot has two containers", doubles);
}

fn judge_untouched(sheet: &mut Sheet, case: &Case) {
    let others = case.before.iter().filter(|one| one.path != case.service && one.state == "running");
    let verdicts = others.map(|one| (!case.after.contains(one)).then(|| format!("{one:?} is gone or was restarted")));
    sheet.every("no container of another service was touched", verdicts);
    let kept = case.after.iter().map(|one| {
        let before = case.before.iter().find(|before| before.job == one.job);
        let is_same = before.is_none_or(|before| before == one) && one.attempt == "1";
        (!is_same).then(|| format!("{before:?} became {one:?}"))
    });
    sheet.every("no job was restarted", kept);
}

#[cfg(test)]
mod tests;
