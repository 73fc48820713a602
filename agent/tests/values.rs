//! Secrets and variables on a node: what a job gets, what is left of them on the disk, and what happens when they cannot
//! be read.

#[path = "support/node.rs"]
mod node;
mod support;

use lapstrake_agent::link::SetOutcome;
use lapstrake_agent::network::Fence;
use lapstrake_agent::runtime::fake::FakeRuntime;
use lapstrake_core::assignment::{Assignment, AssignmentSet, BoundImage};
use lapstrake_core::ids::{EnvironmentId, JobId, ValueId};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::report::{Health, NodeReport};
use lapstrake_core::spec::{ImageSource, Pull};
use lapstrake_core::values::{Binding, Body, Clear, GivenValue, Place};
use node::{Agent, Node, Peer, assignment, set};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::until;
use tempfile::TempDir;

const PLANTED: &str = "swordfish-4711";

/// A node whose files are in memory, a proxy and an engine.
struct Bench {
    node: Node,
    fake: FakeRuntime,
    _peer: Peer,
    memory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let mut node = Node::new();
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        node.config.memory_dir = memory.path().join("files");
        let peer = Peer::listen(&node.config.proxy.control_dir);
        Bench { node, fake: FakeRuntime::default(), _peer: peer, memory }
    }

    fn start(&self) -> Agent {
        self.node.start(Arc::new(self.fake.clone()), Fence::Open)
    }

    async fn until_runs(&self, job: u128, number: u32) {
        let wanted = attempt(job, number);
        until("the attempt runs", || async { self.fake.running().contains(&wanted).then_some(()) }).await;
    }

    /// Whether an attempt's folder is there.
    fn has_folder(&self, job: u128, number: u32) -> bool {
        self.memory.path().join("files").join(format!("lap-{}-{number}", JobId(job))).exists()
    }
}

fn attempt(job: u128, number: u32) -> Attempt {
    Attempt { job: JobId(job), number }
}

/// The job of this number in a slot of its own, with one variable `KEY` whose value has the job's number.
fn wants(job: u128) -> Assignment {
    let mut one = with(job, vec![Binding { place: Place::Variable("KEY".into()), value: ValueId(job) }]);
    one.slot.number = u32::try_from(job % 100).expect("small") + 1;
    one
}

fn with(job: u128, values: Vec<Binding>) -> Assignment {
    let image = BoundImage::Id { reference: "v1".into(), id: "sha256:v1".into() };
    let mut one = assignment(EnvironmentId(5), JobId(job), job, image, &[]);
    one.run.values = values;
    one
}

fn value(name: &str, content: impl Into<Vec<u8>>) -> GivenValue {
    let called = format!("the secret {name} of shop/production");
    GivenValue { called, body: Body::Clear(Clear(content.into())) }
}

/// A set of jobs that want a value each.
fn of_jobs(number: u64, jobs: &[u128]) -> AssignmentSet {
    let mut whole = set(number, jobs.iter().copied().map(wants).collect());
    whole.values =
        jobs.iter().map(|job| (ValueId(*job), value(&format!("key-{job}"), format!("{PLANTED}-{job}")))).collect();
    whole
}

fn all_healthy(report: &NodeReport, jobs: &[u128]) -> bool {
    let healthy = |job: &u128| report.jobs.iter().any(|one| one.job == JobId(*job) && one.health == Health::Healthy);
    jobs.iter().all(healthy)
}

fn failure(report: &NodeReport, job: u128) -> String {
    let failure = report.jobs.iter().find(|one| one.job == JobId(job)).and_then(|one| one.failure.as_ref());
    failure.map(ToString::to_string).unwrap_or_default()
}

