//! The switchboard: the route table that holds, and the counting rule.
//!
//! # The rule
//! Once `switch` has returned, no request begins anywhere but where that table says; and a job that `report` does not
//! list as leaving, and that the table does not name, has nothing in flight and never will again.
//!
//! # Why it holds
//! `begin` looks up, chooses and counts while it holds the table's lock for reading; `switch` replaces the table while it
//! holds it for writing. So each `begin` is either wholly before a switch, and its count is there for the report that
//! follows, or wholly after it, and cannot find the old job. One lock for all jobs, not one per job, so that a request
//! that looked up its route just before the switch cannot begin after it even on a job that another route still names.
//! It is held for a few hundred nanoseconds and never over an await.

use crate::table::{Entry, Table, Unknown};
use crate::target::{Target, TargetKey};
use lapstrake_core::ids::JobId;
use lapstrake_core::routes::{ProxyReport, RouteTable};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

/// The route table that holds and what still runs outside it.
#[derive(Debug)]
pub struct Switchboard {
    routed: RwLock<Routed>,
    /// Held over a whole switch: the new table is compiled from the old one outside `routed`.
    switching: Mutex<()>,
    changed: Arc<watch::Sender<()>>,
    workers: usize,
    max_in_flight: u32,
}

#[derive(Debug, Default)]
struct Routed {
    table: Option<Arc<Table>>,
    /// Targets of former tables with work in flight at the last switch.
    leaving: Vec<Arc<Target>>,
}

/// What became of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// It holds now.
    Holds,
    /// It is older than the one that holds, which stays.
    Older {
        /// The generation that holds.
        have: u64,
    },
}

/// Why a request cannot begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWork {
    /// The agent has not given a table yet.
    NoTable,
    /// The table has no such host or path.
    Unknown(Unknown),
    /// The service has no job on this node.
    NoJob {
        /// The service.
        service: String,
        /// This node.
        node: String,
        /// Nodes that have some.
        elsewhere: Vec<String>,
    },
    /// Every job that the service has here was tried.
    AllTried,
    /// The service has as much in flight as it may.
    Full {
        /// The service.
        service: String,
        /// As much.
        limit: u32,
    },
}

/// One request or upgraded connection in flight; it is counted until this is dropped.
#[derive(Debug)]
pub struct Work {
    /// The job that does it.
    pub target: Arc<Target>,
    /// The route that led there.
    pub entry: Arc<Entry>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.entry.load.open.fetch_sub(1, SeqCst);
        self.target.end();
    }
}

impl Switchboard {
    /// A switchboard without a table.
    pub fn new(workers: usize, max_in_flight: u32) -> Switchboard {
        Switchboard {
            routed: RwLock::default(),
            switching: Mutex::default(),
            changed: Arc::new(watch::Sender::new(())),
            workers,
            max_in_flight,
        }
    }

    /// Makes a table hold. When this returns `Holds`, no request begins anywhere but where the table says.
    ///
    /// The same generation again is taken again: it is the agent's word that counts, and a repeated table changes nothing.
    pub fn switch(&self, routes: &RouteTable) -> Switched {
        let _one_at_a_time = self.switching.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, old_leaving) = {
            let routed = self.routed.read().unwrap_or_else(PoisonError::into_inner);
            (routed.table.clone(), routed.leaving.clone())
        };
        if let Some(old) = &old
            && routes.generation < old.generation
        {
            return Switched::Older { have: old.generation };
        }
        let known = |key: &TargetKey| {
            let named = old.as_ref().and_then(|table| table.targets.get(key));
            named.or_else(|| old_leaving.iter().find(|target| target.key == *key)).cloned()
        };
        let new_target = |key| Target::new(key, self.workers, Arc::clone(&self.changed));
        let table = Arc::new(Table::compile(routes, old.as_deref(), known, new_target));
        let former = old.iter().flat_map(|table| table.targets.values()).chain(&old_leaving);
        let gone: Vec<Arc<Target>> =
            former.filter(|target| !table.targets.contains_key(&target.key)).cloned().collect();

        for target in table.targets.values() {
            target.stay();
        }
        {
            let mut routed = self.routed.write().unwrap_or_else(PoisonError::into_inner);
            routed.table = Some(table);
            // All of them, also those without work: a count that is looked at here must not miss a begin before the lock.
            routed.leaving = gone.iter().filter(|target| target.open() > 0).cloned().collect();
        }
        for target in &gone {
            target.leave();
        }
        self.changed.send_replace(());
        Switched::Holds
    }

    /// Finds the route of a request, chooses one of its targets that was not `tried` and counts the request there.
    pub fn begin(&self, host: &str, path: &str, tried: &[TargetKey]) -> Result<Work, NoWork> {
        let routed = self.routed.read().unwrap_or_else(PoisonError::into_inner);
        let table = routed.table.as_deref().ok_or(NoWork::NoTable)?;
        let entry = table.lookup(host, path).map_err(NoWork::Unknown)?;
        if entry.targets.is_empty() {
            return Err(NoWork::NoJob {
                service: entry.name.clone(),
                node: table.node.clone(),
                elsewhere: entry.elsewhere.clone(),
            });
        }
        let target = entry.choose(tried).ok_or(NoWork::AllTried)?;
        if entry.load.open.fetch_add(1, SeqCst) >= self.max_in_flight {
            entry.load.open.fetch_sub(1, SeqCst);
            return Err(NoWork::Full { service: entry.name.clone(), limit: self.max_in_flight });
        }
        target.begin();
        Ok(Work { target: Arc::clone(target), entry: Arc::clone(entry) })
    }

    /// What holds, and what still runs to jobs that the table does not name.
    pub fn report(&self) -> ProxyReport {
        let routed = self.routed.read().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = &routed.table else { return ProxyReport::default() };
        let mut leaving: BTreeMap<JobId, u32> = BTreeMap::new();
        for target in &routed.leaving {
            let open = target.open();
            if open > 0 && !table.jobs.contains(&target.key.job) {
                *leaving.entry(target.key.job).or_default() += open;
            }
        }
        ProxyReport { generation: table.generation, leaving: leaving.into_iter().collect() }
    }

    /// Told when `report` may have changed: after a switch and when work on a leaving job ends.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The targets that the table names.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        let routed = self.routed.read().unwrap_or_else(PoisonError::into_inner);
        routed.table.iter().flat_map(|table| table.targets.values()).cloned().collect()
    }
}
