//! Requests that two servers could read differently, byte by byte: each is refused and reaches no job, or a job gets exactly
//! one request of one clear form. What is judged is what a job's socket received, not what the proxy meant.

mod support;

use lapstrake_core::ids::{JobId, ServiceId};
use lapstrake_core::routes::{Backend, Route, RouteTable, Speaks};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{HOST, Harness, soon, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A job that keeps every byte of every connection, answers each request once and reads on until the proxy hangs up.
struct RawJob {
    id: JobId,
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Connections that were accepted, and those that are over.
    counts: Arc<[AtomicUsize; 2]>,
    server: JoinHandle<()>,
}

impl RawJob {
    async fn start(number: u128) -> RawJob {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (kept, counted) = (received.clone(), counts.clone());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted[0].fetch_add(1, Ordering::SeqCst);
                let (kept, counted) = (kept.clone(), counted.clone());
                tokio::spawn(async move {
                    serve(number, stream, kept).await;
                    counted[1].fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        RawJob { id: JobId(number), address, received, counts, server }
    }

    /// What came so far, one text for each connection, and forgets it. Connections are accepted in turn: when one that
    /// is made now is over, and all others are, nothing is on its way any more.
    async fn take(&self) -> Vec<String> {
        let mut last = TcpStream::connect(self.address).await.unwrap();
        last.shutdown().await.unwrap();
        soon("an end", last.read_to_end(&mut Vec::new())).await.unwrap();
        soon("the end of all connections to the job", async {
            loop {
                let [accepted, over] = [0, 1].map(|at| self.counts[at].load(Ordering::SeqCst));
                if accepted == over {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let taken = std::mem::take(&mut *self.received.lock().unwrap());
        let said = taken.into_iter().filter(|bytes| !bytes.is_empty());
        said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }
}

impl Drop for RawJob {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(number: u128, mut stream: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
    let at = {
        let mut kept = kept.lock().unwrap();
        kept.push(Vec::new());
        kept.len() - 1
    };
    let mut answered = false;
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                let whole = {
                    let mut kept = kept.lock().unwrap();
                    // Taken meanwhile: the test is over with it.
                    let Some(received) = kept.get_mut(at) else { return };
                    received.extend_from_slice(&bytes[..read]);
                    is_whole(received)
                };
                if whole && !answered {
                    answered = true;
                    let body = format!("job {number}");
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    let _ = stream.write_all((head + &body).as_bytes()).await;
                }
            }
        }
    }
}

/// Whether a request ended, by the strictest reading of it.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = lines_of(head, "content-length").pop().and_then(|value| value.parse::<usize>().ok());
    match length {
        Some(length) => body.len() >= length,
        None if lines_of(head, "transfer-encoding").is_empty() => true,
        None => body == "0\r\n\r\n" || body.contains("\r\n0\r\n"),
    }
}

/// The values of all lines of a head with this name.
fn lines_of(head: &str, name: &str) -> Vec<String> {
    let pairs = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).collect()
}

/// What has to become of bytes.
#[derive(Debug, Clone)]
enum Fate {
    /// Nothing reaches a job, and the client is told with one of these, or is cut without a word.
    Refused(&'static [u16]),
    /// The job gets one request with this first line and this body.
    Carried(&'static str, &'static str),
    /// The mistake comes after the head was passed on: the job gets a request without an end and then a closed connection,
    /// and the client is told 400 or cut.
    BrokenOff,
}

use Fate::{BrokenOff, Carried, Refused};

/// Not a status: the connection is closed without an answer.
const CUT: u16 = 0;

/// A request that is read wrongly somewhere: nobody may see it.
const WRONG: Fate = Refused(&[400]);

/// A request to the service with these headers, after which nothing more comes on the connection.
fn request(first: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("{first}\r\nHost: {HOST}\r\n{headers}Connection: close\r\n\r\n{body}").into_bytes()
}

/// Sends bytes as they are and reads all that comes back.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The proxy may hang up before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon(&format!("an end of {:.200}", String::from_utf8_lossy(bytes)), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn statuses(answer: &str) -> Vec<u16> {
    let is_first = |line: &&str| line.starts_with("HTTP/1.");
    answer.lines().filter(is_first).filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
}

/// A head that no server can read in two ways: every line has one name of plain characters and one value, each name that
/// frames or addresses a message is there once at most, and nothing of the client's own connection is.
fn is_unambiguous(text: &str) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no end of a head: {text:?}"));
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert!(first.len() == 3 && first[1].starts_with('/') && first[2] == "HTTP/1.1", "{first:?} in {text:?}");
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} in {text:?}"));
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(is_token), "{line:?} in {text:?}");
        assert!(!value.contains(['\r', '\n', '\0']), "{line:?} in {text:?}");
    }
    let once = |name: &str| {
        let values = lines_of(head, name);
        assert!(values.len() <= 1, "{name}: {values:?} in {text:?}");
        values.into_iter().next()
    };
    assert_eq!(once("host").as_deref(), Some(HOST), "{text:?}");
    for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"] {
        assert!(once(name).is_some(), "no {name} in {text:?}");
    }
    assert_eq!(once("x-forwarded-for").as_deref(), Some("127.0.0.1"), "{text:?}");
    // Many programs read `_` in a name as `-`.
    assert!(!head.to_lowercase().contains("x_"), "{text:?}");
    let (length, coding) = (once("content-length"), once("transfer-encoding"));
    match (length, coding.as_deref()) {
        (None, None) => assert_eq!(body, "", "{text:?}"),
        (Some(length), None) => assert_eq!(length, body.len().to_string(), "{text:?}"),
        (None, Some("chunked")) => assert!(body.ends_with("0\r\n\r\n") && body.matches("0\r\n\r\n").count() == 1),
        both => panic!("{both:?} in {text:?}"),
    }
}

