//! An engine in memory, for tests of everything above it. Its images behave as scripted, by reference.

mod program;

use super::{
    BoundFile, Brief, Connection, ExecEnd, ExecId, ExecSignal, ExecState, Got, HeldImage, Hint, Listed, LogLine,
    LogRange, Look, Outcome, RegistryLogin, RunOrder, Running, Runtime, RuntimeError,
};
use crate::network::{Bridge, Bridges};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::{EnvironmentId, JobId, NodeId};
use lapstrake_core::image::repository;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::probe::Answer;
use lapstrake_core::spec::{Check, ImageSource, Pull};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_pki::mint;
use program::Program;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::BroadcastStream;

/// How an image behaves. The default one is there, starts at once, is healthy at once and stops when asked.
#[derive(Debug, Clone)]
pub struct Script {
    /// How long getting it takes.
    pub pull_takes: Duration,
    /// Why it cannot be got.
    pub pull_fails: Option<String>,
    /// Why its container cannot be started; a corpse is left.
    pub start_fails: Option<String>,
    /// How long after its start it answers well; `None` for never.
    pub healthy_after: Option<Duration>,
    /// How it ends by itself.
    pub exits: Option<Exit>,
    /// How long it goes on after the stop signal; `None` for ever.
    pub stops_after: Option<Duration>,
}

/// How a process ends by itself.
#[derive(Debug, Clone)]
pub struct Exit {
    /// How long after its start.
    pub after: Duration,
    /// With which code.
    pub code: i64,
    /// Whether the kernel killed it at its memory limit.
    pub out_of_memory: bool,
    /// What it wrote.
    pub lines: Vec<String>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            pull_takes: Duration::ZERO,
            pull_fails: None,
            start_fails: None,
            healthy_after: Some(Duration::ZERO),
            exits: None,
            stops_after: Some(Duration::ZERO),
        }
    }
}

/// Its bridges are no interfaces of a kernel, so that no other agent can have the same.
const NO_NODE: NodeId = NodeId(0);

/// The engine. A clone is the same engine, so that a restarted agent meets what the earlier one left.
#[derive(Clone)]
pub struct FakeRuntime {
    inner: Arc<Mutex<Inner>>,
    hints: broadcast::Sender<Hint>,
    /// Where commands stop for now.
    held: Arc<watch::Sender<Option<Hold>>>,
}

/// Where an engine with much to do lets a command stop for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is made, and that is not answered.
    Made,
    /// Its start is accepted, and it does not begin.
    Begin,
    /// It has begun, and its start is not answered.
    Begun,
}

#[derive(Default)]
struct Inner {
    scripts: BTreeMap<String, Script>,
    early_signals: usize,
    images: BTreeSet<String>,
    /// What somebody else calls them.
    tags: BTreeMap<String, String>,
    /// Images that were there and that somebody removed.
    pruned: BTreeSet<String>,
    containers: BTreeMap<Attempt, Made>,
    networks: BTreeMap<EnvironmentId, Subnet>,
    /// The subnets that were asked for, oldest first.
    asked: Vec<Subnet>,
    logins: Vec<(String, String, String)>,
    /// Somebody else's bridges.
    foreign: BTreeSet<Subnet>,
    down: Option<String>,
    panics: bool,
    mute: BTreeMap<Attempt, String>,
    done: Vec<(&'static str, Attempt)>,
    /// Commands that were made, with the program of those that were started, also when that has ended.
    programs: BTreeMap<ExecId, (Attempt, Option<Program>)>,
    /// Connections that were opened, oldest first.
    connections: Vec<(Attempt, u16)>,
}

/// What a process finds at its start.
#[derive(Clone)]
pub struct Found {
    /// All its environment variables.
    pub variables: BTreeMap<String, String>,
    /// The files that were bound into its container, as text; invalid UTF-8 replaced.
    pub files: BTreeMap<String, String>,
}

impl Inner {
    fn note(&mut self, reference: &str, login: Option<&RegistryLogin>) {
        let host = reference.split_once('/').map_or("", |(host, _)| host);
        let login = login.map(|login| (host.to_owned(), login.user.clone(), login.password.clone()));
        self.logins.extend(login.filter(|login| !self.logins.contains(login)));
    }
}

impl Inner {
    fn held(&self, name: &str) -> HeldImage {
        let in_use = self.containers.values().any(|made| made.order.run.image.pinned() == name);
        let names = self.tags.get(name).into_iter().chain([&name.to_owned()]).cloned().collect();
        HeldImage { names, in_use }
    }

