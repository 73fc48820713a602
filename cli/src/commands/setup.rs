//! `lap setup`: one machine, from fresh packages to a served request. It gives the commands that a person would give, names
//! each, and leaves out what is done already, so that it can be given again after whatever kept it from its end.

use super::{Session, login, nodes, spec, stored};
use crate::address::{EnvironmentPath, NodeName, ServicePath};
use crate::args::{Common, Login, Setup};
use crate::error::LapError;
use crate::output::printable;
use crate::wait::wait_for;
use lapstrake_api::view;
use lapstrake_pki::token::Token;
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;

/// Where the controller of this machine answers, unless its `api_listen` says otherwise.
const CONTROLLER: &str = "https://localhost:7400";
/// What the controller's first start has written, for root alone.
const FIRST_TOKEN: &str = "/var/lib/lapstrake/controller/operator.token";
/// The agent's file of who it is, in its state folder.
const IDENTITY: &str = "identity.json";

/// Logs in, applies the spec, makes the machine a node of its environments, and waits until the services run.
pub async fn setup(common: &Common, setup: &Setup) -> Result<(), LapError> {
    let is_local = log_in_if_needed(common).await?;
    let mut session = Session::open(common)?;
    step(&session, &format!("lap apply -f {}", setup.spec.file.display()));
    // First, as a spec with a mistake shall change nothing. Its deployments wait for the node.
    let (changes, begun) = spec::record(&mut session, &setup.spec, None).await?;
    let name = become_node(&mut session, setup, is_local).await?;
    for environment in environments(&changes) {
        step(&session, &format!("lap env attach-node {environment} {name}"));
        nodes::attach(&mut session, &environment, &name).await?;
    }
    wait_for(&mut session, &begun, None).await?;
    if session.output.is_json() { Ok(()) } else { tell_routes(&mut session, &changes).await }
}

fn step(session: &Session, command: &str) {
    session.output.say(&printable(&format!("==> {command}")));
}

/// Logs in to this machine's controller, unless another one is named or this one's context is the current one: somebody may have
/// put a token of their own in the first one's place. Whether it is this machine's controller.
async fn log_in_if_needed(common: &Common) -> Result<bool, LapError> {
    let contexts = stored()?;
    let wish = common.wish();
    let held = match &wish.context {
        Some(name) => contexts.contexts.get(name),
        None => contexts.find(None)?,
    };
    if wish.url.is_some() || wish.token.is_some() {
        return Ok(false);
    }
    match held {
        Some(context) if context.url == CONTROLLER => return Ok(true),
        Some(_) if wish.context.is_some() => return Ok(false),
        Some(_) | None => {}
    }
    log_in(common).await?;
    Ok(true)
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

/// Who this machine is, as its agent has written it down.
#[derive(Deserialize)]
struct Own {
    node: String,
    name: String,
}

impl Own {
    /// `None` if the machine has not joined.
    fn read(agent_state: &Path) -> Result<Option<Own>, LapError> {
        let file = agent_state.join(IDENTITY);
        let unreadable = |source| LapError::Unreadable { file: file.display().to_string(), source };
        match std::fs::read(&file) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(|error| unreadable(error.into()))?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    }
}

/// Joins, if this machine has not. The node's name.
async fn become_node(session: &mut Session, setup: &Setup, is_local: bool) -> Result<NodeName, LapError> {
    let own = match Own::read(&setup.agent_state)? {
        Some(own) => {
            let known: Vec<view::Node> = session.client.list("/v1/nodes").await?.read()?;
            let Some(node) = known.iter().find(|node| node.id == own.node) else {
                return Err(LapError::Refused(format!(
                    "this machine is the node {} of another controller; `lapstrake-agent join TOKEN --replace` makes it one of this",
                    printable(&own.name)
                )));
            };
            session.output.say(&format!("this machine is the node {} already", printable(&own.name)));
            if node.liveness != "ready" {
                session
                    .output
                    .say("its agent is not heard; if it does not run: systemctl start lapstrake-agent lapstrake-proxy");
            }
            own
        }
        None => {
            join(session, setup, is_local).await?;
            let not_there = || LapError::Failed("the agent has joined, and has not written down as whom".into());
            Own::read(&setup.agent_state)?.ok_or_else(not_there)?
        }
    };
    own.name.parse().map_err(|error| LapError::Failed(format!("the node's name cannot be used: {error}")))
}

/// What the agent's own command says goes to the same terminal.
async fn join(session: &mut Session, setup: &Setup, is_local: bool) -> Result<(), LapError> {
    let ask = nodes::token_ask(None, None, setup.name.as_ref(), None);
    let answer: view::JoinToken = session.client.post("/v1/node-tokens", &ask).await?.read()?;
    // Nothing but a token goes to another program, whoever answers.
    let token = Token::join(&answer.token)
        .map_err(|error| LapError::Failed(format!("the controller's answer is no join token: {error}")))?;
    let mut words = Vec::new();
    if let Some(name) = &setup.name {
        words.push(format!("--name={name}"));
    }
    // This machine's own is found without its name, which need not lead anywhere.
    if !is_local {
        words.push(format!("--controller={}", answer.address));
    }
    step(session, format!("lapstrake-agent join - {}", words.join(" ")).trim_end());
    let mut agent = tokio::process::Command::new("lapstrake-agent");
    // Arguments can be read by everybody on the machine.
    let joined = match agent.args(["join", "-"]).args(&words).stdin(Stdio::piped()).spawn() {
        Ok(mut agent) => {
            if let Some(mut stdin) = agent.stdin.take() {
                // One that ended before it had read it says why.
                let _ = stdin.write_all(format!("{}\n", token.text()).as_bytes()).await;
            }
            agent.wait().await
        }
        Err(error) => Err(error),
    };
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
