//! The sample as a process: started, asked, told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A running sample. Killed when the test ends, however it ends.
struct Sample {
    process: Child,
    log: BufReader<ChildStdout>,
    port: u16,
}

impl Sample {
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_hello"))
            .envs([("PORT", "0"), ("VERSION", "v7")])
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sample starts");
        let log = BufReader::new(process.stdout.take().expect("a pipe was asked for"));
        let mut sample = Self { process, log, port: 0 };
        let ready = sample.log_until("ready port=");
        sample.port = ready.rsplit('=').next().and_then(|port| port.parse().ok()).expect("a port");
        sample
    }

    /// Reads the log up to the first line with these words.
    fn log_until(&mut self, words: &str) -> String {
        let mut line = String::new();
        while self.log.read_line(&mut line).expect("the log can be read") > 0 {
            if line.contains(words) {
                return line.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the log ended without {words:?}");
    }

    fn send(&self, request: &str) -> TcpStream {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).expect("the sample listens");
        connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        connection.write_all(request.as_bytes()).expect("the sample reads");
        connection
    }

    fn get(&self, path: &str) -> String {
        whole(&mut self.send(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")))
    }

    fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.process.wait().expect("the sample ends").code()
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn whole(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("the connection ends by itself");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn it_says_which_version_answers() {
    let sample = Sample::start(&[]);
    assert!(sample.get("/").contains(r#""version":"v7""#));
    assert!(sample.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(sample.get("/nowhere").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_body_has_the_length_that_was_asked_for() {
    let sample = Sample::start(&[]);
    let answer = sample.get("/body?bytes=70000");
    assert!(answer.to_lowercase().contains("content-length: 70000"));
    let streamed = sample.get("/stream?chunks=3&ms=1");
    assert!(streamed.contains("chunk 0\n") && streamed.contains("chunk 2\n"), "{streamed}");
}

#[test]
fn what_is_posted_to_echo_comes_back() {
    let sample = Sample::start(&[]);
    let request = "POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nplank";
    assert!(whole(&mut sample.send(request)).ends_with("plank"));
}

#[test]
fn a_request_under_way_is_answered_after_sigterm() {
    let mut sample = Sample::start(&[]);
    let mut slow = sample.send("GET /slow?ms=700 HTTP/1.1\r\nhost: x\r\n\r\n");
    // Asked and answered on another connection, so the slow request has arrived too: one thread serves both in order.
    assert!(sample.get("/healthz").starts_with("HTTP/1.1 200"));
    sample.terminate();
    sample.log_until("SIGTERM received");
    assert!(whole(&mut slow).contains("answered after 700 ms"));
    sample.log_until("stopped");
    assert_eq!(sample.exit_code(), Some(0));
}

#[test]
fn a_websocket_gets_a_close_frame_with_1001_when_the_service_stops() {
    let sample = Sample::start(&[]);
    let mut socket = sample.send(
        "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    // The key and its answer are the example of RFC 6455, section 1.3.
    assert!(String::from_utf8_lossy(&head).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));

    // A text frame "hi", masked with zeros, comes back as it is, unmasked.
    socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).expect("the socket is open");
    let mut echo = [0; 4];
    socket.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, &[0x81, 2, b'h', b'i']);

    sample.terminate();
    let mut close = [0; 4];
    socket.read_exact(&mut close).expect("a close frame");
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
}

#[test]
fn it_stays_up_when_told_to_ignore_sigterm() {
    let mut sample = Sample::start(&[("IGNORE_TERM", "1")]);
    sample.terminate();
    sample.log_until("SIGTERM ignored");
    assert!(sample.get("/healthz").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_bad_version_fails_its_health_check_and_says_why() {
    let sample = Sample::start(&[("FAIL", "unhealthy")]);
    let answer = sample.get("/healthz");
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("told to fail"), "{answer}");
}

#[test]
fn a_version_that_cannot_run_exits_with_code_3() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_hello")).env("FAIL", "exit").spawn().expect("the sample starts");
    assert_eq!(process.wait().expect("the sample ends").code(), Some(3));
}
