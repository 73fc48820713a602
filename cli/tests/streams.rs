//! `lap exec`, `lap forward`, `lap logs` with its options and `lap top`, as a person and a script meet them.

mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use lapstrake_api::tunnel::{FromOperator, STDERR, STDOUT, SignalWord, ToOperator};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use support::{FakeController, Socket, code, entered, lap, stderr, stdout, word};
use tokio_tungstenite::tungstenite::Message;

const EXEC: [&str; 2] = ["exec", "shop/production/web"];

fn piece(kind: u8, bytes: &[u8]) -> Message {
    Message::binary([&[kind], bytes].concat())
}

async fn say(socket: &mut Socket, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        socket.send(message).await.expect("lap hears");
    }
}

/// The next word of the operator; bytes and signs of life are passed over.
async fn word_of(socket: &mut Socket) -> Option<FromOperator> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

fn exec(controller: &FakeController, more: &[&str]) -> std::process::Output {
    controller.lap(&[&EXEC, more].concat())
}

#[test]
fn a_commands_output_error_and_exit_code_are_laps_own() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(3)).await;
        say(&mut socket, [piece(STDOUT, b"out\n"), piece(STDERR, b"err\n"), word(&ToOperator::Exited { code: 7 })])
            .await;
    });
    let output = exec(&controller, &["--", "sh", "-c", "exit 7"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (7, "out\n"));
    let said = stderr(&output);
    assert!(said.contains("in web.1 on n1, one of 3 jobs") && said.ends_with("err\n"), "{said}");
    let asked = controller.asked()[0].line.clone();
    assert_eq!(asked, "GET /v1/services/shop/production/web/exec?input=false&command=sh&command=-c&command=exit%207");
    let output = exec(&controller, &["--slot", "2", "--", "sh"]);
    assert!(!stderr(&output).contains("one of 3"), "who names the job knows which it is");
}

#[test]
fn input_goes_to_the_command_unharmed_and_ends() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) => say(&mut socket, [piece(STDOUT, &bytes[1..])]).await,
                Message::Text(_) => break,
                _ => {}
            }
        }
        say(&mut socket, [word(&ToOperator::Exited { code: 0 })]).await;
        let _ = socket.close(None).await;
    });
    let mut command = lap(&[&EXEC[..], &["-i", "--", "cat"]].concat());
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lap runs");
    let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (mut input, to_send) = (child.stdin.take().expect("piped"), sent.clone());
    let talking = std::thread::spawn(move || input.write_all(&to_send).expect("taken"));
    let mut got = Vec::new();
    child.stdout.take().expect("piped").read_to_end(&mut got).expect("read");
    talking.join().expect("no panic");
    assert!(child.wait().expect("ends").success());
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

#[test]
fn what_lap_itself_cannot_do_ends_with_125_and_what_the_container_cannot_with_its_own_code() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)[..1].iter().cloned()).await;
        let said = "there is no program \"bash\" in the job's container".into();
        say(&mut socket, [word(&ToOperator::NotStarted { code: 127, said })]).await;
    });
    let output = exec(&controller, &["--", "bash"]);
    assert_eq!(code(&output), 127);
    assert!(stderr(&output).contains("error: there is no program \"bash\""), "{}", stderr(&output));

    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        say(&mut socket, [word(&ToOperator::Failed { said: "the token has ended\u{1b}[2J".into() })]).await;
    });
    let output = exec(&controller, &["--", "sh"]);
    assert_eq!(code(&output), 125);
    assert!(stderr(&output).contains("the token has ended") && !stderr(&output).contains('\u{1b}'));

    controller.socket(|socket| async move { drop(socket) });
    let output = exec(&controller, &["--", "sh"]);
    assert_eq!(code(&output), 125);
    assert!(stderr(&output).contains("broke"), "{}", stderr(&output));

    let refusing = FakeController::start();
    let line = "GET /v1/services/shop/production/web/exec?input=false&command=sh";
    refusing.refuse(line, 403, "entering jobs needs the role operator");
    let output = exec(&refusing, &["--", "sh"]);
    assert_eq!(code(&output), 125);
    assert!(stderr(&output).contains("needs the role operator"));
    assert_eq!(code(&exec(&refusing, &[])), 2, "a wrong command line has run nothing");
    assert_eq!(code(&exec(&refusing, &["-it", "--", "sh"])), 125, "no terminal here");
}

