//! What an agent sees: the engine's hints and lists, the checks, the proxies.

use crate::event::{Event, Home, MachineNumber, Returned};
use crate::runtime::{Cause, State};
use crate::world::World;
use lapstrake_core::ids::JobId;
use lapstrake_core::node::seen::{Attempt, Container, Proxy};
use lapstrake_core::probe::{Answer, checks_of};
use lapstrake_core::routes::RouteTable;
use lapstrake_core::time::{Millis, Tick};

/// Between two full lists.
const LIST_PERIOD: u64 = 10_000;
/// After the engine failed.
const PAUSE: u64 = 1_000;
/// Between two looks for new proxies.
const SCAN: u64 = 1_000;

impl World {
    /// The engine tells the agent, if it tells anybody; sometimes it is lost on the way.
    pub fn hint(&mut self, number: MachineNumber, attempt: Attempt) {
        let lost = !self.calm && self.rng.percent(5);
        let delay = self.rng.between(1, 40);
        let machine = &self.machines[number];
        if let Some(agent) = machine.agent.as_ref().filter(|_| !lost && !machine.engine.silent) {
            self.queue.push(self.at + delay, Event::Hint(agent.home, attempt));
        }
    }

    /// A closer look at one container, which is answered at once.
    pub fn look_at(&mut self, home: Home, attempt: Attempt) {
        let tick = self.machines[home.machine].clock.tick(self.at);
        let machine = &mut self.machines[home.machine];
        let Some(agent) = machine.agent.as_mut().filter(|agent| agent.home == home) else { return };
        if machine.engine.silent {
            return;
        }
        let found = machine.engine.containers.get(&attempt).map(|one| match one.state {
            State::Created => Container::Created,
            State::Running => Container::Running { since: tick, terminated: false, memory_bytes: 0, cpu_milli: 0 },
            State::Exited { code, out_of_memory, at, .. } => {
                let ran = Millis(at.saturating_sub(one.started));
                Container::Exited { code, out_of_memory, ran, last_lines: vec!["bye".into()] }
            }
        });
        let before = agent.seen.containers.get(&attempt);
        let changed = match (before, found) {
            (Some(Container::Refused { .. }), None | Some(Container::Created)) => false,
            (Some(Container::Running { .. }), Some(Container::Running { .. })) => false,
            (before, Some(found)) if before == Some(&found) => false,
            (_, Some(found)) => {
                agent.seen.containers.insert(attempt, found);
                true
            }
            (_, None) => {
                agent.seen.addresses.remove(&attempt);
                agent.seen.slots.remove(&attempt);
                agent.seen.terminated_at.remove(&attempt);
                agent.seen.containers.remove(&attempt).is_some()
            }
        };
        if changed {
            self.wake(home);
        }
    }

    /// The list is the truth.
    pub fn list(&mut self, home: Home) {
        let at = self.at;
        let machine = &mut self.machines[home.machine];
        let Some(agent) = machine.agent.as_mut().filter(|agent| agent.home == home && agent.list_at == at) else {
            return;
        };
        let silent = machine.engine.silent;
        agent.list_at = at + if silent { PAUSE } else { LIST_PERIOD };
        self.queue.push(agent.list_at, Event::List(home));
        if silent {
            agent.seen.engine_answers = false;
            agent.seen.engine_trouble = Some("connection refused".into());
            self.wake(home);
            return;
        }
        let mut attempts: Vec<Attempt> = agent.seen.containers.keys().copied().collect();
        attempts.extend(machine.engine.containers.keys());
        let addresses: Vec<_> =
            machine.engine.containers.iter().map(|(attempt, one)| (*attempt, one.address)).collect();
        let slots: Vec<_> =
            machine.engine.containers.iter().map(|(attempt, one)| (*attempt, one.slot.clone())).collect();
        let bridges = machine.engine.bridges(agent.ledger.node);
        agent.seen.networks = bridges.own.keys().copied().collect();
        agent.seen.bridges = Some(bridges);
        agent.seen.listing = Some(machine.engine.list_images(machine.clock.tick(at)));
        for attempt in attempts {
            self.look_at(home, attempt);
        }
        let Some(agent) = self.agent(home) else { return };
        agent.seen.addresses.extend(addresses);
        agent.seen.slots.extend(slots);
        agent.seen.engine_answers = true;
        agent.seen.engine_trouble = None;
        self.wake(home);
    }

