//! The route table in the form in which a request looks it up. It decides nothing: the agent did.

use crate::meters::ServiceMeters;
use crate::target::{Target, TargetKey};
use lapstrake_core::ids::{JobId, ServiceId};
use lapstrake_core::routes::{Backend, RouteTable, Speaks, even};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// One service, over all its routes and over all tables that name it: what it has in flight.
#[derive(Debug)]
pub struct ServiceLoad {
    /// Requests and upgraded connections in flight.
    pub open: AtomicU32,
    /// Where the next choice among equals begins, and how far the shares are. It goes on with the next table, of which a busy
    /// node has many: a share that began anew with each would never come to the one with the least.
    turn: AtomicUsize,
    meters: Box<[ServiceMeters]>,
}

impl ServiceLoad {
    /// A service of which nothing was asked yet.
    pub fn new(workers: usize) -> ServiceLoad {
        ServiceLoad {
            open: AtomicU32::new(0),
            turn: AtomicUsize::new(0),
            meters: (0..workers).map(|_| ServiceMeters::default()).collect(),
        }
    }

    /// What this worker has counted.
    pub fn meters(&self, worker: usize) -> &ServiceMeters {
        &self.meters[worker]
    }

    /// What all workers have counted.
    pub fn all_meters(&self) -> &[ServiceMeters] {
        &self.meters
    }
}

/// Host and path to the targets of one service.
#[derive(Debug)]
pub struct Entry {
    /// The path without a `/` at its end; empty matches all.
    base: String,
    /// `shop/production/web`.
    pub name: String,
    /// Shared with the service's other routes.
    pub load: Arc<ServiceLoad>,
    /// Where a request may go.
    pub targets: Vec<Arc<Target>>,
    /// The sum of the weights up to each target, in the order of `targets`; empty among equals.
    shares: Vec<u64>,
    /// Nodes that have jobs of this service when this one has none.
    pub elsewhere: Vec<String>,
    /// Whether nobody has, because the service is paused.
    pub is_paused: bool,
}

impl Entry {
    fn matches(&self, path: &str) -> bool {
        path.strip_prefix(self.base.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The target with the fewest requests in flight, equals in turn; those that just refused a connection only when
    /// there is no other. `None` when all were tried.
    pub fn choose(&self, tried: &[TargetKey]) -> Option<&Arc<Target>> {
        let count = self.targets.len();
        let turn = self.load.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(target) = self.by_weight(turn).filter(|one| !tried.contains(&one.key) && !one.is_avoided()) {
            return Some(target);
        }
        let start = turn;
        (0..count)
            .map(|step| &self.targets[start.wrapping_add(step) % count])
            .filter(|target| !tried.contains(&target.key))
            .min_by_key(|target| (target.is_avoided(), target.open()))
    }
}

/// The golden ratio's fraction in 64 bits: its multiples fall evenly into any division of the circle, so that a share is
/// kept over every few requests and not only in the long run.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Entry {
    /// Whose turn it is where shares are held; none among equals. Who has the least to do does not matter there: a share that
    /// a slow job does not get would be no share.
    fn by_weight(&self, turn: usize) -> Option<&Arc<Target>> {
        let all = u128::from(*self.shares.last()?);
        let place = (u128::from((turn as u64).wrapping_mul(GOLDEN)) * all) >> 64;
        let index = self.shares.partition_point(|up_to| u128::from(*up_to) <= place);
        self.targets.get(index)
    }
}

/// The sums of the weights; none among equals.
fn shares(backends: &[Backend]) -> Vec<u64> {
    let among_equals = backends.iter().all(|backend| backend.weight == even());
    let mut sum = 0u64;
    let sums = backends.iter().map(|backend| {
        sum += u64::from(backend.weight);
        sum
    });
    if among_equals { Vec::new() } else { sums.collect() }
}

/// Why a lookup found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// No route has this host.
    Host,
    /// Routes have this host, none this path.
    Path,
}