/// What a shell on a terminal of its own shows, when it runs this; `lap` is `$LAP`.
fn on_a_terminal(controller: &FakeController, script: &str) -> String {
    let mut command = Command::new("script");
    command.args(["-qec", script, "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm");
    command.env("SHELL", "/bin/sh").env("LAP", env!("CARGO_BIN_EXE_lap")).env("XDG_CONFIG_HOME", "/nonexistent");
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    // An input that stays open: its end would be typed into the terminal.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux's script runs");
    let keys = child.stdin.take();
    let mut shown = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut shown).expect("text");
    child.wait().expect("ends");
    drop(keys);
    shown
}

fn is_ordinary(shown: &str) -> bool {
    let words: Vec<&str> = shown.split(|c: char| c.is_whitespace() || c == ';').collect();
    ["icanon", "echo", "isig", "opost", "icrnl"].iter().all(|word| words.contains(word))
}

#[test]
fn a_terminal_is_the_commands_while_it_runs_and_as_before_however_it_ends() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        while let Some(asked) = word_of(&mut socket).await {
            let code = match asked {
                FromOperator::Resize { columns: 80, rows: 24 } => 5,
                FromOperator::Signal { signal: SignalWord::Terminate } => 143,
                _ => continue,
            };
            say(&mut socket, [word(&ToOperator::Exited { code })]).await;
        }
    });
    let exec = "$LAP exec -it shop/production/web -- sh";
    // It ends when it hears of the new size, which is given to the terminal meanwhile, as often as it takes.
    let script = format!(
        "stty rows 50 cols 132; (while sleep 0.1; do stty -F /dev/tty rows 25 cols 81; stty -F /dev/tty rows 24 cols 80; done) & {exec}; \
         echo code $?; kill $!; stty -a"
    );
    let shown = on_a_terminal(&controller, &script);
    assert!(shown.contains("code 5") && is_ordinary(&shown), "{shown}");
    assert!(controller.asked()[0].line.contains("terminal=true"), "{:?}", controller.asked()[0].line);

    let shown = on_a_terminal(&controller, &format!("timeout --foreground -s TERM 1 {exec}; stty -a"));
    assert!(is_ordinary(&shown), "after a signal that the command ends by: {shown}");
    let shown = on_a_terminal(&controller, &format!("timeout --foreground -s HUP 1 {exec}; stty -a"));
    assert!(is_ordinary(&shown), "after one that lap ends by: {shown}");

    controller.socket(|mut socket| async move { say(&mut socket, entered(1)).await });
    let shown = on_a_terminal(&controller, &format!("{exec}; echo code $?; stty -a"));
    assert!(shown.contains("code 125") && is_ordinary(&shown), "after a break: {shown}");
}

#[test]
fn an_interrupt_goes_to_the_command_and_a_second_one_leaves_it() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        say(&mut socket, [piece(STDOUT, b"begun\n")]).await;
        // A command that does not care.
        while let Some(asked) = word_of(&mut socket).await {
            assert_eq!(asked, FromOperator::Signal { signal: SignalWord::Interrupt });
            say(&mut socket, [piece(STDOUT, b"no\n")]).await;
        }
    });
    let mut command = lap(&[&EXEC[..], &["--", "stubborn"]].concat());
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lap runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let interrupt = |pid: u32| {
        let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("kill runs");
        assert!(sent.success());
    };
    assert_eq!(next(), "begun");
    interrupt(child.id());
    assert_eq!(next(), "no");
    interrupt(child.id());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    assert!(stderr(&output).contains("lap leaves the command"), "{}", stderr(&output));
}

