//! What a controller tells that strangers have written never acts on the terminal of the person who asked.

mod support;

use lapstrake_api::is_acting;
use serde_json::{Value, json};
use support::{FakeController, lap, run};

/// Texts that do harm where they reach a terminal, a line, a path or a shell as they are.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "../../etc/passwd",
        "a\u{1b}[2Jb",
        "\u{1b}]0;a title\u{7}",
        "\u{1b}[8mhidden\u{1b}[0m",
        "one\r\ntwo\nINFO forged",
        "\u{202e}gnp.exe\u{2066}",
        "a\0b",
        "\u{9b}31m\u{85}\u{7f}\u{8}",
        "\u{200b}\u{feff}\u{e0041}",
        "\u{2028}line\u{2029}",
        "$(touch x)`touch x`",
        "; reboot",
        "\" }; flush ruleset; #",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(10_000));
    texts.push("\u{1b}".repeat(10_000));
    texts
}

/// The same JSON with every text in it replaced, keys of free mappings too.
fn poisoned(value: &Value, text: &str) -> Value {
    match value {
        Value::String(_) => text.into(),
        Value::Array(items) => items.iter().map(|item| poisoned(item, text)).collect(),
        Value::Object(fields) if fields.contains_key("*") => json!({ text: text }),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), poisoned(value, text)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn amount() -> Value {
    json!({ "cpu_milli": 1, "memory_bytes": 1 })
}

fn deployment() -> Value {
    let moment = json!([{ "phase": "", "at_ms": 1 }]);
    json!({
        "id": "", "service": "", "number": 1, "trigger": "", "by": "", "why": "", "image": "", "from": 1, "revision": 1,
        "phase": "", "ended": true, "message": "", "created_ms": 1, "reached": moment,
        "slots": [{ "slot": "", "node": "", "old": "", "new": "", "phase": "", "reached": moment, "stopped_ms": 1,
            "good_ms": 1, "bad_answer": "", "message": "" }],
    })
}

fn job() -> Value {
    json!({
        "id": "", "service": "", "slot": "", "node": "", "revision": 1, "phase": "", "health": "", "attempt": 2, "role": "",
        "message": "", "address": "", "memory_bytes": 1, "cpu_milli": 1,
    })
}

fn service() -> Value {
    json!({
        "path": "", "service_type": "", "type": "", "state": "", "message": "", "image": "", "pinned": "", "revision": 1,
        "scale": 1, "healthy": 1, "routes": [""], "jobs": [job()], "deployment": deployment(),
    })
}

fn node() -> Value {
    json!({
        "name": "", "id": "", "liveness": "", "silent_ms": 1, "version": "", "architecture": "", "labels": { "*": "" },
        "cordon": { "by": "", "reason": "", "since_ms": 1 }, "capacity": amount(), "committed": amount(),
        "used": amount(), "environments": [""], "jobs": 1, "troubles": [""], "joined_ms": 1,
    })
}

/// Every command that shows what was answered, with the address that it asks and an answer whose texts do not matter.
fn commands() -> Vec<(&'static [&'static str], &'static str, Value)> {
    let share = json!({ "asked": 1, "limit": 1 });
    vec![
        (&["app", "ls"], "GET /v1/apps", json!([{ "name": "", "kind": "", "environments": [""], "services": 1 }])),
        (&["env", "ls"], "GET /v1/envs", json!([{ "path": "", "nodes": [""], "services": [""], "max_scale": 1 }])),
        (&["node", "ls"], "GET /v1/nodes", json!([node()])),
        (&["node", "show", "n"], "GET /v1/nodes/n", node()),
        (&["node", "cordon", "n"], "POST /v1/nodes/n/cordon", json!({ "changed": true, "warnings": [""] })),
        (
            &["quota", "ls"],
            "GET /v1/quotas",
            json!([{ "path": "", "services": share, "jobs": share, "cpu_milli": share, "memory_bytes": share }]),
        ),
        (&["ps"], "GET /v1/jobs", json!([job()])),
        (&["status"], "GET /v1/services", json!([service()])),
        (&["status", "a/b/c"], "GET /v1/services/a/b/c", service()),
        (&["deployments", "a/b/c"], "GET /v1/services/a/b/c/deployments", json!([deployment()])),
        (&["deployments", "a/b/c", "1"], "GET /v1/services/a/b/c/deployments/1", deployment()),
        (
            &["events"],
            "GET /v1/events",
            json!([{ "number": 1, "at_ms": 1, "kind": "", "subject": "", "text": "", "by": "" }]),
        ),
        (&["why", "a/b/c"], "GET /v1/services/a/b/c/why", json!({ "path": "", "state": "", "sentences": [""] })),
    ]
}

/// Without the colours that `lap` itself writes.
fn without_colours(text: &str) -> String {
    ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"]
        .iter()
        .fold(text.to_owned(), |text, code| text.replace(code, ""))
}

fn judge(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let acting: Vec<char> =
        without_colours(text).chars().filter(|c| is_acting(*c) && !matches!(c, '\n' | '\t')).collect();
    assert!(acting.is_empty(), "{what} lets {acting:?} through: {text:?}");
}

#[test]
fn no_text_of_an_answer_acts_on_a_terminal_in_any_listing() {
    let controller = FakeController::start();
    for (arguments, address, answer) in commands() {
        for text in hostile() {
            let poisoned = poisoned(&answer, &text).to_string();
            controller.forget().answer(address, 200, poisoned.as_str());
            for colour in ["0", "1"] {
                let mut lap = lap(arguments);
                lap.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token()).env("CLICOLOR_FORCE", colour);
                let output = run(&mut lap);
                judge(&format!("lap {}", arguments.join(" ")), &output.stdout);
                judge(&format!("lap {} (words)", arguments.join(" ")), &output.stderr);
                let shown =
                    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
                assert!(!shown.contains("not understood"), "{arguments:?}: the answer was not read: {shown}");
            }
            // For programs it is the same JSON, in which nothing but an escape stands for a control character.
            let output = controller.lap(&[arguments, &["-o", "json"]].concat());
            let json: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            assert_eq!(json.to_string(), poisoned, "{arguments:?}");
            assert!(output.stdout.iter().all(|byte| *byte >= 0x20 || *byte == b'\n'), "{arguments:?}");
        }
    }
}

#[test]
fn no_refusal_acts_on_a_terminal() {
    let controller = FakeController::start();
    for text in hostile() {
        controller.forget().refuse("GET /v1/apps", 409, &text);
        let output = controller.lap(&["app", "ls"]);
        assert_eq!(support::code(&output), 3);
        judge("a refusal", &output.stderr);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn what_jobs_write_and_what_happens_does_not_act_on_a_terminal_while_it_is_followed() {
    let controller = FakeController::start();
    for text in hostile() {
        let line = json!({ "at_ms": 1, "slot": text, "node": text, "stream": "stdout", "text": text });
        let own = json!({ "at_ms": 1, "slot": text, "node": text, "stream": "lapstrake", "text": text });
        let stream = format!("event: line\ndata: {line}\n\nevent: line\ndata: {own}\n\nevent: end\ndata: {{}}\n\n");
        controller.forget().stream("GET /v1/services/a/b/c/logs?follow=false", &stream);
        let output = controller.lap(&["logs", "a/b/c"]);
        judge("lap logs", &output.stdout);
        judge("lap logs (words)", &output.stderr);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).lines().count(),
            1,
            "a line of a job stays one line: {text:?}"
        );
    }
}
