//! What the witnesses wrote down: the load its report, the controller its deployments, the engine its events, every
//! container its log. Of each only what the judge asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why the evidence cannot be read: then there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file says something else than its writer would.
    #[error("{path} is not understood")]
    Strange {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The report of `lapstrake-load run`.
#[derive(Debug, Clone, Deserialize)]
pub struct Load {
    /// `passed` if the load itself is content.
    pub verdict: String,
    /// Why it is not.
    pub reasons: Vec<String>,
    /// Requests that became due.
    pub scheduled: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered 2xx with the whole body in time.
    pub answered: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Requests sent twice.
    pub retried: u64,
    /// How long answers took.
    pub latency_ms: Latency,
    /// Connections.
    pub connections: Connections,
    /// WebSockets.
    pub websockets: Websockets,
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct Latency {
    /// Half of the answers took no longer.
    pub p50: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// Connections of the load.
#[derive(Debug, Clone, Deserialize)]
pub struct Connections {
    /// Requests on a connection of their own.
    pub fresh: u64,
}

/// WebSockets of the load.
#[derive(Debug, Clone, Deserialize)]
pub struct Websockets {
    /// How many were to be held.
    pub wanted: usize,
    /// Messages that came back.
    pub echoed: u64,
    /// Every socket's life.
    pub sockets: Vec<Socket>,
}

/// One socket's life.
#[derive(Debug, Clone, Deserialize)]
pub struct Socket {
    /// The host name of the job that it was connected to, as `web-1`.
    pub host: Option<String>,
    /// When it was open.
    pub opened_ms: u64,
    /// When it closed.
    pub closed_ms: u64,
    /// `server`, `load` or `cut`.
    pub closed_by: String,
    /// The close frame's code.
    pub code: Option<u16>,
}

/// A deployment, as the controller's API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Deployment {
    /// The service's path.
    pub service: String,
    /// Which of the service's.
    pub number: u32,
    /// How far it came.
    pub phase: String,
    /// Whether it came to an end.
    pub ended: bool,
    /// Why it failed.
    pub message: Option<String>,
    /// Its slots.
    pub slots: Vec<Timeline>,
}

impl Deployment {
    /// Each deployment once, from lists that were written at different times: as it was when it had ended.
    pub fn each_once(listed: Vec<Deployment>) -> Vec<Deployment> {
        let mut by_number: BTreeMap<(String, u32), Deployment> = BTreeMap::new();
        for deployment in listed {
            let held = by_number.entry((deployment.service.clone(), deployment.number));
            held.and_modify(|held| {
                if deployment.ended {
                    held.clone_from(&deployment);
                }
            })
            .or_insert(deployment);
        }
        by_number.into_values().collect()
    }
}

/// A slot's way through a deployment.
#[derive(Debug, Clone, Deserialize)]
pub struct Timeline {
    /// `web.1`.
    pub slot: String,
    /// The old job.
    pub old: Option<String>,
    /// The new job.
    pub new: Option<String>,
    /// Where it stands.
    pub phase: String,
    /// When it entered each phase.
    pub reached: Vec<Moment>,
    /// When the agent told the old job to stop.
    pub stopped_ms: Option<u64>,
}

impl Timeline {
    /// When it entered this phase.
    pub fn reached(&self, phase: &str) -> Option<u64> {
        self.reached.iter().find(|moment| moment.phase == phase).map(|moment| moment.at_ms)
    }
}

/// When a phase began.
#[derive(Debug, Clone, Deserialize)]
pub struct Moment {
    /// The phase.
    pub phase: String,
    /// When.
    pub at_ms: u64,
}

/// What the engine's events and its own log say about one container. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// The job that it is an attempt of.
    pub job: String,
    /// Which attempt.
    pub attempt: String,
    /// The service's path.
    pub path: String,
    /// When it was started, each time.
    pub started: Vec<u64>,
    /// When the engine was first told to send it SIGTERM.
    pub terminated: Option<u64>,
    /// When the engine was first told to send it SIGKILL.
    pub killed: Option<u64>,
    /// When its process ended.
    pub died: Option<u64>,
    /// When its own log says that SIGTERM came.
    pub heard: Option<u64>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    time_nano: u64,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

/// Reads a JSON file.
pub fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, EvidenceError> {
    let text = text(path)?;
    serde_json::from_str(&text).map_err(|source| EvidenceError::Strange { path: path.to_owned(), source })
}

/// Reads a text file.
pub fn text(path: &Path) -> Result<String, EvidenceError> {
    std::fs::read_to_string(path).map_err(|source| EvidenceError::Unreadable { path: path.to_owned(), source })
}

/// The containers that the engine's events name (one JSON a line), with what each wrote in `<id>.log` of the folder.
pub fn containers(events: &Path, logs: &Path) -> Result<Vec<Container>, EvidenceError> {
    let mut containers: BTreeMap<String, Container> = BTreeMap::new();
    for line in text(events)?.lines().filter(|line| !line.trim().is_empty()) {
        let event: Event =
            serde_json::from_str(line).map_err(|source| EvidenceError::Strange { path: events.to_owned(), source })?;
        if event.kind == "container" {
            note(containers.entry(event.actor.id.clone()).or_default(), &event);
        }
    }
    for container in containers.values_mut() {
        // A container may have been made and never started: then it has no log.
        let log = std::fs::read_to_string(logs.join(format!("{}.log", container.id))).unwrap_or_default();
        container.heard = log.lines().find_map(heard_in);
    }
    Ok(containers.into_values().collect())
}

fn note(container: &mut Container, event: &Event) {
    let label = |word: &str| event.actor.attributes.get(&format!("dev.lapstrake.{word}")).cloned().unwrap_or_default();
    if container.id.is_empty() {
        *container = Container {
            id: event.actor.id.clone(),
            job: label("job"),
            attempt: label("attempt"),
            path: label("path"),
            ..Container::default()
        };
    }
    let at = event.time_nano / 1_000_000;
    let signal = event.actor.attributes.get("signal").map(String::as_str);
    match (event.action.as_str(), signal) {
        ("start", _) => container.started.push(at),
        ("kill", Some("15")) => drop(container.terminated.get_or_insert(at)),
        ("kill", Some("9")) => drop(container.killed.get_or_insert(at)),
        ("die", _) => drop(container.died.get_or_insert(at)),
        _ => {}
    }
}

/// `2026-11-21T02:14:00.123Z SIGTERM received`
fn heard_in(line: &str) -> Option<u64> {
    let (time, words) = line.split_once(' ')?;
    let at = || time.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    (words == "SIGTERM received").then(at).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_that_was_listed_twice_counts_once_and_as_it_ended() {
        let listed = |number, phase: &str, ended| Deployment {
            service: "shop/production/web".into(),
            number,
            phase: phase.into(),
            ended,
            message: None,
            slots: Vec::new(),
        };
        let once = Deployment::each_once(vec![
            listed(2, "complete", true),
            listed(2, "rolling", false),
            listed(1, "rolling", false),
            listed(1, "complete", true),
            listed(3, "rolling", false),
        ]);
        let shown: Vec<_> = once.iter().map(|one| (one.number, one.phase.as_str())).collect();
        assert_eq!(shown, [(1, "complete"), (2, "complete"), (3, "rolling")]);
    }

    #[test]
    fn a_container_s_end_is_read_from_the_engine_s_events_and_its_own_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let event = |action: &str, signal: &str, at: u64| {
            format!(
                r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"c1","Attributes":{{"dev.lapstrake.job":"j1","dev.lapstrake.path":"shop/production/web","signal":"{signal}"}}}},"timeNano":{}}}"#,
                at * 1_000_000
            )
        };
        let events =
            [event("start", "", 1), event("kill", "15", 70_010), event("kill", "9", 72_010), event("die", "", 72_011)];
        std::fs::write(folder.path().join("events"), events.join("\n")).expect("a file");
        let log = "1970-01-01T00:00:00.002Z ready port=8080\n1970-01-01T00:01:10.012Z SIGTERM received\n";
        std::fs::write(folder.path().join("c1.log"), log).expect("a file");

        let found = containers(&folder.path().join("events"), folder.path()).expect("evidence");
        let [container] = found.as_slice() else { panic!("one container, not {found:?}") };
        assert_eq!((container.job.as_str(), container.started.as_slice()), ("j1", [1].as_slice()));
        assert_eq!(
            (container.terminated, container.killed, container.died),
            (Some(70_010), Some(72_010), Some(72_011))
        );
        assert_eq!(container.heard, Some(70_012));
    }
}
