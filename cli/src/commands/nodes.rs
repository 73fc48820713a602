//! Nodes, their join tokens, and the environments that they are given to.

use super::Session;
use crate::address::{EnvironmentPath, NodeName};
use crate::client::Answer;
use crate::error::LapError;
use crate::output::printable;
use crate::show::{amount, listing};
use lapstrake_api::{ask, view};
use std::collections::BTreeMap;
use std::time::Duration;

/// `lap node ls`.
pub async fn list(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.list("/v1/nodes").await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let nodes: Vec<view::Node> = answer.read()?;
    if nodes.is_empty() {
        session.output.say("no node has joined yet; `lap node token create` prints a token with which one joins");
        return Ok(());
    }
    session.output.table(&listing::nodes(&nodes))
}

/// `lap node show`.
pub async fn show(session: &mut Session, name: &NodeName) -> Result<(), LapError> {
    let answer = session.client.get(&format!("/v1/nodes/{name}")).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.text(&listing::node(&answer.read()?, amount::now_ms(), session.output.stdout))
}

/// `lap node rm`.
pub async fn remove(session: &mut Session, name: &NodeName, force: bool) -> Result<(), LapError> {
    session.client.delete(&format!("/v1/nodes/{name}{}", forced(force))).await?;
    session.output.say(&format!("removed {name}; its certificate is worth nothing now"));
    Ok(())
}

/// `lap node cordon`.
pub async fn cordon(session: &mut Session, name: &NodeName, reason: Option<&str>) -> Result<(), LapError> {
    let ask = ask::Cordon { reason: reason.map(str::to_owned) };
    let answer = session.client.post(&format!("/v1/nodes/{name}/cordon"), &ask).await?;
    let done = format!("{name} gets no new jobs; those that run there stay");
    noted(session, &answer, &done, &format!("{name} was cordoned already"))
}

/// `lap node uncordon`.
pub async fn uncordon(session: &mut Session, name: &NodeName) -> Result<(), LapError> {
    let answer = session.client.delete(&format!("/v1/nodes/{name}/cordon")).await?;
    noted(session, &answer, &format!("{name} may get new jobs again"), &format!("{name} was not cordoned"))
}

/// `lap node label`.
pub async fn label(
    session: &mut Session,
    name: &NodeName,
    set: &[(String, String)],
    remove: &[String],
) -> Result<(), LapError> {
    let mut labels = BTreeMap::new();
    for (key, value) in set {
        if labels.insert(key.clone(), value.clone()).is_some_and(|before| before != *value) {
            return Err(LapError::Wrong(format!("the label `{}` is given twice", printable(key))));
        }
    }
    let ask = ask::Labels { set: labels, remove: remove.iter().cloned().collect() };
    let answer = session.client.post(&format!("/v1/nodes/{name}/labels"), &ask).await?;
    noted(session, &answer, &format!("labelled {name}; no job is moved by it"), "its labels were so already")
}

/// Says what came of a change, and what else is worth a word.
pub fn noted(session: &Session, answer: &Answer, done: &str, unchanged: &str) -> Result<(), LapError> {
    if session.output.is_json() {
        return session.output.json(answer);
    }
    let noted: view::Noted = answer.read()?;
    session.output.say(if noted.changed { done } else { unchanged });
    for warning in &noted.warnings {
        session.output.say(&format!("warning: {}", printable(warning)));
    }
    Ok(())
}

/// `lap node revoke`.
pub async fn revoke(session: &mut Session, name: &NodeName) -> Result<(), LapError> {
    session.client.post(&format!("/v1/nodes/{name}/revoke"), &serde_json::json!({})).await?;
    session
        .output
        .say(&format!("{name} is cut off, and its certificate is worth nothing now; `lap node rm` removes it"));
    Ok(())
}

/// `lap node unquarantine`.
pub async fn unquarantine(session: &mut Session, name: &NodeName) -> Result<(), LapError> {
    session.client.post(&format!("/v1/nodes/{name}/unquarantine"), &serde_json::json!({})).await?;
    session.output.say(&format!("{name} may open a session again"));
    Ok(())
}

/// `lap node readmit`.
pub async fn readmit(session: &mut Session, name: &NodeName, key: Option<&str>, refuse: bool) -> Result<(), LapError> {
    let path = format!("/v1/nodes/{name}/return");
    if refuse {
        session.client.delete(&path).await?;
        session.output.say(&format!("{name} does not return; it can join again with a new token and --replace"));
        return Ok(());
    }
    let key = match key {
        Some(key) => key.to_owned(),
        None => {
            let node: view::Node = session.client.get(&format!("/v1/nodes/{name}")).await?.read()?;
            // Without a wish to return there is no key; the controller says so.
            node.returning.map(|returning| returning.key).unwrap_or_default()
        }
    };
    session.client.post(&path, &ask::Readmit { key: key.clone() }).await?;
    session.output.say(&format!("{name} may return with the key {}", printable(&key)));
    Ok(())
}

/// `lap env attach-node`.
pub async fn attach(session: &mut Session, path: &EnvironmentPath, node: &NodeName) -> Result<(), LapError> {
    let ask = ask::AttachNode { node: node.to_string() };
    session.client.post(&format!("/v1/envs/{path}/nodes"), &ask).await?;
    session.output.say(&format!("jobs of {path} may run on {node} now"));
    Ok(())
}

/// `lap env detach-node`.
pub async fn detach(
    session: &mut Session,
    path: &EnvironmentPath,
    node: &NodeName,
    force: bool,
) -> Result<(), LapError> {
    session.client.delete(&format!("/v1/envs/{path}/nodes/{node}{}", forced(force))).await?;
    session.output.say(&format!("no job of {path} will run on {node} any more"));
    Ok(())
}

fn forced(force: bool) -> &'static str {
    if force { "?force=true" } else { "" }
}

/// What `lap node token create` asks for.
pub fn token_ask(
    ttl: Option<Duration>,
    environment: Option<&EnvironmentPath>,
    node: Option<&NodeName>,
    cidr: Option<&str>,
) -> ask::CreateJoinToken {
    ask::CreateJoinToken {
        // Less than a second is not a life; up, so that it is not refused for being none.
        ttl_seconds: ttl.map(|ttl| ttl.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        node: node.map(ToString::to_string),
        environment: environment.map(ToString::to_string),
        cidr: cidr.map(str::to_owned),
    }
}

/// `lap node token create`: the token alone on stdout, what to do with it on stderr.
pub async fn create_token(session: &mut Session, ask: &ask::CreateJoinToken) -> Result<(), LapError> {
    let answer = session.client.post("/v1/node-tokens", ask).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let token: view::JoinToken = answer.read()?;
    session.output.line(&printable(&token.token))?;
    let ends = amount::ahead(token.expires_ms, amount::now_ms());
    session.output.say(&format!("good for one node; it ends {ends} and is not shown again. On that machine:"));
    session.output.say(&format!("  lapstrake-agent join TOKEN --controller {}", printable(&token.address)));
    Ok(())
}
