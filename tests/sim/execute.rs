//! The agent's rim: actions become calls, calls reach the engine or the proxies, and what came of them is seen later.
//!
//! As in the agent, at most one call is under way for each container, image, network or table, and one that has just ended
//! rests a little. A call that has left a dying agent takes effect all the same.

use crate::event::{Event, Home, Returned};
use crate::faults::Dies;
use crate::images::Behaviour;
use crate::runtime::{Cause, State, Vessel};
use crate::specs::ONCE;
use crate::world::World;
use lapstrake_core::assignment::{BoundImage, RunSpec};
use lapstrake_core::ids::{BootId, EnvironmentId, SlotId};
use lapstrake_core::node::action::Action;
use lapstrake_core::node::images::Brought;
use lapstrake_core::node::seen::{Attempt, Bridges, Container, Image};
use lapstrake_core::probe::Reading;
use lapstrake_core::routes::RouteTable;
use lapstrake_core::time::{Millis, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// An action that took effect is not repeated sooner.
const SETTLE: Millis = Millis(100);
/// After a failure: doubled with each one in a row.
const FIRST_REST: Millis = Millis(500);
/// The longest rest.
const LONGEST_REST: Millis = Millis(30_000);

/// What an action is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Attempt(Attempt),
    Image(String),
    Network(EnvironmentId),
    Table,
}

/// What is under way and what rests.
#[derive(Debug, Default)]
pub struct Desk {
    under_way: BTreeSet<Key>,
    rests: BTreeMap<(Key, &'static str), (Tick, u32)>,
}

impl Desk {
    /// When the first resting action may be done again.
    pub fn next_try(&self, now: Tick) -> Option<Tick> {
        self.rests.values().map(|rest| rest.0).filter(|until| *until > now).min()
    }

    fn take(&mut self, key: &Key, word: &'static str, now: Tick) -> bool {
        if self.rests.get(&(key.clone(), word)).is_some_and(|rest| now < rest.0) {
            return false;
        }
        self.under_way.insert(key.clone())
    }

    fn put_down(&mut self, key: Key, word: &'static str, failed: bool, now: Tick) {
        self.under_way.remove(&key);
        self.rests.retain(|_, rest| now.since(rest.0) < Millis(2 * LONGEST_REST.0));
        if key == Key::Table && !failed {
            self.rests.remove(&(key, word));
            return;
        }
        let before = self.rests.get(&(key.clone(), word)).map_or(0, |rest| rest.1);
        let failures = if failed { before + 1 } else { 0 };
        let span = match failures {
            0 => SETTLE,
            n => Millis((FIRST_REST.0 << (n - 1).min(10)).min(LONGEST_REST.0)),
        };
        self.rests.insert((key, word), (now + span, failures));
    }
}

fn key_of(action: &Action) -> Option<Key> {
    Some(match action {
        Action::Watch { .. } | Action::Unwatch { .. } => return None,
        Action::PublishTable => Key::Table,
        Action::EnsureNetwork { environment, .. } | Action::RemoveNetwork { environment } => Key::Network(*environment),
        Action::Pull { image, .. } => Key::Image(image.pinned().to_owned()),
        Action::RemoveImage { pinned, .. } => Key::Image(pinned.clone()),
        Action::Run { attempt, .. }
        | Action::Terminate { attempt }
        | Action::Kill { attempt }
        | Action::Remove { attempt } => Key::Attempt(*attempt),
    })
}

impl World {
    /// Begins what is not under way already. False when the agent died in between.
    pub fn execute(&mut self, home: Home, actions: Vec<Action>) -> bool {
        for action in actions {
            if !self.begin(home, action) {
                return false;
            }
        }
        true
    }

    fn begin(&mut self, home: Home, action: Action) -> bool {
        let machine = &self.machines[home.machine];
        let (boot, tick) = (machine.boot, machine.clock.tick(self.at));
        let Some(agent) = self.agent(home) else { return false };
        let published = agent.published.as_ref().map_or(0, |table| table.generation);
        let Some(key) = key_of(&action) else {
            self.watch(home, &action);
            return true;
        };
        let table = (key == Key::Table).then(|| Box::new(agent.ledger.table.clone()));
        if table.as_ref().is_some_and(|table| published >= table.generation) {
            return true;
        }
        if !agent.desk.take(&key, action.word(), tick) {
            return true;
        }
        match (&action, &key) {
            (Action::Pull { .. }, Key::Image(pinned)) => drop(agent.seen.images.insert(pinned.clone(), Image::Pulling)),
            (Action::RemoveImage { pinned, id, .. }, _) => drop(agent.seen.forget_image(pinned, id)),
            _ => {}
        }
        if let Action::Run { attempt, .. } = &action {
            agent.seen.starting.insert(*attempt);
        }
        self.coverage.count("action", action.word());
        self.trace.line(self.at, format_args!("node-{}: {} {key:?}", home.machine, action.word()));
        let delay = self.rng.between(1, 30);
        let slow = matches!(key, Key::Image(_)) && self.rng.percent(40);
        let delay = if slow { self.rng.between(100, 4_000) } else { delay };
        self.queue.push(self.at + delay, Event::ActionReaches { home, boot, action: Box::new(action), table });
        if self.machines[home.machine].dies == Some(Dies::BetweenActions) {
            self.coverage.count("fault", "agent crash between actions");
            self.agent_dies(home.machine);
            return false;
        }
        true
    }

