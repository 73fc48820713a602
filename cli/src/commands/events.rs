//! The log of events.

use super::Session;
use crate::args::Events;
use crate::error::LapError;
use crate::output::{Output, Style, printable};
use crate::show::amount::instant;
use crate::wait::Patience;
use lapstrake_api::view::Event;

/// So many are shown when nobody says where to begin, as many as the controller gives by itself.
const NEWEST: usize = 50;

/// `lap events`.
pub async fn events(session: &mut Session, which: &Events) -> Result<(), LapError> {
    let below = which.below.as_ref().map(|below| format!("below={below}"));
    if which.follow {
        return follow(session, which.after, below).await;
    }
    let events = match (which.after, &below) {
        (Some(after), _) => pages(session, after, below.as_deref(), usize::MAX).await?,
        // The newest of all may hold nothing of this path, so its own newest are found by reading all of its own.
        (None, Some(_)) => pages(session, 0, below.as_deref(), NEWEST).await?,
        (None, None) => session.client.get("/v1/events").await?.read()?,
    };
    if session.output.is_json() {
        return session.output.json_text(&serde_json::Value::from(events).to_string());
    }
    for event in events {
        show(&session.output, &event.to_string())?;
    }
    Ok(())
}

/// The last of the events after a number, read page by page. As the controller said them, so that JSON is passed on.
async fn pages(
    session: &mut Session,
    mut after: u64,
    below: Option<&str>,
    last: usize,
) -> Result<Vec<serde_json::Value>, LapError> {
    let mut all: Vec<serde_json::Value> = Vec::new();
    loop {
        let below = below.map(|below| format!("&{below}")).unwrap_or_default();
        let page: Vec<serde_json::Value> =
            session.client.get(&format!("/v1/events?after={after}{below}")).await?.read()?;
        let newest = page.iter().filter_map(|event| event["number"].as_u64()).max();
        match newest.filter(|newest| *newest > after) {
            Some(newest) => after = newest,
            None => return Ok(all),
        }
        all.extend(page);
        all.drain(..all.len().saturating_sub(last));
    }
}

/// Events as they come; after a cut the stream goes on where it was.
async fn follow(session: &mut Session, after: Option<u64>, below: Option<String>) -> Result<(), LapError> {
    let mut url = "/v1/events?follow=true".to_owned();
    url.extend(after.map(|after| format!("&after={after}")));
    url.extend(below.map(|below| format!("&{below}")));
    let mut last: Option<String> = None;
    let mut patience = Patience::new();
    loop {
        match session.client.stream(&url, last.as_deref()).await {
            Ok(mut stream) => {
                patience.rewarded(&session.output);
                while let Some(event) = stream.next().await {
                    show(&session.output, &event.text)?;
                    last = event.id.or(last);
                }
            }
            // Before the first answer a mistake should be told at once.
            Err(error) if last.is_none() && !patience.was_rewarded() => return Err(error.into()),
            Err(error) => patience.tried(error, &session.output)?,
        }
        patience.pause().await;
    }
}

fn show(output: &Output, text: &str) -> Result<(), LapError> {
    if output.is_json() {
        return output.json_text(text);
    }
    match serde_json::from_str::<Event>(text) {
        Ok(event) => output.line(&line(&event, output.stdout.colour)),
        // A later controller's event is shown as it is.
        Err(_) => output.line(&printable(text)),
    }
}

fn line(event: &Event, colour: bool) -> String {
    let at = Style::Faint.paint(&instant(event.at_ms), colour);
    let subject = Style::Strong.paint(&printable(&event.subject), colour);
    // Most sentences name who did it.
    let by = event
        .by
        .as_ref()
        .filter(|by| !event.text.contains(by.as_str()))
        .map(|by| format!(" ({})", printable(by)))
        .unwrap_or_default();
    format!("{at}  {subject}  {}{}", printable(&event.text), Style::Faint.paint(&by, colour))
}
