//! The agent on a real Docker engine: environments are kept apart, containers are adopted, failures are told.

#[path = "support/node.rs"]
mod node;
#[path = "support/registry.rs"]
mod registry;
mod support;

use lapstrake_agent::config::{Logs, Pool};
use lapstrake_agent::identity::Identity;
use lapstrake_agent::network::{Fence, nft::Nft};
use lapstrake_agent::runtime::{Brief, Got, RegistryLogin, Runtime, RuntimeError};
use lapstrake_core::assignment::{Assignment, BoundImage};
use lapstrake_core::ids::{EnvironmentId, JobId, ValueId};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::report::{Health, NodeReport, ReplacementPhase};
use lapstrake_core::spec::{ImageSource, Pull};
use lapstrake_core::values::{Binding, Body, Clear, GivenValue, Place};
use node::{Agent, Node, Peer, assignment, set};
use registry::{Registry, User};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::{DockerBench, PORT, docker, fresh, host, order, subnet, until};
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

/// What a command in a job's first container prints, and its exit code.
async fn ask(real: &Real, job: JobId, script: &str) -> (String, i64) {
    let command = ["sh", "-c", script].map(str::to_owned);
    let attempt = Attempt { job, number: 1 };
    let end = real.bench.runtime().exec(attempt, &command, Duration::from_secs(20)).await.expect("asked");
    (end.output.trim().to_owned(), end.code)
}

