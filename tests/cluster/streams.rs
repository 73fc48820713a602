//! Streams between operators and jobs: commands in their containers, connections to their ports.

use crate::bench::{Client, Controller, Heard, Node, Socket, WEB, exec, id, shop, until, with_web};
use lapstrake_agent::runtime::fake::Hold;
use lapstrake_api::tunnel::{FromOperator, SignalWord, ToOperator};
use lapstrake_api::view;
use lapstrake_core::node::seen::Attempt;
use serde_json::json;

/// A cluster with one node on which `shop/production/web` runs with so many jobs.
async fn shopping(scale: u32) -> (Controller, Node) {
    let (controller, node, _) = with_web(scale).await;
    (controller, node)
}

async fn token(admin: &Client, name: &str, role: &str) -> Client {
    let ask = json!({ "name": name, "role": role, "scope": "shop/production" });
    let made: view::NewOperatorToken = admin.post("/v1/tokens", ask.to_string()).await.json();
    Client { token: made.token, ..admin.clone() }
}

async fn no_command_runs(node: &Node) {
    until("the node has ended the command", || async { node.engine.commands().is_empty().then_some(()) }).await;
}

fn failed(last: Option<ToOperator>) -> String {
    match last {
        Some(ToOperator::Failed { said }) => said,
        other => panic!("not a failure: {other:?}"),
    }
}

async fn audited(client: &Client) -> Vec<(String, String, String, String)> {
    let rows: Vec<view::AuditRow> = client.get("/v1/audit").await.json();
    let entered = rows.into_iter().filter(|row| row.verb == "exec" || row.verb == "forward");
    entered.map(|row| (row.who, row.verb, row.detail, row.verdict)).collect()
}

#[tokio::test]
async fn a_command_in_a_job_has_its_own_output_error_and_exit_code() {
    let (controller, _node) = shopping(1).await;
    let script = ["sh", "-c", "echo out; echo err >&2; exit 7"];
    let (out, err, last) = controller.client.socket(&exec(WEB, "", &script)).await.whole().await;
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(last, Some(ToOperator::Exited { code: 7 }));
}

#[tokio::test]
async fn what_goes_through_a_command_comes_back_unharmed_however_much_it_is() {
    let (controller, _node) = shopping(1).await;
    let mut socket = controller.client.socket(&exec(WEB, "input=true", &["cat"])).await;
    socket.started().await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // Both at once: whoever only talks is made to wait.
    let (mut says, hears) = socket.split();
    let talking = async {
        for piece in sent.chunks(32 << 10) {
            says.input(piece).await;
        }
        says.word(FromOperator::InputEnd).await;
    };
    let ((), (got, _, last)) = tokio::join!(talking, hears.whole());
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    assert_eq!(last, Some(ToOperator::Exited { code: 0 }));
}

#[tokio::test]
async fn a_terminal_has_the_size_of_the_operators_and_follows_its_changes() {
    let (controller, _node) = shopping(1).await;
    let script = ["sh", "-c", "stty size; resized; stty size"];
    let path = exec(WEB, "input=true&terminal=true&columns=132&rows=50", &script);
    let mut socket = controller.client.socket(&path).await;
    socket.started().await;
    assert_eq!(socket.next().await, Heard::Stdout(b"50 132\n".to_vec()));
    socket.word(FromOperator::Resize { columns: 80, rows: 24 }).await;
    let (out, _, last) = socket.whole().await;
    assert_eq!(out, b"24 80\n");
    assert_eq!(last, Some(ToOperator::Exited { code: 0 }));
}

#[tokio::test]
async fn an_interrupt_ends_the_command_with_the_code_of_one() {
    let (controller, _node) = shopping(1).await;
    let mut socket = controller.client.socket(&exec(WEB, "", &["sleep", "1000"])).await;
    // It has not said anything, so that it runs is seen by its end.
    assert!(matches!(socket.next().await, Heard::Word(ToOperator::Entered { .. })));
    socket.word(FromOperator::Signal { signal: SignalWord::Interrupt }).await;
    let (_, _, last) = socket.whole().await;
    assert_eq!(last, Some(ToOperator::Exited { code: 130 }));
}

#[tokio::test]
async fn an_operator_who_goes_away_leaves_no_command_behind() {
    let (controller, node) = shopping(1).await;
    let socket = controller.client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
    until("the command runs", || async { (node.engine.commands().len() == 1).then_some(()) }).await;
    drop(socket);
    no_command_runs(&node).await;
}