    /// The engine was silent, or answers again: the agent's connection to it tells.
    pub fn engine_changes(&mut self, number: MachineNumber) {
        let delay = self.rng.between(1, 1_000);
        let next = self.at + delay;
        if let Some(agent) = self.machines[number].agent.as_mut() {
            agent.list_at = next;
            let home = agent.home;
            self.queue.push(next, Event::List(home));
        }
    }

    /// A check is asked, and asked again.
    pub fn probe(&mut self, home: Home, attempt: Attempt, index: usize) {
        let at = self.at;
        let tick = self.machines[home.machine].clock.tick(at);
        let machine = &mut self.machines[home.machine];
        let answer = match machine.engine.containers.get(&attempt) {
            Some(one) if one.answers(at) => Answer::Good,
            Some(one) if one.runs() && at >= one.listens => Answer::Bad("503 Service Unavailable: no".into()),
            Some(_) | None => Answer::Bad("connection refused".into()),
        };
        let Some(agent) = machine.agent.as_mut().filter(|agent| agent.home == home) else { return };
        let Some(job) = agent.ledger.jobs.get(&attempt.job) else { return };
        let checks = checks_of(&job.assignment.run.spec);
        let started = match agent.seen.containers.get(&attempt) {
            Some(Container::Running { since, .. }) => *since,
            Some(_) | None => Tick(0),
        };
        let Some(reading) = agent.seen.checks.get_mut(&attempt).and_then(|all| all.get_mut(index)) else { return };
        let Some(check) = checks.get(index) else { return };
        let good_since = reading.good_since;
        reading.take(check, answer, started, tick);
        let matters = reading.good_since != good_since || reading.good_since.is_none();
        let delay = reading.delay(check);
        self.queue.push(at + delay.0.max(1), Event::Probe { home, attempt, index });
        if matters {
            self.wake(home);
        }
    }

    /// A process has ended; its connections with it.
    pub fn exits(&mut self, number: MachineNumber, attempt: Attempt, life: u64, end: (i64, bool), cause: Cause) {
        let at = self.at;
        let machine = &mut self.machines[number];
        let Some(one) = machine.engine.containers.get_mut(&attempt) else { return };
        if one.life != life || !one.runs() {
            return;
        }
        one.state = State::Exited { code: end.0, out_of_memory: end.1, cause, at };
        let pids: Vec<u32> = machine.proxies.keys().copied().collect();
        for proxy in machine.proxies.values_mut() {
            proxy.open.retain(|(_, of), _| *of != life);
        }
        self.trace.line(at, format_args!("node-{number}: {attempt:?} ends, {cause:?}"));
        self.hint(number, attempt);
        for pid in pids {
            self.proxy_says(number, pid);
        }
    }

    /// The table is written to the file, then the proxies are listed, then each is told.
    pub fn table_is_written(&mut self, home: Home, table: Option<Box<RouteTable>>) -> Returned {
        let machine = &mut self.machines[home.machine];
        let Some(table) = table else { return Returned::Done };
        if machine.disk.full {
            return Returned::Unreachable;
        }
        let newest = machine.disk.table.as_ref().map_or(0, |held| held.generation);
        if table.generation >= newest {
            machine.disk.table = Some((*table).clone());
        }
        if self.agent(home).is_none() {
            return Returned::Done;
        }
        self.scan(home);
        let Some(agent) = self.agent(home) else { return Returned::Done };
        agent.seen.table_written = table.generation;
        agent.published = Some((*table).clone());
        let pids: Vec<u32> = agent.seen.proxies.iter().map(|proxy| proxy.pid).collect();
        for pid in pids {
            self.send_table(home, pid, table.clone());
        }
        Returned::Done
    }

