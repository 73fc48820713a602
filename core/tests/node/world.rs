//! A node that exists only here: an engine, images, processes, proxies and a disk, all of which can fail.
//!
//! The world carries out what the agent plans, at once, and after every step asks for the invariants of `check::node`
//! and for promises that only an onlooker can judge: the times between a switch, a stop signal and a kill.

use lapstrake_core::assignment::{
    Assignment, AssignmentSet, BoundImage, Generation, KeptImages, RunSpec, ServicePath, Traffic,
};
use lapstrake_core::check::node::{check_ledger, check_plan, check_settled};
use lapstrake_core::ids::*;
use lapstrake_core::node::action::{Action, Plan, Subnet};
use lapstrake_core::node::images::{Brought, HeldImage, Listing};
use lapstrake_core::node::ledger::{Job, Ledger, Manner, Replacement};
use lapstrake_core::node::routes::named;
use lapstrake_core::node::seen::*;
use lapstrake_core::node::{advance, plan};
use lapstrake_core::probe::{Answer, Reading, checks_of};
use lapstrake_core::report::{Capacity, ReplacementPhase};
use lapstrake_core::routes::RouteTable;
use lapstrake_core::spec::*;
use lapstrake_core::time::{Millis, Tick, Wall};
use lapstrake_core::values::{Binding, Body, GivenValue, Place, Sealed};
use std::collections::{BTreeMap, BTreeSet};

/// How a revision's process behaves; its image is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Healthy from the first question on.
    Good,
    /// The registry does not have it.
    NoImage,
    /// The engine refuses to start it.
    Refused,
    /// Ends at once with code 3.
    Exits,
    /// Is killed at its memory limit.
    EatsMemory,
    /// Never answers its check.
    Sick,
    /// Does not end on its stop signal.
    Stubborn,
}

pub const BEHAVIOURS: [Behaviour; 7] = [
    Behaviour::Good,
    Behaviour::NoImage,
    Behaviour::Refused,
    Behaviour::Exits,
    Behaviour::EatsMemory,
    Behaviour::Sick,
    Behaviour::Stubborn,
];

