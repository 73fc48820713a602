//! What breaks, and when it works again.

use crate::event::{Event, MachineNumber};
use crate::machine::Machine;
use crate::proxy::Proxy;
use crate::runtime::{Cause, State, Vessel};
use crate::world::World;
use lapstrake_core::cluster::state::Node;
use lapstrake_core::ids::BootId;
use lapstrake_core::liveness::{AWAY_AFTER, LOST_AFTER};
use lapstrake_core::node::seen::Attempt;
use std::collections::BTreeSet;

/// At which point a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dies {
    /// Before the next write to its disk.
    BeforeWrite,
    /// After the next write, before anything follows from it.
    AfterWrite,
    /// After the next action has begun.
    BetweenActions,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The controller's process dies now.
    ControllerCrash,
    /// It dies at its next commit.
    ControllerDies(Dies),
    /// Its process does nothing for a while: its machine is suspended, or its disk hangs.
    ControllerAway,
    /// The controller's disk is full.
    StoreFull,
    /// An agent's process dies now.
    AgentCrash(MachineNumber),
    /// It dies at its next write or action.
    AgentDies(MachineNumber, Dies),
    /// An agent's disk is full.
    LedgerFull(MachineNumber),
    /// An agent dies, and its ledger is not readable.
    LedgerLost(MachineNumber),
    /// A machine is started anew.
    Reboot(MachineNumber),
    /// A container engine answers nobody.
    EngineSilent(MachineNumber),
    /// The registry gives nothing.
    RegistryDown,
    /// Somebody removes all images that no container uses.
    ImagesPruned(MachineNumber),
    /// A process ends by itself.
    ContainerExits(MachineNumber),
    /// A process answers its checks badly.
    ContainerSick(MachineNumber),
    /// Somebody removes a container by hand.
    ContainerRemoved(MachineNumber),
    /// Somebody starts a container again that has ended.
    ContainerStartedByHand(MachineNumber),
    /// A proxy dies.
    ProxyDeath(MachineNumber),
    /// Another proxy starts.
    ProxyBirth(MachineNumber),
    /// A proxy takes no table for a while.
    ProxyStuck(MachineNumber),
    /// Nothing gets through: from the controller, to the controller, or both.
    Partition(MachineNumber, bool, bool),
    /// A stream ends in the middle.
    StreamCut(MachineNumber),
    /// A wall clock jumps.
    WallStep(MachineNumber),
    /// A machine that was removed joins again.
    JoinsAgain(MachineNumber),
}

/// Each world has at least one of these.
pub const CRASHES: [&str; 9] = [
    "controller crash",
    "controller crash before commit",
    "controller crash after commit",
    "agent crash",
    "agent crash before ledger write",
    "agent crash after ledger write",
    "agent crash between actions",
    "ledger lost",
    "machine reboot",
];

impl Fault {
    /// How long it lasts, if it does not end by itself: at least and at most.
    const fn lasts(self) -> Option<(u64, u64)> {
        match self {
            Fault::StoreFull => Some((300, 4_000)),
            Fault::LedgerFull(_) => Some((500, 8_000)),
            Fault::EngineSilent(_) => Some((500, 15_000)),
            Fault::RegistryDown => Some((1_000, 10_000)),
            Fault::Partition(..) => Some((1_000, 25_000)),
            _ => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Fault::ControllerCrash => "controller crash",
            Fault::ControllerDies(_) | Fault::AgentDies(..) => "",
            Fault::ControllerAway => "controller away",
            Fault::StoreFull => "store full",
            Fault::AgentCrash(_) => "agent crash",
            Fault::LedgerFull(_) => "ledger disk full",
            Fault::LedgerLost(_) => "ledger lost",
            Fault::Reboot(_) => "machine reboot",
            Fault::EngineSilent(_) => "engine silence",
            Fault::RegistryDown => "registry down",
            Fault::ImagesPruned(_) => "images pruned",
            Fault::ContainerExits(_) => "container exits",
            Fault::ContainerSick(_) => "container sick",
            Fault::ContainerRemoved(_) => "container removed",
            Fault::ContainerStartedByHand(_) => "container started by hand",
            Fault::ProxyDeath(_) => "proxy death",
            Fault::ProxyBirth(_) => "proxy birth",
            Fault::ProxyStuck(_) => "proxy stuck",
            Fault::Partition(_, true, true) => "partition",
            Fault::Partition(..) => "partition one way",
            Fault::StreamCut(_) => "stream cut",
            Fault::WallStep(_) => "wall clock step",
            Fault::JoinsAgain(_) => "machine joins again",
        }
    }
}

