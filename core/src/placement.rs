//! Which node gets a job.
//!
//! Of the nodes of the environment that can take it, the one with the fewest jobs of the same service, so that losing a
//! node costs a service as little as possible; of those the one with the largest share of its memory free; of those the
//! one with the smallest id, so that the same question always has the same answer. A node that cannot take it says why.

use crate::assignment::bytes::SET_BYTES;
use crate::cluster::state::{Cordon, Wish};
use crate::ids::NodeId;
use crate::label::Constraint;
use crate::liveness::Liveness;
use crate::report::{Capacity, FullDisk};
use crate::spec::Size;
use crate::time::Millis;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

/// A node that is allotted to the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// What its operator wants.
    pub wish: Wish,
    /// As in image platforms.
    pub architecture: String,
    /// What operators say of it.
    pub labels: BTreeMap<String, String>,
    /// What is believed of it.
    pub liveness: Liveness,
    /// For how long it has been silent.
    pub silence: Millis,
    /// Whether its agent has a session: without one nothing can be begun there.
    pub connected: bool,
    /// What it has to give.
    pub capacity: Capacity,
    /// What of it is not given to jobs yet.
    pub free: Capacity,
    /// Whether it can get the image: any can from a registry, only some hold one that is nowhere else.
    pub has_image: bool,
    /// Jobs of the same service there.
    pub neighbours: u32,
    /// What its agent can still be told.
    pub set: SetRoom,
    /// The disk that keeps it from beginning jobs, if one does.
    pub full_disk: Option<FullDisk>,
}

/// How much a node's assignment set may still grow, and by how much one more job of the service lets it grow. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetRoom {
    /// It may grow so much.
    pub free: u64,
    /// Each job takes this.
    pub each: u64,
    /// The first job takes this besides: values that the node has not yet.
    pub once: u64,
}

/// What a job asks of its node.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// What it may use.
    pub size: &'a Size,
    /// What must hold of the node.
    pub constraints: &'a [Constraint],
}

/// Why a node cannot take a job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// The operator wants no new jobs there.
    Cordoned(Cordon),
    /// A constraint does not hold of it: the sentence.
    Constraint(String),
    /// It is silent.
    Silent {
        /// For how long.
        silence: Millis,
        /// Whether its lease has ended.
        lost: bool,
    },
    /// Its agent has no session, for less time than would make it suspect.
    NotConnected,
    /// Only other nodes hold the image.
    NoImage,
    /// One of its disks is full.
    Disk(FullDisk),
    /// Too little of a processor.
    Cpu {
        /// Wanted, in thousandths of a core.
        wanted: u32,
        /// Free.
        free: u32,
        /// In all.
        capacity: u32,
    },
    /// Too little memory.
    Memory {
        /// Wanted, in bytes.
        wanted: u64,
        /// Free.
        free: u64,
        /// In all.
        capacity: u64,
    },
    /// Its agent could not be told any more what to run.
    Assignments {
        /// Wanted, in bytes of its assignment set.
        wanted: u64,
        /// Free.
        free: u64,
        /// In all.
        most: u64,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Cordoned(cordon) => write!(f, "it is {cordon}"),
            Unfit::Constraint(why) => f.write_str(why),
            Unfit::Silent { silence, lost: false } => write!(f, "it has been silent for {silence}"),
            Unfit::Silent { silence, lost: true } => write!(f, "it is lost, silent for {silence}"),
            Unfit::NotConnected => f.write_str("its agent is not connected"),
            Unfit::NoImage => f.write_str("it does not hold the image, which comes from no registry"),
            Unfit::Disk(disk) => write!(f, "{disk}"),
            Unfit::Assignments { wanted, free, most } => {
                let (wanted, free, most) = (wanted.div_ceil(1 << 10), free >> 10, most >> 10);
                write!(f, "its assignments would be too large: {wanted} KiB wanted, {free} of {most} KiB free")
            }
            Unfit::Cpu { wanted, free, capacity } => {
                write!(f, "{} cpu wanted, {} of {} free", Cores(*wanted), Cores(*free), Cores(*capacity))
            }
            Unfit::Memory { wanted, free, capacity } => {
                write!(
                    f,
                    "{} MiB of memory wanted, {} of {} MiB free",
                    wanted.div_ceil(1 << 20),
                    free >> 20,
                    capacity >> 20
                )
            }
        }
    }
}

/// Thousandths of a core as `0.50`.
struct Cores(u32);

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

/// The place of one job, or each node's name and why it cannot take it.
pub type Place = Result<NodeId, Vec<(String, String)>>;

/// Places so many jobs of one service and one size, one after the other, each seeing the ones before.
pub fn place(jobs: usize, demand: Demand<'_>, candidates: Vec<Candidate>) -> Vec<Place> {
    place_at(&vec![None; jobs], demand, candidates)
}

/// The same for jobs that have been somewhere before, each with that node: it goes there again if it can.
pub fn place_at(homes: &[Option<NodeId>], demand: Demand<'_>, mut candidates: Vec<Candidate>) -> Vec<Place> {
    homes.iter().map(|home| place_one(*home, demand, &mut candidates)).collect()
}

