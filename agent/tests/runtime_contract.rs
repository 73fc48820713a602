//! What every runtime promises, asked of the fake one and of a real Docker engine.

#[path = "support/registry.rs"]
mod registry;
mod support;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapstrake_agent::runtime::fake::{Exit, FakeRuntime, Script, digest as fake_digest};
use lapstrake_agent::runtime::{
    Brief, ExecId, ExecSignal, ExecState, Got, LogRange, Look, Piece, RunOrder, Running, Runtime, RuntimeError,
};
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::spec::{ImageSource, Pull};
use lapstrake_core::time::Millis;
use registry::Registry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use support::{DockerBench, docker, fresh, host, order, subnet, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the container of a test shall do.
#[derive(Clone, Copy)]
enum Kind {
    /// Runs until it is told to stop.
    Serves,
    /// Writes `one`, `two` and ends with code 3.
    Ends,
    /// Takes more memory than it may.
    EatsMemory,
    /// Cannot be started.
    Broken,
    /// Does not care for its stop signal.
    Stubborn,
    /// Gives back what it gets on its port.
    Echoes,
}

/// A runtime to put to the test.
trait Bench {
    fn runtime(&self) -> &dyn Runtime;
    fn image(&self, kind: Kind) -> BoundImage;
    fn command(&self, kind: Kind) -> Vec<&'static str>;
    /// Whether its jobs are processes, which take a moment until they do as they are told to.
    fn has_a_process(&self) -> bool {
        false
    }
    fn subnet(&self) -> Subnet;
    /// What the engine calls an image of `image` itself.
    fn engine_id(&self, image: &BoundImage) -> String;
    /// An image that only a registry has; none where there is no registry to be had.
    async fn elsewhere(&self) -> Option<BoundImage>;
    /// Lets somebody else call an image otherwise, or no longer so.
    fn tag(&self, image: &BoundImage, name: &str, is_called: bool);
}

struct FakeBench(FakeRuntime);

impl FakeBench {
    fn new() -> Option<Self> {
        let fake = FakeRuntime::default();
        let exit = |code, out_of_memory, lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Some(Exit { after: Duration::from_millis(5), code, out_of_memory, lines })
        };
        fake.script("ends", Script { exits: exit(3, false, &["one", "two"]), ..Script::default() });
        fake.script("eats", Script { exits: exit(137, true, &[]), ..Script::default() });
        fake.script("broken", Script { start_fails: Some("no such executable".into()), ..Script::default() });
        fake.script("stubborn", Script { stops_after: None, ..Script::default() });
        fake.script("missing", Script { pull_fails: Some("not found".into()), ..Script::default() });
        Some(FakeBench(fake))
    }
}

impl Bench for FakeBench {
    fn runtime(&self) -> &dyn Runtime {
        &self.0
    }
    fn image(&self, kind: Kind) -> BoundImage {
        let reference = match kind {
            Kind::Serves => "serves",
            Kind::Ends => "ends",
            Kind::EatsMemory => "eats",
            Kind::Broken => "broken",
            Kind::Stubborn => "stubborn",
            Kind::Echoes => "echoes",
        };
        BoundImage::Id { reference: reference.into(), id: format!("sha256:{reference}") }
    }
    fn command(&self, _kind: Kind) -> Vec<&'static str> {
        Vec::new()
    }
    fn subnet(&self) -> Subnet {
        subnet(0)
    }
    fn engine_id(&self, image: &BoundImage) -> String {
        fake_digest(image.pinned())
    }
    async fn elsewhere(&self) -> Option<BoundImage> {
        Some(BoundImage::Digest { reference: "serves".into(), pinned: "serves@sha256:1".into() })
    }
    fn tag(&self, image: &BoundImage, name: &str, is_called: bool) {
        self.0.tag(image, is_called.then_some(name));
    }
}

struct RealBench {
    bench: DockerBench,
    runtime: lapstrake_agent::runtime::docker::DockerRuntime,
    subnet: Subnet,
    registry: tokio::sync::Mutex<Option<Registry>>,
}

impl RealBench {
    fn new() -> Option<Self> {
        // Each test process takes a subnet of its own; tests of one process count on.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let bench = DockerBench::new()?;
        let own = u8::try_from(std::process::id() % 100).unwrap_or(0);
        let subnet = subnet(100 + (own + NEXT.fetch_add(1, Ordering::SeqCst)) % 100);
        Some(RealBench { runtime: bench.runtime(), bench, subnet, registry: Default::default() })
    }
}