/// Sends each and judges it: by the answer, and by what the job received.
async fn judge(cases: Vec<(&str, Vec<u8>, Fate)>) {
    let job = RawJob::start(1).await;
    let harness = Harness::start().await;
    let mut routes = table(1, &[]);
    routes.routes[0].backends =
        vec![Backend { job: job.id, address: job.address, speaks: Speaks::default(), weight: 1 }];
    harness.agent().await.switch(&routes).await;
    let mut wrong = Vec::new();
    for (what, bytes, fate) in cases {
        let answer = send(harness.address(), &bytes).await;
        let (told, received) = (statuses(&answer), job.take().await);
        let shown = format!("{what}: {told:?}, the job received {received:?}");
        eprintln!("{shown:.300}");
        match fate {
            Refused(with) => {
                let is_told = match told.as_slice() {
                    [] => with.contains(&CUT),
                    [one] => with.contains(one),
                    _ => false,
                };
                if !is_told || !received.is_empty() {
                    wrong.push(format!("{shown}, but it is to be refused with {with:?}"));
                }
            }
            BrokenOff => {
                let is_told = told.is_empty() || told == [400];
                let has_an_end = received.iter().any(|one| is_whole(one.as_bytes()));
                if !is_told || received.len() > 1 || has_an_end {
                    wrong.push(format!("{shown}, but it is to be broken off"));
                }
            }
            Carried(first, body) => {
                let [one] = received.as_slice() else {
                    wrong.push(format!("{shown}, but it is one request"));
                    continue;
                };
                let (head, seen) = one.split_once("\r\n\r\n").unwrap_or((one, ""));
                if told != [200] || head.lines().next() != Some(first) || seen != body {
                    wrong.push(format!("{shown}, but it is to be `{first}` with {body:?}"));
                    continue;
                }
                is_unambiguous(one);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The request that a smuggler hides behind another.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

#[tokio::test]
async fn a_request_with_two_readings_of_its_length_reaches_no_job() {
    let chunked = |headers: &str| request("POST / HTTP/1.1", headers, &format!("0\r\n\r\n{HIDDEN}"));
    let sized = |headers: &str| request("POST / HTTP/1.1", headers, &format!("xxxxx{HIDDEN}"));
    let one = "POST / HTTP/1.1";
    judge(vec![
        ("length, then coding", chunked("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), WRONG),
        ("coding, then length", chunked("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), WRONG),
        ("length 0 and coding", chunked("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), WRONG),
        ("two codings", chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), WRONG),
        ("the same coding twice", chunked("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), WRONG),
        ("a list of codings", chunked("Transfer-Encoding: identity, chunked\r\n"), WRONG),
        ("chunked not last", chunked("Transfer-Encoding: chunked, identity\r\n"), WRONG),
        ("an unknown coding", chunked("Transfer-Encoding: xchunked\r\n"), WRONG),
        ("a coding with a vertical tab", chunked("Transfer-Encoding: \u{b}chunked\r\n"), WRONG),
        ("a coding in quotes", chunked("Transfer-Encoding: \"chunked\"\r\n"), WRONG),
        ("a coding with parameters", chunked("Transfer-Encoding: chunked;q=1\r\n"), WRONG),
        ("an empty coding", chunked("Transfer-Encoding:\r\n"), WRONG),
        ("two lengths", sized("Content-Length: 5\r\nContent-Length: 6\r\n"), WRONG),
        ("a list of lengths", sized("Content-Length: 5, 6\r\n"), WRONG),
        ("a signed length", sized("Content-Length: +5\r\n"), WRONG),
        ("a negative length", sized("Content-Length: -1\r\n"), WRONG),
        ("a hexadecimal length", sized("Content-Length: 0x5\r\n"), WRONG),
        ("a length with words", sized("Content-Length: 5 5\r\n"), WRONG),
        ("no number", sized("Content-Length: five\r\n"), WRONG),
        ("an empty length", sized("Content-Length:\r\n"), WRONG),
        ("beyond 64 bits", sized("Content-Length: 18446744073709551617\r\n"), WRONG),
        ("a space before the colon", sized("Content-Length : 5\r\n"), WRONG),
        ("a tab before the colon", chunked("Transfer-Encoding\t: chunked\r\n"), WRONG),
        ("a folded coding", chunked("Transfer-Encoding:\r\n chunked\r\n"), WRONG),
        ("a folded length", sized("Content-Length: 5\r\n 0\r\n"), WRONG),
        ("a folded first header", request(one, " X: 1\r\n", ""), WRONG),
        ("a coding in HTTP/1.0", request("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), WRONG),
        (
            "a chunk's size that is none",
            request(one, "Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
            BrokenOff,
        ),
        (
            "a chunk of a negative size",
            request(one, "Transfer-Encoding: chunked\r\n", "-1\r\nhello\r\n0\r\n\r\n"),
            BrokenOff,
        ),
        (
            "a chunk's size beyond 64 bits",
            request(one, "Transfer-Encoding: chunked\r\n", "10000000000000001\r\nh\r\n0\r\n\r\n"),
            BrokenOff,
        ),
        (
            "a chunk that is longer than it says",
            request(one, "Transfer-Encoding: chunked\r\n", "3\r\nhello\r\n0\r\n\r\n"),
            BrokenOff,
        ),
    ])
    .await;
}

#[tokio::test]
async fn lines_that_end_strangely_and_names_that_are_none_make_no_second_request() {
    let get = |headers: &str| request("GET / HTTP/1.1", headers, "");
    let line = "GET / HTTP/1.1";
    let bare = format!("GET / HTTP/1.1\nHost: {HOST}\nConnection: close\n\n").into_bytes();
    judge(vec![
        ("bare line feeds everywhere", bare, Carried(line, "")),
        ("a bare line feed in the head", get("X: 1\nY: 2\r\n"), Carried(line, "")),
        ("a bare return in a value", get("X: 1\rY: 2\r\n"), WRONG),
        ("a bare return before the colon", get("X\r: 1\r\n"), WRONG),
        ("a return and a length", get("X: 1\rContent-Length: 9\r\n"), WRONG),
        ("a folded line", get("X: 1\r\n and more\r\n"), WRONG),
        ("a line folded by a tab", get("X: 1\r\n\tTransfer-Encoding: chunked\r\n"), WRONG),
        ("a space before the colon", get("X : 1\r\n"), WRONG),
        ("a space in a name", get("X Y: 1\r\n"), WRONG),
        ("no name", get(": 1\r\n"), WRONG),
        ("no colon", get("X\r\n"), WRONG),
        ("NUL in a name", get("X\0Y: 1\r\n"), WRONG),
        ("NUL in a value", get("X: 1\u{0}2\r\n"), WRONG),
        ("a control character in a value", get("X: 1\u{1b}[2J\r\n"), WRONG),
        ("DEL in a value", get("X: 1\u{7f}\r\n"), WRONG),
        ("letters beyond ASCII in a name", get("X\u{e9}: 1\r\n"), WRONG),
        ("an underscore for a dash", get("Content_Length: 5\r\n"), Carried(line, "")),
        ("claims with underscores", get("X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n"), Carried(line, "")),
        ("empty lines first", [b"\r\n\r\n".to_vec(), get("")].concat(), Carried(line, "")),
    ])
    .await;
}

#[tokio::test]
async fn a_target_reaches_the_job_in_one_form_or_not_at_all() {
    let get = |target: &str| request(&format!("GET {target} HTTP/1.1"), "", "");
    let first = |line: &str| request(line, "", "");
    judge(vec![
        ("two steps up", get("/a/../../etc/passwd"), Carried("GET /a/../../etc/passwd HTTP/1.1", "")),
        ("encoded steps", get("/a/%2e%2e/%2fb"), Carried("GET /a/%2e%2e/%2fb HTTP/1.1", "")),
        ("an encoded line end", get("/a%0d%0aX:%201"), Carried("GET /a%0d%0aX:%201 HTTP/1.1", "")),
        ("an encoded NUL", get("/a%00b"), Carried("GET /a%00b HTTP/1.1", "")),
        ("two slashes", get("//other.example/x"), Carried("GET //other.example/x HTTP/1.1", "")),
        ("a backslash", get("/a\\..\\b"), Carried("GET /a\\..\\b HTTP/1.1", "")),
        ("absolute, ours", get("http://shop.example.com/a?b=c"), Carried("GET /a?b=c HTTP/1.1", "")),
        ("absolute, without a path", get("http://shop.example.com"), Carried("GET / HTTP/1.1", "")),
        ("absolute, another's", get("http://other.example/a"), Refused(&[404])),
        ("absolute, with a user", get("http://a@shop.example.com/a"), WRONG),
        ("absolute, a metadata service", get("http://169.254.169.254/latest"), Refused(&[404])),
        ("absolute, the proxy's own machine", get("http://127.0.0.1:7400/v1/apps"), Refused(&[404])),
        ("a way out", request("CONNECT other.example:443 HTTP/1.1", "", ""), WRONG),
        ("authority alone", get("shop.example.com:80"), WRONG),
        ("no target", first("GET  HTTP/1.1"), WRONG),
        ("two targets", first("GET /a /b HTTP/1.1"), WRONG),
        ("a tab", first("GET\t/a\tHTTP/1.1"), WRONG),
        ("NUL", get("/a\0b"), WRONG),
        ("an escape sequence", get("/a\u{1b}[2J"), WRONG),
        ("a bare return", get("/a\rb"), WRONG),
        ("no version", first("GET /"), WRONG),
        ("HTTP/0.9 with a line feed", first("GET /\n"), WRONG),
        ("HTTP/2 by its name", first("GET / HTTP/2.0"), Refused(&[400, 505])),
        ("HTTP/3", first("GET / HTTP/3"), Refused(&[400, 505])),
        ("HTTP/1.10", first("GET / HTTP/1.10"), WRONG),
        ("HTTP/01.1", first("GET / HTTP/01.1"), WRONG),
        ("lower case", first("GET / http/1.1"), WRONG),
        ("no method", first("/ HTTP/1.1"), WRONG),
        ("a method with a bracket", first("G(T / HTTP/1.1"), WRONG),
        ("an unknown method", first("PLANK / HTTP/1.1"), Carried("PLANK / HTTP/1.1", "")),
        ("the greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n".to_vec(), WRONG),
    ])
    .await;
}

#[tokio::test]
async fn a_host_that_is_not_one_plain_name_reaches_no_job() {
    let hosts = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n").into_bytes();
    let host = |value: &str| hosts(&format!("Host: {value}\r\n"));
    judge(vec![
        ("none", hosts(""), WRONG),
        ("none in HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n".to_vec(), WRONG),
        ("an empty one", host(""), WRONG),
        ("two", hosts("Host: shop.example.com\r\nHost: other.example\r\n"), WRONG),
        ("twice the same", hosts("Host: shop.example.com\r\nhost: shop.example.com\r\n"), WRONG),
        ("a list", host("shop.example.com, other.example"), WRONG),
        ("with a path", host("shop.example.com/x"), WRONG),
        ("with a query", host("shop.example.com?x"), WRONG),
        ("with a user", host("a@shop.example.com"), WRONG),
        ("with a quote", host("shop.example.com\";x=\"y"), WRONG),
        ("with a semicolon", host("shop.example.com;proto=https"), Refused(&[404])),
        ("with a space", host("shop.example.com x"), WRONG),
        ("with a line", host("shop.example.com\r\n X: 1"), WRONG),
        ("with a bare return", host("shop.example.com\rX: 1"), WRONG),
        ("with NUL", host("shop.example.com\0"), WRONG),
        ("with an escape", host("shop.example.com\u{1b}[2J"), WRONG),
        ("beyond ASCII", host("sh\u{f6}p.example.com"), WRONG),
        ("with a port that is none", host("shop.example.com:x"), WRONG),
        ("with a port beyond all", host("shop.example.com:99999999"), WRONG),
        ("another's", host("other.example"), Refused(&[404])),
        ("a suffix of ours", host("shop.example.com.evil.example"), Refused(&[404])),
        ("one long name", host(&"a".repeat(40_000)), Refused(&[400, 404])),
    ])
    .await;
}

#[tokio::test]
async fn a_client_cannot_say_for_the_proxy_who_it_is_in_heads_or_trailers() {
    let get = |headers: &str| request("GET / HTTP/1.1", headers, "");
    let post = |headers: &str, body: &str| request("POST / HTTP/1.1", headers, body);
    let (one, two) = ("GET / HTTP/1.1", "POST / HTTP/1.1");
    judge(vec![
        ("an address of its own", get("X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"), Carried(one, "")),
        ("twice", get("X-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-FOR: 7.7.7.7\r\n"), Carried(one, "")),
        ("a host of its own", get("X-Forwarded-Host: evil.example\r\nForwarded: host=evil\r\n"), Carried(one, "")),
        // Whoever names the proxy's own words as the connection's must not be rid of them.
        ("the proxy's words taken away", get("Connection: X-Forwarded-For, Forwarded, Host\r\n"), Carried(one, "")),
        ("the length taken away", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "plank"), Carried(two, "plank")),
        (
            "the coding taken away",
            post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nplank\r\n0\r\n\r\n"),
            Carried(two, "5\r\nplank\r\n0\r\n\r\n"),
        ),
        (
            "trailers that name and frame",
            post(
                "TE: trailers\r\nTrailer: X-Forwarded-For, Host, Content-Length, Forwarded, X-Real-IP\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nplank\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nHost: evil.example\r\nContent-Length: 9\r\n\
                 Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\r\n",
            ),
            Carried(two, "5\r\nplank\r\n0\r\n\r\n"),
        ),
        (
            "trailers that nobody announced",
            post("Transfer-Encoding: chunked\r\n", "5\r\nplank\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
            Carried(two, "5\r\nplank\r\n0\r\n\r\n"),
        ),
        (
            "a chunk's extension",
            post("Transfer-Encoding: chunked\r\n", "5;x=\"y\"\r\nplank\r\n0;z\r\n\r\n"),
            Carried(two, "5\r\nplank\r\n0\r\n\r\n"),
        ),
        (
            "an upgrade to another HTTP",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
            Carried(one, ""),
        ),
        ("a body for GET", request("GET / HTTP/1.1", "Content-Length: 5\r\n", "plank"), Carried(one, "plank")),
    ])
    .await;
}

#[tokio::test]
async fn heads_and_trailers_beyond_the_limits_are_refused_and_reach_no_job_whole() {
    let get = |headers: &str| request("GET / HTTP/1.1", headers, "");
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let trailers = |text: String| {
        let body = format!("5\r\nplank\r\n0\r\n{text}\r\n");
        request("POST / HTTP/1.1", "Trailer: X-0\r\nTransfer-Encoding: chunked\r\n", &body)
    };
    judge(vec![
        ("as many headers as there may be", get(&many(90)), Carried("GET / HTTP/1.1", "")),
        ("one header too many", get(&many(100)), Refused(&[431])),
        ("thousands of headers", get(&many(5_000)), Refused(&[431])),
        ("a long header", get(&format!("X: {}\r\n", "x".repeat(70_000))), Refused(&[431])),
        ("a long name", get(&format!("{}: 1\r\n", "x".repeat(70_000))), Refused(&[400, 431])),
        ("a long target", request(&format!("GET /{} HTTP/1.1", "x".repeat(70_000)), "", ""), Refused(&[400, 414, 431])),
        ("a long method", request(&format!("{} / HTTP/1.1", "X".repeat(70_000)), "", ""), Refused(&[400, 431])),
        ("endless empty lines", "\r\n".repeat(40_000).into_bytes(), Refused(&[400, 431])),
        ("long trailers", trailers(format!("X-0: {}\r\n", "x".repeat(70_000))), BrokenOff),
        ("thousands of trailers", trailers(many(5_000)), BrokenOff),
        ("a trailer that is none", trailers("X 0: 1\r\n".into()), BrokenOff),
        (
            "a long extension of a chunk",
            {
                let body = format!("5;{}\r\nplank\r\n0\r\n\r\n", "x".repeat(70_000));
                request("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n", &body)
            },
            BrokenOff,
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_path_that_climbs_goes_to_the_service_of_its_first_words_and_to_no_other() {
    let (open, closed) = (RawJob::start(1).await, RawJob::start(2).await);
    let harness = Harness::start().await;
    let one = table(1, &[]).routes.remove(0);
    let route = |path: &str, service: u128, job: &RawJob| Route {
        path: path.to_owned(),
        service: ServiceId(service),
        backends: vec![Backend { job: job.id, address: job.address, speaks: Speaks::default(), weight: 1 }],
        ..one.clone()
    };
    let routes = vec![route("/", 1, &open), route("/closed", 2, &closed)];
    harness.agent().await.switch(&RouteTable { routes, ..table(1, &[]) }).await;
    for (target, to) in [
        ("/closed/x", 2),
        ("/closed/../x", 2),
        ("/closed/%2e%2e/x", 2),
        ("/x/../closed/y", 1),
        ("/x/%2e%2e/closed", 1),
        ("//closed/x", 1),
        ("/%63losed/x", 1),
        ("/CLOSED/x", 1),
        ("/closed%2fx", 1),
        ("/closed;x", 1),
        ("/closedx", 1),
    ] {
        let answer = send(harness.address(), &request(&format!("GET {target} HTTP/1.1"), "", "")).await;
        assert!(answer.ends_with(&format!("job {to}")), "{target}: {answer}");
        let (at, other) =
            if to == 1 { (open.take().await, closed.take().await) } else { (closed.take().await, open.take().await) };
        assert_eq!((at.len(), other.len()), (1, 0), "{target}");
        assert!(at[0].starts_with(&format!("GET {target} HTTP/1.1\r\n")), "as it was sent: {}", at[0]);
    }
}
