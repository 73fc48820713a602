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

use crate::table::{Entry, ServiceLoad, Table, Unknown};
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
    /// The service is paused: no node has a job of it, and none will until somebody resumes it.
    Paused {
        /// The service.
        service: String,
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
        let new_target = |key, speaks| Target::new(key, speaks, self.workers, Arc::clone(&self.changed));
        let new_load = || ServiceLoad::new(self.workers);
        let table = Arc::new(Table::compile(routes, old.as_deref(), known, new_target, new_load));
        let former = old.iter().flat_map(|table| table.targets.values()).chain(&old_leaving);
        let gone: Vec<Arc<Target>> =
            former.filter(|target| !table.targets.contains_key(&target.key)).cloned().collect();

        for target in table.targets.values() {
            target.stay();
        }
        {
            let mut routed = self.routed.write().unwrap_or_else(PoisonError::into_inner);
            routed.table = Some(table);
            // Under the lock nothing begins, so a target without work now has none from here on.
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
        if entry.targets.is_empty() && entry.is_paused {
            return Err(NoWork::Paused { service: entry.name.clone() });
        }
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

    /// The table that holds.
    pub fn table(&self) -> Option<Arc<Table>> {
        self.routed.read().unwrap_or_else(PoisonError::into_inner).table.clone()
    }

    /// The route of a request that cannot begin, for what is told of it.
    pub fn entry(&self, host: &str, path: &str) -> Option<Arc<Entry>> {
        self.table()?.lookup(host, path).ok().cloned()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{route, table};
    use proptest::prelude::*;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    fn address(job: u128) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, job as u8], 80))
    }

    fn naming(generation: u64, jobs: &[u128]) -> RouteTable {
        let backends: Vec<_> = jobs.iter().map(|job| (*job, address(*job))).collect();
        table(generation, vec![route("h", "/", 1, &backends)])
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        End(usize),
        Switch(Vec<u128>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Begin),
            3 => any::<usize>().prop_map(Step::End),
            2 => prop::collection::btree_set(1..5u128, 0..4).prop_map(|jobs| Step::Switch(jobs.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn after_a_switch_nothing_begins_outside_the_table_and_the_report_is_what_is_left(
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let board = Switchboard::new(1, 1000);
            let (mut generation, mut named) = (0, Vec::new());
            let mut in_flight: Vec<Work> = Vec::new();
            for step in steps {
                match step {
                    Step::Begin => match board.begin("h", "/", &[]) {
                        Ok(work) => {
                            prop_assert!(named.contains(&work.target.key.job.0));
                            in_flight.push(work);
                        }
                        Err(_) => prop_assert!(named.is_empty()),
                    },
                    Step::End(which) => if !in_flight.is_empty() {
                        in_flight.swap_remove(which % in_flight.len());
                    },
                    Step::Switch(jobs) => {
                        generation += 1;
                        prop_assert_eq!(board.switch(&naming(generation, &jobs)), Switched::Holds);
                        named = jobs;
                    }
                }
                let mut leaving: BTreeMap<JobId, u32> = BTreeMap::new();
                for work in in_flight.iter().filter(|work| !named.contains(&work.target.key.job.0)) {
                    *leaving.entry(work.target.key.job).or_default() += 1;
                }
                prop_assert_eq!(board.report(), ProxyReport { generation, leaving: leaving.into_iter().collect() });
            }
        }
    }

    /// Generation g names job g only, so whatever begins tells by which table it did.
    #[test]
    fn no_thread_begins_on_a_job_that_an_acknowledged_table_took_away() {
        let board = Switchboard::new(1, u32::MAX);
        let (acknowledged, stop) = (AtomicU64::new(1), AtomicBool::new(false));
        board.switch(&naming(1, &[1]));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        let before = acknowledged.load(SeqCst);
                        let work = board.begin("h", "/", &[]).unwrap();
                        assert!(work.target.key.job.0 as u64 >= before, "a begin on a job that is not routed any more");
                    }
                });
            }
            for generation in 2..2_000 {
                board.switch(&naming(generation, &[u128::from(generation)]));
                acknowledged.store(generation, SeqCst);
            }
            stop.store(true, SeqCst);
        });
        assert_eq!(board.report().leaving, [], "what ended is not reported");
    }

    #[test]
    fn an_older_generation_is_refused_and_the_same_one_is_taken_again() {
        let board = Switchboard::new(1, 10);
        board.switch(&naming(5, &[1]));
        assert_eq!(board.switch(&naming(4, &[2])), Switched::Older { have: 5 });
        assert_eq!(board.begin("h", "/", &[]).unwrap().target.key.job, JobId(1));
        assert_eq!(board.switch(&naming(5, &[2])), Switched::Holds);
        assert_eq!(board.begin("h", "/", &[]).unwrap().target.key.job, JobId(2));
    }

    #[test]
    fn a_route_that_moves_to_another_service_takes_its_requests_with_it_though_the_job_stays() {
        let board = Switchboard::new(1, 10);
        let one = |generation, host| table(generation, vec![route(host, "/", 1, &[(1, address(1))])]);
        board.switch(&one(1, "a"));
        board.switch(&one(2, "b"));
        assert_eq!(board.begin("a", "/", &[]).unwrap_err(), NoWork::Unknown(Unknown::Host));
        assert_eq!(board.begin("b", "/", &[]).unwrap().target.key.job, JobId(1));
    }

    #[test]
    fn a_service_with_as_much_in_flight_as_it_may_is_full_until_something_ends() {
        let board = Switchboard::new(1, 2);
        board.switch(&naming(1, &[1, 2]));
        let first = board.begin("h", "/", &[]).unwrap();
        let _second = board.begin("h", "/", &[]).unwrap();
        assert_eq!(
            board.begin("h", "/", &[]).unwrap_err(),
            NoWork::Full { service: "shop/production/s1".to_owned(), limit: 2 }
        );
        drop(first);
        assert!(board.begin("h", "/", &[]).is_ok());
    }

    #[test]
    fn the_last_end_of_a_leaving_job_is_announced() {
        let board = Switchboard::new(1, 10);
        board.switch(&naming(1, &[1]));
        let work = board.begin("h", "/", &[]).unwrap();
        board.switch(&naming(2, &[2]));
        let mut changes = board.changes();
        changes.mark_unchanged();
        drop(work);
        assert!(changes.has_changed().unwrap());
    }
}
