//! Streams between operators and jobs on a real Docker engine: what the contract of all engines does not say.

mod support;

use lapstrake::convert::{FromJob, LogSource, ToJob, TunnelEnd, TunnelEndReason};
use lapstrake_agent::runtime::docker::DockerRuntime;
use lapstrake_agent::runtime::{RunOrder, Runtime};
use lapstrake_agent::tunnel::{Commands, Operator, exec};
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::message::{Exec, TerminalSize};
use std::sync::Arc;
use support::{DockerBench, docker, fresh, host, order, subnet, until};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A job that runs.
struct Job {
    runtime: Arc<DockerRuntime>,
    order: RunOrder,
    _bench: DockerBench,
}

/// An operator's side of a command.
struct Entered {
    words: mpsc::Receiver<FromJob>,
    asks: mpsc::Sender<ToJob>,
    end: JoinHandle<TunnelEnd>,
}

impl Job {
    async fn start(number: u8) -> Option<Job> {
        let bench = DockerBench::new()?;
        let own = subnet(200 + number + 4 * u8::try_from(std::process::id() % 10).unwrap_or(0));
        let environment = EnvironmentId(fresh());
        let runtime = Arc::new(bench.runtime());
        runtime.ensure_network(environment, own).await.expect("the network is made");
        let order = order(environment, host(own, 2), bench.image.clone(), &[]);
        runtime.run(&order).await.expect("started");
        Some(Job { runtime, order, _bench: bench })
    }

    fn enter(&self, script: &str, input: bool, terminal: Option<TerminalSize>) -> Entered {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let (sender, words) = mpsc::channel(2);
        let (asks, asked) = mpsc::channel(2);
        let (runtime, attempt) = (self.runtime.clone(), self.order.attempt);
        let operator = Operator { words: sender, asked };
        let commands = Commands::default();
        let end = async move { exec(runtime, attempt, Exec { command, input, terminal }, operator, &commands).await };
        let end = tokio::spawn(end);
        Entered { words, asks, end }
    }

    /// The processes in its container.
    fn processes(&self) -> String {
        docker(&["top", &format!("lap-{}-1", self.order.attempt.job), "-eo", "pid,args"])
    }
}

impl Entered {
    async fn piece(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.words.recv().await? {
                FromJob::Output { source, piece } => {
                    assert_eq!(source, LogSource::Stdout);
                    return Some(piece);
                }
                FromJob::Started => {}
                other => panic!("not expected: {other:?}"),
            }
        }
    }

    /// All to the end, with the operator there.
    async fn rest(mut self) -> (Vec<u8>, TunnelEnd) {
        let mut all = Vec::new();
        while let Some(piece) = self.piece().await {
            all.extend(piece);
        }
        (all, self.end.await.expect("no panic"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_operator_is_gone_ends_even_one_that_does_not_care() {
    let Some(job) = Job::start(0).await else { return };
    let mut entered = job.enter("trap '' HUP TERM INT; echo begun; while true; do sleep 1; done", true, None);
    assert_eq!(entered.piece().await.expect("output"), b"begun\n");
    assert!(job.processes().contains("trap"), "{}", job.processes());
    drop(entered.asks);
    until("its processes are gone", || async { (!job.processes().contains("trap")).then_some(()) }).await;
    // Also when the whole session is dropped, and not only the operator's words.
    let mut entered = job.enter("echo begun; sleep 1000; true", true, None);
    assert_eq!(entered.piece().await.expect("output"), b"begun\n");
    entered.end.abort();
    until("its processes are gone", || async { (!job.processes().contains("sleep 1000")).then_some(()) }).await;
    assert!(job.processes().contains("httpd"), "the job itself runs on: {}", job.processes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_passes_every_byte_on_follows_its_size_and_takes_control_c_as_a_key() {
    let Some(job) = Job::start(1).await else { return };
    let size = |columns, rows| TerminalSize { columns, rows };
    // Bytes that an engine's frames begin with, at the beginning of what is read at once.
    let script = "busybox stty -opost; printf '\\001\\002\\000\\000\\000\\000\\000\\011x'";
    let entered = job.enter(script, false, Some(size(80, 24)));
    let (bytes, end) = entered.rest().await;
    assert_eq!(bytes, [1, 2, 0, 0, 0, 0, 0, 9, b'x']);
    assert_eq!((end.reason, end.code), (TunnelEndReason::Exited, 0));

    let script = "until [ \"$(busybox stty size 2>/dev/null)\" = '50 132' ]; do sleep 0.05; done; echo first; \
                  until [ \"$(busybox stty size 2>/dev/null)\" = '25 81' ]; do sleep 0.05; done; echo second; sleep 1000";
    let mut entered = job.enter(script, true, Some(size(132, 50)));
    assert_eq!(entered.piece().await.expect("output"), b"first\r\n");
    entered.asks.send(ToJob::Resize(size(81, 25))).await.expect("heard");
    assert_eq!(entered.piece().await.expect("output"), b"second\r\n");
    entered.asks.send(ToJob::Input(vec![3])).await.expect("heard");
    let (_, end) = entered.rest().await;
    assert_eq!((end.reason, end.code), (TunnelEndReason::Exited, 130), "{}", end.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_begins_as_the_engines_failures_do_is_no_failure() {
    let Some(job) = Job::start(2).await else { return };
    let entered = job.enter("echo 'OCI runtime exec failed: not at all'; exit 3", false, None);
    let (bytes, end) = entered.rest().await;
    assert_eq!(bytes, b"OCI runtime exec failed: not at all\n");
    assert_eq!((end.reason, end.code), (TunnelEndReason::Exited, 3));
}
