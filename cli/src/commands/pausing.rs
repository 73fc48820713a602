//! Holding services: pausing and resuming them, and saying whether they get new jobs.

use super::Session;
use crate::address::ServicesPath;
use crate::args::{Pause, Redeployable, Resume, Waiting, YesOrNo};
use crate::error::LapError;
use crate::output::{Style, printable, without_subject};
use crate::show::amount::span_of;
use crate::wait::Patience;
use lapstrake_api::ask;
use lapstrake_api::view::{Noted, Service};
use std::collections::BTreeMap;
use std::time::Instant;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Paused,
    Running,
}

/// How one service stands to the goal.
enum Standing {
    /// It is there.
    There,
    /// It is on its way.
    OnItsWay,
    /// It will not come there by itself.
    Missed,
}

impl Goal {
    fn of(self, service: &Service) -> Standing {
        match (self, service.state.as_str()) {
            (Goal::Paused, "paused" | "deleting") | (Goal::Running, "healthy") => Standing::There,
            (Goal::Paused, "pausing") | (Goal::Running, "resuming" | "starting") => Standing::OnItsWay,
            _ => Standing::Missed,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Goal::Paused => "paused",
            Goal::Running => "running again",
        }
    }
}

/// `lap pause`.
pub async fn pause(session: &mut Session, pause: &Pause) -> Result<(), LapError> {
    let path = &pause.path;
    let ask = ask::Pause { reason: pause.reason.clone() };
    let noted: Noted = session.client.post(&format!("{}/pause", path.url()), &ask).await?.read()?;
    let done = format!("{path} is being paused; `lap resume {path}` starts it again");
    say(session, &noted, &done, &format!("{path} is paused already"));
    if pause.waiting.wait { wait_for(session, path, Goal::Paused, pause.waiting).await } else { Ok(()) }
}

/// `lap resume`.
pub async fn resume(session: &mut Session, resume: &Resume) -> Result<(), LapError> {
    let path = &resume.path;
    let nothing = serde_json::Map::new();
    let noted: Noted = session.client.post(&format!("{}/resume", path.url()), &nothing).await?.read()?;
    let done = format!("{path} is being started again; `lap status {path}` shows how far it is");
    say(session, &noted, &done, &format!("nothing of {path} is paused"));
    if resume.waiting.wait { wait_for(session, path, Goal::Running, resume.waiting).await } else { Ok(()) }
}

/// `lap redeployable`.
pub async fn redeployable(session: &mut Session, redeployable: &Redeployable) -> Result<(), LapError> {
    let path = &redeployable.path;
    let url = format!("{}/not-redeployable", path.url());
    let (noted, done): (Noted, _) = match redeployable.answer {
        YesOrNo::No => {
            let ask = ask::NotRedeployable { reason: redeployable.reason.clone().unwrap_or_default() };
            (session.client.post(&url, &ask).await?.read()?, format!("only operators give {path} new jobs now"))
        }
        YesOrNo::Yes => (session.client.delete(&url).await?.read()?, format!("{path} may get new jobs again")),
    };
    say(session, &noted, &done, "it was so already");
    Ok(())
}

fn say(session: &Session, noted: &Noted, done: &str, already: &str) {
    session.output.say(if noted.changed { done } else { already });
    for warning in &noted.warnings {
        session.output.say(&format!("warning: {}", printable(warning)));
    }
}

/// Stays until every service of the path is there, and says how each goes.
async fn wait_for(session: &mut Session, path: &ServicesPath, goal: Goal, waiting: Waiting) -> Result<(), LapError> {
    let begun = Instant::now();
    let mut patience = Patience::new();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let goes_on = || format!("it goes on, `lap status {path}` shows how far it is");
    loop {
        let mut left = String::from("the controller was not heard");
        match session.client.list(&format!("/v1/services?below={path}")).await {
            Ok(answer) => {
                patience.rewarded(&session.output);
                let services: Vec<Service> = answer.read()?;
                tell(session, &services, &mut told);
                let missed: Vec<&Service> =
                    services.iter().filter(|service| matches!(goal.of(service), Standing::Missed)).collect();
                if let Some(first) = missed.first() {
                    return Err(LapError::Failed(format!("{} is not {}: {}", first.path, goal.word(), line(first))));
                }
                let under_way = services.iter().find(|service| matches!(goal.of(service), Standing::OnItsWay));
                let Some(first) = under_way else {
                    return conclude(session, path, goal, &answer, begun);
                };
                left = format!("{} is {}", first.path, line(first));
            }
            Err(error) => patience.tried(error, &session.output)?,
        }
        if waiting.timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let waited = span_of(begun.elapsed());
            return Err(LapError::TimedOut(format!(
                "{path} is not {} after {waited}: {left}; {}",
                goal.word(),
                goes_on()
            )));
        }
        tokio::select! {
            () = patience.pause() => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(LapError::Interrupted(format!("you stopped waiting; {}", goes_on())));
            }
        }
    }
}

/// Each state of each service once.
fn tell(session: &Session, services: &[Service], told: &mut BTreeMap<String, String>) {
    for service in services {
        let line = line(service);
        if told.get(&service.path) != Some(&line) {
            session.output.say(&format!("{} is {line}", printable(&service.path)));
            told.insert(service.path.clone(), line);
        }
    }
}

/// `pausing: it is paused by alice; 1 slot is left to empty`.
fn line(service: &Service) -> String {
    printable(&format!("{}: {}", service.state, without_subject(&service.message, &service.path)))
}

fn conclude(
    session: &Session,
    path: &ServicesPath,
    goal: Goal,
    answer: &crate::client::Answer,
    begun: Instant,
) -> Result<(), LapError> {
    if session.output.is_json() {
        return session.output.json(answer);
    }
    let sentence = format!("{path} is {} after {}", goal.word(), span_of(begun.elapsed()));
    session.output.line(&Style::Good.paint(&sentence, session.output.stdout.colour))
}
