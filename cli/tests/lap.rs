//! `lap` as a person and a script meet it, against a controller whose answers are canned.

mod support;

use lapstrake_api::view::{Changes, Deployment, Mistake, Moment, Problem, ServiceChange, SlotTimeline};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use support::{FakeController, code, lap, lap_at_home, run, stderr, stdout};

const VERSION: &str = r#"{"version":"0.1.0","cluster":"c","organization":"home"}"#;

fn deployment(phase: &str, message: Option<&str>) -> Deployment {
    let at = |phase: &str, at_ms| Moment { phase: phase.into(), at_ms };
    let ended = matches!(phase, "complete" | "failed" | "superseded");
    let mut slot = vec![at("accepted", 1_100), at("starting", 1_200), at("ready", 3_000), at("switched", 3_100)];
    slot.push(at("overlapping", 3_100));
    if ended {
        slot.extend([at("draining", 8_100), at("done", 8_500)]);
    }
    Deployment {
        id: "1".into(),
        service: "shop/production/web".into(),
        number: 2,
        trigger: "deploy".into(),
        by: "admin".into(),
        why: "deploy".into(),
        image: "web:2".into(),
        from: Some(1),
        revision: Some(2),
        strategy: "rolling".into(),
        canary: None,
        phase: phase.into(),
        ended,
        message: message.map(str::to_owned),
        created_ms: 1_000,
        reached: vec![at("queued", 1_000), at("rolling", 1_050), at(phase, 8_600)],
        slots: vec![SlotTimeline {
            slot: "web.1".into(),
            node: "node-a".into(),
            old: Some("o".into()),
            new: Some("n".into()),
            phase: if ended { "done".into() } else { "overlapping".into() },
            reached: slot,
            stopped_ms: ended.then_some(8_200),
            good_ms: None,
            bad_answer: None,
            message: None,
        }],
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

#[test]
fn login_checks_controller_and_token_and_stores_them_for_their_owner_alone() {
    let controller = FakeController::start();
    controller.answer("GET /v1/version", 200, VERSION).answer("GET /v1/apps", 200, "[]");
    let home = tempfile::tempdir().expect("a folder");
    let token = controller.token();
    let output = run(&mut lap_at_home(home.path(), &["login", &controller.url(), &token]));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!stderr(&output).contains(&token) && !stdout(&output).contains(&token));
    let asked: Vec<String> = controller.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked, ["GET /v1/version", "GET /v1/apps"], "the second needs the token");
    let file = home.path().join("lapstrake/lap.toml");
    assert_eq!(fs::metadata(&file).expect("stored").permissions().mode() & 0o777, 0o600);

    let output = run(&mut lap_at_home(home.path(), &["app", "ls", "-o", "json"]));
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "[]\n"), "the stored context is used");
    let shown = run(&mut lap_at_home(home.path(), &["context", "ls", "-o", "json"]));
    assert!(stdout(&shown).contains(&controller.url()) && !stdout(&shown).contains(&token));
}

#[test]
fn login_with_a_token_that_the_controller_does_not_know_stores_nothing() {
    let controller = FakeController::start();
    controller.answer("GET /v1/version", 200, VERSION).refuse(
        "GET /v1/apps",
        401,
        "this controller does not know the token",
    );
    let home = tempfile::tempdir().expect("a folder");
    let output = run(&mut lap_at_home(home.path(), &["login", &controller.url(), &controller.token()]));
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("does not know the token"), "{}", stderr(&output));
    assert!(!home.path().join("lapstrake").exists());
}

#[test]
fn another_authority_is_refused_before_the_token_is_sent() {
    let (ours, other) = (FakeController::start(), FakeController::start());
    let output = run(lap(&["app", "ls"]).env("LAP_URL", other.url()).env("LAP_TOKEN", ours.token()));
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("another certificate authority"), "{}", stderr(&output));
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[test]
fn a_token_is_sent_to_its_own_controller() {
    let controller = FakeController::start();
    controller.answer("GET /v1/apps", 200, "[]");
    let token = controller.token();
    let output = run(lap(&["app", "ls"]).env("LAP_URL", controller.url()).env("LAP_TOKEN", &token));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(controller.asked()[0].token, Some(token));
}

