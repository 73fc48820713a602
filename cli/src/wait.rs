//! Waiting: for deployments to end, for a service to go, for a controller to come back.

use crate::address::ServicePath;
use crate::client::{Answer, ClientError};
use crate::commands::Session;
use crate::error::LapError;
use crate::output::{Output, Style, printable};
use crate::show::amount::span_of;
use crate::show::progress::{Live, Plain};
use crate::show::timeline;
use jiff::fmt::rfc2822::DateTimeParser;
use lapstrake_api::view::{Deployment, Service};
use std::time::{Duration, Instant};

/// Between two looks: what happens between them is not missed, as the controller keeps the time of every phase.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A controller that starts again is back in seconds; after so long it is not just starting again.
const PATIENCE: Duration = Duration::from_secs(30);

/// A deployment that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Whose.
    pub service: ServicePath,
    /// Which.
    pub number: u32,
}

/// Waits through a controller's absence, for a while.
pub struct Patience {
    absent_since: Option<Instant>,
    rewarded: bool,
}

impl Patience {
    /// Nothing was tried yet.
    pub fn new() -> Patience {
        Patience { absent_since: None, rewarded: false }
    }

    /// The controller answered.
    pub fn rewarded(&mut self, output: &Output) {
        if self.absent_since.take().is_some() {
            output.say("the controller answers again");
        }
        self.rewarded = true;
    }

    /// Whether it ever answered.
    pub fn was_rewarded(&self) -> bool {
        self.rewarded
    }

    /// It did not answer. The error comes back when it will not pass, or has lasted too long.
    pub fn tried(&mut self, error: ClientError, output: &Output) -> Result<(), ClientError> {
        if !error.may_pass() {
            return Err(error);
        }
        let since = *self.absent_since.get_or_insert_with(|| {
            output.say("the controller does not answer; the nodes go on by themselves");
            Instant::now()
        });
        if since.elapsed() < PATIENCE { Ok(()) } else { Err(error) }
    }

    /// Until the next try.
    pub async fn pause(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the deployments ended, shows how they go, and at the end how they went.
pub async fn wait_for(session: &mut Session, watched: &[Watched], timeout: Option<Duration>) -> Result<(), LapError> {
    wait_for_end(session, watched, timeout, "complete").await
}

/// The same for deployments of which another end is wanted.
pub async fn wait_for_end(
    session: &mut Session,
    watched: &[Watched],
    timeout: Option<Duration>,
    end: &str,
) -> Result<(), LapError> {
    let begun = Instant::now();
    let mut progress = Progress::new(&session.output);
    let mut patience = Patience::new();
    let mut seen: Vec<Seen> = Vec::new();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let looked = tokio::select! {
            looked = look(session, watched, &mut seen, &mut patience, &mut progress) => looked,
            _ = &mut interrupted => Err(LapError::Interrupted(goes_on(watched, "you stopped waiting"))),
        };
        let looked = match looked {
            Ok(()) if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) && !all_ended(&seen, watched) => {
                Err(LapError::TimedOut(not_ended(&seen, watched, begun.elapsed())))
            }
            looked => looked,
        };
        progress.show(&seen, looked.is_err());
        looked?;
        if all_ended(&seen, watched) {
            break;
        }
        tokio::select! {
            () = patience.pause() => {}
            _ = &mut interrupted => {
                progress.leave();
                return Err(LapError::Interrupted(goes_on(watched, "you stopped waiting")));
            }
        }
    }
    progress.leave();
    conclude(session, &seen, end)
}

/// What is known of one deployment.
pub struct Seen {
    /// As it is, for people.
    pub view: Deployment,
    answer: Answer,
    first: First,
}

/// When a deployment was looked at first.
#[derive(Debug, Clone, Copy)]
struct First {
    at: Instant,
    /// So long it had been asked for by then, by the controller's clock, which tells whole seconds.
    age: Duration,
}

impl First {
    fn look(view: &Deployment, date: Option<&str>) -> First {
        let there = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        let there_ms = there.and_then(|there| u64::try_from(there.as_millisecond()).ok()).unwrap_or(0);
        First { at: Instant::now(), age: Duration::from_millis(there_ms.saturating_sub(view.created_ms)) }
    }

    /// How long ago a deployment was asked for, or, of one that has ended, how long it took. What it has reached came before now.
    /// Only its own phases count: those of its slots are of the nodes' clocks.
    fn age(&self, view: &Deployment, now: Instant) -> Duration {
        let newest = view.reached.iter().map(|moment| moment.at_ms.saturating_sub(view.created_ms)).max();
        let newest = Duration::from_millis(newest.unwrap_or(0));
        if view.ended { newest } else { newest.max(self.age + now.duration_since(self.at)) }
    }
}

/// Looks once at each deployment that has not ended.
async fn look(
    session: &mut Session,
    watched: &[Watched],
    seen: &mut Vec<Seen>,
    patience: &mut Patience,
    progress: &mut Progress,
) -> Result<(), LapError> {
    for (index, watched) in watched.iter().enumerate() {
        if seen.get(index).is_some_and(|seen| seen.view.ended) {
            continue;
        }
        let asked = session.client.get_now(&format!("{}/deployments/{}", watched.service.url(), watched.number)).await;
        let answer = match asked {
            Ok(answer) => {
                patience.rewarded(&session.output);
                answer
            }
            Err(error) if error.is_not_found() => return Err(LapError::Failed(error.to_string())),
            Err(error) => {
                progress.leave();
                patience.tried(error, &session.output)?;
                return Ok(());
            }
        };
        let view = answer.read()?;
        let first = seen.get(index).map_or_else(|| First::look(&view, answer.date.as_deref()), |known| known.first);
        let fresh = Seen { view, answer, first };
        match seen.get_mut(index) {
            Some(known) => *known = fresh,
            None => seen.push(fresh),
        }
    }
    Ok(())
}

