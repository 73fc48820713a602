//! Judges redeploys under load: was anything lost, did every old job have its overlap, its drain and its grace, and did
//! none of it take longer than it may.

use crate::judge::Sheet;
use crate::judge::evidence::{Container, Deployment, Load, Socket, Timeline};

/// How much later than it may at the earliest something is allowed to happen.
const SLACK_MS: u64 = 1000;
/// Two clocks of one machine, read one after the other, and a line that had to be written: they agree within this.
const AGREE_MS: u64 = 1000;
/// A socket that is opened while the switch goes on may be the old job's and have its answer after the switch.
const SWITCHING_MS: u64 = 250;
/// Of fifty, forty-eight must be in time: a machine with other work to do is late now and then. What must never be early
/// has no such allowance.
const LATE_OF_FIFTY: usize = 2;

/// What the spec promised.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Both jobs are up for so long after the switch.
    pub overlap_ms: u64,
    /// Then open connections have so long.
    pub drain_ms: u64,
    /// And the process so long, after SIGTERM.
    pub stop_grace_ms: u64,
}

/// What the witnesses said.
#[derive(Debug)]
pub struct Case {
    /// What was promised.
    pub policy: Policy,
    /// How many deployments of the service under load there should have been.
    pub redeploys: usize,
    /// The path of the service under load.
    pub service: String,
    /// The load's report.
    pub load: Load,
    /// Every deployment of every service.
    pub deployments: Vec<Deployment>,
    /// Every container.
    pub containers: Vec<Container>,
}

/// An old job's end.
struct End<'a> {
    name: String,
    host: String,
    path: &'a str,
    switched: u64,
    timeline: &'a Timeline,
    container: Option<&'a Container>,
}

impl End<'_> {
    /// When its SIGTERM came, by the first who says so: the engine tells the event a few milliseconds after the deed.
    fn terminated(&self) -> Option<u64> {
        let container = self.container?;
        let at = container.terminated?;
        Some(container.heard.map_or(at, |heard| heard.min(at)))
    }

    /// When the drain is over at latest.
    fn deadline(&self, policy: Policy) -> u64 {
        self.switched + policy.overlap_ms + policy.drain_ms
    }

    /// When the drain is over: when the last connection ended, else at its deadline. Requests take milliseconds, so that
    /// only sockets last longer than the overlap.
    fn drained(&self, case: &Case) -> u64 {
        let overlapped = self.switched + case.policy.overlap_ms;
        let lasts = |socket: &&Socket| socket.host.as_deref() == Some(&self.host) && socket.opened_ms <= self.switched;
        let sockets = case.load.websockets.sockets.iter().filter(lasts);
        let last = if self.path == case.service { sockets.map(|socket| socket.closed_ms).max() } else { None };
        last.unwrap_or(overlapped).clamp(overlapped, self.deadline(case.policy))
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Option<String> {
        Some(format!("{}: {what}", self.name))
    }
}

/// Judges.
pub fn judge(case: &Case) -> Sheet {
    let mut sheet = Sheet::default();
    let ends = ends(case);
    judge_load(&mut sheet, case);
    judge_sockets(&mut sheet, case, &ends);
    judge_deployments(&mut sheet, case);
    judge_containers(&mut sheet, case);
    judge_switches(&mut sheet, case, &ends);
    judge_graces(&mut sheet, case, &ends);
    sheet
}

/// What the job of a slot calls itself: `web-1` for `web.1` of `shop/production/web`.
fn host(service: &str, slot: &str) -> String {
    let last = |text: &str, separator| text.rsplit(separator).next().unwrap_or_default().to_owned();
    format!("{}-{}", last(service, '/'), last(slot, '.'))
}

fn ends(case: &Case) -> Vec<End<'_>> {
    let mut ends = Vec::new();
    for deployment in &case.deployments {
        for timeline in &deployment.slots {
            let (Some(old), Some(switched)) = (&timeline.old, timeline.reached("switched")) else { continue };
            ends.push(End {
                name: format!("{} deployment {} {}", deployment.service, deployment.number, timeline.slot),
                host: host(&deployment.service, &timeline.slot),
                path: &deployment.service,
                switched,
                timeline,
                container: case.containers.iter().find(|container| container.job == *old),
            });
        }
    }
    ends
}

