//! Random worlds: any sets, any faults, in any order. After each step all invariants hold (the world asks for them), and
//! when the faults stop, every slot ends with the job that is wanted or with a reported failure.

use crate::world::*;
use lapstrake_core::assignment::{Assignment, Traffic};
use lapstrake_core::ids::{JobId, SlotId};
use lapstrake_core::node::routes::named;
use lapstrake_core::report::{Failure, Health};
use lapstrake_core::spec::{Strategy as Policy, WhenCutOff};
use lapstrake_core::time::Tick;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;

/// What happens next in a random world.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    /// A new revision of a service in all its slots, in this way.
    Deploy(u128, Behaviour, Way),
    /// What waits beside the old jobs gets so much of the traffic, or all of it.
    Give(u128, Traffic),
    /// So many slots.
    Scale(u128, u32),
    /// The controller wants what has the traffic now.
    Revert(u128),
    /// The same set again, with a newer number.
    SayAgain {
        stop_absent: bool,
    },
    ProcessEnds(Index),
    ChecksFlap(Index),
    ConnectionsOpen(Index, u32),
    ConnectionsClose,
    ProxyStarts,
    ProxyEnds(Index),
    ProxySticks(Index),
    ProxiesRecover,
    EngineFallsSilent,
    EngineFallsSilentAbout(Index),
    EngineAnswers,
    RegistryFails,
    RegistryAnswers,
    DiskFills,
    DiskEmpties,
    AgentCrashes,
    AgentCrashesAfter(usize),
    MachineRestarts,
    LedgerIsLost,
    LeaseEnds,
    LeaseReturns,
}

/// How a deployment goes from the old jobs to the new ones.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As the service's own numbers say.
    Plain,
    /// The old job ends first.
    Recreate,
    /// So many beside, so many instead.
    Mixed { surge: u32, unavailable: u32 },
    /// Beside the old jobs, until more is given.
    Waits(Traffic),
}

fn traffic() -> impl Strategy<Value = Traffic> {
    prop_oneof![3 => Just(Traffic::Full), 1 => Just(Traffic::Held), 1 => (1u32..100).prop_map(Traffic::Share)]
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        3 => Just(Way::Plain),
        2 => Just(Way::Recreate),
        1 => (0u32..2, 1u32..3).prop_map(|(surge, unavailable)| Way::Mixed { surge, unavailable }),
        2 => traffic().prop_map(Way::Waits),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let behaviour = prop_oneof![4 => Just(Behaviour::Good), 1 => prop::sample::select(BEHAVIOURS.to_vec())];
    prop_oneof![
        12 => (1u64..60).prop_map(|tenths| Event::Pass(tenths * 100)),
        4 => (1u128..4, behaviour, way()).prop_map(|(service, behaviour, way)| Event::Deploy(service, behaviour, way)),
        2 => (1u128..4, traffic()).prop_map(|(service, traffic)| Event::Give(service, traffic)),
        2 => (1u128..4, 0u32..4).prop_map(|(service, scale)| Event::Scale(service, scale)),
        1 => (1u128..4).prop_map(Event::Revert),
        1 => any::<bool>().prop_map(|stop_absent| Event::SayAgain { stop_absent }),
        1 => any::<Index>().prop_map(Event::ProcessEnds),
        1 => any::<Index>().prop_map(Event::ChecksFlap),
        2 => (any::<Index>(), 1u32..5).prop_map(|(proxy, open)| Event::ConnectionsOpen(proxy, open)),
        1 => Just(Event::ConnectionsClose),
        1 => Just(Event::ProxyStarts),
        1 => any::<Index>().prop_map(Event::ProxyEnds),
        1 => any::<Index>().prop_map(Event::ProxySticks),
        2 => Just(Event::ProxiesRecover),
        1 => Just(Event::EngineFallsSilent),
        1 => any::<Index>().prop_map(Event::EngineFallsSilentAbout),
        2 => Just(Event::EngineAnswers),
        1 => Just(Event::RegistryFails),
        1 => Just(Event::RegistryAnswers),
        1 => Just(Event::DiskFills),
        2 => Just(Event::DiskEmpties),
        1 => Just(Event::AgentCrashes),
        2 => (0usize..6).prop_map(Event::AgentCrashesAfter),
        1 => Just(Event::MachineRestarts),
        1 => Just(Event::LedgerIsLost),
        1 => Just(Event::LeaseEnds),
        1 => Just(Event::LeaseReturns),
    ]
}

/// A controller that only says what it wants.
struct Controller {
    world: World,
    wanted: BTreeMap<SlotId, Assignment>,
    next: u128,
}

