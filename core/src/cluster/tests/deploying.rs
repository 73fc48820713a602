use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::status::ServiceState;
use crate::ids::NodeId;
use crate::spec::Pull;
use crate::time::Millis;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn deploy(world: &mut World, image: &str) {
    world.run(Command::Deploy { service: path(WEB), image: image.into() }).unwrap();
}

#[test]
fn an_applied_service_runs_spread_over_the_nodes_of_its_environment() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 3))]);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.3=r1", "node-2: web.2=r1"]);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    assert_eq!(world.status(WEB).state, ServiceState::Healthy);
    assert_eq!(world.why(WEB), ["shop/production/web: 3 of 3 jobs healthy"]);
}

#[test]
fn another_image_is_a_new_revision_on_the_same_nodes() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 3))]);
    world.settle();
    deploy(&mut world, "hello:2");
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: web.3=r2", "node-2: web.2=r2"]);
    let phases: Vec<_> = world.last_deployment(WEB).reached.iter().map(|it| it.0.word()).collect();
    assert_eq!(phases, ["queued", "resolving", "placing", "rolling", "complete"]);
}

#[test]
fn nodes_get_their_new_jobs_one_after_the_other() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 4))]);
    world.settle();
    deploy(&mut world, "hello:2");
    let mut waited = false;
    while world.last_deployment(WEB).phase != DeploymentPhase::Complete {
        world.turn();
        let slots: Vec<Slot> = world.cluster.slots_of(world.service(WEB).id).cloned().collect();
        let open: alloc::collections::BTreeSet<NodeId> =
            slots.iter().filter(|slot| slot.outcome.is_none()).map(|slot| slot.node).collect();
        assert!(open.len() <= 1, "two nodes at once: {open:?}");
        waited |= world.why(WEB).iter().any(|why| why.contains("nodes take turns, and node-1 is not done"));
    }
    assert!(waited, "who waits for its turn says so");
}

#[test]
fn the_same_digest_makes_no_new_revision_and_replaces_nothing() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let before = world.agents[&NodeId(1)].current.clone();
    deploy(&mut world, "hello:1");
    world.settle();
    assert_eq!(world.service(WEB).active.unwrap().revision, 1);
    assert_eq!(world.agents[&NodeId(1)].current, before);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_moved_tag_is_a_new_revision() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    world.images.insert("hello:1".into(), Ok("hello@sha256:moved".into()));
    deploy(&mut world, "hello:1");
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2"]);
}

#[test]
fn a_redeploy_gives_every_slot_a_new_job_of_the_same_revision() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let before = world.agents[&NodeId(1)].current.clone();
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_ne!(world.agents[&NodeId(1)].current, before);
}

#[test]
fn scaling_replaces_no_job_and_makes_no_revision() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let two = world.agents[&NodeId(1)].current.clone();
    world.run(Command::Scale { service: path(WEB), scale: 4 }).unwrap();
    world.settle();
    assert_eq!(world.running().len(), 4);
    assert!(two.iter().all(|(slot, job)| world.agents[&NodeId(1)].current.get(slot) == Some(job)));
    world.run(Command::Scale { service: path(WEB), scale: 2 }).unwrap();
    world.settle();
    assert_eq!(world.agents[&NodeId(1)].current, two);
    assert_eq!((world.service(WEB).last_revision, world.service(WEB).active.unwrap().scale), (1, 2));
    assert_eq!(world.cluster.slots_of(world.service(WEB).id).count(), 2, "emptied slots are gone");
}

#[test]
fn a_rollback_is_a_new_deployment_of_an_old_revision_with_as_many_jobs_as_now() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    deploy(&mut world, "hello:2");
    world.settle();
    world.run(Command::Scale { service: path(WEB), scale: 3 }).unwrap();
    world.settle();
    world.run(Command::Rollback { service: path(WEB), to: None }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.2=r1", "node-1: web.3=r1"]);
    assert_eq!(world.last_deployment(WEB).number, 4);
    let refused = world.run(Command::Rollback { service: path(WEB), to: Some(9) }).unwrap_err();
    assert_eq!(refused[0].sentence, "shop/production/web has no revision r9");
    assert_eq!(refused[0].hint.as_deref(), Some("kept are r1, r2"));
}

#[test]
fn a_new_deployment_supersedes_the_unfinished_one_and_slots_go_straight_to_the_newest() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 4))]);
    world.settle();
    deploy(&mut world, "hello:2");
    for _ in 0..4 {
        world.turn();
    }
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Rolling);
    deploy(&mut world, "hello:3");
    world.settle();
    assert!(world.running().iter().all(|line| line.ends_with("=r3")), "{:?}", world.running());
    let service = world.service(WEB).id;
    let phases: Vec<_> = world.cluster.deployments_of(service).map(|it| it.phase.word()).collect();
    assert_eq!(phases, ["complete", "superseded", "complete"]);
    assert!(world.sentences().contains(&"deployment 2 is superseded by deployment 3"));
}

