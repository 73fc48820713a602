//! Slots in which no two jobs may be up together, when nodes forget what they have.

use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::ids::{JobId, NodeId, SlotId};
use crate::report::{JobPhase, StrayReport};
use crate::spec::{ServiceSpec, Strategy};
use crate::time::Millis;
use alloc::{format, vec};

const WEB: &str = "shop/production/web";
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// The service with one job, on the nodes of a zone.
fn bound_to(zone: &str, strategy: Strategy) -> [(&'static str, ServiceSpec); 1] {
    let mut spec = web("hello:1", 1);
    spec.deploy.strategy = strategy;
    spec.constraints = vec![format!("zone == {zone}").parse().unwrap()];
    [("web", spec)]
}

/// Two nodes, each a zone of its own; the only job of the service runs on node-2.
fn on_node_2(strategy: Strategy) -> World {
    let mut world = World::with_zones();
    world.apply("production", &bound_to("b", strategy));
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1"]);
    world
}

fn slot(world: &World) -> SlotId {
    SlotId { service: world.service(WEB).id, target: "web".into(), number: 1 }
}

/// The controller takes the slot from node-2, which has not heard of that yet.
fn leaves(world: &mut World, id: &SlotId) {
    while world.cluster.get::<Slot>(id).is_some_and(|slot| slot.node == TWO && slot.job.is_some()) {
        world.look(id.service);
        world.answer();
    }
    assert_eq!(world.agents[&TWO].runs_in(id).len(), 1);
}

fn says(world: &World, words: &str) -> bool {
    world.why(WEB).iter().any(|said| said.contains(words))
}

#[test]
fn a_slot_to_be_alone_that_is_emptied_waits_for_what_its_node_has_forgotten_and_why_says_so() {
    let mut world = on_node_2(Strategy::Recreate);
    world.apply("production", &bound_to("a", Strategy::Recreate));
    let id = slot(&world);
    leaves(&mut world, &id);
    world.lose_ledger(2);
    let mut waited = 0;
    while !world.agents[&TWO].runs_in(&id).is_empty() {
        assert!(world.agents[&ONE].runs_in(&id).is_empty(), "two at once");
        world.turn();
        waited += u32::from(says(&world, "node-2 has not yet said that nothing of it runs there any more"));
    }
    assert!(waited > 1, "{:?}", world.why(WEB));
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2"]);
}

#[test]
fn a_strategy_that_may_have_two_jobs_up_does_not_wait_for_what_a_node_has_forgotten() {
    let mut world = on_node_2(Strategy::Rolling);
    world.apply("production", &bound_to("a", Strategy::Rolling));
    let id = slot(&world);
    leaves(&mut world, &id);
    world.lose_ledger(2);
    while world.agents[&ONE].runs_in(&id).is_empty() {
        assert!(world.turn(), "{:?}", world.why(WEB));
    }
    assert_eq!(world.agents[&TWO].runs_in(&id).len(), 1, "it has its stop grace still");
}

#[test]
fn a_slot_to_be_alone_is_not_filled_while_a_node_that_came_back_has_something_of_it_or_does_not_know_what_it_has() {
    for forgets in [false, true] {
        let mut world = World::with_nodes(2);
        let mut spec = web("hello:1", 1);
        spec.deploy.strategy = Strategy::Recreate;
        world.run(Command::CordonNode { node: "node-1".into(), reason: None }).unwrap();
        world.apply("production", &[("web", spec)]);
        world.settle();
        world.run(Command::UncordonNode { node: "node-1".into() }).unwrap();
        world.cut(2);
        world.wait(Millis::secs(8));
        world.settle();
        assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.1=r1"], "it cannot be told to stop");
        let which = || Which::Service(path(WEB));
        world.run(Command::Pause { which: which(), reason: None }).unwrap();
        world.settle();
        let id = slot(&world);
        assert_eq!(world.cluster.get::<Slot>(&id), None);
        if forgets {
            world.lose_ledger(2);
        }
        world.run(Command::Resume { which: which() }).unwrap();
        world.connect(2);
        world.look(id.service);
        let why = "web.1 waits: node-2 has not yet said that nothing of it runs there any more";
        assert!(says(&world, why), "forgets: {forgets}, {:?}", world.why(WEB));
        while !world.agents[&TWO].runs_in(&id).is_empty() {
            assert_eq!(world.cluster.get::<Slot>(&id), None);
            world.turn();
        }
        world.settle();
        assert_eq!(world.running(), ["node-1: web.1=r1"]);
    }
}

#[test]
fn a_node_that_is_gone_holds_up_a_slot_to_be_alone_for_as_long_as_its_jobs_would_be_waited_for() {
    for removed in [false, true] {
        let mut world = on_node_2(Strategy::Recreate);
        let patient = |zone: &str| {
            let [(name, spec)] = bound_to(zone, Strategy::Recreate);
            [(name, ServiceSpec { replace_after: Millis::secs(60), ..spec })]
        };
        world.apply("production", &patient("b"));
        world.settle();
        world.apply("production", &patient("a"));
        let id = slot(&world);
        leaves(&mut world, &id);
        world.lose_ledger(2);
        world.cut(2);
        world.wait(Millis::secs(30));
        world.settle();
        assert_eq!(world.agents[&ONE].runs_in(&id), [].into());
        assert!(says(&world, "node-2 has been silent for"), "{:?}", world.why(WEB));
        if removed {
            world.run(Command::RemoveNode { node: "node-2".into(), force: true }).unwrap();
        } else {
            world.wait(Millis::secs(40));
        }
        world.settle();
        assert_eq!(world.agents[&ONE].runs_in(&id).len(), 1, "removed: {removed}, {:?}", world.why(WEB));
    }
}

#[test]
fn a_node_holds_up_no_service_of_an_environment_that_it_is_not_given_to() {
    let mut world = World::with_nodes(1);
    world.join(2);
    let mut spec = web("hello:1", 1);
    spec.deploy.strategy = Strategy::Recreate;
    let service = world.apply("production", &[("web", spec)])[0].service.unwrap();
    let mut lie = world.agents[&TWO].report();
    let slot = SlotId { service, target: "web".into(), number: 1 };
    lie.strays = vec![StrayReport { job: JobId(7), slot }];
    let session = world.agents[&TWO].session;
    world.take_report(TWO, session, lie);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
}

#[test]
fn a_paused_service_to_be_alone_is_paused_when_what_its_node_has_forgotten_has_ended() {
    let mut world = on_node_2(Strategy::Recreate);
    let id = slot(&world);
    world.run(Command::Pause { which: Which::Service(path(WEB)), reason: None }).unwrap();
    leaves(&mut world, &id);
    world.lose_ledger(2);
    while !world.agents[&TWO].runs_in(&id).is_empty() {
        assert_eq!(world.cluster.slots_of(id.service).count(), 1);
        world.turn();
    }
    world.settle();
    assert_eq!(world.cluster.slots_of(id.service).count(), 0);
    world.apply("production", &bound_to("a", Strategy::Recreate));
    world.run(Command::Resume { which: Which::Service(path(WEB)) }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2"]);
    let jobs = world.agents[&ONE].jobs.values();
    assert_eq!(jobs.filter(|job| job.phase == JobPhase::Running).count(), 1);
}

/// Two nodes; the second one says that a container of the slot that the service would get runs there.
fn waiting_for_a_stray_on_node_2() -> World {
    let mut world = World::with_nodes(2);
    world.run(Command::CordonNode { node: "node-2".into(), reason: None }).unwrap();
    let mut spec = web("hello:1", 1);
    spec.deploy.strategy = Strategy::Recreate;
    let service = world.apply("production", &[("web", spec)])[0].service.unwrap();
    world.agents.get_mut(&TWO).unwrap().connected = false;
    let mut told = world.agents[&TWO].report();
    told.strays = vec![StrayReport { job: JobId(7), slot: SlotId { service, target: "web".into(), number: 1 } }];
    world.take_report(TWO, world.agents[&TWO].session, told);
    world.settle();
    assert!(says(&world, "node-2 has not yet said that nothing of it runs there any more"), "{:?}", world.why(WEB));
    world
}

#[test]
fn a_slot_to_be_alone_is_filled_when_the_node_that_it_waits_for_is_removed() {
    let mut world = waiting_for_a_stray_on_node_2();
    world.run(Command::RemoveNode { node: "node-2".into(), force: false }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
}

#[test]
fn a_restarted_controller_waits_for_a_node_that_does_not_know_yet_what_it_has() {
    let mut world = World::with_nodes(2);
    world.run(Command::CordonNode { node: "node-2".into(), reason: None }).unwrap();
    let service = world.apply("production", &bound_to("a", Strategy::Recreate))[0].service.unwrap();
    world.agents.get_mut(&TWO).unwrap().blind = true;
    world.restart_controller();
    let live = &world.live;
    assert!(live.unclear_since(TWO, service).is_some() && live.unclear_since(ONE, service).is_none());
    world.report(TWO);
    assert!(world.live.unclear_since(TWO, service).is_some(), "it is blind still");
    world.agents.get_mut(&TWO).unwrap().blind = false;
    world.report(TWO);
    assert!(world.live.unclear_since(TWO, service).is_none());
}

fn recreated(scale: u32, replace_after: Millis) -> [(&'static str, ServiceSpec); 1] {
    let mut spec = ServiceSpec { replace_after, ..web("hello:1", scale) };
    spec.deploy.strategy = Strategy::Recreate;
    [("web", spec)]
}

/// Two nodes, of which the second one gets nothing; the service is paused, and its slots are on no node.
fn paused(scale: u32, replace_after: Millis) -> World {
    let mut world = World::with_nodes(2);
    world.run(Command::CordonNode { node: "node-2".into(), reason: None }).unwrap();
    world.apply("production", &recreated(scale, replace_after));
    world.settle();
    world.run(Command::Pause { which: Which::Service(path(WEB)), reason: None }).unwrap();
    world.settle();
    assert_eq!(world.cluster.all::<Slot>().count(), 0);
    world
}

fn resume(world: &mut World) {
    world.run(Command::Resume { which: Which::Service(path(WEB)) }).unwrap();
    world.settle();
}

/// The node comes back without its ledger, and its engine does not answer.
fn loses_everything(world: &mut World, number: u128) {
    world.agents.get_mut(&NodeId(number)).unwrap().engine_down = true;
    world.lose_ledger(number);
}

#[test]
fn a_node_that_cannot_tell_what_it_has_does_not_hold_up_a_service_that_came_after_it() {
    let mut world = World::with_nodes(2);
    world.run(Command::CordonNode { node: "node-2".into(), reason: None }).unwrap();
    loses_everything(&mut world, 2);
    world.cut(2);
    world.apply("production", &recreated(1, Millis(0)));
    world.connect(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"], "{:?}", world.why(WEB));
}

#[test]
fn a_node_that_cannot_tell_what_it_has_is_waited_for_a_minute_longer_than_a_lost_one() {
    for replace_after in [Millis(0), Millis::secs(60)] {
        let mut world = paused(1, replace_after);
        loses_everything(&mut world, 2);
        resume(&mut world);
        world.wait(Millis(50_000 + replace_after.0));
        assert_eq!(world.running(), [""; 0]);
        world.look(world.service(WEB).id);
        let why = "node-2 has not yet said that nothing of it runs there any more: the container engine does not answer: no \
                   socket; unless it tells, it is waited for 10 s more";
        assert!(world.why(WEB).iter().any(|said| said.ends_with(why)), "{:?}", world.why(WEB));
        world.wait(Millis::secs(15));
        assert_eq!(world.running(), ["node-1: web.1=r1"], "{:?}", world.why(WEB));
    }
}

#[test]
fn a_controller_that_was_away_gives_a_node_that_cannot_tell_what_it_has_its_whole_time_again() {
    let mut world = paused(1, Millis(0));
    loses_everything(&mut world, 2);
    resume(&mut world);
    world.tick = world.tick + Millis::secs(120);
    world.pass_time();
    world.wait(Millis::secs(50));
    assert_eq!(world.running(), [""; 0]);
    assert!(says(&world, "node-2 has not yet said that nothing of it runs there any more"), "{:?}", world.why(WEB));
    world.wait(Millis::secs(15));
    assert_eq!(world.running(), ["node-1: web.1=r1"], "{:?}", world.why(WEB));
}

#[test]
fn a_restored_store_waits_for_a_node_that_cannot_tell_what_it_has_and_does_not_say_that_a_job_runs_there() {
    let mut world = paused(1, Millis(0));
    world.live.restored = true;
    loses_everything(&mut world, 2);
    resume(&mut world);
    world.wait(Millis::secs(600));
    assert_eq!(world.running(), [""; 0]);
    assert!(says(&world, "node-2 has not yet said that nothing of it runs there any more"), "{:?}", world.why(WEB));
    assert!(!says(&world, "is not stopped"), "{:?}", world.why(WEB));
}

#[test]
fn a_slot_that_waits_for_what_another_node_has_of_it_does_not_hold_up_the_others() {
    let mut world = paused(2, Millis(0));
    let service = world.service(WEB).id;
    world.agents.get_mut(&TWO).unwrap().connected = false;
    let mut told = world.agents[&TWO].report();
    told.strays = vec![StrayReport { job: JobId(7), slot: SlotId { service, target: "web".into(), number: 1 } }];
    world.take_report(TWO, world.agents[&TWO].session, told);
    resume(&mut world);
    assert_eq!(world.running(), ["node-1: web.2=r1"]);
    assert!(says(&world, "web.1 waits: node-2 has not yet said that nothing of it runs"), "{:?}", world.why(WEB));
}

#[test]
fn a_restarted_controller_waits_for_a_node_that_it_has_not_heard_yet() {
    let mut world = paused(1, Millis::secs(60));
    world.agents.get_mut(&TWO).unwrap().connected = false;
    world.restart_controller();
    resume(&mut world);
    assert_eq!(world.running(), [""; 0], "who knows what runs on node-2?");
    assert!(says(&world, "node-2"), "{:?}", world.why(WEB));
    world.connect(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"], "{:?}", world.why(WEB));
}

#[test]
fn a_slot_does_not_leave_a_node_that_had_its_job_and_cannot_tell_whether_it_ended() {
    let mut world = on_node_2(Strategy::Recreate);
    world.agents.get_mut(&TWO).unwrap().engine_down = true;
    world.apply("production", &bound_to("a", Strategy::Recreate));
    world.settle();
    world.lose_ledger(2);
    world.wait(Millis(600_000));
    assert!(!world.running().iter().any(|job| job.starts_with("node-1")), "{:?}", world.running());
    assert!(says(&world, "node-2 has not yet said that nothing of it runs there any more"), "{:?}", world.why(WEB));
    let agent = world.agents.get_mut(&TWO).unwrap();
    agent.engine_down = false;
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2"], "{:?}", world.why(WEB));
}

#[test]
fn what_stands_in_for_a_slot_to_be_alone_does_not_start_beside_what_a_node_says_that_it_has_of_it() {
    // What runs may have two jobs up, and what is on its way may not.
    let mut world = on_node_2(Strategy::Rolling);
    world.apply("production", &bound_to("a", Strategy::Recreate));
    let id = slot(&world);
    while world.cluster.get::<Slot>(&id).is_some() {
        assert!(world.turn(), "{:?}", world.why(WEB));
    }
    let [(name, mut spec)] = bound_to("a", Strategy::Recreate);
    spec.image.reference = "hello:2".into();
    world.apply("production", &[(name, spec)]);
    let mut told = world.agents[&ONE].report();
    told.strays = vec![StrayReport { job: JobId(7), slot: id.clone() }];
    world.take_report(ONE, world.agents[&ONE].session, told);
    world.look(id.service);
    world.lose_questions();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Resolving, "nobody knows its revision yet");
    assert_eq!(world.cluster.get::<Slot>(&id), None);
    assert!(says(&world, "web.1 waits: node-1 has not yet said that nothing of it runs"), "{:?}", world.why(WEB));
    world.report(ONE);
    world.look(id.service);
    assert_eq!(world.cluster.get::<Slot>(&id).map(|slot| slot.node), Some(TWO), "what is active stands in");
}