    fn watch(&mut self, home: Home, action: &Action) {
        self.coverage.count("action", action.word());
        match action {
            Action::Watch { attempt, checks, was_good, .. } => {
                let Some(agent) = self.agent(home) else { return };
                let readings = vec![Reading::unasked(*was_good); checks.len()];
                let delays: Vec<u64> = checks.iter().zip(&readings).map(|(check, one)| one.delay(check).0).collect();
                agent.seen.checks.insert(*attempt, readings);
                for (index, delay) in delays.into_iter().enumerate() {
                    self.queue.push(self.at + delay, Event::Probe { home, attempt: *attempt, index });
                }
            }
            Action::Unwatch { attempt } => {
                if let Some(agent) = self.agent(home) {
                    agent.seen.checks.remove(attempt);
                }
            }
            _ => {}
        }
        self.wake(home);
    }

    /// A call reaches what it is for, whether its agent still lives or not.
    pub fn action_reaches(&mut self, home: Home, boot: BootId, action: Box<Action>, table: Option<Box<RouteTable>>) {
        if self.machines[home.machine].boot != boot {
            return;
        }
        let silent = self.machines[home.machine].engine.silent;
        let returned = match &*action {
            Action::PublishTable => self.table_is_written(home, table),
            _ if silent => Returned::Unreachable,
            Action::Run { attempt, slot, address, run, .. } => {
                let returned = self.make(home.machine, *attempt, slot, *address, run);
                if returned == Returned::Done && self.agent(home).is_some() {
                    let delay = self.rng.between(5, 120);
                    self.queue.push(self.at + delay, Event::StartReaches { home, boot, action });
                    return;
                }
                returned
            }
            Action::EnsureNetwork { environment, subnet } => {
                let machine = &mut self.machines[home.machine];
                let made = machine.node.is_some_and(|node| machine.engine.make_bridge(node, *environment, *subnet));
                if made { Returned::Done } else { Returned::Refused }
            }
            Action::RemoveNetwork { environment } => self.network_goes(home.machine, *environment),
            Action::Pull { image, .. } => self.pull(home.machine, image.pinned()),
            Action::RemoveImage { name, .. } => self.remove_image(home.machine, name),
            Action::Terminate { attempt } => self.terminate(home.machine, *attempt),
            Action::Kill { attempt } => self.kill(home.machine, *attempt),
            Action::Remove { attempt } => self.remove(home.machine, *attempt),
            Action::Watch { .. } | Action::Unwatch { .. } => Returned::Done,
        };
        let delay =
            if returned == Returned::Unreachable { self.rng.between(50, 2_000) } else { self.rng.between(1, 20) };
        self.queue.push(self.at + delay, Event::ActionReturns { home, action, returned });
    }

    fn make(&mut self, number: usize, attempt: Attempt, slot: &SlotId, address: Ipv4Addr, run: &RunSpec) -> Returned {
        let at = self.at;
        let life = self.number();
        let machine = &mut self.machines[number];
        let engine = &mut machine.engine;
        let pinned = run.image.pinned();
        if engine.containers.contains_key(&attempt) {
            return Returned::Done;
        }
        if !engine.images.contains(pinned) {
            return Returned::NoImage;
        }
        let stands = machine.node.and_then(|node| engine.networks.get(&(node, run.environment)));
        if !stands.is_some_and(|subnet| subnet.contains(address)) {
            return Returned::Refused;
        }
        let behaviour = Behaviour::of(pinned);
        let made = Vessel {
            state: State::Created,
            slot: slot.clone(),
            owner: machine.node,
            address,
            run: run.clone(),
            behaviour,
            life,
            started: at,
            listens: u64::MAX,
            sick: None,
            terminated: None,
            by_hand: false,
            ended_in_health: false,
        };
        engine.containers.insert(attempt, made);
        if behaviour == Behaviour::Refused { Returned::Refused } else { Returned::Done }
    }