/// A whole route table.
#[derive(Debug)]
pub struct Table {
    /// The number that the agent gave it.
    pub generation: u64,
    /// This node's name, for messages.
    pub node: String,
    /// Per host, longest path first.
    hosts: HashMap<String, Vec<Arc<Entry>>>,
    /// Every target that the table names.
    pub targets: BTreeMap<TargetKey, Arc<Target>>,
    services: HashMap<ServiceId, Arc<ServiceLoad>>,
    /// Every job that the table names.
    pub jobs: BTreeSet<JobId>,
}

impl Table {
    /// Compiles a table. Targets that `known` has are used again, with their counts and connections; so are the loads of
    /// `previous`' services.
    pub fn compile(
        routes: &RouteTable,
        previous: Option<&Table>,
        known: impl Fn(&TargetKey) -> Option<Arc<Target>>,
        new_target: impl Fn(TargetKey, Speaks) -> Target,
        new_load: impl Fn() -> ServiceLoad,
    ) -> Table {
        let mut table = Table {
            generation: routes.generation,
            node: routes.node.clone(),
            hosts: HashMap::new(),
            targets: BTreeMap::new(),
            services: HashMap::new(),
            jobs: BTreeSet::new(),
        };
        for route in &routes.routes {
            let mut targets = Vec::with_capacity(route.backends.len());
            for backend in &route.backends {
                let key = TargetKey { job: backend.job, address: backend.address };
                let target = table
                    .targets
                    .entry(key)
                    .or_insert_with(|| known(&key).unwrap_or_else(|| Arc::new(new_target(key, backend.speaks))));
                targets.push(Arc::clone(target));
                table.jobs.insert(backend.job);
            }
            let load = table.services.entry(route.service).or_insert_with(|| {
                let before = previous.and_then(|table| table.services.get(&route.service)).cloned();
                before.unwrap_or_else(|| Arc::new(new_load()))
            });
            let entry = Arc::new(Entry {
                base: route.path.trim_end_matches('/').to_owned(),
                name: route.name.to_string(),
                load: Arc::clone(load),
                targets,
                shares: shares(&route.backends),
                elsewhere: route.elsewhere.clone(),
                is_paused: route.paused,
            });
            table.hosts.entry(route.host.to_ascii_lowercase()).or_default().push(entry);
        }
        for entries in table.hosts.values_mut() {
            entries.sort_by_key(|entry| Reverse(entry.base.len()));
        }
        table
    }

    /// One route of each service that the table names.
    pub fn services(&self) -> impl Iterator<Item = &Entry> {
        let mut said = BTreeSet::new();
        self.hosts.values().flatten().map(|entry| &**entry).filter(move |entry| said.insert(&entry.name))
    }