impl Bench for RealBench {
    fn runtime(&self) -> &dyn Runtime {
        &self.runtime
    }
    fn image(&self, _kind: Kind) -> BoundImage {
        self.bench.image.clone()
    }
    fn command(&self, kind: Kind) -> Vec<&'static str> {
        match kind {
            Kind::Serves => vec![],
            Kind::Ends => vec!["sh", "-c", "echo one; echo two; exit 3"],
            Kind::EatsMemory => vec!["tail", "/dev/zero"],
            Kind::Broken => vec!["/no/such/program"],
            Kind::Stubborn => vec!["sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 1; done"],
            Kind::Echoes => vec!["nc", "-ll", "-p", "8080", "-e", "cat"],
        }
    }
    fn has_a_process(&self) -> bool {
        true
    }
    fn subnet(&self) -> Subnet {
        self.subnet
    }
    fn engine_id(&self, image: &BoundImage) -> String {
        image.pinned().to_owned()
    }
    async fn elsewhere(&self) -> Option<BoundImage> {
        let mut registry = self.registry.lock().await;
        if registry.is_none() {
            *registry = Some(Registry::start().await?);
        }
        registry.as_ref().map(|registry| registry.push_new(&self.bench))
    }
    fn tag(&self, image: &BoundImage, name: &str, is_called: bool) {
        if is_called {
            docker(&["tag", image.pinned(), name]);
        } else {
            docker(&["rmi", name]);
        }
    }
}

/// An order on a network that stands, with an image that is there.
async fn prepared(bench: &impl Bench, kind: Kind) -> RunOrder {
    let environment = EnvironmentId(fresh());
    bench.runtime().ensure_network(environment, bench.subnet()).await.expect("the network is made");
    let image = bench.image(kind);
    bench.runtime().pull(&image, None).await.expect("the image is there");
    let mut order = order(environment, host(bench.subnet(), 2), image, &bench.command(kind));
    // With an init the container starts whatever its program is, and ends with code 127.
    order.run.spec.init = !matches!(kind, Kind::Broken);
    order
}

async fn ended(bench: &impl Bench, order: &RunOrder) -> Look {
    until("the process has ended", || async {
        let look = bench.runtime().look(order.attempt).await.expect("looked at");
        look.filter(|look| look.brief() == Brief::Exited)
    })
    .await
}

async fn a_started_container_is_listed_with_its_address_and_slot_and_a_second_run_changes_nothing(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    assert!(bench.runtime().list().await.expect("listed").is_empty());
    bench.runtime().run(&order).await.expect("started");
    let first = bench.runtime().look(order.attempt).await.expect("looked at");
    assert!(matches!(first, Some(Look::Running { .. })), "{first:?}");
    bench.runtime().run(&order).await.expect("is there");
    assert_eq!(bench.runtime().look(order.attempt).await.expect("looked at"), first, "the same process");
    let listed = bench.runtime().list().await.expect("listed");
    let one = listed.get(&order.attempt).expect("named by its attempt");
    assert_eq!((listed.len(), one.brief, one.address), (1, Brief::Running, Some(order.address)));
    assert_eq!(one.slot, Some(order.slot));
}

async fn a_process_that_ends_by_itself_tells_its_code_and_last_lines(bench: &impl Bench) {
    let order = prepared(bench, Kind::Ends).await;
    bench.runtime().run(&order).await.expect("started");
    let look = ended(bench, &order).await;
    assert!(matches!(look, Look::Exited { code: 3, out_of_memory: false, .. }), "{look:?}");
    let lines = bench.runtime().last_lines(order.attempt, 20).await.expect("read");
    assert_eq!(lines, ["one", "two"]);
    assert_eq!(bench.runtime().last_lines(order.attempt, 1).await.expect("read").len(), 1);
    let range = LogRange { tail: None, since: None, follow: true };
    let read = async |range| {
        let lines = bench.runtime().logs(order.attempt, range).await.expect("read");
        lines.map(|line| line.expect("a line")).collect::<Vec<_>>().await
    };
    let followed = read(range).await;
    let text: Vec<_> = followed.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(text, ["one", "two"], "and the stream ends with the container");
    assert!(followed[0].at.0 > 0 && followed[0].at <= followed[1].at, "{followed:?}");
    assert_eq!(read(range).await, followed, "a line keeps its time");
    let since = |at| LogRange { since: Some(at), ..range };
    let newest: Vec<_> = followed.iter().filter(|line| line.at >= followed[1].at).cloned().collect();
    assert_eq!(read(since(followed[1].at)).await, newest, "what is asked for from a time on begins with it");
    assert_eq!(read(since(followed[1].at + Millis(1))).await, [], "and nothing is later than the last line");
}