    fn must_run(&self, attempt: Attempt) -> Result<(), RuntimeError> {
        let made = self.containers.get(&attempt).filter(|made| made.look.brief() == Brief::Running);
        made.map(|_| ()).ok_or_else(|| RuntimeError::NotThere(format!("{} does not run", attempt.job)))
    }

    fn program(&self, id: &ExecId) -> Result<&Program, RuntimeError> {
        let found = self.programs.get(id).map(|(_, program)| program.as_ref());
        let made = found.ok_or_else(|| RuntimeError::NotThere("no such exec instance".into()))?;
        made.ok_or_else(|| RuntimeError::Unreachable("the command has not begun".into()))
    }
}

struct Made {
    order: RunOrder,
    found: Found,
    script: Script,
    look: Look,
    started: Instant,
    lines: Vec<Written>,
}

/// A line, and when it was written.
#[derive(Clone)]
struct Written {
    at: Wall,
    text: String,
}

impl Written {
    fn now(text: impl Into<String>) -> Written {
        Written { at: mint::wall(), text: text.into() }
    }
}

impl Default for FakeRuntime {
    fn default() -> Self {
        let held = Arc::new(watch::Sender::new(None));
        FakeRuntime { inner: Arc::default(), hints: broadcast::channel(1024).0, held }
    }
}

impl FakeRuntime {
    /// Lets images of this reference behave so from now on.
    pub fn script(&self, reference: &str, script: Script) {
        self.lock().scripts.insert(reference.to_owned(), script);
    }

    /// Lets every call fail with this, until `None`.
    pub fn set_down(&self, said: Option<&str>) {
        self.lock().down = said.map(str::to_owned);
    }

    /// Lets every look at one container fail with this, until `None`; it is listed all the same.
    pub fn set_mute(&self, attempt: Attempt, said: Option<&str>) {
        let mut inner = self.lock();
        match said {
            Some(said) => inner.mute.insert(attempt, said.to_owned()),
            None => inner.mute.remove(&attempt),
        };
        drop(inner);
        self.tell(attempt);
    }

    /// The subnets that environments' networks were asked for with, oldest first.
    pub fn subnets_asked(&self) -> Vec<Subnet> {
        self.lock().asked.clone()
    }

    /// Lets somebody else's bridge stand on these addresses.
    pub fn add_foreign_bridge(&self, subnet: Subnet) {
        self.lock().foreign.insert(subnet);
    }

    /// Lets the next start end in a panic, which stands for a mistake in the agent's own code.
    pub fn panic_once(&self) {
        self.lock().panics = true;
    }

    /// Every `run`, `terminate`, `kill` and `remove` that took effect, oldest first.
    pub fn done(&self) -> Vec<(&'static str, Attempt)> {
        self.lock().done.clone()
    }

    /// What a job's newest container found at its start.
    pub fn given(&self, job: JobId) -> Option<Found> {
        let all = Attempt { job, number: 0 }..=Attempt { job, number: u32::MAX };
        self.lock().containers.range(all).next_back().map(|(_, made)| made.found.clone())
    }

    /// The credentials that came with pulls and questions, each once: the registry's host, the user, the password.
    pub fn logins(&self) -> Vec<(String, String, String)> {
        self.lock().logins.clone()
    }

    /// The containers that run.
    pub fn running(&self) -> Vec<Attempt> {
        let runs = |made: &Made| made.look.brief() == Brief::Running;
        self.lock().containers.iter().filter(|(_, made)| runs(made)).map(|(attempt, _)| *attempt).collect()
    }

    /// The commands that run now, with their jobs.
    pub fn commands(&self) -> Vec<Attempt> {
        let runs = |program: &Option<Program>| {
            program.as_ref().is_some_and(|program| program.state() == Some(ExecState::Running))
        };
        self.lock().programs.values().filter(|(_, program)| runs(program)).map(|(attempt, _)| *attempt).collect()
    }

