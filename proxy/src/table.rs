//! The route table in the form in which a request looks it up. It decides nothing: the agent did.

use crate::target::{Target, TargetKey};
use lapstrake_core::ids::{JobId, ServiceId};
use lapstrake_core::routes::RouteTable;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// One service, over all its routes and over all tables that name it: what it has in flight.
#[derive(Debug, Default)]
pub struct ServiceLoad {
    /// Requests and upgraded connections in flight.
    pub open: AtomicU32,
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
    /// Nodes that have jobs of this service when this one has none.
    pub elsewhere: Vec<String>,
    /// Where the next choice among equals begins.
    turn: AtomicUsize,
}

impl Entry {
    fn matches(&self, path: &str) -> bool {
        path.strip_prefix(self.base.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The target with the fewest requests in flight, equals in turn; those that just refused a connection only when
    /// there is no other. `None` when all were tried.
    pub fn choose(&self, tried: &[TargetKey]) -> Option<&Arc<Target>> {
        let count = self.targets.len();
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|step| &self.targets[start.wrapping_add(step) % count])
            .filter(|target| !tried.contains(&target.key))
            .min_by_key(|target| (target.is_avoided(), target.open()))
    }
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
        new_target: impl Fn(TargetKey) -> Target,
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
                    .or_insert_with(|| known(&key).unwrap_or_else(|| Arc::new(new_target(key))));
                targets.push(Arc::clone(target));
                table.jobs.insert(backend.job);
            }
            let load = table.services.entry(route.service).or_insert_with(|| {
                previous.and_then(|table| table.services.get(&route.service)).cloned().unwrap_or_default()
            });
            let entry = Arc::new(Entry {
                base: route.path.trim_end_matches('/').to_owned(),
                name: route.name.to_string(),
                load: Arc::clone(load),
                targets,
                elsewhere: route.elsewhere.clone(),
                turn: AtomicUsize::new(0),
            });
            table.hosts.entry(route.host.to_ascii_lowercase()).or_default().push(entry);
        }
        for entries in table.hosts.values_mut() {
            entries.sort_by_key(|entry| Reverse(entry.base.len()));
        }
        table
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

    fn compile(routes: &RouteTable) -> Table {
        Table::compile(routes, None, |_| None, |key| Target::new(key, 1, Arc::default()))
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
