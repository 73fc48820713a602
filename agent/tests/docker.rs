//! The agent on a real Docker engine: environments are kept apart, containers are adopted, failures are told.

#[path = "support/node.rs"]
mod node;
mod support;

use lapstrake_agent::config::Pool;
use lapstrake_agent::identity::Identity;
use lapstrake_agent::network::{Fence, nft::Nft};
use lapstrake_agent::runtime::Runtime;
use lapstrake_core::assignment::Assignment;
use lapstrake_core::ids::{EnvironmentId, JobId};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::report::{Health, NodeReport, ReplacementPhase};
use node::{Agent, Node, Peer, assignment, set};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use support::{DockerBench, PORT, docker, fresh, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// A node on a real engine, with a pool and a table of its own; both go away with it.
struct Real {
    bench: DockerBench,
    node: Node,
    table: String,
}

impl Real {
    /// `None`, with a message, where no engine answers.
    fn new(test: u8) -> Option<Self> {
        let bench = DockerBench::new()?;
        let mut node = Node::new();
        let owner = bench.owner;
        node.identity = Identity { cluster: owner.cluster, node: owner.node, ..node.identity.clone() };
        let part = u8::try_from(std::process::id() % 16).unwrap_or(0) * 16;
        node.config.network.pool = Pool { base: Ipv4Addr::new(10, 214 + test, part, 0), prefix: 20 };
        let table = format!("lapstrake_test_{}", std::process::id());
        Some(Real { bench, node, table })
    }

    fn start(&self) -> Agent {
        self.node.start(Arc::new(self.bench.runtime()), Fence::Nftables(Nft::new(&self.table)))
    }

    /// The last line of a web server's answer to a job, or `None` when the job does not reach it.
    async fn get_from(&self, job: JobId, address: IpAddr, port: u16) -> Option<String> {
        // Not wget: the static one cannot resolve in an image without a C library.
        let script = format!("echo 'GET / HTTP/1.0\n' | nc -w 2 {address} {port} 2>/dev/null | tail -n 1");
        let command = ["sh", "-c", &script].map(str::to_owned);
        let attempt = Attempt { job, number: 1 };
        let end = self.bench.runtime().exec(attempt, &command, Duration::from_secs(20)).await.expect("asked");
        (!end.output.is_empty()).then(|| end.output.trim().to_owned())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = std::process::Command::new("nft").args(["delete", "table", "inet", &self.table]).status();
    }
}

fn is_healthy(report: &NodeReport, job: JobId) -> bool {
    report.jobs.iter().any(|one| one.job == job && one.health == Health::Healthy)
}

fn address(report: &NodeReport, job: JobId) -> IpAddr {
    let found = report.jobs.iter().find(|one| one.job == job).and_then(|one| one.address);
    found.expect("the job has an address")
}

fn web(bench: &DockerBench, environment: EnvironmentId, job: JobId, number: u32) -> Assignment {
    let mut one = assignment(environment, job, 1, bench.image.clone(), &[]);
    one.slot.number = number;
    one
}

/// A server on every address of the host, for jobs that should not reach it.
async fn host_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let reply = b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";
            let _ = stream.write_all(reply).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_reach_their_own_environment_but_neither_another_one_nor_the_host() {
    let Some(real) = Real::new(0) else { return };
    let peer = Peer::listen(&real.node.config.proxy.control_dir);
    let agent = real.start();
    let (shop, bank) = (EnvironmentId(fresh()), EnvironmentId(fresh()));
    let [one, two, other] = [JobId(fresh()), JobId(fresh()), JobId(fresh())];
    let mut foreign = web(&real.bench, bank, other, 1);
    foreign.slot.service.0 = 8;
    foreign.run.hosts = vec![Some("bank.test".into())];
    let assignments = vec![web(&real.bench, shop, one, 1), web(&real.bench, shop, two, 2), foreign];
    agent.link.apply(set(1, assignments)).await;
    let report = agent.report("all are healthy", |r| [one, two, other].iter().all(|job| is_healthy(r, *job))).await;
    drop(peer);

    assert_eq!(real.get_from(one, address(&report, two), PORT).await, Some("hello".into()), "its own environment");
    let crossed = real.get_from(one, address(&report, other), PORT).await;
    assert!(crossed.is_none(), "another environment: {crossed:?}");
    let port = host_server().await;
    let IpAddr::V4(own) = address(&report, one) else { panic!("an IPv4 address") };
    let gateway = IpAddr::V4(Ipv4Addr::from(u32::from(own) & 0xffff_ff00 | 1));
    let reached = real.get_from(one, gateway, port).await;
    assert!(reached.is_none(), "the host: {reached:?}");

    // Without the table the host is open, which shows that it is the table that closes it; the audit sets it again.
    let deleted = std::process::Command::new("nft").args(["delete", "table", "inet", &real.table]).status();
    assert!(deleted.expect("nft runs").success());
    assert_eq!(real.get_from(one, gateway, port).await, Some("secret".into()));
    until("the audit has closed the host again", || async {
        real.get_from(one, gateway, port).await.is_none().then_some(())
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_adopts_its_container_and_replaces_it_in_overlap_when_asked() {
    let Some(real) = Real::new(1) else { return };
    let peer = Peer::listen(&real.node.config.proxy.control_dir);
    let environment = EnvironmentId(fresh());
    let [old, new] = [JobId(fresh()), JobId(fresh())];
    let agent = real.start();
    agent.link.apply(set(1, vec![web(&real.bench, environment, old, 1)])).await;
    agent.report("the job is healthy", |report| is_healthy(report, old)).await;
    agent.stop().await;
    let started = || docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &format!("lap-{old}-1")]);
    let before = started();

    let agent = real.start();
    agent.report("the job is adopted", |report| is_healthy(report, old)).await;
    assert_eq!(started(), before, "the same process");
    peer.routes_to(old).await;

    let mut next = web(&real.bench, environment, new, 1);
    next.deployment.0 = 2;
    agent.link.apply(set(2, vec![next])).await;
    let done = |report: &NodeReport| {
        report.replacements.first().is_some_and(|one| one.new == Some(new) && one.phase == ReplacementPhase::Done)
    };
    let report = agent.report("the replacement is done", done).await;
    let phases: Vec<ReplacementPhase> = report.replacements[0].reached.iter().map(|(phase, _)| *phase).collect();
    assert!(phases.contains(&ReplacementPhase::Overlapping), "{phases:?}");
    peer.routes_to(new).await;
    until("the old container is removed", || async { started().is_empty().then_some(()) }).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_that_exits_at_once_is_abandoned_with_its_last_line_and_the_old_one_serves_on() {
    let Some(real) = Real::new(2) else { return };
    let peer = Peer::listen(&real.node.config.proxy.control_dir);
    let environment = EnvironmentId(fresh());
    let [old, new] = [JobId(fresh()), JobId(fresh())];
    let agent = real.start();
    agent.link.apply(set(1, vec![web(&real.bench, environment, old, 1)])).await;
    let serves =
        |report: &NodeReport| report.replacements.first().is_some_and(|one| one.phase == ReplacementPhase::Done);
    agent.report("the old version serves", serves).await;
    let mut next = web(&real.bench, environment, new, 1);
    next.deployment.0 = 2;
    next.run.spec.command = ["sh", "-c", "echo no database; exit 3"].map(str::to_owned).to_vec();
    agent.link.apply(set(2, vec![next])).await;
    let abandoned =
        |report: &NodeReport| report.replacements.first().is_some_and(|one| one.phase == ReplacementPhase::Abandoned);
    let report = agent.report("the replacement is abandoned", abandoned).await;
    let why = report.replacements[0].failure.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(why.contains("exited with code 3") && why.contains("no database"), "{why}");
    assert!(is_healthy(&report, old), "{report:#?}");
    peer.routes_to(old).await;
    agent.stop().await;
}
