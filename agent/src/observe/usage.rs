//! What the machine offers, and what it and its containers use.

use super::View;
use super::cgroup::{self, Sample};
use super::containers::Containers;
use super::disks;
use crate::config::Reserved;
use crate::runtime::Runtime;
use lapstrake_core::node::seen::{Attempt, Container};
use lapstrake_core::report::{Capacity, Use};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sysinfo::System;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// As often as the heartbeat that carries the numbers.
const PERIOD: Duration = Duration::from_secs(2);

/// Why the machine's size is not known.
#[derive(Debug, thiserror::Error)]
#[error("the machine's processors and memory cannot be read")]
pub struct NoCapacity(#[source] sysinfo::Error);

/// What the machine offers to jobs after the system's share.
pub fn capacity(reserved: &Reserved) -> Result<Capacity, NoCapacity> {
    let mut system = System::new().map_err(NoCapacity)?;
    system.refresh_memory();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu_milli = u64::try_from(cores).unwrap_or(1) * 10 * u64::from(100 - reserved.cpu_percent);
    let memory_bytes = system.total_memory() / 100 * u64::from(100 - reserved.memory_percent);
    Ok(Capacity { cpu_milli: u32::try_from(cpu_milli).unwrap_or(u32::MAX), memory_bytes })
}

/// Reads the machine's and the containers' numbers.
pub struct Usage {
    runtime: Arc<dyn Runtime>,
    containers: Containers,
    view: View,
    used: watch::Sender<Use>,
    before: BTreeMap<Attempt, (Instant, Sample)>,
    root: Option<PathBuf>,
}

impl Usage {
    /// Numbers of this runtime's machine, for the view and for the heartbeats.
    pub fn new(runtime: Arc<dyn Runtime>, containers: Containers, view: View, used: watch::Sender<Use>) -> Self {
        Usage { runtime, containers, view, used, before: BTreeMap::new(), root: None }
    }

    /// Reads until it is dropped.
    pub async fn watch(mut self) {
        let mut system = match System::new() {
            Ok(system) => Some(system),
            Err(error) => {
                tracing::warn!(%error, "the machine's use cannot be read");
                None
            }
        };
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let used = self.read_host(system.as_mut()).await;
            let readings = self.read_containers();
            self.used.send_replace(used);
            self.view.change(|seen| {
                let mut changed = false;
                for (attempt, (memory, cpu)) in readings {
                    if let Some(Container::Running { memory_bytes, cpu_milli, .. }) = seen.containers.get_mut(&attempt)
                    {
                        changed |= (*memory_bytes, *cpu_milli) != (memory, cpu);
                        (*memory_bytes, *cpu_milli) = (memory, cpu);
                    }
                }
                changed
            });
        }
    }

    async fn read_host(&mut self, system: Option<&mut System>) -> Use {
        if self.root.is_none() {
            self.root = self.runtime.root().await.ok();
        }
        let (disk_used_bytes, disk_total_bytes) = self.root.as_deref().and_then(disks::bytes).unwrap_or_default();
        let Some(system) = system else {
            return Use { disk_used_bytes, disk_total_bytes, ..Use::default() };
        };
        // The difference to the last reading; the first one is zero.
        system.refresh_cpu_usage();
        system.refresh_memory();
        // A percentage with a fraction, only for display; a fraction of a thousandth of a core is lost.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let tenths = (system.global_cpu_usage() * 10.0) as u32;
        let cores = u32::try_from(system.cpus().len()).unwrap_or(1);
        let memory_bytes = system.total_memory().saturating_sub(system.available_memory());
        Use { cpu_milli: tenths * cores, memory_bytes, disk_used_bytes, disk_total_bytes }
    }

    fn read_containers(&mut self) -> BTreeMap<Attempt, (u64, u32)> {
        let now = Instant::now();
        let pids = self.containers.pids();
        self.before.retain(|attempt, _| pids.contains_key(attempt));
        let mut readings = BTreeMap::new();
        for (attempt, pid) in pids {
            let Some(sample) = (pid != 0).then(|| cgroup::read(Path::new(cgroup::ROOT), pid)).flatten() else {
                continue;
            };
            let cpu = self.before.insert(attempt, (now, sample)).map_or(0, |(at, before)| {
                let spent = u128::from(sample.cpu_nanos.saturating_sub(before.cpu_nanos)) * 1_000;
                u32::try_from(spent / now.duration_since(at).as_nanos().max(1)).unwrap_or(u32::MAX)
            });
            readings.insert(attempt, (sample.memory_bytes, cpu));
        }
        readings
    }
}
