//! The lines of a job's output in which a regular expression finds something, picked on the node, so that the others are not
//! carried.
//!
//! How much work a pattern makes is for whoever asks to say, who may be a viewer. So lines are matched on threads of their own,
//! for one reader at a time and a few lines in a turn: all patterns together take one core at most, and the agent goes on.

use crate::runtime::{LogLine, LogRange, Runtime, RuntimeError};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::time::Wall;
use regex::{Regex, RegexBuilder};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A pattern whose program is larger is not used: `(\w{100}){100}` is short and takes hundreds of megabytes, and each of a
/// line's bytes may cost a step through all of it. `\d` and `\w` know all alphabets: a time to the second takes 80 KiB.
const PROGRAM_BYTES: usize = 256 << 10;

/// Lines that are matched in one turn.
const TURN: usize = 16;

/// Whose turn it is to match.
static TURNS: Semaphore = Semaphore::const_new(1);

/// Of the last lines that match so much text is kept while the rest is looked through; the oldest go first.
const KEPT_BYTES: usize = 4 << 20;

/// What finds lines, in a time that grows with their length and with the pattern's program, never beyond the product of both.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(PROGRAM_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!(
            "it is too large when it is compiled, where {} KiB are allowed; fewer or smaller repetitions, or [0-9a-z_] for \\w, \
             make it smaller",
            PROGRAM_BYTES >> 10
        ),
        error => error.to_string(),
    })
}

/// Those of some lines that match; what could not be read is always among them. All of a reader's lines go through one and the
/// same pattern: a clone would begin each turn without the automaton that the ones before it have built.
async fn found(pattern: &Arc<Regex>, lines: Vec<Line>) -> Vec<Line> {
    let pattern = Arc::clone(pattern);
    // It is never closed.
    let turn = TURNS.acquire().await;
    let matching = move || -> Vec<Line> {
        // Until the work is done, also when nobody waits for it any more.
        let _turn = turn;
        let matches = |line: &Line| line.as_ref().map_or(true, |line| pattern.is_match(&line.text));
        lines.into_iter().filter(matches).collect()
    };
    tokio::task::spawn_blocking(matching).await.unwrap_or_else(|error| {
        let said = format!("the lines could not be matched: {error}");
        vec![Err(RuntimeError::Refused(said))]
    })
}

type Line = Result<LogLine, RuntimeError>;
type Lines = BoxStream<'static, Line>;

/// The lines that match. `tail` counts them alone, so all are looked at; the engine can only count lines of any kind.
pub(crate) async fn matching(
    runtime: Arc<dyn Runtime>,
    attempt: Attempt,
    range: LogRange,
    pattern: Regex,
) -> Result<Lines, RuntimeError> {
    let pattern = Arc::new(pattern);
    let Some(tail) = range.tail else {
        return Ok(picked(runtime.logs(attempt, range).await?, pattern));
    };
    let past = LogRange { tail: None, follow: false, ..range };
    let mut past = runtime.logs(attempt, past).await?.ready_chunks(TURN);
    let mut kept = Kept { lines: VecDeque::new(), bytes: 0, most: usize::try_from(tail).unwrap_or(usize::MAX) };
    // How far it was read: the time of the last line, and how many lines of that time there were.
    let mut place: Option<(Wall, usize)> = None;
    while let Some(lines) = past.next().await {
        for line in lines.iter().flatten() {
            let before = place.filter(|(at, _)| *at == line.at).map_or(0, |(_, count)| count);
            place = Some((line.at, before + 1));
        }
        for line in found(&pattern, lines).await {
            kept.take(line?);
        }
    }
    let old = stream::iter(kept.lines.into_iter().map(Ok));
    if !range.follow {
        return Ok(old.boxed());
    }
    // From the last line on, of which time those that were read are left out.
    let since = place.map(|(at, _)| at).or(range.since);
    let mut passed = place;
    let new = runtime.logs(attempt, LogRange { tail: None, since, follow: true }).await?;
    let new = new.filter(move |line| {
        let is_new = match (line, &mut passed) {
            (Ok(line), Some((at, left))) if line.at == *at && *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        };
        std::future::ready(is_new)
    });
    Ok(old.chain(picked(new.boxed(), pattern)).boxed())
}

fn picked(lines: Lines, pattern: Arc<Regex>) -> Lines {
    let chunks = stream::unfold((lines.ready_chunks(TURN), pattern), async |(mut lines, pattern)| {
        let found = found(&pattern, lines.next().await?).await;
        Some((stream::iter(found), (lines, pattern)))
    });
    chunks.flatten().boxed()
}

/// The newest lines.
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    most: usize,
}

impl Kept {
    fn take(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > self.most || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_would_take_too_much_memory_is_not_used() {
        let said = compiled(r"(\w{200}){200}").expect_err("too large");
        assert!(said.starts_with("it is too large when it is compiled, where 256 KiB are allowed"), "{said}");
    }

    #[test]
    fn what_people_look_for_is_small_enough() {
        for pattern in [
            r"5\d\d",
            r"(?i)error|warn(ing)?|panic",
            r"user=\w+ id=\d+",
            r"\bGET /api/v\d+/\S+ 5\d\d\b",
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.* (ERROR|FATAL) ",
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}",
        ] {
            compiled(pattern).expect(pattern);
        }
    }

    #[tokio::test]
    async fn lines_are_matched_away_from_the_threads_that_everything_else_runs_on() {
        let line = |number: u64| {
            Ok(LogLine { attempt: 1, at: Wall(number), to_stderr: false, text: format!("line {number}") })
        };
        let turn = TURNS.acquire().await.expect("never closed");
        let pattern = Arc::new(compiled("7$").expect("small"));
        let picking = picked(stream::iter((0..500).map(line)).boxed(), pattern).count();
        tokio::pin!(picking);
        // While another reader has its turn nothing is matched, and this one waits without a thread.
        assert!(futures_util::poll!(picking.as_mut()).is_pending());
        drop(turn);
        assert_eq!(picking.await, 50);
    }

    #[test]
    fn the_newest_lines_are_kept_and_not_more_text_than_fits() {
        let line =
            |number: u64, bytes| LogLine { attempt: 1, at: Wall(number), to_stderr: false, text: "x".repeat(bytes) };
        let mut kept = Kept { lines: VecDeque::new(), bytes: 0, most: 2 };
        (1..=3).for_each(|number| kept.take(line(number, 1)));
        assert_eq!(kept.lines.iter().map(|line| line.at.0).collect::<Vec<_>>(), [2, 3]);
        let mut kept = Kept { lines: VecDeque::new(), bytes: 0, most: usize::MAX };
        (1..=3).for_each(|number| kept.take(line(number, KEPT_BYTES / 2)));
        assert_eq!(kept.lines.len(), 2);
    }
}