    /// The route with the longest path that is a prefix of this one, ending at a `/` of it or at its end.
    pub fn lookup(&self, host: &str, path: &str) -> Result<&Arc<Entry>, Unknown> {
        let entries = self.hosts.get(host).ok_or(Unknown::Host)?;
        entries.iter().find(|entry| entry.matches(path)).ok_or(Unknown::Path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{route, table};
    use proptest::prelude::*;

    #[test]
    fn a_job_that_waits_for_the_traffic_gets_its_share_of_every_hundred_requests_however_busy_the_others_are() {
        let mut routes = table(
            1,
            vec![route("h", "/", 1, &[(1, "10.0.0.1:1".parse().unwrap()), (2, "10.0.0.2:1".parse().unwrap())])],
        );
        (routes.routes[0].backends[0].weight, routes.routes[0].backends[1].weight) = (9, 1);
        let table = compile(&routes);
        let entry = table.lookup("h", "/").unwrap();
        for _ in 0..5 {
            let mut of_waiting = 0;
            for _ in 0..100 {
                let target = entry.choose(&[]).unwrap();
                // Whoever is asked stays busy, so that the one with the least to do would be the other one.
                target.begin();
                of_waiting += u32::from(target.key.job == JobId(2));
            }
            assert!((9..=11).contains(&of_waiting), "{of_waiting} of 100");
        }
        // Half of them is a share too.
        (routes.routes[0].backends[0].weight, routes.routes[0].backends[1].weight) = (2, 2);
        let table = compile(&routes);
        let entry = table.lookup("h", "/").unwrap();
        let first = Arc::clone(entry.choose(&[]).unwrap());
        (0..50).for_each(|_| first.begin());
        let of_busy = (0..100).filter(|_| entry.choose(&[]).unwrap().key == first.key).count();
        assert!((49..=51).contains(&of_busy), "{of_busy} of 100");
        let tried = [entry.choose(&[]).unwrap().key];
        assert_ne!(entry.choose(&tried).unwrap().key, tried[0], "one that was tried is not tried again for its share");
    }

    fn compile(routes: &RouteTable) -> Table {
        let new_target = |key, speaks| Target::new(key, speaks, 1, Arc::default());
        Table::compile(routes, None, |_| None, new_target, || ServiceLoad::new(1))
    }

    #[test]
    fn the_longest_path_that_ends_at_a_slash_wins() {
        let table = compile(&table(
            1,
            vec![
                route("a.example", "/", 1, &[]),
                route("a.example", "/api", 2, &[]),
                route("a.example", "/api/v2/", 3, &[]),
            ],
        ));
        let found = |path| table.lookup("a.example", path).map(|entry| entry.name.clone());
        assert_eq!(found("/").unwrap(), "shop/production/s1");
        assert_eq!(found("/apiary").unwrap(), "shop/production/s1");
        assert_eq!(found("/api").unwrap(), "shop/production/s2");
        assert_eq!(found("/api/v1").unwrap(), "shop/production/s2");
        assert_eq!(found("/api/v2").unwrap(), "shop/production/s3");
        assert_eq!(found("/api/v2/x").unwrap(), "shop/production/s3");
    }

    #[test]
    fn an_unknown_host_is_told_from_an_unknown_path() {
        let table = compile(&table(1, vec![route("a.example", "/api", 1, &[])]));
        assert_eq!(table.lookup("b.example", "/api").unwrap_err(), Unknown::Host);
        assert_eq!(table.lookup("a.example", "/").unwrap_err(), Unknown::Path);
    }

    #[test]
    fn equally_loaded_targets_take_turns_and_the_least_loaded_goes_first() {
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let table = compile(&table(1, vec![route("a.example", "/", 1, &[(1, address(1)), (2, address(2))])]));
        let entry = table.lookup("a.example", "/").unwrap();
        let first = Arc::clone(entry.choose(&[]).unwrap());
        let second = Arc::clone(entry.choose(&[]).unwrap());
        assert_ne!(first.key, second.key);
        first.begin();
        for _ in 0..4 {
            assert_eq!(entry.choose(&[]).unwrap().key, second.key);
        }
        second.avoid();
        assert_eq!(entry.choose(&[]).unwrap().key, first.key, "a target that just refused a connection waits");
        assert_eq!(entry.choose(&[first.key]).unwrap().key, second.key, "but is better than none");
        assert!(entry.choose(&[first.key, second.key]).is_none());
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_trying_every_prefix_finds(
            paths in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 1..6),
            asked in "(/[ab]{1,2}){1,4}",
        ) {
            let paths: Vec<String> = paths.into_iter().collect();
            let routes = paths.iter().enumerate()
                .map(|(i, path)| route("h", if path.is_empty() { "/" } else { path }, i as u128, &[])).collect();
            let table = compile(&table(1, routes));
            let mut prefix = Some(asked.as_str());
            let mut expected = None;
            while let Some(candidate) = prefix {
                if let Some(i) = paths.iter().position(|path| path == candidate) {
                    expected = Some(format!("shop/production/s{i}"));
                    break;
                }
                prefix = candidate.rfind('/').map(|at| &candidate[..at]);
            }
            prop_assert_eq!(table.lookup("h", &asked).ok().map(|entry| entry.name.clone()), expected);
        }
    }
}
