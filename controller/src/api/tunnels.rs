//! Streams to a service's jobs: commands in their containers, connections to their ports. Each is a WebSocket, and each was
//! decided and written to the audit before its first byte.

use super::Office;
use super::caller::Caller;
use super::extract::{Path, Query};
use super::problem::ApiError;
use super::services::{look_at, path_in};
use super::websocket::{Socket, Wanted};
use crate::control::{NoTunnel, Tunnel, TunnelPlace, TunnelWords};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lapstrake::convert::{FromJob, LogSource, SignalKind, ToJob, TunnelEnd, TunnelEndReason};
use lapstrake_api::tunnel::{FromOperator, PIECE_BYTES, SILENT_SECONDS, STDERR, STDIN, STDOUT, SignalWord, ToOperator};
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::cluster::command::{Answer, Command};
use lapstrake_core::cluster::enter::{Enter, Entrance, Which};
use lapstrake_core::message::{Exec, TerminalSize, Way};
use lapstrake_core::quote::{one_line, quoted};
use lapstrake_core::time::Millis;
use schemars::JsonSchema;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Somebody says something this often, so that a side that is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(SILENT_SECONDS / 3);
/// Without any sign of life for so long the operator is gone.
const SILENT: Duration = Duration::from_secs(SILENT_SECONDS);
/// The last words get so long to be taken.
const GOODBYE: Duration = Duration::from_secs(5);
/// Whoever has too many streams may have fewer after this.
const TRY_AGAIN: Millis = Millis(1_000);
/// No sentence of an engine is longer, in characters.
const LONGEST_SAID: usize = 1024;

/// Which job, and which command in it.
#[derive(Debug, JsonSchema)]
#[allow(dead_code, reason = "it describes what `asked` reads")]
pub struct ExecQuery {
    /// The program and its arguments, one after the other: `command=ls&command=-l`. At most 16 KiB together.
    command: Vec<String>,
    /// The job in the slot of this number. Without it and `job`: the first healthy one.
    slot: Option<u32>,
    /// The job of this id.
    job: Option<String>,
    /// Whether the command has a standard input.
    input: Option<bool>,
    /// Whether the command has a terminal; then standard output and error are one.
    terminal: Option<bool>,
    /// Characters in a row of the terminal.
    columns: Option<u16>,
    /// Rows of the terminal.
    rows: Option<u16>,
}

/// Which job, and which of its ports.
#[derive(Debug, JsonSchema)]
#[allow(dead_code, reason = "it describes what `asked` reads")]
pub struct ForwardQuery {
    /// A port that the service's spec declares.
    port: Option<u16>,
    /// The job in the slot of this number. Without it and `job`: the first healthy one.
    slot: Option<u32>,
    /// The job of this id.
    job: Option<String>,
}

type Words = Query<Vec<(String, String)>>;
type At = Path<(String, String, String)>;

/// `GET /v1/services/{app}/{env}/{service}/exec?command=…` as a WebSocket.
pub async fn exec(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    Query(words): Words,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let mut asked = Asked::read(words, &["command", "slot", "job", "input", "terminal", "columns", "rows"])?;
    let terminal = asked.flag("terminal")?;
    let size =
        TerminalSize { columns: asked.number("columns")?.unwrap_or(0), rows: asked.number("rows")?.unwrap_or(0) };
    let exec = Exec {
        command: std::mem::take(&mut asked.command),
        input: asked.flag("input")?,
        terminal: terminal.then_some(size),
    };
    open(caller, office, path_in(at), asked.which()?, Way::Exec(exec), wanted).await
}

/// `GET /v1/services/{app}/{env}/{service}/forward?port=…` as a WebSocket.
pub async fn forward(
    caller: Caller,
    State(office): State<Arc<Office>>,
    at: At,
    Query(words): Words,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let asked = Asked::read(words, &["port", "slot", "job"])?;
    let port = asked.number::<u16>("port")?.filter(|port| *port != 0);
    let port = port.ok_or_else(|| ApiError::invalid("port= must name a port from 1 to 65535", vec![]))?;
    open(caller, office, path_in(at), asked.which()?, Way::Forward { port }, wanted).await
}