#[test]
fn a_second_interrupt_ends_lap_though_nobody_reads_its_output() {
    let controller = FakeController::start();
    let (heard, interrupts) = std::sync::mpsc::channel();
    controller.socket(move |mut socket| {
        let heard = heard.clone();
        async move {
            say(&mut socket, entered(1)).await;
            // More than a pipe holds.
            say(&mut socket, (0..40).map(|_| piece(STDOUT, &[b'x'; 32 << 10]))).await;
            while word_of(&mut socket).await.is_some() {
                heard.send(()).expect("the test listens");
            }
        }
    });
    let mut command = lap(&[&EXEC[..], &["--", "yes"]].concat());
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lap runs");
    let mut first = [0];
    let mut unread = child.stdout.take().expect("piped");
    unread.read_exact(&mut first).expect("it has begun");
    let interrupt = |pid: u32| {
        let sent = Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("kill runs");
        assert!(sent.success());
    };
    interrupt(child.id());
    interrupts.recv_timeout(std::time::Duration::from_secs(20)).expect("the command is sent the first");
    interrupt(child.id());
    let began = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if began.elapsed() > std::time::Duration::from_secs(20) {
            child.kill().expect("killed");
            panic!("lap waits for its reader");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn a_command_whose_output_nobody_reads_any_more_did_not_succeed() {
    let controller = FakeController::start();
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        while socket.send(piece(STDOUT, &[b'x'; 32 << 10])).await.is_ok() {}
    });
    let mut command = lap(&[&EXEC[..], &["--", "yes"]].concat());
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lap runs");
    let mut first = [0];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("it has begun");
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""), "as if by SIGPIPE");
}

const SERVICE: &str = r#"{"path":"shop/production/web","type":"web","state":"healthy","message":"","image":"web:1",
    "pinned":null,"revision":1,"scale":1,"healthy":1,"routes":[],"ports":[80],"jobs":[],"deployment":null}"#;

fn forwarding(controller: &FakeController, more: &[&str]) -> Command {
    let mut command = lap(&[&["forward", "shop/production/web"], more].concat());
    command.env("LAP_URL", controller.url()).env("LAP_TOKEN", controller.token());
    command
}

#[test]
fn a_port_here_leads_to_the_jobs_and_each_side_may_end_for_itself() {
    let controller = FakeController::start();
    controller.answer("GET /v1/services/shop/production/web", 200, SERVICE);
    controller.refuse("GET /v1/services/shop/production/web/forward?port=80", 426, "a WebSocket");
    controller.socket(|mut socket| async move {
        say(&mut socket, entered(1)).await;
        // Says all that it has to say first, then hears all.
        say(&mut socket, [piece(STDOUT, b"greeting"), word(&ToOperator::OutputEnd)]).await;
        let mut heard = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) => heard.extend_from_slice(&bytes[1..]),
                Message::Text(_) => break,
                _ => {}
            }
        }
        assert_eq!(heard, b"answer", "after its own end");
        say(&mut socket, [word(&ToOperator::Closed)]).await;
        let _ = socket.close(None).await;
    });
    let mut child = forwarding(&controller, &["0:80"]).stdout(Stdio::piped()).spawn().expect("lap runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let (local, remote) = first.split_once(" -> ").expect("from where to where");
    assert_eq!(remote, "shop/production/web:80");
    assert!(local.starts_with("127.0.0.1:"), "{local}");
    for _ in 0..3 {
        let mut stream = TcpStream::connect(local).expect("it listens");
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).expect("its end is passed on");
        assert_eq!(greeting, b"greeting");
        stream.write_all(b"answer").expect("it still hears");
        stream.shutdown(Shutdown::Write).expect("ended");
    }
    child.kill().expect("killed");
    child.wait().expect("ends");
}

