//! A cluster to test with: a controller, an operator's client, and nodes, each of which can be killed at any instant.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

mod client;
mod controller;
mod node;
mod socket;

pub use client::{Answer, Client, Words};
pub use controller::{Controller, Stored};
pub use node::{Node, id, join_with};
pub use socket::{Heard, Socket, exec};

use lapstrake_api::view;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Longer than anything here takes; a state that is not reached by then never is.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Waits until a question is answered with something. A test that waits in vain says for what.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut question: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "not reached: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A daemon with threads of its own. Dropped, it is gone as if killed: its work stops wherever it stands, its
/// connections are cut, and nothing of it says goodbye.
pub struct Process(Option<Runtime>);

impl Process {
    /// Starts it.
    pub fn start(daemon: impl Future<Output = ()> + Send + 'static) -> Process {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        runtime.spawn(daemon);
        Process(Some(runtime))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One web service of the application `shop` in `production`, quick in everything.
pub fn shop(image: &str, scale: u32) -> String {
    format!(
        "application: shop
services:
  web:
    type: web
    image: {image}
    size: {{ cpu: 0.01, memory: 6MiB }}
    scale: {scale}
    ports: [{{ port: 8080, protocol: http, path: /, public: true, host: shop.test }}]
    health: [{{ port: 8080, http: /healthz, interval: 200ms, timeout: 1s, grace: 500ms, restart_after: 2 }}]
    deploy: {{ drain: 100ms, stop_grace: 1s, min_healthy: 100ms, timeout: 3s, max_attempts: 2 }}
environments: {{ production: {{}} }}
"
    )
}

/// The service of [`shop`].
pub const WEB: &str = "shop/production/web";

/// A cluster with one node on which [`WEB`] runs with so many jobs.
pub async fn with_web(scale: u32) -> (Controller, Node, view::Service) {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", scale)).await;
    controller.client.complete(WEB, 1).await;
    let service = controller.client.until_settled(WEB).await;
    (controller, node, service)
}
