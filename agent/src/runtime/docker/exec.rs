//! Commands that somebody runs in a container.
//!
//! The bytes go over a connection of our own that the engine takes over. The crate's reader is for text: it takes a terminal's
//! byte 0, 1 or 2 for the head of a frame and waits for the rest of it for ever.

use super::{ASK, DockerRuntime, WORK, wire, within};
use crate::runtime::{Connection, ExecId, ExecSignal, ExecState, PIECE_BYTES, Piece, Running, RuntimeError};
use bollard::Docker;
use bollard::exec::{CreateExecOptions, ResizeExecOptions};
use bollard::models::ExecInspectResponse;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::quote::quoted;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf};
use tokio::net::{TcpStream, UnixStream};

/// The head of a frame: the stream's number, three zeros, the length.
const HEAD_BYTES: usize = 8;
/// The number of standard error.
const STDERR: u8 = 2;
/// With this the engine begins what it writes instead of the command's own output when it could not start it.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed";
/// An engine notes a process milliseconds after it has started it; half a second is a machine with much to do.
const NOTED_WITHIN: Duration = Duration::from_millis(500);
/// What an engine says of a failure is a sentence; so much of an answer is read.
const ANSWER_BYTES: usize = 16 << 10;

impl DockerRuntime {
    pub(super) async fn create_command(&self, attempt: Attempt, exec: &Exec) -> Result<ExecId, RuntimeError> {
        let name = wire::container_name(attempt);
        let options = CreateExecOptions {
            attach_stdin: Some(exec.input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(exec.terminal.is_some()),
            cmd: Some(exec.command.clone()),
            ..Default::default()
        };
        match within(ASK, "exec", self.engine().await?.create_exec(&name, options)).await {
            // The conflict is that it does not run.
            Err(RuntimeError::NameTaken(said)) => Err(RuntimeError::NotThere(said)),
            made => made.map(|made| ExecId(made.id)),
        }
    }

    pub(super) async fn begin_command(&self, id: &ExecId, exec: &Exec) -> Result<Running, RuntimeError> {
        let engine = self.engine().await?.clone();
        let with_terminal = exec.terminal.is_some();
        let body = serde_json::json!({ "Detach": false, "Tty": with_terminal });
        let path = format!("/exec/{}/start", id.0);
        let stream = within(WORK, "exec", self.take_over(&path, body.to_string(), &exec.command)).await?;
        let (read, write) = tokio::io::split(TokioIo::new(stream));
        if let Some(size) = exec.terminal {
            // Before the program has begun the engine has no terminal to resize; it gets the size again then.
            let _ = self.resize_command(id, size).await;
        }
        let program = exec.command.first().cloned().unwrap_or_default();
        let frames = Frames { read, raw: with_terminal, left: 0, to_stderr: false };
        Ok(Running {
            input: exec.input.then(|| Box::pin(write) as Pin<Box<dyn AsyncWrite + Send>>),
            output: told_apart(frames, program, engine, id.clone()),
        })
    }

    /// A connection of which the engine has agreed that it is the command's streams from here on.
    async fn take_over(&self, path: &str, body: String, command: &[String]) -> Result<Upgraded, RuntimeError> {
        let broke = |error: &dyn std::error::Error| RuntimeError::Unreachable(error.to_string());
        let stream = connect(&self.host).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broke(&error))?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "docker")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broke(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return hyper::upgrade::on(response).await.map_err(|error| broke(&error));
        }
        Err(refused(response, command).await)
    }

    pub(super) async fn resize_command(&self, id: &ExecId, size: TerminalSize) -> Result<(), RuntimeError> {
        if size.columns == 0 || size.rows == 0 {
            return Ok(());
        }
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        within(ASK, "resize", self.engine().await?.resize_exec(&id.0, options)).await
    }

    /// The engine has no call for this. The command leads a group of its own, which is the kernel's to signal.
    pub(super) async fn signal_command(&self, id: &ExecId, signal: ExecSignal) -> Result<(), RuntimeError> {
        let seen = begun(self.engine().await?, id).await?;
        if let ExecState::Exited { .. } = state_of(&seen) {
            return Err(RuntimeError::NotThere("the command has ended".into()));
        }
        let Some(pid) = seen.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1) else {
            return Err(RuntimeError::Unreachable("the engine has not begun the command yet".into()));
        };
        let container = seen.container_id.unwrap_or_default();
        // A number that is another process's by now, or one of another machine's, is not to be signalled.
        let group = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if container.is_empty() || !group.contains(&container) {
            let said = "the command's process is not to be seen from here, so no signal reaches it";
            return Err(RuntimeError::Refused(said.into()));
        }
        let signal = match signal {
            ExecSignal::Interrupt => Signal::SIGINT,
            ExecSignal::Terminate => Signal::SIGTERM,
            ExecSignal::HangUp => Signal::SIGHUP,
            ExecSignal::Kill => Signal::SIGKILL,
        };
        killpg(Pid::from_raw(pid), signal)
            .map_err(|error| RuntimeError::Refused(format!("the signal was not sent: {error}")))
    }

    pub(super) async fn state_of_command(&self, id: &ExecId) -> Result<ExecState, RuntimeError> {
        Ok(state_of(&within(ASK, "inspect exec", self.engine().await?.inspect_exec(&id.0)).await?))
    }
}

