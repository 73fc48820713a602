//! A stream between an operator and a job, on the job's side: a command in its container, or a connection to a port.
//!
//! Each direction is carried by itself and holds one piece at a time, so whoever does not read makes the other side wait and
//! nothing is kept for them. When the operator is gone the command is ended: nobody would read it.

use crate::runtime::{Connection, ExecId, ExecSignal, ExecState, PIECE_BYTES, Piece, Running, Runtime, RuntimeError};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapstrake::convert::{FromJob, LogSource, SignalKind, ToJob, TunnelEnd, TunnelEndReason};
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::seen::Attempt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A command whose operator is gone gets so long after SIGHUP before SIGKILL: shells save their history meanwhile.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);
/// A command that the engine was asked to start may begin so much later on a machine with much to do, and is ended then.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at whether a command has begun or ended; doubled up to the second.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// The shell's code for a program that is not there, and for one that cannot be run.
const NO_SUCH_PROGRAM: i64 = 127;
const CANNOT_RUN: i64 = 126;

const GONE: &str = "the operator is gone";

/// An agent that stops waits so long for operators' commands to end: for one that hears SIGHUP or has to be killed. It sends no
/// heartbeats meanwhile, and its last one is up to two seconds old: the node must not be taken for lost, after seven.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// The commands of operators that begin, run or are being ended. A clone counts the same ones.
#[derive(Clone, Default)]
pub struct Commands(TaskTracker);

impl Commands {
    /// Waits until the last one has ended, at most a few seconds. For an agent that stops and has dropped all streams.
    pub async fn ended(&self) {
        self.0.close();
        if tokio::time::timeout(LAST_WAIT, self.0.wait()).await.is_err() {
            tracing::warn!("commands of operators run on after the agent");
        }
    }
}

/// The two ends of a stream to an operator.
pub struct Operator {
    /// What the job's side says.
    pub words: mpsc::Sender<FromJob>,
    /// What the operator says; closed when the operator is gone.
    pub asked: mpsc::Receiver<ToJob>,
}

/// How it ended, without a code.
pub fn ended(reason: TunnelEndReason, said: impl Into<String>) -> TunnelEnd {
    TunnelEnd { reason, code: 0, said: said.into() }
}

fn failed(error: &RuntimeError) -> TunnelEnd {
    let reason = match error {
        RuntimeError::NotThere(_) => TunnelEndReason::UnknownJob,
        RuntimeError::NoSuchProgram(_)
        | RuntimeError::NoSuchImage(_)
        | RuntimeError::NameTaken(_)
        | RuntimeError::Refused(_)
        | RuntimeError::Unreachable(_) => TunnelEndReason::Failed,
    };
    ended(reason, error.to_string())
}

fn not_started(error: &RuntimeError) -> TunnelEnd {
    let code = match error {
        RuntimeError::NoSuchProgram(_) => NO_SUCH_PROGRAM,
        RuntimeError::Refused(_) => CANNOT_RUN,
        _ => return failed(error),
    };
    TunnelEnd { reason: TunnelEndReason::NotStarted, code, said: error.to_string() }
}

/// Runs a command from its start to its end, or until the operator is gone.
pub async fn exec(
    runtime: Arc<dyn Runtime>,
    attempt: Attempt,
    exec: Exec,
    operator: Operator,
    commands: &Commands,
) -> TunnelEnd {
    let Operator { words, asked } = operator;
    let terminal = exec.terminal;
    let begun = begin(runtime.clone(), attempt, exec, commands).await;
    let (id, Running { input, output }, mut held) = match begun {
        Ok(begun) => begun,
        Err(error) => return not_started(&error),
    };
    let carry_in = carry_input(&*runtime, &id, terminal, input, asked);
    let end = tokio::select! {
        end = carry_output(&*runtime, &id, output, &words) => end,
        () = carry_in => return ended(TunnelEndReason::Failed, GONE),
    };
    if matches!(end.reason, TunnelEndReason::Exited | TunnelEndReason::NotStarted) {
        held.id = None;
    }
    end
}