impl World {
    /// What breaks in this world: at least one crash and one partition, and a dozen other things.
    pub fn plan_faults(&mut self, from: u64, until: u64) {
        let machine = self.some_machine();
        let crashes = [Fault::ControllerCrash, Fault::AgentCrash(machine), Fault::AgentDies(machine, Dies::AfterWrite)];
        let crash = self.rng.pick(&crashes);
        let mut faults = vec![crash, Fault::Partition(machine, true, true)];
        for _ in 0..self.rng.between(6, 22) {
            faults.push(self.some_fault());
        }
        for fault in faults {
            let at = self.rng.between(from, until);
            self.queue.push(at, Event::Breaks(fault));
        }
    }

    fn some_machine(&mut self) -> MachineNumber {
        self.rng.below(self.machines.len() as u64) as usize
    }

    fn some_fault(&mut self) -> Fault {
        let machine = self.some_machine();
        let died = self.rng.pick(&[Dies::BeforeWrite, Dies::AfterWrite, Dies::BetweenActions]);
        let written = self.rng.pick(&[Dies::BeforeWrite, Dies::AfterWrite]);
        let way = self.rng.pick(&[(true, true), (true, true), (true, false), (false, true)]);
        self.rng.pick(&[
            Fault::ControllerCrash,
            Fault::ControllerDies(written),
            Fault::ControllerAway,
            Fault::StoreFull,
            Fault::AgentCrash(machine),
            Fault::AgentDies(machine, died),
            Fault::AgentDies(machine, died),
            Fault::LedgerFull(machine),
            Fault::LedgerLost(machine),
            Fault::Reboot(machine),
            Fault::EngineSilent(machine),
            Fault::RegistryDown,
            Fault::ImagesPruned(machine),
            Fault::ContainerExits(machine),
            Fault::ContainerSick(machine),
            Fault::ContainerRemoved(machine),
            Fault::ContainerStartedByHand(machine),
            Fault::ProxyDeath(machine),
            Fault::ProxyBirth(machine),
            Fault::ProxyStuck(machine),
            Fault::Partition(machine, way.0, way.1),
            Fault::Partition(machine, way.0, way.1),
            Fault::StreamCut(machine),
            Fault::WallStep(machine),
            Fault::JoinsAgain(machine),
        ])
    }

    /// Something breaks.
    pub fn breaks(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.trace.line(self.at, format_args!("breaks: {fault:?}"));
        if self.strike(fault) {
            self.coverage.count("fault", fault.word());
        }
        if let Some((first, last)) = fault.lasts() {
            let after = self.rng.between(first, last);
            self.queue.push(self.at + after, Event::Heals(fault));
        }
    }

