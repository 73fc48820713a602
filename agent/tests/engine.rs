//! The agent's loop on a fake engine, with a proxy that speaks the real protocol.

#[path = "support/node.rs"]
mod node;
mod support;

use lapstrake_agent::link::SetOutcome;
use lapstrake_agent::network::Fence;
use lapstrake_agent::runtime::Runtime;
use lapstrake_agent::runtime::fake::{FakeRuntime, Script};
use lapstrake_core::assignment::{AssignmentSet, BoundImage, KeptImages};
use lapstrake_core::ids::{EnvironmentId, JobId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::report::{Health, JobPhase, NodeReport, ReplacementPhase};
use lapstrake_core::spec::Strategy;
use node::{Agent, Node, Peer, assignment, set};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use support::until;

const ENVIRONMENT: EnvironmentId = EnvironmentId(5);
const OLD: JobId = JobId(100);
const NEW: JobId = JobId(200);

fn image(name: &str) -> BoundImage {
    BoundImage::Id { reference: name.into(), id: format!("sha256:{name}") }
}

fn first(job: JobId) -> Attempt {
    Attempt { job, number: 1 }
}

fn start(node: &Node, fake: &FakeRuntime) -> Agent {
    node.start(Arc::new(fake.clone()), Fence::Open)
}

fn is_healthy(report: &NodeReport, job: JobId) -> bool {
    report.jobs.iter().any(|one| one.job == job && one.health == Health::Healthy)
}

fn phase(report: &NodeReport) -> Option<ReplacementPhase> {
    report.replacements.first().map(|replacement| replacement.phase)
}

/// A node on which the old job runs and has the traffic.
async fn with_old_job(node: &Node, fake: &FakeRuntime, peer: &Peer) -> Agent {
    let agent = start(node, fake);
    let outcome = agent.link.apply(set(1, vec![assignment(ENVIRONMENT, OLD, 1, image("v1"), &[])])).await;
    assert_eq!(outcome, Some(SetOutcome::Accepted));
    peer.routes_to(OLD).await;
    agent
        .report("the old job is healthy", |report| {
            is_healthy(report, OLD) && phase(report) == Some(ReplacementPhase::Done)
        })
        .await;
    agent
}

#[tokio::test]
async fn an_assigned_job_runs_and_gets_its_route() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    assert_eq!(fake.done(), [("run", first(OLD))]);
    let again = agent.link.apply(set(1, Vec::new())).await;
    assert_eq!(again, Some(SetOutcome::Older), "a set that the ledger holds already changes nothing");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_restarted_restarts_nothing() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    with_old_job(&node, &fake, &peer).await.stop().await;
    let agent = start(&node, &fake);
    agent.report("the job is adopted", |report| is_healthy(report, OLD)).await;
    assert_eq!(fake.done(), [("run", first(OLD))], "the container was left alone");
    peer.routes_to(OLD).await;
    agent.stop().await;
}

#[tokio::test]
async fn the_old_job_is_not_told_to_stop_before_every_live_proxy_has_acknowledged_the_switch() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    peer.may_acknowledge.send_replace(false);
    agent.link.apply(set(2, vec![assignment(ENVIRONMENT, NEW, 2, image("v2"), &[])])).await;
    peer.routes_to(NEW).await;
    agent.report("the new job is ready", |report| phase(report) == Some(ReplacementPhase::Ready)).await;
    // Far longer than the overlap and the drain of this service together.
    let early = until("the switch waits", || async {
        let done = fake.done();
        assert!(!done.contains(&("terminate", first(OLD))), "{done:?}");
        let waited = agent.link.waits().borrow().clone();
        waited.into_iter().next()
    });
    let (_, why) = early.await;
    assert!(why.contains("proxy"), "{why}");
    let still = agent.report("still ready", |_| true).await;
    assert_eq!(phase(&still), Some(ReplacementPhase::Ready));
    peer.may_acknowledge.send_replace(true);
    agent.report("the replacement is done", |report| phase(report) == Some(ReplacementPhase::Done)).await;
    until("the old container is gone", || async { (fake.running() == [first(NEW)]).then_some(()) }).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_redeploy_under_a_restart_of_the_agent_is_finished_by_the_next_one() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    fake.script("v2", Script { healthy_after: Some(Duration::from_millis(300)), ..Script::default() });
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    agent.link.apply(set(2, vec![assignment(ENVIRONMENT, NEW, 2, image("v2"), &[])])).await;
    agent.report("the new job starts", |report| phase(report) >= Some(ReplacementPhase::Starting)).await;
    agent.stop().await;
    let agent = start(&node, &fake);
    agent.report("the replacement is done", |report| phase(report) == Some(ReplacementPhase::Done)).await;
    peer.routes_to(NEW).await;
    until("the old container is gone", || async { (fake.running() == [first(NEW)]).then_some(()) }).await;
    let starts = fake.done().iter().filter(|(word, _)| *word == "run").count();
    assert_eq!(starts, 2, "one container each: {:?}", fake.done());
    agent.stop().await;
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_nothing_changes_and_afterwards_it_goes_on() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    // A folder in the temporary file's place stands for a full disk; root may write anywhere.
    let obstacle = node.config.state_dir.join("ledger.json.new");
    std::fs::create_dir(&obstacle).expect("made");
    let outcome = agent.link.apply(set(2, vec![assignment(ENVIRONMENT, NEW, 2, image("v2"), &[])])).await;
    assert!(matches!(outcome, Some(SetOutcome::NotWritten(_))), "{outcome:?}");
    let told = |report: &NodeReport| report.troubles.iter().any(|said| said.contains("the ledger cannot be written"));
    agent.report("the trouble is told", told).await;
    assert_eq!(fake.done(), [("run", first(OLD))], "nothing followed from the unwritten set");
    assert!(is_healthy(&agent.link.reports().borrow(), OLD), "and the old job serves on");
    std::fs::remove_dir(&obstacle).expect("removed");
    let report = agent.report("the set is taken in", |report| report.generation.is_some_and(|g| g.number == 2)).await;
    assert!(!told(&report) || phase(&report).is_some());
    agent.report("the trouble is over", |report| !told(report)).await;
    agent.report("the replacement is done", |report| phase(report) == Some(ReplacementPhase::Done)).await;
    agent.stop().await;
}

