//! The proxy processes of a machine: what each obeys, and what it has open.

use lapstrake_core::ids::JobId;
use lapstrake_core::routes::RouteTable;
use std::collections::BTreeMap;

/// One process.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// Whether it serves: it has read the table file.
    pub serves: bool,
    /// The newest table.
    pub table: Option<RouteTable>,
    /// Open connections by job and by the process that they lead to.
    pub open: BTreeMap<(JobId, u64), u32>,
    /// Until when it takes no table.
    pub stuck_until: u64,
    /// When its newest report to the agent arrives: the next one does not overtake it.
    pub report_at: u64,
}

impl Proxy {
    /// The number of its table.
    pub fn generation(&self) -> u64 {
        self.table.as_ref().map_or(0, |table| table.generation)
    }

    /// Whether it sends requests to a job.
    pub fn routes_to(&self, job: JobId) -> bool {
        let backends = self.table.iter().flat_map(|table| &table.routes).flat_map(|route| &route.backends);
        self.serves && backends.into_iter().any(|backend| backend.job == job)
    }

    /// Takes a table, unless it is older than its own.
    pub fn obey(&mut self, table: RouteTable) {
        if table.generation >= self.generation() {
            self.table = Some(table);
        }
    }

    /// Open connections to jobs that its table does not name.
    pub fn leaving(&self) -> Vec<(JobId, u32)> {
        let mut leaving: BTreeMap<JobId, u32> = BTreeMap::new();
        for ((job, _), open) in &self.open {
            if !self.routes_to(*job) {
                *leaving.entry(*job).or_default() += open;
            }
        }
        leaving.into_iter().collect()
    }
}