/// Every file below a folder that has this in it, as it stands or in hexadecimal.
fn files_with(folder: &Path, planted: &str) -> Vec<String> {
    let hex: String = planted.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, planted));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let has = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
            if has(planted) || has(&hex) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// What the agent logs, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_job_gets_its_values_and_no_trace_of_them_is_on_the_disk_in_the_log_or_in_the_report() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bench = Bench::new();
    let agent = bench.start();
    let file =
        |path: &str, value| Binding { place: Place::File { path: path.into(), mode: 0o440 }, value: ValueId(value) };
    let bindings = vec![
        Binding { place: Place::Variable("GREETING".into()), value: ValueId(1) },
        file("/run/secrets/a", 1),
        file("/run/secrets/b", 2),
        Binding { place: Place::Registry, value: ValueId(3) },
    ];
    let values = [
        value("a", PLANTED),
        value("b", [PLANTED.as_bytes(), &[0, 0xff]].concat()),
        value("c", format!("ci\n{PLANTED}")),
    ];
    let values = (1..).map(ValueId).zip(values).collect();
    let mut first = set(1, vec![with(100, bindings.clone())]);
    first.values = values;
    assert_eq!(agent.link.apply(first).await, Some(SetOutcome::Accepted));
    let report = agent.report("it is healthy", |report| all_healthy(report, &[100])).await;

    let found = bench.fake.given(JobId(100)).expect("made");
    assert_eq!(found.variables["GREETING"], PLANTED, "over the spec's own");
    assert_eq!(found.variables["LAPSTRAKE_SLOT"], "web.1");
    let file = |path: &str, content: String| (path.to_owned(), content);
    let files = [file("/run/secrets/a", PLANTED.into()), file("/run/secrets/b", format!("{PLANTED}\0\u{fffd}"))];
    assert_eq!(found.files, files.into());
    let login = |host: &str| (host.to_owned(), "ci".to_owned(), PLANTED.to_owned());
    assert_eq!(bench.fake.logins(), [login("")]);
    let image = ImageSource { reference: "registry.test:5000/web:2".into(), pull: Pull::Registry };
    let asked = agent.link.resolve_image(&image, Some((ValueId(9), value("c", format!("ci\n{PLANTED}"))))).await;
    asked.expect("resolved");
    assert_eq!(bench.fake.logins(), [login(""), login("registry.test:5000")]);

    for folder in [&bench.node.config.state_dir, &bench.node.config.run_dir] {
        assert_eq!(files_with(folder, PLANTED), [""; 0]);
    }
    assert!(
        std::fs::read_to_string(bench.node.config.state_dir.join("ledger.json")).expect("there").contains("sealed")
    );
    assert!(!format!("{report:?}").contains(PLANTED));

    agent.stop().await;
    let agent = bench.start();
    agent.report("it is adopted", |report| all_healthy(report, &[100])).await;
    assert!(bench.has_folder(100, 1), "a restart of the agent leaves the files alone");
    let mut second = set(2, vec![with(200, bindings)]);
    // Versions that the node holds already are given all the same; here the controller cannot read them any more.
    second.values = (1..=3)
        .map(|id| (ValueId(id), GivenValue { called: "it".into(), body: Body::Unreadable { said: "no key".into() } }))
        .collect();
    agent.link.apply(second).await;
    bench.until_runs(200, 1).await;
    assert_eq!(bench.fake.given(JobId(200)).expect("made").files.len(), 2, "held values are gone on with");
    until("the old files are gone", || async { (!bench.has_folder(100, 1)).then_some(()) }).await;
    agent.stop().await;
    let text = log.text();
    assert!(text.contains("begins") && !text.contains(PLANTED), "{text}");
}