impl Controller {
    fn new() -> Controller {
        Controller { world: World::new(2), wanted: BTreeMap::new(), next: 1 }
    }

    fn say(&mut self, stop_absent: bool) {
        let set = self.wanted.values().cloned().collect();
        self.world.accept_with(set, stop_absent);
    }

    /// Service 3 stops without its controller; service 2 has no checks.
    fn assignment(&mut self, slot: SlotId, deployment: u128, behaviour: Behaviour) -> Assignment {
        self.next += 1;
        let service = slot.service.0;
        let mut one = assignment(slot, self.next, deployment, behaviour);
        if service == 3 {
            one.run.spec.when_cut_off = WhenCutOff::Stop;
            one.run.spec.deploy.max_surge = 2;
        }
        if service == 2 {
            one.run.spec.health.clear();
            one.run.spec.ports.clear();
        }
        one
    }

    fn deploy(&mut self, service: u128, behaviour: Behaviour, way: Way) {
        self.next += 1;
        let deployment = self.next;
        let mut slots: Vec<SlotId> = self.wanted.keys().filter(|slot| slot.service.0 == service).cloned().collect();
        if slots.is_empty() {
            slots.push(slot(service, 1));
        }
        for slot in slots {
            let mut one = self.assignment(slot.clone(), deployment, behaviour);
            let policy = &mut one.run.spec.deploy;
            match way {
                Way::Plain => {}
                Way::Recreate => policy.strategy = Policy::Recreate,
                Way::Mixed { surge, unavailable } => (policy.max_surge, policy.max_unavailable) = (surge, unavailable),
                Way::Waits(traffic) => (policy.strategy, one.traffic) = (Policy::Canary, traffic),
            }
            self.wanted.insert(slot, one);
        }
    }

    fn give(&mut self, service: u128, traffic: Traffic) {
        for one in self.wanted.values_mut().filter(|one| one.slot.service.0 == service) {
            let is_less = one.traffic == Traffic::Full;
            one.traffic = if is_less { Traffic::Full } else { traffic };
        }
    }

    fn scale(&mut self, service: u128, scale: u32) {
        self.wanted.retain(|slot, _| slot.service.0 != service || slot.number <= scale);
        self.next += 1;
        let deployment = self.next;
        for number in 1..=scale {
            if !self.wanted.contains_key(&slot(service, number)) {
                let one = self.assignment(slot(service, number), deployment, Behaviour::Good);
                self.wanted.insert(slot(service, number), one);
            }
        }
    }

    fn revert(&mut self, service: u128) {
        let ledger = &self.world.ledger;
        for (slot, one) in self.wanted.iter_mut().filter(|(slot, _)| slot.service.0 == service) {
            let current = ledger.current.get(slot).and_then(|id| ledger.jobs.get(id));
            *one = current.map(|job| job.assignment.clone()).unwrap_or_else(|| one.clone());
        }
    }

    fn happen(&mut self, event: &Event) {
        let world = &mut self.world;
        let proxies = world.proxies.len();
        match event {
            Event::Pass(ms) => world.pass(*ms),
            Event::Give(service, traffic) => {
                self.give(*service, *traffic);
                self.say(true);
            }
            Event::Deploy(service, behaviour, way) => {
                self.deploy(*service, *behaviour, *way);
                self.say(true);
            }
            Event::Scale(service, scale) => {
                self.scale(*service, *scale);
                self.say(true);
            }
            Event::Revert(service) => {
                self.revert(*service);
                self.say(true);
            }
            Event::SayAgain { stop_absent } => self.say(*stop_absent),
            Event::ProcessEnds(which) => {
                if let Some(process) = pick(world.processes.values_mut(), which) {
                    process.exit.get_or_insert((1, false));
                }
            }
            Event::ChecksFlap(which) => {
                let of_good = world.processes.values_mut().filter(|one| one.behaviour != Behaviour::Sick);
                if let Some(process) = pick(of_good, which) {
                    process.sick = !process.sick;
                }
            }
            Event::ConnectionsOpen(which, open) => {
                if let Some(proxy) = pick(world.proxies.iter_mut(), which) {
                    let routed: Vec<JobId> = proxy.routed.iter().copied().collect();
                    proxy.open.extend(routed.into_iter().map(|job| (job, *open)));
                }
            }
            Event::ConnectionsClose => world.proxies.iter_mut().for_each(|proxy| proxy.open.clear()),
            Event::ProxyStarts if proxies < 4 => {
                let (pid, routed) =
                    (200 + world.now as u32, world.file.as_ref().map(|table| named(&table.routes)).unwrap_or_default());
                world.proxies.push(ProxyProcess { pid, routed, ..ProxyProcess::default() });
            }
            Event::ProxyStarts => {}
            Event::ProxyEnds(which) if proxies > 0 => drop(world.proxies.remove(which.index(proxies))),
            Event::ProxyEnds(_) => {}
            Event::ProxySticks(which) => {
                pick(world.proxies.iter_mut(), which).into_iter().for_each(|proxy| proxy.stuck = true);
            }
            Event::ProxiesRecover => world.proxies.iter_mut().for_each(|proxy| proxy.stuck = false),
            Event::EngineFallsSilent => world.engine_is_up = false,
            Event::EngineFallsSilentAbout(which) => {
                let jobs: Vec<JobId> = world.processes.keys().map(|attempt| attempt.job).collect();
                world.mute.extend(pick(jobs.into_iter(), which));
            }
            Event::EngineAnswers => {
                world.engine_is_up = true;
                world.mute.clear();
            }
            Event::RegistryFails => world.registry_is_up = false,
            Event::RegistryAnswers => world.registry_is_up = true,
            Event::DiskFills => world.disk_is_full = true,
            Event::DiskEmpties => world.disk_is_full = false,
            Event::AgentCrashes => world.crash_agent(),
            Event::AgentCrashesAfter(effects) => world.dies_after = Some(*effects),
            Event::MachineRestarts => world.reboot(),
            Event::LedgerIsLost => world.lose_ledger(),
            Event::LeaseEnds => world.seen.lease_ends = Some(Tick(world.now)),
            Event::LeaseReturns => world.seen.lease_ends = Some(Tick(u64::MAX)),
        }
        self.world.decide();
    }

