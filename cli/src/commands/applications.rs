//! Applications and environments.

use super::Session;
use crate::address::{Below, EnvironmentPath};
use crate::error::LapError;
use crate::output::printable;
use crate::show::listing;
use lapstrake_api::{ask, view};

/// `lap app ls`.
pub async fn list(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.list("/v1/apps").await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let applications: Vec<view::Application> = answer.read()?;
    if applications.is_empty() {
        session.output.say("there is no application yet; `lap app create NAME` or `lap apply -f FILE` creates one");
        return Ok(());
    }
    session.output.table(&listing::applications(&applications))
}

/// `lap app create`.
pub async fn create(session: &mut Session, name: &str) -> Result<(), LapError> {
    let answer = session.client.post("/v1/apps", &ask::CreateApplication { name: name.to_owned() }).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let created: view::Application = answer.read()?;
    let words = format!("created {} with the environments {}", created.name, created.environments.join(", "));
    session.output.say(&printable(&words));
    Ok(())
}

/// `lap env ls`.
pub async fn environments(session: &mut Session, application: Option<&Below>) -> Result<(), LapError> {
    let query = application.map(|name| format!("?app={name}")).unwrap_or_default();
    let answer = session.client.list(&format!("/v1/envs{query}")).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let environments: Vec<view::Environment> = answer.read()?;
    if environments.is_empty() {
        session.output.say("there is no environment yet; `lap app create NAME` creates an application with three");
        return Ok(());
    }
    session.output.table(&listing::environments(&environments))
}

/// `lap env create`.
pub async fn create_environment(session: &mut Session, path: &EnvironmentPath) -> Result<(), LapError> {
    let ask = ask::CreateEnvironment { application: path.application.clone(), name: path.environment.clone() };
    let answer = session.client.post("/v1/envs", &ask).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.say(&format!("created {path}; give it a node with `lap env attach-node {path} NODE`"));
    Ok(())
}

/// `lap env policy`.
pub async fn policy(
    session: &mut Session,
    path: &EnvironmentPath,
    max_scale: Option<&u32>,
    operator_fields: Option<&str>,
) -> Result<(), LapError> {
    let url = format!("/v1/envs/{path}/policy");
    let names = |fields: &str| fields.split(',').map(str::trim).filter(|it| !it.is_empty()).map(Into::into).collect();
    let ask = ask::SetPolicy { max_scale: max_scale.copied(), operator_fields: operator_fields.map(names) };
    let answer = match ask == ask::SetPolicy::default() {
        true => session.client.get(&url).await?,
        false => session.client.patch(&url, &ask).await?,
    };
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let policy: view::Policy = answer.read()?;
    let fields = if policy.operator_fields.is_empty() { "none".into() } else { policy.operator_fields.join(", ") };
    session.output.line(&printable(&format!("max_scale        {}", policy.max_scale)))?;
    session.output.line(&printable(&format!("operator fields  {fields}")))
}