/// An engine that was told to start a command, and has not done so yet, knows neither a process nor how it ended.
const fn state_of(seen: &ExecInspectResponse) -> ExecState {
    match (seen.running, seen.exit_code) {
        (Some(false), Some(code)) => ExecState::Exited { code },
        _ => ExecState::Running,
    }
}

/// What the engine knows of a command that it was told to start. What the command writes can be here before the engine has
/// noted its process: until then, or until it says how the command ended, it is asked again for a while.
async fn begun(engine: &Docker, id: &ExecId) -> Result<ExecInspectResponse, RuntimeError> {
    let deadline = tokio::time::Instant::now() + NOTED_WITHIN;
    loop {
        let seen = within(ASK, "inspect exec", engine.inspect_exec(&id.0)).await?;
        let ended_by_itself = seen.running == Some(false) && !seen.exit_code.is_none_or(is_not_started);
        if seen.pid.is_some_and(|pid| pid > 0) || ended_by_itself || tokio::time::Instant::now() >= deadline {
            return Ok(seen);
        }
        tokio::time::sleep(NOTED_WITHIN / 50).await;
    }
}

/// The codes with which the engine says that there was no process; a command may end with them too.
const fn is_not_started(code: i64) -> bool {
    matches!(code, 126 | 127)
}

/// Another connection to the engine, as the address says.
async fn connect(host: &str) -> Result<Box<dyn Connection>, RuntimeError> {
    let unreachable = |error: io::Error| RuntimeError::Unreachable(format!("the engine at {host}: {error}"));
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?));
    }
    match host.strip_prefix("tcp://").or_else(|| host.strip_prefix("http://")) {
        Some(address) => {
            let address = address.trim_end_matches('/');
            Ok(Box::new(TcpStream::connect(address).await.map_err(unreachable)?))
        }
        None => Err(RuntimeError::Refused(format!("commands need an engine at unix:// or tcp://, not {host}"))),
    }
}

/// An answer that is no agreement. Newer engines say so here that a command cannot be started.
async fn refused(response: Response<Incoming>, command: &[String]) -> RuntimeError {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let message = message.and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
    let said = message.unwrap_or_else(|| format!("the engine answered {status}"));
    if said.as_bytes().windows(NOT_STARTED.len()).any(|part| part == NOT_STARTED) {
        return not_started(&said, command.first().map(String::as_str).unwrap_or_default());
    }
    match status.as_u16() {
        404 | 409 => RuntimeError::NotThere(said),
        503 => RuntimeError::Unreachable(said),
        _ => RuntimeError::Refused(said),
    }
}

/// In words for people, from `OCI runtime exec failed: … exec: "sh": executable file not found in $PATH: unknown`.
fn not_started(said: &str, program: &str) -> RuntimeError {
    let lower = said.to_lowercase();
    let program = quoted(program);
    if lower.contains("not found") || lower.contains("no such file") {
        return RuntimeError::NoSuchProgram(format!(
            "there is no program {program} in the job's container; an image need not have a shell, and only the programs \
             that it has can be run"
        ));
    }
    let why = said.trim().trim_end_matches(": unknown").rsplit(": ").next().unwrap_or_default();
    RuntimeError::Refused(format!("the program {program} cannot be run: {why}"))
}

