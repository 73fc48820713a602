//! What the agent's tests share: identities, runs of a service, and a Docker engine with an image to run.

#![allow(dead_code, reason = "each test binary uses its own part")]

use lapstrake_agent::runtime::docker::DockerRuntime;
use lapstrake_agent::runtime::{Given, Owner, RunOrder, Runtime};
use lapstrake_core::assignment::{BoundImage, RunSpec, ServicePath};
use lapstrake_core::ids::{ApplicationId, ClusterId, EnvironmentId, JobId, NodeId, ServiceId, SlotId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::spec::{
    Check, CheckKind, DeployPolicy, ImageSource, Port, Protocol, Pull, ServiceSpec, ServiceType, Size, Strategy,
    WhenCutOff,
};
use lapstrake_core::time::Millis;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The port that the test service answers on.
pub const PORT: u16 = 8080;

/// A fresh 128-bit number, so that test runs beside each other do not meet.
pub fn fresh() -> u128 {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("random bytes");
    u128::from_le_bytes(bytes)
}

/// A subnet of the range that these tests use.
pub fn subnet(n: u8) -> Subnet {
    Subnet { base: Ipv4Addr::new(10, 213, n, 0), prefix: 24 }
}

/// The host address number `n` of a subnet.
pub fn host(subnet: Subnet, n: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.base) + u32::from(n))
}

/// A web service with one port and one check, quick in everything.
pub fn spec(reference: &str, command: &[&str]) -> ServiceSpec {
    ServiceSpec {
        service_type: ServiceType::Web,
        image: ImageSource { reference: reference.to_owned(), pull: Pull::Local },
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        size: Size { cpu_milli: 200, memory_bytes: 32 << 20, pids: 64 },
        scale: 1,
        ports: vec![Port {
            port: PORT,
            protocol: Protocol::Http,
            path: Some("/".into()),
            public: true,
            host: Some("shop.test".into()),
        }],
        health: vec![Check {
            kind: CheckKind::Http { port: PORT, path: "/".into() },
            interval: Millis(1_000),
            timeout: Millis(1_000),
            grace: Millis(5_000),
            restart_after: 3,
        }],
        deploy: DeployPolicy {
            strategy: Strategy::Rolling,
            overlap: Millis(200),
            drain: Millis(500),
            stop_grace: Millis(2_000),
            min_healthy: Millis(100),
            timeout: Millis(30_000),
            max_surge: 1,
            max_unavailable: 0,
            steps: Vec::new(),
            max_attempts: 3,
            release: None,
        },
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
        replace_after: Millis(0),
        when_cut_off: WhenCutOff::Keep,
        init: true,
        read_only: false,
        constraints: Vec::new(),
    }
}

/// A run of that service.
pub fn run(environment: EnvironmentId, image: BoundImage, command: &[&str]) -> RunSpec {
    RunSpec {
        environment,
        application: ApplicationId(1),
        path: ServicePath { application: "shop".into(), environment: "production".into(), service: "web".into() },
        revision: 1,
        spec: spec(image.reference(), command),
        image,
        hosts: vec![Some("shop.test".into())],
        values: Vec::new(),
    }
}

/// The first attempt of a fresh job.
pub fn order(environment: EnvironmentId, address: Ipv4Addr, image: BoundImage, command: &[&str]) -> RunOrder {
    RunOrder {
        attempt: Attempt { job: JobId(fresh()), number: 1 },
        slot: SlotId { service: ServiceId(7), target: "web".into(), number: 1 },
        address,
        run: run(environment, image, command),
        given: Given::default(),
    }
}

/// Waits until a question is answered with something; a test that waits for ever says for what.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut question: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited a minute until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A Docker engine with the test image. What was made on it is removed at the end.
pub struct DockerBench {
    pub host: String,
    pub owner: Owner,
    pub image: BoundImage,
}

impl DockerBench {
    /// `None`, with a message, where no engine answers.
    pub fn new() -> Option<Self> {
        let answers = Command::new("docker").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !answers.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no Docker engine answers here");
            return None;
        }
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
        let owner = Owner { cluster: ClusterId(fresh()), node: NodeId(fresh()) };
        let reference = "lapstrake-agent-test:busybox".to_owned();
        let id = import_busybox(&reference);
        Some(DockerBench { host, owner, image: BoundImage::Id { reference, id } })
    }

    pub fn runtime(&self) -> DockerRuntime {
        DockerRuntime::new(&self.host, self.owner)
    }

    fn filter(&self) -> String {
        format!("label=dev.lapstrake.cluster={}", self.owner.cluster)
    }
}

impl Drop for DockerBench {
    fn drop(&mut self) {
        let filter = self.filter();
        for id in docker(&["ps", "-aq", "--filter", &filter]).lines() {
            docker(&["rm", "-fv", id]);
        }
        for id in docker(&["network", "ls", "-q", "--filter", &filter]).lines() {
            docker(&["network", "rm", id]);
        }
    }
}

/// What a docker command prints; nothing when it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An image of one static binary, and its id.
fn import_busybox(reference: &str) -> String {
    let known = docker(&["image", "inspect", "-f", "{{.Id}}", reference]);
    if known.starts_with("sha256:") {
        return known;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let bin = dir.path().join("bin");
    std::fs::create_dir_all(&bin).expect("made");
    std::fs::create_dir_all(dir.path().join("www")).expect("made");
    std::fs::create_dir_all(dir.path().join("tmp")).expect("made");
    std::fs::write(dir.path().join("www/index.html"), "hello\n").expect("written");
    std::fs::copy("/usr/bin/busybox", bin.join("busybox")).expect("the Debian package busybox-static is installed");
    for word in ["sh", "httpd", "nc", "sleep", "wget", "echo", "cat", "dd", "tail", "true", "false", "head", "tr"] {
        std::os::unix::fs::symlink("busybox", bin.join(word)).expect("linked");
    }
    let mut tar = Command::new("tar")
        .args(["--mtime=@0", "--sort=name", "--owner=0", "--group=0", "-cf", "-", "-C"])
        .arg(dir.path())
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar runs");
    let output = Command::new("docker")
        .args(["import", "--change", "CMD [\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/www\"]", "-", reference])
        .stdin(tar.stdout.take().expect("piped"))
        .output()
        .expect("docker runs");
    assert!(tar.wait().expect("tar ends").success() && output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A runtime behind the trait, for functions that take any.
pub fn any(runtime: &impl Runtime) -> &dyn Runtime {
    runtime
}
