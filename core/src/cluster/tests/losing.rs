use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::status::ServiceState;
use crate::ids::NodeId;
use crate::time::Millis;

const WEB: &str = "shop/production/web";

fn on_two_nodes() -> World {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    world
}

#[test]
fn the_jobs_of_a_lost_node_start_elsewhere_and_its_own_stop_when_it_returns() {
    let mut world = on_two_nodes();
    world.cut(2);
    world.wait(Millis::secs(5));
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 1, "suspect: nothing is moved");
    assert_eq!(world.status(WEB).state, ServiceState::Degraded);
    world.wait(Millis::secs(3));
    world.settle();
    assert_eq!(
        world.running(),
        ["node-1: web.1=r1", "node-1: web.2=r1", "node-2: web.2=r1"],
        "it cannot be told to stop"
    );
    assert_eq!(world.status(WEB).state, ServiceState::Healthy);
    assert!(world.sentences().contains(&"web.2 moved from node-2 to node-1"));
    world.connect(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.2=r1"]);
}

#[test]
fn a_service_that_wants_to_wait_is_not_moved_before_its_time() {
    let mut world = World::with_nodes(2);
    let mut spec = web("hello:1", 2);
    spec.replace_after = Millis::secs(60);
    world.apply("production", &[("web", spec)]);
    world.settle();
    world.cut(2);
    world.wait(Millis::secs(30));
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 1);
    assert!(world.why(WEB)[0].contains("unless it comes back, its jobs start elsewhere in"), "{:?}", world.why(WEB));
    world.wait(Millis::secs(38));
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 0);
}

#[test]
fn a_restarted_controller_moves_nothing_for_one_lease_and_a_healthy_job_is_not_restarted() {
    let mut world = on_two_nodes();
    let jobs: alloc::vec::Vec<_> = world.agents.values().map(|agent| agent.current.clone()).collect();
    world.wait(Millis::secs(60));
    world.agents.get_mut(&NodeId(2)).unwrap().connected = false;
    world.restart_controller();
    world.wait(Millis::secs(6));
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 1, "it could still come");
    world.connect(2);
    world.wait(Millis::secs(30));
    let now: alloc::vec::Vec<_> = world.agents.values().map(|agent| agent.current.clone()).collect();
    assert_eq!(jobs, now);
}

#[test]
fn a_controller_that_was_away_itself_takes_nobody_for_lost() {
    let mut world = on_two_nodes();
    // Nothing was heard of either, as nobody listened.
    world.tick = world.tick + Millis::secs(30);
    world.pass_time();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    // The first that is heard again does not get the other's slots.
    let agent = world.agents.get_mut(&NodeId(2)).unwrap();
    agent.connected = false;
    world.wait(Millis::secs(6));
    world.settle();
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 1, "it has its whole lease");
    world.wait(Millis::secs(2));
    world.settle();
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 0, "it was listened for long enough");
}

#[test]
fn who_was_lost_before_the_controller_was_away_stays_lost() {
    let mut world = on_two_nodes();
    world.cut(2);
    world.wait(Millis::secs(8));
    world.tick = world.tick + Millis::secs(30);
    world.pass_time();
    assert_eq!(world.live.liveness(NodeId(2), world.tick), crate::liveness::Liveness::Lost);
}