#[tokio::test]
async fn while_the_container_engine_is_down_nothing_is_declared_dead() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    with_old_job(&node, &fake, &peer).await.stop().await;
    fake.set_down(Some("connection refused"));
    let agent = start(&node, &fake);
    let told = |report: &NodeReport| report.troubles.iter().any(|said| said.contains("connection refused"));
    agent.report("the trouble is told", told).await;
    peer.routes_to(OLD).await;
    fake.set_down(None);
    agent.report("the engine is back", |report| !told(report) && is_healthy(report, OLD)).await;
    assert_eq!(fake.done(), [("run", first(OLD))]);
    agent.stop().await;
}

#[tokio::test]
async fn a_dead_proxys_socket_is_removed_and_nobody_waits_for_it() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    // Above the kernel's largest process id, so that no process has it.
    let dead = node.config.proxy.control_dir.join("4194399.sock");
    drop(UnixListener::bind(&dead).expect("bound"));
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    assert!(!dead.exists(), "removed, because the kernel says that nobody listens");
    agent.stop().await;
}

#[tokio::test]
async fn a_job_that_dies_gets_a_new_attempt() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    fake.crash(first(OLD), 1);
    let second = Attempt { job: OLD, number: 2 };
    until("a second attempt runs", || async { (fake.running() == [second]).then_some(()) }).await;
    agent.report("it is healthy", |report| is_healthy(report, OLD)).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_image_that_was_pruned_after_it_was_pulled_is_got_again() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = start(&node, &fake);
    let image = BoundImage::Digest { reference: "v1".into(), pinned: "v1@sha256:1".into() };
    agent.link.apply(set(1, vec![assignment(ENVIRONMENT, OLD, 1, image.clone(), &[])])).await;
    peer.routes_to(OLD).await;
    agent.report("it is healthy", |report| is_healthy(report, OLD)).await;
    fake.prune(&image);
    fake.crash(first(OLD), 1);
    let said = |report: &NodeReport| {
        let failure = report.jobs.iter().find_map(|job| job.failure.as_ref());
        failure.is_some_and(|failure| failure.to_string().contains("No such image"))
    };
    agent.report("the attempt without an image is told", said).await;
    agent.report("it is healthy again", |report| is_healthy(report, OLD)).await;
    assert_eq!(fake.running(), [Attempt { job: OLD, number: 3 }], "{:?}", fake.done());
    agent.stop().await;
}

#[tokio::test]
async fn a_local_image_that_was_pruned_is_told_in_words() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let agent = with_old_job(&node, &fake, &peer).await;
    fake.prune(&image("v1"));
    fake.crash(first(OLD), 1);
    let said = |report: &NodeReport| {
        let failure = report.jobs.iter().find_map(|job| job.failure.as_ref());
        failure.is_some_and(|failure| {
            failure.to_string() == "the image v1 cannot be pulled: the node does not hold sha256:v1"
        })
    };
    agent.report("it is told where the image is missing", said).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_panic_in_an_action_does_not_keep_it_from_being_done() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    fake.panic_once();
    let agent = with_old_job(&node, &fake, &peer).await;
    assert_eq!(fake.done(), [("run", first(OLD))]);
    agent.stop().await;
}