    fn faults_stop(&mut self) {
        let world = &mut self.world;
        (world.engine_is_up, world.registry_is_up, world.dies_after) = (true, true, None);
        world.disk_is_full = false;
        world.mute.clear();
        world.seen.lease_ends = Some(Tick(u64::MAX));
        for proxy in &mut world.proxies {
            proxy.stuck = false;
            proxy.open.clear();
        }
        for process in world.processes.values_mut() {
            process.sick = process.behaviour == Behaviour::Sick;
        }
        // What was decided while the ledger could not be written is written first.
        self.world.decide();
        (1..4).for_each(|service| self.give(service, Traffic::Full));
        self.say(true);
        self.world.settle();
    }

    /// Every slot holds the job that is wanted, or its failure is reported; and nothing else is left on the node.
    fn judge_the_end(&self) {
        let world = &self.world;
        let report = &world.last_plan.as_ref().expect("a plan").report;
        for (slot, one) in &self.wanted {
            let has_it = world.ledger.current.get(slot) == Some(&one.job);
            if has_it {
                let job = report.jobs.iter().find(|job| job.job == one.job).expect("its report");
                let is_well = job.health == Health::Healthy;
                let says_why = !can_be_well(one) && job.failure.is_some();
                assert!(is_well || says_why, "{slot} {:?}", world.job(one.job.0));
            } else {
                let failed = report.replacements.iter().filter(|other| other.deployment == one.deployment);
                let failed = failed.filter(|one| !matches!(one.failure, None | Some(Failure::Superseded))).count();
                assert!(failed > 0, "{slot} has not its job and nobody says why: {report:#?}");
                assert!(world.why(slot).starts_with("waits for the controller"), "{}", world.why(slot));
            }
        }
        let up = world.processes.iter().filter(|(_, process)| process.exit.is_none());
        for (attempt, _) in up {
            assert!(world.ledger.current.values().any(|job| *job == attempt.job), "orphan {attempt:?}");
        }
        assert!(world.processes.len() <= world.ledger.current.len(), "a corpse is left");
        for slot in world.ledger.current.keys() {
            assert!(self.wanted.contains_key(slot), "{slot} was to be emptied");
        }
        let most_jobs = 2 * self.wanted.len() + 2 * world.ledger.replacements.len();
        assert!(world.ledger.jobs.len() <= most_jobs, "the ledger does not grow: {:#?}", world.ledger.jobs);
    }
}

/// A revision that never gets well has its slot only if the ledger was lost while it happened to run.
fn can_be_well(one: &Assignment) -> bool {
    [Behaviour::Good, Behaviour::Stubborn].iter().any(|good| one.run.image.pinned() == good.image())
}

fn pick<T>(all: impl Iterator<Item = T>, which: &Index) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    if all.is_empty() { None } else { Some(all.swap_remove(which.index(all.len()))) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold_and_every_slot_ends_well_or_says_why(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut controller = Controller::new();
        for event in &events {
            controller.happen(event);
        }
        controller.faults_stop();
        controller.judge_the_end();
    }
}
