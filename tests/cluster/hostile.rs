//! Names and texts that mean harm, through the real interface: refused with a plain sentence, and nothing is changed.

use crate::bench::Controller;
use http::Method;
use lapstrake_core::quote::is_acting;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Texts that do harm where they reach a terminal, a line of a log, a path, a rule of the firewall or a shell.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "../../etc",
        "..",
        "/etc/passwd",
        "a/../../b",
        "a\u{1b}[2Jb",
        "a\r\nSet-Cookie: b",
        "a\nevent: end\ndata: {}\n\n",
        "\u{202e}b",
        "a\0b",
        "\u{9b}31m",
        "$(touch x)",
        "`touch x`",
        "; reboot",
        "\" }; flush ruleset; #",
        "{{7*7}}",
        "%2e%2e%2f",
        "",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(10_000));
    texts
}

/// As it stands in a path of a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            path => BTreeSet::from([path]),
        })
        .collect()
}

#[tokio::test]
async fn a_hostile_name_is_refused_with_a_plain_sentence_and_changes_nothing() {
    let controller = Controller::start().await;
    let [_node] = controller.nodes(["n1"]).await;
    let (before, files) = (controller.stored(), files_below(controller.folder()));
    for text in hostile() {
        let path = encoded(&text);
        let spec = |application: &str, service: &str, image: &str| {
            let service = json!({ service: { "type": "worker", "image": image } });
            json!({ "application": application, "services": service, "environments": { "production": {} } }).to_string()
        };
        let mut asked: Vec<(Method, String, String)> = vec![
            (Method::POST, "/v1/apps".into(), json!({ "name": text }).to_string()),
            (Method::POST, "/v1/envs".into(), json!({ "application": "shop", "name": text }).to_string()),
            (Method::POST, "/v1/envs".into(), json!({ "application": text, "name": "qa" }).to_string()),
            (Method::POST, "/v1/envs/shop/production/nodes".into(), json!({ "node": text }).to_string()),
            (Method::POST, "/v1/nodes/n1/labels".into(), json!({ "set": { &text: "a" } }).to_string()),
            (Method::POST, "/v1/nodes/n1/labels".into(), json!({ "set": { "zone": text } }).to_string()),
            (Method::POST, "/v1/tokens".into(), json!({ "name": text, "role": "viewer" }).to_string()),
            (Method::POST, "/v1/node-tokens".into(), json!({ "node": text }).to_string()),
            (Method::POST, "/v1/node-tokens".into(), json!({ "environment": text }).to_string()),
            (Method::POST, "/v1/apply".into(), spec(&text, "web", "a/b")),
            (Method::POST, "/v1/apply".into(), spec("shop", &text, "a/b")),
            (Method::POST, "/v1/apply".into(), spec("shop", "web", &text)),
            (Method::POST, format!("/v1/apply?env={path}"), spec("shop", "web", "a/b")),
            (Method::GET, format!("/v1/events?after={path}"), String::new()),
        ];
        if !text.is_empty() {
            asked.extend([
                (Method::GET, format!("/v1/nodes/{path}"), String::new()),
                (Method::DELETE, format!("/v1/nodes/{path}"), String::new()),
                (Method::POST, format!("/v1/nodes/{path}/cordon"), String::new()),
                (Method::POST, format!("/v1/quotas/{path}"), json!({ "jobs": 1 }).to_string()),
                (Method::GET, format!("/v1/services/{path}/production/web"), String::new()),
                (Method::GET, format!("/v1/services/shop/{path}/web/logs"), String::new()),
                (Method::GET, format!("/{path}"), String::new()),
            ]);
        }
        for (method, address, body) in asked {
            let what = format!("{method} {} {:.80}", address.escape_debug(), body.escape_debug());
            let answer = controller.client.ask(method, &address, body).await;
            assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
            let status = answer.status;
            let problem = answer.problem(status);
            assert!(!problem.detail.contains(is_acting), "{what}: {:?}", problem.detail);
            for mistake in problem.mistakes {
                let said = mistake.message + &mistake.hint.unwrap_or_default();
                assert!(!said.contains(is_acting), "{what}: {said:?}");
            }
        }
    }
    for reason in ["a\u{1b}[2Jb", "a\nb", "\u{202e}b", "a\0b", &"x".repeat(10_000)] {
        let body = json!({ "reason": reason }).to_string();
        let problem = controller.client.post("/v1/nodes/n1/cordon", body).await.problem(422);
        assert!(!problem.detail.contains(is_acting), "{:?}", problem.detail);
    }
    assert_eq!(controller.stored(), before, "nothing was changed");
    assert_eq!(files_below(controller.folder()), files, "no file came to be");
}
