//! The Docker engine, over its API. The only place that knows bollard.
//!
//! The engine may be down when the agent starts and may restart later, so the connection is made on first use. The API
//! version is negotiated before the handle is cloned: engines newer or older than the crate refuse other versions.

mod container;
mod exec;
mod garbage;
mod image;
mod output;
mod wire;

use super::oom::OomLog;
use super::{
    ExecEnd, ExecId, ExecSignal, ExecState, Got, HeldImage, Hint, Listed, LogLine, LogRange, Look, Outcome, Owner,
    RegistryLogin, RunOrder, Running, Runtime, RuntimeError,
};
use crate::config::Logs;
use crate::network::{Bridge, Bridges};
use bollard::Docker;
use bollard::query_parameters::{
    EventsOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::spec::ImageSource;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;

/// Questions: the engine answers them from memory. It is busy with starts for a second or two at worst.
const ASK: Duration = Duration::from_secs(10);
/// Making, starting and removing: bound by the disk and, on a loaded machine, by the kernel's namespaces.
const WORK: Duration = Duration::from_secs(60);

/// One engine, seen by one owner.
pub struct DockerRuntime {
    host: String,
    owner: Owner,
    logs: Logs,
    handle: OnceCell<Docker>,
    oom: OomLog,
}

impl DockerRuntime {
    /// An engine at this address, for example `unix:///var/run/docker.sock`. Nothing is asked of it yet.
    pub fn new(host: &str, owner: Owner) -> Self {
        let logs = Logs::default();
        DockerRuntime { host: host.to_owned(), owner, logs, handle: OnceCell::new(), oom: OomLog::open() }
    }

    /// Its containers keep so much of their output.
    #[must_use]
    pub fn keeping(mut self, logs: Logs) -> Self {
        self.logs = logs;
        self
    }

    async fn engine(&self) -> Result<&Docker, RuntimeError> {
        self.handle
            .get_or_try_init(|| async {
                let docker = Docker::connect_with_host(&self.host).map_err(wire::failed)?;
                let docker = docker.with_request_modifier(wire::with_readable_credentials);
                within(ASK, "version", docker.negotiate_version()).await
            })
            .await
    }

    async fn list_all(&self) -> Result<BTreeMap<Attempt, Listed>, RuntimeError> {
        let filters = HashMap::from([("label".to_owned(), wire::owner_filter(self.owner))]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = within(ASK, "list", self.engine().await?.list_containers(Some(options))).await?;
        Ok(listed.into_iter().filter_map(wire::listed).collect())
    }

    async fn inspect(&self, attempt: Attempt) -> Result<Option<wire::Inspected>, RuntimeError> {
        let name = wire::container_name(attempt);
        let asked = self.engine().await?.inspect_container(&name, None::<InspectContainerOptions>);
        match within(ASK, "inspect", asked).await {
            Ok(response) => Ok(wire::inspected(response)),
            Err(RuntimeError::NotThere(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_at(&self, attempt: Attempt) -> Result<Option<Look>, RuntimeError> {
        let Some(found) = self.inspect(attempt).await? else { return Ok(None) };
        if found.owner != Some(self.owner) {
            return Ok(None);
        }
        Ok(Some(match found.look {
            Look::Exited { code, out_of_memory, ran } => {
                // 137 is SIGKILL: the kernel's log may name a child that it killed long before an ordinary end.
                let killed = code == 137 && (out_of_memory || self.oom.names(&found.id));
                Look::Exited { code, out_of_memory: killed, ran }
            }
            other => other,
        }))
    }

    async fn watch(&self, since: Option<i64>) -> Result<BoxStream<'static, Result<Hint, RuntimeError>>, RuntimeError> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), ["start", "die", "oom", "destroy"].map(str::to_owned).to_vec()),
            ("label".to_owned(), wire::owner_filter(self.owner)),
        ]);
        // The request is sent when the stream is first polled; a `since` closes the gap, also at the first start.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = since.unwrap_or_else(|| i64::try_from(now).unwrap_or(0) - 1);
        let options = EventsOptionsBuilder::default().since(&since.to_string()).filters(&filters).build();
        let docker = self.engine().await?.clone();
        let hints = docker.events(Some(options)).filter_map(|event| async move {
            match event {
                Ok(message) => wire::hint(message).map(Ok),
                Err(error) => Some(Err(wire::failed(error))),
            }
        });
        Ok(hints.boxed())
    }

    async fn signal(&self, attempt: Attempt, signal: &str) -> Result<(), RuntimeError> {
        let name = wire::container_name(attempt);
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match within(ASK, "kill", self.engine().await?.kill_container(&name, Some(options))).await {
            // The conflict is that it does not run.
            Err(RuntimeError::NameTaken(said)) => Err(RuntimeError::NotThere(said)),
            other => other,
        }
    }

    async fn stop_signal(&self, attempt: Attempt) -> Result<(), RuntimeError> {
        // `stop` would send SIGKILL after its own time; when that comes is not the engine's decision.
        let Some(found) = self.inspect(attempt).await? else {
            return Err(RuntimeError::NotThere(format!("no container {}", wire::container_name(attempt))));
        };
        self.signal(attempt, &found.stop_signal).await
    }

    async fn remove_with_volumes(&self, attempt: Attempt) -> Result<(), RuntimeError> {
        let name = wire::container_name(attempt);
        let options = RemoveContainerOptionsBuilder::default().v(true).force(false).build();
        match within(WORK, "remove", self.engine().await?.remove_container(&name, Some(options))).await {
            Err(RuntimeError::NameTaken(said)) => Err(RuntimeError::Refused(said)),
            other => other,
        }
    }
}

/// A call to the engine with its deadline.
async fn within<T, E: Into<wire::Failed>>(
    deadline: Duration,
    what: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, RuntimeError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into().0),
        Err(_) => Err(RuntimeError::Unreachable(format!("no answer to {what} within {} s", deadline.as_secs()))),
    }
}

impl Runtime for DockerRuntime {
    fn list(&self) -> Outcome<'_, BTreeMap<Attempt, Listed>> {
        Box::pin(self.list_all())
    }
    fn look(&self, attempt: Attempt) -> Outcome<'_, Option<Look>> {
        Box::pin(self.look_at(attempt))
    }
    fn hints(&self, since: Option<i64>) -> Outcome<'_, BoxStream<'static, Result<Hint, RuntimeError>>> {
        Box::pin(self.watch(since))
    }
    fn run<'a>(&'a self, order: &'a RunOrder) -> Outcome<'a, ()> {
        Box::pin(self.make_and_start(order))
    }
    fn terminate(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(self.stop_signal(attempt))
    }
    fn kill(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(self.signal(attempt, "SIGKILL"))
    }
    fn remove(&self, attempt: Attempt) -> Outcome<'_, ()> {
        Box::pin(self.remove_with_volumes(attempt))
    }
    fn last_lines(&self, attempt: Attempt, count: u32) -> Outcome<'_, Vec<String>> {
        Box::pin(self.last_of_output(attempt, count))
    }
    fn logs(
        &self,
        attempt: Attempt,
        range: LogRange,
    ) -> Outcome<'_, BoxStream<'static, Result<LogLine, RuntimeError>>> {
        Box::pin(self.output(attempt, range))
    }
    fn exec<'a>(&'a self, attempt: Attempt, command: &'a [String], deadline: Duration) -> Outcome<'a, ExecEnd> {
        Box::pin(self.run_command(attempt, command, deadline))
    }
    fn create_exec<'a>(&'a self, attempt: Attempt, exec: &'a Exec) -> Outcome<'a, ExecId> {
        Box::pin(self.create_command(attempt, exec))
    }
    fn start_exec<'a>(&'a self, id: &'a ExecId, exec: &'a Exec) -> Outcome<'a, Running> {
        Box::pin(self.begin_command(id, exec))
    }
    fn resize_exec<'a>(&'a self, id: &'a ExecId, size: TerminalSize) -> Outcome<'a, ()> {
        Box::pin(self.resize_command(id, size))
    }
    fn signal_exec<'a>(&'a self, id: &'a ExecId, signal: ExecSignal) -> Outcome<'a, ()> {
        Box::pin(self.signal_command(id, signal))
    }
    fn exec_state<'a>(&'a self, id: &'a ExecId) -> Outcome<'a, ExecState> {
        Box::pin(self.state_of_command(id))
    }
    fn pull<'a>(&'a self, image: &'a BoundImage, login: Option<&'a RegistryLogin>) -> Outcome<'a, Got> {
        Box::pin(self.get_image(image, login))
    }
    fn images(&self) -> Outcome<'_, BTreeMap<String, HeldImage>> {
        Box::pin(self.held_images())
    }
    fn remove_image<'a>(&'a self, name: &'a str, id: &'a str) -> Outcome<'a, ()> {
        Box::pin(self.untag(name, id))
    }
    fn resolve<'a>(&'a self, image: &'a ImageSource, login: Option<&'a RegistryLogin>) -> Outcome<'a, String> {
        Box::pin(self.meaning_of(image, login))
    }
    fn ensure_network(&self, environment: EnvironmentId, subnet: Subnet) -> Outcome<'_, Bridge> {
        Box::pin(self.make_network(environment, subnet))
    }
    fn remove_network(&self, environment: EnvironmentId) -> Outcome<'_, ()> {
        Box::pin(self.drop_network(environment))
    }
    fn networks(&self) -> Outcome<'_, Bridges> {
        Box::pin(self.bridges())
    }
    fn root(&self) -> Outcome<'_, PathBuf> {
        Box::pin(async {
            let told = within(ASK, "info", self.engine().await?.info()).await?;
            Ok(told.docker_root_dir.unwrap_or_else(|| "/var/lib/docker".into()).into())
        })
    }
}