#[tokio::test]
async fn an_operator_who_goes_away_while_the_command_takes_no_input_leaves_no_command_behind() {
    let (controller, node) = shopping(1).await;
    let socket = controller.client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
    until("the command runs", || async { (node.engine.commands().len() == 1).then_some(()) }).await;
    let (mut says, hears) = socket.split();
    // Until nothing more is taken anywhere on the way.
    let piece = vec![0; 32 << 10];
    let mut taken = 0;
    while tokio::time::timeout(std::time::Duration::from_millis(500), says.input(&piece)).await.is_ok() {
        taken += 1;
        assert!(taken < 2_000, "64 MB wait for a command that does not read");
    }
    drop((says, hears));
    no_command_runs(&node).await;
}

#[tokio::test]
async fn an_operator_who_goes_away_while_the_command_begins_leaves_no_command_behind() {
    let (controller, node) = shopping(1).await;
    node.engine.hold_commands(Some(Hold::Begun));
    let socket = controller.client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
    until("the command runs", || async { (node.engine.commands().len() == 1).then_some(()) }).await;
    drop(socket);
    // Words to the node keep their order: when the next command runs there, the first one's operator is known to be gone.
    let next = controller.client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
    until("the next command runs", || async { (node.engine.commands().len() == 2).then_some(()) }).await;
    node.engine.hold_commands(None);
    until("the first has ended", || async { (node.engine.commands().len() == 1).then_some(()) }).await;
    drop(next);
    no_command_runs(&node).await;
}

