//! A command in a job's container, as if it ran here.

use super::Session;
use crate::args;
use crate::client::{ClientError, Received, Receiver, Sender, Socket, encoded};
use crate::error::LapError;
use crate::output::{Output, printable};
use crate::terminal::{self, Raw};
use lapstrake_api::tunnel::{FromOperator, PIECE_BYTES, SignalWord, ToOperator};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

/// Pieces between this program's own streams and the connection, in each direction.
const PIECES: usize = 4;

/// `lap exec`.
pub async fn exec(session: &mut Session, exec: &args::Exec) -> Result<(), LapError> {
    if exec.terminal && exec.interactive && !io::stdin().is_terminal() {
        return Err(LapError::Wrong(
            "the input is no terminal, so the command cannot have one of it; leave out -t".into(),
        ));
    }
    // Caught from here on: until there is a command they end the waiting, afterwards they are the command's.
    let mut signals = Signals::new().map_err(|source| unreadable("the signals", source))?;
    let address = address(exec);
    let socket = tokio::select! {
        socket = session.client.socket(&address) => socket.map_err(|error| explained(error, exec))?,
        _ = signals.next() => return Err(LapError::Exited(130)),
    };
    let ended = talk(socket, exec, &mut signals, &session.output).await;
    match ended? {
        0 => Ok(()),
        code => Err(LapError::Exited(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

fn unreadable(what: &str, source: io::Error) -> LapError {
    LapError::Unreadable { file: what.into(), source }
}

fn address(exec: &args::Exec) -> String {
    let mut address = format!("{}/exec?input={}", exec.path.url(), exec.interactive);
    if exec.terminal {
        let (columns, rows) = terminal::size().unwrap_or((0, 0));
        address.push_str(&format!("&terminal=true&columns={columns}&rows={rows}"));
    }
    address.push_str(&exec.which.query());
    for word in &exec.command {
        address.push_str(&format!("&command={}", encoded(word)));
    }
    address
}

/// An address that is too long for the controller is a command that is.
fn explained(error: ClientError, exec: &args::Exec) -> LapError {
    let bytes: usize = exec.command.iter().map(String::len).sum();
    match error {
        ClientError::Unexplained { status: 414 | 431, .. } | ClientError::NotARequest(_) => LapError::Wrong(format!(
            "the command has {bytes} bytes, which is too long; give what is long as input: lap exec -i … -- sh < file"
        )),
        error => error.into(),
    }
}

/// The signals that people and systems send to this program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// What a signal is to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    ToCommand(SignalWord),
    /// The terminal is gone.
    Leave,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Sent {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Sent::ToCommand(SignalWord::Interrupt),
            Some(()) = self.terminate.recv() => Sent::ToCommand(SignalWord::Terminate),
            _ = self.hang_up.recv() => Sent::Leave,
        }
    }
}

/// Carries both directions until the command has ended, and gives its code.
async fn talk(socket: Socket, exec: &args::Exec, signals: &mut Signals, output: &Output) -> Result<i64, LapError> {
    let Socket { sender, mut receiver } = socket;
    let raw = match exec.terminal && exec.interactive {
        true => Some(Raw::begin().map_err(|source| unreadable("the terminal", source))?),
        false => None,
    };
    let (asks, asked) = mpsc::channel(PIECES);
    let input = exec.interactive.then(read_input);
    let writer = Writer::start();
    let (ended, has_left) = {
        // When the connection is gone, the last words may be on their way still: listening tells how it ended.
        let say = async {
            say(sender, input, asked, exec.terminal).await;
            std::future::pending::<()>().await
        };
        let listen = listen(&mut receiver, &writer, exec, output);
        let obey = obey(signals, asks);
        tokio::select! {
            ended = listen => (ended, false),
            () = say => (Err(LapError::Failed("the connection broke".into())), false),
            end = obey => (Ok(end), true),
        }
    };
    // A reader that does not read is not waited for by who leaves, nor by who is asked to end meanwhile.
    let flushed = match has_left {
        true => Ok(()),
        false => tokio::select! {
            flushed = writer.finish() => flushed,
            _ = signals.next() => Err(LapError::Exited(130)),
        },
    };
    // As it was, before anything is said.
    drop(raw);
    let code = match ended? {
        End::Code(code) => code,
        End::Said(code, said) => {
            output.say(&format!("error: {}", printable(&said)));
            code
        }
    };
    flushed?;
    Ok(code)
}

/// How it ended.
enum End {
    Code(i64),
    Said(i64, String),
}

/// Passes signals on. The second of one kind leaves, as does the end of the terminal: whoever is asked twice does not answer.
async fn obey(signals: &mut Signals, asks: mpsc::Sender<FromOperator>) -> End {
    let mut sent = Vec::new();
    loop {
        match signals.next().await {
            Sent::ToCommand(signal) if !sent.contains(&signal) => {
                sent.push(signal);
                if asks.try_send(FromOperator::Signal { signal }).is_err() {
                    return End::Said(
                        130,
                        "the command takes no signals now; lap leaves it, and its node ends it".into(),
                    );
                }
            }
            Sent::ToCommand(_) => {
                return End::Said(130, "lap leaves the command, which did not end; its node ends it".into());
            }
            Sent::Leave => return End::Code(129),
        }
    }
}

/// Says what there is to say. Ends when the connection is gone.
async fn say(
    mut sender: Sender,
    mut input: Option<mpsc::Receiver<Vec<u8>>>,
    mut asked: mpsc::Receiver<FromOperator>,
    with_terminal: bool,
) {
    let mut beat = interval(crate::client::SIGN_OF_LIFE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resized = with_terminal.then(|| signal(SignalKind::window_change()).ok()).flatten();
    loop {
        let piece = async {
            match &mut input {
                Some(input) => input.recv().await,
                None => std::future::pending().await,
            }
        };
        let resize = async {
            match &mut resized {
                Some(resized) => resized.recv().await,
                None => std::future::pending().await,
            }
        };
        let said = tokio::select! {
            biased;
            Some(word) = asked.recv() => sender.word(&word).await,
            Some(()) = resize => match terminal::size() {
                Some((columns, rows)) => sender.word(&FromOperator::Resize { columns, rows }).await,
                None => Ok(()),
            },
            _ = beat.tick() => sender.sign_of_life().await,
            piece = piece => match piece {
                Some(piece) => sender.input(&piece).await,
                None => {
                    input = None;
                    sender.word(&FromOperator::InputEnd).await
                }
            },
        };
        if said.is_err() {
            return;
        }
    }
}

/// Writes what the command writes, until its end.
async fn listen(receiver: &mut Receiver, writer: &Writer, exec: &args::Exec, output: &Output) -> Result<End, LapError> {
    loop {
        let broke = |_| LapError::Failed("the connection to the controller broke; the command's node ends it".into());
        match receiver.next().await.map_err(broke)? {
            Received::Piece { to_stderr, bytes } => writer.write(to_stderr, bytes).await?,
            Received::Word(ToOperator::Entered { slot, node, running, .. }) => {
                if running > 1 && exec.which.is_any() {
                    let (slot, node) = (printable(&slot), printable(&node));
                    let line_end = if exec.terminal && exec.interactive { "\r" } else { "" };
                    let said = format!("in {slot} on {node}, one of {running} jobs; --slot names another");
                    output.draw_line(&said, line_end);
                }
            }
            Received::Word(ToOperator::Started | ToOperator::OutputEnd) => {}
            Received::Word(ToOperator::Exited { code }) => return Ok(End::Code(code)),
            Received::Word(ToOperator::NotStarted { code, said }) => return Ok(End::Said(code, said)),
            Received::Word(ToOperator::Closed) => return Ok(End::Code(0)),
            Received::Word(ToOperator::Failed { said }) => return Err(LapError::Failed(said)),
        }
    }
}

/// Reads standard input on a thread of its own: a read cannot be given up, and must not keep the program from ending.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, pieces) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut bytes = vec![0; PIECE_BYTES];
        loop {
            match rustix::io::read(io::stdin(), &mut bytes) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(bytes[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => return,
            }
        }
    });
    pieces
}

/// Writes standard output and error on a thread of its own, in the order of coming: a reader that does not read (`| less`) must
/// not keep signs of life from being sent.
struct Writer {
    pieces: mpsc::Sender<(bool, bytes::Bytes)>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Writer {
    fn start() -> Writer {
        let (pieces, mut waiting) = mpsc::channel::<(bool, bytes::Bytes)>(PIECES);
        let (tell, done) = oneshot::channel();
        std::thread::spawn(move || {
            let mut written = Ok(());
            while let Some((to_stderr, piece)) = waiting.blocking_recv() {
                written = match to_stderr {
                    true => io::stderr().lock().write_all(&piece),
                    false => {
                        let mut stdout = io::stdout().lock();
                        stdout.write_all(&piece).and_then(|()| stdout.flush())
                    }
                };
                if written.is_err() {
                    break;
                }
            }
            drop(waiting);
            let _ = tell.send(written);
        });
        Writer { pieces, done }
    }

    /// Nobody reads any more: the command is left.
    async fn write(&self, to_stderr: bool, bytes: bytes::Bytes) -> Result<(), LapError> {
        let closed = |_| LapError::Output(io::ErrorKind::BrokenPipe.into());
        self.pieces.send((to_stderr, bytes)).await.map_err(closed)
    }

    /// All that was given is written when this returns.
    async fn finish(self) -> Result<(), LapError> {
        drop(self.pieces);
        self.done.await.unwrap_or(Ok(())).map_err(LapError::Output)
    }
}