impl Behaviour {
    pub fn image(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// A process as it is, whatever the agent believes.
#[derive(Debug, Clone)]
pub struct Process {
    pub behaviour: Behaviour,
    pub slot: SlotId,
    pub strategy: Strategy,
    pub address: core::net::Ipv4Addr,
    pub environment: EnvironmentId,
    pub started: u64,
    pub exit: Option<(i64, bool)>,
    /// When it got its stop signal first.
    pub terminated: Option<u64>,
    /// Whether its checks answer just now.
    pub sick: bool,
    pub overlap: u64,
    pub stops_when_cut_off: bool,
    pub stop_grace: u64,
}

/// A proxy process.
#[derive(Debug, Clone, Default)]
pub struct ProxyProcess {
    pub pid: u32,
    pub acknowledged: u64,
    pub routed: BTreeSet<JobId>,
    pub open: BTreeMap<JobId, u32>,
    /// Does not take tables while true.
    pub stuck: bool,
}

pub struct World {
    pub ledger: Ledger,
    pub seen: Seen,
    pub config: NodeConfig,
    pub boot: u128,
    pub now: u64,
    pub processes: BTreeMap<Attempt, Process>,
    pub refused: BTreeMap<Attempt, u64>,
    pub proxies: Vec<ProxyProcess>,
    pub engine_is_up: bool,
    pub registry_is_up: bool,
    /// What the engine holds, each with the name that somebody else gave it.
    pub images: BTreeMap<String, Option<String>>,
    /// What stands, whoever made it; it outlives reboots.
    pub bridges: Bridges,
    /// Jobs whose containers the engine lists and cannot be asked about.
    pub mute: BTreeSet<JobId>,
    /// Jobs whose containers' labels have not been read yet: a list brings them.
    pub unlabelled: BTreeSet<JobId>,
    /// The ledger cannot be written: nothing that `advance` says takes effect.
    pub disk_is_full: bool,
    pub set_number: u64,
    /// What the controller keeps besides what is wanted.
    pub kept_images: Option<KeptImages>,
    /// What was done, for stories.
    pub done: Vec<(u64, &'static str, Option<JobId>)>,
    pub last_plan: Option<Plan>,
    /// The table file, for a proxy that starts and for an agent that lost its ledger.
    pub file: Option<RouteTable>,
    /// The agent dies after so many more effects of its actions.
    pub dies_after: Option<usize>,
    switched: BTreeMap<JobId, u64>,
}

/// An image that nothing needs stays for so long.
pub const KEEP_IMAGES: Millis = Millis(5_000);

pub const CAPACITY: Capacity = Capacity { cpu_milli: 4_000, memory_bytes: 4 << 30 };

pub fn slot(service: u128, number: u32) -> SlotId {
    SlotId { service: ServiceId(service), target: "web".into(), number }
}

/// A web service's job: one check, short times.
pub fn assignment(slot: SlotId, job: u128, deployment: u128, behaviour: Behaviour) -> Assignment {
    let service = slot.service.0;
    let check = Check {
        kind: CheckKind::Http { port: 8080, path: "/healthz".into() },
        interval: Millis(1_000),
        timeout: Millis(500),
        grace: Millis(2_000),
        restart_after: 3,
    };
    let deploy = DeployPolicy {
        strategy: Strategy::Rolling,
        overlap: Millis(5_000),
        drain: Millis(10_000),
        stop_grace: Millis(4_000),
        min_healthy: Millis(2_000),
        timeout: Millis(60_000),
        max_surge: 1,
        max_unavailable: 0,
        steps: Vec::new(),
        max_attempts: 3,
        release: None,
    };
    let port = Port { port: 8080, protocol: Protocol::Http, path: Some("/".into()), public: true, host: None };
    let image = BoundImage::Digest { reference: behaviour.image(), pinned: behaviour.image() };
    let spec = ServiceSpec {
        service_type: ServiceType::Web,
        image: ImageSource { reference: behaviour.image(), pull: Pull::Registry },
        command: Vec::new(),
        size: Size { cpu_milli: 500, memory_bytes: 256 << 20, pids: 512 },
        scale: 2,
        ports: vec![port],
        health: vec![check],
        deploy,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
        replace_after: Millis(0),
        when_cut_off: WhenCutOff::Keep,
        init: true,
        read_only: false,
        constraints: Vec::new(),
    };
    let run = RunSpec {
        environment: EnvironmentId(service % 2 + 1),
        application: ApplicationId(1),
        path: ServicePath {
            application: "shop".into(),
            environment: "production".into(),
            service: format!("s{service}"),
        },
        revision: 1,
        image,
        spec,
        hosts: vec![Some(format!("s{service}.example"))],
        values: vec![Binding { place: Place::Variable("KEY".into()), value: ValueId(job) }],
    };
    let deployment = DeploymentId(deployment);
    Assignment { slot, job: JobId(job), deployment, run, traffic: Traffic::Full, once: None }
}

/// The engine's id of an image.
fn id_of(pinned: &str) -> String {
    format!("sha256:{pinned}")
}

/// A value as the agent's rim gives it to the ledger.
pub fn sealed(value: ValueId) -> GivenValue {
    GivenValue {
        called: format!("the secret {value}"),
        body: Body::Sealed(Sealed::from(value.0.to_be_bytes().to_vec())),
    }
}

impl Default for World {
    fn default() -> World {
        World::new(1)
    }
}

impl World {
    /// A node with so many proxies, an engine that answers, and nothing on it.
    pub fn new(proxies: u32) -> World {
        let config = NodeConfig {
            name: "n1".into(),
            pool: core::net::Ipv4Addr::new(10, 201, 0, 0),
            pool_prefix: 16,
            subnet_prefix: 24,
            keep_images: KEEP_IMAGES,
        };
        let ledger = Ledger::new(ClusterId(1), NodeId(1), BootId(1), &config);
        let mut world = World {
            ledger,
            seen: Seen::default(),
            config,
            boot: 1,
            now: 1_000,
            processes: BTreeMap::new(),
            refused: BTreeMap::new(),
            proxies: (0..proxies).map(|n| ProxyProcess { pid: 100 + n, ..ProxyProcess::default() }).collect(),
            engine_is_up: true,
            registry_is_up: true,
            images: BTreeMap::new(),
            bridges: Bridges::default(),
            mute: BTreeSet::new(),
            unlabelled: BTreeSet::new(),
            disk_is_full: false,
            set_number: 0,
            kept_images: Some(KeptImages::default()),
            done: Vec::new(),
            last_plan: None,
            file: None,
            dies_after: None,
            switched: BTreeMap::new(),
        };
        world.seen.capacity = CAPACITY;
        world.seen.disks = Some(Vec::new());
        world.seen.lease_ends = Some(Tick(u64::MAX));
        world.look();
        world
    }

    pub fn instant(&self) -> Now {
        Now { tick: Tick(self.now), boot: BootId(self.boot), wall: Wall(1_000_000 + self.now) }
    }

    /// The controller speaks.
    pub fn accept(&mut self, assignments: Vec<Assignment>) {
        self.accept_with(assignments, true);
    }

    pub fn accept_with(&mut self, mut assignments: Vec<Assignment>, stop_absent: bool) {
        assignments.sort_by(|a, b| a.slot.cmp(&b.slot));
        self.set_number += 1;
        let generation = Generation { epoch: EpochId(1), number: self.set_number };
        let before = self.ledger.clone();
        let values = assignments.iter().flat_map(|one| &one.run.values).map(|one| (one.value, sealed(one.value)));
        let values = values.collect();
        let kept_images = self.kept_images.clone();
        let set = AssignmentSet { generation, stop_absent, assignments, values, kept_images };
        if self.disk_is_full {
            return self.decide();
        }
        self.ledger.accept(set, self.instant()).expect("a newer set");
        self.judge(check_ledger(&before, &self.ledger, &self.seen, self.instant()));
        self.decide();
    }

    fn judge(&self, violations: Vec<lapstrake_core::check::Violation>) {
        assert!(violations.is_empty(), "at {}: {violations:#?}", self.now);
    }

    /// Time passes in steps of 100 ms, with a decision after each.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            self.now = (self.now + 100).min(end);
            self.live();
            self.decide();
        }
    }

    /// Time passes with few decisions, to see where everything ends.
    pub fn settle(&mut self) {
        for _ in 0..400 {
            self.now += 1_000;
            self.live();
            self.decide();
        }
    }

    /// Passes time until this holds, at most ten minutes.
    pub fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) {
        for _ in 0..6_000 {
            if holds(self) {
                return;
            }
            self.pass(100);
        }
        panic!(
            "never: {what}\n{:#?}\n{:#?}",
            self.ledger.replacements,
            self.last_plan.as_ref().map(|plan| &plan.waits)
        );
    }