/// What stands behind the question mark. `command` may stand there more than once, which a plain struct cannot read.
struct Asked {
    command: Vec<String>,
    others: Vec<(String, String)>,
}

impl Asked {
    fn read(words: Vec<(String, String)>, known: &[&str]) -> Result<Asked, ApiError> {
        let mut asked = Asked { command: Vec::new(), others: Vec::new() };
        for (name, value) in words {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(ApiError::bad_request(format!("{} is not known here; known are {known}", quoted(&name))));
            }
            if name == "command" {
                asked.command.push(value);
            } else if asked.others.iter().any(|(other, _)| *other == name) {
                return Err(ApiError::bad_request(format!("{name}= is there twice")));
            } else {
                asked.others.push((name, value));
            }
        }
        Ok(asked)
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some((_, value)) = self.others.iter().find(|(other, _)| other == name) else { return Ok(None) };
        // A sign in front is read by the standard library, and means nothing here.
        let read = value.parse().ok().filter(|_| !value.starts_with('+'));
        read.map(Some).ok_or_else(|| ApiError::invalid(format!("{name}={} cannot be", quoted(value)), vec![]))
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.number(name)?.unwrap_or(false))
    }

    fn which(&self) -> Result<Which, ApiError> {
        match (self.number("slot")?, self.number("job")?) {
            (None, None) => Ok(Which::First),
            (Some(slot), None) => Ok(Which::Slot(slot)),
            (None, Some(job)) => Ok(Which::Job(job)),
            (Some(_), Some(_)) => Err(ApiError::invalid("slot= and job= each name a job; give one of them", vec![])),
        }
    }
}

async fn open(
    caller: Caller,
    office: Arc<Office>,
    service: ServicePath,
    which: Which,
    way: Way,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    look_at(&office, service.clone(), |_, _| ()).await?;
    let upgrade = wanted.ready()?;
    let mut enter = Enter { service, which, way: way.clone() };
    let place = reserve(&caller, &office, &mut enter).await?;
    let Answer::Entrance(entrance) = office.carry_out(&caller, Command::Enter(enter)).await?.outcome.answer else {
        return Err(ApiError::internal("no job was chosen"));
    };
    let place = match place {
        Some(place) => place,
        // The job came up between the look and the decision.
        None => office.sessions.tunnel(entrance.node, entrance.job, caller.token)?,
    };
    let tunnel = place.open(entrance.job, way);
    Ok(upgrade.answer(move |socket| carry(socket, tunnel, entrance, caller, office)))
}

/// Takes a place before the command is carried out and audited: what is refused for want of one was not done, and the audit
/// must not say that it was. The job of that place is the one that is entered. None where the command itself will be refused,
/// which is then the audit's to tell.
async fn reserve(caller: &Caller, office: &Office, enter: &mut Enter) -> Result<Option<TunnelPlace>, ApiError> {
    let asked = enter.clone();
    let look = office.engine.look(move |view| view.cluster.entrance(view.live, &asked, view.now));
    let Some(entrance) = look.await? else { return Ok(None) };
    let place = office.sessions.tunnel(entrance.node, entrance.job, caller.token)?;
    enter.which = Which::Job(entrance.job);
    Ok(Some(place))
}

impl From<NoTunnel> for ApiError {
    fn from(error: NoTunnel) -> ApiError {
        match error {
            NoTunnel::NoSession => ApiError::refused(error.to_string()),
            NoTunnel::TooMany { .. } => ApiError::too_many(error.to_string(), TRY_AGAIN),
        }
    }
}

/// Carries a stream until one side has ended it, or the operator may have it no more. What is dropped at the end ends the
/// node's call, and with it the command.
async fn carry(socket: Socket, tunnel: Tunnel, entrance: Entrance, caller: Caller, office: Arc<Office>) {
    let idle = Duration::from_secs(office.tunnel_idle_seconds);
    let (mut out, incoming) = socket.split();
    let Tunnel { words, asks } = tunnel;
    // When something was last said by either side.
    let spoken = watch::Sender::new(Instant::now());
    let last = tokio::select! {
        last = say(&mut out, words, entrance, &spoken) => last,
        last = hear(incoming, asks, &spoken) => last,
        () = caller.ends(office) => Some(failed("the token has ended, or the controller stops")),
        () = is_idle(&spoken, idle) => {
            Some(failed(&format!("nothing was said for {} s, so the stream was ended", idle.as_secs())))
        }
    };
    let goodbye = async {
        if let Some(last) = last {
            out.send(text(&last)).await?;
        }
        out.close().await
    };
    let _ = timeout(GOODBYE, goodbye).await;
}