    /// How many commands were made, whether they were started or not.
    pub fn made_commands(&self) -> usize {
        self.lock().programs.len()
    }

    /// How many commands were started, whether they have begun or not.
    pub fn started_commands(&self) -> usize {
        self.lock().programs.values().filter(|(_, program)| program.is_some()).count()
    }

    /// How the commands that have ended did so.
    pub fn exit_codes(&self) -> Vec<i64> {
        let code = |program: &Program| match program.state() {
            Some(ExecState::Exited { code }) => Some(code),
            Some(ExecState::Running) | None => None,
        };
        self.lock().programs.values().filter_map(|(_, program)| program.as_ref().and_then(code)).collect()
    }

    /// How many signals were for commands that had not begun, and were refused.
    pub fn early_signals(&self) -> usize {
        self.lock().early_signals
    }

    /// Lets commands stop there from now on, and those that stand elsewhere go on.
    pub fn hold_commands(&self, at: Option<Hold>) {
        self.held.send_replace(at);
    }

    async fn passed(&self, place: Hold) {
        // The sender lives as long as the engine.
        let _ = self.held.subscribe().wait_for(|held| *held != Some(place)).await;
    }

    /// The connections that were opened, oldest first.
    pub fn connections(&self) -> Vec<(Attempt, u16)> {
        self.lock().connections.clone()
    }

    /// Calls an image otherwise, as `docker tag` does; `None` takes that name away.
    pub fn tag(&self, image: &BoundImage, name: Option<&str>) {
        let (mut inner, pinned) = (self.lock(), image.pinned().to_owned());
        match name {
            Some(name) => inner.tags.insert(pinned, name.to_owned()),
            None => inner.tags.remove(&pinned),
        };
    }

    /// The images that it holds, as it was asked for them.
    pub fn held_images(&self) -> Vec<String> {
        self.lock().images.iter().cloned().collect()
    }

    /// Removes an image as `docker image prune` does. One that is bound to the node is gone for good.
    pub fn prune(&self, image: &BoundImage) {
        let mut inner = self.lock();
        inner.images.remove(image.pinned());
        inner.pruned.insert(image.pinned().to_owned());
    }

    /// Ends a running container as by a crash of its process.
    pub fn crash(&self, attempt: Attempt, code: i64) {
        self.end(attempt, code, false);
    }

    /// Lets a container write a line.
    pub fn say(&self, attempt: Attempt, line: &str) {
        let mut inner = self.lock();
        let Some(made) = inner.containers.get_mut(&attempt) else { return };
        made.lines.push(Written::now(line));
        drop(inner);
        self.tell(attempt);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self) -> Result<MutexGuard<'_, Inner>, RuntimeError> {
        let inner = self.lock();
        match &inner.down {
            Some(said) => Err(RuntimeError::Unreachable(said.clone())),
            None => Ok(inner),
        }
    }

    fn tell(&self, attempt: Attempt) {
        // Nobody listens before the agent has started.
        let _ = self.hints.send(Hint { attempt, at: 0 });
    }

    fn end(&self, attempt: Attempt, code: i64, out_of_memory: bool) {
        let mut inner = self.lock();
        let Some(made) = inner.containers.get_mut(&attempt) else { return };
        if made.look.brief() != Brief::Running {
            return;
        }
        let ran = Millis(u64::try_from(made.started.elapsed().as_millis()).unwrap_or(0));
        made.look = Look::Exited { code, out_of_memory, ran };
        // What runs in a container ends with it.
        let inside = inner.programs.values().filter(|(of, _)| *of == attempt);
        inside.filter_map(|(_, program)| program.as_ref()).for_each(|program| program.signal(ExecSignal::Kill));
        drop(inner);
        self.tell(attempt);
    }