#[test]
fn scaling_while_a_deployment_rolls_goes_on_to_the_new_revision() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    deploy(&mut world, "hello:2");
    for _ in 0..4 {
        world.turn();
    }
    world.run(Command::Scale { service: path(WEB), scale: 3 }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: web.3=r2", "node-2: web.2=r2"]);
}

#[test]
fn a_removed_service_leaves_nothing_behind() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 3))]);
    world.settle();
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    let refused = world.run(Command::Redeploy { service: path(WEB) }).unwrap_err();
    assert_eq!(refused[0].sentence, "shop/production/web is being removed");
    assert_eq!(world.status(WEB).state, ServiceState::Deleting);
    world.settle();
    assert!(world.running().is_empty());
    assert!(!world.store.keys().any(|key| key.starts_with("s") || key.starts_with("r") || key.starts_with("dep")));
}

#[test]
fn without_a_node_a_deployment_waits_and_says_what_would_help() {
    let mut world = World::with_nodes(0);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    assert_eq!(
        world.why(WEB),
        ["shop/production/web waits: no node is attached to shop/production, so nobody can look for the image; \
          attach one with `lap env attach-node`"]
    );
    world.join(1);
    world.attach(1);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
}

#[test]
fn without_room_a_deployment_changes_nothing_and_names_each_node_and_what_is_missing() {
    let mut world = World::with_nodes(2);
    let mut big = web("hello:1", 1);
    big.size.memory_bytes = 700 * MIB;
    world.apply("production", &[("web", big.clone())]);
    world.settle();
    world.run(Command::Scale { service: path(WEB), scale: 3 }).unwrap();
    world.settle();
    assert_eq!(world.running().len(), 1, "all or none");
    assert_eq!(
        world.why(WEB),
        ["shop/production/web waits: no node of shop/production can take it: \
          node-1: 700 MiB of memory wanted, 324 of 1024 MiB free; node-2: 700 MiB of memory wanted, 324 of 1024 MiB free"]
    );
    // Another node comes, and it goes on by itself.
    world.join(3);
    world.attach(3);
    world.settle();
    assert_eq!(world.running().len(), 3);
}

#[test]
fn an_image_that_is_only_on_one_node_is_placed_there() {
    let mut world = World::with_nodes(3);
    let held = [("mine:1".into(), "sha256:aa".into()), ("mine:2".into(), "sha256:bb".into())];
    world.agents.get_mut(&NodeId(2)).unwrap().images_here.extend(held);
    let mut spec = web("mine:1", 2);
    spec.image.pull = Pull::Local;
    world.apply("production", &[("web", spec)]);
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1", "node-2: web.2=r1"]);
    // Built anew, on another node: the slots cannot follow it there.
    world.agents.get_mut(&NodeId(2)).unwrap().images_here.remove("mine:2");
    world.agents.get_mut(&NodeId(3)).unwrap().images_here.insert("mine:2".into(), "sha256:bb".into());
    deploy(&mut world, "mine:2");
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1", "node-2: web.2=r1"]);
    assert_eq!(
        world.why(WEB)[0],
        "deployment 2 failed: web.1 is on node-2, which does not hold the image mine:2; load it there and deploy again"
    );
}

#[test]
fn a_node_that_is_silent_while_a_local_image_is_looked_up_is_waited_for() {
    let mut world = World::with_nodes(2);
    for number in [1, 2] {
        let held = [("mine:1".into(), "sha256:aa".into()), ("mine:2".into(), "sha256:bb".into())];
        world.agents.get_mut(&NodeId(number)).unwrap().images_here.extend(held);
    }
    let mut spec = web("mine:1", 2);
    spec.image.pull = Pull::Local;
    world.apply("production", &[("web", spec)]);
    world.settle();
    world.cut(2);
    deploy(&mut world, "mine:2");
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Resolving);
    assert!(world.why(WEB)[0].contains("node-2"), "{:?}", world.why(WEB));
    world.connect(2);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-2: web.2=r2"]);
}

#[test]
fn a_question_about_an_image_that_is_never_answered_ends() {
    let mut world = World::with_nodes(1);
    let applied = world.apply("production", &[("web", web("hello:1", 1))]);
    let service = applied[0].service.unwrap();
    world.look(service);
    assert_eq!(world.why(WEB), ["shop/production/web waits: node-1 is asked what the image hello:1 is now"]);
    // The answer gets lost, but the session goes on.
    world.lose_questions();
    world.wait(Millis::secs(61));
    assert_eq!(
        world.why(WEB)[0],
        "deployment 1 failed: the image hello:1 cannot be looked up: node-1 says: nothing within 60 s"
    );
}

#[test]
fn another_node_is_asked_when_the_asked_ones_session_ends() {
    let mut world = World::with_nodes(2);
    let applied = world.apply("production", &[("web", web("hello:1", 1))]);
    world.look(applied[0].service.unwrap());
    world.cut(1);
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1"]);
}
