//! One proxy process after another, under load: the sockets are passed, and nothing is lost.

mod support;

use lapstrake_load::report::{Report, Verdict};
use lapstrake_load::schedule::Schedule;
use lapstrake_load::target::Target;
use lapstrake_load::{Plan, run};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use support::h2c::{self, H2Client, H2Job, until};
use support::process::{Place, Process, ended, until_there};
use support::{Agent, Client, HOST, Job, PATIENCE, socket, soon, table};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::sync::oneshot;

const SERVING: &str = "serving listen=";

/// Two requests in three on kept connections, one on a fresh one.
fn load(place: &Place, stop: oneshot::Receiver<()>) -> tokio::task::JoinHandle<Report> {
    let target = Target::new(&format!("http://{}/", place.address), Some(HOST)).expect("loopback");
    let plan = Plan {
        schedule: Schedule { rate: 300, fresh_percent: 33, body_bytes: None },
        duration: None,
        websockets: 0,
        ws_path: "/".to_owned(),
        deadline: Duration::from_secs(5),
        connections: 20,
        progress: false,
    };
    tokio::spawn(run(plan, target, async {
        let _ = stop.await;
    }))
}

fn hello(place: &Place, format: u32) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(place.control_dir().join("handover.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{{\"format\":{format},\"version\":\"test\",\"pid\":1}}").unwrap();
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    line
}

#[tokio::test]
async fn proxies_follow_one_another_under_load_and_nothing_is_lost() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut serving = place.start();
    place.until_said(SERVING, 1).await;
    let (stop, stopped) = oneshot::channel();
    let judged = load(&place, stopped);
    job.until_requests(200).await;
    for number in 2..=4 {
        let next = place.start();
        place.until_said(SERVING, number).await;
        let mut old = std::mem::replace(&mut serving, next);
        let seen = job.requests();
        job.until_requests(seen + 200).await;
        // The load's kept connections move with their next request, and then nothing is left.
        assert_eq!(ended(&mut old).await, Some(0), "{}", place.said());
        assert!(!place.control_of(&old).exists());
        // One that is killed before it has taken over changes nothing.
        let mut killed = place.start();
        killed.0.kill().unwrap();
        ended(&mut killed).await;
    }
    stop.send(()).unwrap();
    let report = judged.await.unwrap();
    // A busy machine may keep the load from its schedule; what counts here is that nothing it sent was lost.
    assert_ne!(
        report.verdict,
        Verdict::Failed,
        "{:?} {:?}
{}",
        report.reasons,
        report.failures,
        place.said()
    );
}

