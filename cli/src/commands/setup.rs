//! `lap setup`: one machine, from fresh packages to a served request. It gives the commands that a person would give, names
//! each, and leaves out what is done already, so that it can be given again after whatever kept it from its end.

use super::{Session, login, nodes, spec};
use crate::address::{EnvironmentPath, NodeName, ServicePath};
use crate::args::{Common, Login, Setup};
use crate::context::Wish;
use crate::error::LapError;
use crate::output::printable;
use crate::wait::wait_for;
use lapstrake_api::view;
use lapstrake_pki::token::Token;
use std::path::PathBuf;
use std::process::Stdio;

/// Where the controller of this machine answers, unless its `api_listen` says otherwise.
const CONTROLLER: &str = "https://localhost:7400";
/// What the controller's first start has written, for root alone.
const FIRST_TOKEN: &str = "/var/lib/lapstrake/controller/operator.token";
/// The machine's own name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Logs in, applies the spec, makes the machine a node of its environments, and waits until the services run.
pub async fn setup(common: &Common, setup: &Setup) -> Result<(), LapError> {
    // Who names a controller is logged in there.
    if common.wish() == Wish::default() {
        log_in(common).await?;
    }
    let mut session = Session::open(common)?;
    step(&session, &format!("lap apply -f {}", setup.spec.file.display()));
    // First, as a spec with a mistake shall change nothing. Its deployments wait for the node.
    let (changes, begun) = spec::record(&mut session, &setup.spec, None).await?;
    let environments = environments(&changes);
    become_node(&mut session, setup, &environments).await?;
    if !begun.is_empty() {
        step(&session, "lap apply --wait");
        wait_for(&mut session, &begun, None).await?;
    }
    if session.output.is_json() { Ok(()) } else { tell_routes(&mut session, &changes).await }
}

fn step(session: &Session, command: &str) {
    session.output.say(&printable(&format!("==> {command}")));
}

async fn log_in(common: &Common) -> Result<(), LapError> {
    let token_file = PathBuf::from(FIRST_TOKEN);
    if let Err(source) = std::fs::metadata(&token_file) {
        return Err(LapError::Refused(format!(
            "lap setup is for root on the controller's machine: {FIRST_TOKEN} cannot be read ({source}). Elsewhere: lap login"
        )));
    }
    let words = Login {
        address: Some(CONTROLLER.to_owned()),
        given: None,
        token_file: Some(token_file),
        force: false,
        fingerprint: None,
        ca_file: None,
        system_roots: false,
    };
    login::login(common, &words).await
}

/// The environments that have services now, each once.
fn environments(changes: &view::Changes) -> Vec<EnvironmentPath> {
    let of = |service: &view::ServiceChange| service.path.rsplit_once('/').and_then(|(path, _)| path.parse().ok());
    let mut environments: Vec<EnvironmentPath> = changes.services.iter().filter_map(of).collect();
    environments.dedup();
    environments
}

/// Joins, if no node of this machine's name has, and gives the node to these environments.
async fn become_node(session: &mut Session, setup: &Setup, environments: &[EnvironmentPath]) -> Result<(), LapError> {
    let name = match &setup.name {
        Some(name) => name.clone(),
        None => own_name()?,
    };
    let known: Vec<view::Node> = session.client.list("/v1/nodes").await?.read()?;
    if known.iter().any(|node| node.name == name.to_string()) {
        session.output.say(&format!("this machine is the node {name} already"));
    } else {
        step(session, &format!("lapstrake-agent join TOKEN --name {name}"));
        let ask = nodes::token_ask(None, None, Some(&name), None);
        let token: view::JoinToken = session.client.post("/v1/node-tokens", &ask).await?.read()?;
        // Nothing but a token becomes another program's argument, whoever answers.
        let token = Token::join(&token.token)
            .map_err(|error| LapError::Failed(format!("the controller's answer is no join token: {error}")))?;
        join(&token.text()).await?;
    }
    for environment in environments {
        step(session, &format!("lap env attach-node {environment} {name}"));
        nodes::attach(session, environment, &name).await?;
    }
    Ok(())
}

fn own_name() -> Result<NodeName, LapError> {
    let text = std::fs::read_to_string(HOST_NAME)
        .map_err(|source| LapError::Unreadable { file: HOST_NAME.to_owned(), source })?;
    let no_name = |error| LapError::Wrong(format!("the host's name cannot be a node's ({error}); --name gives one"));
    text.trim().parse().map_err(no_name)
}

/// What the agent's own command says goes to the same terminal.
async fn join(token: &str) -> Result<(), LapError> {
    let joined =
        tokio::process::Command::new("lapstrake-agent").arg("join").arg(token).stdin(Stdio::null()).status().await;
    match joined {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(LapError::Failed(format!("the agent did not join ({status}); `lap setup` can be given again")))
        }
        Err(error) => Err(LapError::Failed(format!(
            "lapstrake-agent cannot be started ({error}); the package lapstrake-agent has it, with the proxy"
        ))),
    }
}

/// Where people reach what runs now.
async fn tell_routes(session: &mut Session, changes: &view::Changes) -> Result<(), LapError> {
    for change in &changes.services {
        let path = ServicePath::told(&change.path);
        let service: view::Service = session.client.get(&path.url()).await?.read()?;
        for route in &service.routes {
            session.output.line(&printable(&format!("{path} answers at {route}")))?;
        }
    }
    Ok(())
}