    /// The agent's loop, until nothing is planned any more.
    pub fn decide(&mut self) {
        for _ in 0..40 {
            self.look();
            let before = self.ledger.clone();
            let now = self.instant();
            advance(&mut self.ledger, &self.seen, &self.config, now);
            self.judge(check_ledger(&before, &self.ledger, &self.seen, self.instant()));
            self.judge(check_settled(&self.ledger, &self.seen, &self.config, self.instant()));
            if self.disk_is_full {
                self.ledger = before;
            }
            self.note_switches();
            let plan = plan(&self.ledger, &self.seen, &self.config, self.instant());
            self.judge(check_plan(&self.ledger, &self.seen, &plan));
            let wake = plan.wake;
            assert!(wake.is_none_or(|wake| wake.0 > self.now), "wakes at once, again and again: {plan:#?}");
            let actions = plan.actions.clone();
            self.last_plan = Some(plan);
            let mut effects = 0;
            for action in actions {
                if self.dies_after == Some(effects) {
                    self.dies_after = None;
                    self.crash_agent();
                    return;
                }
                effects += usize::from(self.carry_out(&action));
            }
            if effects == 0 {
                return;
            }
        }
        panic!("the plan is never empty: {:#?}", self.last_plan);
    }

    fn note_switches(&mut self) {
        for one in self.ledger.replacements.values() {
            if let (
                ReplacementPhase::Switched | ReplacementPhase::Overlapping | ReplacementPhase::Draining,
                Some(old),
            ) = (one.phase, one.old)
            {
                self.switched.entry(old).or_insert(self.now);
            }
        }
    }

