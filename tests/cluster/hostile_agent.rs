//! An enrolled agent that means harm: its certificate is good, and everything that it says is a lie, too long, or made to act
//! on whoever reads it. It may harm itself. Nothing of others changes, and what it wrote is only ever shown.

use crate::bench::{Client, Controller, Node, WEB, exec, shop, until};
use lapstrake::limits;
use lapstrake::v1;
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake::v1::open_session_request::Word;
use lapstrake::v1::open_session_response::Word as Said;
use lapstrake_agent::clock::Clock;
use lapstrake_api::view;
use lapstrake_core::ids::{JobId, NodeId, ServiceId};
use lapstrake_core::quote::is_acting;
use lapstrake_pki::mint;
use lapstrake_pki::names::server_name;
use lapstrake_pki::pinned::PinnedVerifier;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Longer than any answer here takes.
const STEP: Duration = Duration::from_secs(20);
/// Two heartbeats in a row are missing.
const SUSPECT_MS: u64 = 4_000;

/// Texts that act on a terminal, end a line, an event of a stream or a file's name.
const ACTING: [&str; 6] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "all is well\r\n2026-11-21T00:00:00Z  INFO forged: a line",
    "x\n\nevent: end\ndata: {}\n\n",
    "\u{202e}txt.exe\u{2028}\u{200b}",
    "../../etc/passwd\0",
    "\u{9b}31m\u{feff}",
];

/// A cluster with an honest node and one whose agent is ours, each with a job of one service.
struct Scene {
    controller: Controller,
    honest: Node,
    liar: Node,
    /// Of the service on the honest node, and on the liar's.
    jobs: [view::Job; 2],
    service: ServiceId,
}

impl Scene {
    async fn set() -> Scene {
        let controller = Controller::start().await;
        let [honest, mut liar] = controller.nodes(["honest", "liar"]).await;
        controller.client.apply(&shop("web:1", 2)).await;
        controller.client.complete(WEB, 1).await;
        let service = controller.client.until_settled(WEB).await;
        let on = |name: &str| service.jobs.iter().find(|job| job.node.as_deref() == Some(name)).expect("a job").clone();
        let jobs = [on("honest"), on("liar")];
        let id = service_id(&controller);
        liar.kill_agent();
        Scene { controller, honest, liar, jobs, service: id }
    }

    fn client(&self) -> &Client {
        &self.controller.client
    }

