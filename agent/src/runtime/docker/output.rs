//! What containers write, and commands in them.

use super::{ASK, DockerRuntime, wire, within};
use crate::runtime::{ExecEnd, LogLine, LogRange, RuntimeError};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use lapstrake_core::node::seen::Attempt;
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
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(range.follow).tail(&tail).build();
        let docker = self.engine().await?.clone();
        let pieces = docker.logs(&wire::container_name(attempt), Some(options));
        let lines = pieces.flat_map(move |piece| {
            stream::iter(match piece {
                Ok(piece) => lines(attempt.number, piece).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(wire::failed(error))],
            })
        });
        Ok(lines.boxed())
    }

    pub(super) async fn last_of_output(&self, attempt: Attempt, count: u32) -> Result<Vec<String>, RuntimeError> {
        let range = LogRange { tail: Some(count), follow: false };
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

/// The engine frames whole lines, except that it cuts those over 16 KiB.
fn lines(attempt: u32, piece: LogOutput) -> Vec<LogLine> {
    let to_stderr = matches!(piece, LogOutput::StdErr { .. });
    let bytes = piece.into_bytes();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let line = |text: &str| LogLine { attempt, to_stderr, text: text.trim_end_matches('\r').to_owned() };
    text.split('\n').map(line).collect()
}
