//! Between the engine's words and ours: names, labels, states and errors.

pub use crate::runtime::container_name;
use crate::runtime::{Brief, Hint, Listed, Look, Owner, RegistryLogin, RunOrder, RuntimeError};
use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    EventMessage,
};
use http::HeaderValue;
use lapstrake_core::ids::SlotId;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::policy::why_not_a_name;
use lapstrake_core::time::Millis;
use std::collections::HashMap;
use std::error::Error as _;

const PREFIX: &str = "dev.lapstrake.";

/// The label of this word.
pub fn label(word: &str) -> String {
    format!("{PREFIX}{word}")
}

/// What a list or the events must carry to be ours.
pub fn owner_filter(owner: Owner) -> Vec<String> {
    vec![format!("{PREFIX}cluster={}", owner.cluster), format!("{PREFIX}node={}", owner.node)]
}

/// The labels by which a container is found and adopted again.
pub fn labels(owner: Owner, order: &RunOrder) -> HashMap<String, String> {
    let run = &order.run;
    let pairs = [
        ("cluster", owner.cluster.to_string()),
        ("node", owner.node.to_string()),
        ("environment", run.environment.to_string()),
        ("application", run.application.to_string()),
        ("service", order.slot.service.to_string()),
        ("path", run.path.to_string()),
        ("slot", format!("{}.{}", order.slot.target, order.slot.number)),
        ("job", order.attempt.job.to_string()),
        ("attempt", order.attempt.number.to_string()),
        ("revision", format!("r{}", run.revision)),
    ];
    pairs.into_iter().map(|(word, value)| (label(word), value)).collect()
}

/// Which attempt labels name.
pub fn attempt_of(labels: &HashMap<String, String>) -> Option<Attempt> {
    let job = labels.get(&label("job"))?.parse().ok()?;
    let number = labels.get(&label("attempt"))?.parse().ok()?;
    Some(Attempt { job, number })
}

/// Which slot labels name. It is told to the controller, which takes no words but its own.
fn slot_of(labels: &HashMap<String, String>) -> Option<SlotId> {
    let service = labels.get(&label("service"))?.parse().ok()?;
    let (target, number) = labels.get(&label("slot"))?.rsplit_once('.')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    let target = Some(target).filter(|target| why_not_a_name(target).is_none())?;
    Some(SlotId { service, target: target.to_owned(), number })
}

/// Whose labels these are.
pub fn owner_of(labels: &HashMap<String, String>) -> Option<Owner> {
    let cluster = labels.get(&label("cluster"))?.parse().ok()?;
    let node = labels.get(&label("node"))?.parse().ok()?;
    Some(Owner { cluster, node })
}

/// Reads an entry of a list; `None` when its labels name no attempt.
pub fn listed(summary: ContainerSummary) -> Option<(Attempt, Listed)> {
    let labels = summary.labels.unwrap_or_default();
    let attempt = attempt_of(&labels)?;
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    // The configured address: the one in use is told only while it runs.
    let address = networks.into_values().find_map(|endpoint| endpoint.ipam_config?.ipv4_address?.parse().ok());
    Some((attempt, Listed { brief: brief(summary.state?), address, slot: slot_of(&labels) }))
}

/// The coarse state of a list's entry. Paused and restarting have a process; removing and dead have none any more.
const fn brief(state: ContainerSummaryStateEnum) -> Brief {
    use ContainerSummaryStateEnum as S;
    match state {
        S::EMPTY | S::CREATED => Brief::Created,
        S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING => Brief::Running,
        S::EXITED | S::REMOVING | S::DEAD => Brief::Exited,
    }
}

/// What a closer look shows.
pub struct Inspected {
    /// The engine's id.
    pub id: String,
    /// Whose it is, if anybody's of us.
    pub owner: Option<Owner>,
    /// The image's stop signal, or SIGTERM.
    pub stop_signal: String,
    /// Its state.
    pub look: Look,
}

