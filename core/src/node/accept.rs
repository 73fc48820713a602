//! A newer word of the controller comes into the ledger.

use crate::assignment::{AssignmentSet, KeptImages};
use crate::ids::{BootId, ClusterId, NodeId, ValueId};
use crate::message::Elsewhere;
use crate::node::ledger::{LEDGER_FORMAT, Ledger, NotAccepted, Replacement};
use crate::node::seen::{NodeConfig, Now};
use crate::routes::{ROUTES_FORMAT, RouteTable};
use crate::values::{Body, GivenValue};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

impl Ledger {
    /// The memory of a node that has just joined.
    pub fn new(cluster: ClusterId, node: NodeId, boot: BootId, config: &NodeConfig) -> Ledger {
        Ledger {
            format: LEDGER_FORMAT,
            cluster,
            node,
            boot,
            generation: None,
            stop_absent: false,
            wanted: BTreeMap::new(),
            jobs: BTreeMap::new(),
            current: BTreeMap::new(),
            values: BTreeMap::new(),
            kept_images: None,
            firm_images: BTreeSet::new(),
            brought: BTreeMap::new(),
            replacements: BTreeMap::new(),
            subnets: BTreeMap::new(),
            table: RouteTable { format: ROUTES_FORMAT, generation: 0, node: config.name.clone(), routes: Vec::new() },
            first_table: 0,
            elsewhere: Vec::new(),
            strays: BTreeMap::new(),
        }
    }

    /// Takes a newer set in. Nothing follows from it here: `advance` compares what is wanted with what is.
    ///
    /// An ended replacement is forgotten when the set no longer wants its new job: the controller has read of it, or has
    /// decided something newer. One that failed and is still wanted stays, so that the agent neither tries it again nor
    /// forgets to report it.
    ///
    /// The set that is held already says one thing more than before: values that could not be read here or there, to a node
    /// that lost its key or whose controller lost its own for a while; and which images it keeps, when they
    /// have become others without any slot's doing, or from a controller that did not say that before.
    pub fn accept(&mut self, set: AssignmentSet, now: Now) -> Result<(), NotAccepted> {
        if !self.is_newer(&set) {
            let is_same = self.generation == Some(set.generation);
            // Both are taken in, and not only the first that says more.
            let more = is_same && (self.take_missing_values(set.values) | self.take_kept_images(set.kept_images));
            return if more { Ok(()) } else { Err(NotAccepted::Older) };
        }
        self.generation = Some(set.generation);
        self.stop_absent = set.stop_absent;
        (self.kept_images, self.firm_images) = kept_and_firm(set.kept_images);
        self.take_values(set.values);
        // A job that waited is given something else: what it needs for that counts from now.
        for one in &set.assignments {
            let held = self.wanted.get(&one.slot).filter(|held| held.job == one.job && held.traffic != one.traffic);
            if let Some(waits) = self.replacements.get_mut(&one.slot).filter(|waits| waits.new == Some(one.job))
                && held.is_some()
            {
                waits.since = now.tick;
            }
        }
        self.wanted = set.assignments.into_iter().map(|one| (one.slot.clone(), one)).collect();
        let wanted = &self.wanted;
        self.replacements.retain(|slot, one| {
            let still_wanted = |one: &Replacement| one.new.is_some() && wanted.get(slot).map(|w| w.job) == one.new;
            !one.phase.is_final() || still_wanted(one)
        });
        self.forget_values();
        Ok(())
    }

    /// Takes in what the same set keeps. Says whether that is something else than before.
    fn take_kept_images(&mut self, said: Option<KeptImages>) -> bool {
        let (kept, firm) = kept_and_firm(said);
        let changed = kept.is_some() && (self.kept_images != kept || self.firm_images != firm);
        if changed {
            (self.kept_images, self.firm_images) = (kept, firm);
        }
        changed
    }

    /// Takes in the values that a set gives. A version never changes, so one that is held is kept as it is, above all where
    /// the controller cannot read it any more.
    fn take_values(&mut self, given: BTreeMap<ValueId, GivenValue>) {
        for (id, value) in given {
            let held = self.values.get(&id).is_some_and(|held| matches!(held.body, Body::Sealed(_)));
            if !held {
                self.values.insert(id, value);
            }
        }
    }

    /// Takes in the values that are wanted and could not be read so far. Says whether there was one.
    fn take_missing_values(&mut self, mut given: BTreeMap<ValueId, GivenValue>) -> bool {
        given.retain(|_, value| !matches!(value.body, Body::Unreadable { .. }));
        let before = self.readable();
        self.take_values(given);
        self.forget_values();
        self.readable() != before
    }

    /// How many values are held that are not known to be unreadable.
    fn readable(&self) -> usize {
        self.values.values().filter(|value| !matches!(value.body, Body::Unreadable { .. })).count()
    }

    /// Forgets the values that no job here gets and none is wanted with.
    pub(super) fn forget_values(&mut self) {
        let wanted = self.wanted.values().map(|one| &one.run);
        let here = self.jobs.values().map(|job| &job.assignment.run);
        let used: BTreeSet<ValueId> = wanted.chain(here).flat_map(|run| &run.values).map(|one| one.value).collect();
        self.values.retain(|id, _| used.contains(id));
    }

    /// Takes in where the jobs of other nodes run. Says whether that changed anything.
    pub fn set_elsewhere(&mut self, elsewhere: Vec<Elsewhere>) -> bool {
        let changed = self.elsewhere != elsewhere;
        self.elsewhere = elsewhere;
        changed
    }
}

/// What a set says of images, as the ledger holds it. Nothing is kept by being called firm.
fn kept_and_firm(said: Option<KeptImages>) -> (Option<BTreeSet<String>>, BTreeSet<String>) {
    said.map_or((None, BTreeSet::new()), |mut kept| {
        kept.firm.retain(|pinned| kept.all.contains(pinned));
        (Some(kept.all), kept.firm)
    })
}