#[tokio::test]
async fn a_websocket_stays_with_the_old_proxy_which_still_acknowledges_tables() {
    let (first, second) = (Job::start(1).await, Job::start(2).await);
    let place = Place::new("");
    place.write_table(&table(1, &[&first]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    let (mut open, greeting) = socket(place.address).await;
    assert_eq!(greeting, "hello from 1");
    let modern = H2Client::connect(place.address).await;
    assert_eq!(modern.get("/").await.status, 200);
    let new = place.start();
    place.until_said("handed over; finishing", 1).await;
    place.until_said(SERVING, 2).await;

    let mut told = Vec::new();
    for process in [&old, &new] {
        let mut agent = Agent::dial(&place.control_of(process)).await;
        told.push(agent.switch(&table(2, &[&second])).await.leaving);
    }
    assert_eq!(told, [vec![(first.id, 1)], vec![]]);
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 2");
    // A client of HTTP/2 was told to go.
    soon("the end of the client's connection", async {
        while modern.sender.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    open.write_all(b"still here\n").await.unwrap();
    let mut line = String::new();
    open.read_line(&mut line).await.unwrap();
    assert_eq!(line, "still here\n");
    assert!(old.0.try_wait().unwrap().is_none());
    drop(open);
    assert_eq!(ended(&mut old).await, Some(0));
}

#[tokio::test]
async fn the_old_proxy_accepts_again_when_the_new_one_dies_after_it_took_over() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    let (held, _) = socket(place.address).await;
    let mut new = place.start();
    place.until_said("handed over; finishing", 1).await;
    place.until_said(SERVING, 2).await;
    new.0.kill().unwrap();
    ended(&mut new).await;
    place.until_said("accepting again", 1).await;
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1");
    // And it hands over to the next one.
    let _third = place.start();
    place.until_said(SERVING, 3).await;
    drop(held);
    assert_eq!(ended(&mut old).await, Some(0));
}

#[tokio::test]
async fn an_old_proxy_that_has_nothing_left_to_do_comes_back_when_the_new_one_has_died() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    let (held, _) = socket(place.address).await;
    let mut new = place.start();
    place.until_said(SERVING, 2).await;
    new.0.kill().unwrap();
    ended(&mut new).await;
    place.until_said("looking once more", 1).await;
    drop(held);
    place.until_said("accepting again", 1).await;
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1");
    assert!(old.0.try_wait().unwrap().is_none(), "{}", place.said());
}

/// Processes that followed one another, of which the first two have a client each.
struct Three {
    place: Place,
    first: Process,
    second: Process,
    third: Process,
    with_first: tokio::io::BufReader<TcpStream>,
    _with_second: tokio::io::BufReader<TcpStream>,
    _job: Job,
}

impl Three {
    async fn start(place: Place) -> Three {
        let job = Job::start(1).await;
        place.write_table(&table(1, &[&job]));
        let first = place.start();
        place.until_said(SERVING, 1).await;
        let (with_first, _) = socket(place.address).await;
        let second = place.start();
        place.until_said(SERVING, 2).await;
        let (_with_second, _) = socket(place.address).await;
        let third = place.start();
        place.until_said(SERVING, 3).await;
        place.until_said("handed over; finishing", 2).await;
        Three { place, first, second, third, with_first, _with_second, _job: job }
    }

    async fn serves(&self) -> bool {
        Client::connect(self.place.address).await.get("/").await.1 == "job 1"
    }
}

async fn kill(process: &mut Process) {
    process.0.kill().unwrap();
    ended(process).await;
}

#[tokio::test]
async fn of_three_in_a_row_the_relieved_one_does_not_come_back_when_the_second_dies() {
    let mut three = Three::start(Place::new("")).await;
    kill(&mut three.second).await;
    assert!(three.serves().await);
    // Who is asked for the next handover is the third one.
    let _fourth = three.place.start();
    three.place.until_said(SERVING, 4).await;
    assert_eq!(ended(&mut three.third).await, Some(0));
    drop(three.with_first);
    assert_eq!(ended(&mut three.first).await, Some(0));
    assert!(!three.place.said().contains("accepting again"), "{}", three.place.said());
}

#[tokio::test]
async fn of_three_in_a_row_the_first_comes_back_when_the_third_and_then_the_second_die() {
    let mut three = Three::start(Place::new("")).await;
    kill(&mut three.third).await;
    three.place.until_said("accepting again", 1).await;
    assert!(three.serves().await);
    kill(&mut three.second).await;
    three.place.until_said("accepting again", 2).await;
    assert!(three.serves().await);
    // And it hands over to the next one.
    let _fourth = three.place.start();
    three.place.until_said(SERVING, 4).await;
    drop(three.with_first);
    assert_eq!(ended(&mut three.first).await, Some(0));
}

#[tokio::test]
async fn of_three_in_a_row_nobody_comes_back_when_the_last_ends_in_order() {
    let mut three = Three::start(Place::new("shutdown_grace = \"100ms\"")).await;
    // The second one is cut, with its client, when its grace is over.
    for (times, process) in [(1, &mut three.third), (2, &mut three.second)] {
        let pid = nix::unistd::Pid::from_raw(process.0.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(ended(process).await, Some(0));
        three.place.until_said("the successor ended", times).await;
    }
    drop(three.with_first);
    assert_eq!(ended(&mut three.first).await, Some(0));
    assert!(!three.place.said().contains("accepting again"), "{}", three.place.said());
}

#[tokio::test]
async fn systemd_looks_after_the_process_that_serves_when_the_one_between_was_killed() {
    let place = Place::new("");
    let systemd = UnixDatagram::bind(place.notify_socket()).unwrap();
    let mut three = Three::start(place).await;
    kill(&mut three.second).await;
    // Once when the first one finds the second gone, and once when it ends itself: a main process that is not there would not
    // be taken, and the first one's end would be the unit's.
    let serves = format!("MAINPID={}", three.third.0.id());
    assert_eq!(main_process(&systemd).await, serves);
    drop(three.with_first);
    assert_eq!(main_process(&systemd).await, serves);
    assert_eq!(ended(&mut three.first).await, Some(0));
}

#[tokio::test]
async fn systemd_is_told_of_the_next_process_as_long_as_that_lives_and_watches_over_the_third() {
    let place = Place::new("");
    let systemd = UnixDatagram::bind(place.notify_socket()).unwrap();
    let mut three = Three::start(place).await;
    drop(three.with_first);
    assert_eq!(main_process(&systemd).await, format!("MAINPID={}", three.second.0.id()));
    assert_eq!(ended(&mut three.first).await, Some(0));
}

#[tokio::test]
async fn a_process_that_has_nobody_to_wait_for_names_its_successor_and_not_itself() {
    let place = Place::new("");
    let systemd = UnixDatagram::bind(place.notify_socket()).unwrap();
    let job = Job::start(1).await;
    place.write_table(&table(1, &[&job]));
    let mut before = place.start();
    // It ends at once, perhaps before its successor has the door. Each turn is another race of the two.
    for turn in 1..=20 {
        place.until_said(SERVING, turn).await;
        let next = place.start();
        assert_eq!(main_process(&systemd).await, format!("MAINPID={}", next.0.id()));
        assert_eq!(ended(&mut before).await, Some(0));
        before = next;
    }
}

/// Takes over from the process that serves, up to the moment before it has the door.
fn take_over(place: &Place) -> std::os::unix::net::UnixStream {
    let mut stream = std::os::unix::net::UnixStream::connect(place.control_dir().join("handover.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = BufReader::new(stream.try_clone().unwrap());
    for (says, hears) in [("{\"format\":2,\"version\":\"test\",\"pid\":1}", "offer"), ("\"accepting\"", "released")] {
        writeln!(stream, "{says}").unwrap();
        let mut line = String::new();
        heard.read_line(&mut line).unwrap();
        assert!(line.contains(hears), "{line}");
    }
    stream
}

/// Takes the door; it answers until the listener is dropped.
fn take_door(place: &Place) -> std::os::unix::net::UnixListener {
    let own = place.control_dir().join("own");
    let door = std::os::unix::net::UnixListener::bind(&own).unwrap();
    std::fs::rename(own, place.control_dir().join("handover.sock")).unwrap();
    door
}

#[tokio::test]
async fn a_relieved_process_does_not_end_before_its_successor_can_be_asked_who_serves() {
    let place = Place::new("");
    let mut relieved = place.start();
    place.until_said(SERVING, 1).await;
    let _successor = take_over(&place);
    place.until_said("handed over; finishing", 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(relieved.0.try_wait().unwrap().is_none(), "the one before it would come back: {}", place.said());
    let _door = take_door(&place);
    assert_eq!(ended(&mut relieved).await, Some(0));
}

#[tokio::test]
async fn the_first_does_not_come_back_when_the_second_dies_a_moment_before_the_third_has_the_door() {
    let job = Job::start(1).await;
    let (place, elsewhere) = (Place::new(""), Place::new(""));
    place.write_table(&table(1, &[&job]));
    let mut first = place.start();
    place.until_said(SERVING, 1).await;
    let (with_first, _) = socket(place.address).await;
    let _third = elsewhere.start();
    let door_of_third = elsewhere.control_dir().join("handover.sock");
    elsewhere.until_said(SERVING, 1).await;
    until_there(&door_of_third).await;
    let second = take_over(&place);
    drop(take_door(&place));
    drop(second);
    place.until_said("looking once more", 1).await;
    std::fs::rename(door_of_third, place.control_dir().join("handover.sock")).unwrap();
    place.until_said("its own serves on", 1).await;
    drop(with_first);
    assert_eq!(ended(&mut first).await, Some(0));
    assert!(!place.said().contains("accepting again"), "{}", place.said());
}

#[tokio::test]
async fn a_relieved_process_that_is_told_to_end_names_its_successor_and_does_not_end_the_unit() {
    let place = Place::new("shutdown_grace = \"100ms\"");
    let systemd = UnixDatagram::bind(place.notify_socket()).unwrap();
    let job = Job::start(1).await;
    place.write_table(&table(1, &[&job]));
    let mut relieved = place.start();
    place.until_said(SERVING, 1).await;
    let (_held, _) = socket(place.address).await;
    let successor = place.start();
    place.until_said(SERVING, 2).await;
    place.until_said("handed over; finishing", 1).await;
    let pid = nix::unistd::Pid::from_raw(relieved.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(ended(&mut relieved).await, Some(0));
    let mut told = String::new();
    let mut message = vec![0; 4096];
    while let Ok(length) = systemd.try_recv(&mut message) {
        told += std::str::from_utf8(&message[..length]).unwrap();
        told.push('\n');
    }
    assert!(told.contains(&format!("MAINPID={}", successor.0.id())), "{told}");
    assert!(!told.contains("STOPPING=1"), "{told}");
}

/// The next word on which process is the unit's main one.
async fn main_process(systemd: &UnixDatagram) -> String {
    soon("a word to systemd", async {
        loop {
            let mut message = vec![0; 4096];
            let length = systemd.recv(&mut message).await.unwrap();
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            if let Some(line) = message.lines().find(|line| line.starts_with("MAINPID=")) {
                break line.to_owned();
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_successor_may_listen_in_more_places_and_in_no_fewer() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (first, second) = (place.address.to_string(), free.to_string());
    let config = std::fs::read_to_string(place.config()).unwrap();
    let refusals = [
        (config.replace("127.0.0.1:", "0.0.0.0:"), "cannot listen on 0.0.0.0:"),
        (config.replace(&first, &second), "which the configuration does not name any more"),
    ];
    for (times, (text, why)) in (1..).zip(refusals) {
        std::fs::write(place.config(), text).unwrap();
        let mut refused = place.start();
        assert_eq!(ended(&mut refused).await, Some(1));
        // Until it has noticed that, the next one is refused for another reason.
        place.until_said("the handover came to nothing", times).await;
        assert!(place.said().contains(why), "{}", place.said());
        assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1", "nothing has changed");
    }
    std::fs::write(place.config(), config.replace(&first, &format!("{first}\", \"{second}"))).unwrap();
    let _new = place.start();
    place.until_said(SERVING, 2).await;
    assert_eq!(ended(&mut old).await, Some(0));
    for address in [place.address, free] {
        assert_eq!(Client::connect(address).await.get("/").await.1, "job 1");
    }
}

#[tokio::test]
async fn a_second_successor_another_version_and_a_stranger_are_refused() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    let path = place.control_dir().join("handover.sock");
    until_there(&path).await;
    assert!(hello(&place, 99).contains("version 99 of the handover"));

    // One that has got the offer and says nothing more holds the only place.
    let mut first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    writeln!(first, "{{\"format\":2,\"version\":\"test\",\"pid\":1}}").unwrap();
    let mut line = String::new();
    BufReader::new(&first).read_line(&mut line).unwrap();
    assert!(line.contains("offer"), "{line}");
    assert!(hello(&place, 2).contains("taking over already"));
    let mut refused = place.start();
    assert_eq!(ended(&mut refused).await, Some(1));
    assert!(place.said().contains("taking over already"), "{}", place.said());
    drop(first);

    // A stranger who could reach the socket hears nothing. Needs root, to be somebody else.
    if nix::unistd::geteuid().is_root() {
        for (path, mode) in [(place.directory.path().to_owned(), 0o755), (place.control_dir(), 0o755), (path, 0o777)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntry:\n s.sendall(b'{\"format\":2,\"version\":\"x\",\"pid\":1}\\n')\n print(len(s.recv(1000)))\nexcept OSError:\n print(0)";
        let stranger = Command::new("python3")
            .args(["-c", script])
            .arg(place.control_dir().join("handover.sock"))
            .uid(65534)
            .output()
            .expect("python3 is installed");
        assert_eq!(String::from_utf8_lossy(&stranger.stdout), "0\n", "{stranger:?}");
        place.until_said("a handover to a stranger", 1).await;
    }
    assert!(old.0.try_wait().unwrap().is_none());
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1");
}

#[tokio::test]
async fn a_successor_without_a_table_as_new_waits_for_the_agent() {
    let (first, second) = (Job::start(1).await, H2Job::start(2).await);
    let place = Place::new("");
    place.write_table(&table(1, &[&first]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    Agent::dial(&place.control_of(&old)).await.switch(&h2c::table(5, &[&second])).await;
    let new = place.start();
    until_there(&place.control_of(&new)).await;
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 2");
    assert_eq!(place.said().matches(SERVING).count(), 1, "{}", place.said());
    Agent::dial(&place.control_of(&new)).await.switch(&h2c::table(5, &[&second])).await;
    place.until_said(SERVING, 2).await;
    assert_eq!(ended(&mut old).await, Some(0));
}

#[tokio::test]
async fn replace_ends_when_the_successor_serves_and_fails_when_it_does_not() {
    let job = Job::start(1).await;
    let place = Place::new("");
    place.write_table(&table(1, &[&job]));
    let mut old = place.start();
    place.until_said(SERVING, 1).await;
    // The successor keeps what it writes to, so these are files: a pipe would end when it does.
    let said = |name: &str| std::fs::read_to_string(place.directory.path().join(name)).unwrap();
    let replace = || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_lapstrake-proxy"));
        let file = |name: &str| std::fs::File::create(place.directory.path().join(name)).unwrap();
        command.arg("--config").arg(place.config()).arg("--replace").stdout(file("out")).stderr(file("err"));
        async move { soon("the end of --replace", command.status()).await.unwrap().code() }
    };
    assert_eq!(replace().await, Some(0), "{}", said("err"));
    let pid: i32 =
        said("out").split(' ').nth(1).and_then(|word| word.parse().ok()).expect("the successor's process id");
    assert_eq!(ended(&mut old).await, Some(0));
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1");

    let good = std::fs::read_to_string(place.config()).unwrap();
    std::fs::write(place.config(), good.replace("workers = 2", "workers = 2\naccess_log = \"/does/not/exist\""))
        .unwrap();
    assert_eq!(replace().await, Some(1));
    assert!(said("err").contains("/does/not/exist"), "{}", said("err"));
    assert_eq!(Client::connect(place.address).await.get("/").await.1, "job 1");
    let successor = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(successor, nix::sys::signal::Signal::SIGTERM).unwrap();
    until("the end of the successor", || !place.control_dir().join(format!("{pid}.sock")).exists()).await;
}
