//! What Prometheus is told, and that the dashboard and the alerts ask for nothing else.

use crate::bench::{Controller, WEB, shop, until};
use lapstrake_agent::config::Config as AgentConfig;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Asks as Prometheus does.
async fn scrape(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).await.expect("somebody listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a text");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    text.to_owned()
}

/// A cluster that tells, and where its controller does.
async fn telling() -> (Controller, std::path::PathBuf) {
    let mut socket = std::path::PathBuf::new();
    let controller = Controller::start_with(|config| {
        socket = config.state_dir.with_file_name("metrics.sock");
        config.metrics_listen = Some(socket.to_str().expect("UTF-8").parse().expect("an endpoint"));
    })
    .await;
    (controller, socket)
}

/// Waits until a daemon tells these lines.
async fn tells(socket: &Path, lines: &[&str]) -> String {
    until(&format!("{lines:?}"), || async {
        let text = scrape(socket).await;
        lines.iter().all(|wanted| text.lines().any(|line| line == *wanted)).then_some(text)
    })
    .await
}

#[tokio::test]
async fn a_cluster_is_told_in_numbers() {
    let (controller, socket) = telling().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    controller.client.get("/v1/services/shop/production/absent").await;
    let text = tells(
        &socket,
        &[
            "lapstrake_controller_sessions 1",
            "lapstrake_controller_nodes{liveness=\"ready\"} 1",
            "lapstrake_controller_nodes{liveness=\"lost\"} 0",
            "lapstrake_controller_deployments{phase=\"complete\"} 1",
            "lapstrake_controller_services{state=\"healthy\"} 1",
            "lapstrake_controller_jobs_healthy 2",
            "lapstrake_controller_commit_failures_total 0",
        ],
    )
    .await;
    let asked =
        "lapstrake_controller_api_requests_total{method=\"GET\",endpoint=\"/v1/services/{app}/{env}/{service}\"";
    assert!(text.contains(&format!("{asked},status=\"404\"}} 1\n")), "{text}");
    assert!(!text.contains("absent") && !text.contains("production"), "no name of anybody's is in it: {text}");

    let text = tells(
        &metrics_of(&node.config),
        &[
            "lapstrake_agent_jobs{phase=\"running\",health=\"healthy\"} 2",
            "lapstrake_agent_session_leased 1",
            "lapstrake_agent_engine_answers 1",
            "lapstrake_agent_engine_call_duration_seconds_count{call=\"run\"} 2",
            "lapstrake_agent_ledger_write_failures_total 0",
        ],
    )
    .await;
    let acknowledged = "lapstrake_agent_route_table_acknowledged_generation";
    assert!(!text.lines().any(|line| line.starts_with(acknowledged)), "without a proxy nobody obeys a table: {text}");
    let checks = text.lines().find_map(|line| line.strip_prefix("lapstrake_agent_checks_total{answer=\"good\"} "));
    assert!(checks.is_some_and(|count| count != "0"), "{text}");
}

fn metrics_of(config: &AgentConfig) -> std::path::PathBuf {
    let endpoint = config.metrics_listen.as_ref().expect("the bench lets its agents tell");
    endpoint.to_string().into()
}

/// All names that a text may be asked for.
fn names(text: &str) -> BTreeSet<String> {
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told = families.flat_map(|family| {
        let (name, kind) = family.split_once(' ').expect("a name and a kind");
        let ends: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        ends.iter().map(move |end| format!("{name}{end}"))
    });
    told.collect()
}

/// The names of ours that a query has.
fn asked(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("lapstrake_"))
}

/// Every `expr` of a dashboard, however deep it lies.
fn queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    serde_json::Value::String(query) if key == "expr" => found.push(query.clone()),
                    other => queries(other, found),
                }
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(path)).expect("a document")
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_only_for_what_the_daemons_tell() {
    let (controller, socket) = telling().await;
    let [node] = controller.nodes(["n1"]).await;
    let told_by_controller = tells(&socket, &["lapstrake_controller_sessions 1"]).await;
    let mut told = names(&told_by_controller);
    told.extend(names(&scrape(&metrics_of(&node.config)).await));
    let folder = tempfile::tempdir().expect("a folder");
    let of_proxy = folder.path().join("metrics.sock");
    let proxy = lapstrake_proxy::Proxy::start(lapstrake_proxy::Config {
        listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0))],
        control_dir: folder.path().join("control"),
        table_file: folder.path().join("routes.json"),
        metrics_listen: Some(of_proxy.to_str().expect("UTF-8").parse().expect("an endpoint")),
        workers: 1,
        ..lapstrake_proxy::Config::default()
    })
    .await
    .expect("a proxy");
    told.extend(names(&scrape(&of_proxy).await));

    let dashboard = serde_json::from_str(&document("grafana/lapstrake.json")).expect("JSON");
    let mut all = Vec::new();
    queries(&dashboard, &mut all);
    assert!(all.len() > 30, "the dashboard's queries were found: {all:?}");
    let rules = document("prometheus/rules.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    all.extend(alerts.map(str::to_owned));
    for query in &all {
        assert!(asked(query).next().is_some(), "{query} asks for nothing of ours");
        for name in asked(query) {
            assert!(told.contains(name), "nobody tells {name}, which is asked for in: {query}");
        }
    }
    proxy.stop().await;
}

#[tokio::test]
async fn numbers_are_told_to_this_machine_only() {
    let wrong = "metrics_listen = \"0.0.0.0:9464\"\n";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("controller.toml");
    std::fs::write(&path, wrong).expect("written");
    let said = lapstrake_controller::config::Config::read(&path).expect_err("refused").to_string();
    assert!(said.contains("line 1") && said.contains("0.0.0.0:9464 is not a loopback address"), "{said}");
    let said = AgentConfig::parse(wrong).expect_err("refused");
    assert!(said.contains("0.0.0.0:9464 is not a loopback address"), "{said}");
}
