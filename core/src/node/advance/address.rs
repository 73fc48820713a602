//! Subnets for environments and static addresses for jobs.

use crate::ids::{EnvironmentId, JobId};
use crate::node::action::Subnet;
use crate::node::health::is_gone;
use crate::node::ledger::{Job, Ledger};
use crate::node::routes;
use crate::node::seen::{Bridges, NodeConfig, Seen};
use crate::report::JobPhase;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// The network's own address and the gateway come first.
const FIRST_HOST: u32 = 2;

impl Subnet {
    /// The subnet of this prefix length that an address lies in.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Subnet {
        let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix.into())).unwrap_or(0);
        Subnet { base: Ipv4Addr::from(u32::from(address) & mask), prefix }
    }
    /// Whether it has this address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Subnet::around(address, self.prefix) == Subnet::around(self.base, self.prefix)
    }
    /// Whether an address lies in both.
    pub fn overlaps(self, other: Subnet) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }
    /// How many addresses it has.
    pub fn size(self) -> u32 {
        1u32.checked_shl(32u32.saturating_sub(self.prefix.into())).unwrap_or(u32::MAX)
    }
    /// The addresses that jobs may get: without the network's own, the gateway's and the broadcast address.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (FIRST_HOST..self.size().saturating_sub(1)).map(move |host| Ipv4Addr::from(u32::from(self.base) + host))
    }
}

/// Gives addresses to jobs whose containers are about to be made, and takes them back from jobs that are gone.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig) {
    give_back(ledger, seen);
    align(ledger, seen);
    let without: Vec<JobId> = ledger
        .jobs
        .values()
        // Containers that a lost ledger has forgotten have addresses too, which only the engine knows.
        .filter(|job| seen.engine_answers && job.address.is_none() && routes::not_forgotten(ledger, seen).is_none())
        .filter(|job| matches!(job.phase, JobPhase::Creating | JobPhase::Starting))
        .map(|job| job.assignment.job)
        .collect();
    for id in without {
        allot(ledger, seen, config, id);
    }
    let unused: Vec<EnvironmentId> = unused_networks(ledger, seen).collect();
    let stands = |environment: &EnvironmentId| seen.networks.contains(environment);
    for environment in unused.into_iter().filter(|one| seen.engine_answers && !stands(one)) {
        ledger.subnets.remove(&environment);
    }
}

/// Environments that have a subnet or a bridge here and no job left or to come. A job that has ended is in the ledger until
/// the next set; it needs no bridge any more once its container is gone and its address was given back.
pub fn unused_networks<'a>(ledger: &'a Ledger, seen: &'a Seen) -> impl Iterator<Item = EnvironmentId> + 'a {
    let mut containers = seen.containers.keys().chain(seen.unclear.keys());
    let knows_all = seen.engine_answers && containers.all(|one| ledger.jobs.contains_key(&one.job));
    let ours: BTreeSet<EnvironmentId> = ledger.subnets.keys().chain(&seen.networks).copied().collect();
    ours.into_iter().filter(move |environment| {
        let of = |run: &crate::assignment::RunSpec| run.environment == *environment;
        let is_over = |job: &Job| job.phase.is_final() && job.address.is_none() && is_gone(job, seen);
        let has_job = ledger.jobs.values().any(|job| of(&job.assignment.run) && !is_over(job));
        let is_wanted = ledger.wanted.values().any(|one| of(&one.run));
        knows_all && ledger.generation.is_some() && ledger.stop_absent && !has_job && !is_wanted
    })
}

/// An address is used again only when its container is gone and no proxy can send anything to it any more.
fn give_back(ledger: &mut Ledger, seen: &Seen) {
    let free: Vec<JobId> = ledger
        .jobs
        .values()
        .filter(|job| job.phase.is_final() && job.address.is_some())
        .filter(|job| is_gone(job, seen) && routes::not_released(job, ledger, seen).is_none())
        .map(|job| job.assignment.job)
        .collect();
    for id in free {
        if let Some(job) = ledger.jobs.get_mut(&id) {
            job.address = None;
        }
    }
}

/// Lets the ledger's subnets follow the bridges that stand: our own bridge of an environment is taken as it is, whatever the
/// configuration says now, and a subnet that another bridge overlaps is given up. Jobs that leave an address behind
/// have no container and get no request there.
fn align(ledger: &mut Ledger, seen: &Seen) {
    let Some(bridges) = seen.bridges.as_ref().filter(|_| seen.engine_answers) else { return };
    let held: Vec<(EnvironmentId, Subnet)> = ledger.subnets.iter().map(|(id, subnet)| (*id, *subnet)).collect();
    for (environment, subnet) in held {
        let stands = bridges.own.get(&environment).copied();
        let mut others = bridges.own.values().chain(&bridges.others);
        let is_taken = stands.is_none() && others.any(|other| other.overlaps(subnet));
        if !is_taken && stands.is_none_or(|stands| stands == subnet) {
            continue;
        }
        let of_environment = || ledger.jobs.values().filter(|job| job.assignment.run.environment == environment);
        let is_outside = |job: &&Job| job.address.is_some_and(|at| !stands.is_some_and(|stands| stands.contains(at)));
        let may_leave = |job: &Job| is_gone(job, seen) && routes::not_released(job, ledger, seen).is_none();
        let leaving: Vec<JobId> = of_environment().filter(is_outside).map(|job| job.assignment.job).collect();
        if !of_environment().filter(is_outside).all(may_leave) {
            continue;
        }
        for id in leaving {
            if let Some(job) = ledger.jobs.get_mut(&id) {
                job.address = None;
            }
        }
        match stands {
            Some(stands) => ledger.subnets.insert(environment, stands),
            None => ledger.subnets.remove(&environment),
        };
    }
}

/// Gives the job an address of its environment's subnet, if one is free. What a container of a lost ledger holds is taken. A
/// subnet is chosen only when the engine has told which bridges stand.
fn allot(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, id: JobId) {
    let Some(environment) = ledger.jobs.get(&id).map(|job| job.assignment.run.environment) else { return };
    let held = ledger.subnets.get(&environment).copied();
    let chosen =
        |bridges: &Bridges| bridges.own.get(&environment).copied().or_else(|| free_subnet(ledger, seen, config));
    let Some(subnet) = held.or_else(|| seen.bridges.as_ref().and_then(chosen)) else { return };
    ledger.subnets.insert(environment, subnet);
    let taken: BTreeSet<Ipv4Addr> =
        ledger.jobs.values().filter_map(|job| job.address).chain(seen.addresses.values().copied()).collect();
    let free = subnet.hosts().find(|address| !taken.contains(address));
    if let Some(job) = ledger.jobs.get_mut(&id) {
        job.address = free;
    }
}

fn free_subnet(ledger: &Ledger, seen: &Seen, config: &NodeConfig) -> Option<Subnet> {
    let pool = Subnet::around(config.pool, config.pool_prefix);
    let size = Subnet { base: config.pool, prefix: config.subnet_prefix }.size();
    let seen_in = seen.addresses.values().map(|address| Subnet::around(*address, config.subnet_prefix));
    let standing = seen.bridges.iter().flat_map(|bridges| bridges.own.values().chain(&bridges.others)).copied();
    let taken: BTreeSet<Subnet> = ledger.subnets.values().copied().chain(seen_in).chain(standing).collect();
    (0..pool.size() / size)
        .map(|number| Subnet {
            base: Ipv4Addr::from(u32::from(pool.base) + number * size),
            prefix: config.subnet_prefix,
        })
        .find(|subnet| !taken.iter().any(|taken| taken.overlaps(*subnet)))
}