fn judge_load(sheet: &mut Sheet, case: &Case) {
    let load = &case.load;
    let claim = |kept: bool, what: String| [(!kept).then_some(what)];
    let all = load.scheduled == load.sent && load.sent == load.answered && load.failed == 0 && load.scheduled > 0;
    let counts =
        format!("scheduled {}, sent {}, answered {}, failed {}", load.scheduled, load.sent, load.answered, load.failed);
    sheet.every("every scheduled request was sent and answered 2xx with its whole body in time", claim(all, counts));
    sheet.every("no request had to be sent twice", claim(load.retried == 0, format!("{} were", load.retried)));
    let fresh = load.connections.fresh;
    let share = format!("{fresh} of {}", load.scheduled);
    sheet.every("at least a tenth came on connections of their own", claim(fresh * 10 >= load.scheduled, share));
    sheet.every("the load has nothing else to say", claim(load.verdict == "passed", load.reasons.join("; ")));
}

fn judge_sockets(sheet: &mut Sheet, case: &Case, ends: &[End<'_>]) {
    let sockets = &case.load.websockets;
    let silent = sockets.wanted == 0 || sockets.echoed == 0;
    sheet.every("WebSockets were held and echoed", [silent.then(|| "none was".to_owned())]);
    let closed = sockets.sockets.iter().filter(|socket| socket.closed_by != "load");
    let verdicts = closed.map(|socket| cut_early(case, ends, socket));
    sheet.every("no WebSocket was closed before its old job's drain deadline and SIGTERM", verdicts);
}

/// What is wrong with a socket's end that the load did not ask for.
fn cut_early(case: &Case, ends: &[End<'_>], socket: &Socket) -> Option<String> {
    let host = socket.host.as_deref().unwrap_or("?");
    let wrong = |what: String| Some(format!("of {host}, {} to {}: {what}", socket.opened_ms, socket.closed_ms));
    if socket.closed_by != "server" || socket.code != Some(1001) {
        return wrong(format!("it ended by {}, code {:?}", socket.closed_by, socket.code));
    }
    let its = |end: &&End<'_>| end.host == host && end.path == case.service;
    let told = |end: &&End<'_>| end.terminated().is_some_and(|at| at <= socket.closed_ms);
    let Some(end) = ends.iter().filter(its).filter(told).max_by_key(|end| end.terminated()) else {
        return wrong("no job there had been told to stop".into());
    };
    if socket.opened_ms > end.switched + SWITCHING_MS {
        wrong(format!("it was opened after {} had switched, at {}", end.name, end.switched))
    } else if socket.closed_ms < end.deadline(case.policy) {
        wrong(format!("{} ms before the drain deadline of {}", end.deadline(case.policy) - socket.closed_ms, end.name))
    } else {
        None
    }
}

fn judge_deployments(sheet: &mut Sheet, case: &Case) {
    let of_it = case.deployments.iter().filter(|deployment| deployment.service == case.service).count();
    // The first one is the service's beginning.
    let few = (of_it != case.redeploys + 1).then(|| format!("{of_it} deployments, {} wanted", case.redeploys + 1));
    sheet.every("there were as many redeploys as asked for", [few]);
    let verdicts = case.deployments.iter().map(|deployment| {
        let said = deployment.message.as_deref().unwrap_or("no reason given");
        let wrong = || format!("{} {} is {}: {said}", deployment.service, deployment.number, deployment.phase);
        (deployment.phase != "complete").then(wrong)
    });
    sheet.every("every deployment was completed", verdicts);
}

fn judge_containers(sheet: &mut Sheet, case: &Case) {
    let of = |container: &Container| format!("{} job {} attempt {}", container.path, container.job, container.attempt);
    let verdicts = case.containers.iter().map(|container| {
        let unasked = container.died.is_some() && container.terminated.is_none_or(|at| container.died < Some(at));
        unasked.then(|| format!("{} died at {:?} and had not been told to stop", of(container), container.died))
    });
    sheet.every("no container died without having been told to stop", verdicts);
    let verdicts = case.containers.iter().map(|container| {
        let again = container.started.len() != 1 || container.attempt != "1";
        again.then(|| format!("{} was started {} times", of(container), container.started.len()))
    });
    sheet.every("no job was started twice", verdicts);
}

fn judge_switches(sheet: &mut Sheet, case: &Case, ends: &[End<'_>]) {
    let policy = case.policy;
    sheet.every(
        "every old job's SIGTERM is in the engine's events",
        ends.iter().map(|end| if end.terminated().is_none() { end.wrong("there is none") } else { None }),
    );
    sheet.every(
        "the engine's events, the job's own log and the agent agree on when it was",
        ends.iter().map(|end| {
            let (at, heard) = (end.container?.terminated?, end.container?.heard);
            let agrees = |other: Option<u64>| other.is_some_and(|other| other.abs_diff(at) <= AGREE_MS);
            let (stopped, all) = (end.timeline.stopped_ms, agrees(heard) && agrees(end.timeline.stopped_ms));
            if all { None } else { end.wrong(format!("event {at}, log {heard:?}, agent {stopped:?}")) }
        }),
    );
    sheet.every(
        "no SIGTERM came before the switch and the whole overlap",
        ends.iter().map(|end| {
            let (at, first) = (end.terminated()?, end.switched + policy.overlap_ms);
            if at >= first { None } else { end.wrong(format!("{} ms too early", first - at)) }
        }),
    );
    sheet.most(
        "SIGTERM came at most 1 s after the drain's end",
        late_ones,
        ends.iter().map(|end| {
            let (at, last) = (end.terminated()?, end.drained(case) + SLACK_MS);
            if at <= last { None } else { end.wrong(format!("{} ms too late", at - last)) }
        }),
    );
}

fn judge_graces(sheet: &mut Sheet, case: &Case, ends: &[End<'_>]) {
    let grace = case.policy.stop_grace_ms;
    let killed = || {
        ends.iter().filter_map(|end| {
            let container = end.container?;
            Some((end, container.killed?.saturating_sub(container.terminated?)))
        })
    };
    sheet.every(
        "no SIGKILL came before the whole stop grace",
        killed().map(|(end, after)| if after >= grace { None } else { end.wrong(format!("{after} ms after SIGTERM")) }),
    );
    sheet.most(
        "SIGKILL came at most 1 s after the stop grace",
        late_ones,
        killed().map(
            |(end, after)| {
                if after <= grace + SLACK_MS { None } else { end.wrong(format!("{after} ms after SIGTERM")) }
            },
        ),
    );
    sheet.every(
        "only a job that does not stop by itself was killed",
        ends.iter().map(|end| {
            let container = end.container?;
            let ended_itself = container.died? < container.terminated? + grace;
            let wrong = ended_itself && container.killed.is_some();
            if wrong { end.wrong("it ended within its grace and was sent SIGKILL") } else { None }
        }),
    );
}

/// 48 of 50 may not be late; of fewer in proportion.
fn late_ones(of: usize) -> usize {
    of * LATE_OF_FIFTY / 50
}

/// How long things took, to look at: a line each.
pub fn figures(case: &Case) -> Vec<String> {
    let ends = ends(case);
    let over = |from: fn(&End<'_>, &Case) -> Option<u64>| {
        let mut spans: Vec<u64> = ends.iter().filter_map(|end| from(end, case)).collect();
        spans.sort_unstable();
        let last = spans.len().checked_sub(1);
        last.map_or("none".to_owned(), |last| format!("{:>8} {:>8} {:>8}", spans[last / 2], spans[last], spans.len()))
    };
    let after_overlap = over(|end, case| end.terminated()?.checked_sub(end.switched + case.policy.overlap_ms));
    let after_drain = over(|end, case| end.terminated()?.checked_sub(end.drained(case)));
    let grace = over(|end, _| end.container?.killed?.checked_sub(end.container?.terminated?));
    let ended = over(|end, _| end.container?.died?.checked_sub(end.container?.terminated?));
    let latency = &case.load.latency_ms;
    vec![
        format!("{:<38} {:>8} {:>8} {:>8}", "milliseconds", "p50", "max", "of"),
        format!("{:<38} {after_overlap}", "SIGTERM after switch and overlap"),
        format!("{:<38} {after_drain}", "SIGTERM after the drain's end"),
        format!("{:<38} {grace}", "SIGKILL after SIGTERM"),
        format!("{:<38} {ended}", "end after SIGTERM"),
        format!("{:<38} {:>8.1} {:>8.1} {:>8}", "requests", latency.p50, latency.max, case.load.answered),
        format!("{:<38} {:>8.1}", "requests, p99", latency.p99),
    ]
}

#[cfg(test)]
mod tests;