    /// The container is started; its process goes its image's way.
    pub fn start_reaches(&mut self, home: Home, boot: BootId, action: Box<Action>) {
        let (at, number) = (self.at, home.machine);
        let Action::Run { attempt, .. } = *action else { return };
        if self.machines[number].boot != boot {
            return;
        }
        let silent = self.machines[number].engine.silent;
        let warm_up = self.rng.between(5, 150);
        let slow = self.rng.between(1_500, 4_000);
        let soon = self.rng.between(20, 900);
        let later = self.rng.between(2_000, 12_000);
        // An engine starts nothing on an address that is in use: here of a container that somebody started by hand.
        let in_use = self.machines[number].engine.address_in_use(attempt);
        let Some(made) = self.machines[number].engine.containers.get_mut(&attempt) else { return };
        if in_use && made.state == State::Created && !silent {
            self.queue.push(at + 5, Event::ActionReturns { home, action, returned: Returned::Refused });
            return;
        }
        let is_first = made.state == State::Created && !silent;
        if is_first {
            made.state = State::Running;
            made.started = at;
            made.listens = at + if made.behaviour == Behaviour::Slow { slow } else { warm_up };
            let life = made.life;
            let end = |code, out_of_memory| Event::Exits {
                machine: number,
                attempt,
                life,
                code,
                out_of_memory,
                cause: Cause::Itself,
            };
            let once = made.run.spec.command.first().is_some_and(|word| word == ONCE);
            match made.run.spec.command.get(1).map(String::as_str).filter(|_| once) {
                Some("ok") => self.queue.push(at + soon, end(0, false)),
                Some("fail") => self.queue.push(at + soon, end(4, false)),
                _ => {}
            }
            match made.behaviour {
                _ if once => {}
                Behaviour::Exits => self.queue.push(at + soon, end(3, false)),
                Behaviour::Hungry => self.queue.push(at + soon, end(137, true)),
                Behaviour::Sours => made.sick = Some((at + later, u64::MAX)),
                _ => {}
            }
            self.judge_start(number, attempt);
            self.hint(number, attempt);
        }
        let returned = if silent { Returned::Unreachable } else { Returned::Done };
        self.queue.push(at + 5, Event::ActionReturns { home, action, returned });
    }

    /// As an engine does: no image goes that a container is made of.
    fn remove_image(&mut self, number: usize, name: &str) -> Returned {
        let engine = &mut self.machines[number].engine;
        if engine.is_used(name) {
            return Returned::Refused;
        }
        engine.images.remove(name);
        Returned::Done
    }

    fn pull(&mut self, number: usize, pinned: &str) -> Returned {
        if self.machines[number].engine.images.contains(pinned) {
            return Returned::Held;
        }
        if self.registry_down {
            return Returned::Refused;
        }
        if Behaviour::of(pinned) == Behaviour::Missing {
            return Returned::Refused;
        }
        self.machines[number].engine.images.insert(pinned.to_owned());
        Returned::Done
    }

    fn bridges(&self, number: usize) -> Option<Bridges> {
        let machine = &self.machines[number];
        machine.node.map(|node| machine.engine.bridges(node))
    }

    fn network_goes(&mut self, number: usize, environment: EnvironmentId) -> Returned {
        let machine = &mut self.machines[number];
        let engine = &mut machine.engine;
        let used = engine.containers.values().any(|one| one.run.environment == environment && one.runs());
        if let Some(node) = machine.node {
            engine.networks.remove(&(node, environment));
        }
        if used {
            self.broken(10, format!("a bridge of node-{number} went while jobs use it"));
        }
        Returned::Done
    }

    fn terminate(&mut self, number: usize, attempt: Attempt) -> Returned {
        let at = self.at;
        let tick = self.machines[number].clock.tick(at);
        self.judge_terminate(number, attempt);
        let slow = self.rng.percent(10);
        let quick = self.rng.between(1, 300);
        let Some(one) = self.machines[number].engine.containers.get_mut(&attempt).filter(|one| one.runs()) else {
            return Returned::Done;
        };
        one.terminated.get_or_insert(tick.0);
        let grace = one.run.spec.deploy.stop_grace.0;
        let after = if slow { grace * 2 } else { quick };
        if one.behaviour != Behaviour::Stubborn {
            let cause = Cause::Told;
            let ends = Event::Exits { machine: number, attempt, life: one.life, code: 0, out_of_memory: false, cause };
            self.queue.push(at + after, ends);
        }
        Returned::Done
    }