    fn end_later(&self, attempt: Attempt, after: Duration, code: i64, out_of_memory: bool) {
        let engine = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            engine.end(attempt, code, out_of_memory);
        });
    }

    fn start(&self, order: &RunOrder) -> Result<(), RuntimeError> {
        let mut inner = self.up()?;
        if std::mem::take(&mut inner.panics) {
            drop(inner);
            panic!("the test wants a mistake here");
        }
        let attempt = order.attempt;
        if inner.containers.get(&attempt).is_some_and(|made| made.look != Look::Created) {
            return Ok(());
        }
        if !inner.images.contains(order.run.image.pinned()) {
            return Err(RuntimeError::NoSuchImage(format!("No such image: {}", order.run.image.pinned())));
        }
        if !inner.networks.contains_key(&order.run.environment) {
            return Err(RuntimeError::Refused("network not found".into()));
        }
        let clash = |made: &Made| made.look.brief() == Brief::Running && made.order.address == order.address;
        // A script of the image with this command comes before that of the image.
        let image = order.run.image.reference();
        let with_command = format!("{image} {}", order.run.spec.command.join(" "));
        let script = inner.scripts.get(&with_command).or_else(|| inner.scripts.get(image));
        let script = script.cloned().unwrap_or_default();
        let refusal = match &script.start_fails {
            Some(said) => Some(said.clone()),
            None if inner.containers.values().any(clash) => Some("Address already in use".to_owned()),
            None => None,
        };
        let look = if refusal.is_some() { Look::Created } else { Look::Running { pid: 0 } };
        let exit = script.exits.clone();
        let lines = exit.iter().flat_map(|exit| exit.lines.iter().map(Written::now)).collect();
        let read =
            |file: &BoundFile| std::fs::read(&file.source).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let files = order.given.files.iter().map(|file| Ok((file.path.clone(), read(file)?)));
        let files = files.collect::<std::io::Result<_>>().map_err(|error| RuntimeError::Refused(error.to_string()))?;
        let found = Found { variables: order.environment(), files };
        let made = Made { order: order.clone(), found, script, look, started: Instant::now(), lines };
        inner.containers.insert(attempt, made);
        if let Some(said) = refusal {
            return Err(RuntimeError::Refused(said));
        }
        inner.done.push(("run", attempt));
        drop(inner);
        self.tell(attempt);
        if let Some(exit) = exit {
            self.end_later(attempt, exit.after, exit.code, exit.out_of_memory);
        }
        Ok(())
    }

    fn signal(&self, attempt: Attempt, word: &'static str) -> Result<(), RuntimeError> {
        let mut inner = self.up()?;
        let made = inner.containers.get(&attempt).filter(|made| made.look.brief() == Brief::Running);
        let stops_after = match made {
            None => return Err(RuntimeError::NotThere(format!("{} does not run", attempt.job))),
            Some(_) if word == "kill" => Some(Duration::ZERO),
            Some(made) => made.script.stops_after,
        };
        inner.done.push((word, attempt));
        drop(inner);
        if let Some(after) = stops_after {
            self.end_later(attempt, after, if word == "kill" { 137 } else { 143 }, false);
        }
        Ok(())
    }

    fn drop_container(&self, attempt: Attempt) -> Result<(), RuntimeError> {
        let mut inner = self.up()?;
        match inner.containers.get(&attempt).map(|made| made.look.brief()) {
            None => Err(RuntimeError::NotThere(format!("No such container: {}", attempt.job))),
            Some(Brief::Running) => Err(RuntimeError::Refused("cannot remove a running container".into())),
            Some(Brief::Created | Brief::Exited) => {
                inner.containers.remove(&attempt);
                inner.done.push(("remove", attempt));
                Ok(())
            }
        }
    }

    async fn get_image(&self, image: &BoundImage, login: Option<&RegistryLogin>) -> Result<Got, RuntimeError> {
        let script = {
            let mut inner = self.up()?;
            inner.note(image.reference(), login);
            inner.scripts.get(image.reference()).cloned().unwrap_or_default()
        };
        tokio::time::sleep(script.pull_takes).await;
        let mut inner = self.up()?;
        if let Some(said) = script.pull_fails {
            return Err(RuntimeError::Refused(said));
        }
        match image {
            BoundImage::Id { id, .. } if inner.pruned.contains(id) => {
                return Err(RuntimeError::NoSuchImage(format!("the node does not hold {id}")));
            }
            BoundImage::Id { .. } | BoundImage::Digest { .. } => {}
        }
        let is_new = inner.images.insert(image.pinned().to_owned());
        let name = image.pinned().to_owned();
        match image {
            BoundImage::Digest { .. } if is_new => Ok(Got::Brought { id: digest(&name), name }),
            BoundImage::Digest { .. } | BoundImage::Id { .. } => Ok(Got::WasHere),
        }
    }

    fn drop_image(&self, name: &str, id: &str) -> Result<(), RuntimeError> {
        let mut inner = self.up()?;
        if !inner.images.contains(name) {
            return Err(RuntimeError::NotThere(format!("No such image: {name}")));
        }
        let held = inner.held(name);
        if digest(name) != id || held.in_use || held.names.len() > 1 {
            return Err(RuntimeError::Refused(format!("{name} is used, or is not only what it was")));
        }
        inner.images.remove(name);
        Ok(())
    }

    fn lines_of(&self, attempt: Attempt) -> Result<Vec<Written>, RuntimeError> {
        let inner = self.up()?;
        let made = inner.containers.get(&attempt);
        made.map(|made| made.lines.clone()).ok_or_else(|| RuntimeError::NotThere("No such container".into()))
    }
}