/// Reads an inspection; `None` when the engine left out the state.
pub fn inspected(response: ContainerInspectResponse) -> Option<Inspected> {
    let config = response.config.unwrap_or_default();
    let stop_signal = config.stop_signal.filter(|signal| !signal.is_empty()).unwrap_or_else(|| "SIGTERM".into());
    Some(Inspected {
        id: response.id.unwrap_or_default(),
        owner: owner_of(&config.labels.unwrap_or_default()),
        stop_signal,
        look: look(&response.state?),
    })
}

fn look(state: &ContainerState) -> Look {
    use ContainerStateStatusEnum as S;
    match state.status.unwrap_or(S::EMPTY) {
        S::EMPTY | S::CREATED => Look::Created,
        S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING => {
            Look::Running { pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0) }
        }
        S::EXITED | S::REMOVING | S::DEAD => Look::Exited {
            code: state.exit_code.unwrap_or(0),
            out_of_memory: state.oom_killed.unwrap_or(false),
            ran: ran(state.started_at.as_deref(), state.finished_at.as_deref()),
        },
    }
}

/// From the engine's two timestamps; zero when it tells none.
fn ran(started: Option<&str>, finished: Option<&str>) -> Millis {
    let parse = |text: Option<&str>| text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match (parse(started), parse(finished)) {
        (Some(started), Some(finished)) => {
            let span = finished.as_millisecond() - started.as_millisecond();
            Millis(u64::try_from(span).unwrap_or(0))
        }
        _ => Millis(0),
    }
}

/// Which container an event is about.
pub fn hint(message: EventMessage) -> Option<Hint> {
    let attempt = attempt_of(&message.actor?.attributes?)?;
    Some(Hint { attempt, at: message.time.unwrap_or(0) })
}

/// The header that carries a registry's credentials.
const CREDENTIALS: &str = "x-registry-auth";

/// The credentials of a pull, as the crate takes them.
pub fn credentials(login: Option<&RegistryLogin>) -> Option<DockerCredentials> {
    let credentials = |login: &RegistryLogin| DockerCredentials {
        username: Some(login.user.clone()),
        password: Some(login.password.clone()),
        ..Default::default()
    };
    login.map(credentials)
}

/// Engines read the credentials in the alphabet for addresses (RFC 4648, section 5), the crate writes the ordinary one:
/// whoever's password leads to a `+` or `/` there would be refused, or, worse, taken for nobody.
pub fn with_readable_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(CREDENTIALS) {
        let readable: Vec<u8> = value.as_bytes().iter().map(|byte| in_the_alphabet_for_addresses(*byte)).collect();
        // What was a header's value is one still.
        if let Ok(mut readable) = HeaderValue::from_bytes(&readable) {
            readable.set_sensitive(true);
            *value = readable;
        }
    }
    request
}

const fn in_the_alphabet_for_addresses(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

/// Says so when it was the registry that refused, and whom. A registry that repeats a password in its answer is not
/// repeated.
pub fn refused_by_registry(error: RuntimeError, login: Option<&RegistryLogin>) -> RuntimeError {
    let tells = |login: &&RegistryLogin| !login.password.is_empty() && error.to_string().contains(&login.password);
    if login.filter(tells).is_some() {
        return RuntimeError::Refused(
            "the registry did not give the image, and repeated the password, so what it said is left out".into(),
        );
    }
    let (RuntimeError::Refused(said) | RuntimeError::NotThere(said) | RuntimeError::NoSuchImage(said)) = &error else {
        return error;
    };
    let lower = said.to_lowercase();
    let words =
        ["unauthorized", "no basic auth credentials", "authentication required", "access denied", "incorrect username"];
    if !words.iter().any(|word| lower.contains(word)) {
        return error;
    }
    RuntimeError::Refused(match login {
        Some(_) => format!("the registry refused the credentials: {said}"),
        None => format!("the registry wants credentials, and there are none for it: {said}"),
    })
}

/// An error of the crate, in our words.
pub struct Failed(pub RuntimeError);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed(failed(error))
    }
}