    /// Does it; says whether that had an effect.
    fn carry_out(&mut self, action: &Action) -> bool {
        let job = match action {
            Action::Run { attempt, .. }
            | Action::Watch { attempt, .. }
            | Action::Unwatch { attempt }
            | Action::Terminate { attempt }
            | Action::Kill { attempt }
            | Action::Remove { attempt } => Some(attempt.job),
            Action::EnsureNetwork { .. }
            | Action::RemoveNetwork { .. }
            | Action::Pull { .. }
            | Action::RemoveImage { .. }
            | Action::PublishTable => None,
        };
        let had_effect = self.effect(action);
        if had_effect {
            self.done.push((self.now, action.word(), job));
        }
        had_effect
    }

    fn effect(&mut self, action: &Action) -> bool {
        match action {
            Action::EnsureNetwork { environment, subnet } => self.make_bridge(*environment, *subnet),
            Action::RemoveNetwork { environment } => {
                let is_used = self.processes.values().any(|one| one.environment == *environment);
                assert!(!is_used, "a bridge went while jobs use it");
                if self.engine_is_up {
                    self.bridges.own.remove(environment);
                }
                self.engine_is_up && self.seen.networks.remove(environment)
            }
            Action::Pull { image, .. } => {
                let is_held = self.images.contains_key(image.pinned());
                let is_there = is_held || self.registry_is_up && image.pinned() != Behaviour::NoImage.image();
                if self.engine_is_up && is_there && !is_held {
                    self.images.insert(image.pinned().into(), None);
                    let brought = Brought {
                        id: id_of(image.pinned()),
                        name: image.pinned().into(),
                        at: Tick(self.now),
                        order: 0,
                        unneeded_since: None,
                    };
                    self.seen.brought.insert(image.pinned().into(), brought);
                }
                let outcome = match is_there {
                    true => Image::Present,
                    false => Image::Failed { said: "manifest unknown".into(), at: Tick(self.now) },
                };
                self.engine_is_up && self.seen.images.insert(image.pinned().into(), outcome.clone()) != Some(outcome)
            }
            Action::RemoveImage { pinned, .. } => {
                let is_used = self.processes.values().any(|one| one.behaviour.image() == *pinned);
                assert!(!is_used, "the image {pinned} goes while a container is made of it");
                assert_eq!(self.images.get(pinned), Some(&None), "somebody else calls {pinned} otherwise");
                self.seen.brought.remove(pinned);
                self.seen.images.remove(pinned);
                self.seen.freed = true;
                self.engine_is_up && self.images.remove(pinned).is_some()
            }
            Action::Run { attempt, slot, address, run, .. } => self.run(*attempt, slot, *address, run),
            Action::Watch { attempt, checks, was_good, .. } => {
                self.seen.checks.insert(*attempt, vec![Reading::unasked(*was_good); checks.len()]).is_none()
            }
            Action::Unwatch { attempt } => self.seen.checks.remove(attempt).is_some(),
            Action::Terminate { attempt } => self.terminate(*attempt),
            Action::Kill { attempt } => self.kill(*attempt),
            Action::Remove { attempt } => {
                let is_up = self.processes.get(attempt).is_some_and(|one| one.exit.is_none());
                assert!(!is_up, "a running container was removed");
                self.engine_is_up
                    && (self.processes.remove(attempt).is_some() || self.refused.remove(attempt).is_some())
            }
            Action::PublishTable => self.publish(),
        }
    }

