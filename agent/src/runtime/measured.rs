//! A container engine whose calls are timed and counted.

use super::{
    Connection, ExecEnd, ExecId, ExecSignal, ExecState, Got, HeldImage, Hint, Listed, LogLine, LogRange, Look, Outcome,
    RegistryLogin, RunOrder, Running, Runtime, RuntimeError,
};
use crate::metrics::{Call, Metrics};
use crate::network::{Bridge, Bridges};
use futures_util::stream::BoxStream;
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::probe::Answer;
use lapstrake_core::spec::{Check, ImageSource};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Another runtime, measured.
pub struct Measured {
    inner: Arc<dyn Runtime>,
    metrics: Arc<Metrics>,
}

impl Measured {
    /// Counts this runtime's calls there.
    pub fn new(inner: Arc<dyn Runtime>, metrics: Arc<Metrics>) -> Measured {
        Measured { inner, metrics }
    }

    fn timed<'a, T: Send + 'a>(&'a self, call: Call, outcome: Outcome<'a, T>) -> Outcome<'a, T> {
        Box::pin(async move {
            let begun = Instant::now();
            let outcome = outcome.await;
            self.metrics.call(call, begun.elapsed(), &outcome);
            outcome
        })
    }
}

impl Runtime for Measured {
    fn list(&self) -> Outcome<'_, BTreeMap<Attempt, Listed>> {
        self.timed(Call::List, self.inner.list())
    }

    fn look(&self, attempt: Attempt) -> Outcome<'_, Option<Look>> {
        self.timed(Call::Look, self.inner.look(attempt))
    }

    fn hints(&self, since: Option<i64>) -> Outcome<'_, BoxStream<'static, Result<Hint, RuntimeError>>> {
        // A stream that is established is no call that takes its time.
        self.inner.hints(since)
    }

    fn run<'a>(&'a self, order: &'a RunOrder) -> Outcome<'a, ()> {
        self.timed(Call::Run, self.inner.run(order))
    }

    fn terminate(&self, attempt: Attempt) -> Outcome<'_, ()> {
        self.timed(Call::Terminate, self.inner.terminate(attempt))
    }

    fn kill(&self, attempt: Attempt) -> Outcome<'_, ()> {
        self.timed(Call::Kill, self.inner.kill(attempt))
    }

    fn remove(&self, attempt: Attempt) -> Outcome<'_, ()> {
        self.timed(Call::Remove, self.inner.remove(attempt))
    }

    fn last_lines(&self, attempt: Attempt, count: u32) -> Outcome<'_, Vec<String>> {
        self.timed(Call::Logs, self.inner.last_lines(attempt, count))
    }

    fn logs(
        &self,
        attempt: Attempt,
        range: LogRange,
    ) -> Outcome<'_, BoxStream<'static, Result<LogLine, RuntimeError>>> {
        self.timed(Call::Logs, self.inner.logs(attempt, range))
    }

    fn exec<'a>(&'a self, attempt: Attempt, command: &'a [String], deadline: Duration) -> Outcome<'a, ExecEnd> {
        self.timed(Call::Exec, self.inner.exec(attempt, command, deadline))
    }

    fn create_exec<'a>(&'a self, attempt: Attempt, exec: &'a Exec) -> Outcome<'a, ExecId> {
        self.timed(Call::Exec, self.inner.create_exec(attempt, exec))
    }

    fn start_exec<'a>(&'a self, id: &'a ExecId, exec: &'a Exec) -> Outcome<'a, Running> {
        self.timed(Call::Exec, self.inner.start_exec(id, exec))
    }

    fn resize_exec<'a>(&'a self, id: &'a ExecId, size: TerminalSize) -> Outcome<'a, ()> {
        self.timed(Call::Exec, self.inner.resize_exec(id, size))
    }

    fn signal_exec<'a>(&'a self, id: &'a ExecId, signal: ExecSignal) -> Outcome<'a, ()> {
        self.timed(Call::Exec, self.inner.signal_exec(id, signal))
    }

    fn exec_state<'a>(&'a self, id: &'a ExecId) -> Outcome<'a, ExecState> {
        self.timed(Call::Exec, self.inner.exec_state(id))
    }

    fn connect(&self, attempt: Attempt, address: IpAddr, port: u16) -> Outcome<'_, Box<dyn Connection>> {
        // The engine has no part in it.
        self.inner.connect(attempt, address, port)
    }

    fn pull<'a>(&'a self, image: &'a BoundImage, login: Option<&'a RegistryLogin>) -> Outcome<'a, Got> {
        self.timed(Call::Pull, self.inner.pull(image, login))
    }

    fn images(&self) -> Outcome<'_, BTreeMap<String, HeldImage>> {
        self.timed(Call::Images, self.inner.images())
    }

    fn remove_image<'a>(&'a self, name: &'a str, id: &'a str) -> Outcome<'a, ()> {
        self.timed(Call::RemoveImage, self.inner.remove_image(name, id))
    }

    fn resolve<'a>(&'a self, image: &'a ImageSource, login: Option<&'a RegistryLogin>) -> Outcome<'a, String> {
        self.timed(Call::Resolve, self.inner.resolve(image, login))
    }

    fn ensure_network(&self, environment: EnvironmentId, subnet: Subnet) -> Outcome<'_, Bridge> {
        self.timed(Call::Network, self.inner.ensure_network(environment, subnet))
    }

    fn remove_network(&self, environment: EnvironmentId) -> Outcome<'_, ()> {
        self.timed(Call::Network, self.inner.remove_network(environment))
    }

    fn networks(&self) -> Outcome<'_, Bridges> {
        self.timed(Call::Network, self.inner.networks())
    }

    fn root(&self) -> Outcome<'_, PathBuf> {
        self.inner.root()
    }

    fn answer(&self, attempt: Attempt, check: &Check) -> Option<Answer> {
        self.inner.answer(attempt, check)
    }
}