/// Starts a command in a task of its own: an engine that was asked to start one does so, though whoever asked is gone
/// meanwhile. What nobody waits for any more is not started, or ended.
async fn begin(
    runtime: Arc<dyn Runtime>,
    attempt: Attempt,
    exec: Exec,
    commands: &Commands,
) -> Result<(ExecId, Running, Held), RuntimeError> {
    let mut held =
        Held { runtime: runtime.clone(), id: None, commands: commands.clone(), _counted: commands.0.token() };
    let (tell, begun) = oneshot::channel();
    commands.0.spawn(async move {
        let started = async {
            let id = runtime.create_exec(attempt, &exec).await?;
            if tell.is_closed() {
                return Err(RuntimeError::Refused(GONE.into()));
            }
            held.id = Some(id.clone());
            let started = runtime.start_exec(&id, &exec).await;
            // An engine that did not answer may begin it all the same; any other that failed will not.
            if matches!(&started, Err(error) if !matches!(error, RuntimeError::Unreachable(_))) {
                held.id = None;
            }
            started.map(|running| (id, running, held))
        };
        let started = started.await;
        // What is not taken is dropped, and so ended.
        let _ = tell.send(started);
    });
    begun.await.unwrap_or_else(|_| Err(RuntimeError::Refused("the command was not started".into())))
}

/// A command that is not to outlive its stream.
struct Held {
    runtime: Arc<dyn Runtime>,
    id: Option<ExecId>,
    commands: Commands,
    /// Dropped last, so that the command is counted until what ends it is.
    _counted: TaskTrackerToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let runtime = self.runtime.clone();
        // Also when the session ends and drops all that belongs to it. Without a runtime the agent itself ends.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            self.commands.0.spawn_on(async move { hang_up(&*runtime, &id).await }, &handle);
        }
    }
}

async fn hang_up(runtime: &dyn Runtime, id: &ExecId) {
    for signal in [ExecSignal::HangUp, ExecSignal::Kill] {
        match signalled(runtime, id, signal).await {
            Ok(()) => {}
            Err(RuntimeError::NotThere(_)) => return,
            Err(error) => tracing::warn!(%error, "a command whose operator is gone was not signalled"),
        }
        if tokio::time::timeout(HANG_UP_GRACE, exit_code(runtime, id)).await.is_ok() {
            return;
        }
    }
    tracing::warn!("a command whose operator is gone runs on");
}