    /// A connection with the liar's own certificate.
    async fn connect(&self) -> AgentServiceClient<Channel> {
        let state = &self.liar.config.state_dir;
        let root = std::fs::read(self.controller.state_dir().join("ca.pem")).expect("the root");
        let root = CertificateDer::from_pem_slice(&root).expect("a certificate");
        let pem = std::fs::read(state.join("node.pem")).expect("the pair");
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().expect("a certificate");
        let mut config = ClientConfig::builder_with_provider(lapstrake_pki::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(PinnedVerifier::new(lapstrake_pki::fingerprint::Fingerprint::of(&root)))
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&pem).expect("a key"))
            .expect("a pair");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(self.controller.control_address()).await.expect("the agents' port");
        let name = server_name(self.liar.identity.cluster);
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("TLS");
        let once = Arc::new(Mutex::new(Some(hyper_util::rt::TokioIo::new(tls))));
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = once.lock().expect("not poisoned").take();
            async move { tls.ok_or_else(|| std::io::Error::other("only once")) }
        });
        let channel = Endpoint::from_static("http://controller").connect_with_connector(connector).await;
        AgentServiceClient::new(channel.expect("HTTP/2")).max_encoding_message_size(usize::MAX)
    }

    /// A hello that is right, with the machine's own boot: another one would make it a twin.
    fn hello(&self) -> v1::Hello {
        v1::Hello {
            cluster_id: bytes(self.liar.identity.cluster.0),
            node_id: bytes(self.liar.identity.node.0),
            boot_id: bytes(Clock::of_this_boot().expect("a clock").boot().0),
            agent_version: "0".into(),
            architecture: "amd64".into(),
            wall_ms: mint::wall().0,
            report: Some(self.report()),
        }
    }

    /// An honest picture: its one job runs.
    fn report(&self) -> v1::NodeReport {
        v1::NodeReport {
            jobs: vec![self.job(&self.jobs[1], v1::JobPhase::Running, v1::Health::Healthy)],
            capacity: Some(v1::Capacity { cpu_milli: 4_000, memory_bytes: 1 << 30 }),
            ..Default::default()
        }
    }

    fn slot(&self, of: &view::Job) -> v1::SlotId {
        let (target, number) = of.slot.rsplit_once('.').expect("a slot");
        let number = number.parse().expect("a number");
        v1::SlotId { service_id: bytes(self.service.0), target: target.into(), number }
    }

    fn job(&self, of: &view::Job, phase: v1::JobPhase, health: v1::Health) -> v1::JobReport {
        v1::JobReport {
            job_id: bytes(job_id(of).0),
            slot: Some(self.slot(of)),
            attempt: 1,
            phase: phase.into(),
            health: health.into(),
            ..Default::default()
        }
    }

    /// Opens a session with this hello.
    async fn open(&self, hello: v1::Hello) -> Result<Session, Status> {
        let mut client = self.connect().await;
        let (words, outgoing) = mpsc::channel(64);
        words.send(v1::OpenSessionRequest { word: Some(Word::Hello(hello)) }).await.expect("room");
        let opened = timeout(STEP, client.open_session(ReceiverStream::new(outgoing))).await.expect("an answer");
        Ok(Session { words, heard: opened?.into_inner(), client })
    }

    /// What the store and operators say of all that is not the liar's. Its own service's record is: one slot of it is its.
    async fn of_others(&self) -> (Vec<(String, String)>, view::Job, String, usize) {
        let (honest, liar) = (self.honest.identity.node.to_string(), self.liar.identity.node.to_string());
        let is_others = |row: &(String, String)| {
            let text = format!("{} {}", row.0, row.1);
            text.contains(&honest) && !text.contains(&liar)
        };
        let rows = self.controller.stored().rows.into_iter().filter(is_others).collect::<Vec<_>>();
        assert!(rows.len() >= 2, "the node and its slot: {rows:?}");
        let service = self.client().service(WEB).await;
        let job = service.jobs.into_iter().find(|job| job.id == self.jobs[0].id).expect("the honest node's job");
        let node = self.client().node("honest").await;
        let node = format!("{} {} {} {:?}", node.liveness, node.standing, node.jobs, node.troubles);
        (rows, view::Job { memory_bytes: 0, cpu_milli: 0, ..job }, node, self.honest.engine.done().len())
    }

    /// All that operators are told is plain, whoever said it.
    async fn shows_nothing_that_acts(&self) {
        for path in [
            "/v1/nodes",
            "/v1/services",
            "/v1/jobs",
            "/v1/events?after=0",
            "/v1/audit",
            &format!("/v1/services/{WEB}/why"),
        ] {
            let answer = self.client().get(path).await;
            assert_eq!(answer.status, 200, "{path}");
            let value: serde_json::Value = answer.json();
            texts(&value, &mut |text| assert!(!text.contains(is_acting), "{path}: {text:?}"));
        }
    }
}

fn bytes(id: u128) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn job_id(job: &view::Job) -> JobId {
    job.id.parse().expect("a job's id")
}

/// The only service's id, as its records have it.
fn service_id(controller: &Controller) -> ServiceId {
    let rows = controller.stored().rows;
    let (key, _) = rows.iter().find(|(key, _)| key.starts_with("service/")).expect("a service's record");
    key.trim_start_matches("service/").parse().expect("an id")
}

fn texts(value: &serde_json::Value, judge: &mut impl FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => judge(text),
        serde_json::Value::Array(values) => values.iter().for_each(|value| texts(value, judge)),
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            judge(name);
            texts(value, judge);
        }),
        _ => {}
    }
}

/// A session of the liar's.
struct Session {
    words: mpsc::Sender<v1::OpenSessionRequest>,
    heard: Streaming<v1::OpenSessionResponse>,
    client: AgentServiceClient<Channel>,
}