impl From<RuntimeError> for Failed {
    fn from(error: RuntimeError) -> Self {
        Failed(error)
    }
}

/// Puts the engine's status, or the lack of one, in our words.
pub fn failed(error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            let lower = message.to_lowercase();
            match status_code {
                404 if lower.contains("image") || lower.contains("manifest") => RuntimeError::NoSuchImage(message),
                404 => RuntimeError::NotThere(message),
                409 => RuntimeError::NameTaken(message),
                503 => RuntimeError::Unreachable(message),
                _ => RuntimeError::Refused(message),
            }
        }
        // An item of a stream that the engine opened: it answered.
        Error::DockerStreamError { error } => RuntimeError::Refused(error),
        other => RuntimeError::Unreachable(chain(&other)),
    }
}

/// The error and its causes; those of the transport say little without the last.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::{JobId, ServiceId};

    #[test]
    fn a_container_is_known_again_by_its_labels() {
        let labels = HashMap::from([
            (label("job"), JobId(7).to_string()),
            (label("attempt"), "3".to_owned()),
            (label("cluster"), "x".to_owned()),
        ]);
        assert_eq!(attempt_of(&labels), Some(Attempt { job: JobId(7), number: 3 }));
        assert_eq!(owner_of(&labels), None, "a cluster id that is none is not ours");
    }

    #[test]
    fn the_slot_of_a_container_is_known_again_by_its_labels_unless_somebody_made_them_up() {
        let slot = |slot: &str| {
            let labels = [(label("service"), ServiceId(7).to_string()), (label("slot"), slot.to_owned())];
            slot_of(&HashMap::from(labels))
        };
        assert_eq!(slot("web.3"), Some(SlotId { service: ServiceId(7), target: "web".into(), number: 3 }));
        for made_up in
            ["web", "web.", ".1", "web.0", "web.-1", "web.99999999999", "a b.1", "\u{202e}web.1", &"x".repeat(99)]
        {
            assert_eq!(slot(made_up), None, "{made_up}");
        }
    }

    #[test]
    fn a_password_that_the_registry_repeats_is_not_told() {
        let login = RegistryLogin { user: "ci".into(), password: "hunter2".into() };
        let told = |said: &str, login| refused_by_registry(RuntimeError::Refused(said.into()), login).to_string();
        assert!(told("unauthorized: not ci:hunter2", Some(&login)).ends_with("what it said is left out"));
        let said = told("unauthorized: authentication required", Some(&login));
        assert_eq!(said, "the registry refused the credentials: unauthorized: authentication required");
        assert!(told("no basic auth credentials", None).starts_with("the registry wants credentials"));
        assert_eq!(told("manifest unknown", Some(&login)), "manifest unknown");
    }

    #[test]
    fn an_end_tells_how_long_the_process_ran() {
        let state = ContainerState {
            status: Some(ContainerStateStatusEnum::EXITED),
            exit_code: Some(3),
            started_at: Some("2026-11-21T01:00:00.25Z".into()),
            finished_at: Some("2026-11-21T01:00:02.750000001Z".into()),
            ..Default::default()
        };
        assert_eq!(look(&state), Look::Exited { code: 3, out_of_memory: false, ran: Millis(2500) });
    }

    #[test]
    fn a_registry_that_repeats_a_password_is_not_repeated_whatever_it_says() {
        let login = RegistryLogin { user: "ci".into(), password: "hunter2".into() };
        for error in [
            RuntimeError::Refused("unauthorized: hunter2".into()),
            RuntimeError::Refused("403 Forbidden: bad token hunter2".into()),
            RuntimeError::NotThere("hunter2".into()),
            RuntimeError::Unreachable("503: hunter2".into()),
        ] {
            let said = refused_by_registry(error, Some(&login)).to_string();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
