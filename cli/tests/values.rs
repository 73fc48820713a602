//! Secrets and variables as a person and a script meet them, against a controller whose answers are canned.

mod support;

use lapstrake_api::is_acting;
use lapstrake_api::view::Value;
use std::io::Write as _;
use std::process::{Output, Stdio};
use support::{FakeController, code, lap, stderr, stdout};

const SECRET: &str = "a-planted-secret";
const NOTED: &str = r#"{"changed":true,"warnings":[]}"#;

/// `lap` with this on its stdin.
fn lap_reading(controller: &FakeController, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = lap(arguments);
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("lap runs");
    // A command line that is wrong is refused before anything is read, and then nobody is there to take this.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin);
    child.wait_with_output().expect("lap ends")
}

fn value(kind: &str, name: &str) -> Value {
    Value {
        kind: kind.into(),
        name: name.into(),
        origin: "own".into(),
        of: Some("shop/production".into()),
        value: None,
        version: Some(3),
        changed_ms: Some(1_000),
        by: Some("ada".into()),
        not_deployed: Vec::new(),
        trouble: None,
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// One that takes values and lists these.
fn taking(query: &str, listed: &[Value]) -> FakeController {
    let controller = FakeController::start();
    controller.answer("POST /v1/values", 200, NOTED).answer(&format!("GET /v1/values{query}"), 200, json(&listed));
    controller
}

fn sent(controller: &FakeController) -> serde_json::Value {
    let asked = controller.asked();
    let post = asked.iter().find(|asked| asked.line == "POST /v1/values").expect("it was sent");
    serde_json::from_str(&post.body).expect("JSON")
}

#[test]
fn a_secret_is_read_from_stdin_or_a_file_and_loses_one_line_feed_at_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{SECRET}\n\n")).expect("written");
    let file = file.to_str().expect("UTF-8");
    let line = format!("{SECRET}\n");
    let two = format!("{SECRET}\n\n");
    for (more, stdin, expected) in [
        (&[][..], SECRET, SECRET),
        (&[], &line, SECRET),
        (&["--keep-newline"], &line, &line),
        (&["--from-file", file], "", &line),
        (&["--from-file", "-"], &two, &line),
        (&["--from-file", file, "--keep-newline"], "", &two),
    ] {
        let controller = taking("?of=shop/production&kind=secret", &[]);
        let arguments = [&["secret", "set", "shop/production", "api-key"], more].concat();
        let output = lap_reading(&controller, &arguments, stdin.as_bytes());
        assert_eq!(code(&output), 0, "{more:?}: {}", stderr(&output));
        let ask = serde_json::json!(
            { "of": "shop/production", "kind": "secret", "name": "api-key", "value": expected, "user": null }
        );
        assert_eq!(sent(&controller), ask, "{more:?}");
        assert_eq!(stderr(&output), "set the secret api-key of shop/production\n");
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_with_the_reason_and_repeated_nowhere() {
    let controller = FakeController::start();
    let pair = format!("api-key={SECRET}");
    for arguments in [
        &["secret", "set", "shop", "api-key", SECRET][..],
        &["secret", "set", "shop", &pair],
        &["secret", "set", "--organization", "api-key", SECRET],
        &["secret", "set", "shop", "--registry", "registry.example.com", "--user", "ci", SECRET],
    ] {
        let output = lap_reading(&controller, arguments, b"other");
        assert_eq!(code(&output), 2, "{arguments:?}");
        let said = stderr(&output);
        assert!(!said.contains(SECRET), "{said}");
        assert!(said.contains("history") || arguments.contains(&"--registry"), "{said}");
    }
    assert!(controller.asked().is_empty());
}

#[test]
fn what_cannot_be_a_secret_is_refused_before_it_is_sent() {
    let controller = FakeController::start();
    let long = "x".repeat((32 << 10) + 1);
    for (stdin, why) in [(&b""[..], "empty"), (b"\n", "empty"), (&[0xff, 0xfe], "UTF-8"), (long.as_bytes(), "32 KiB")] {
        let output = lap_reading(&controller, &["secret", "set", "shop", "api-key"], stdin);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
    for arguments in [
        &["secret", "set"][..],
        &["secret", "set", "shop"],
        &["secret", "set", "--organization"],
        &["secret", "set", "shop", "Api_Key"],
        &["secret", "set", "shop/../x", "api-key"],
        &["secret", "set", "a/b/c/d", "api-key"],
        &["secret", "set", "shop", "--registry", "registry.example.com"],
        &["secret", "set", "shop", "--registry", "registry/x", "--user", "ci"],
        &["secret", "set", "shop", "api-key", "--user", "ci"],
        &["secret", "ls"],
        &["secret", "ls", "shop", "--organization"],
        &["secret", "rm", "shop"],
        &["secret", "rm", "shop", "../nodes"],
        &["secret", "rm", "shop", "a", "b"],
        &["var", "set", "shop"],
        &["var", "set", "shop", "A"],
        &["var", "set", "shop", "A=1", "A=2"],
        &["var", "set", "shop", "1A=1"],
        &["var", "set", "shop", "LAPSTRAKE_SLOT=web.1"],
        &["var", "rm", "shop"],
        &["var", "rm", "shop", "A", "a/b"],
        &["var", "ls", "node/worker-1/x/y"],
    ] {
        let output = lap_reading(&controller, arguments, SECRET.as_bytes());
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
    }
    assert!(controller.asked().is_empty(), "{:?}", controller.asked());
}

#[test]
fn the_password_for_a_registry_is_set_with_its_user() {
    let controller = taking("?of=shop&kind=registry", &[]);
    let arguments = ["secret", "set", "shop", "--registry", "registry.example.com:5000", "--user", "ci"];
    let output = lap_reading(&controller, &arguments, b"password\n");
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let ask = serde_json::json!({
        "of": "shop", "kind": "registry", "name": "registry.example.com:5000", "value": "password", "user": "ci",
    });
    assert_eq!(sent(&controller), ask);
    assert!(stderr(&output).contains("set the credentials for the registry registry.example.com:5000 of shop"));
}

#[test]
fn whoever_sets_a_value_is_told_which_command_deploys_it() {
    let mut key = value("secret", "api-key");
    key.not_deployed = vec!["shop/production/web".into()];
    let mut other = value("secret", "other");
    other.not_deployed = vec!["shop/production/mailer".into()];
    let controller = taking("?of=shop/production&kind=secret", &[key, other]);
    let output = lap_reading(&controller, &["secret", "set", "shop/production", "api-key"], SECRET.as_bytes());
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.ends_with("not deployed yet; `lap redeploy shop/production/web` deploys it\n"), "{said}");

    let mut region = value("variable", "REGION");
    region.not_deployed = ["a", "b", "c", "d", "e", "f"].map(|name| format!("shop/production/{name}")).into();
    let controller = taking("?kind=variable", &[region]);
    let output = controller.lap(&["var", "set", "--organization", "REGION=eu"]);
    let said = stderr(&output);
    assert!(said.contains("`lap redeploy shop/production/a && lap redeploy shop/production/b && "), "{said}");
    assert!(said.ends_with("and so on for 2 more services\n"), "{said}");
}

#[test]
fn a_value_is_set_though_nobody_answers_what_is_not_deployed() {
    let controller = FakeController::start();
    controller.answer(
        "POST /v1/values",
        200,
        r#"{"changed":true,"warnings":["the spec of shop/production/web has one"]}"#,
    );
    controller.refuse("GET /v1/values?of=shop&kind=variable", 403, "not for this token");
    let output = controller.lap(&["var", "set", "shop", "REGION=eu"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for said in ["set the variable REGION of shop", "warning: the spec of", "it is set", "not for this token"] {
        assert!(stderr(&output).contains(said), "{said} is not in {}", stderr(&output));
    }
}

#[test]
fn several_variables_are_set_each_with_all_that_follows_its_first_equals_sign() {
    let controller = taking("?of=shop/production/web&kind=variable", &[]);
    let output = controller.lap(&["var", "set", "shop/production/web", "URL=a=b c", "EMPTY="]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let bodies: Vec<serde_json::Value> = controller
        .asked()
        .iter()
        .filter(|asked| asked.line.starts_with("POST"))
        .map(|asked| serde_json::from_str(&asked.body).expect("JSON"))
        .collect();
    let told: Vec<(&str, &str)> = bodies
        .iter()
        .map(|body| (body["name"].as_str().expect("text"), body["value"].as_str().expect("text")))
        .collect();
    assert_eq!(told, [("URL", "a=b c"), ("EMPTY", "")]);
}

#[test]
fn a_secret_among_the_arguments_is_repeated_nowhere_whatever_place_it_has() {
    let controller = FakeController::start();
    for arguments in [
        &["secret", "set", "API_KEY=hunter2-hunter2"][..],
        &["secret", "set", "shop/production/api-key=hunter2-hunter2"],
        &["secret", "set", "shop", "hunter2-hunter2!"],
        &["secret", "set", "shop", "api-key", "hunter2-hunter2"],
        &["secret", "set", "--organization", "HUNTER2-hunter2-hunter2"],
    ] {
        let output = lap_reading(&controller, arguments, b"x");
        assert_eq!(code(&output), 2, "{arguments:?}");
        let said = format!("{}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!said.contains("hunter2-hunter2"), "{arguments:?}: {said}");
    }
    assert!(controller.asked().is_empty(), "{:?}", controller.asked());
}

#[test]
fn every_mistake_in_a_list_of_variables_is_told_at_once_and_none_of_them_is_set() {
    let controller = FakeController::start();
    let output = controller.lap(&["var", "set", "shop", "GOOD=1", "9A=2", "NOTHING", "LAPSTRAKE_X=3", "GOOD=4"]);
    assert_eq!(code(&output), 2);
    let said = stderr(&output);
    for mistake in
        ["\"9A\" is no name", "`NOTHING` has no value", "\"LAPSTRAKE_X\" is given by", "`GOOD` is given twice"]
    {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
    assert!(controller.asked().is_empty(), "{:?}", controller.asked());
}

#[test]
fn a_listing_shows_where_each_comes_from_and_whether_jobs_have_it() {
    let mut inherited = value("secret", "database");
    (inherited.origin, inherited.of) = ("inherited".into(), Some(String::new()));
    inherited.not_deployed = vec!["shop/production/web".into(), "shop/production/worker".into()];
    let mut broken = value("secret", "tls-key");
    broken.trouble = Some("it was altered".into());
    let controller = FakeController::start();
    let secrets = [value("secret", "api-key"), inherited, broken];
    controller.answer("GET /v1/values?of=shop/production&kind=secret", 200, json(&secrets)).answer(
        "GET /v1/values?of=shop/production&kind=registry",
        200,
        json(&[value("registry", "localhost:5000")]),
    );
    let output = controller.lap(&["secret", "ls", "shop/production"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = stdout(&output);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "KIND", "ORIGIN", "VERSION", "SET", "STATE"]);
    assert_eq!(lines[1][..4], ["api-key", "secret", "own", "v3"]);
    assert!(lines[1].ends_with(&["by", "ada", "deployed"]), "{shown}");
    assert!(lines[2].ends_with(&["not", "deployed:", "web,", "worker"]), "{shown}");
    assert!(shown.contains("inherited from the organization"), "{shown}");
    assert!(lines[3].ends_with(&["it", "was", "altered"]), "{shown}");
    assert_eq!(lines[4][..2], ["localhost:5000", "registry"]);
    let output = controller.lap(&["secret", "ls", "shop/production", "-o", "json"]);
    let all: Vec<Value> = serde_json::from_str(&stdout(&output)).expect("one list");
    assert_eq!(all.len(), 4);

    let mut own = value("variable", "REGION");
    (own.value, own.not_deployed) = (Some("eu".into()), vec!["shop/production/web".into()]);
    let unset = |name: &str, origin: &str, said: &str| Value {
        origin: origin.into(),
        of: None,
        value: Some(said.into()),
        version: None,
        changed_ms: None,
        by: None,
        ..value("variable", name)
    };
    let variables = [unset("LAPSTRAKE_SLOT", "automatic", "web.1"), unset("LOG_LEVEL", "spec", "info"), own];
    controller.answer("GET /v1/values?of=shop/production/web&kind=variable", 200, json(&variables));
    let shown = stdout(&controller.lap(&["var", "ls", "shop/production/web"]));
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "VALUE", "ORIGIN", "VERSION", "SET", "STATE"]);
    assert_eq!(lines[1], ["LAPSTRAKE_SLOT", "web.1", "automatic"]);
    assert_eq!(lines[2], ["LOG_LEVEL", "info", "spec"]);
    assert_eq!(lines[3][..4], ["REGION", "eu", "own", "v3"]);
    assert!(lines[3].ends_with(&["not", "deployed"]), "of the service itself no name is needed: {shown}");
}

#[test]
fn an_empty_listing_says_how_to_set_one() {
    let controller = FakeController::start();
    controller.answer("GET /v1/values?kind=secret", 200, "[]").answer("GET /v1/values?kind=registry", 200, "[]");
    let output = controller.lap(&["secret", "ls", "--organization"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, ""));
    assert!(stderr(&output).contains("the organization has none; `lap secret set --organization NAME`"));
    let output = controller.lap(&["secret", "ls", "--organization", "-o", "json"]);
    assert_eq!(stdout(&output), "[]\n");
}

#[test]
fn values_are_removed_by_kind_and_name_where_they_belong() {
    let controller = FakeController::start();
    for line in [
        "DELETE /v1/values/secret/api-key?of=shop",
        "DELETE /v1/values/registry/%5B::1%5D:5000",
        "DELETE /v1/values/variable/A?of=shop/production",
        "DELETE /v1/values/variable/B?of=shop/production",
    ] {
        controller.answer(line, 200, NOTED);
    }
    for arguments in [
        &["secret", "rm", "shop", "api-key"][..],
        &["secret", "rm", "--organization", "--registry", "[::1]:5000"],
        &["var", "rm", "shop/production", "A", "B"],
    ] {
        let output = controller.lap(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("removed the "), "{}", stderr(&output));
    }
    controller.refuse("DELETE /v1/values/secret/used?of=shop", 409, "the secret used is named by the spec of a/b/c");
    assert_eq!(code(&controller.lap(&["secret", "rm", "shop", "used"])), 3);
}

#[test]
fn a_new_master_key_is_named_and_so_is_what_could_not_be_opened() {
    let controller = FakeController::start();
    let key = r#"{"key":"5f0c","resealed":12,"left":["the secret a of shop"]}"#;
    controller.answer("POST /v1/values/key", 200, key);
    let output = controller.lap(&["secret", "rotate-key"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "5f0c\n"), "{}", stderr(&output));
    assert!(stderr(&output).contains("12 versions"), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: the secret a of shop cannot be opened"), "{}", stderr(&output));
}

#[test]
fn no_text_of_a_value_acts_on_a_terminal() {
    let hostile = "a\u{1b}[2J\r\n\u{202e}b\u{9b}31m";
    let listed = Value {
        kind: hostile.into(),
        name: "api-key".into(),
        origin: hostile.into(),
        of: Some(hostile.into()),
        value: Some(hostile.into()),
        by: Some(hostile.into()),
        not_deployed: vec![hostile.into()],
        ..value("secret", "api-key")
    };
    let troubled = Value { trouble: Some(hostile.into()), origin: "inherited".into(), ..listed.clone() };
    let controller = taking("?of=shop&kind=secret", &[listed, troubled]);
    controller.answer("GET /v1/values?of=shop&kind=registry", 200, "[]");
    controller.answer(
        "POST /v1/values/key",
        200,
        json(&serde_json::json!({ "key": hostile, "resealed": 1, "left": [hostile] })),
    );
    for arguments in [&["secret", "ls", "shop"][..], &["secret", "set", "shop", "api-key"], &["secret", "rotate-key"]] {
        let output = lap_reading(&controller, arguments, SECRET.as_bytes());
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        for text in [stdout(&output), stderr(&output)] {
            assert!(!text.contains(|c: char| is_acting(c) && c != '\n'), "{arguments:?}: {text:?}");
            assert!(!text.contains(SECRET));
        }
    }
}