/// Somebody reads what a container writes.
struct Output {
    engine: FakeRuntime,
    hints: broadcast::Receiver<Hint>,
    attempt: Attempt,
    next: usize,
}

impl Output {
    /// The next line, waited for while the container runs and `follow` is wanted.
    async fn line(&mut self, follow: bool) -> Option<Written> {
        loop {
            let runs = {
                let inner = self.engine.lock();
                let made = inner.containers.get(&self.attempt)?;
                if let Some(line) = made.lines.get(self.next) {
                    self.next += 1;
                    return Some(line.clone());
                }
                made.look.brief() == Brief::Running
            };
            if !follow || !runs {
                return None;
            }
            // Whatever happened, and even if some of it was missed: look again.
            let _ = self.hints.recv().await;
        }
    }
}

/// A digest that is always the same for a reference and looks like one.
pub fn digest(reference: &str) -> String {
    // FNV-1a: nothing here has to resist anybody.
    let hash =
        |seed: u64| reference.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let words = [0xcbf2_9ce4_8422_2325, 1, 2, 3].map(|seed| format!("{:016x}", hash(seed)));
    format!("sha256:{}", words.concat())
}

fn last(lines: Vec<Written>, count: Option<u32>) -> Vec<String> {
    let skip = count.map_or(0, |count| lines.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)));
    lines.into_iter().skip(skip).map(|line| line.text).collect()
}