impl Session {
    async fn say(&self, word: Word) {
        // The controller may have ended it meanwhile; that is for the next question to find out.
        let _ =
            timeout(STEP, self.words.send(v1::OpenSessionRequest { word: Some(word) })).await.expect("room in time");
    }

    async fn beat(&self, number: u64) {
        self.say(Word::Heartbeat(v1::Heartbeat { number, used: Some(v1::Use::default()) })).await;
    }

    /// Beats, and waits for the answer: all that was said before was heard.
    async fn is_heard(&mut self, number: u64) -> Result<(), Status> {
        self.beat(number).await;
        self.until(|said| matches!(said, Said::HeartbeatAnswer(answer) if answer.number == number)).await.map(drop)
    }

    /// The first word of the controller's that is wanted, or how the session ended.
    async fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Result<Said, Status> {
        let hearing = async {
            loop {
                match self.heard.message().await? {
                    Some(v1::OpenSessionResponse { word: Some(said) }) if wanted(&said) => return Ok(said),
                    Some(_) => {}
                    None => return Err(Status::unavailable("it ended without a word")),
                }
            }
        };
        timeout(STEP, hearing).await.expect("a word in time")
    }

    /// Calls for a stream to a job, as if it had been asked to.
    async fn open_tunnel(&self, request_id: Vec<u8>, job_id: Vec<u8>) -> Result<Tunnel, Status> {
        let (words, outgoing) = mpsc::channel(64);
        let opening = v1::stream_tunnel_request::Word::Opening(v1::TunnelOpening { request_id, job_id });
        words.send(v1::StreamTunnelRequest { word: Some(opening) }).await.expect("room");
        let mut client = self.client.clone();
        let opened = timeout(STEP, client.stream_tunnel(ReceiverStream::new(outgoing))).await.expect("an answer");
        Ok(Tunnel { words, heard: opened?.into_inner() })
    }

    /// Why the controller ended it.
    async fn end(mut self) -> Status {
        self.until(|_| false).await.expect_err("it is ended")
    }
}

/// A stream to a job, on the liar's side.
struct Tunnel {
    words: mpsc::Sender<v1::StreamTunnelRequest>,
    heard: Streaming<v1::StreamTunnelResponse>,
}

impl Tunnel {
    async fn say(&self, word: v1::stream_tunnel_request::Word) {
        let _ =
            timeout(STEP, self.words.send(v1::StreamTunnelRequest { word: Some(word) })).await.expect("room in time");
    }

