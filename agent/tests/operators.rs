//! Commands of operators who are gone before the engine comes to them, on the engine in memory.

mod support;

use lapstrake::convert::{FromJob, ToJob, TunnelEnd};
use lapstrake_agent::runtime::fake::{FakeRuntime, Hold};
use lapstrake_agent::runtime::{RunOrder, Runtime};
use lapstrake_agent::tunnel::{Commands, Operator, exec};
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::message::Exec;
use std::sync::Arc;
use support::{fresh, host, order, subnet, until};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A job that runs, and the commands in it.
struct Job {
    engine: FakeRuntime,
    order: RunOrder,
    commands: Commands,
}

impl Job {
    async fn start() -> Job {
        let engine = FakeRuntime::default();
        let image = BoundImage::Digest { reference: "serves".into(), pinned: "serves@sha256:1".into() };
        let order = order(EnvironmentId(fresh()), host(subnet(1), 2), image.clone(), &[]);
        engine.pull(&image, None).await.expect("got");
        engine.ensure_network(order.run.environment, subnet(1)).await.expect("made");
        engine.run(&order).await.expect("started");
        Job { engine, order, commands: Commands::default() }
    }

    /// An operator begins a command that runs for long.
    fn enter(&self) -> Entered {
        let (sender, words) = mpsc::channel(2);
        let (asks, asked) = mpsc::channel(2);
        let command = ["sleep", "1000"].map(str::to_owned).to_vec();
        let wish = Exec { command, input: true, terminal: None };
        let (runtime, attempt, commands) = (Arc::new(self.engine.clone()), self.order.attempt, self.commands.clone());
        let operator = Operator { words: sender, asked };
        let end = tokio::spawn(async move { exec(runtime, attempt, wish, operator, &commands).await });
        Entered { words, asks, end }
    }

    async fn made(&self, count: usize) {
        until("the command is made", || async { (self.engine.made_commands() == count).then_some(()) }).await;
    }
}

/// An operator's side of a command.
struct Entered {
    words: mpsc::Receiver<FromJob>,
    asks: mpsc::Sender<ToJob>,
    end: JoinHandle<TunnelEnd>,
}

#[tokio::test]
async fn a_command_that_the_engine_begins_after_its_operator_has_left_is_ended() {
    let job = Job::start().await;
    job.engine.hold_commands(Some(Hold::Begin));
    let mut entered = job.enter();
    assert_eq!(entered.words.recv().await, Some(FromJob::Started));
    drop(entered.asks);
    entered.end.await.expect("no panic");
    until("its end is asked for too early", || async { (job.engine.early_signals() > 0).then_some(()) }).await;
    job.engine.hold_commands(None);
    job.commands.ended().await;
    assert!(job.engine.commands().is_empty(), "nobody reads it");
    // Asked once, it would not have heard that, and would have been killed two seconds later.
    assert_eq!(job.engine.exit_codes(), [129], "it ends by SIGHUP");
}

#[tokio::test]
async fn a_command_whose_operator_has_left_before_it_was_started_is_not_started() {
    let job = Job::start().await;
    job.engine.hold_commands(Some(Hold::Made));
    let entered = job.enter();
    job.made(1).await;
    entered.end.abort();
    assert!(entered.end.await.expect_err("dropped").is_cancelled());
    job.engine.hold_commands(Some(Hold::Begun));
    job.commands.ended().await;
    assert_eq!(job.engine.started_commands(), 0);
}