    fn run(&mut self, attempt: Attempt, slot: &SlotId, address: core::net::Ipv4Addr, run: &RunSpec) -> bool {
        if !self.engine_is_up {
            return false;
        }
        let behaviour = BEHAVIOURS.into_iter().find(|one| one.image() == run.image.pinned()).expect("a known image");
        if behaviour == Behaviour::Refused {
            return self.refused.insert(attempt, self.now).is_none();
        }
        assert!(self.images.contains_key(run.image.pinned()), "the image of job {} was removed", attempt.job);
        let up = self.processes.iter().filter(|(_, one)| one.exit.is_none());
        for (other, process) in up {
            assert_ne!(other.job, attempt.job, "two containers of one job at once");
            assert_ne!(process.address, address, "one address twice");
            // The first attempt of one that is to be alone has nobody beside it, a later one nobody of its kind: what came
            // beside it since by another strategy stays.
            let may_be_beside = attempt.number > 1 && process.strategy != Strategy::Recreate;
            let is_beside = process.slot == *slot && run.spec.deploy.strategy == Strategy::Recreate && !may_be_beside;
            assert!(!is_beside, "{attempt:?} starts beside {other:?} in {slot}, which is to be alone");
        }
        let routed_elsewhere = self.proxies.iter().any(|proxy| proxy.routed.contains(&attempt.job));
        let fresh = self.processes.iter().all(|(other, _)| other.job != attempt.job);
        assert!(fresh || !routed_elsewhere, "a new attempt gets the requests of the last one");
        let stands = self.bridges.own.get(&run.environment).expect("no container without its bridge");
        assert!(stands.contains(address), "{address} is not in {stands:?}");
        self.begin(attempt, slot, address, run, behaviour)
    }

    /// What an agent that is gone had asked the engine for takes effect: the job's first container runs.
    pub fn comes_up(&mut self, one: &Assignment) {
        let attempt = Attempt { job: one.job, number: 1 };
        self.begin(attempt, &one.slot, core::net::Ipv4Addr::new(10, 201, 99, 2), &one.run, Behaviour::Stubborn);
    }

    fn begin(
        &mut self,
        attempt: Attempt,
        slot: &SlotId,
        address: core::net::Ipv4Addr,
        run: &RunSpec,
        behaviour: Behaviour,
    ) -> bool {
        let process = Process {
            behaviour,
            slot: slot.clone(),
            strategy: run.spec.deploy.strategy,
            address,
            environment: run.environment,
            started: self.now,
            exit: None,
            terminated: None,
            sick: behaviour == Behaviour::Sick,
            overlap: run.spec.deploy.overlap.0,
            stops_when_cut_off: run.when_cut_off() == WhenCutOff::Stop,
            stop_grace: run.spec.deploy.stop_grace.0,
        };
        self.processes.insert(attempt, process).is_none()
    }

    /// An engine makes no bridge that overlaps another one.
    fn make_bridge(&mut self, environment: EnvironmentId, subnet: Subnet) -> bool {
        if !self.engine_is_up {
            return false;
        }
        let own = self.bridges.own.iter().filter(|(other, _)| **other != environment).map(|(_, subnet)| subnet);
        if own.chain(&self.bridges.others).any(|other| other.overlaps(subnet)) {
            return false;
        }
        let stands = *self.bridges.own.entry(environment).or_insert(subnet);
        stands == subnet && self.seen.networks.insert(environment)
    }

    /// The promises about a stop: no proxy sends the job anything, and the overlap since the switch is over.
    fn terminate(&mut self, attempt: Attempt) -> bool {
        let Some(process) = self.processes.get_mut(&attempt).filter(|_| self.engine_is_up) else { return false };
        let stops_when_cut_off = process.stops_when_cut_off;
        let first = process.terminated.is_none();
        process.terminated.get_or_insert(self.now);
        let overlap = process.overlap;
        if process.behaviour != Behaviour::Stubborn && process.exit.is_none() {
            process.exit = Some((0, false));
        }
        let is_ending = self.ledger.jobs.get(&attempt.job).is_some_and(|job| job.drain_until.is_some());
        if first && is_ending {
            let still_routed = self.proxies.iter().find(|proxy| proxy.routed.contains(&attempt.job));
            assert!(still_routed.is_none(), "{} stopped while {still_routed:?} sends to it", attempt.job);
        }
        let replacement = self.ledger.replacements.values().find(|one| one.old == Some(attempt.job));
        if let Some(one) = replacement
            .filter(|one| first && is_ending && !stops_when_cut_off && one.new.is_some() && !one.phase.is_final())
        {
            match one.manner {
                Manner::Beside => {
                    let switched = self.switched.get(&attempt.job).copied().expect("no stop before the switch");
                    assert!(
                        self.now >= switched + overlap,
                        "stopped {} ms after the switch: {one:?}",
                        self.now - switched
                    );
                }
                Manner::Instead => assert_eq!(one.phase, ReplacementPhase::Emptying),
            }
        }
        if let Some(Container::Running { terminated, .. }) = self.seen.containers.get_mut(&attempt) {
            *terminated = true;
            self.seen.terminated_at.entry(attempt).or_insert(Tick(self.now));
        }
        first
    }