fn secret(text: &str) -> GivenValue {
    GivenValue { called: "the secret key of shop/production".into(), body: Body::Clear(Clear(text.into())) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_finds_its_secrets_where_its_spec_wants_them_and_a_file_is_nowhere_else() {
    let Some(mut real) = Real::new(3) else { return };
    let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    real.node.config.memory_dir = memory.path().join("files");
    let _peer = Peer::listen(&real.node.config.proxy.control_dir);
    let job = JobId(fresh());
    let mut one = web(&real.bench, EnvironmentId(fresh()), job, 1);
    one.run.spec.read_only = true;
    let file = |path: &str, mode| Place::File { path: path.into(), mode };
    one.run.values = vec![
        Binding { place: Place::Variable("GREETING".into()), value: ValueId(1) },
        Binding { place: Place::Variable("LAPSTRAKE_SLOT".into()), value: ValueId(1) },
        Binding { place: file("/etc/app/key.pem", 0o400), value: ValueId(2) },
        Binding { place: file("/run/secrets/api-key", 0o444), value: ValueId(2) },
    ];
    let mut whole = set(1, vec![one]);
    whole.values = [(ValueId(1), secret("good morning")), (ValueId(2), secret("swordfish-4711"))].into();
    let agent = real.start();
    agent.link.apply(whole).await;
    agent.report("the job is healthy", |report| is_healthy(report, job)).await;

    let (said, _) = ask(&real, job, "echo $GREETING, $LAPSTRAKE_SLOT $LAPSTRAKE_REVISION $LAPSTRAKE_SERVICE").await;
    assert_eq!(said, "good morning, web.1 r1 web", "a value wins over the spec, and what we tell over both");
    for (path, mode) in [("/etc/app/key.pem", "400"), ("/run/secrets/api-key", "444")] {
        assert_eq!(ask(&real, job, &format!("cat {path}")).await, ("swordfish-4711".into(), 0));
        assert_eq!(ask(&real, job, &format!("busybox stat -c '%a %u' {path}")).await, (format!("{mode} 0"), 0));
        let (said, code) = ask(&real, job, &format!("echo mine > {path}")).await;
        assert!(code != 0 && said.contains("Read-only"), "{said}");
    }
    let inspected = docker(&["inspect", &format!("lap-{job}-1")]);
    assert!(inspected.contains("/run/secrets/api-key") && !inspected.contains("swordfish"), "{inspected}");
    let exported =
        Command::new("docker").args(["export", &format!("lap-{job}-1")]).output().expect("docker runs").stdout;
    assert!(!exported.windows(9).any(|at| at == b"swordfish"), "not in what the container wrote either");

    agent.stop().await;
    let agent = real.start();
    agent.report("the job is adopted", |report| is_healthy(report, job)).await;
    assert_eq!(ask(&real, job, "cat /run/secrets/api-key").await.0, "swordfish-4711");
    agent.link.apply(set(2, Vec::new())).await;
    let folder = real.node.config.memory_dir.join(format!("lap-{job}-1"));
    until("the files go with the container", || async { (!folder.exists()).then_some(()) }).await;
    agent.stop().await;
}

const USER: User = User {
    name: "ci",
    // In the ordinary base 64 its JSON has `/` and `+`, which Docker does not read there.
    password: "pass?????>>>>>word",
    // As `htpasswd -B` writes it.
    bcrypt: "$2y$05$abcdefghijklmnopqrstuuslMYm2UCa8pLzhjNZwCkp1eYfdqqxjC",
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_registry_gives_its_image_for_the_right_credentials_only_and_the_refusal_has_no_password() {
    let Some(bench) = DockerBench::new() else { return };
    let Some(registry) = Registry::private(&USER).await else { return };
    registry.push(bench.image.reference(), &USER);
    let runtime = bench.runtime();
    let image = ImageSource { reference: registry.name(), pull: Pull::Registry };
    let right = RegistryLogin { user: USER.name.into(), password: USER.password.into() };
    let wrong = RegistryLogin { user: USER.name.into(), password: "swordfish-4711".into() };
    let pinned = runtime.resolve(&image, Some(&right)).await.expect("resolved");
    assert!(pinned.starts_with(&format!("{}/hello@sha256:", registry.address)), "{pinned}");
    let bound = BoundImage::Digest { reference: registry.name(), pinned };
    for (login, sentence) in
        [(Some(&wrong), "the registry refused the credentials"), (None, "the registry wants credentials")]
    {
        for outcome in [runtime.resolve(&image, login).await.map(drop), runtime.pull(&bound, login).await.map(drop)] {
            let error = outcome.expect_err("refused");
            assert!(matches!(&error, RuntimeError::Refused(said) if said.starts_with(sentence)), "{error:?}");
            assert!(!error.to_string().contains("swordfish"), "{error}");
        }
    }
    runtime.pull(&bound, Some(&right)).await.expect("pulled");
    runtime.pull(&bound, None).await.expect("it is here now, and nobody is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_the_agent_has_pulled_from_two_repositories_goes_with_its_second_name() {
    let Some(bench) = DockerBench::new() else { return };
    let Some(registry) = Registry::start().await else { return };
    let one = registry.push_new(&bench);
    let images = [registry.push_again(&one), one];
    let runtime = bench.runtime();
    let mut brought = Vec::new();
    for image in &images {
        let Got::Brought { id, name } = runtime.pull(image, None).await.expect("pulled") else {
            panic!("{} was here", image.pinned())
        };
        brought.push((id, name));
    }
    assert_eq!(brought[0].0, brought[1].0, "they are one image");
    let names: BTreeSet<String> = brought.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(runtime.images().await.expect("listed")[&brought[0].0].names, names, "each name is ours");
    for (id, name) in &brought {
        assert!(runtime.images().await.expect("listed").contains_key(id));
        runtime.remove_image(name, id).await.expect("removed");
    }
    assert!(!runtime.images().await.expect("listed").contains_key(&brought[0].0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_writes_takes_no_more_of_the_disk_than_the_configuration_says() {
    let Some(bench) = DockerBench::new() else { return };
    let runtime = bench.runtime().keeping(Logs { max_size_mib: 1, max_files: 2 });
    let environment = EnvironmentId(fresh());
    let subnet = subnet(u8::try_from(std::process::id() % 100).unwrap_or(0));
    runtime.ensure_network(environment, subnet).await.expect("the network is made");
    // Four megabytes in lines of a kilobyte, and then a last word.
    let script = "head -c 1000 /dev/zero | tr '\\0' x >/tmp/line; echo >>/tmp/line; \
                  i=0; while [ $i -lt 100 ]; do cat /tmp/line >>/tmp/lines; i=$((i+1)); done; \
                  i=0; while [ $i -lt 40 ]; do cat /tmp/lines; i=$((i+1)); done; echo the end";
    let order = order(environment, host(subnet, 2), bench.image.clone(), &["sh", "-c", script]);
    runtime.run(&order).await.expect("started");
    let ended = async || runtime.look(order.attempt).await.ok()?.filter(|look| look.brief() == Brief::Exited);
    until("it has written all", ended).await;
    assert_eq!(runtime.last_lines(order.attempt, 1).await.expect("read"), ["the end"], "the newest stays");
    let log = docker(&["inspect", "-f", "{{.LogPath}}", &format!("lap-{}-1", order.attempt.job)]);
    let (folder, name) = Path::new(&log).parent().zip(Path::new(&log).file_name()).expect("a log file");
    let files = std::fs::read_dir(folder).expect("listed").flatten();
    let of_log = files.filter(|file| file.file_name().to_string_lossy().starts_with(&*name.to_string_lossy()));
    let sizes: Vec<u64> = of_log.map(|file| file.metadata().expect("there").len()).collect();
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    // The engine looks after each piece that it writes, so a file is a little larger.
    assert!(sizes.iter().all(|size| *size <= (1 << 20) + (64 << 10)), "{sizes:?}");
}
