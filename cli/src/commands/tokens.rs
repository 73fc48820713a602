//! Operators' tokens, and whose this one is.

use super::Session;
use crate::args::NewToken;
use crate::error::LapError;
use crate::output::printable;
use crate::show::{amount, listing};
use lapstrake_api::{ask, view};

/// `lap whoami`.
pub async fn whoami(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.get("/v1/whoami").await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let identity: view::Identity = answer.read()?;
    let scope = identity.scope.unwrap_or_else(|| "the organization".into());
    let ends = identity.expires_ms.map(|at| format!(", ends {}", amount::ahead(at, amount::now_ms())));
    let line = format!("{}: {} for {scope}{}", identity.name, identity.role, ends.unwrap_or_default());
    session.output.line(&printable(&line))
}

/// `lap token ls`.
pub async fn list(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.list("/v1/tokens").await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let tokens: Vec<view::OperatorToken> = answer.read()?;
    session.output.table(&listing::tokens(&tokens, amount::now_ms()))
}

/// `lap token create`: the token alone on stdout, what it is on stderr.
pub async fn create(session: &mut Session, new: &NewToken) -> Result<(), LapError> {
    let ask = ask::CreateOperatorToken {
        name: new.name.clone(),
        role: new.role.word().into(),
        scope: new.scope.as_ref().map(ToString::to_string),
        ttl_seconds: new.ttl.map(|ttl| ttl.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
    };
    let answer = session.client.post("/v1/tokens", &ask).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let view::NewOperatorToken { token, about } = answer.read()?;
    session.output.line(&printable(&token))?;
    let scope = about.scope.unwrap_or_else(|| "the organization".into());
    let ends = match about.expires_ms {
        Some(at) => format!("it ends {}", amount::ahead(at, amount::now_ms())),
        None => format!("it is good until `lap token rm {}`", about.name),
    };
    session.output.say(&printable(&format!("{} for {scope}; {ends}, and is not shown again", about.role)));
    Ok(())
}

/// `lap token rm`.
pub async fn remove(session: &mut Session, token: &str) -> Result<(), LapError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if token.is_empty() || !token.bytes().all(plain) {
        return Err(LapError::Wrong("a token is removed by its name or its id, which `lap token ls` shows".into()));
    }
    session.client.delete(&format!("/v1/tokens/{token}")).await?;
    session.output.say(&format!("removed {token}; it opens nothing any more"));
    Ok(())
}