async fn a_process_that_takes_too_much_memory_is_told_from_other_kills(bench: &impl Bench) {
    let order = prepared(bench, Kind::EatsMemory).await;
    bench.runtime().run(&order).await.expect("started");
    let look = ended(bench, &order).await;
    assert!(matches!(look, Look::Exited { code: 137, out_of_memory: true, .. }), "{look:?}");
}

async fn a_container_that_cannot_start_is_refused_and_its_corpse_can_be_removed(bench: &impl Bench) {
    let order = prepared(bench, Kind::Broken).await;
    let error = bench.runtime().run(&order).await.expect_err("cannot be started");
    assert!(matches!(error, RuntimeError::Refused(_)), "{error:?}");
    assert_eq!(bench.runtime().list().await.expect("listed")[&order.attempt].brief, Brief::Created);
    let again = bench.runtime().run(&order).await.expect_err("still cannot");
    assert!(matches!(again, RuntimeError::Refused(_)), "our own corpse is no taken name: {again:?}");
    bench.runtime().remove(order.attempt).await.expect("removed");
    assert_eq!(bench.runtime().look(order.attempt).await, Ok(None));
}

async fn an_image_that_is_not_there_is_said_so(bench: &impl Bench) {
    let missing = BoundImage::Id { reference: "missing".into(), id: format!("sha256:{}", "0".repeat(64)) };
    let pulled = bench.runtime().pull(&missing, None).await;
    assert!(matches!(pulled, Err(RuntimeError::NoSuchImage(_) | RuntimeError::Refused(_))), "{pulled:?}");
    let mut order = prepared(bench, Kind::Serves).await;
    order.run.image = missing;
    let started = bench.runtime().run(&order).await;
    assert!(matches!(started, Err(RuntimeError::NoSuchImage(_))), "{started:?}");
}

async fn a_stop_signal_ends_a_process_and_a_kill_ends_one_that_does_not_listen(bench: &impl Bench) {
    let order = prepared(bench, Kind::Stubborn).await;
    bench.runtime().run(&order).await.expect("started");
    if bench.has_a_process() {
        until("the process does not listen any more", || async {
            let said = bench.runtime().last_lines(order.attempt, 1).await.expect("read");
            (said == ["deaf"]).then_some(())
        })
        .await;
    }
    bench.runtime().terminate(order.attempt).await.expect("sent");
    bench.runtime().kill(order.attempt).await.expect("sent");
    let look = ended(bench, &order).await;
    assert!(matches!(look, Look::Exited { code: 137, out_of_memory: false, .. }), "{look:?}");
    for outcome in [bench.runtime().terminate(order.attempt).await, bench.runtime().kill(order.attempt).await] {
        assert!(matches!(outcome, Err(RuntimeError::NotThere(_))), "{outcome:?}");
    }
}

async fn a_container_is_removed_only_when_it_does_not_run(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let outcome = bench.runtime().remove(order.attempt).await;
    assert!(matches!(outcome, Err(RuntimeError::Refused(_))), "{outcome:?}");
    bench.runtime().terminate(order.attempt).await.expect("sent");
    ended(bench, &order).await;
    bench.runtime().remove(order.attempt).await.expect("removed");
    let outcome = bench.runtime().remove(order.attempt).await;
    assert!(matches!(outcome, Err(RuntimeError::NotThere(_))), "{outcome:?}");
    assert!(bench.runtime().list().await.expect("listed").is_empty());
}

async fn what_happens_to_a_container_is_hinted_at(bench: &impl Bench) {
    let order = prepared(bench, Kind::Ends).await;
    let mut hints = bench.runtime().hints(None).await.expect("established");
    bench.runtime().run(&order).await.expect("started");
    for _start_and_end in 0..2 {
        let hint = hints.next().await.expect("goes on").expect("a hint");
        assert_eq!(hint.attempt, order.attempt);
    }
}