#[test]
fn a_deployment_goes_on_when_a_node_is_lost_in_its_middle() {
    let mut world = World::with_nodes(3);
    world.apply("production", &[("web", web("hello:1", 3))]);
    world.settle();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    while !world.running().contains(&"node-1: web.1=r2".into()) {
        world.turn();
    }
    world.cut(2);
    world.wait(Millis::secs(30));
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    world.connect(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: web.2=r2", "node-3: web.3=r2"]);
}

#[test]
fn a_deployment_goes_on_when_the_controller_dies_in_its_middle() {
    let mut world = on_two_nodes();
    for turns in 0..14 {
        let image = if turns % 2 == 0 { "hello:2" } else { "hello:3" };
        world.run(Command::Deploy { service: path(WEB), image: image.into() }).unwrap();
        for _ in 0..turns {
            world.turn();
        }
        world.restart_controller();
        world.settle();
        let last = world.last_deployment(WEB);
        assert_eq!(last.phase, DeploymentPhase::Complete, "after {turns} turns");
        let revision = alloc::format!("=r{}", last.revision.unwrap());
        assert!(
            world.running().iter().all(|line| line.ends_with(&revision)),
            "after {turns} turns: {:?}",
            world.running()
        );
    }
}

#[test]
fn a_report_of_an_older_set_is_no_evidence_for_a_newer_one() {
    let mut world = on_two_nodes();
    let (session, old) = (world.agents[&NodeId(1)].session, world.agents[&NodeId(1)].report());
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.turn();
    world.take_report(NodeId(1), session, old);
    let service = world.service(WEB).id;
    let open = world.cluster.slots_of(service).filter(|slot| slot.outcome.is_none()).count();
    assert_eq!(open, 1);
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn reports_that_come_twice_or_late_change_nothing() {
    let mut world = on_two_nodes();
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    let mut told = alloc::vec![];
    while world.turn() {
        let agent = &world.agents[&NodeId(1)];
        told.push((agent.session, agent.report()));
    }
    let (deployments, events) = (world.last_deployment(WEB).clone(), world.events.len());
    for (session, report) in told.into_iter().rev() {
        world.take_report(NodeId(1), session, report);
    }
    world.report(NodeId(1));
    world.settle();
    assert_eq!(*world.last_deployment(WEB), deployments);
    assert_eq!(world.events.len(), events);
}

#[test]
fn a_node_that_knows_a_later_set_than_the_store_gets_a_later_one_still() {
    let mut world = on_two_nodes();
    let held = world.agents.get_mut(&NodeId(2)).unwrap().held.as_mut().unwrap();
    held.number += 100;
    let number = held.number;
    world.connect(2);
    assert_eq!(world.cluster.assignments(NodeId(2), true).unwrap().generation.number, number + 1);
    world.settle();
    assert_eq!(world.running().len(), 2);
}

#[test]
fn a_cordoned_node_keeps_its_jobs_and_gets_no_new_slots() {
    let mut world = on_two_nodes();
    world.run(Command::CordonNode { node: "node-1".into(), reason: None }).unwrap();
    world.run(Command::Scale { service: path(WEB), scale: 4 }).unwrap();
    world.settle();
    assert_eq!(world.cluster.slots_on(NodeId(1)).count(), 1);
    assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 3);
}

#[test]
fn a_proxy_can_name_the_nodes_that_have_jobs_of_a_service() {
    let world = on_two_nodes();
    let elsewhere = world.cluster.elsewhere(NodeId(1));
    assert_eq!(elsewhere[0].nodes, ["node-2"]);
    assert_eq!(elsewhere[0].routes, [("web-production-shop.apps.test".into(), "/".into())]);
}

#[test]
fn a_slot_that_is_emptied_is_gone_only_when_its_node_has_heard_of_that() {
    let mut world = World::with_nodes(1);
    let service = world.apply("production", &[("web", web("hello:1", 1))])[0].service.unwrap();
    world.look(service);
    world.answer();
    world.look(service);
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    world.look(service);
    // The node tells of no job, but it has not heard yet that it was to have one: the word may still be on its way.
    world.report(NodeId(1));
    world.look(service);
    assert_eq!(world.cluster.slots_on(NodeId(1)).count(), 1);
    world.settle();
    assert_eq!(world.cluster.slots_on(NodeId(1)).count(), 0);
}

#[test]
fn a_slot_left_on_a_node_that_was_taken_away_gets_no_new_job_there() {
    let mut world = on_two_nodes();
    world.cut(2);
    world.run(Command::CordonNode { node: "node-1".into(), reason: None }).unwrap();
    world.wait(Millis::secs(10));
    let (application, environment) = ("shop".into(), "production".into());
    world.run(Command::DetachNode { application, environment, node: "node-2".into(), force: true }).unwrap();
    world.connect(2);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
    assert_eq!(
        world.why(WEB)[0],
        "shop/production/web: web.2 waits: no node of shop/production can take it: node-1: it is cordoned by ada"
    );
    world.attach(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"], "given back, it goes on there");
}

#[test]
fn a_slot_that_moved_without_a_deployment_says_what_it_waits_for() {
    let mut world = on_two_nodes();
    world.cut(2);
    world.wait(Millis::secs(7));
    world.turn();
    while world.cluster.slots_on(NodeId(1)).count() < 2 {
        world.turn();
    }
    let service = world.service(WEB).id;
    world.look(service);
    let why = world.why(WEB);
    assert!(why.iter().any(|sentence| sentence.contains("web.2") && sentence.contains("node-1")), "{why:?}");
}

#[test]
fn a_job_that_was_given_up_without_a_deployment_is_tried_again_a_minute_later() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    // Something else is down just when the job has to move.
    world.broken.insert("hello@sha256:1".into());
    world.cut(1);
    world.wait(Millis::secs(8));
    world.settle();
    let why = world.why(WEB);
    assert!(why[0].contains("its job on node-2 was given up and is tried again in"), "{why:?}");
    world.broken.clear();
    world.wait(Millis::secs(61));
    world.settle();
    assert!(world.running().contains(&"node-2: web.1=r1".into()));
    assert_eq!(world.status(WEB).state, ServiceState::Healthy);
}

#[test]
fn of_a_slot_that_moved_away_it_is_not_said_that_its_next_node_has_forgotten_it() {
    let mut world = on_two_nodes();
    let slot = world.cluster.slots_on(NodeId(2)).next().unwrap().id.clone();
    world.live.untold.insert((NodeId(2), slot.clone()));
    world.cut(2);
    world.wait(Millis::secs(7));
    while world.cluster.get::<Slot>(&slot).unwrap().node == NodeId(2) {
        world.tick = world.tick + Millis::secs(1);
        world.look(slot.service);
    }
    world.report(NodeId(1));
    world.look(slot.service);
    let why = world.why(WEB);
    assert!(why.iter().any(|said| said.contains("web.2 waits: its job on node-1 is accepted")), "{why:?}");
    assert!(!why.iter().any(|said| said.contains("has forgotten")), "{why:?}");
    assert!(world.live.untold.is_empty(), "nobody waits for what node-2 has of it");
    world.live.untold.insert((NodeId(2), slot.clone()));
    assert!(!world.live.is_untold(world.cluster.get::<Slot>(&slot).unwrap()), "what node-2 does not say, node-1 may");
}
