//! The few programs that are in every container of the engine in memory.

use super::Hold;
use crate::runtime::{ExecSignal, ExecState, PIECE_BYTES, Piece, Running, RuntimeError};
use futures_util::StreamExt;
use lapstrake_core::message::{Exec, TerminalSize};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// As much as a pipe of the kernel holds.
const PIPE_BYTES: usize = 64 << 10;
/// Pieces between a program and whoever reads it.
const PIECES: usize = 2;

/// A program that was started, and begins when it may.
pub(super) struct Program {
    /// None before it has begun.
    state: Arc<Mutex<Option<ExecState>>>,
    signals: watch::Sender<Option<ExecSignal>>,
    size: watch::Sender<Option<TerminalSize>>,
}

type Output = mpsc::Sender<Result<Piece, RuntimeError>>;

impl Program {
    /// Starts what is there: `cat`, `echo`, `true`, `false`, `sleep`, `stty size`, and `sh -c` with some of them one after
    /// the other, separated by `; `, each with ` >&2` behind it or not, `exit N`, `read` for a line of its
    /// input, and `resized`, which waits for another size.
    pub(super) fn start(
        exec: &Exec,
        mut held: watch::Receiver<Option<Hold>>,
    ) -> Result<(Program, Running), RuntimeError> {
        let words: Vec<&str> = exec.command.iter().map(String::as_str).collect();
        let script: Vec<String> = match words.as_slice() {
            ["sh", "-c", script] => script.split("; ").map(str::to_owned).collect(),
            ["cat" | "echo" | "true" | "false" | "sleep" | "stty", ..] => vec![words.join(" ")],
            _ => {
                let said = format!("there is no program {:?} in the job's container", words.first().unwrap_or(&""));
                return Err(RuntimeError::NoSuchProgram(said));
            }
        };
        let (input, own_input) = duplex(PIPE_BYTES);
        let (output, written) = mpsc::channel(PIECES);
        let program = Program {
            state: Arc::new(Mutex::new((*held.borrow() != Some(Hold::Begin)).then_some(ExecState::Running))),
            signals: watch::Sender::new(None),
            size: watch::Sender::new(exec.terminal),
        };
        let (state, mut signals, size) = (program.state.clone(), program.signals.subscribe(), program.size.subscribe());
        tokio::spawn(async move {
            let killed = async {
                let signal = signals.wait_for(Option::is_some).await.ok().and_then(|signal| *signal);
                match signal {
                    Some(ExecSignal::Interrupt) => 130,
                    Some(ExecSignal::Terminate) => 143,
                    Some(ExecSignal::HangUp) => 129,
                    Some(ExecSignal::Kill) => 137,
                    None => std::future::pending().await,
                }
            };
            let set = |now| *state.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            let running = async {
                // The sender lives as long as the engine.
                let _ = held.wait_for(|held| *held != Some(Hold::Begin)).await;
                set(ExecState::Running);
                run(&script, own_input, &output, size).await
            };
            let code = tokio::select! {
                code = running => code,
                code = killed => code,
            };
            set(ExecState::Exited { code });
            drop(output);
        });
        let input = exec.input.then(|| Box::pin(input) as Pin<Box<dyn AsyncWrite + Send>>);
        Ok((program, Running { input, output: ReceiverStream::new(written).boxed() }))
    }

    pub(super) fn state(&self) -> Option<ExecState> {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signal(&self, signal: ExecSignal) {
        self.signals.send_replace(Some(signal));
    }

    pub(super) fn resize(&self, size: TerminalSize) {
        self.size.send_replace(Some(size));
    }
}

async fn run(
    script: &[String],
    mut input: impl AsyncRead + Unpin,
    output: &Output,
    mut size: watch::Receiver<Option<TerminalSize>>,
) -> i64 {
    for step in script {
        let (step, to_stderr) = step.strip_suffix(" >&2").map_or((step.as_str(), false), |step| (step, true));
        let step = step.strip_prefix("busybox ").unwrap_or(step);
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let say = async |bytes: Vec<u8>| output.send(Ok(Piece { to_stderr, bytes })).await.is_ok();
        match verb {
            "echo" => drop(say(format!("{rest}\n").into_bytes()).await),
            "cat" => {
                let mut bytes = vec![0; PIECE_BYTES];
                while let Ok(read @ 1..) = input.read(&mut bytes).await {
                    if !say(bytes[..read].to_vec()).await {
                        return 141;
                    }
                }
            }
            "read" => {
                let mut byte = [0];
                while matches!(input.read(&mut byte).await, Ok(1..)) && byte != *b"\n" {}
            }
            "stty" => {
                let now = *size.borrow_and_update();
                let text = now.map(|size| format!("{} {}\n", size.rows, size.columns)).unwrap_or_default();
                say(text.into_bytes()).await;
            }
            "resized" => drop(size.changed().await),
            "sleep" => std::future::pending().await,
            "exit" => return rest.parse().unwrap_or(2),
            "false" => return 1,
            _ => {}
        }
    }
    0
}

/// A service that gives back what it gets, until it gets no more.
pub(super) fn echo() -> DuplexStream {
    let (outside, inside) = duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(inside);
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    outside
}