#[test]
fn who_breaks_a_connection_off_here_is_not_said_to_be_the_controller() {
    let controller = FakeController::start();
    controller.answer("GET /v1/services/shop/production/web", 200, SERVICE);
    controller.refuse("GET /v1/services/shop/production/web/forward?port=80", 426, "a WebSocket");
    let (gone, ended) = std::sync::mpsc::channel();
    controller.socket(move |mut socket| {
        let gone = gone.clone();
        async move {
            say(&mut socket, entered(1)).await;
            say(&mut socket, [piece(STDOUT, b"greeting")]).await;
            while let Some(Ok(_)) = socket.next().await {}
            gone.send(()).expect("the test listens");
        }
    });
    let mut child =
        forwarding(&controller, &["0:80"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lap runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let (local, _) = first.split_once(" -> ").expect("from where to where");
    let mut stream = TcpStream::connect(local).expect("it listens");
    stream.read_exact(&mut [0]).expect("the greeting begins");
    // Closed with something unread, a socket resets its connection.
    drop(stream);
    ended.recv_timeout(std::time::Duration::from_secs(20)).expect("the job's side is broken off");
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_port_that_the_service_does_not_declare_is_refused_with_those_that_it_does() {
    let controller = FakeController::start();
    controller.answer("GET /v1/services/shop/production/web", 200, SERVICE);
    let output = forwarding(&controller, &["0:22", "0:80", "0:23"]).output().expect("lap runs");
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("has no port 22, 23; its spec declares 80"), "{}", stderr(&output));
    controller.refuse("GET /v1/services/shop/production/web/forward?port=80", 403, "entering jobs needs more");
    let output = forwarding(&controller, &["0:80"]).output().expect("lap runs");
    assert_eq!((code(&output), stdout(&output).as_str()), (3, ""), "nothing listens for who may not");
    assert_eq!(code(&forwarding(&controller, &["80:x"]).output().expect("lap runs")), 2);
}

#[test]
fn logs_are_asked_for_by_time_pattern_and_job() {
    let controller = FakeController::start();
    let line = "GET /v1/services/shop/production/web/logs?follow=false&slot=2&since_ms=1795287600000&grep=5%5Cd%5Cd%20%26&tail=5";
    let said = r#"{"at_ms":1795287600250,"slot":"web.2","node":"n1","stream":"stdout","text":"GET / 500 &"}"#;
    controller.stream(line, &format!("event: line\ndata: {said}\n\nevent: end\ndata: {{}}\n\n"));
    let arguments = ["logs", "shop/production/web", "-t", "-n", "5", "--slot", "2", "--since", "2026-11-21T19:00:00Z"];
    let output = controller.lap(&[&arguments[..], &["--grep", r"5\d\d &"]].concat());
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    assert_eq!(stdout(&output), "2026-11-21T19:00:00.250Z web.2 n1 | GET / 500 &\n");
    let output = controller.lap(&["logs", "shop/production/web", "--grep", "a(b"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("wrong at character 2: unclosed group"), "{}", stderr(&output));
    let output = controller.lap(&["logs", "shop/production/web", "--since", "soon"]);
    assert_eq!(code(&output), 2);
}

#[test]
fn top_shows_once_what_is_used_where_nobody_watches_and_passes_json_on() {
    let controller = FakeController::start();
    let job = r#"[{"id":"1","service":"shop/production/web","slot":"web.1","node":"n1","revision":1,"phase":"running",
        "health":"healthy","attempt":1,"role":"current","message":null,"address":null,"memory_bytes":33554432,
        "cpu_milli":250,"limit":{"cpu_milli":500,"memory_bytes":67108864}}]"#;
    controller.answer("GET /v1/jobs?below=shop", 200, job);
    let output = controller.lap(&["top", "shop"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = stdout(&output);
    let row: Vec<&str> = shown.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["shop/production/web", "1", "0.25", "0.50", "50%", "32", "MiB", "64", "MiB", "50%"]);
    assert_eq!(stdout(&controller.lap(&["top", "shop", "-o", "json"])).trim(), job.trim());
    controller.answer("GET /v1/nodes", 200, "[]");
    assert_eq!(code(&controller.lap(&["top", "--nodes"])), 0);
}
