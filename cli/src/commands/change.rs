//! Verbs that make a deployment, and the one that removes a service.

use super::Session;
use crate::address::ServicePath;
use crate::args::{Deploy, Redeploy, Remove, Rollback, Scale, Waiting};
use crate::client::Answer;
use crate::error::LapError;
use crate::output::ask;
use crate::wait::{Watched, wait_for, wait_until_gone};
use http::StatusCode;
use lapstrake_api::{ask, view};
use std::io::{self, BufRead as _, IsTerminal as _};

/// `lap deploy`.
pub async fn deploy(session: &mut Session, deploy: &Deploy) -> Result<(), LapError> {
    let ask = ask::Deploy { image: deploy.image.clone() };
    let answer = session.client.post(&format!("{}/deploy", deploy.path.url()), &ask).await?;
    begun(session, &deploy.path, &answer, deploy.waiting).await
}

/// `lap redeploy`.
pub async fn redeploy(session: &mut Session, redeploy: &Redeploy) -> Result<(), LapError> {
    let nothing = serde_json::Map::new();
    let answer = session.client.post(&format!("{}/redeploy", redeploy.path.url()), &nothing).await?;
    begun(session, &redeploy.path, &answer, redeploy.waiting).await
}

/// `lap rollback`.
pub async fn rollback(session: &mut Session, rollback: &Rollback) -> Result<(), LapError> {
    let ask = ask::Rollback { to: rollback.to };
    let answer = session.client.post(&format!("{}/rollback", rollback.path.url()), &ask).await?;
    begun(session, &rollback.path, &answer, rollback.waiting).await
}

/// `lap scale`.
pub async fn scale(session: &mut Session, scale: &Scale) -> Result<(), LapError> {
    let ask = ask::Scale { scale: scale.scale };
    let answer = session.client.post(&format!("{}/scale", scale.path.url()), &ask).await?;
    begun(session, &scale.path, &answer, scale.waiting).await
}

/// A deployment was recorded; or nothing had to change, and the answer is the newest one.
async fn begun(session: &mut Session, path: &ServicePath, answer: &Answer, waiting: Waiting) -> Result<(), LapError> {
    let deployment: view::Deployment = answer.read()?;
    let nothing_to_do = answer.status == StatusCode::OK;
    if nothing_to_do {
        session.output.say(&format!("{path} is wanted so already; nothing was changed"));
    }
    if waiting.wait && !(nothing_to_do && deployment.ended) {
        let watched = Watched { service: path.clone(), number: deployment.number };
        return wait_for(session, &[watched], waiting.timeout).await;
    }
    if session.output.is_json() {
        return session.output.json(answer);
    }
    if !nothing_to_do {
        let number = deployment.number;
        session.output.say(&format!(
            "deployment {number} of {path} is recorded and goes on by itself; `lap deployments {path} {number}` shows how far it is"
        ));
    }
    Ok(())
}

/// `lap rm`.
pub async fn remove(session: &mut Session, remove: &Remove) -> Result<(), LapError> {
    let path = &remove.path;
    if !remove.yes && !agreed(path)? {
        session.output.say("nothing was removed");
        return Ok(());
    }
    session.client.delete(&path.url()).await?;
    if remove.waiting.wait {
        return wait_until_gone(session, path, remove.waiting.timeout).await;
    }
    session.output.say(&format!("{path} is being removed; it is gone when its jobs have stopped"));
    Ok(())
}

fn agreed(path: &ServicePath) -> Result<bool, LapError> {
    if !io::stdin().is_terminal() {
        return Err(LapError::Wrong(format!("nobody is there to ask whether {path} shall go; say it with --yes")));
    }
    ask(&format!("{path} and its jobs will be gone. Remove it? [y/N] "));
    let mut said = String::new();
    let read = io::stdin().lock().read_line(&mut said);
    read.map_err(|source| LapError::Unreadable { file: "the terminal".into(), source })?;
    Ok(matches!(said.trim(), "y" | "Y" | "yes"))
}
