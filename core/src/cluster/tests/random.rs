//! Anything may happen, in any order: the invariants hold after every input, and when the faults stop all comes to rest.

use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::values::{SetValue, ValueCommand};
use crate::ids::{NodeId, ValueId};
use crate::report::NodeReport;
use crate::spec::{ServiceSpec, Strategy as Way};
use crate::time::Millis;
use crate::values::{Sealed, ValueKey, ValueKind, ValueScope};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const NODES: u128 = 3;
const SERVICES: [&str; 3] = ["web", "api", "mail"];
/// The way of each of them.
const STRATEGIES: [Way; 3] = [Way::Rolling, Way::BlueGreen, Way::Recreate];

#[derive(Debug, Clone)]
enum Input {
    Apply(usize, u8, u32, bool, bool),
    SetValue(ValueKind, bool, u128),
    RemoveValue(ValueKind, bool),
    Label(u128, bool),
    Deploy(usize, u8),
    Redeploy(usize),
    Rollback(usize, Option<u32>),
    Scale(usize, u32),
    Remove(usize),
    Pause(Option<usize>),
    Resume(Option<usize>),
    Cut(u128),
    LoseLedger(u128),
    Connect(u128),
    Attach(u128),
    Detach(u128, bool),
    Cordon(u128, bool),
    Break(u8),
    Mend(u8),
    Turns(u8),
    Wait(u64),
    Restart,
    LoseQuestions,
    OldReport(prop::sample::Index),
}

fn any_input() -> impl Strategy<Value = Input> {
    let service = 0..SERVICES.len();
    let node = 1..=NODES;
    prop_oneof![
        4 => (service.clone(), 1u8..5, 1u32..5, prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(a, b, c, d, e)| Input::Apply(a, b, c, d, e)),
        3 => (kind(), any::<bool>(), any::<u128>()).prop_map(|(a, b, c)| Input::SetValue(a, b, c)),
        1 => (kind(), any::<bool>()).prop_map(|(a, b)| Input::RemoveValue(a, b)),
        1 => (node.clone(), any::<bool>()).prop_map(|(a, b)| Input::Label(a, b)),
        4 => (service.clone(), 1u8..5).prop_map(|(a, b)| Input::Deploy(a, b)),
        2 => service.clone().prop_map(Input::Redeploy),
        2 => (service.clone(), prop::option::of(1u32..5)).prop_map(|(a, b)| Input::Rollback(a, b)),
        2 => (service.clone(), 1u32..6).prop_map(|(a, b)| Input::Scale(a, b)),
        1 => service.clone().prop_map(Input::Remove),
        2 => prop::option::of(service.clone()).prop_map(Input::Pause),
        2 => prop::option::of(service).prop_map(Input::Resume),
        2 => node.clone().prop_map(Input::Cut),
        1 => node.clone().prop_map(Input::LoseLedger),
        3 => node.clone().prop_map(Input::Connect),
        1 => node.clone().prop_map(Input::Attach),
        1 => (node.clone(), any::<bool>()).prop_map(|(a, b)| Input::Detach(a, b)),
        1 => (node, any::<bool>()).prop_map(|(a, b)| Input::Cordon(a, b)),
        2 => (1u8..5).prop_map(Input::Break),
        2 => (1u8..5).prop_map(Input::Mend),
        9 => (1u8..12).prop_map(Input::Turns),
        3 => (1u64..12).prop_map(Input::Wait),
        1 => Just(Input::Restart),
        1 => Just(Input::LoseQuestions),
        2 => any::<prop::sample::Index>().prop_map(Input::OldReport),
    ]
}

fn kind() -> impl Strategy<Value = ValueKind> {
    prop_oneof![Just(ValueKind::Secret), Just(ValueKind::Variable), Just(ValueKind::Registry)]
}

/// One name of a kind, in the environment or in its application.
fn set_value(world: &World, kind: ValueKind, far: bool, id: u128) -> Command {
    let at = if far { "shop" } else { "shop/production" };
    let key = ValueKey { scope: world.cluster.value_scope(at).unwrap(), kind, name: name_of(kind).into() };
    Command::Value(ValueCommand::Set(SetValue { at: at.into(), key, id: ValueId(id), body: Sealed::from(vec![1]) }))
}

fn name_of(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Secret => "api-key",
        ValueKind::Variable => "LEVEL",
        ValueKind::Registry => "docker.io",
    }
}

fn service(index: usize) -> crate::assignment::ServicePath {
    path(&format!("shop/production/{}", SERVICES[index]))
}

/// One service, or all.
fn which(index: Option<usize>) -> Which {
    let all = || Which::Environment { application: "shop".into(), environment: "production".into() };
    index.map_or_else(all, |index| Which::Service(service(index)))
}

fn label(number: u128, zone: &str) -> Command {
    let set = [(String::from("zone"), String::from(zone))].into();
    Command::LabelNode { node: format!("node-{number}"), set, remove: [].into() }
}