#[test]
fn every_kind_of_refusal_has_its_exit_code_and_its_sentence() {
    for (status, expected) in [(400, 2), (413, 2), (422, 2), (401, 3), (403, 3), (404, 3), (409, 3), (500, 1), (503, 1)]
    {
        let controller = FakeController::start();
        controller.refuse("DELETE /v1/nodes/worker-1", status, "jobs of shop/production/web run on worker-1");
        let output = controller.lap(&["node", "rm", "worker-1"]);
        assert_eq!(code(&output), expected, "{status}");
        assert!(stderr(&output).contains("run on worker-1"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
}

#[test]
fn a_controller_that_is_not_there_is_a_failure_that_says_what_to_do() {
    let controller = FakeController::start();
    let (url, token) = (controller.url(), controller.token());
    drop(controller);
    let output = run(lap(&["app", "ls"]).env("LAP_URL", url).env("LAP_TOKEN", token));
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("does it run there?"), "{}", stderr(&output));
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_refusal() {
    let no_context = run(&mut lap(&["app", "ls"]));
    assert_eq!(code(&no_context), 2);
    assert!(stderr(&no_context).contains("lap login"), "{}", stderr(&no_context));
    let controller = FakeController::start();
    for wrong in [&["deploy", "shop/web", "--image", "x"][..], &["frobnicate"], &["status", "a/../b"], &["rm", "a/b/c"]]
    {
        assert_eq!(code(&controller.lap(wrong)), 2, "{wrong:?}");
    }
    let altered = controller.token().replace("lapo1_0", "lapo1_1");
    let output = run(lap(&["app", "ls"]).env("LAP_URL", controller.url()).env("LAP_TOKEN", altered));
    assert_eq!(code(&output), 2);
    assert!(controller.asked().is_empty());
}

#[test]
fn json_is_passed_on_as_the_controller_said_it() {
    let controller = FakeController::start();
    let body = r#"[{"zeta":1,"a field of a later version":[true]}]"#;
    controller.answer("GET /v1/services?below=shop", 200, body);
    let output = controller.lap(&["status", "shop", "-o", "json"]);
    assert_eq!((code(&output), stdout(&output)), (0, format!("{body}\n")));
}

#[test]
fn all_mistakes_of_a_spec_are_drawn_over_the_persons_own_file() {
    let controller = FakeController::start();
    let mistake = |line, column, width, message: &str, hint: &str| Mistake {
        line,
        column,
        width,
        message: message.into(),
        hint: Some(hint.into()),
    };
    let problem = Problem {
        type_uri: "about:blank".into(),
        title: String::new(),
        status: 422,
        detail: "the spec has 2 mistakes; nothing was changed".into(),
        instance: String::new(),
        mistakes: vec![
            mistake(3, 3, 4, "`sacle` is no field", "write `scale`"),
            mistake(2, 3, 4, "`imag` is no field", "write `image`"),
        ],
    };
    controller.answer("POST /v1/apply?env=production", 422, json(&problem));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.yaml");
    fs::write(&file, "web:\n  imag: x\n  sacle: 2\n").expect("written");
    let output = controller.lap(&["apply", "-f", file.to_str().expect("UTF-8"), "--env", "production"]);
    assert_eq!(code(&output), 2);
    let words = stderr(&output);
    for drawn in
        ["shop.yaml:3:3", "3 |   sacle: 2", "= write `scale`", "2 |   imag: x", "2 mistakes; nothing was changed"]
    {
        assert!(words.contains(drawn), "{drawn} is missing in {words}");
    }
    assert_eq!(controller.asked()[0].body, "web:\n  imag: x\n  sacle: 2\n", "the text itself is sent");
}

#[test]
fn waiting_tells_each_phase_and_ends_with_the_timeline() {
    let controller = FakeController::start();
    let at = "GET /v1/services/shop/production/web/deployments/2";
    controller.answer("POST /v1/services/shop/production/web/deploy", 202, json(&deployment("rolling", None)));
    controller.answer(at, 200, json(&deployment("rolling", None)));
    // The controller starts again in the middle.
    controller.refuse(at, 503, "it starts");
    controller.answer(at, 200, json(&deployment("complete", None)));
    let output = controller.lap(&["deploy", "shop/production/web", "--image", "web:2", "--wait"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let words = stderr(&output);
    assert_eq!(words.matches("web.1 on node-a is ready").count(), 1, "{words}");
    assert!(words.contains("the nodes go on by themselves") && words.contains("answers again"), "{words}");
    assert!(!words.contains('\x1b'), "nothing is redrawn where no terminal is");
    let story = stdout(&output);
    assert!(story.contains("SWITCHED") && story.contains('▓'), "{story}");
    assert!(story.ends_with("deployment 2 of shop/production/web is complete after 7.6 s; r2 runs\n"), "{story}");
}

#[test]
fn a_deployment_that_failed_says_why_and_one_that_takes_too_long_goes_on() {
    let controller = FakeController::start();
    let at = "GET /v1/services/shop/production/web/deployments/2";
    controller.answer("POST /v1/services/shop/production/web/redeploy", 202, json(&deployment("rolling", None)));
    let why = "web.1 on node-a: the process exited with code 7";
    controller.answer(at, 200, json(&deployment("failed", Some(why))));
    let output = controller.lap(&["redeploy", "shop/production/web", "--wait", "-o", "json"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains(why) && stderr(&output).contains("r1 serves on"), "{}", stderr(&output));
    let told: Deployment = serde_json::from_str(&stdout(&output)).expect("the deployment as JSON");
    assert_eq!(told.phase, "failed");

    let slow = FakeController::start();
    slow.answer("POST /v1/services/shop/production/web/redeploy", 202, json(&deployment("rolling", None)));
    slow.answer(at, 200, json(&deployment("rolling", Some("node-a is slow"))));
    let output = slow.lap(&["redeploy", "shop/production/web", "--wait", "--timeout", "300ms"]);
    assert_eq!(code(&output), 4);
    assert!(stderr(&output).contains("node-a is slow") && stderr(&output).contains("goes on"), "{}", stderr(&output));
}

#[test]
fn apply_waits_for_every_deployment_that_it_began() {
    let controller = FakeController::start();
    let service = |path: &str, deployment| ServiceChange {
        path: path.into(),
        action: "create".into(),
        summary: "is new".into(),
        release: None,
        changes: Vec::new(),
        warnings: Vec::new(),
        deployment,
    };
    let services = vec![service("shop/production/mailer", None), service("shop/production/web", Some(2))];
    let changes = Changes { creates_application: None, services, warnings: Vec::new(), tag: None };
    controller.answer("POST /v1/apply", 200, json(&changes));
    controller.answer("GET /v1/services/shop/production/web/deployments/2", 200, json(&deployment("complete", None)));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.yaml");
    fs::write(&file, "application: shop\n").expect("written");
    let output = controller.lap(&["apply", "-f", file.to_str().expect("UTF-8"), "--wait", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let story = stdout(&output);
    let lines: Vec<&str> = story.lines().collect();
    assert_eq!(lines.len(), 2, "what was applied, then each deployment: {story}");
    serde_json::from_str::<Changes>(lines[0]).expect("the changes");
    serde_json::from_str::<Deployment>(lines[1]).expect("the deployment");
}

#[test]
fn a_deployment_is_shown_as_a_controller_of_the_version_before_tells_it() {
    let controller = FakeController::start();
    let mut told = serde_json::to_value(deployment("complete", None)).expect("JSON");
    for added in ["strategy", "canary"] {
        told.as_object_mut().expect("an object").remove(added).expect(added);
    }
    controller.answer("GET /v1/services/shop/production/web/deployments/2", 200, told.to_string());
    let output = controller.lap(&["deployments", "shop/production/web", "2"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("web.1"), "{}", stdout(&output));
}

#[test]
fn following_events_goes_on_after_the_last_that_was_seen() {
    let controller = FakeController::start();
    let event = |number: u64| {
        let json = format!(
            r#"{{"number":{number},"at_ms":1000,"kind":"deployment","subject":"shop","text":"no. {number}","by":null}}"#
        );
        format!("id: {number}\nevent: deployment\ndata: {json}\n\n")
    };
    let at = "GET /v1/events?follow=true&below=shop";
    controller.stream(at, &format!("{}{}", event(7), event(8)));
    controller.stream(at, &event(9));
    // A controller that is another one by now ends the test: that will not pass.
    controller.refuse(at, 403, "enough");
    let output = controller.lap(&["events", "-f", "shop", "-o", "json"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let numbers: Vec<u64> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<lapstrake_api::view::Event>(line).expect("one event a line").number)
        .collect();
    assert_eq!(numbers, [7, 8, 9]);
    let resumed: Vec<Option<String>> = controller.asked().into_iter().map(|asked| asked.last_event_id).collect();
    assert_eq!(resumed, [None, Some("8".into()), Some("9".into())]);
}

#[test]
fn a_log_that_breaks_off_is_not_taken_for_a_whole_one() {
    let controller = FakeController::start();
    let line = r#"{"at_ms":1,"slot":"web.1","node":"n","stream":"stdout","text":"hello"}"#;
    let at = "GET /v1/services/shop/production/web/logs?follow=false&tail=5";
    controller.stream(at, &format!("event: line\ndata: {line}\n\nevent: end\ndata: {{}}\n\n"));
    controller.stream(at, &format!("event: line\ndata: {line}\n\n"));
    let whole = controller.lap(&["logs", "--tail", "5", "shop/production/web"]);
    assert_eq!((code(&whole), stdout(&whole).as_str()), (0, "web.1 n | hello\n"));
    let broken = controller.lap(&["logs", "--tail", "5", "shop/production/web"]);
    assert_eq!((code(&broken), stdout(&broken).as_str()), (1, "web.1 n | hello\n"));
}

#[test]
fn a_token_for_a_node_stands_alone_on_stdout() {
    let controller = FakeController::start();
    let body = r#"{"token":"lapj1_x","expires_ms":0,"address":"controller:7401"}"#;
    controller.answer("POST /v1/node-tokens", 201, body);
    let arguments =
        ["node", "token", "create", "--ttl", "10m", "--env", "shop/production", "--name", "w1", "--cidr", "10.0.0.0/8"];
    let output = controller.lap(&arguments);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "lapj1_x\n"));
    assert!(stderr(&output).contains("lapstrake-agent join TOKEN --controller controller:7401"));
    let asked: serde_json::Value = serde_json::from_str(&controller.asked()[0].body).expect("JSON");
    let expected =
        serde_json::json!({ "ttl_seconds": 600, "node": "w1", "environment": "shop/production", "cidr": "10.0.0.0/8" });
    assert_eq!(asked, expected);
}

#[test]
fn version_says_ours_and_the_controllers() {
    let alone = run(&mut lap(&["version"]));
    assert_eq!(code(&alone), 0, "{}", stderr(&alone));
    let controller = FakeController::start();
    controller.answer("GET /v1/version", 200, VERSION);
    let both = controller.lap(&["version"]);
    assert!(code(&both) == 0 && stdout(&both).contains("organization home"), "{}", stdout(&both));
}

#[test]
fn audit_verify_names_the_first_row_that_is_not_as_it_was_written() {
    use lapstrake_core::audit::{Deed, Entry, Link, Verdict};
    let sha256 = lapstrake_pki::fingerprint::sha256;
    let hex = |hash: [u8; 32]| lapstrake_pki::token::SecretHash(hash).to_hex();
    let cluster = lapstrake_core::ids::ClusterId(7);
    let mut link = Link::beginning(cluster, sha256);
    let mut rows = Vec::new();
    for number in 1..=3u64 {
        let entry = Entry {
            wall: lapstrake_core::time::Wall(number),
            who: "ada".into(),
            token: String::new(),
            address: "192.0.2.7".into(),
            deed: Deed::new("deploy", "shop/production/web", format!("image web:{number}")),
            verdict: Verdict::Done.word().into(),
            said: String::new(),
        };
        link = link.next(&entry, sha256);
        rows.push(serde_json::json!({
            "number": number, "at_ms": number, "who": entry.who, "token": "", "address": entry.address,
            "verb": entry.deed.verb, "subject": entry.deed.subject, "detail": entry.deed.detail,
            "verdict": entry.verdict, "said": "", "hash": hex(link.hash),
        }));
    }
    let head = serde_json::json!({ "cluster": cluster.to_string(), "number": 3, "hash": hex(link.hash) }).to_string();
    let verify = |rows: &[serde_json::Value], more: &[&str]| {
        let controller = FakeController::start();
        let last = rows.last().and_then(|row| row["number"].as_u64()).unwrap_or(0);
        controller.answer("GET /v1/audit/head", 200, &head).answer("GET /v1/audit?after=0", 200, json(&rows)).answer(
            &format!("GET /v1/audit?after={last}"),
            200,
            "[]",
        );
        controller.lap(&[&["audit", "verify"], more].concat())
    };
    let good = verify(&rows, &[]);
    assert_eq!(code(&good), 0, "{}", stderr(&good));
    let noted = format!("3:{}", hex(link.hash));
    assert_eq!(stdout(&good).trim(), noted);
    assert_eq!(code(&verify(&rows, &["--noted", &noted])), 0);
    let other = verify(&rows, &["--noted", &format!("2:{}", hex(link.hash))]);
    assert_eq!((code(&other), stderr(&other).contains("row 2 is not the one that was noted")), (1, true));
    let mut altered = rows.clone();
    altered[1]["who"] = "eve".into();
    let altered = verify(&altered, &[]);
    assert_eq!((code(&altered), stderr(&altered).contains("row 2 is not as it was written")), (1, true));
    let cut = verify(&rows[..2], &[]);
    assert_eq!((code(&cut), stderr(&cut).contains("row 3, the last one, is missing")), (1, true), "{}", stderr(&cut));
}

#[test]
fn a_field_that_is_reserved_is_drawn_and_refused_and_no_wrong_spec() {
    let controller = FakeController::start();
    let problem = Problem {
        type_uri: "about:blank".into(),
        title: String::new(),
        status: 403,
        detail: "deploy.overlap of shop/production/web is reserved to operators of shop/production".into(),
        instance: String::new(),
        mistakes: vec![Mistake {
            line: 2,
            column: 12,
            width: 2,
            message: "deploy.overlap of shop/production/web is reserved to operators of shop/production".into(),
            hint: Some("leave it as it is, or ask an operator to apply this".into()),
        }],
    };
    controller.answer("POST /v1/apply", 403, json(&problem));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.yaml");
    fs::write(&file, "web:\n  overlap: 5s\n").expect("written");
    let output = controller.lap(&["apply", "-f", file.to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    for drawn in ["shop.yaml:2:12", "2 |   overlap: 5s", "^^", "= leave it as it is"] {
        assert!(stderr(&output).contains(drawn), "{drawn} is not in {}", stderr(&output));
    }
}

#[test]
fn a_new_token_is_alone_on_stdout_and_a_pasted_one_is_not_sent_to_be_removed() {
    let controller = FakeController::start();
    let about = r#"{"id":"i","name":"ci","role":"deployer","scope":"shop/staging","created_ms":0,"by":"ada","expires_ms":null,"expired":false}"#;
    controller.answer("POST /v1/tokens", 201, format!(r#"{{"token":"lapo1_x","about":{about}}}"#));
    let output = controller.lap(&["token", "create", "ci", "--role", "deployer", "--scope", "shop/staging"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "lapo1_x\n"), "{}", stderr(&output));
    assert!(stderr(&output).contains("deployer for shop/staging; it is good until `lap token rm ci`"));
    let output = controller.lap(&["token", "rm", &controller.token()]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(controller.asked().iter().all(|asked| !asked.line.starts_with("DELETE")));
    assert!(!stderr(&output).contains(&controller.token()[..20]));
}

#[test]
fn a_change_whose_connection_breaks_is_asked_again_with_the_same_key_and_told_once() {
    let controller = FakeController::start();
    let at = "POST /v1/services/shop/production/web/redeploy";
    controller.break_off(at).refuse(at, 503, "the controller is starting");
    controller.answer(at, 202, json(&deployment("queued", None)));
    let output = controller.lap(&["redeploy", "shop/production/web"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("is recorded").count(), 1, "{}", stderr(&output));
    let keys: Vec<Option<String>> = controller.asked().into_iter().map(|asked| asked.key).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0].as_ref().is_some_and(|key| key.len() > 20) && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    controller.lap(&["redeploy", "shop/production/web"]);
    assert_ne!(controller.asked().last().expect("asked").key, keys[0], "another command is another request");
}

#[test]
fn what_never_succeeds_is_not_asked_for_ever() {
    let controller = FakeController::start();
    controller.refuse("POST /v1/apps", 503, "the disk is full");
    let output = controller.lap(&["app", "create", "shop"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("the disk is full"));
    assert_eq!(controller.asked().len(), 6);
    controller.refuse("POST /v1/envs", 409, "there is one already");
    controller.lap(&["env", "create", "shop/qa"]);
    assert_eq!(controller.asked().len(), 7, "what is refused is refused");
}

#[test]
fn a_list_is_read_page_after_page_and_told_as_one() {
    let controller = FakeController::start();
    let app = |name: &str| format!(r#"{{"name":"{name}","kind":"project","environments":[],"services":0}}"#);
    controller.page("GET /v1/apps", &format!("[{}]", app("bakery")), "/v1/apps?after=bakery");
    controller.page("GET /v1/apps?after=bakery", &format!("[{}]", app("shop")), "/v1/apps?after=shop");
    controller.answer("GET /v1/apps?after=shop", 200, format!("[{}]", app("zoo")));
    let output = controller.lap(&["app", "ls", "-o", "json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let listed: Vec<lapstrake_api::view::Application> = serde_json::from_str(&stdout(&output)).expect("one list");
    assert_eq!(listed.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["bakery", "shop", "zoo"]);
    assert!(stdout(&controller.lap(&["app", "ls"])).contains("zoo"));
}

#[test]
fn a_plan_names_a_tag_and_apply_holds_the_controller_to_it() {
    let controller = FakeController::start();
    let service = ServiceChange {
        path: "shop/production/web".into(),
        action: "create".into(),
        summary: "is new".into(),
        release: None,
        changes: Vec::new(),
        warnings: Vec::new(),
        deployment: None,
    };
    let tag = Some("00112233aabbccdd".to_owned());
    let changes = Changes { creates_application: None, services: vec![service], warnings: Vec::new(), tag };
    controller.answer("POST /v1/plan", 200, json(&changes));
    controller.refuse("POST /v1/apply", 412, "a service of the file was changed since it was read");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shop.yaml");
    fs::write(&file, "application: shop\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let planned = controller.lap(&["plan", "-f", file]);
    assert!(stderr(&planned).contains("--if-unchanged 00112233aabbccdd"), "{}", stderr(&planned));
    let applied = controller.lap(&["apply", "-f", file, "--if-unchanged", "00112233aabbccdd"]);
    assert_eq!(code(&applied), 3, "understood and refused: {}", stderr(&applied));
    let asked = controller.asked();
    assert_eq!(asked[1].unchanged.as_deref(), Some("\"00112233aabbccdd\""));
    assert_eq!(asked.len(), 2, "it is not asked again");
}

#[test]
fn a_connection_that_breaks_before_anything_is_said_is_no_question_of_trust() {
    let controller = FakeController::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = controller.lap(&["--url", &url, "app", "ls"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(!stderr(&output).contains("trusted"), "{}", stderr(&output));
    assert!(stderr(&output).contains("no controller answers"), "{}", stderr(&output));
}