fn all_ended(seen: &[Seen], watched: &[Watched]) -> bool {
    seen.len() == watched.len() && seen.iter().all(|seen| seen.view.ended)
}

fn goes_on(watched: &[Watched], why: &str) -> String {
    match watched {
        [] => why.to_owned(),
        [Watched { service, number }] => {
            format!(
                "{why}; deployment {number} of {service} goes on, `lap deployments {service} {number}` shows how far it is"
            )
        }
        [first, ..] => format!(
            "{why}; the {} deployments go on, `lap deployments {}` shows how far the first is",
            watched.len(),
            first.service
        ),
    }
}

fn not_ended(seen: &[Seen], watched: &[Watched], waited: Duration) -> String {
    let unfinished = seen.iter().find(|seen| !seen.view.ended).map(|seen| {
        let waits = seen.view.message.as_ref().map(|message| format!(": {}", printable(message)));
        format!(", it is {}{}", seen.view.phase, waits.unwrap_or_default())
    });
    let why = format!("it did not end within {}{}", span_of(waited), unfinished.unwrap_or_default());
    goes_on(watched, &why)
}

/// The timelines, and how it ended as a whole.
fn conclude(session: &Session, seen: &[Seen], end: &str) -> Result<(), LapError> {
    let output = &session.output;
    let mut failures = Vec::new();
    for Seen { view, answer, .. } in seen {
        if output.is_json() {
            output.json(answer)?;
        } else {
            output.text(&timeline::timeline(view, output.stdout))?;
        }
        let sentence = timeline::conclusion(view);
        if view.phase != end {
            failures.push(sentence);
        } else if !output.is_json() {
            output.line(&Style::Good.paint(&sentence, output.stdout.colour))?;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(LapError::Failed(failures.join("; "))) }
}

/// Waits until a service is no more.
pub async fn wait_until_gone(
    session: &mut Session,
    path: &ServicePath,
    timeout: Option<Duration>,
) -> Result<(), LapError> {
    let begun = Instant::now();
    let mut patience = Patience::new();
    let mut last = String::new();
    loop {
        match session.client.get_now(&path.url()).await {
            Ok(answer) => {
                patience.rewarded(&session.output);
                let message = answer.read::<Service>()?.message;
                if message != last {
                    session.output.say(&format!("{:>8}  {path}: {}", span_of(begun.elapsed()), printable(&message)));
                    last = message;
                }
            }
            Err(error) if error.is_not_found() => {
                session.output.say(&format!("{path} is gone after {}", span_of(begun.elapsed())));
                return Ok(());
            }
            Err(error) => patience.tried(error, &session.output)?,
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let waited = span_of(begun.elapsed());
            return Err(LapError::TimedOut(format!("{path} is not gone after {waited}; its removal goes on: {last}")));
        }
        tokio::select! {
            () = patience.pause() => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(LapError::Interrupted(format!("you stopped waiting; the removal of {path} goes on")));
            }
        }
    }
}

/// Progress as the stream of words can show it.
enum Progress {
    Live(Live),
    Plain(Plain),
}

impl Progress {
    fn new(output: &Output) -> Progress {
        // A dumb terminal cannot redraw.
        let can_redraw = output.stderr.width.is_some() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if can_redraw { Progress::Live(Live::new(output.stderr)) } else { Progress::Plain(Plain::default()) }
    }

    fn show(&mut self, seen: &[Seen], is_last: bool) {
        let now = Instant::now();
        let views: Vec<_> = seen.iter().map(|seen| (&seen.view, seen.first.age(&seen.view, now))).collect();
        match self {
            Progress::Live(live) => live.draw(&views),
            Progress::Plain(plain) => plain.tell(&views),
        }
        if is_last {
            self.leave();
        }
    }

    /// What was drawn stays, and the next words come below it.
    fn leave(&mut self) {
        if let Progress::Live(live) = self {
            live.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::timeline::tests::rolled;
    use lapstrake_api::view::Moment;

    #[test]
    fn whoever_watches_late_is_told_the_time_since_the_deployment_was_asked_for_whatever_the_clocks_say() {
        let mut view = rolled();
        (view.ended, view.created_ms) = (false, 1_800_000_000_300);
        view.reached = vec![Moment { phase: "rolling".into(), at_ms: view.created_ms + 2_000 }];
        // A node whose clock is a day ahead.
        view.slots[0].reached.push(Moment { phase: "draining".into(), at_ms: view.created_ms + 86_400_000 });
        let first = First::look(&view, Some("Fri, 15 Jan 2027 11:00:00 GMT"));
        let later = |seconds| first.at + Duration::from_secs(seconds);
        let held_for = Duration::from_millis(3 * 3_600_000 - 300);
        assert_eq!(first.age(&view, later(5)), held_for + Duration::from_secs(5));
        let fresh = First::look(&view, Some("Fri, 15 Jan 2027 08:00:00 GMT"));
        assert_eq!(fresh.age(&view, fresh.at), Duration::from_secs(2), "not before what it has reached");
        view.ended = true;
        assert_eq!(first.age(&view, later(5)), Duration::from_secs(2), "so long it took");
    }
}