    fn kill(&mut self, number: usize, attempt: Attempt) -> Returned {
        self.judge_kill(number, attempt);
        let delay = self.rng.between(1, 20);
        if let Some(one) = self.machines[number].engine.containers.get(&attempt) {
            let cause = Cause::Told;
            let life = one.life;
            let ends = Event::Exits { machine: number, attempt, life, code: 137, out_of_memory: false, cause };
            self.queue.push(self.at + delay, ends);
        }
        Returned::Done
    }

    fn remove(&mut self, number: usize, attempt: Attempt) -> Returned {
        let engine = &mut self.machines[number].engine;
        let running = engine.containers.get(&attempt).is_some_and(Vessel::runs);
        if running && engine.containers.get(&attempt).is_some_and(|one| one.by_hand) {
            return Returned::Refused;
        }
        if running {
            self.broken(10, format!("the running container {attempt:?} of node-{number} was removed"));
        } else {
            engine.containers.remove(&attempt);
        }
        Returned::Done
    }

    /// What the call came back with is seen.
    pub fn action_returns(&mut self, home: Home, action: &Action, returned: Returned) {
        let tick = self.machines[home.machine].clock.tick(self.at);
        let bridges = self.bridges(home.machine);
        let Some(agent) = self.agent(home) else { return };
        let unreachable = returned == Returned::Unreachable;
        let is_bridge = matches!(action, Action::EnsureNetwork { .. } | Action::RemoveNetwork { .. });
        if is_bridge && !unreachable {
            agent.seen.bridges = bridges;
        }
        let mut look = None;
        if let Action::Run { attempt, .. } = action {
            agent.seen.starting.remove(attempt);
        }
        match action {
            Action::EnsureNetwork { environment, .. } if returned == Returned::Done => {
                agent.seen.networks.insert(*environment);
            }
            Action::RemoveNetwork { environment } if !unreachable => {
                agent.seen.networks.remove(environment);
            }
            Action::Pull { image, .. } => {
                let pinned = image.pinned().to_owned();
                let said = || format!("manifest for {} unknown", image.reference());
                if returned == Returned::Done && matches!(image, BoundImage::Digest { .. }) {
                    // The engine's id of it, and what the engine calls it.
                    let (id, name) = (pinned.clone(), pinned.clone());
                    let brought = Brought { id, name, at: tick, order: 0, unneeded_since: None };
                    agent.seen.brought.insert(pinned.clone(), brought);
                }
                match returned {
                    Returned::Done | Returned::Held => agent.seen.images.insert(pinned, Image::Present),
                    Returned::Unreachable => agent.seen.images.remove(&pinned),
                    Returned::Refused | Returned::NoImage => {
                        agent.seen.images.insert(pinned, Image::Failed { said: said(), at: tick })
                    }
                };
            }
            Action::RemoveImage { pinned, name, .. } if returned == Returned::Done => {
                agent.seen.image_removed(pinned, name);
            }
            Action::Run { attempt, address, run, .. } => match returned {
                Returned::Done | Returned::Held => {
                    agent.seen.addresses.insert(*attempt, *address);
                    look = Some(*attempt);
                }
                Returned::Refused => {
                    let refused = Container::Refused { said: "no such executable".into(), at: tick };
                    agent.seen.containers.insert(*attempt, refused);
                }
                Returned::NoImage => {
                    agent.seen.images.remove(run.image.pinned());
                    let refused = Container::Refused { said: "No such image".into(), at: tick };
                    agent.seen.containers.insert(*attempt, refused);
                }
                Returned::Unreachable => {}
            },
            Action::Terminate { attempt } if !unreachable => {
                if let Some(Container::Running { terminated, .. }) = agent.seen.containers.get_mut(attempt)
                    && !std::mem::replace(terminated, true)
                {
                    agent.seen.terminated_at.insert(*attempt, tick);
                }
            }
            Action::Kill { attempt } if !unreachable => look = Some(*attempt),
            Action::Remove { attempt } if returned == Returned::Refused => look = Some(*attempt),
            Action::Remove { attempt } if !unreachable => {
                agent.seen.containers.remove(attempt);
                agent.seen.addresses.remove(attempt);
                agent.seen.slots.remove(attempt);
                agent.seen.terminated_at.remove(attempt);
            }
            _ => {}
        }
        if let Some(key) = key_of(action) {
            let failed = unreachable || is_bridge && returned == Returned::Refused;
            agent.desk.put_down(key, action.word(), failed, tick);
        }
        if let Some(attempt) = look {
            self.look_at(home, attempt);
        }
        self.wake(home);
    }
}