fn do_it(world: &mut World, input: Input, told: &mut Vec<(NodeId, NodeReport)>) {
    let node = |number: u128| format!("node-{number}");
    let of = || (String::from("shop"), String::from("production"));
    let command = match input {
        Input::SetValue(kind, far, id) => set_value(world, kind, far, id),
        Input::RemoveValue(kind, far) => {
            let at = String::from(if far { "shop" } else { "shop/production" });
            Command::Value(ValueCommand::Remove { at, kind, name: name_of(kind).into() })
        }
        Input::Apply(index, tag, scale, bound, secret) => {
            let constraints = if bound { vec!["zone == a".parse().unwrap()] } else { vec![] };
            let secrets = if secret { [("API_KEY".into(), "api-key".into())].into() } else { [].into() };
            let mut spec = ServiceSpec { constraints, secrets, ..web(&format!("hello:{tag}"), scale) };
            spec.deploy.strategy = STRATEGIES[index];
            Command::Apply(file("production", &[(SERVICES[index], spec)]))
        }
        Input::Deploy(index, tag) => Command::Deploy { service: service(index), image: format!("hello:{tag}") },
        Input::Redeploy(index) => Command::Redeploy { service: service(index) },
        Input::Rollback(index, to) => Command::Rollback { service: service(index), to },
        Input::Scale(index, scale) => Command::Scale { service: service(index), scale },
        Input::Remove(index) => Command::RemoveService { service: service(index) },
        Input::Pause(index) => Command::Pause { which: which(index), reason: None },
        Input::Resume(index) => Command::Resume { which: which(index) },
        Input::Attach(number) => {
            let (application, environment) = of();
            Command::AttachNode { application, environment, node: node(number) }
        }
        Input::Detach(number, force) => {
            let (application, environment) = of();
            Command::DetachNode { application, environment, node: node(number), force }
        }
        Input::Label(number, good) => label(number, if good { "a" } else { "b" }),
        Input::Cordon(number, true) => Command::CordonNode { node: node(number), reason: None },
        Input::Cordon(number, false) => Command::UncordonNode { node: node(number) },
        Input::Cut(number) => return world.cut(number),
        Input::LoseLedger(number) => return world.lose_ledger(number),
        Input::Connect(number) => return world.connect(number),
        Input::Break(tag) => {
            world.broken.insert(format!("hello@sha256:{tag}"));
            return;
        }
        Input::Mend(tag) => {
            world.broken.remove(&format!("hello@sha256:{tag}"));
            return;
        }
        Input::Wait(seconds) => return world.wait(Millis::secs(seconds)),
        Input::Restart => return world.restart_controller(),
        Input::LoseQuestions => return world.lose_questions(),
        Input::Turns(turns) => {
            for _ in 0..turns {
                world.turn();
                told.extend(world.agents.iter().map(|(id, agent)| (*id, agent.report())));
            }
            return;
        }
        Input::OldReport(index) => {
            if !told.is_empty() {
                let (id, report) = told[index.index(told.len())].clone();
                let session = world.agents[&id].session;
                world.take_report(id, session, report);
            }
            return;
        }
    };
    let refused = world.run(command).err().unwrap_or_default();
    assert!(refused.iter().all(|refusal| !refusal.sentence.is_empty()));
}

/// What must be so when the faults have stopped and everything had time.
fn at_rest(world: &mut World) {
    for number in 1..=NODES {
        world.connect(number);
        world.run(Command::UncordonNode { node: format!("node-{number}") }).unwrap();
        world.run(label(number, "a")).unwrap();
        world.attach(number);
    }
    world.broken.clear();
    // Whoever waits for the secret gets it; what is deployed already is left alone.
    let scope = ValueScope::Environment(world.cluster.environment_named("shop", "production").unwrap().id);
    if !world.cluster.values_for(scope, ValueKind::Secret).contains_key("api-key") {
        let command = set_value(world, ValueKind::Secret, false, u128::MAX);
        world.run(command).unwrap();
    }
    world.wait(Millis::secs(70));
    world.settle();
    let services: Vec<Service> = world.cluster.all::<Service>().cloned().collect();
    for service in &services {
        assert!(!service.deleting, "{} is still being removed", service.name);
        assert_eq!(service.unfinished, None, "{}: {:?}", service.name, world.live.waits);
        let is_paused = service.wanted.pause().is_some();
        let wanted = service.active.filter(|_| !is_paused).map_or(0, |active| active.scale);
        let slots: Vec<&Slot> = world.cluster.slots_of(service.id).collect();
        assert_eq!(slots.len() as u32, wanted, "{}", service.name);
        for slot in slots {
            let job = slot.job.unwrap();
            let bindings = |number| world.cluster.bindings_of(service.id, number);
            let active = service.active.unwrap();
            assert_eq!(
                bindings(job.bound_by),
                bindings(active.deployment_number),
                "{}: all jobs have the same",
                slot.id
            );
            let running = world.agents[&slot.node].current.get(&slot.id);
            // A job that failed for good, outside of a deployment, is told and left to its operator.
            if slot.outcome == Some(SlotOutcome::Settled) {
                assert_eq!(running, Some(&job.job), "{}", slot.id);
            }
            assert!(slot.outcome.is_some(), "{} is open", slot.id);
        }
    }
    let slots = world.cluster.all::<Slot>().count();
    let running: usize = world.agents.values().map(|agent| agent.current.len()).sum();
    assert!(running <= slots, "no orphan: {running} jobs for {slots} slots");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_invariants_hold_and_all_comes_to_rest(inputs in prop::collection::vec(any_input(), 1..60)) {
        let mut world = World::with_nodes(NODES);
        let mut told = vec![];
        for input in inputs {
            do_it(&mut world, input, &mut told);
        }
        at_rest(&mut world);
    }
}
