//! A command that runs once in a job of its own, with its output and its exit code.

use super::Session;
use super::logs::Shown;
use crate::args::Run;
use crate::error::LapError;
use crate::output::{Output, printable, without_subject};
use crate::show::amount::{self, ago};
use crate::show::table::{Cell, Column, Table};
use crate::wait::Patience;
use lapstrake_api::ask;
use lapstrake_api::view::{LogLine, Noted, OneOff};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks at a job whose output has ended and whose end is not told yet.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// `lap run`.
pub async fn run(session: &mut Session, run: &Run) -> Result<(), LapError> {
    if run.list {
        return list(session, run).await;
    }
    if let Some(job) = &run.stop {
        let noted: Noted = session.client.delete(&address(run, job)).await?.read()?;
        let said = if noted.changed { "it is being stopped" } else { "it has ended, or is being stopped already" };
        session.output.say(said);
        return Ok(());
    }
    let ask = ask::Run {
        command: run.command.clone(),
        env: run.env.iter().cloned().collect(),
        timeout_seconds: run.timeout.map(|span| span.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
    };
    let answer = session.client.post(&format!("{}/runs", run.path.url()), &ask).await?;
    let begun: OneOff = answer.read()?;
    if run.detach {
        let path = &run.path;
        session.output.say(&printable(&format!(
            "{} begins on {}; `lap logs -f {path} --job {}` shows what it writes",
            begun.slot, begun.node, begun.job
        )));
        return if session.output.is_json() { session.output.json(&answer) } else { session.output.line(&begun.job) };
    }
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|source| LapError::Unreadable { file: "the signals".into(), source })?;
    follow(session, run, &begun.job, &mut interrupt).await?;
    let ended = until_ended(session, run, &begun.job, &mut interrupt).await?;
    match ended.exit_code {
        Some(0) => Ok(()),
        Some(code) => Err(LapError::Exited(u8::try_from(code).unwrap_or(u8::MAX))),
        None => Err(LapError::Failed(printable(&format!(
            "{} on {}: {}",
            ended.slot,
            ended.node,
            ended.message.unwrap_or_else(|| format!("it is {}", ended.phase))
        )))),
    }
}

fn address(run: &Run, job: &str) -> String {
    format!("{}/runs/{job}", run.path.url())
}

/// Writes what the job writes, to its end.
async fn follow(session: &mut Session, run: &Run, job: &str, interrupt: &mut Signal) -> Result<(), LapError> {
    let url = format!("{}/logs?follow=true&since_ms=0&job={job}", run.path.url());
    let (mut shown, mut patience, mut stopped) = (Shown::default(), Patience::new(), false);
    loop {
        match session.client.stream(&url, None).await {
            Ok(mut stream) => {
                let is_again = patience.was_rewarded();
                patience.rewarded(&session.output);
                loop {
                    let event = tokio::select! {
                        event = stream.next() => event,
                        _ = interrupt.recv() => {
                            stop(session, run, job, &mut stopped).await?;
                            continue;
                        }
                    };
                    let Some(event) = event else { break };
                    if event.kind == "end" {
                        return Ok(());
                    }
                    let line = serde_json::from_str::<LogLine>(&event.text).ok();
                    if let Some(line) = line.filter(|line| !shown.take(line, is_again)) {
                        show(&session.output, &line)?;
                    }
                }
            }
            Err(error) => patience.tried(error, &session.output)?,
        }
        tokio::select! {
            () = patience.pause() => {}
            _ = interrupt.recv() => stop(session, run, job, &mut stopped).await?,
        }
    }
}

/// The first Control-C stops the job, the second leaves it.
async fn stop(session: &mut Session, run: &Run, job: &str, stopped: &mut bool) -> Result<(), LapError> {
    if std::mem::replace(stopped, true) {
        return Err(LapError::Exited(130));
    }
    session.output.say("it is being stopped; Control-C again leaves it");
    session.client.delete(&address(run, job)).await?;
    Ok(())
}

fn show(output: &Output, line: &LogLine) -> Result<(), LapError> {
    // Tabs belong to a program's output and do a terminal no harm.
    let text = line.text.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    match line.stream.as_str() {
        "stdout" => output.line(&text),
        "stderr" => {
            output.say(&text);
            Ok(())
        }
        _ => {
            output.say(&format!("{} on {}: {text}", printable(&line.slot), printable(&line.node)));
            Ok(())
        }
    }
}

async fn until_ended(session: &mut Session, run: &Run, job: &str, interrupt: &mut Signal) -> Result<OneOff, LapError> {
    let mut patience = Patience::new();
    let mut stopped = false;
    loop {
        match session.client.get_now(&address(run, job)).await {
            Ok(answer) => {
                patience.rewarded(&session.output);
                let one: OneOff = answer.read()?;
                if one.ended {
                    return Ok(one);
                }
            }
            Err(error) => {
                patience.tried(error, &session.output)?;
                patience.pause().await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            _ = interrupt.recv() => stop(session, run, job, &mut stopped).await?,
        }
    }
}

/// `lap run PATH --list`.
async fn list(session: &mut Session, run: &Run) -> Result<(), LapError> {
    let answer = session.client.list(&format!("{}/runs", run.path.url())).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let all: Vec<OneOff> = answer.read()?;
    if all.is_empty() {
        session.output.say(&format!("{} has no one-off job that runs or ended lately", run.path));
        return Ok(());
    }
    session.output.table(&table(&all, amount::now_ms()))
}

fn table(all: &[OneOff], now_ms: u64) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("PHASE"),
        Column::new("EXIT").right().leaves(3),
        Column::new("NODE").leaves(4),
        Column::new("REV").right().leaves(5),
        Column::new("BY").leaves(6),
        Column::new("ASKED").leaves(1),
        Column::new("JOB"),
        Column::new("COMMAND").leaves(2).cut_to(16),
        Column::new("MESSAGE").leaves(2).cut_to(16),
    ]);
    for one in all {
        table.row([
            (&one.slot).into(),
            Cell::word(&one.phase),
            one.exit_code.map(|code| code.to_string()).unwrap_or_default().into(),
            (&one.node).into(),
            format!("r{}", one.revision).into(),
            (&one.by).into(),
            ago(one.created_ms, now_ms).into(),
            (&one.job).into(),
            one.command.join(" ").into(),
            without_subject(one.message.as_deref().unwrap_or(""), &one.service).into(),
        ]);
    }
    table
}