#[tokio::test]
async fn an_agent_that_stops_in_order_leaves_no_command_behind() {
    let (controller, mut node) = shopping(1).await;
    let _open = controller.client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
    until("the command runs", || async { (node.engine.commands().len() == 1).then_some(()) }).await;
    node.stop_agent().await;
    assert!(node.engine.commands().is_empty(), "the command ends before the agent does");
    assert_eq!(node.engine.running().len(), 1, "the job runs on");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_in_a_sentence() {
    let (controller, _node) = shopping(1).await;
    let (_, _, last) = controller.client.socket(&exec(WEB, "", &["bash"])).await.whole().await;
    let Some(ToOperator::NotStarted { code: 127, said }) = last else { panic!("{last:?}") };
    assert!(said.contains("there is no program \"bash\""), "{said}");
}

#[tokio::test]
async fn of_several_jobs_the_one_that_is_named_is_entered() {
    let (controller, node) = shopping(3).await;
    let service = controller.client.service(WEB).await;
    let run = async |more: &str| {
        let mut socket = controller.client.socket(&exec(WEB, more, &["echo", "here"])).await;
        socket.started().await
    };
    assert_eq!(run("").await.1, "web.1");
    assert_eq!(run("slot=2").await.1, "web.2");
    let third = service.jobs.iter().find(|job| job.slot == "web.3").expect("a third job");
    assert_eq!(run(&format!("job={}", third.id)).await, (third.id.clone(), "web.3".into()));
    let problem =
        controller.client.try_socket(&exec(WEB, "slot=9", &["true"])).await.err().expect("refused").problem(404);
    assert!(problem.detail.contains("has no slot 9") && problem.detail.contains("1, 2, 3"), "{}", problem.detail);
    drop(node);
}

#[tokio::test]
async fn who_may_not_enter_jobs_enters_none_and_every_use_is_in_the_audit() {
    let (controller, _node) = shopping(1).await;
    let job = controller.client.service(WEB).await.jobs[0].id.clone();
    for role in ["viewer", "deployer"] {
        let client = token(&controller.client, role, role).await;
        let problem = client.try_socket(&exec(WEB, "", &["true"])).await.err().expect("refused").problem(403);
        assert!(problem.detail.contains("needs the role operator"), "{}", problem.detail);
        let forward = format!("/v1/services/{WEB}/forward?port=8080");
        client.try_socket(&forward).await.err().expect("refused").problem(403);
    }
    let operator = token(&controller.client, "ada", "operator").await;
    operator.socket(&exec(WEB, "input=true", &["sh", "-c", "echo \u{1b}[2J"])).await.whole().await;
    operator.try_socket(&format!("/v1/services/{WEB}/forward?port=22")).await.err().expect("refused").problem(409);
    let rows = audited(&controller.client).await;
    let detail = format!("web.1, job {job} on n1: sh -c \"echo \\u{{1b}}[2J\"");
    assert_eq!(rows[0], ("ada".into(), "exec".into(), detail, "done".into()));
    assert_eq!(rows[1], ("ada".into(), "forward".into(), "port 22".into(), "refused".into()));
    let rows: Vec<view::AuditRow> = controller.client.get("/v1/audit?by=viewer").await.json();
    assert!(rows.iter().all(|row| row.verdict == "refused") && rows.len() == 2, "{rows:#?}");
}

#[tokio::test]
async fn every_mistake_of_a_command_is_told_at_once() {
    let (controller, _node) = shopping(1).await;
    let long = "x".repeat(17 << 10);
    let refused = async |path: String| controller.client.try_socket(&path).await.err().expect("refused");
    let detail = refused(exec(WEB, "", &["", &long, "a\0b"])).await.problem(422).detail;
    for part in ["the program's name is empty", "16384 are allowed", "has a NUL"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert!(refused(exec(WEB, "", &[])).await.problem(422).detail.contains("no command"));
    for (more, status, part) in [
        ("slot=x", 422, "slot="),
        ("what=1", 400, "is not known"),
        ("slot=1&job=2", 422, "cannot be"),
        ("input=1", 422, "input="),
    ] {
        let detail = refused(exec(WEB, more, &["true"])).await.problem(status).detail;
        assert!(detail.contains(part), "{more}: {detail}");
    }
    let problem = controller.client.get(&exec(WEB, "", &["true"])).await;
    assert_eq!(problem.header("upgrade"), Some("websocket"));
    problem.problem(426);
    refused(exec("shop/production/absent", "", &["true"])).await.problem(404);
}

#[tokio::test]
async fn a_stream_ends_with_its_token_with_its_job_and_with_its_node() {
    let (controller, node) = shopping(1).await;
    let client = &controller.client;
    let begin = async |client: &Client| -> Socket {
        let socket = client.socket(&exec(WEB, "input=true", &["sleep", "1000"])).await;
        until("the command runs", || async { (!node.engine.commands().is_empty()).then_some(()) }).await;
        socket
    };
    let ada = token(client, "ada", "operator").await;
    let socket = begin(&ada).await;
    assert_eq!(client.delete("/v1/tokens/ada").await.status, 204);
    assert!(failed(socket.whole().await.2).contains("the token has ended"));
    no_command_runs(&node).await;

    let socket = begin(client).await;
    let job = node.engine.running()[0];
    node.engine.crash(job, 1);
    let (_, _, last) = socket.whole().await;
    assert_eq!(last, Some(ToOperator::Exited { code: 137 }), "what runs in a container ends with it");
    let restarted =
        |service: &view::Service| service.jobs.iter().any(|job| job.attempt == 2 && job.health == "healthy");
    client.until_service("its next attempt is healthy", WEB, restarted).await;

    let socket = begin(client).await;
    let revoked = client.post("/v1/nodes/n1/revoke", "").await;
    assert!(revoked.status < 300, "{revoked:?}");
    assert!(failed(socket.whole().await.2).contains("the stream from the node broke"));
    no_command_runs(&node).await;
}

#[tokio::test]
async fn a_stream_on_which_nothing_is_said_is_ended() {
    let controller = Controller::start_with(|config| config.tunnels.idle_seconds = 1).await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let socket = controller.client.socket(&exec(WEB, "", &["sleep", "1000"])).await;
    assert!(failed(socket.whole().await.2).contains("nothing was said for 1 s"));
    no_command_runs(&node).await;
}

#[tokio::test]
async fn of_streams_at_once_there_are_as_many_as_the_configuration_says() {
    let controller = Controller::start_with(|config| config.tunnels.per_token = 2).await;
    let [_node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let path = exec(WEB, "input=true", &["cat"]);
    let first = controller.client.socket(&path).await;
    let _second = controller.client.socket(&path).await;
    let refused = controller.client.try_socket(&path).await.err().expect("too many");
    assert!(refused.header("retry-after").is_some());
    assert!(refused.problem(429).detail.contains("2 streams to jobs are open with this token"));
    let done = audited(&controller.client).await;
    assert_eq!(done.len(), 2, "a command that was refused for want of room was not done: {done:?}");
    let other = token(&controller.client, "other", "operator").await;
    other.socket(&path).await;
    drop(first);
    until("its place is free again", || async { controller.client.try_socket(&path).await.ok() }).await;
}

#[tokio::test]
async fn a_connection_is_led_to_the_job_and_each_side_may_end_for_itself() {
    let (controller, node) = shopping(1).await;
    let mut socket = controller.client.socket(&format!("/v1/services/{WEB}/forward?port=8080")).await;
    socket.started().await;
    socket.input(b"ping").await;
    assert_eq!(socket.next().await, Heard::Stdout(b"ping".to_vec()));
    socket.word(FromOperator::InputEnd).await;
    assert_eq!(socket.next().await, Heard::Word(ToOperator::OutputEnd));
    assert_eq!(socket.next().await, Heard::Word(ToOperator::Closed));
    assert_eq!(node.engine.connections(), [(node.engine.running()[0], 8080)]);
    let refused = controller.client.try_socket(&format!("/v1/services/{WEB}/forward?port=9")).await.err();
    let detail = refused.expect("an undeclared port").problem(409).detail;
    assert!(detail.contains("has no port 9") && detail.contains("declares 8080"), "{detail}");
    controller.client.get(&format!("/v1/services/{WEB}/forward?port=0")).await.problem(422);
}

#[tokio::test]
async fn after_a_deployment_new_connections_go_to_the_new_job() {
    let (controller, node) = shopping(1).await;
    let path = format!("/v1/services/{WEB}/forward?port=8080");
    let (old, _) = controller.client.socket(&path).await.started().await;
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), r#"{"image":"web:2"}"#).await;
    controller.client.complete(WEB, 2).await;
    let (new, _) = controller.client.socket(&path).await.started().await;
    assert_ne!(old, new);
    let attempt = |job: &str| (Attempt { job: id(job), number: 1 }, 8080);
    assert_eq!(node.engine.connections(), [attempt(&old), attempt(&new)]);
}

#[tokio::test]
async fn lines_are_picked_on_their_node_by_time_by_pattern_and_by_job() {
    let (controller, node) = shopping(2).await;
    let client = &controller.client;
    let jobs = client.service(WEB).await.jobs;
    let attempt = |slot: &str| {
        let job = jobs.iter().find(|job| job.slot == slot).expect("a job");
        Attempt { job: id(&job.id), number: 1 }
    };
    for (number, line) in ["GET / 200", "GET /a 500", "GET /b 502", "GET /c 200"].iter().enumerate() {
        node.engine.say(attempt(if number == 3 { "web.2" } else { "web.1" }), line);
    }
    let read = async |query: &str| -> Vec<String> {
        let body = client.get(&format!("/v1/services/{WEB}/logs?{query}")).await.body;
        let text = String::from_utf8(body.to_vec()).expect("text");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str::<view::LogLine>(data).ok()).map(|line| line.text).collect()
    };
    assert_eq!(read("grep=5%5Cd%5Cd").await, ["GET /a 500", "GET /b 502"]);
    assert_eq!(read("grep=5%5Cd%5Cd&tail=1").await, ["GET /b 502"], "the last that match, not of the last");
    assert_eq!(read("slot=2").await, ["GET /c 200"]);
    assert_eq!(
        read(&format!("job={}&grep=GET&tail=2", jobs.iter().find(|job| job.slot == "web.1").expect("a job").id)).await,
        ["GET /a 500", "GET /b 502"]
    );
    assert_eq!(read("since_ms=9000000000000").await, [""; 0]);
    assert_eq!(read("since_ms=1&grep=200").await.len(), 2);
    let problem = client.get(&format!("/v1/services/{WEB}/logs?grep=a(b")).await.problem(422);
    assert!(problem.detail.contains("wrong at character 2: unclosed group"), "{}", problem.detail);
    client.get(&format!("/v1/services/{WEB}/logs?slot=7")).await.problem(404);

    let mut words = client.follow(&format!("/v1/services/{WEB}/logs?follow=true&slot=1&grep=5..&tail=1"), None).await;
    assert!(words.next().await.expect("a line").text.contains("GET /b 502"));
    node.engine.say(attempt("web.1"), "GET /d 200");
    node.engine.say(attempt("web.1"), "GET /e 503");
    assert!(words.next().await.expect("a line").text.contains("GET /e 503"), "the line between does not match");
}
