//! Spec files: what they would do, and doing it. The controller reads them; `lap` draws what it finds.

use super::Session;
use crate::address::ServicePath;
use crate::args::{self, Apply};
use crate::client::{Answer, ClientError};
use crate::error::LapError;
use crate::output::printable;
use crate::show::changes;
use crate::wait::{Watched, wait_for};
use lapstrake_api::spec::{self, Colour, MAX_FILE_BYTES, Severity};
use lapstrake_api::view;
use std::io::{self, Read as _};
use std::path::Path;

/// `lap plan`.
pub async fn plan(session: &mut Session, spec: &args::Spec) -> Result<(), LapError> {
    let answer = send(session, "/v1/plan", spec, None).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let changes: view::Changes = answer.read()?;
    session.output.text(&changes::plan(&changes, session.output.stdout))?;
    let changing = changes.services.iter().any(|service| service.action != "nothing");
    if let Some(tag) = changes.tag.filter(|_| changing) {
        let tag = printable(&tag);
        session.output.say(&format!("`lap apply --if-unchanged {tag}` does exactly this, or nothing"));
    }
    Ok(())
}

/// `lap apply`.
pub async fn apply(session: &mut Session, apply: &Apply) -> Result<(), LapError> {
    let (_, begun) = record(session, &apply.spec, apply.if_unchanged.as_deref()).await?;
    if apply.waiting.wait {
        return wait_for(session, &begun, apply.waiting.timeout).await;
    }
    if let [first, ..] = begun.as_slice() {
        session.output.say(&format!(
            "recorded; it goes on by itself, and `lap deployments {} {}` shows how far it is",
            first.service, first.number
        ));
    }
    Ok(())
}

/// Applies a spec and shows what that changed. Its changes, and the deployments that it has begun.
pub async fn record(
    session: &mut Session,
    spec: &args::Spec,
    tag: Option<&str>,
) -> Result<(view::Changes, Vec<Watched>), LapError> {
    let answer = send(session, "/v1/apply", spec, tag).await?;
    let changes: view::Changes = answer.read()?;
    if session.output.is_json() {
        session.output.json(&answer)?;
    } else {
        session.output.text(&changes::applied(&changes, session.output.stdout))?;
    }
    let begun = changes
        .services
        .iter()
        .filter_map(|service| Some(Watched { service: ServicePath::told(&service.path), number: service.deployment? }))
        .collect();
    Ok((changes, begun))
}

async fn send(session: &mut Session, url: &str, spec: &args::Spec, tag: Option<&str>) -> Result<Answer, LapError> {
    let (name, text) = read(&spec.file)?;
    let query: Vec<String> = spec.env.iter().map(|environment| format!("env={environment}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let answer = session.client.post_spec(&format!("{url}{query}"), &text, tag).await;
    match answer {
        Err(ClientError::Problem { problem, .. }) if !problem.mistakes.is_empty() => {
            let drawn = drawn(session, &name, &text, &problem);
            // A spec that is right, but not this person's to apply, is no wrong spec.
            Err(if problem.status == 403 {
                ClientError::Problem { status: 403, problem, wait: None }.into()
            } else {
                drawn
            })
        }
        answer => Ok(answer?),
    }
}

/// All mistakes, over the text that the person has.
fn drawn(session: &Session, name: &str, text: &[u8], problem: &view::Problem) -> LapError {
    let colour = if session.output.stderr.colour { Colour::On } else { Colour::Off };
    let (placed, whole): (Vec<_>, Vec<_>) = problem.mistakes.iter().cloned().partition(|mistake| mistake.line > 0);
    let problems = spec::problems(text, &placed, Severity::Error);
    session.output.draw(&spec::render(text, name, &problems, colour));
    let whole = whole.into_iter().map(|mistake| match mistake.hint {
        Some(hint) => format!("{} ({hint})", mistake.message),
        None => mistake.message,
    });
    let whole: Vec<String> = whole.collect();
    // What has no place in the file is told by the controller's own sentence or, beside placed ones, after it.
    let said = if placed.is_empty() {
        problem.detail.clone()
    } else {
        let mistakes = match problem.mistakes.len() {
            1 => "the spec has a mistake".to_owned(),
            number => format!("the spec has {number} mistakes"),
        };
        let rest: String = whole.iter().map(|sentence| format!("; {sentence}")).collect();
        format!("{mistakes}; nothing was changed{rest}")
    };
    LapError::Spec(said)
}

/// The file's name for people, and its text. A little more than the controller takes is read, so that it is the
/// controller who refuses it.
fn read(file: &Path) -> Result<(String, Vec<u8>), LapError> {
    let limit = MAX_FILE_BYTES as u64 + 1;
    let mut text = Vec::new();
    let (name, read) = if file == Path::new("-") {
        ("<stdin>".to_owned(), io::stdin().lock().take(limit).read_to_end(&mut text))
    } else {
        let opened = std::fs::File::open(file);
        (file.display().to_string(), opened.and_then(|file| file.take(limit).read_to_end(&mut text)))
    };
    read.map_err(|source| LapError::Unreadable { file: name.clone(), source })?;
    if text.len() > MAX_FILE_BYTES {
        let most = MAX_FILE_BYTES >> 10;
        return Err(LapError::Wrong(format!(
            "{name} is larger than a spec file may be ({most} KiB); nothing was changed"
        )));
    }
    Ok((name, text))
}