    async fn end(mut self) -> Code {
        let hearing = async {
            loop {
                match self.heard.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Code::Ok,
                    Err(status) => return status.code(),
                }
            }
        };
        timeout(STEP, hearing).await.expect("it is ended")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_enrolled_agent_sends_on_a_stream_to_its_job_reaches_the_one_who_asked_and_does_nothing_else() {
    use lapstrake_api::tunnel::ToOperator;
    use v1::stream_tunnel_request::Word as Heard;
    let scene = Scene::set().await;
    let [theirs, own] = &scene.jobs;
    let mut session = scene.open(scene.hello()).await.expect("its own session");
    session.is_heard(1).await.expect("heard");
    let path = exec(WEB, &format!("job={}", own.id), &["true"]);
    let asked = async |session: &mut Session| {
        let said = session.until(|said| matches!(said, Said::OpenTunnel(_))).await.expect("it is asked for a stream");
        let Said::OpenTunnel(asked) = said else { unreachable!("that was wanted") };
        asked
    };
    until("its own job can be entered", || async { scene.client().try_socket(&path).await.ok() }).await;
    // The one that was only tried.
    asked(&mut session).await;

    // Its own stream's id leads to no other job, and to no second call.
    let socket = scene.client().socket(&path).await;
    let wish = asked(&mut session).await;
    let crossed = session.open_tunnel(wish.request_id.clone(), bytes(job_id(theirs).0)).await.err();
    assert_eq!(crossed.expect("another job's").code(), Code::NotFound);
    let tunnel = session.open_tunnel(wish.request_id.clone(), wish.job_id.clone()).await.expect("its own");
    let again = session.open_tunnel(wish.request_id, wish.job_id).await.err();
    assert_eq!(again.expect("a second call").code(), Code::NotFound);
    // What it says of the end goes to a terminal.
    let said = ACTING.join(" ");
    let end = v1::TunnelEnd { reason: v1::TunnelEndReason::NotStarted.into(), code: i64::MIN, said };
    tunnel.say(Heard::End(end)).await;
    let (_, _, last) = socket.whole().await;
    let Some(ToOperator::NotStarted { said, .. }) = last else { panic!("{last:?}") };
    assert!(!said.contains(is_acting), "{said:?}");

    // What breaks a rule ends the stream, for the operator too, and nothing more.
    let large =
        v1::TunnelOutput { source: v1::LogSource::Stdout.into(), piece: vec![0; limits::TUNNEL_PIECE_BYTES + 1] };
    let second = v1::TunnelOpening { request_id: bytes(mint::id()), job_id: bytes(job_id(theirs).0) };
    let nowhere = v1::TunnelOutput { source: 77, piece: Vec::new() };
    for word in [Heard::Output(large), Heard::Opening(second), Heard::Output(nowhere)] {
        let socket = scene.client().socket(&path).await;
        let wish = asked(&mut session).await;
        let tunnel = session.open_tunnel(wish.request_id, wish.job_id).await.expect("its own");
        tunnel.say(word).await;
        assert_eq!(tunnel.end().await, Code::InvalidArgument);
        assert!(matches!(socket.whole().await.2, Some(ToOperator::Failed { .. })));
    }

    // One that never answers keeps nobody, and holds up nobody else: the honest node's job is entered meanwhile.
    let waiting = scene.client().socket(&path).await;
    let honest = scene.client().socket(&exec(WEB, &format!("job={}", theirs.id), &["echo", "here"])).await;
    assert_eq!(honest.whole().await.0, b"here\n");
    drop(waiting);
    session.is_heard(2).await.expect("it is still heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_enrolled_agent_says_of_another_node_or_its_jobs_changes_nothing_there() {
    let scene = Scene::set().await;
    let before = scene.of_others().await;
    let as_other = v1::Hello { node_id: bytes(scene.honest.identity.node.0), ..scene.hello() };
    let refused = scene.open(as_other).await.err().expect("a session as another node");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let stranger = v1::Hello { node_id: bytes(NodeId(mint::id()).0), ..scene.hello() };
    assert_eq!(scene.open(stranger).await.err().expect("a session as nobody").code(), Code::PermissionDenied);

    let mut session = scene.open(scene.hello()).await.expect("its own session");
    let [theirs, own] = &scene.jobs;
    let slander = v1::failure::Kind::CannotStart(v1::failure::CannotStart { said: "a slander".into() });
    let slander = Some(v1::Failure { kind: Some(slander) });
    for phase in [v1::JobPhase::Failed, v1::JobPhase::Rejected, v1::JobPhase::Stopped, v1::JobPhase::Running] {
        let theirs_failed = v1::JobReport {
            failure: slander.clone(),
            attempt: u32::MAX,
            ..scene.job(theirs, phase, v1::Health::Unhealthy)
        };
        // Its own slot under the other's job, and the other's slot under its own job.
        let crossed = v1::JobReport { slot: Some(scene.slot(theirs)), ..theirs_failed.clone() };
        let crossed = v1::JobReport { job_id: bytes(job_id(own).0), ..crossed };
        let replacement = v1::ReplacementReport {
            slot: Some(scene.slot(theirs)),
            deployment_id: deployment_id(&scene.controller),
            old_job_id: None,
            new_job_id: Some(bytes(job_id(theirs).0)),
            phase: v1::ReplacementPhase::SwitchedBack.into(),
            reached: vec![v1::PhaseReached { phase: v1::ReplacementPhase::SwitchedBack.into(), at_ms: u64::MAX }],
            stopped_at_ms: Some(u64::MAX),
            failure: slander.clone(),
            waits_for: Some("a slander".into()),
            good_at_ms: Some(u64::MAX),
            bad_answer: Some("a slander".into()),
        };
        let mut jobs = vec![theirs_failed, crossed];
        jobs.sort_by(|a, b| a.job_id.cmp(&b.job_id));
        let generation = Some(v1::Generation { epoch_id: epoch_id(&scene.controller), number: limits::GENERATION });
        let report = v1::NodeReport { jobs, replacements: vec![replacement], generation, ..scene.report() };
        session.say(Word::Report(report)).await;
    }
    let theirs_gone = v1::NodeReport { jobs: Vec::new(), ..scene.report() };
    session.say(Word::Report(theirs_gone)).await;
    let forged =
        v1::image_resolved::Outcome::Resolved(v1::ResolvedImage { pinned: "evil.example/web@sha256:0".into() });
    let forged = v1::ImageResolved { request_id: bytes(mint::id()), outcome: Some(forged) };
    session.say(Word::ImageResolved(forged)).await;
    session.is_heard(1).await.expect("it is still heard");
    // What it said was taken in: operators see that its own job is not there.
    until("its own picture is taken in", || async {
        let jobs = scene.client().service(WEB).await.jobs;
        (!jobs.iter().any(|job| job.id == own.id && job.health == "healthy")).then_some(())
    })
    .await;
    // Output of a job that is not its own, and an answer to a question that it was not asked.
    for (request, job) in [(mint::id(), job_id(theirs)), (mint::id(), job_id(own))] {
        let opening = v1::LogsOpening { request_id: bytes(request), job_id: bytes(job.0) };
        let opening = v1::StreamLogsRequest { word: Some(v1::stream_logs_request::Word::Opening(opening)) };
        let refused = session.client.stream_logs(tokio_stream::iter([opening])).await.expect_err("nobody asked");
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
        let refused = session.open_tunnel(bytes(request), bytes(job.0)).await.err().expect("nobody asked");
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    }
    assert_eq!(scene.of_others().await, before);
    let events: Vec<view::Event> = scene.client().get("/v1/events?after=0").await.json();
    assert!(!events.iter().any(|event| event.text.contains("slander")), "{events:#?}");
    assert!(!format!("{:?}", scene.client().why(WEB).await).contains("slander"));
    // It serves on, also for the honest node: a deployment on it goes its way.
    assert_eq!(scene.honest.engine.running().len(), 1);
}

fn field_of(rows: &[(String, String)], prefix: &str, field: &str) -> Vec<u8> {
    let (_, record) = rows.iter().find(|(key, _)| key.starts_with(prefix)).expect("a record");
    let record: serde_json::Value = serde_json::from_str(record).expect("JSON");
    let text = find(&record, field).unwrap_or_else(|| panic!("no {field} in {record}"));
    let id: JobId = text.parse().expect("an id");
    bytes(id.0)
}

fn find(value: &serde_json::Value, field: &str) -> Option<String> {
    match value {
        serde_json::Value::Object(fields) => match fields.get(field) {
            Some(serde_json::Value::String(text)) => Some(text.clone()),
            _ => fields.values().find_map(|value| find(value, field)),
        },
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, field)),
        _ => None,
    }
}