    fn send_table(&mut self, home: Home, pid: u32, table: Box<RouteTable>) {
        let delay = if self.rng.percent(5) { self.rng.between(50, 1_500) } else { self.rng.between(1, 15) };
        self.queue.push(self.at + delay, Event::ProxyTakes { home, pid, table });
    }

    /// The agent looks into the folder: who is new is in the picture, and is talked to.
    fn scan(&mut self, home: Home) {
        let machine = &mut self.machines[home.machine];
        let Some(agent) = machine.agent.as_mut().filter(|agent| agent.home == home) else { return };
        for pid in machine.proxies.keys() {
            if !agent.seen.proxies.iter().any(|known| known.pid == *pid) {
                agent.seen.proxies.push(Proxy { pid: *pid, acknowledged: 0, leaving: [].into() });
                self.queue.push(self.at + 10, Event::ProxyConnects(home, *pid));
            }
        }
    }

    /// The regular look into the folder.
    pub fn proxy_scan(&mut self, home: Home) {
        if self.agent(home).is_some() {
            self.scan(home);
            self.queue.push(self.at + SCAN, Event::ProxyScan(home));
            self.wake(home);
        }
    }

    /// A conversation with a proxy begins with the newest table.
    pub fn proxy_connects(&mut self, home: Home, pid: u32) {
        let alive = self.machines[home.machine].proxies.contains_key(&pid);
        let Some(agent) = self.agent(home) else { return };
        if !alive {
            return self.proxy_gone(home, pid);
        }
        if let Some(table) = agent.published.clone() {
            self.send_table(home, pid, Box::new(table));
        }
    }

    /// A proxy gets a table, obeys it, and says so; a stuck one later.
    pub fn proxy_takes(&mut self, home: Home, pid: u32, table: Box<RouteTable>) {
        let at = self.at;
        if self.agent(home).is_none() {
            return;
        }
        let Some(proxy) = self.machines[home.machine].proxies.get_mut(&pid) else { return };
        if proxy.stuck_until > at {
            let later = proxy.stuck_until;
            self.queue.push(later, Event::ProxyTakes { home, pid, table });
            return;
        }
        proxy.obey(*table);
        self.note_routes(home.machine);
        self.proxy_says(home.machine, pid);
    }

    /// A proxy reports to the agent that lives; its reports keep their order.
    pub fn proxy_says(&mut self, number: MachineNumber, pid: u32) {
        let delay = self.rng.between(1, 60);
        let machine = &mut self.machines[number];
        let Some(home) = machine.agent.as_ref().map(|agent| agent.home) else { return };
        let Some(proxy) = machine.proxies.get_mut(&pid) else { return };
        proxy.report_at = proxy.report_at.max(self.at + delay);
        let (generation, leaving) = (proxy.generation(), proxy.leaving());
        self.queue.push(proxy.report_at, Event::ProxyReports { home, pid, generation, leaving });
    }

    /// The agent hears a proxy's report.
    pub fn proxy_reports(&mut self, home: Home, pid: u32, generation: u64, leaving: Vec<(JobId, u32)>) {
        let Some(agent) = self.agent(home) else { return };
        let Some(known) = agent.seen.proxies.iter_mut().find(|known| known.pid == pid) else { return };
        known.acknowledged = generation;
        known.leaving = leaving.into_iter().collect();
        self.wake(home);
    }

    /// The agent notices that nobody listens there any more.
    pub fn proxy_gone(&mut self, home: Home, pid: u32) {
        if let Some(agent) = self.agent(home) {
            agent.seen.proxies.retain(|known| known.pid != pid);
            self.wake(home);
        }
    }
}