fn place_one(home: Option<NodeId>, demand: Demand<'_>, candidates: &mut [Candidate]) -> Place {
    let is_away = |candidate: &Candidate| home.is_some_and(|home| home != candidate.node);
    let best = candidates.iter_mut().filter(|candidate| unfit(candidate, demand).is_none()).min_by_key(|candidate| {
        (is_away(candidate), candidate.neighbours, Reverse(free_share(candidate)), candidate.node)
    });
    match best {
        Some(candidate) => {
            candidate.free = candidate.free.minus([demand.size]);
            candidate.neighbours += 1;
            candidate.set.free = candidate.set.free.saturating_sub(candidate.set.each + candidate.set.once);
            candidate.set.once = 0;
            Ok(candidate.node)
        }
        None => Err(candidates
            .iter()
            .filter_map(|candidate| Some((candidate.name.clone(), unfit(candidate, demand)?.to_string())))
            .collect()),
    }
}

/// The first reason, in the order in which an operator would rule them out.
pub fn unfit(candidate: &Candidate, demand: Demand<'_>) -> Option<Unfit> {
    let Demand { size, constraints } = demand;
    let Candidate { free, capacity, silence, .. } = candidate;
    match candidate.liveness {
        Liveness::Lost => return Some(Unfit::Silent { silence: *silence, lost: true }),
        Liveness::Suspect => return Some(Unfit::Silent { silence: *silence, lost: false }),
        Liveness::Ready if !candidate.connected => return Some(Unfit::NotConnected),
        Liveness::Ready => {}
    }
    if let Some(cordon) = candidate.wish.cordon() {
        return Some(Unfit::Cordoned(cordon.clone()));
    }
    let against = |it: &Constraint| it.why_not(&candidate.architecture, &candidate.labels);
    if let Some(why) = constraints.iter().find_map(against) {
        return Some(Unfit::Constraint(why));
    }
    if !candidate.has_image {
        return Some(Unfit::NoImage);
    }
    if let Some(disk) = &candidate.full_disk {
        return Some(Unfit::Disk(disk.clone()));
    }
    if size.memory_bytes > free.memory_bytes {
        let wanted = size.memory_bytes;
        return Some(Unfit::Memory { wanted, free: free.memory_bytes, capacity: capacity.memory_bytes });
    }
    if size.cpu_milli > free.cpu_milli {
        return Some(Unfit::Cpu { wanted: size.cpu_milli, free: free.cpu_milli, capacity: capacity.cpu_milli });
    }
    let SetRoom { free, each, once } = candidate.set;
    if each + once > free {
        return Some(Unfit::Assignments { wanted: each + once, free, most: SET_BYTES });
    }
    None
}