    /// Whether it hit anything now; a death at a later point is counted there.
    fn strike(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::ControllerCrash => {
                let was_up = self.controller.is_some();
                self.controller_dies();
                return was_up;
            }
            Fault::ControllerDies(dies) => {
                self.controller_death = Some(dies);
                return false;
            }
            Fault::AgentDies(machine, dies) => {
                self.machines[machine].dies = Some(dies);
                return false;
            }
            Fault::AgentCrash(machine) => {
                let was_up = self.machines[machine].agent.is_some();
                self.agent_crashes(machine);
                return was_up;
            }
            Fault::ContainerExits(_) | Fault::ContainerSick(_) | Fault::ContainerRemoved(_) => return self.hurt(fault),
            Fault::ContainerStartedByHand(machine) => return self.start_by_hand(machine),
            Fault::ProxyDeath(machine) => return self.proxy_dies(machine),
            Fault::ProxyBirth(machine) => return self.proxy_is_born(machine),
            Fault::ProxyStuck(machine) => return self.proxy_sticks(machine),
            Fault::StreamCut(machine) => {
                let streams = self.streams_of(machine);
                streams.iter().for_each(|stream| self.cut_stream(*stream));
                return !streams.is_empty();
            }
            Fault::JoinsAgain(machine) => return self.joins_again(machine),
            Fault::ImagesPruned(machine) => return self.prune(machine),
            Fault::ControllerAway => {
                let until = self.at + self.rng.between(1_000, 30_000);
                self.controller_goes_away(until);
                return self.controller.is_some();
            }
            Fault::StoreFull => self.store.full = true,
            Fault::LedgerFull(machine) => self.machines[machine].disk.full = true,
            Fault::LedgerLost(machine) => self.lose_ledger(machine),
            Fault::Reboot(machine) => self.reboot(machine),
            Fault::EngineSilent(machine) => {
                self.machines[machine].engine.silent = true;
                self.engine_changes(machine);
            }
            Fault::RegistryDown => self.registry_down = true,
            Fault::Partition(machine, down, up) => self.machines[machine].cut = (down, up),
            Fault::WallStep(machine) => {
                let step = self.rng.below(7_200_000);
                let wall = &mut self.machines[machine].clock.wall;
                *wall = *wall + step - 3_600_000;
                self.controller_clock.wall = self.controller_clock.wall + step / 10 - 360_000;
            }
        }
        true
    }

    fn controller_goes_away(&mut self, until: u64) {
        let is_here = self.controller_away_until <= self.at;
        self.controller_away_until = self.controller_away_until.max(until);
        if until - self.at < AWAY_AFTER.0 {
            return;
        }
        if is_here {
            let since = |node| self.heard.get(&node).copied().unwrap_or(0).max(self.listens_since);
            let nodes = self.committed.all::<Node>().map(|node| node.id);
            self.lost_before = nodes.filter(|node| since(*node) + LOST_AFTER.0 <= self.at).collect();
        }
        self.listens_since = self.controller_away_until;
    }

    fn lose_ledger(&mut self, machine: MachineNumber) {
        self.agent_crashes(machine);
        self.machines[machine].disk.ledger = Some("{\"format\":".into());
        // That a container was told to stop stood in the ledger and nowhere else: it may be adopted.
        for one in self.machines[machine].engine.containers.values_mut() {
            one.ended_in_health = false;
        }
    }

    /// Those that are bound to their machine are left: nobody could bring them back.
    fn prune(&mut self, machine: MachineNumber) -> bool {
        let engine = &mut self.machines[machine].engine;
        let before = engine.images.len();
        let used: BTreeSet<&str> = engine.containers.values().map(|one| one.run.image.pinned()).collect();
        engine.images.retain(|pinned| pinned.starts_with("sha256:") || used.contains(pinned.as_str()));
        engine.images.len() < before
    }

    /// The newest container that has ended and whose address is free.
    fn start_by_hand(&mut self, number: MachineNumber) -> bool {
        let at = self.at;
        let life = self.number();
        let engine = &mut self.machines[number].engine;
        let used: BTreeSet<_> = engine.containers.values().filter(|one| one.runs()).map(|one| one.address).collect();
        let has_ended = |one: &Vessel| matches!(one.state, State::Exited { .. }) && !used.contains(&one.address);
        let Some((attempt, one)) = engine.containers.iter_mut().rfind(|(_, one)| has_ended(one)) else { return false };
        let attempt = *attempt;
        one.state = State::Running;
        (one.life, one.started, one.listens, one.terminated) = (life, at, at + 50, None);
        (one.by_hand, one.ended_in_health) = (true, false);
        self.trace.line(at, format_args!("node-{number}: {attempt:?} is started by hand"));
        self.hint(number, attempt);
        true
    }

    fn proxy_sticks(&mut self, machine: MachineNumber) -> bool {
        let until = self.at + self.rng.between(200, 6_000);
        let mut proxies = self.machines[machine].proxies.values_mut();
        proxies.next().map(|proxy| proxy.stuck_until = until).is_some()
    }

    /// A death that no loop has planned.
    pub fn agent_crashes(&mut self, machine: MachineNumber) {
        let healthy = self.machines[machine].engine.containers.values().any(|one| one.answers(self.at));
        if healthy && self.machines[machine].agent.is_some() {
            self.coverage.count("promise", "10 a healthy container outlived its agent");
        }
        self.agent_dies(machine);
    }

    /// Something works again.
    pub fn heals(&mut self, fault: Fault) {
        self.trace.line(self.at, format_args!("heals: {fault:?}"));
        match fault {
            Fault::StoreFull => self.store.full = false,
            Fault::LedgerFull(machine) => self.machines[machine].disk.full = false,
            Fault::RegistryDown => self.registry_down = false,
            Fault::EngineSilent(machine) => {
                self.machines[machine].engine.silent = false;
                self.engine_changes(machine);
            }
            Fault::Partition(machine, ..) => {
                self.machines[machine].cut = (false, false);
                self.flush_streams(machine);
            }
            _ => {}
        }
    }

    /// Nothing breaks any more, and what was broken is mended. What is sick by its image's nature stays so.
    pub fn calms(&mut self) {
        if !CRASHES.iter().any(|crash| self.coverage.of("fault", crash) > 0) {
            self.breaks(Fault::ControllerCrash);
        }
        self.calm = true;
        self.trace.line(self.at, format_args!("nothing breaks any more"));
        self.controller_death = None;
        if self.controller_away_until > self.at {
            // It may have been away too short to notice.
            (self.controller_away_until, self.listens_since) = (self.at, 0);
        }
        self.heals(Fault::StoreFull);
        self.heals(Fault::RegistryDown);
        for machine in 0..self.machines.len() {
            self.heals(Fault::LedgerFull(machine));
            self.heals(Fault::EngineSilent(machine));
            self.heals(Fault::Partition(machine, true, true));
            self.machines[machine].dies = None;
            self.joins_again(machine);
            for proxy in self.machines[machine].proxies.values_mut() {
                proxy.stuck_until = 0;
            }
        }
        self.queue.push(self.at + 15_000, Event::Settled);
    }

    /// A machine whose node was removed becomes another node.
    pub fn joins_again(&mut self, number: MachineNumber) -> bool {
        let Some(node) = self.machines[number].node else { return false };
        if self.committed.get::<Node>(&node).is_some() {
            return false;
        }
        self.agent_crashes(number);
        self.machines[number].node = None;
        self.let_join(number);
        true
    }

    fn reboot(&mut self, number: MachineNumber) {
        self.agent_dies(number);
        let at = self.at;
        let down = self.rng.between(500, 6_000);
        let boot = BootId(self.rng.id());
        let machine: &mut Machine = &mut self.machines[number];
        let births = machine.proxies.len();
        machine.proxies.clear();
        machine.boot = boot;
        (machine.clock.booted, machine.clock.offset) = (at, 500);
        for one in machine.engine.containers.values_mut().filter(|one| one.runs()) {
            one.state = State::Exited { code: 255, out_of_memory: false, cause: Cause::Machine, at };
        }
        self.forget_ticks(number);
        for birth in 0..births as u64 {
            self.queue.push(at + down + birth, Event::Breaks(Fault::ProxyBirth(number)));
        }
    }

    fn hurt(&mut self, fault: Fault) -> bool {
        let (Fault::ContainerExits(number) | Fault::ContainerSick(number) | Fault::ContainerRemoved(number)) = fault
        else {
            return false;
        };
        let at = self.at;
        let running = self.machines[number].engine.containers.iter().filter(|(_, one)| one.runs());
        let running: Vec<(Attempt, u64)> = running.map(|(attempt, one)| (*attempt, one.life)).collect();
        if running.is_empty() {
            return false;
        }
        let (attempt, life) = running[self.rng.below(running.len() as u64) as usize];
        let spell = self.rng.between(500, 20_000);
        match fault {
            Fault::ContainerExits(_) => self.exits(number, attempt, life, (1, false), Cause::Itself),
            Fault::ContainerSick(_) => {
                if let Some(one) = self.machines[number].engine.containers.get_mut(&attempt) {
                    one.sick = Some((at, at + spell));
                }
            }
            _ => {
                self.exits(number, attempt, life, (137, false), Cause::Itself);
                self.machines[number].engine.containers.remove(&attempt);
                self.once.removed.insert(attempt.job);
                self.hint(number, attempt);
            }
        }
        true
    }

    fn proxy_dies(&mut self, number: MachineNumber) -> bool {
        let delay = self.rng.between(1, 120);
        let machine = &mut self.machines[number];
        let Some(pid) = machine.proxies.keys().next().copied() else { return false };
        machine.proxies.remove(&pid);
        if let Some(agent) = &machine.agent {
            self.queue.push(self.at + delay, Event::ProxyGone(agent.home, pid));
        }
        self.note_routes(number);
        let birth = self.rng.between(50, 4_000);
        self.queue.push(self.at + birth, Event::Breaks(Fault::ProxyBirth(number)));
        true
    }

    /// A new proxy listens for the agent at once, and serves when it has read the table file.
    pub fn proxy_is_born(&mut self, number: MachineNumber) -> bool {
        let delay = self.rng.between(1, 300);
        let machine = &mut self.machines[number];
        if machine.proxies.len() >= 2 {
            return false;
        }
        let pid = machine.next_pid;
        machine.next_pid += 1;
        machine.proxies.insert(pid, Proxy::default());
        let ledger = machine.agent.as_ref().map(|agent| &agent.ledger);
        if ledger.is_some_and(|ledger| ledger.replacements.values().any(|one| !one.phase.is_final())) {
            self.coverage.count("promise", "2 a proxy was born during a replacement");
        }
        self.queue.push(self.at + delay, Event::ProxyReads { machine: number, pid });
        true
    }

    /// It has read the table file, and serves.
    pub fn proxy_reads(&mut self, number: MachineNumber, pid: u32) {
        let machine = &mut self.machines[number];
        let table = machine.disk.table.clone();
        let Some(proxy) = machine.proxies.get_mut(&pid) else { return };
        if let Some(table) = table {
            proxy.obey(table);
        }
        proxy.serves = true;
        self.note_routes(number);
    }
}
