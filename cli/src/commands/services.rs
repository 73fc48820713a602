//! How services and jobs are.

use super::Session;
use crate::address::{Below, ServicePath};
use crate::error::LapError;
use crate::output::{Style, printable, without_subject};
use crate::show::{amount, listing, service};
use lapstrake_api::view;

/// `lap ps`.
pub async fn jobs(session: &mut Session, below: Option<&Below>) -> Result<(), LapError> {
    let answer = session.client.list(&format!("/v1/jobs{}", Below::query(below))).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let jobs: Vec<view::Job> = answer.read()?;
    if jobs.is_empty() {
        session.output.say(&nothing("no job runs", below, "`lap status` shows what services wait for"));
        return Ok(());
    }
    session.output.table(&listing::jobs(&jobs))
}

/// `lap status`.
pub async fn status(session: &mut Session, below: Option<&Below>) -> Result<(), LapError> {
    if let Some(path) = below.and_then(Below::service) {
        return one(session, &path).await;
    }
    let answer = session.client.list(&format!("/v1/services{}", Below::query(below))).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let services: Vec<view::Service> = answer.read()?;
    if services.is_empty() {
        session.output.say(&nothing("there is no service", below, "`lap apply -f FILE` creates services"));
        return Ok(());
    }
    session.output.table(&listing::services(&services))
}

async fn one(session: &mut Session, path: &ServicePath) -> Result<(), LapError> {
    let answer = session.client.get(&path.url()).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.text(&service::service(&answer.read()?, amount::now_ms(), session.output.stdout))
}

fn nothing(what: &str, below: Option<&Below>, next: &str) -> String {
    match below {
        Some(below) => format!("{what} below {below}; {next}"),
        None => format!("{what} yet; {next}"),
    }
}

/// `lap why`.
pub async fn why(session: &mut Session, path: &ServicePath) -> Result<(), LapError> {
    let answer = session.client.get(&format!("{}/why", path.url())).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let why: view::Why = answer.read()?;
    let state = Style::of_word(&why.state).paint(&printable(&why.state), session.output.stdout.colour);
    let path_text = path.to_string();
    let mut sentences = why.sentences.iter().map(|sentence| without_subject(sentence, &path_text));
    let first = sentences.next().unwrap_or_else(|| "nobody says why".into());
    session.output.sentence(&format!("{path} is {state}: {first}"))?;
    for sentence in sentences {
        session.output.sentence(&format!("  {sentence}"))?;
    }
    Ok(())
}