/// What the engine sends: frames with a head each, or with a terminal bytes alone.
struct Frames<R> {
    read: R,
    raw: bool,
    /// Bytes of the frame that were not read yet.
    left: usize,
    to_stderr: bool,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn next(&mut self) -> io::Result<Option<Piece>> {
        while !self.raw && self.left == 0 {
            let mut head = [0; HEAD_BYTES];
            if self.read.read(&mut head[..1]).await? == 0 {
                return Ok(None);
            }
            self.read.read_exact(&mut head[1..]).await?;
            self.to_stderr = head[0] == STDERR;
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            self.left = usize::try_from(length).unwrap_or(usize::MAX);
        }
        let most = if self.raw { PIECE_BYTES } else { self.left.min(PIECE_BYTES) };
        let mut bytes = vec![0; most];
        let read = self.read.read(&mut bytes).await?;
        if read == 0 {
            return if self.raw { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        bytes.truncate(read);
        self.left = self.left.saturating_sub(read);
        Ok(Some(Piece { to_stderr: self.to_stderr, bytes }))
    }
}

/// The command's output, or why there is none. The engine writes the latter as if it were the former, and then there was no
/// process; a program that begins its own output with the same words has one.
fn told_apart(
    mut frames: Frames<ReadHalf<TokioIo<Upgraded>>>,
    program: String,
    engine: Docker,
    id: ExecId,
) -> BoxStream<'static, Result<Piece, RuntimeError>> {
    let broke =
        |error: io::Error| RuntimeError::Unreachable(format!("the engine broke the command's streams off: {error}"));
    let first = async move {
        let first = frames.next().await.map_err(broke);
        if let Ok(Some(piece)) = &first
            && piece.bytes.starts_with(NOT_STARTED)
            && let Ok(seen) = begun(&engine, &id).await
            && seen.pid.is_none_or(|pid| pid == 0)
            && seen.exit_code.is_none_or(is_not_started)
        {
            let said = String::from_utf8_lossy(&piece.bytes).into_owned();
            return (Err(not_started(&said, &program)), frames);
        }
        (first, frames)
    };
    let all = stream::once(first).flat_map(move |(first, frames)| {
        let goes_on = matches!(first, Ok(Some(_)));
        let first = stream::iter(first.transpose());
        let rest = stream::unfold(goes_on.then_some(frames), move |frames| async move {
            let mut frames = frames?;
            match frames.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(frames))),
                Err(error) => Some((Err(broke(error)), None)),
            }
        });
        first.chain(rest)
    });
    all.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(raw: bool, bytes: &[u8]) -> Vec<(bool, Vec<u8>)> {
        let mut frames = Frames { read: bytes, raw, left: 0, to_stderr: false };
        let mut pieces = Vec::new();
        while let Ok(Some(piece)) = frames.next().await {
            pieces.push((piece.to_stderr, piece.bytes));
        }
        pieces
    }

    #[tokio::test]
    async fn a_terminals_bytes_come_as_they_are_and_frames_without_their_heads() {
        let odd = [1u8, 0, 0, 0, 0, 0, 0, 9, 2];
        assert_eq!(read(true, &odd).await, [(false, odd.to_vec())]);
        let framed = [1u8, 0, 0, 0, 0, 0, 0, 2, b'a', b'b', 2, 0, 0, 0, 0, 0, 0, 1, b'c', 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(read(false, &framed).await, [(false, b"ab".to_vec()), (true, b"c".to_vec())]);
    }

    #[test]
    fn why_a_command_was_not_started_is_a_sentence() {
        let of =
            |why: &str| format!("OCI runtime exec failed: exec failed: unable to start container process: {why}\r\n");
        let absent = not_started(&of("exec: \"sh\": executable file not found in $PATH: unknown"), "sh");
        assert!(matches!(&absent, RuntimeError::NoSuchProgram(said) if said.starts_with("there is no program \"sh\"")));
        let absent = not_started(&of("exec: \"/x\": stat /x: no such file or directory: unknown"), "/x");
        assert!(matches!(absent, RuntimeError::NoSuchProgram(_)));
        let denied = not_started(&of("exec: \"/www\": permission denied: unknown"), "/www");
        assert_eq!(denied, RuntimeError::Refused("the program \"/www\" cannot be run: permission denied".into()));
    }
}