fn failed(said: &str) -> ToOperator {
    ToOperator::Failed { said: said.to_owned() }
}

fn text(word: &ToOperator) -> Message {
    Message::text(serde_json::to_string(word).unwrap_or_default())
}

async fn is_idle(spoken: &watch::Sender<Instant>, idle: Duration) {
    loop {
        let until = *spoken.borrow() + idle;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// Passes on what the job says, and a sign of life now and then. Gives the last word; none when the operator is gone.
async fn say(
    out: &mut SplitSink<Socket, Message>,
    mut words: TunnelWords,
    entrance: Entrance,
    spoken: &watch::Sender<Instant>,
) -> Option<ToOperator> {
    let Entrance { job, slot, node_name, running, .. } = entrance;
    let entered = ToOperator::Entered { job: job.to_string(), slot, node: node_name, running };
    out.send(text(&entered)).await.ok()?;
    let mut beat = interval(SIGN_OF_LIFE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let word = tokio::select! {
            word = words.next() => word,
            _ = beat.tick() => {
                out.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            }
        };
        let message = match word {
            Some(FromJob::End(end)) => return Some(ended(end)),
            None => return Some(failed("the stream from the node broke")),
            Some(FromJob::Opening { .. }) => continue,
            Some(FromJob::Started) => text(&ToOperator::Started),
            Some(FromJob::OutputEnd) => text(&ToOperator::OutputEnd),
            Some(FromJob::Output { source, piece }) => {
                let mut bytes = Vec::with_capacity(piece.len() + 1);
                bytes.push(if source == LogSource::Stderr { STDERR } else { STDOUT });
                bytes.extend(piece);
                Message::binary(bytes)
            }
        };
        spoken.send_replace(Instant::now());
        out.send(message).await.ok()?;
    }
}

fn ended(TunnelEnd { reason, code, said }: TunnelEnd) -> ToOperator {
    // An agent's words: they go to a terminal.
    let said = one_line(&said, LONGEST_SAID);
    match reason {
        TunnelEndReason::Exited => ToOperator::Exited { code },
        TunnelEndReason::NotStarted => ToOperator::NotStarted { code, said },
        TunnelEndReason::Closed => ToOperator::Closed,
        TunnelEndReason::UnknownJob | TunnelEndReason::Failed => ToOperator::Failed { said },
    }
}

/// Passes on what the operator says. Ends when the operator is gone, or says what cannot be.
async fn hear(
    mut incoming: SplitStream<Socket>,
    asks: mpsc::Sender<ToJob>,
    spoken: &watch::Sender<Instant>,
) -> Option<ToOperator> {
    loop {
        let message = timeout(SILENT, incoming.next()).await.ok()??;
        let word = match message {
            Ok(Message::Binary(bytes)) => match bytes.split_first() {
                Some((&STDIN, piece)) if piece.len() <= PIECE_BYTES => ToJob::Input(piece.to_vec()),
                _ => return Some(failed("a message of bytes must begin with 0, for standard input")),
            },
            Ok(Message::Text(word)) => match serde_json::from_str(&word) {
                Ok(FromOperator::InputEnd) => ToJob::InputEnd,
                Ok(FromOperator::Resize { columns, rows }) => ToJob::Resize(TerminalSize { columns, rows }),
                Ok(FromOperator::Signal { signal: SignalWord::Interrupt }) => ToJob::Signal(SignalKind::Interrupt),
                Ok(FromOperator::Signal { signal: SignalWord::Terminate }) => ToJob::Signal(SignalKind::Terminate),
                Err(error) => return Some(failed(&format!("a word cannot be read: {error}"))),
            },
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) | Err(_) => return None,
        };
        spoken.send_replace(Instant::now());
        if asks.send(word).await.is_err() {
            // The node's call has ended; what it said last is on its way to the operator.
            std::future::pending::<()>().await;
        }
    }
}
