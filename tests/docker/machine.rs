//! This machine as the only node of a cluster: its Docker engine, a real agent and a real proxy. Everything that was made
//! on the engine is removed at the end, also when a test fails.

use crate::bench::{Controller, Process, join_with, until};
use lapstrake_agent::config::{Config, Pool};
use lapstrake_agent::engine::Machine as Machinery;
use lapstrake_agent::network::{Fence, nft::Nft};
use lapstrake_agent::runtime::{Owner, docker::DockerRuntime};
use lapstrake_api::view;
use lapstrake_proxy::{Proxy, config::Config as ProxyConfig};
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The host that the service under test is reached by.
pub const HOST: &str = "hello.test";
/// The service under test.
pub const HELLO: &str = "shop/production/web";

/// A cluster of this machine.
pub struct Machine {
    pub controller: Controller,
    /// Where clients connect.
    pub proxy: SocketAddr,
    pub cluster: String,
    agent: Option<Process>,
    table: String,
    _proxy: Proxy,
    _folder: TempDir,
    /// Held while the test runs: tests of the engine share the machine.
    _turn: File,
}

impl Machine {
    /// Waits for its turn, then makes a cluster and joins it.
    pub async fn start() -> Machine {
        Machine::start_with(|_| (), |_| ()).await
    }

    /// The same, with daemons that are configured so.
    pub async fn start_with(
        configure: impl FnOnce(&mut lapstrake_controller::config::Config),
        configure_agent: impl FnOnce(&mut Config),
    ) -> Machine {
        let turn = File::create(std::env::temp_dir().join("lapt-docker.lock")).expect("a lock file");
        let turn = tokio::task::spawn_blocking(move || turn.lock().map(|()| turn)).await.expect("waited");
        let controller = Controller::start_with(configure).await;
        let version: view::Version = controller.client.get("/v1/version").await.json();
        announce(&version.cluster);
        assert_eq!(controller.client.post("/v1/apps", r#"{"name":"shop"}"#).await.status, 201);

        let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
        let (state_dir, run_dir) = (folder.path().join("state"), folder.path().join("run"));
        let mut config = Config { name: "n1".into(), state_dir, run_dir, ..Config::default() };
        let part = u8::try_from(std::process::id() % 16).unwrap_or(0) * 16;
        config.network.pool = Pool { base: Ipv4Addr::new(10, 218, part, 0), prefix: 20 };
        config.network.nft_table = format!("lapt_{}", std::process::id());
        configure_agent(&mut config);
        let config = config.completed().expect("a good configuration");
        let table = config.network.nft_table.clone();
        let proxy = Proxy::start(ProxyConfig {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            control_dir: config.proxy.control_dir.clone(),
            table_file: config.proxy.table_file.clone(),
            workers: 1,
            ..ProxyConfig::default()
        });
        let proxy = proxy.await.expect("the proxy starts");
        let agent = Some(start_agent(&controller, config).await);
        Machine {
            proxy: proxy.listen()[0],
            cluster: version.cluster,
            agent,
            table,
            controller,
            _proxy: proxy,
            _folder: folder,
            _turn: turn.expect("the machine's turn"),
        }
    }

    /// The spec of the sample service, and with it the first version, serving.
    pub async fn serve(&self, image: &str, pull: &str) -> view::Service {
        self.controller.client.apply(&hello(image, pull)).await;
        self.controller.client.complete(HELLO, 1).await;
        self.controller.client.until_settled(HELLO).await
    }

    /// Asks for another image and waits until the deployment has ended.
    pub async fn deploy(&self, image: &str) -> view::Deployment {
        let body = serde_json::json!({ "image": image }).to_string();
        let asked = self.controller.client.post(&format!("/v1/services/{HELLO}/deploy"), body).await;
        self.controller.client.ended(HELLO, asked.json::<view::Deployment>().number).await
    }

    /// Another verb without a body.
    pub async fn operate(&self, verb: &str) -> view::Deployment {
        let asked = self.controller.client.post(&format!("/v1/services/{HELLO}/{verb}"), "").await;
        self.controller.client.complete(HELLO, asked.json::<view::Deployment>().number).await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.agent = None;
        self.controller.kill();
        let filter = format!("label=dev.lapstrake.cluster={}", self.cluster);
        // Twice: what the agent had asked of the engine in its last moment may come about after the first list.
        for _ in 0..2 {
            for id in docker(&["ps", "-aq", "--filter", &filter]).lines() {
                docker(&["rm", "-fv", id]);
            }
            for id in docker(&["network", "ls", "-q", "--filter", &filter]).lines() {
                docker(&["network", "rm", id]);
            }
        }
        let _ = Command::new("nft").args(["delete", "table", "inet", &self.table]).stderr(Stdio::null()).status();
    }
}

/// Tells scripts/test what to remove if this process is killed.
fn announce(cluster: &str) {
    let Ok(path) = std::env::var("LAPSTRAKE_TEST_CLUSTERS") else { return };
    let mut list = File::options().create(true).append(true).open(path).expect("the list of test clusters");
    writeln!(list, "{cluster}").expect("written");
}

async fn start_agent(controller: &Controller, config: Config) -> Process {
    let token = controller.join_token(serde_json::json!({ "environment": "shop/production" })).await;
    let identity = join_with(&token.token, &token.address, "n1", &config.state_dir).await.expect("joined");
    let owner = Owner { cluster: identity.cluster, node: identity.node };
    let machinery = Machinery {
        runtime: Arc::new(DockerRuntime::new(&config.docker_host, owner).keeping(config.logs.clone())),
        fence: Fence::Nftables(Nft::new(&config.network.nft_table)),
    };
    let agent = Process::start(async move {
        let ended = lapstrake_agent::run_on(config, identity, machinery, CancellationToken::new()).await;
        panic!("the agent has ended by itself: {ended:?}");
    });
    until("the node is ready", || async {
        let seen = controller.client.node("n1").await;
        (seen.liveness == "ready" && seen.capacity.memory_bytes > 0).then_some(())
    })
    .await;
    agent
}

/// One job of the sample service.
fn hello(image: &str, pull: &str) -> String {
    format!(
        "application: shop
services:
  web:
    type: web
    image: {image}
    pull: {pull}
    size: {{ cpu: 0.25, memory: 64MiB, pids: 77 }}
    ports: [{{ port: 8080, protocol: http, path: /, public: true, host: {HOST} }}]
    health: [{{ port: 8080, http: /healthz, interval: 500ms, timeout: 1s, grace: 1s }}]
    deploy: {{ drain: 500ms, stop_grace: 2s, min_healthy: 500ms, timeout: 8s, max_attempts: 2 }}
environments: {{ production: {{}} }}
"
    )
}

/// What a docker command prints; nothing when it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().expect("docker runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Builds the sample's image of this version, with these settings in it; its name.
pub fn image(version: &str, settings: &[&str]) -> String {
    let script = ". scripts/lib.sh; hello_image \"$@\"";
    let output = Command::new("bash")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-c", script, "hello_image", version])
        .args(settings)
        .stderr(Stdio::inherit())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "the image {version} was not built");
    String::from_utf8(output.stdout).expect("a name").trim().to_owned()
}
