//! What containers write, and commands in them.

use super::{ASK, DockerRuntime, wire, within};
use crate::runtime::{ExecEnd, LogLine, LogRange, RuntimeError};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::time::Wall;
use std::time::Duration;

/// As much of a command's output is kept, as of an HTTP answer's body.
const KEPT_OUTPUT: usize = 200;

impl DockerRuntime {
    pub(super) async fn output(
        &self,
        attempt: Attempt,
        range: LogRange,
    ) -> Result<BoxStream<'static, Result<LogLine, RuntimeError>>, RuntimeError> {
        let tail = range.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        // The engine counts in seconds here; what is older than the millisecond is left out below.
        let since = range.since.map_or(0, |since| i32::try_from(since.0 / 1000).unwrap_or(i32::MAX));
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .follow(range.follow)
            .timestamps(true)
            .since(since)
            .tail(&tail)
            .build();
        let docker = self.engine().await?.clone();
        let pieces = docker.logs(&wire::container_name(attempt), Some(options));
        let lines = pieces.flat_map(move |piece| {
            stream::iter(match piece {
                Ok(piece) => {
                    let lines = lines(attempt.number, piece).into_iter();
                    lines.filter(|line| range.since.is_none_or(|since| line.at >= since)).map(Ok).collect()
                }
                Err(error) => vec![Err(wire::failed(error))],
            })
        });
        Ok(lines.boxed())
    }

    pub(super) async fn last_of_output(&self, attempt: Attempt, count: u32) -> Result<Vec<String>, RuntimeError> {
        let range = LogRange { tail: Some(count), since: None, follow: false };
        let lines = async { self.output(attempt, range).await?.map_ok(|line| line.text).try_collect::<Vec<_>>().await };
        within(ASK, "logs", lines).await
    }

    pub(super) async fn run_command(
        &self,
        attempt: Attempt,
        command: &[String],
        deadline: Duration,
    ) -> Result<ExecEnd, RuntimeError> {
        within(deadline, "exec", async {
            let docker = self.engine().await?;
            let options = CreateExecOptions {
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                cmd: Some(command.to_vec()),
                ..Default::default()
            };
            let made = docker.create_exec(&wire::container_name(attempt), options).await.map_err(wire::failed)?;
            let started = docker.start_exec(&made.id, None::<StartExecOptions>).await.map_err(wire::failed)?;
            let mut kept = Vec::new();
            if let StartExecResults::Attached { mut output, .. } = started {
                while let Some(piece) = output.next().await {
                    let piece = piece.map_err(wire::failed)?.into_bytes();
                    let room = KEPT_OUTPUT.saturating_sub(kept.len()).min(piece.len());
                    kept.extend_from_slice(&piece[..room]);
                }
            }
            let ended = docker.inspect_exec(&made.id).await.map_err(wire::failed)?;
            let code = ended.exit_code.ok_or_else(|| RuntimeError::Refused("the command has no exit code".into()))?;
            Ok::<_, RuntimeError>(ExecEnd { code, output: String::from_utf8_lossy(&kept).into_owned() })
        })
        .await
    }
}

/// The engine frames whole lines, except that it cuts those over 16 KiB, and puts the time before each frame.
fn lines(attempt: u32, piece: LogOutput) -> Vec<LogLine> {
    let to_stderr = matches!(piece, LogOutput::StdErr { .. });
    let bytes = piece.into_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let (at, text) = timed(&text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let line = |text: &str| LogLine { attempt, at, to_stderr, text: text.trim_end_matches('\r').to_owned() };
    text.split('\n').map(line).collect()
}

/// Takes the engine's time off, `2026-11-21T01:00:00.25Z `. Text without one is as old as can be, and kept.
fn timed(frame: &str) -> (Wall, &str) {
    let split = frame.split_once(' ').and_then(|(time, text)| {
        let time = time.parse::<jiff::Timestamp>().ok()?;
        Some((Wall(u64::try_from(time.as_millisecond()).ok()?), text))
    });
    split.unwrap_or((Wall(0), frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_gives_lines_with_the_time_at_which_the_engine_took_them() {
        let read = |text: &'static str| {
            let lines = lines(1, LogOutput::StdOut { message: text.into() });
            lines.into_iter().map(|line| (line.at.0, line.text)).collect::<Vec<_>>()
        };
        assert_eq!(read("1970-01-01T00:00:01.250999999Z GET / 200\r\n"), [(1250, "GET / 200".to_owned())]);
        assert_eq!(read("1970-01-01T00:00:02Z \n"), [(2000, String::new())], "an empty line is a line");
        assert_eq!(read("no time here\n"), [(0, "no time here".to_owned())]);
    }
}