/// Sends a signal. An engine that does not answer, or has not begun the command, is asked again for a while.
async fn signalled(runtime: &dyn Runtime, id: &ExecId, signal: ExecSignal) -> Result<(), RuntimeError> {
    let given_up = Instant::now() + BEGINS_WITHIN;
    let mut pause = FIRST_LOOK;
    loop {
        match runtime.signal_exec(id, signal).await {
            Err(RuntimeError::Unreachable(_)) if Instant::now() < given_up => tokio::time::sleep(pause).await,
            sent => return sent,
        }
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

/// Waits until the command has ended. An engine that does not answer is asked again.
async fn exit_code(runtime: &dyn Runtime, id: &ExecId) -> Result<i64, RuntimeError> {
    let mut pause = FIRST_LOOK;
    loop {
        match runtime.exec_state(id).await {
            Ok(ExecState::Exited { code }) => return Ok(code),
            Err(error @ RuntimeError::NotThere(_)) => return Err(error),
            Ok(ExecState::Running) | Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_LOOK);
    }
}

/// Passes on what the command writes, then how it ended.
async fn carry_output(
    runtime: &dyn Runtime,
    id: &ExecId,
    mut output: BoxStream<'static, Result<Piece, RuntimeError>>,
    words: &mpsc::Sender<FromJob>,
) -> TunnelEnd {
    let gone = || ended(TunnelEndReason::Failed, GONE);
    // A command may say nothing for long, or ever. One that the engine could not start after all ends here with the reason.
    if words.send(FromJob::Started).await.is_err() {
        return gone();
    }
    let mut next = output.next().await;
    // An engine that could not start the command says so instead of its first output.
    if let Some(Err(error)) = &next {
        return not_started(error);
    }
    while let Some(piece) = next {
        let Piece { to_stderr, bytes } = match piece {
            Ok(piece) => piece,
            Err(error) => return failed(&error),
        };
        let source = if to_stderr { LogSource::Stderr } else { LogSource::Stdout };
        if words.send(FromJob::Output { source, piece: bytes }).await.is_err() {
            return gone();
        }
        next = output.next().await;
    }
    match exit_code(runtime, id).await {
        Ok(code) => TunnelEnd { reason: TunnelEndReason::Exited, code, said: String::new() },
        Err(error) => failed(&error),
    }
}

/// Passes on what the operator says; returns when the operator is gone.
async fn carry_input(
    runtime: &dyn Runtime,
    id: &ExecId,
    terminal: Option<TerminalSize>,
    mut input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    mut asked: mpsc::Receiver<ToJob>,
) {
    // The engine takes a size only once the program has begun, which it has not always when it says so.
    if let Some(size) = terminal {
        resize(runtime, id, size).await;
    }
    while let Some(word) = asked.recv().await {
        match word {
            ToJob::Input(piece) => {
                if let Some(open) = &mut input
                    && (open.write_all(&piece).await.is_err() || open.flush().await.is_err())
                {
                    // The command reads no more. It may write on.
                    input = None;
                }
            }
            ToJob::InputEnd => {
                if let Some(mut open) = input.take() {
                    let _ = open.shutdown().await;
                }
            }
            ToJob::Resize(size) => resize(runtime, id, size).await,
            ToJob::Signal(kind) => {
                let signal = match kind {
                    SignalKind::Interrupt => ExecSignal::Interrupt,
                    SignalKind::Terminate => ExecSignal::Terminate,
                };
                if let Err(error) = runtime.signal_exec(id, signal).await {
                    tracing::debug!(%error, "a signal of an operator was not sent");
                }
            }
        }
    }
}

async fn resize(runtime: &dyn Runtime, id: &ExecId, size: TerminalSize) {
    let mut pause = FIRST_LOOK;
    while runtime.resize_exec(id, size).await.is_err() && pause < LONGEST_LOOK {
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Carries a connection from its beginning to its end, or until the operator is gone.
pub async fn forward(
    runtime: Arc<dyn Runtime>,
    attempt: Attempt,
    address: IpAddr,
    port: u16,
    operator: Operator,
) -> TunnelEnd {
    let Operator { words, asked } = operator;
    let stream: Box<dyn Connection> = match runtime.connect(attempt, address, port).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    if words.send(FromJob::Started).await.is_err() {
        return ended(TunnelEndReason::Failed, GONE);
    }
    let (mut read, mut write) = tokio::io::split(stream);
    let outwards = async {
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            let count = read.read(&mut bytes).await;
            let count = count.map_err(|error| format!("the job broke the connection off: {error}"))?;
            let word = match count {
                0 => FromJob::OutputEnd,
                count => FromJob::Output { source: LogSource::Stdout, piece: bytes[..count].to_vec() },
            };
            words.send(word).await.map_err(|_| GONE.to_owned())?;
            if count == 0 {
                return Ok(());
            }
        }
    };
    let inwards = async {
        let mut asked = asked;
        let mut hears = true;
        while let Some(word) = asked.recv().await {
            match word {
                ToJob::Input(piece) if hears => {
                    // A job that reads no more may still write.
                    hears = write.write_all(&piece).await.is_ok() && write.flush().await.is_ok();
                }
                ToJob::InputEnd => {
                    let _ = write.shutdown().await;
                    return Ok(asked);
                }
                ToJob::Input(_) | ToJob::Resize(_) | ToJob::Signal(_) => {}
            }
        }
        Err(GONE.to_owned())
    };
    let mut inwards = std::pin::pin!(inwards);
    let mut outwards = std::pin::pin!(outwards);
    let outcome = tokio::select! {
        said = &mut inwards => match said {
            // The operator is silent from here on, and gone when its words are.
            Ok(mut asked) => tokio::select! {
                done = &mut outwards => done,
                () = async { while asked.recv().await.is_some() {} } => Err(GONE.to_owned()),
            },
            Err(why) => Err(why),
        },
        done = &mut outwards => match done {
            Ok(()) => inwards.await.map(drop),
            Err(why) => Err(why),
        },
    };
    match outcome {
        Ok(()) => ended(TunnelEndReason::Closed, ""),
        Err(why) => ended(TunnelEndReason::Failed, why),
    }
}
