//! What every runtime promises, asked of the fake one and of a real Docker engine.

mod support;

use futures_util::StreamExt;
use lapstrake_agent::runtime::fake::{Exit, FakeRuntime, Script};
use lapstrake_agent::runtime::{Brief, LogRange, Look, RunOrder, Runtime, RuntimeError};
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::node::action::Subnet;
use lapstrake_core::spec::{ImageSource, Pull};
use lapstrake_core::time::Millis;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use support::{DockerBench, fresh, host, order, subnet, until};

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
        };
        BoundImage::Id { reference: reference.into(), id: format!("sha256:{reference}") }
    }
    fn command(&self, _kind: Kind) -> Vec<&'static str> {
        Vec::new()
    }
    fn subnet(&self) -> Subnet {
        subnet(0)
    }
}

struct RealBench {
    bench: DockerBench,
    runtime: lapstrake_agent::runtime::docker::DockerRuntime,
    subnet: Subnet,
}

impl RealBench {
    fn new() -> Option<Self> {
        // Each test process takes a subnet of its own; tests of one process count on.
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let bench = DockerBench::new()?;
        let own = u8::try_from(std::process::id() % 100).unwrap_or(0);
        let subnet = subnet(100 + (own + NEXT.fetch_add(1, Ordering::SeqCst)) % 100);
        Some(RealBench { runtime: bench.runtime(), bench, subnet })
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
        }
    }
    fn has_a_process(&self) -> bool {
        true
    }
    fn subnet(&self) -> Subnet {
        self.subnet
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

async fn a_started_container_is_listed_with_its_address_and_a_second_run_changes_nothing(bench: &impl Bench) {
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
    a_started_container_is_listed_with_its_address_and_a_second_run_changes_nothing,
    a_process_that_ends_by_itself_tells_its_code_and_last_lines,
    a_process_that_takes_too_much_memory_is_told_from_other_kills,
    a_container_that_cannot_start_is_refused_and_its_corpse_can_be_removed,
    an_image_that_is_not_there_is_said_so,
    a_stop_signal_ends_a_process_and_a_kill_ends_one_that_does_not_listen,
    a_container_is_removed_only_when_it_does_not_run,
    what_happens_to_a_container_is_hinted_at,
    a_network_stands_once_with_one_subnet_until_it_is_removed,
    a_local_image_resolves_to_its_id,
}