impl Runtime for FakeRuntime {
    fn list(&self) -> Outcome<'_, BTreeMap<Attempt, Listed>> {
        Box::pin(async {
            let entry = |made: &Made| Listed {
                brief: made.look.brief(),
                address: Some(made.order.address),
                slot: Some(made.order.slot.clone()),
            };
            Ok(self.up()?.containers.iter().map(|(attempt, made)| (*attempt, entry(made))).collect())
        })
    }
    fn look(&self, attempt: Attempt) -> Outcome<'_, Option<Look>> {
        Box::pin(async move {
            let inner = self.up()?;
            match inner.mute.get(&attempt) {
                Some(said) => Err(RuntimeError::Unreachable(said.clone())),
                None => Ok(inner.containers.get(&attempt).map(|made| made.look.clone())),
            }
        })
    }
    fn hints(&self, _since: Option<i64>) -> Outcome<'_, BoxStream<'static, Result<Hint, RuntimeError>>> {
        Box::pin(async {
            let _up = self.up()?;
            let lagged = |_| RuntimeError::Unreachable("events were missed".into());
            Ok(BroadcastStream::new(self.hints.subscribe()).map(move |hint| hint.map_err(lagged)).boxed())
        })
    }
    fn run<'a>(&'a self, order: &'a RunOrder) -> Outcome<'a, ()> {
        Box::pin(async move { self.start(order) })
    }
    fn terminate(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(async move { self.signal(attempt, "terminate") })
    }
    fn kill(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(async move { self.signal(attempt, "kill") })
    }
    fn remove(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(async move { self.drop_container(attempt) })
    }
    fn last_lines(&self, attempt: Attempt, count: u32) -> Outcome<'_, Vec<String>> {
        Box::pin(async move { Ok(last(self.lines_of(attempt)?, Some(count))) })
    }
    fn logs(
        &self,
        attempt: Attempt,
        range: LogRange,
    ) -> Outcome<'_, BoxStream<'static, Result<LogLine, RuntimeError>>> {
        Box::pin(async move {
            // Heard from before the first look, so that no line falls between the two.
            let hints = self.hints.subscribe();
            let written = self.lines_of(attempt)?;
            let tail = range.tail.map_or(written.len(), |tail| usize::try_from(tail).unwrap_or(usize::MAX));
            let old = written.iter().take_while(|line| range.since.is_some_and(|since| line.at < since)).count();
            let next = written.len().saturating_sub(tail).max(old);
            let output = Output { engine: self.clone(), hints, attempt, next };
            let lines = stream::unfold(output, move |mut output| async move {
                let Written { at, text } = output.line(range.follow).await?;
                Some((Ok(LogLine { attempt: attempt.number, at, to_stderr: false, text }), output))
            });
            Ok(lines.boxed())
        })
    }
    fn exec<'a>(&'a self, attempt: Attempt, _command: &'a [String], _deadline: Duration) -> Outcome<'a, ExecEnd> {
        Box::pin(async move {
            match self.up()?.containers.get(&attempt).map(|made| made.look.brief()) {
                Some(Brief::Running) => Ok(ExecEnd { code: 0, output: String::new() }),
                Some(Brief::Created | Brief::Exited) | None => Err(RuntimeError::NotThere("it does not run".into())),
            }
        })
    }
    fn create_exec<'a>(&'a self, attempt: Attempt, _exec: &'a Exec) -> Outcome<'a, ExecId> {
        Box::pin(async move {
            let id = ExecId(format!("{:032x}", mint::id()));
            {
                let mut inner = self.up()?;
                inner.must_run(attempt)?;
                inner.programs.insert(id.clone(), (attempt, None));
            }
            self.passed(Hold::Made).await;
            Ok(id)
        })
    }
    fn start_exec<'a>(&'a self, id: &'a ExecId, exec: &'a Exec) -> Outcome<'a, Running> {
        Box::pin(async move {
            let running = {
                let mut inner = self.up()?;
                let made = inner.programs.get(id).map(|(attempt, _)| *attempt);
                let attempt = made.ok_or_else(|| RuntimeError::NotThere("no such exec instance".into()))?;
                inner.must_run(attempt)?;
                let (program, running) = Program::start(exec, self.held.subscribe())?;
                inner.programs.insert(id.clone(), (attempt, Some(program)));
                running
            };
            self.passed(Hold::Begun).await;
            Ok(running)
        })
    }
    fn resize_exec<'a>(&'a self, id: &'a ExecId, size: TerminalSize) -> Outcome<'a, ()> {
        Box::pin(async move {
            self.up()?.program(id)?.resize(size);
            Ok(())
        })
    }
    fn signal_exec<'a>(&'a self, id: &'a ExecId, signal: ExecSignal) -> Outcome<'a, ()> {
        Box::pin(async move {
            let mut inner = self.up()?;
            let program = inner.program(id)?;
            match program.state() {
                None => {
                    inner.early_signals += 1;
                    return Err(RuntimeError::Unreachable("the command has not begun".into()));
                }
                Some(ExecState::Exited { .. }) => return Err(RuntimeError::NotThere("the command has ended".into())),
                Some(ExecState::Running) => program.signal(signal),
            }
            Ok(())
        })
    }
    fn exec_state<'a>(&'a self, id: &'a ExecId) -> Outcome<'a, ExecState> {
        Box::pin(async move {
            match self.up()?.program(id) {
                Ok(program) => Ok(program.state().unwrap_or(ExecState::Running)),
                Err(RuntimeError::Unreachable(_)) => Ok(ExecState::Running),
                Err(error) => Err(error),
            }
        })
    }
    fn connect(&self, attempt: Attempt, _address: IpAddr, port: u16) -> Outcome<'_, Box<dyn Connection>> {
        Box::pin(async move {
            let mut inner = self.up()?;
            inner.must_run(attempt)?;
            let ports = inner.containers.get(&attempt).map(|made| made.order.run.spec.ports.clone());
            if !ports.unwrap_or_default().iter().any(|declared| declared.port == port) {
                return Err(RuntimeError::Refused(format!("nothing listens on port {port} of the job")));
            }
            inner.connections.push((attempt, port));
            Ok(Box::new(program::echo()) as Box<dyn Connection>)
        })
    }
    fn pull<'a>(&'a self, image: &'a BoundImage, login: Option<&'a RegistryLogin>) -> Outcome<'a, Got> {
        Box::pin(self.get_image(image, login))
    }
    fn images(&self) -> Outcome<'_, BTreeMap<String, HeldImage>> {
        Box::pin(async {
            let inner = self.up()?;
            Ok(inner.images.iter().map(|name| (digest(name), inner.held(name))).collect())
        })
    }
    fn remove_image<'a>(&'a self, name: &'a str, id: &'a str) -> Outcome<'a, ()> {
        Box::pin(async move { self.drop_image(name, id) })
    }
    fn resolve<'a>(&'a self, image: &'a ImageSource, login: Option<&'a RegistryLogin>) -> Outcome<'a, String> {
        Box::pin(async move {
            let mut inner = self.up()?;
            inner.note(&image.reference, login);
            if let Some(said) = inner.scripts.get(&image.reference).and_then(|script| script.pull_fails.clone()) {
                return Err(RuntimeError::NoSuchImage(said));
            }
            Ok(match image.pull {
                Pull::Local => digest(&image.reference),
                Pull::Registry => format!("{}@{}", repository(&image.reference), digest(&image.reference)),
            })
        })
    }
    fn ensure_network(&self, environment: EnvironmentId, subnet: Subnet) -> Outcome<'_, Bridge> {
        Box::pin(async move {
            let mut inner = self.up()?;
            inner.asked.push(subnet);
            let others = inner.networks.iter().filter(|(other, _)| **other != environment).map(|(_, subnet)| subnet);
            if others.chain(&inner.foreign).any(|other| other.overlaps(subnet)) {
                let said = "Pool overlaps with other one on this address space";
                return Err(RuntimeError::Refused(said.into()));
            }
            let stands = *inner.networks.entry(environment).or_insert(subnet);
            if stands == subnet {
                Ok(Bridge::of(NO_NODE, environment))
            } else {
                Err(RuntimeError::Refused("another subnet".into()))
            }
        })
    }
    fn remove_network(&self, environment: EnvironmentId) -> Outcome<'_, ()> {
        Box::pin(async move {
            let mut inner = self.up()?;
            if inner.containers.values().any(|made| made.order.run.environment == environment) {
                return Err(RuntimeError::Refused("the network has active endpoints".into()));
            }
            let removed = inner.networks.remove(&environment);
            removed.map(drop).ok_or_else(|| RuntimeError::NotThere("no such network".into()))
        })
    }
    fn networks(&self) -> Outcome<'_, Bridges> {
        Box::pin(async {
            let inner = self.up()?;
            let mut bridges = Bridges { others: inner.foreign.clone(), ..Bridges::default() };
            for (id, subnet) in &inner.networks {
                bridges.add(*id, Ok(Bridge::of(NO_NODE, *id)), Some(*subnet));
            }
            Ok(bridges)
        })
    }
    fn root(&self) -> Outcome<'_, PathBuf> {
        Box::pin(async { Ok(PathBuf::from("/")) })
    }
    fn answer(&self, attempt: Attempt, _check: &Check) -> Option<Answer> {
        let inner = self.lock();
        let Some(made) = inner.containers.get(&attempt).filter(|made| made.look.brief() == Brief::Running) else {
            return Some(Answer::Bad("connection refused".into()));
        };
        let good = made.script.healthy_after.is_some_and(|after| made.started.elapsed() >= after);
        Some(if good { Answer::Good } else { Answer::Bad("status 503: starting".into()) })
    }
}
