//! The judge before services that lose something, each in its own way: every kind of loss must be seen, and called by
//! its name.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use lapstrake_load::report::{Report, Verdict};
use lapstrake_load::request::Kind;
use lapstrake_load::schedule::Schedule;
use lapstrake_load::target::Target;
use lapstrake_load::{Plan, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const DEADLINE: Duration = Duration::from_millis(400);
/// 50 requests: one in three a body, ten of them on connections of their own.
const SCHEDULE: Schedule = Schedule { rate: 50, fresh_percent: 20, body_bytes: Some(BODY as u64) };
const BODY: usize = 3000;

/// How the service behaves.
#[derive(Clone, Copy, PartialEq)]
enum Service {
    Good,
    AnswersWithTheStatus(&'static str),
    EndsTheBodyEarly,
    OmitsTheLastChunk,
    SendsAShorterBody,
    SendsOtherBytes,
    DoesNotSayHowLongTheBodyIs,
    AnswersLate,
    NeverAnswers,
    ResetsEveryConnection,
    EndsInTheHead,
    ClosesEachConnectionAtItsSecondRequest,
    ClosesEachConnectionAfterItsFirstAnswer,
}
use Service::*;

async fn judge(service: Service) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, service));
        }
    });
    load(address, Duration::from_secs(1), SCHEDULE, 0).await
}

async fn load(address: SocketAddr, duration: Duration, schedule: Schedule, websockets: usize) -> Report {
    let target = Target::new(&format!("http://{address}/"), Some("shop.example.com")).expect("loopback");
    let plan = Plan {
        schedule,
        duration: Some(duration),
        websockets,
        ws_path: "/ws".into(),
        deadline: DEADLINE,
        connections: 4,
        progress: false,
    };
    run(plan, target, std::future::pending()).await
}

/// Serves one connection. Every end of this function closes it.
async fn serve(mut stream: TcpStream, service: Service) {
    let mut served = 0;
    while let Some(path) = read_request(&mut stream).await {
        let page = br#"{"version":"v1"}"#.to_vec();
        let body = match path.strip_prefix("/body?bytes=") {
            Some(_) => (0..BODY).map(|position| (position % 251) as u8).collect(),
            None => page,
        };
        let is_body = body.len() == BODY;
        let head = |status: &str, framing: &str| format!("HTTP/1.1 {status}\r\n{framing}\r\n").into_bytes();
        let whole = |status: &str, body: &[u8]| {
            [head(status, &format!("content-length: {}\r\n", body.len())), body.to_vec()].concat()
        };
        let chunked = [head("200 OK", "transfer-encoding: chunked\r\n"), b"5\r\nplank\r\n".to_vec()].concat();
        let (answer, goes_on) = match service {
            AnswersWithTheStatus(status) => (whole(status, b"no target for shop/production/web"), true),
            EndsTheBodyEarly if is_body => (whole("200 OK", &body)[..60].to_vec(), false),
            OmitsTheLastChunk => (chunked, false),
            SendsAShorterBody if is_body => (whole("200 OK", &body[..BODY - 1]), true),
            SendsOtherBytes if is_body => (whole("200 OK", &vec![7; BODY]), true),
            DoesNotSayHowLongTheBodyIs => ([head("200 OK", ""), body].concat(), false),
            AnswersLate => {
                tokio::time::sleep(DEADLINE * 5 / 4).await;
                (whole("200 OK", &body), true)
            }
            NeverAnswers => std::future::pending().await,
            ResetsEveryConnection => {
                let _ = stream.set_zero_linger();
                return;
            }
            EndsInTheHead => (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), false),
            ClosesEachConnectionAtItsSecondRequest if served == 1 => return,
            ClosesEachConnectionAfterItsFirstAnswer => (whole("200 OK", &body), false),
            _ => (whole("200 OK", &body), true),
        };
        if stream.write_all(&answer).await.is_err() || !goes_on {
            return;
        }
        served += 1;
    }
}