async fn a_network_stands_once_with_one_subnet_until_it_is_removed(bench: &impl Bench) {
    let environment = EnvironmentId(fresh());
    let runtime = bench.runtime();
    let bridge = runtime.ensure_network(environment, bench.subnet()).await.expect("made");
    assert_eq!(runtime.ensure_network(environment, bench.subnet()).await, Ok(bridge.clone()));
    let other = Subnet { prefix: 25, ..bench.subnet() };
    let refused = runtime.ensure_network(environment, other).await;
    assert!(matches!(refused, Err(RuntimeError::Refused(_))), "{refused:?}");
    let standing = runtime.networks().await.expect("listed");
    assert_eq!(standing.own.get(&environment), Some(&bridge));
    assert_eq!(standing.subnets.get(&environment), Some(&bench.subnet()));
    assert!(!standing.others.iter().any(|other| other.overlaps(bench.subnet())), "{standing:?}");
    let overlapping = runtime.ensure_network(EnvironmentId(fresh()), other).await;
    assert!(matches!(overlapping, Err(RuntimeError::Refused(_))), "{overlapping:?}");
    runtime.remove_network(environment).await.expect("removed");
    let again = runtime.remove_network(environment).await;
    assert!(matches!(again, Err(RuntimeError::NotThere(_))), "{again:?}");
}

async fn a_local_image_resolves_to_its_id(bench: &impl Bench) {
    let reference = bench.image(Kind::Serves).reference().to_owned();
    let source = ImageSource { reference, pull: Pull::Local };
    let id = bench.runtime().resolve(&source, None).await.expect("resolved");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
}

fn exec(command: &[&str], input: bool) -> Exec {
    Exec { command: command.iter().map(|word| (*word).to_owned()).collect(), input, terminal: None }
}

/// What a command wrote, to its output and to its error.
async fn written(output: BoxStream<'static, Result<Piece, RuntimeError>>) -> (Vec<u8>, Vec<u8>) {
    let pieces: Vec<Piece> = output.map(|piece| piece.expect("a piece")).collect().await;
    let of = |to_stderr| pieces.iter().filter(move |piece| piece.to_stderr == to_stderr);
    let joined = |to_stderr| of(to_stderr).flat_map(|piece| piece.bytes.clone()).collect();
    (joined(false), joined(true))
}

/// A command that was made and whose start was accepted.
async fn started(bench: &impl Bench, order: &RunOrder, exec: &Exec) -> Result<(ExecId, Running), RuntimeError> {
    let id = bench.runtime().create_exec(order.attempt, exec).await?;
    let running = bench.runtime().start_exec(&id, exec).await?;
    Ok((id, running))
}

async fn code(bench: &impl Bench, id: &ExecId) -> i64 {
    until("the command has ended", || async {
        match bench.runtime().exec_state(id).await.expect("looked at") {
            ExecState::Exited { code } => Some(code),
            ExecState::Running => None,
        }
    })
    .await
}

