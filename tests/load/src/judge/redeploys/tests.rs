use super::*;
use crate::judge::evidence::{Connections, Latency, Moment, Websockets};

const SERVICE: &str = "shop/production/web";
const SWITCHED: u64 = 10_000;

/// One redeploy of one slot that went well: overlap 2 s, drain 3 s with a socket that stayed to its end, killed after 1 s.
fn good() -> Case {
    let container = |job: &str| Container {
        id: job.into(),
        job: job.into(),
        attempt: "1".into(),
        path: SERVICE.into(),
        started: vec![1],
        ..Container::default()
    };
    let timeline = |old: Option<&str>, new: &str, switched| Timeline {
        slot: "web.1".into(),
        old: old.map(str::to_owned),
        new: Some(new.into()),
        phase: "done".into(),
        reached: vec![Moment { phase: "switched".into(), at_ms: switched }],
        stopped_ms: old.map(|_| switched + 5_001),
    };
    let deployment = |number, timeline| Deployment {
        service: SERVICE.into(),
        number,
        phase: "complete".into(),
        ended: true,
        message: None,
        slots: vec![timeline],
    };
    let end = SWITCHED + 5_002;
    Case {
        policy: Policy { overlap_ms: 2_000, drain_ms: 3_000, stop_grace_ms: 1_000 },
        redeploys: 1,
        service: SERVICE.into(),
        load: Load {
            verdict: "passed".into(),
            reasons: Vec::new(),
            scheduled: 100,
            sent: 100,
            answered: 100,
            failed: 0,
            retried: 0,
            latency_ms: Latency { p50: 1.0, p99: 2.0, max: 3.0 },
            connections: Connections { fresh: 10 },
            websockets: Websockets {
                wanted: 1,
                echoed: 9,
                sockets: vec![Socket {
                    host: Some("web-1".into()),
                    opened_ms: SWITCHED - 5_000,
                    closed_ms: end + 1,
                    closed_by: "server".into(),
                    code: Some(1001),
                }],
            },
        },
        deployments: vec![
            deployment(1, timeline(None, "old", 1_000)),
            deployment(2, timeline(Some("old"), "new", SWITCHED)),
        ],
        containers: vec![
            Container {
                terminated: Some(end),
                heard: Some(end + 3),
                killed: Some(end + 1_004),
                died: Some(end + 1_005),
                ..container("old")
            },
            container("new"),
        ],
    }
}

/// The sentences of the checks that fail once this has happened.
fn failed_after(change: impl FnOnce(&mut Case)) -> Vec<String> {
    let mut case = good();
    change(&mut case);
    let sheet = judge(&case);
    sheet.checks.into_iter().filter(|check| !check.passed()).map(|check| check.sentence).collect()
}

fn has(failed: &[String], words: &str) -> bool {
    failed.iter().any(|sentence| sentence.contains(words))
}

#[test]
fn a_redeploy_that_kept_every_promise_passes_every_check() {
    assert_eq!(failed_after(|_| {}), Vec::<String>::new());
}

#[test]
fn one_lost_or_repeated_request_fails() {
    assert!(has(&failed_after(|case| case.load.answered -= 1), "every scheduled request"));
    assert!(has(&failed_after(|case| case.load.retried = 1), "sent twice"));
    assert!(has(&failed_after(|case| case.load.connections.fresh = 9), "connections of their own"));
}

#[test]
fn a_stop_signal_before_the_overlap_s_end_fails_and_so_does_one_long_after_the_drain() {
    let stop = |case: &mut Case, at: u64| {
        let container = &mut case.containers[0];
        (container.terminated, container.heard) = (Some(at), Some(at));
        (container.killed, container.died) = (Some(at + 1_000), Some(at + 1_000));
        case.deployments[1].slots[0].stopped_ms = Some(at);
    };
    let early = failed_after(|case| stop(case, SWITCHED + 1_999));
    assert_eq!(early, ["no SIGTERM came before the switch and the whole overlap"]);
    let late = failed_after(|case| stop(case, SWITCHED + 6_004));
    assert!(has(&late, "at most 1 s after the drain's end"), "{late:?}");
}

#[test]
fn without_an_open_connection_the_drain_ends_with_the_overlap() {
    let failed = failed_after(|case| case.load.websockets.sockets.clear());
    assert!(has(&failed, "at most 1 s after the drain's end"), "{failed:?}");
}

#[test]
fn a_socket_that_is_closed_before_the_drain_deadline_or_without_a_word_fails() {
    let sentence = ["no WebSocket was closed before its old job's drain deadline and SIGTERM"];
    let early = |case: &mut Case| {
        (case.containers[0].terminated, case.containers[0].heard) = (Some(SWITCHED + 4_500), Some(SWITCHED + 4_500));
        case.load.websockets.sockets[0].closed_ms = SWITCHED + 4_600;
    };
    assert_eq!(failed_after(early), sentence);
    assert_eq!(failed_after(|case| case.load.websockets.sockets[0].code = None), sentence);
    assert_eq!(failed_after(|case| case.load.websockets.sockets[0].closed_by = "cut".into()), sentence);
}

#[test]
fn a_socket_of_the_new_job_that_is_closed_fails() {
    let failed = failed_after(|case| case.load.websockets.sockets[0].opened_ms = SWITCHED + 300);
    assert!(has(&failed, "no WebSocket was closed"), "{failed:?}");
}

#[test]
fn a_kill_before_the_grace_s_end_fails_and_so_does_one_long_after_it() {
    let kill = |after: u64| {
        failed_after(|case| {
            let container = &mut case.containers[0];
            container.killed = container.terminated.map(|at| at + after);
            container.died = container.killed;
        })
    };
    assert!(has(&kill(999), "before the whole stop grace"));
    assert!(has(&kill(2_001), "at most 1 s after the stop grace"));
}

#[test]
fn a_container_that_dies_by_itself_or_starts_twice_fails() {
    assert!(has(&failed_after(|case| case.containers[1].died = Some(5)), "without having been told"));
    assert!(has(&failed_after(|case| case.containers[1].started.push(9)), "started twice"));
}

#[test]
fn witnesses_that_do_not_agree_fail() {
    assert!(has(&failed_after(|case| case.containers[0].heard = None), "agree on when"));
    assert!(has(&failed_after(|case| case.containers[0].terminated = None), "in the engine's events"));
    assert!(has(&failed_after(|case| case.deployments[1].slots[0].stopped_ms = Some(1)), "agree on when"));
}

#[test]
fn a_deployment_that_failed_or_is_missing_fails() {
    assert!(has(&failed_after(|case| case.deployments[1].phase = "failed".into()), "was completed"));
    assert!(has(&failed_after(|case| case.redeploys = 2), "as many redeploys"));
}

#[test]
fn two_of_fifty_may_be_late() {
    assert_eq!((late_ones(50), late_ones(100), late_ones(10)), (2, 4, 0));
}