/// Reads the head of a request; returns its path.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).ok()?.split(' ').nth(1)?.to_owned())
}

/// Asserts that all requests that could meet the fault failed with this kind, and no other.
fn assert_failed(report: &Report, kind: Kind, number: u64) {
    assert_eq!(report.verdict, Verdict::Failed, "{:?}", report.reasons);
    assert_eq!(report.failed_by_kind, [(kind, number)].into(), "{:?}", report.failures.first());
    assert_eq!((report.scheduled, report.answered), (50, 50 - number));
    assert!(!report.reasons.is_empty());
}

#[tokio::test]
async fn a_service_that_answers_everything_passes() {
    let report = judge(Good).await;
    assert_eq!(report.verdict, Verdict::Passed, "{:?} {:?}", report.reasons, report.failures);
    assert_eq!((report.scheduled, report.sent, report.answered, report.retried), (50, 50, 50, 0));
    assert_eq!(report.connections.fresh, 10);
    let pages: u64 = report.versions.values().flatten().map(|(_, number)| number).sum();
    assert_eq!(pages, 33);
}

#[tokio::test]
async fn a_status_that_is_not_2xx_is_a_loss_and_its_body_is_kept() {
    let report = judge(AnswersWithTheStatus("503 Service Unavailable")).await;
    assert_failed(&report, Kind::Status, 50);
    assert_eq!(report.failures[0].status, Some(503));
    assert!(report.failures[0].body.contains("shop/production/web"));
    assert_failed(&judge(AnswersWithTheStatus("500 Internal Server Error")).await, Kind::Status, 50);
}

#[tokio::test]
async fn a_body_that_ends_early_is_a_loss() {
    assert_failed(&judge(EndsTheBodyEarly).await, Kind::LostBody, 17);
}

#[tokio::test]
async fn a_body_without_its_last_chunk_is_a_loss() {
    assert_failed(&judge(OmitsTheLastChunk).await, Kind::LostBody, 50);
}

#[tokio::test]
async fn a_body_of_another_length_or_with_other_bytes_is_a_loss() {
    assert_failed(&judge(SendsAShorterBody).await, Kind::WrongLength, 17);
    assert_failed(&judge(SendsOtherBytes).await, Kind::WrongBytes, 17);
}

#[tokio::test]
async fn a_body_whose_end_cannot_be_known_is_a_loss() {
    assert_failed(&judge(DoesNotSayHowLongTheBodyIs).await, Kind::Unframed, 50);
}

#[tokio::test]
async fn a_late_answer_is_a_loss_and_is_told_from_none() {
    assert_failed(&judge(AnswersLate).await, Kind::Late, 50);
    assert_failed(&judge(NeverAnswers).await, Kind::NoAnswer, 50);
}

#[tokio::test]
async fn a_connection_that_ends_without_a_whole_head_is_a_loss() {
    assert_failed(&judge(ResetsEveryConnection).await, Kind::Reset, 50);
    let report = judge(EndsInTheHead).await;
    assert_failed(&report, Kind::Reset, 50);
    assert_eq!(report.retried, 0, "a byte of the answer had come: no client sends that request again");
}

#[tokio::test]
async fn a_kept_connection_that_closes_before_an_answer_is_retried_once_and_counted() {
    let report = judge(ClosesEachConnectionAtItsSecondRequest).await;
    assert_eq!(report.verdict, Verdict::Passed, "{:?} {:?}", report.reasons, report.failures);
    assert_eq!((report.sent, report.answered), (50, 50));
    assert!(report.retried > 0);
    assert_eq!(report.retries.len() as u64, report.retried);
}

#[tokio::test]
async fn a_connection_that_closes_between_two_requests_loses_nothing() {
    let report = judge(ClosesEachConnectionAfterItsFirstAnswer).await;
    assert_eq!(report.verdict, Verdict::Passed, "{:?} {:?}", report.reasons, report.failures);
    assert!(report.connections.closed_idle > 0);
}