async fn a_command_has_its_own_streams_and_exit_code(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let script = exec(&["sh", "-c", "echo out; echo err >&2; exit 7"], false);
    let (id, Running { input, output }) = started(bench, &order, &script).await.expect("started");
    assert!(input.is_none());
    assert_eq!(written(output).await, (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(code(bench, &id).await, 7);
    let ended = bench.runtime().signal_exec(&id, ExecSignal::Interrupt).await;
    assert!(matches!(ended, Err(RuntimeError::NotThere(_))), "{ended:?}");
}

async fn ten_megabytes_go_through_a_command_unharmed_and_its_input_ends(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let (id, Running { input, output }) = started(bench, &order, &exec(&["cat"], true)).await.expect("started");
    let mut input = input.expect("an input");
    // No two parts of it are alike, and all bytes are there.
    let sent: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let talking = async {
        input.write_all(&sent).await.expect("taken");
        input.shutdown().await.expect("ended");
    };
    let ((), (out, err)) = tokio::join!(talking, written(output));
    assert!(out == sent, "{} bytes came back", out.len());
    assert!(err.is_empty());
    assert_eq!(code(bench, &id).await, 0);
}

async fn a_command_that_cannot_be_found_is_said_so(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let error = match started(bench, &order, &exec(&["bash"], false)).await {
        Err(error) => error,
        Ok((_, Running { mut output, .. })) => output.next().await.expect("a word").expect_err("which is no output"),
    };
    let RuntimeError::NoSuchProgram(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("there is no program \"bash\""), "{said}");
}

async fn a_command_is_ended_by_each_signal_with_its_code(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    for (signal, expected) in
        [(ExecSignal::Interrupt, 130), (ExecSignal::Terminate, 143), (ExecSignal::HangUp, 129), (ExecSignal::Kill, 137)]
    {
        // A child of its own, which the signal reaches as well: else nobody would end the output.
        let script = exec(&["sh", "-c", "echo begun; sleep 1000; true"], false);
        let (id, Running { mut output, .. }) = started(bench, &order, &script).await.expect("started");
        assert_eq!(output.next().await.expect("a piece").expect("read").bytes, b"begun\n");
        bench.runtime().signal_exec(&id, signal).await.expect("sent");
        assert_eq!(output.next().await, None);
        assert_eq!(code(bench, &id).await, expected, "{signal:?}");
    }
}

async fn a_command_that_has_not_begun_is_not_taken_for_one_that_has_ended(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let script = exec(&["sh", "-c", "echo begun; sleep 1000; true"], false);
    let id = bench.runtime().create_exec(order.attempt, &script).await.expect("made");
    assert_eq!(bench.runtime().exec_state(&id).await, Ok(ExecState::Running));
    let early = bench.runtime().signal_exec(&id, ExecSignal::HangUp).await;
    assert!(matches!(early, Err(RuntimeError::Unreachable(_))), "{early:?}");
    let Running { mut output, .. } = bench.runtime().start_exec(&id, &script).await.expect("started");
    assert_eq!(output.next().await.expect("a piece").expect("read").bytes, b"begun\n");
    bench.runtime().signal_exec(&id, ExecSignal::HangUp).await.expect("sent");
    assert_eq!(code(bench, &id).await, 129);
}

async fn a_terminal_has_the_size_that_it_is_given(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    bench.runtime().run(&order).await.expect("started");
    let size = TerminalSize { columns: 132, rows: 50 };
    // Its input is what keeps it from asking before the size is there.
    let script = Exec { terminal: Some(size), ..exec(&["sh", "-c", "read line; busybox stty size"], true) };
    let (id, Running { input, mut output }) = started(bench, &order, &script).await.expect("started");
    until("the engine takes a size", || async { bench.runtime().resize_exec(&id, size).await.ok() }).await;
    let mut input = input.expect("an input");
    input.write_all(b"go\n").await.expect("taken");
    input.flush().await.expect("taken");
    let mut seen = Vec::new();
    while let Some(piece) = output.next().await {
        let piece = piece.expect("a piece");
        assert!(!piece.to_stderr, "a terminal is one stream");
        seen.extend(piece.bytes);
    }
    let seen = String::from_utf8(seen).expect("text");
    assert!(seen.contains("50 132"), "{seen:?}");
    assert_eq!(code(bench, &id).await, 0);
}

async fn a_command_needs_a_container_that_runs(bench: &impl Bench) {
    let order = prepared(bench, Kind::Ends).await;
    let absent = started(bench, &order, &exec(&["true"], false)).await.err();
    assert!(matches!(absent, Some(RuntimeError::NotThere(_))), "{absent:?}");
    bench.runtime().run(&order).await.expect("started");
    ended(bench, &order).await;
    let dead = started(bench, &order, &exec(&["true"], false)).await.err();
    assert!(matches!(dead, Some(RuntimeError::NotThere(_))), "{dead:?}");
}

async fn a_connection_reaches_the_jobs_port_carries_ten_megabytes_and_ends_each_way_for_itself(bench: &impl Bench) {
    let order = prepared(bench, Kind::Echoes).await;
    bench.runtime().run(&order).await.expect("started");
    let address = IpAddr::V4(order.address);
    let stream =
        until("it listens", || async { bench.runtime().connect(order.attempt, address, 8080).await.ok() }).await;
    let (mut read, mut write) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..10_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let talking = async {
        write.write_all(&sent).await.expect("taken");
        write.shutdown().await.expect("ended");
    };
    let mut got = Vec::new();
    let ((), read) = tokio::join!(talking, read.read_to_end(&mut got));
    read.expect("to its end");
    assert!(got == sent, "{} bytes came back", got.len());
    let refused = bench.runtime().connect(order.attempt, address, 9).await.err();
    assert!(matches!(refused, Some(RuntimeError::Refused(_))), "{refused:?}");
}

async fn an_image_that_was_here_is_nobodys_catch_and_stays_while_a_container_is_made_of_it(bench: &impl Bench) {
    let order = prepared(bench, Kind::Serves).await;
    let image = bench.image(Kind::Serves);
    assert_eq!(bench.runtime().pull(&image, None).await, Ok(Got::WasHere));
    let id = bench.engine_id(&image);
    bench.runtime().run(&order).await.expect("started");
    let held = bench.runtime().images().await.expect("listed").remove(&id).expect("the engine holds it");
    assert!(held.in_use && !held.names.is_empty(), "{held:?}");
    let refused = bench.runtime().remove_image(image.pinned(), &id).await;
    assert!(matches!(refused, Err(RuntimeError::Refused(_))), "{refused:?}");
    assert!(bench.runtime().images().await.expect("listed").contains_key(&id));
}

async fn an_image_that_was_brought_goes_by_its_name_unless_somebody_uses_or_names_it(bench: &impl Bench) {
    let Some(image) = bench.elsewhere().await else { return };
    let got = bench.runtime().pull(&image, None).await.expect("pulled");
    let Got::Brought { id, name } = got else { panic!("the engine had nothing of it: {got:?}") };
    assert_eq!(bench.runtime().pull(&image, None).await, Ok(Got::WasHere), "it comes once");
    let held = async || bench.runtime().images().await.expect("listed").remove(&id);
    let first = held().await.expect("the engine holds it");
    assert_eq!((first.in_use, first.names), (false, [name.clone()].into()));
    let refused = async |name: &str, id: &str, why: &str| {
        let outcome = bench.runtime().remove_image(name, id).await;
        assert!(matches!(outcome, Err(RuntimeError::Refused(_))), "{why}: {outcome:?}");
        held().await.expect("it is kept")
    };
    refused(&name, "sha256:00", "another image").await;

    let other = format!("lapt-runtime-contract:{:x}", fresh());
    bench.tag(&image, &other, true);
    let named = refused(&name, &id, "somebody's name").await;
    assert_eq!(named.names, [name.clone(), other.clone()].into());
    bench.tag(&image, &other, false);

    let environment = EnvironmentId(fresh());
    bench.runtime().ensure_network(environment, bench.subnet()).await.expect("the network is made");
    let order = order(environment, host(bench.subnet(), 3), image.clone(), &bench.command(Kind::Ends));
    bench.runtime().run(&order).await.expect("started");
    assert!(refused(&name, &id, "a container").await.in_use);
    if bench.runtime().kill(order.attempt).await.is_ok() {
        ended(bench, &order).await;
    }
    until("it can be removed", || async { bench.runtime().remove(order.attempt).await.ok() }).await;

    bench.runtime().remove_image(&name, &id).await.expect("removed");
    assert_eq!(held().await, None);
    let again = bench.runtime().remove_image(&name, &id).await;
    assert!(matches!(again, Err(RuntimeError::NotThere(_))), "{again:?}");
    let got = bench.runtime().pull(&image, None).await;
    assert_eq!(got, Ok(Got::Brought { id: id.clone(), name: name.clone() }), "it is still to be had");
    bench.runtime().remove_image(&name, &id).await.expect("removed");
}

macro_rules! contract {
    ($($promise:ident),+ $(,)?) => {
        mod fake {
            $(#[tokio::test]
            async fn $promise() {
                let bench = super::FakeBench::new().expect("always there");
                super::$promise(&bench).await;
            })+
        }
        mod docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let Some(bench) = super::RealBench::new() else { return };
                super::$promise(&bench).await;
            })+
        }
    };
}