    fn kill(&mut self, attempt: Attempt) -> bool {
        let Some(process) = self.processes.get_mut(&attempt).filter(|_| self.engine_is_up) else { return false };
        let terminated = process.terminated.expect("no kill without a stop signal");
        assert!(self.now >= terminated + process.stop_grace, "killed before its grace was over");
        process.exit.replace((137, false)).is_none()
    }

    fn publish(&mut self) -> bool {
        let generation = self.ledger.table.generation;
        let mut had_effect = std::mem::replace(&mut self.seen.table_written, generation) != generation;
        let routed = named(&self.ledger.table.routes);
        self.file = Some(self.ledger.table.clone());
        for proxy in self.proxies.iter_mut().filter(|proxy| !proxy.stuck && proxy.acknowledged < generation) {
            (proxy.acknowledged, proxy.routed) = (generation, routed.clone());
            had_effect = true;
        }
        had_effect
    }

    /// What the processes do by themselves, and what the checks read.
    fn live(&mut self) {
        for (attempt, process) in &mut self.processes {
            if process.exit.is_none() && self.now >= process.started + 100 {
                process.exit = match process.behaviour {
                    Behaviour::Exits => Some((3, false)),
                    Behaviour::EatsMemory => Some((137, true)),
                    Behaviour::Good
                    | Behaviour::NoImage
                    | Behaviour::Refused
                    | Behaviour::Sick
                    | Behaviour::Stubborn => None,
                };
            }
            let Some(job) = self.ledger.jobs.get(&attempt.job) else { continue };
            let checks = checks_of(&job.assignment.run.spec);
            for (reading, check) in self.seen.checks.get_mut(attempt).into_iter().flatten().zip(&checks) {
                let answer = match process.sick || process.exit.is_some() {
                    true => Answer::Bad("503 no".into()),
                    false => Answer::Good,
                };
                reading.take(check, answer, Tick(process.started), Tick(self.now));
            }
        }
        for proxy in &mut self.proxies {
            proxy.open.retain(|job, open| {
                *open > 0 && self.processes.iter().any(|(one, process)| one.job == *job && process.exit.is_none())
            });
        }
    }

    /// What the agent sees now.
    fn look(&mut self) {
        self.seen.engine_answers = self.engine_is_up;
        self.seen.proxies = self
            .proxies
            .iter()
            .map(|proxy| Proxy {
                pid: proxy.pid,
                acknowledged: proxy.acknowledged,
                leaving: proxy
                    .open
                    .iter()
                    .filter(|(job, _)| !proxy.routed.contains(job))
                    .map(|(job, n)| (*job, *n))
                    .collect(),
            })
            .collect();
        if !self.engine_is_up {
            return;
        }
        self.seen.bridges = Some(self.bridges.clone());
        let listed = self.images.iter().map(|(pinned, other)| {
            let in_use = self.processes.values().any(|one| one.behaviour.image() == *pinned);
            let names = other.iter().chain([pinned]).cloned().collect();
            (id_of(pinned), HeldImage { names, in_use })
        });
        let listing = Listing { asked: Tick(self.now), images: listed.collect() };
        self.seen.take_listing(listing);
        let was = std::mem::take(&mut self.seen.containers);
        self.seen.unclear.clear();
        self.seen.addresses = self.processes.iter().map(|(attempt, one)| (*attempt, one.address)).collect();
        let labelled = self.processes.iter().filter(|(attempt, _)| !self.unlabelled.contains(&attempt.job));
        self.seen.slots = labelled.map(|(attempt, one)| (*attempt, one.slot.clone())).collect();
        for (attempt, process) in &self.processes {
            if self.mute.contains(&attempt.job) {
                self.seen.unclear.insert(*attempt, "no answer to inspect within 10 s".into());
                self.seen.containers.extend(was.get_key_value(attempt).map(|(attempt, last)| (*attempt, last.clone())));
                continue;
            }
            let terminated = matches!(was.get(attempt), Some(Container::Running { terminated: true, .. }));
            let since = match was.get(attempt) {
                Some(Container::Running { since, .. }) => *since,
                Some(_) | None => Tick(self.now),
            };
            let container = match process.exit {
                None => Container::Running { since, terminated, memory_bytes: 1, cpu_milli: 1 },
                Some((code, out_of_memory)) => Container::Exited {
                    code,
                    out_of_memory,
                    ran: Millis(self.now - process.started),
                    last_lines: vec!["bye".into()],
                },
            };
            self.seen.containers.insert(*attempt, container);
        }
        for (attempt, at) in &self.refused {
            let said = "no such command".to_string();
            self.seen.containers.insert(*attempt, Container::Refused { said, at: Tick(*at) });
        }
    }