fn deployment_id(controller: &Controller) -> Vec<u8> {
    field_of(&controller.stored().rows, "deployment/", "id")
}

fn epoch_id(controller: &Controller) -> Vec<u8> {
    field_of(&controller.stored().rows, "meta", "epoch")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_breaks_a_rule_ends_the_liars_session_with_the_field_and_nothing_else() {
    let scene = Scene::set().await;
    let before = scene.of_others().await;
    let [_, own] = &scene.jobs;
    let good = scene.job(own, v1::JobPhase::Running, v1::Health::Healthy);
    let hello = scene.hello();
    let giant = "x".repeat(1 << 20);
    let beyond = Some(v1::Generation { epoch_id: epoch_id(&scene.controller), number: u64::MAX });
    let report = |report: v1::NodeReport| v1::Hello { report: Some(report), ..hello.clone() };
    let hellos = [
        ("hello.agent_version", v1::Hello { agent_version: giant.clone(), ..hello.clone() }),
        ("hello.agent_version", v1::Hello { agent_version: "1\u{1b}[2J".into(), ..hello.clone() }),
        ("hello.architecture", v1::Hello { architecture: "amd64\n".into(), ..hello.clone() }),
        ("hello.boot_id", v1::Hello { boot_id: vec![1; 15], ..hello.clone() }),
        ("hello.report", v1::Hello { report: None, ..hello.clone() }),
        ("hello.report.generation", report(v1::NodeReport { generation: beyond.clone(), ..scene.report() })),
    ];
    for (field, hello) in hellos {
        let refused = scene.open(hello).await.err().unwrap_or_else(|| panic!("{field}: a session"));
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused:?}");
        assert!(refused.message().contains(field) && refused.message().len() < 300, "{field}: {refused:?}");
    }
    let slot = |target: &str| Some(v1::SlotId { target: target.into(), ..scene.slot(own) });
    let jobs = |job: v1::JobReport| v1::NodeReport { jobs: vec![job], ..scene.report() };
    let stray = v1::StrayReport { job_id: good.job_id.clone(), slot: good.slot.clone() };
    let strays = |times, stray| v1::NodeReport { strays: vec![stray; times], ..scene.report() };
    let reports = [
        ("jobs[0].phase", jobs(v1::JobReport { phase: 99, ..good.clone() })),
        ("jobs[0].health", jobs(v1::JobReport { health: -1, ..good.clone() })),
        ("jobs[0].slot", jobs(v1::JobReport { slot: None, ..good.clone() })),
        ("jobs[0].slot.target", jobs(v1::JobReport { slot: slot("../../web\0"), ..good.clone() })),
        ("jobs[0].slot.target", jobs(v1::JobReport { slot: slot("web\u{202e}"), ..good.clone() })),
        ("jobs[0].slot.target", jobs(v1::JobReport { slot: slot(&giant), ..good.clone() })),
        ("jobs[0].job_id", jobs(v1::JobReport { job_id: giant.clone().into_bytes(), ..good.clone() })),
        ("jobs[0].address", jobs(v1::JobReport { address: Some(vec![1, 2, 3]), ..good.clone() })),
        ("jobs[1]", v1::NodeReport { jobs: vec![good.clone(), good.clone()], ..scene.report() }),
        ("strays[0].slot", strays(1, v1::StrayReport { slot: None, ..stray.clone() })),
        ("strays[0].job_id", strays(1, v1::StrayReport { job_id: giant.clone().into_bytes(), ..stray.clone() })),
        ("strays[1]", strays(2, stray.clone())),
        ("capacity", v1::NodeReport { capacity: None, ..scene.report() }),
        ("generation", v1::NodeReport { generation: beyond, ..scene.report() }),
    ];
    for (field, report) in reports {
        let session = scene.open(scene.hello()).await.expect("a session");
        session.say(Word::Report(report)).await;
        let ended = session.end().await;
        assert_eq!(ended.code(), Code::InvalidArgument, "{field}: {ended:?}");
        assert!(ended.message().contains(&format!("report.{field}")), "{field}: {ended:?}");
        assert!(!ended.message().contains(is_acting) && ended.message().len() < 300, "{ended:?}");
    }
    // A second hello, more answers than questions, a heartbeat without its numbers.
    let session = scene.open(scene.hello()).await.expect("a session");
    session.say(Word::Hello(scene.hello())).await;
    assert_eq!(session.end().await.code(), Code::InvalidArgument);
    let session = scene.open(scene.hello()).await.expect("a session");
    session.say(Word::Heartbeat(v1::Heartbeat { number: 1, used: None })).await;
    assert_eq!(session.end().await.code(), Code::InvalidArgument);
    // A message beyond all limits does not even become a word.
    let session = scene.open(scene.hello()).await.expect("a session");
    let vast = v1::NodeReport { troubles: vec!["x".repeat(8 << 20)], ..scene.report() };
    session.say(Word::Report(vast)).await;
    session.end().await;
    // What a newer version would say is passed over.
    let mut session = scene.open(scene.hello()).await.expect("a session");
    let _ = session.words.send(v1::OpenSessionRequest { word: None }).await;
    session.is_heard(1).await.expect("it goes on");
    assert_eq!(scene.of_others().await, before);
    scene.shows_nothing_that_acts().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_writes_is_shown_quoted_in_troubles_reasons_events_and_output() {
    let scene = Scene::set().await;
    let before = scene.of_others().await;
    let [_, own] = &scene.jobs;
    let mut session = scene.open(scene.hello()).await.expect("a session");
    let all = ACTING.join(" ");
    let mut troubles: Vec<String> = ACTING.map(str::to_owned).into();
    troubles.push("y".repeat(100_000));
    troubles.extend((0..500).map(|number| format!("trouble {number}")));
    let exited = v1::failure::Exited { code: i64::MIN, after_ms: u64::MAX, last_lines: vec![all.clone(); 100] };
    let failures = [
        v1::failure::Kind::Exited(exited),
        v1::failure::Kind::CannotStart(v1::failure::CannotStart { said: all.clone() }),
        v1::failure::Kind::CannotPull(v1::failure::CannotPull { image: all.clone(), said: "z".repeat(50_000) }),
        v1::failure::Kind::CheckFailed(v1::failure::CheckFailed {
            check: all.clone(),
            answered: all.clone(),
            times: u32::MAX,
        }),
        v1::failure::Kind::OutOfMemory(v1::failure::OutOfMemory { limit_bytes: u64::MAX, after_ms: u64::MAX }),
    ];
    for kind in failures {
        let failed = v1::JobReport {
            failure: Some(v1::Failure { kind: Some(kind) }),
            attempt: u32::MAX,
            memory_bytes: u64::MAX,
            cpu_milli: u32::MAX,
            ..scene.job(own, v1::JobPhase::Running, v1::Health::Unhealthy)
        };
        let capacity = Some(v1::Capacity { cpu_milli: u32::MAX, memory_bytes: u64::MAX });
        let report = v1::NodeReport { jobs: vec![failed], troubles: troubles.clone(), capacity, ..Default::default() };
        session.say(Word::Report(report)).await;
        session.is_heard(1).await.expect("sentences are made fit, not refused");
        until("its trouble is shown", || async {
            let job = scene.client().service(WEB).await.jobs.into_iter().find(|job| job.id == own.id)?;
            (job.health == "unhealthy" && job.message.is_some()).then_some(())
        })
        .await;
        scene.shows_nothing_that_acts().await;
    }
    let node = scene.client().node("liar").await;
    assert!(node.troubles.len() <= limits::TROUBLES + 2, "{}", node.troubles.len());
    assert!(node.troubles.iter().all(|said| said.len() <= limits::SENTENCE_BYTES + 4), "{:?}", node.troubles);
    assert!(node.troubles.iter().any(|said| said.contains("forged: a line")), "they are shown: {:?}", node.troubles);

    // The output of its own job, made to look like the end of the stream and like other lines.
    let path = format!("/v1/services/{WEB}/logs?tail=1000");
    let client = scene.client().clone();
    let reading = tokio::spawn(async move { client.get(&path).await });
    let asked = session.until(|said| matches!(said, Said::SendLogs(_))).await.expect("it is asked for its output");
    let Said::SendLogs(asked) = asked else { unreachable!("that was wanted") };
    let line =
        |text: &[u8], at_ms: u64| v1::LogLine { source: v1::LogSource::Stderr.into(), at_ms, text: text.to_vec() };
    let mut lines: Vec<v1::LogLine> = ACTING.iter().map(|text| line(text.as_bytes(), 1)).collect();
    lines.push(line(b"\xff\xfe\r\rdata: {}\r\revent: end\r\r", 2));
    lines.push(line(b"last", u64::MAX));
    let said = lines.len();
    let words = [
        v1::stream_logs_request::Word::Opening(v1::LogsOpening { request_id: asked.request_id, job_id: asked.job_id }),
        v1::stream_logs_request::Word::Lines(v1::LogLines { lines }),
        v1::stream_logs_request::Word::End(v1::LogsEnd { reason: v1::LogsEndReason::CannotRead.into(), said: all }),
    ];
    let words = words.map(|word| v1::StreamLogsRequest { word: Some(word) });
    session.client.stream_logs(tokio_stream::iter(words)).await.expect("it is taken");
    let answer = timeout(STEP, reading).await.expect("the output ends").expect("read");
    let text = String::from_utf8(answer.body.to_vec()).expect("UTF-8");
    assert!(!text.contains('\r'), "{text:?}");
    let blocks: Vec<&str> = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':')).collect();
    let of_liar = blocks.iter().filter(|block| block.contains("\"node\":\"liar\"")).count();
    assert_eq!(of_liar, said + 1, "each line is one event, and one tells of the end: {text}");
    let (last, lines) = blocks.split_last().expect("events");
    assert_eq!(*last, "event: end\ndata: {}", "and the end is the controller's own");
    for block in lines {
        let [kind, data] = block.split('\n').collect::<Vec<_>>()[..] else { panic!("{block:?}") };
        assert_eq!(kind, "event: line");
        let line: view::LogLine = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("a line");
        assert!(!line.text.contains(|c| is_acting(c) && c != '\t'), "{line:?}");
    }
    assert_eq!(scene.of_others().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_one_agent_does_not_slow_down_the_heartbeats_of_another() {
    let scene = Scene::set().await;
    let before = scene.of_others().await;
    let [_, own] = &scene.jobs;
    let silence = AtomicU64::new(0);
    let answered = AtomicU64::new(0);
    let watching = async {
        loop {
            let began = Instant::now();
            let seen = scene.client().node("honest").await;
            answered.fetch_max(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            assert_eq!(seen.liveness, "ready", "{seen:?}");
            silence.fetch_max(seen.silent_ms, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let flooding = async {
        let mut said = 0u32;
        let began = Instant::now();
        let mut session = scene.open(scene.hello()).await.expect("a session");
        // For longer than a lease.
        while began.elapsed() < Duration::from_secs(8) {
            for number in 0..50 {
                // Each is another picture, so that none is passed over as known; some are large.
                let capacity = Some(v1::Capacity { cpu_milli: 1 + said, memory_bytes: u64::from(said) });
                let own = scene.job(own, v1::JobPhase::Running, v1::Health::Healthy);
                let mut jobs = vec![own.clone()];
                let extra = if number == 0 { 2_000 } else { 0 };
                jobs.extend((0..extra).map(|_| v1::JobReport { job_id: bytes(mint::id()), ..own.clone() }));
                jobs.sort_by(|a, b| a.job_id.cmp(&b.job_id));
                session.say(Word::Report(v1::NodeReport { jobs, capacity, ..Default::default() })).await;
                session.beat(u64::from(said)).await;
                said += 1;
            }
            if session.is_heard(u64::MAX).await.is_err() {
                session = scene.open(scene.hello()).await.expect("another session");
            }
        }
        said
    };
    let said = tokio::select! {
        said = flooding => said,
        () = watching => unreachable!("it watches for ever"),
    };
    let (silence, answered) = (silence.into_inner(), answered.into_inner());
    eprintln!(
        "{said} reports; the other node was silent for {silence} ms at most, operators waited {answered} ms at most"
    );
    assert!(said > 200, "{said}");
    assert!(silence < SUSPECT_MS, "{silence} ms");
    assert_eq!(scene.of_others().await, before);
    let subjects: BTreeSet<String> = scene
        .client()
        .get("/v1/events?after=0")
        .await
        .json::<Vec<view::Event>>()
        .into_iter()
        .filter(|event| event.kind == "node-liveness" && event.text.contains("silent"))
        .map(|event| event.subject)
        .collect();
    assert!(!subjects.contains("node/honest"), "{subjects:?}");
}
