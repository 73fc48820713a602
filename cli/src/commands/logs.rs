//! What jobs write.

use super::Session;
use crate::args::Logs;
use crate::client::encoded;
use crate::error::LapError;
use crate::output::{Output, Style, printable};
use crate::show::amount::exact;
use crate::wait::Patience;
use lapstrake_api::view::LogLine;
use std::collections::BTreeMap;

/// After a cut so many lines of each job are asked for again; what was shown already is left out.
const REREAD_LINES: u32 = 1000;

/// `lap logs`.
pub async fn logs(session: &mut Session, logs: &Logs) -> Result<(), LapError> {
    let mut url = format!("{}/logs?follow={}{}", logs.path.url(), logs.follow, logs.which.query());
    url.extend(logs.since.map(|since| format!("&since_ms={}", since.as_millisecond().max(0))));
    url.extend(logs.grep.as_ref().map(|grep| format!("&grep={}", encoded(grep))));
    let reread = format!("{url}&tail={REREAD_LINES}");
    url.extend(logs.tail.map(|tail| format!("&tail={tail}")));
    let mut shown = Shown::default();
    let mut patience = Patience::new();
    loop {
        let url = if patience.was_rewarded() { &reread } else { &url };
        match session.client.stream(url, None).await {
            Ok(mut stream) => {
                let is_again = patience.was_rewarded();
                patience.rewarded(&session.output);
                while let Some(event) = stream.next().await {
                    if event.kind == "end" {
                        return Ok(());
                    }
                    let line = serde_json::from_str::<LogLine>(&event.text).ok();
                    let is_old = line.as_ref().is_some_and(|line| shown.take(line, is_again));
                    if !is_old {
                        show(&session.output, line.as_ref(), &event.text, logs.timestamps)?;
                    }
                }
            }
            Err(error) if !patience.was_rewarded() || !logs.follow => return Err(error.into()),
            Err(error) => patience.tried(error, &session.output)?,
        }
        if !logs.follow {
            return Err(LapError::Failed("the output was cut off; ask again".into()));
        }
        patience.pause().await;
    }
}

fn show(output: &Output, line: Option<&LogLine>, text: &str, with_time: bool) -> Result<(), LapError> {
    if output.is_json() {
        return output.json_text(text);
    }
    let Some(line) = line else { return output.line(&printable(text)) };
    let at = if with_time { format!("{} ", exact(line.at_ms)) } else { String::new() };
    let from = format!("{at}{} {} |", printable(&line.slot), printable(&line.node));
    if line.stream == "lapstrake" {
        output.say(&Style::Warn.paint(&format!("{from} {}", printable(&line.text)), output.stderr.colour));
        return Ok(());
    }
    // Tabs belong to a program's output and do a terminal no harm.
    let text: Vec<String> = line.text.split('\t').map(printable).collect();
    output.line(&format!("{} {}", Style::Faint.paint(&from, output.stdout.colour), text.join("\t")))
}

/// What was shown of each job, so that after a cut no line comes twice.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// By slot and node: the newest time, and the lines of that millisecond.
    newest: BTreeMap<(String, String), (u64, Vec<String>)>,
}

impl Shown {
    /// Notes a line. Whether it was shown before, when the stream is one that was opened again.
    pub(super) fn take(&mut self, line: &LogLine, is_again: bool) -> bool {
        let newest = self.newest.entry((line.slot.clone(), line.node.clone())).or_default();
        let (at, lines) = newest;
        if is_again && (line.at_ms < *at || line.at_ms == *at && lines.contains(&line.text)) {
            return true;
        }
        if line.at_ms > *at {
            *at = line.at_ms;
            lines.clear();
        }
        lines.push(line.text.clone());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_cut_no_line_comes_twice_and_none_is_missing() {
        let line = |at_ms: u64, text: &str| LogLine {
            at_ms,
            slot: "web.1".into(),
            node: "n".into(),
            stream: "stdout".into(),
            text: text.into(),
        };
        let mut shown = Shown::default();
        assert!(!shown.take(&line(1, "a"), false));
        assert!(!shown.take(&line(2, "b"), false));
        assert!(!shown.take(&line(2, "b"), false), "a program may say the same twice");
        let again = [line(1, "a"), line(2, "b"), line(2, "c"), line(3, "d")];
        assert_eq!(again.map(|line| shown.take(&line, true)), [true, true, false, false]);
    }
}
