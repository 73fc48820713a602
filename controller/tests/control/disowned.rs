//! Sessions that are not their node's any more: the engine ends them, so that nobody is told to go on counting on them.

use crate::engine::PATIENCE;
use crate::stranger::hello;
use futures_util::FutureExt;
use lapstrake_controller::control::{Outbox, SessionOver};
use lapstrake_controller::engine::Engine;
use lapstrake_controller::store::{Batch, Change, Store};
use lapstrake_core::cluster::state::{Meta, Node};
use lapstrake_core::cluster::{Cluster, Key, Record};
use lapstrake_core::ids::{ClusterId, EpochId, NodeId, SessionId};
use lapstrake_core::message::{AgentWord, Hello};
use lapstrake_core::report::Use;
use lapstrake_unit::Pulse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

const CLUSTER: ClusterId = ClusterId(7);

/// An engine on a store of its own, with one node.
struct Desk {
    engine: Engine,
    pulse: Pulse,
    node: NodeId,
    store: PathBuf,
    _folder: TempDir,
}

async fn desk() -> Desk {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let meta = || Meta { cluster: CLUSTER, epoch: EpochId(1), organization: "main".into(), domain: "localhost".into() };
    let mut cluster = Cluster::default();
    let node = NodeId(1);
    let record = serde_json::json!({
        "id": node, "name": "n1", "architecture": "amd64", "labels": {}, "wish": "open", "joined": 0, "boot": null,
        "capacity": { "cpu_milli": 0, "memory_bytes": 0 }, "generation": 0, "key": "key",
    });
    cluster.put(serde_json::from_value::<Node>(record).expect("a node's record"));
    let row = |(key, record): (Key, Option<Record>)| Change {
        key: key.to_string(),
        value: record.map(|record| serde_json::to_string(&record).expect("JSON")),
    };
    let mut store = Store::open(&path).expect("a store");
    let changes = cluster.take_changes().into_iter().map(row).collect();
    store.commit(&Batch { changes, ..Batch::default() }).expect("a node");
    let pulse = Pulse::default();
    let (engine, _thread) = Engine::start(store, meta, pulse.clone(), Arc::default()).expect("an engine");
    Desk { engine, pulse, node, store: path, _folder: folder }
}

impl Desk {
    fn word(&self) -> Hello {
        let AgentWord::Hello(hello) = hello(CLUSTER, self.node) else { panic!("a hello") };
        hello
    }

    async fn session(&self) -> Option<SessionId> {
        let node = self.node;
        self.engine.look(move |look| look.live.session(node)).await.expect("the engine runs")
    }
}

async fn over(outbox: &Outbox) -> SessionOver {
    let ended = async {
        loop {
            match outbox.over() {
                Some(over) => return over,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, ended).await.expect("the session is ended")
}

#[tokio::test]
async fn a_session_ends_with_the_next_hello_though_that_one_cannot_be_recorded() {
    let desk = desk().await;
    let (first, second) = (Outbox::default(), Outbox::default());
    desk.engine.hello(desk.node, SessionId(1), desk.word(), first.clone()).await.expect("welcome");
    assert_eq!(first.over(), None);
    let store = rusqlite::Connection::open(&desk.store).expect("the store");
    store
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON state BEGIN SELECT raise(ABORT, 'full'); END")
        .expect("full");
    let mut changed = desk.word();
    changed.report.capacity.cpu_milli += 1;
    desk.engine.hello(desk.node, SessionId(2), changed, second.clone()).await.expect_err("it cannot be recorded");
    assert_eq!(over(&first).await, SessionOver::Superseded, "its readings are not taken in any more");
    assert_eq!(desk.session().await, None, "and who was not welcome has no session");
}

#[tokio::test]
async fn a_hello_that_nobody_waits_for_any_more_leaves_no_session() {
    let desk = desk().await;
    let outbox = Outbox::default();
    let mut number = 1;
    // The answer may be there at once; then it was not this case.
    while desk.engine.hello(desk.node, SessionId(number), desk.word(), outbox.clone()).now_or_never().is_some() {
        number += 1;
    }
    assert_eq!(desk.session().await, None);
}

#[tokio::test]
async fn a_session_that_the_engine_forgets_is_ended() {
    let desk = desk().await;
    let outbox = Outbox::default();
    desk.engine.hello(desk.node, SessionId(1), desk.word(), outbox.clone()).await.expect("welcome");
    desk.engine.heartbeat(desk.node, SessionId(1), Use::default());
    assert_eq!(desk.session().await, Some(SessionId(1)));
    assert_eq!(outbox.over(), None, "a heartbeat of the node's own session ends nothing");
    desk.engine.ended(desk.node, SessionId(1));
    desk.engine.heartbeat(desk.node, SessionId(1), Use::default());
    assert_eq!(over(&outbox).await, SessionOver::Superseded);
}

/// Waits until the writer has come round so often.
async fn turns(pulse: &Pulse, times: u64) -> bool {
    let wanted = pulse.count() + times;
    let turned = async {
        while pulse.count() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, turned).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writers_pulse_beats_while_nobody_asks_anything_and_stops_with_the_writer() {
    let desk = desk().await;
    assert!(turns(&desk.pulse, 2).await, "an idle writer turns");
    let (held, holds) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let engine = desk.engine.clone();
    let stuck = tokio::spawn(async move {
        let look = move |_: &lapstrake_controller::engine::Look<'_>| {
            let _ = held.send(());
            let _ = released.recv();
        };
        engine.look(look).await
    });
    holds.await.expect("the writer is held");
    let before = desk.pulse.count();
    // Longer than an idle writer naps.
    let beaten = timeout(Duration::from_millis(2500), async {
        while desk.pulse.count() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(beaten.await.is_err(), "the pulse beats though the writer is stuck");
    release.send(()).expect("the writer waits");
    stuck.await.expect("joined").expect("the engine runs");
    assert!(turns(&desk.pulse, 1).await, "the writer turns again");
}