contract! {
    a_started_container_is_listed_with_its_address_and_slot_and_a_second_run_changes_nothing,
    a_process_that_ends_by_itself_tells_its_code_and_last_lines,
    a_process_that_takes_too_much_memory_is_told_from_other_kills,
    a_container_that_cannot_start_is_refused_and_its_corpse_can_be_removed,
    an_image_that_is_not_there_is_said_so,
    an_image_that_was_here_is_nobodys_catch_and_stays_while_a_container_is_made_of_it,
    an_image_that_was_brought_goes_by_its_name_unless_somebody_uses_or_names_it,
    a_stop_signal_ends_a_process_and_a_kill_ends_one_that_does_not_listen,
    a_container_is_removed_only_when_it_does_not_run,
    what_happens_to_a_container_is_hinted_at,
    a_network_stands_once_with_one_subnet_until_it_is_removed,
    a_local_image_resolves_to_its_id,
    a_command_has_its_own_streams_and_exit_code,
    ten_megabytes_go_through_a_command_unharmed_and_its_input_ends,
    a_command_that_cannot_be_found_is_said_so,
    a_command_is_ended_by_each_signal_with_its_code,
    a_terminal_has_the_size_that_it_is_given,
    a_command_that_has_not_begun_is_not_taken_for_one_that_has_ended,
    a_command_needs_a_container_that_runs,
    a_connection_reaches_the_jobs_port_carries_ten_megabytes_and_ends_each_way_for_itself,
}