#[tokio::test]
async fn a_proxy_that_takes_no_table_is_tried_less_and_less_often() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let socket = node.config.proxy.control_dir.join(format!("{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(socket).expect("bound");
    let agent = start(&node, &fake);
    let mut dialled = Vec::new();
    while dialled.len() < 6 {
        let accepted = tokio::time::timeout(Duration::from_secs(60), listener.accept()).await.expect("is dialled");
        drop(accepted.expect("a connection"));
        dialled.push(std::time::Instant::now());
    }
    // 50, 100, 200, 400, and 800 ms, each at least.
    let last = dialled[5] - dialled[4];
    assert!(last >= Duration::from_millis(700), "{last:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_container_that_cannot_be_looked_at_hides_none_of_the_others_and_is_left_alone() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    with_old_job(&node, &fake, &peer).await.stop().await;
    fake.set_mute(first(OLD), Some("no answer to inspect within 10 s"));
    let agent = start(&node, &fake);
    let old = assignment(ENVIRONMENT, OLD, 1, image("v1"), &[]);
    let mut beside = assignment(ENVIRONMENT, NEW, 1, image("v1"), &[]);
    beside.slot.number = 2;
    agent.link.apply(set(2, vec![old, beside])).await;
    let told = |report: &NodeReport| {
        let said = "the container engine does not tell how the container of job";
        report.troubles.iter().any(|trouble| trouble.starts_with(said))
    };
    let report = agent.report("the other one is healthy", |report| is_healthy(report, NEW) && told(report)).await;
    let old = report.jobs.iter().find(|job| job.job == OLD).expect("its report");
    assert_eq!((old.phase, old.health), (JobPhase::Running, Health::Unknown));
    fake.set_mute(first(OLD), None);
    agent
        .report("both are healthy", |report| is_healthy(report, OLD) && is_healthy(report, NEW) && !told(report))
        .await;
    assert_eq!(fake.done(), [("run", first(OLD)), ("run", first(NEW))]);
    agent.stop().await;
}

#[tokio::test]
async fn a_job_to_be_alone_waits_for_a_container_of_its_slot_that_a_lost_ledger_has_forgotten() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    fake.script("v1", Script { stops_after: Some(Duration::from_secs(1)), ..Script::default() });
    let peer = Peer::listen(&node.config.proxy.control_dir);
    with_old_job(&node, &fake, &peer).await.stop().await;
    std::fs::remove_file(node.config.state_dir.join("ledger.json")).expect("the ledger is lost");
    let agent = start(&node, &fake);
    let report = agent.report("the node says what it has", |report| !report.strays_unclear).await;
    let told: Vec<_> = report.strays.iter().map(|stray| (stray.job, stray.slot.number)).collect();
    assert_eq!(told, [(OLD, 1)]);
    let mut new = assignment(ENVIRONMENT, NEW, 2, image("v2"), &[]);
    new.run.spec.deploy.strategy = Strategy::Recreate;
    agent.link.apply(set(2, vec![new])).await;
    let waits = |report: &NodeReport| {
        let why = report.replacements.first().and_then(|replacement| replacement.waits_for.as_deref());
        why.is_some_and(|why| why.contains("has ended, which may run in this slot and of which the node has no record"))
    };
    agent.report("it says what it waits for", waits).await;
    let ended = |report: &NodeReport| is_healthy(report, NEW) && report.strays.is_empty();
    agent.report("the new job is healthy", ended).await;
    assert_eq!(fake.done()[..2], [("run", first(OLD)), ("terminate", first(OLD))]);
    agent.stop().await;
}

#[tokio::test]
async fn a_subnet_on_which_somebody_elses_bridge_stands_is_not_chosen() {
    let (node, fake) = (Node::new(), FakeRuntime::default());
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let pool = node.config.for_decisions("n1");
    let foreign = Subnet::around(pool.pool, pool.subnet_prefix);
    fake.add_foreign_bridge(foreign);
    let agent = with_old_job(&node, &fake, &peer).await;
    // The fake refuses a subnet that stands, and the agent would then try another: it must not have come to that.
    let asked = fake.subnets_asked();
    assert!(!asked[0].overlaps(foreign), "{asked:?}");
    agent.stop().await;
}

#[tokio::test]
async fn an_image_that_the_agent_brought_and_nothing_needs_is_removed_and_one_that_was_here_is_not() {
    let (mut node, fake) = (Node::new(), FakeRuntime::default());
    node.config.disk.keep_images_minutes = 0;
    let peer = Peer::listen(&node.config.proxy.control_dir);
    let image = |name: &str| BoundImage::Digest { reference: name.into(), pinned: format!("{name}@sha256:{name}") };
    // Somebody has it before the agent asks for it.
    fake.pull(&image("here"), None).await.expect("pulled");
    let agent = start(&node, &fake);
    let kept = || Some(KeptImages { all: ["kept@sha256:kept".to_owned()].into(), firm: [].into() });
    for (number, name) in [(1, "here"), (2, "kept"), (3, "gone"), (4, "now")] {
        let job = JobId(u128::from(number));
        let one = assignment(ENVIRONMENT, job, u128::from(number), image(name), &[]);
        agent.link.apply(AssignmentSet { kept_images: kept(), ..set(number, vec![one]) }).await;
        peer.routes_to(job).await;
        agent.report("the replacement is done", |report| phase(report) == Some(ReplacementPhase::Done)).await;
    }
    let held = || fake.held_images().into_iter().map(|name| name[..4].to_owned()).collect::<Vec<_>>();
    until("the one that nothing needs is gone", || async { (!held().contains(&"gone".into())).then_some(()) }).await;
    assert_eq!(held(), ["here", "kept", "now@"]);
    agent.stop().await;
}
