//! `lap setup`, against a controller whose answers are canned and an agent that only says what it was asked.

mod support;

use lapstrake_api::view::{Changes, ServiceChange};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use support::{FakeController, code, lap, lap_at_home, run, stderr, stdout};

fn answer_token(controller: &FakeController, token: &str) {
    let answer = format!(r#"{{"token":"{token}","expires_ms":1,"address":"c:7401"}}"#);
    controller.answer("POST /v1/node-tokens", 201, answer);
}

/// A controller that takes the spec, and the spec.
fn controller(folder: &Path) -> (FakeController, String) {
    let controller = FakeController::start();
    let service = ServiceChange {
        path: "shop/production/web".into(),
        action: "create".into(),
        summary: "is new".into(),
        changes: Vec::new(),
        warnings: Vec::new(),
        release: None,
        deployment: None,
    };
    let changes = Changes { creates_application: None, services: vec![service], warnings: Vec::new(), tag: None };
    let changes = serde_json::to_string(&changes).expect("JSON");
    controller.answer("POST /v1/apply", 200, changes);
    controller.answer("POST /v1/envs/shop/production/nodes", 200, "{}");
    let service = r#"{"path":"shop/production/web","type":"web","state":"healthy","message":"m","image":"i","pinned":null,
        "revision":1,"scale":1,"healthy":1,"routes":["http://web.example/"],"jobs":[],"deployment":null}"#;
    controller.answer("GET /v1/services/shop/production/web", 200, service);
    let file = folder.join("shop.yaml");
    fs::write(&file, "application: shop\n").expect("written");
    (controller, file.to_str().expect("UTF-8").to_owned())
}

/// An agent that writes down its words and the line that it reads and, where it ends well, who it is.
fn agent(folder: &Path, status: u8) {
    let program = folder.join("lapstrake-agent");
    let (words, identity) = (folder.join("words").display().to_string(), folder.join("identity.json"));
    let identity = format!("[ {status} = 0 ] && echo '{IDENTITY}' >{}", identity.display());
    fs::write(&program, format!("#!/bin/sh\nread -r line\necho \"$@ <$line\" >>{words}\n{identity}\nexit {status}\n"))
        .expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
}

const IDENTITY: &str = r#"{"cluster":"1","node":"7","name":"node-1","controller":"c:7401"}"#;

fn told(folder: &Path) -> String {
    fs::read_to_string(folder.join("words")).unwrap_or_default()
}

fn set_up(controller: &FakeController, path: &Path, words: &[&str]) -> std::process::Output {
    let state = path.to_str().expect("UTF-8");
    let words: Vec<&str> = ["setup", "--agent-state", state].iter().chain(words).copied().collect();
    run(lap(&words).env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token()).env("PATH", path))
}

/// A node that is called node-1.
fn nodes(id: &str, liveness: &str) -> String {
    format!(
        r#"[{{"name":"node-1","id":"{id}","liveness":"{liveness}","silent_ms":0,"version":"0.1.0","architecture":"amd64",
        "capacity":{{"cpu_milli":1,"memory_bytes":1}},"committed":{{"cpu_milli":0,"memory_bytes":0}},
        "used":{{"cpu_milli":0,"memory_bytes":0}},"environments":[],"jobs":0,"troubles":[],"joined_ms":1}}]"#
    )
}

const ATTACH: &str = "POST /v1/envs/shop/production/nodes";

fn lines(controller: &FakeController) -> Vec<String> {
    controller.asked().into_iter().map(|asked| asked.line).collect()
}

#[test]
fn setup_applies_joins_gives_the_node_to_the_specs_environments_and_says_where_they_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (controller, file) = controller(folder.path());
    let token = controller.join_token();
    answer_token(&controller, &token);
    agent(folder.path(), 0);
    let output = set_up(&controller, folder.path(), &["-f", &file, "--name", "node-1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(told(folder.path()), format!("join - --name=node-1 --controller=c:7401 <{token}\n"));
    let order = ["POST /v1/apply", "POST /v1/node-tokens", "POST /v1/envs/shop/production/nodes"];
    assert_eq!(lines(&controller)[..3], order);
    let asked = controller.asked();
    assert!(asked[1].body.contains(r#""node":"node-1""#), "the token is for this name: {}", asked[1].body);
    assert!(stdout(&output).contains("shop/production/web answers at http://web.example/"), "{}", stdout(&output));
    assert!(stderr(&output).contains("==> lap env attach-node shop/production node-1"), "{}", stderr(&output));
}

#[test]
fn a_machine_that_is_a_node_already_does_not_join_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (controller, file) = controller(folder.path());
    fs::write(folder.path().join("identity.json"), IDENTITY).expect("written");
    controller.answer("GET /v1/nodes", 200, nodes("7", "lost"));
    agent(folder.path(), 0);
    let output = set_up(&controller, folder.path(), &["-f", &file]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(told(folder.path()), "");
    assert!(stderr(&output).contains("its agent is not heard"), "{}", stderr(&output));
    assert!(lines(&controller).contains(&ATTACH.to_owned()), "it is given to them all the same");
}

#[test]
fn another_machine_of_the_same_name_is_not_taken_for_this_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (controller, file) = controller(folder.path());
    fs::write(folder.path().join("identity.json"), IDENTITY).expect("written");
    controller.answer("GET /v1/nodes", 200, nodes("8", "ready"));
    agent(folder.path(), 0);
    let output = set_up(&controller, folder.path(), &["-f", &file]);
    assert_eq!((code(&output), told(folder.path())), (3, String::new()), "{}", stderr(&output));
    assert!(!lines(&controller).contains(&ATTACH.to_owned()));
}

#[test]
fn setup_ends_where_the_agent_cannot_join() {
    let folder = tempfile::tempdir().expect("a folder");
    let (controller, file) = controller(folder.path());
    answer_token(&controller, &controller.join_token());
    agent(folder.path(), 7);
    let output = set_up(&controller, folder.path(), &["-f", &file, "--name", "node-1"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("the agent did not join"), "{}", stderr(&output));
    assert!(!lines(&controller).contains(&ATTACH.to_owned()));

    let nobody = tempfile::tempdir().expect("a folder");
    let output = set_up(&controller, nobody.path(), &["-f", &file, "--name", "node-1"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("lapstrake-agent cannot be started"), "{}", stderr(&output));
}

#[test]
fn what_is_no_token_is_not_given_to_the_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (controller, file) = controller(folder.path());
    answer_token(&controller, "--config=/tmp/other");
    agent(folder.path(), 0);
    let output = set_up(&controller, folder.path(), &["-f", &file, "--name", "node-1"]);
    assert_eq!((code(&output), told(folder.path())), (1, String::new()));
    assert!(stderr(&output).contains("no join token"), "{}", stderr(&output));
}

#[test]
fn a_spec_with_a_mistake_makes_no_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, file) = controller(folder.path());
    let controller = FakeController::start();
    controller.refuse("POST /v1/apply", 422, "the spec has a mistake");
    agent(folder.path(), 0);
    let output = set_up(&controller, folder.path(), &["-f", &file, "--name", "node-1"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_eq!(told(folder.path()), "");
    assert_eq!(lines(&controller), ["POST /v1/apply"]);
}

#[test]
fn where_no_controller_is_setup_says_for_whom_it_is() {
    // A machine that runs a controller would be logged in to that one.
    if Path::new("/var/lib/lapstrake/controller/operator.token").exists() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (_, file) = controller(folder.path());
    let output = run(&mut lap_at_home(folder.path(), &["setup", "-f", &file]));
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("for root on the controller's machine"), "{}", stderr(&output));
}