#[tokio::test]
async fn altered_values_are_named_other_jobs_run_on_and_the_same_set_repairs_it() {
    let bench = Bench::new();
    let agent = bench.start();
    let jobs = [100, 101, 102, 103, 104];
    agent.link.apply(of_jobs(1, &jobs)).await;
    agent.report("all are healthy", |report| all_healthy(report, &jobs)).await;
    agent.stop().await;

    let path = bench.node.config.state_dir.join("ledger.json");
    let mut ledger: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    let id = |job: u128| ValueId(job).to_string();
    let body = |ledger: &serde_json::Value, job| {
        ledger["values"][id(job)]["body"]["sealed"].as_str().expect("sealed").to_owned()
    };
    let [flipped, cut, one, other] = [100, 101, 102, 103].map(|job| body(&ledger, job));
    let last = if flipped.ends_with('0') { "1" } else { "0" };
    for (job, changed) in [
        (100, format!("{}{last}", &flipped[..flipped.len() - 1])),
        (101, cut[..40].to_owned()),
        (102, other),
        (103, one),
    ] {
        ledger["values"][id(job)]["body"]["sealed"] = changed.into();
    }
    std::fs::write(&path, ledger.to_string()).expect("written");

    let agent = bench.start();
    let report = agent.report("they are adopted", |report| all_healthy(report, &jobs)).await;
    let said = report.troubles.join("\n");
    assert!(said.contains("the secret key-100 of shop/production cannot be read"), "{said}");
    assert!(said.contains("and so it is with 1 more") && !said.contains("key-104"), "{said}");
    for job in jobs {
        bench.fake.crash(attempt(job, 1), 1);
    }
    bench.until_runs(104, 2).await;
    for job in [100, 101, 102, 103] {
        let named = format!("the secret key-{job} of shop/production cannot be read: ");
        let report = agent.report("the reason is told", |report| failure(report, job).contains(&named)).await;
        assert!(!format!("{report:?}").contains(PLANTED));
    }
    assert_eq!(bench.fake.running(), [attempt(104, 2)]);

    assert_eq!(agent.link.apply(of_jobs(1, &jobs)).await, Some(SetOutcome::Accepted), "the next session's set");
    agent.report("all are healthy again", |report| all_healthy(report, &jobs) && report.troubles.is_empty()).await;
    assert_eq!(agent.link.apply(of_jobs(1, &jobs)).await, Some(SetOutcome::Older), "nothing is missing now");
    for running in bench.fake.running() {
        let found = bench.fake.given(running.job).expect("made");
        assert_eq!(found.variables["KEY"], format!("{PLANTED}-{}", running.job.0));
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_node_that_lost_its_key_keeps_its_jobs_and_gets_their_values_anew() {
    let bench = Bench::new();
    let agent = bench.start();
    agent.link.apply(of_jobs(1, &[100])).await;
    agent.report("it is healthy", |report| all_healthy(report, &[100])).await;
    agent.stop().await;
    std::fs::remove_file(bench.node.config.state_dir.join("seal.key")).expect("there was one");

    let agent = bench.start();
    let report = agent.report("it is adopted", |report| all_healthy(report, &[100])).await;
    assert!(report.troubles.iter().any(|said| said.contains("key-100")), "{:?}", report.troubles);
    bench.fake.crash(attempt(100, 1), 1);
    agent.report("the reason is told", |report| failure(report, 100).contains("the secret key-100")).await;
    agent.link.apply(of_jobs(1, &[100])).await;
    agent.report("it is healthy", |report| all_healthy(report, &[100]) && report.troubles.is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_node_without_the_operators_key_says_so_and_refuses_what_needs_a_value() {
    let mut bench = Bench::new();
    bench.node.config.seal_key = bench.memory.path().join("credential");
    let agent = bench.start();
    let mut both = of_jobs(1, &[100, 101]);
    both.assignments[1].run.values.clear();
    agent.link.apply(both).await;
    let report = agent.report("one is healthy", |report| all_healthy(report, &[101])).await;
    assert!(report.troubles.iter().any(|said| said.contains("credential")), "{:?}", report.troubles);
    let why = |report: &NodeReport| failure(report, 100) + &format!("{:?}", report.replacements);
    agent.report("the other is refused", |report| why(report).contains("the secret key-100 of shop/production")).await;
    agent.stop().await;
    assert!(!bench.node.config.seal_key.exists(), "it is not ours to make");
    assert_eq!(files_with(&bench.node.config.state_dir, PLANTED), [""; 0]);
}

#[tokio::test]
async fn a_value_that_no_job_can_get_is_refused_by_its_name() {
    let missing = || None;
    let unreadable = || Some(Body::Unreadable { said: "its key is gone".into() });
    let cases: [(Option<Body>, &str); 4] = [
        (Some(Body::Clear(Clear(b"swordfish\xff".to_vec()))), "the secret key of shop/production is not UTF-8 text"),
        (Some(Body::Clear(Clear(b"sword\0fish".to_vec()))), "the secret key of shop/production has a zero byte"),
        (unreadable(), "the secret key of shop/production cannot be read: its key is gone"),
        (missing(), "the value of KEY has not come to this node"),
    ];
    for (body, sentence) in cases {
        let bench = Bench::new();
        let agent = bench.start();
        let mut whole = set(1, vec![wants(100)]);
        let called = "the secret key of shop/production".to_owned();
        whole.values = body.map(|body| (ValueId(100), GivenValue { called, body })).into_iter().collect();
        agent.link.apply(whole).await;
        let report = agent.report(sentence, |report| format!("{report:?}").contains(sentence)).await;
        assert!(!format!("{report:?}").contains("fish"), "{report:?}");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_job_with_a_file_is_refused_where_there_is_no_memory_to_hold_it() {
    let mut bench = Bench::new();
    let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
    bench.node.config.memory_dir = disk.path().join("files");
    let agent = bench.start();
    let place = Place::File { path: "/run/secrets/key".into(), mode: 0o444 };
    let mut whole = set(1, vec![with(100, vec![Binding { place, value: ValueId(1) }])]);
    whole.values = [(ValueId(1), value("key", PLANTED))].into();
    agent.link.apply(whole).await;
    agent.report("it is refused", |report| format!("{report:?}").contains("mount a tmpfs there")).await;
    agent.stop().await;
    assert_eq!(files_with(disk.path(), PLANTED), [""; 0]);
}