#[tokio::test]
async fn nobody_listening_is_a_loss() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert_failed(&load(address, Duration::from_secs(1), SCHEDULE, 0).await, Kind::Connect, 50);
}

#[tokio::test]
async fn a_slow_service_does_not_slow_the_load_down() {
    let report = judge(NeverAnswers).await;
    assert!(report.generator.max_lag_ms < 200.0, "{}", report.generator.max_lag_ms);
    assert_eq!(report.scheduled, 50);
}

/// What the service does with an open WebSocket.
#[derive(Clone, Copy)]
enum Socket {
    Echoes,
    ClosesAfterTheFirstEcho,
    CutsAfterTheFirstEcho,
    EchoesSomethingElse,
    NeverEchoes,
}

async fn judge_sockets(socket: Socket) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The load's other connections are served as they should be: told apart by their path.
                let mut start = [0; 7];
                let read = stream.peek(&mut start).await.unwrap_or(0);
                if start[..read].starts_with(b"GET /ws") {
                    talk(stream, socket).await
                } else {
                    serve(stream, Good).await
                }
            });
        }
    });
    load(address, Duration::from_millis(1800), Schedule { rate: 10, ..SCHEDULE }, 2).await
}

async fn talk(stream: TcpStream, socket: Socket) {
    let Ok(mut peer) = accept_async(stream).await else { return };
    while let Some(Ok(message)) = peer.next().await {
        let echo = match socket {
            NeverEchoes => continue,
            EchoesSomethingElse => Message::text("something else"),
            _ => message,
        };
        if peer.send(echo).await.is_err() {
            return;
        }
        match socket {
            CutsAfterTheFirstEcho => return,
            ClosesAfterTheFirstEcho => {
                let _ = peer.close(Some(CloseFrame { code: CloseCode::Away, reason: "moving".into() })).await;
            }
            _ => {}
        }
    }
}
use Socket::*;

#[tokio::test]
async fn sockets_that_echo_pass_and_their_lives_are_reported() {
    let report = judge_sockets(Echoes).await;
    assert_eq!(report.verdict, Verdict::Passed, "{:?} {:?}", report.reasons, report.failures);
    assert_eq!(report.websockets.opened, 2);
    assert!(report.websockets.echoed >= 4);
    assert!(report.websockets.sockets.iter().all(|socket| socket.closed_by == "load"));
}

#[tokio::test]
async fn a_socket_closed_with_a_close_frame_is_opened_again_and_is_no_loss() {
    let report = judge_sockets(ClosesAfterTheFirstEcho).await;
    assert_eq!(report.verdict, Verdict::Passed, "{:?} {:?}", report.reasons, report.failures);
    assert!(report.websockets.opened > 2);
    let first = &report.websockets.sockets[0];
    assert_eq!((first.closed_by, first.code, first.reason.as_str()), ("server", Some(1001), "moving"));
    assert!(first.opened_ms <= first.closed_ms);
}

#[tokio::test]
async fn a_socket_cut_without_a_close_frame_is_a_loss() {
    let report = judge_sockets(CutsAfterTheFirstEcho).await;
    assert_eq!(report.verdict, Verdict::Failed);
    assert_eq!(report.failed_by_kind.keys().collect::<Vec<_>>(), [&Kind::WebsocketCut]);
    assert_eq!(report.websockets.sockets[0].closed_by, "cut");
}

#[tokio::test]
async fn a_wrong_echo_and_a_missing_one_are_losses() {
    for socket in [EchoesSomethingElse, NeverEchoes] {
        let report = judge_sockets(socket).await;
        assert_eq!(report.verdict, Verdict::Failed);
        assert!(report.failed_by_kind.contains_key(&Kind::WebsocketEcho), "{:?}", report.reasons);
    }
}
