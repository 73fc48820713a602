//! What was deployed, by whom, and how it went.

use super::Session;
use crate::args::Deployments;
use crate::error::LapError;
use crate::show::{amount, listing, service};
use lapstrake_api::view;

/// `lap deployments PATH [NUMBER]`.
pub async fn deployments(session: &mut Session, which: &Deployments) -> Result<(), LapError> {
    let path = &which.path;
    if let Some(number) = which.number {
        let answer = session.client.get(&format!("{}/deployments/{number}", path.url())).await?;
        if session.output.is_json() {
            return session.output.json(&answer);
        }
        let deployment: view::Deployment = answer.read()?;
        return session.output.text(&service::deployment(&deployment, amount::now_ms(), session.output.stdout));
    }
    let answer = session.client.list(&format!("{}/deployments", path.url())).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let deployments: Vec<view::Deployment> = answer.read()?;
    if deployments.is_empty() {
        session.output.say(&format!("{path} was never deployed"));
        return Ok(());
    }
    session.output.table(&listing::deployments(&deployments, amount::now_ms()))
}