/// Thousandths of the memory that are free.
fn free_share(candidate: &Candidate) -> u64 {
    let all = candidate.capacity.memory_bytes.max(1);
    u64::try_from(u128::from(candidate.free.memory_bytes) * 1000 / u128::from(all)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;
    use alloc::format;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn node(id: u128) -> Candidate {
        let capacity = Capacity { cpu_milli: 4000, memory_bytes: 1024 * MIB };
        Candidate {
            node: NodeId(id),
            name: format!("node-{id}"),
            wish: Wish::Open,
            architecture: "amd64".into(),
            labels: BTreeMap::from([("zone".into(), format!("z{id}"))]),
            liveness: Liveness::Ready,
            silence: Millis(0),
            connected: true,
            capacity,
            free: capacity,
            has_image: true,
            neighbours: 0,
            set: SetRoom { free: 1 << 20, each: 1 << 10, once: 0 },
            full_disk: None,
        }
    }

    fn size(cpu_milli: u32, mib: u64) -> Size {
        Size { cpu_milli, memory_bytes: mib * MIB, pids: 512 }
    }

    fn of(size: &Size) -> Demand<'_> {
        Demand { size, constraints: &[] }
    }

    fn cordon() -> Wish {
        Wish::Cordoned(Cordon { by: "alice".into(), reason: Some("disk swap".into()), since: Wall(0) })
    }

    #[test]
    fn the_jobs_of_a_service_are_spread_over_the_nodes() {
        let places = place(4, of(&size(100, 64)), vec![node(1), node(2), node(3)]);
        assert_eq!(places, vec![Ok(NodeId(1)), Ok(NodeId(2)), Ok(NodeId(3)), Ok(NodeId(1))]);
    }

    #[test]
    fn of_two_nodes_with_as_many_jobs_the_emptier_one_is_taken() {
        let mut full = node(1);
        full.free.memory_bytes = 100 * MIB;
        assert_eq!(place(1, of(&size(100, 64)), vec![full, node(2)]), vec![Ok(NodeId(2))]);
    }

    #[test]
    fn each_node_that_cannot_take_a_job_says_why() {
        let mut cordoned = node(1);
        cordoned.wish = cordon();
        let mut lost = node(2);
        (lost.liveness, lost.silence) = (Liveness::Lost, Millis::secs(90));
        let mut full = node(3);
        full.free = Capacity { cpu_milli: 200, memory_bytes: 100 * MIB };
        let mut without = node(4);
        without.has_image = false;
        let mut busy = node(5);
        busy.free.cpu_milli = 200;
        let mut leaving = node(6);
        leaving.connected = false;
        let mut elsewhere = node(7);
        elsewhere.labels.insert("zone".into(), "b".into());
        let mut wordy = node(8);
        wordy.set = SetRoom { free: 200 << 10, each: 2 << 10, once: 400 << 10 };
        let mut brimful = node(9);
        brimful.full_disk = Some(FullDisk { folder: "/var/lib/docker".into(), mark_percent: 95 });
        let size = size(500, 256);
        let constraints = ["zone != b".parse().unwrap()];
        let demand = Demand { size: &size, constraints: &constraints };
        let places = place(1, demand, vec![leaving, cordoned, lost, full, without, busy, elsewhere, wordy, brimful]);
        let sentences: Vec<String> = places
            .into_iter()
            .next()
            .unwrap()
            .unwrap_err()
            .into_iter()
            .map(|(node, why)| format!("{node}: {why}"))
            .collect();
        assert_eq!(
            sentences,
            [
                "node-6: its agent is not connected",
                "node-1: it is cordoned by alice: disk swap",
                "node-2: it is lost, silent for 90 s",
                "node-3: 256 MiB of memory wanted, 100 of 1024 MiB free",
                "node-4: it does not hold the image, which comes from no registry",
                "node-5: 0.50 cpu wanted, 0.20 of 4.00 free",
                "node-7: its label zone is b, which is not wanted",
                "node-8: its assignments would be too large: 402 KiB wanted, 200 of 12288 KiB free",
                "node-9: the disk that holds /var/lib/docker has reached its mark of 95 %",
            ]
        );
    }

    #[test]
    fn values_that_a_node_has_for_one_job_are_not_counted_for_the_next() {
        let mut first = node(1);
        first.set = SetRoom { free: 100, each: 10, once: 60 };
        let places = place(5, of(&size(1, 1)), vec![first]);
        assert_eq!(places.iter().filter(|place| place.is_ok()).count(), 4, "60 and four times 10");
    }

    #[test]
    fn a_job_that_has_been_somewhere_goes_there_again_if_it_can() {
        let mut full = node(1);
        full.free.memory_bytes = 0;
        let homes = [Some(NodeId(3)), Some(NodeId(1)), None];
        let places = place_at(&homes, of(&size(100, 64)), vec![full, node(2), node(3)]);
        assert_eq!(places, vec![Ok(NodeId(3)), Ok(NodeId(2)), Ok(NodeId(2))]);
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        (0u128..6, 0u32..2000, 0u64..512, 0u8..3, any::<bool>(), any::<bool>(), 0u32..4, any::<bool>()).prop_map(
            |(id, cpu, mib, liveness, cordoned, has_image, neighbours, connected)| {
                let mut it = node(id);
                it.free = Capacity { cpu_milli: cpu, memory_bytes: mib * MIB };
                it.liveness = [Liveness::Ready, Liveness::Suspect, Liveness::Lost][usize::from(liveness)];
                it.wish = if cordoned { cordon() } else { Wish::Open };
                it.has_image = has_image;
                it.neighbours = neighbours;
                it.connected = connected;
                it
            },
        )
    }

    proptest! {
        #[test]
        fn no_node_gets_more_than_it_has_and_none_that_may_not_gets_any(
            candidates in prop::collection::btree_map(0u128..6, any_candidate(), 0..6),
            jobs in 0usize..10, cpu in 1u32..900, mib in 1u64..200, zone in prop::option::of(0u128..6),
        ) {
            let candidates: Vec<Candidate> =
                candidates.into_iter().map(|(id, mut it)| { it.node = NodeId(id); it }).collect();
            let size = size(cpu, mib);
            let constraints: Vec<Constraint> =
                zone.iter().map(|zone| format!("zone == z{zone}").parse().unwrap()).collect();
            let demand = Demand { size: &size, constraints: &constraints };
            let places = place(jobs, demand, candidates.clone());
            prop_assert_eq!(&places, &place(jobs, demand, candidates.clone()), "the same question, the same answer");
            for candidate in &candidates {
                let given = places.iter().filter(|it| it.as_ref() == Ok(&candidate.node)).count() as u64;
                prop_assert!(given * u64::from(cpu) <= u64::from(candidate.free.cpu_milli));
                prop_assert!(given * mib * MIB <= candidate.free.memory_bytes);
                let may = candidate.wish == Wish::Open && candidate.liveness == Liveness::Ready
                    && candidate.connected && candidate.has_image
                    && zone.is_none_or(|zone| candidate.labels["zone"] == format!("z{zone}"));
                prop_assert!(may || given == 0);
            }
            for refused in places.iter().filter_map(|it| it.as_ref().err()) {
                prop_assert_eq!(refused.len(), candidates.len(), "each node has a sentence");
                prop_assert!(refused.iter().all(|(_, why)| !why.is_empty()));
            }
        }
    }
}