    /// The agent dies and starts again: only the ledger, as it is on disk, is left.
    pub fn crash_agent(&mut self) {
        let text = serde_json::to_string(&self.ledger).expect("the ledger is written");
        let read: Ledger = serde_json::from_str(&text).expect("the ledger is read");
        assert_eq!(read, self.ledger);
        self.forget_seen();
    }

    fn forget_seen(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.seen.capacity = seen.capacity;
        self.seen.disks = seen.disks;
        self.seen.networks = seen.networks;
        self.seen.table_written = seen.table_written;
        self.seen.agent_started = Tick(self.now);
        self.seen.lease_ends = seen.lease_ends.map(|_| Tick(u64::MAX));
    }

    /// The agent dies and its ledger is lost. As its rim does, it goes on from the table in the proxies' file.
    pub fn lose_ledger(&mut self) {
        self.ledger = Ledger::new(ClusterId(1), NodeId(1), BootId(self.boot), &self.config);
        if let Some(table) = &self.file {
            self.ledger.table = table.clone();
        }
        self.switched.clear();
        self.forget_seen();
    }

    /// The machine starts anew: no process survives, the clock starts over.
    pub fn reboot(&mut self) {
        self.boot += 1;
        self.now = 500;
        for process in self.processes.values_mut() {
            process.exit.get_or_insert((255, false));
            process.started = 0;
        }
        for at in self.refused.values_mut() {
            *at = 0;
        }
        for proxy in &mut self.proxies {
            *proxy = ProxyProcess { pid: proxy.pid + 1_000, ..ProxyProcess::default() };
        }
        self.switched.clear();
        self.crash_agent();
        self.seen.agent_started = Tick(self.now);
    }

    pub fn replacement(&self, slot: &SlotId) -> &Replacement {
        self.ledger.replacements.get(slot).expect("a replacement")
    }
    pub fn phase(&self, slot: &SlotId) -> Option<ReplacementPhase> {
        self.ledger.replacements.get(slot).map(|one| one.phase)
    }
    pub fn job(&self, job: u128) -> &Job {
        self.ledger.jobs.get(&JobId(job)).expect("a job")
    }
    pub fn is_up(&self, job: u128) -> bool {
        self.processes.iter().any(|(attempt, one)| attempt.job == JobId(job) && one.exit.is_none())
    }
    pub fn process(&mut self, job: u128) -> &mut Process {
        let of_job = |(attempt, one): &(&Attempt, &mut Process)| attempt.job == JobId(job) && one.exit.is_none();
        self.processes.iter_mut().find(of_job).expect("a running process").1
    }
    /// Which jobs get new requests from the first proxy.
    pub fn routed(&self) -> Vec<u128> {
        self.proxies[0].routed.iter().map(|job| job.0).collect()
    }
    pub fn why(&self, slot: &SlotId) -> String {
        let waits = &self.last_plan.as_ref().expect("a plan").waits;
        waits.iter().find(|(other, _)| other == slot).map(|(_, why)| why.to_string()).unwrap_or_default()
    }
    /// When this was done to the job, in milliseconds.
    pub fn when(&self, word: &str, job: u128) -> Option<u64> {
        self.done.iter().find(|(_, w, id)| *w == word && *id == Some(JobId(job))).map(|(at, ..)| *at)
    }
    pub fn count(&self, word: &str, job: u128) -> usize {
        self.done.iter().filter(|(_, w, id)| *w == word && *id == Some(JobId(job))).count()
    }
}
