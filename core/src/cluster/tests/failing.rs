use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::status::ServiceState;
use crate::ids::NodeId;
use crate::time::Millis;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn running_two(nodes: u128, scale: u32) -> World {
    let mut world = World::with_nodes(nodes);
    world.apply("production", &[("web", web("hello:1", scale))]);
    world.settle();
    world.broken.insert("hello@sha256:2".into());
    world
}

#[test]
fn a_deployment_whose_job_fails_goes_back_and_the_old_jobs_were_never_touched() {
    let mut world = running_two(2, 4);
    let before: Vec<_> = world.agents.values().map(|agent| agent.current.clone()).collect();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    world.settle();
    let after: Vec<_> = world.agents.values().map(|agent| agent.current.clone()).collect();
    assert_eq!(before, after);
    let last = world.last_deployment(WEB);
    let phases: Vec<_> = last.reached.iter().map(|it| it.0.word()).collect();
    assert_eq!(phases, ["queued", "resolving", "placing", "rolling", "reverting", "failed"]);
    assert_eq!(
        world.why(WEB),
        ["deployment 2 failed: web.1 on node-1: the process exited with code 3 after 120 ms; \
          its last line was: no DATABASE_URL"]
    );
    let status = world.status(WEB);
    assert_eq!((status.state, status.healthy, status.wanted), (ServiceState::Degraded, 4, 4));
}

#[test]
fn slots_that_were_done_go_back_to_the_old_revision_too() {
    let mut world = running_two(2, 2);
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    // The first node gets it to run, the second does not.
    world.broken.clear();
    while world.running() != ["node-1: web.1=r2", "node-2: web.2=r1"] {
        world.turn();
    }
    world.broken.insert("hello@sha256:2".into());
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert!(world.why(WEB)[0].starts_with("deployment 2 failed: web.2 on node-2: the process exited"));
}

#[test]
fn a_first_deployment_that_fails_leaves_nothing_running_and_says_why() {
    let mut world = World::with_nodes(1);
    world.broken.insert("hello@sha256:1".into());
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    assert!(world.running().is_empty());
    assert_eq!(world.cluster.slots_of(world.service(WEB).id).count(), 0);
    assert_eq!(world.status(WEB).state, ServiceState::Unhealthy);
    assert!(world.status(WEB).message.contains("the process exited with code 3"));
    // The same file again is another try.
    world.broken.clear();
    let applied = world.apply("production", &[("web", web("hello:1", 2))]);
    assert_eq!(applied[0].change, Change::Retry { failed: 1 });
    world.settle();
    assert_eq!(world.running().len(), 2);
}

/// A failed deployment with four jobs is going back to two.
fn reverting() -> World {
    let mut world = running_two(2, 2);
    world.apply("production", &[("web", web("hello:2", 4))]);
    while world.last_deployment(WEB).phase != DeploymentPhase::Reverting {
        world.turn();
    }
    world
}

#[test]
fn scaling_while_a_deployment_goes_back_scales_what_it_goes_back_to() {
    let mut world = reverting();
    world.run(Command::Scale { service: path(WEB), scale: 4 }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.3=r1", "node-2: web.2=r1", "node-2: web.4=r1"]);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_redeploy_while_a_deployment_goes_back_renews_what_it_goes_back_to() {
    let mut world = reverting();
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_rollback_after_a_failed_deployment_keeps_as_many_jobs_as_run() {
    let mut world = running_two(2, 2);
    world.broken.clear();
    world.apply("production", &[("web", web("hello:2", 2))]);
    world.settle();
    world.broken.insert("hello@sha256:3".into());
    world.images.insert("hello:3".into(), Ok("hello@sha256:3".into()));
    world.apply("production", &[("web", web("hello:3", 4))]);
    world.settle();
    world.run(Command::Rollback { service: path(WEB), to: None }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
}

#[test]
fn a_job_that_was_given_up_long_ago_does_not_fail_a_deployment_that_begins_now() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    world.broken.insert("hello@sha256:1".into());
    world.cut(1);
    world.wait(Millis::secs(8));
    world.settle();
    assert!(world.why(WEB)[0].contains("was given up"), "{:?}", world.why(WEB));
    world.broken.clear();
    world.run(Command::Scale { service: path(WEB), scale: 2 }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "{:?}", world.why(WEB));
}

#[test]
fn an_image_that_nobody_finds_fails_the_deployment_and_changes_nothing() {
    let mut world = running_two(1, 1);
    let generation = world.cluster.get::<Node>(&NodeId(1)).unwrap().generation;
    world.run(Command::Deploy { service: path(WEB), image: "helo:1".into() }).unwrap();
    world.settle();
    assert_eq!(
        world.why(WEB),
        ["deployment 2 failed: the image helo:1 cannot be looked up: node-1 says: manifest unknown"]
    );
    assert_eq!(world.cluster.get::<Node>(&NodeId(1)).unwrap().generation, generation);
    assert_eq!(world.service(WEB).last_revision, 1);
}

#[test]
fn more_jobs_that_fail_leave_as_many_as_before() {
    let mut world = running_two(2, 2);
    world.broken.insert("hello@sha256:1".into());
    world.run(Command::Scale { service: path(WEB), scale: 5 }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_eq!(world.service(WEB).active.unwrap().scale, 2);
}

#[test]
fn a_redeploy_that_fails_ends_and_keeps_what_ran() {
    let mut world = running_two(1, 2);
    let before = world.agents[&NodeId(1)].current.clone();
    world.broken.insert("hello@sha256:1".into());
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.agents[&NodeId(1)].current, before);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
}

#[test]
fn going_back_ends_even_if_the_old_revision_does_not_run_any_more() {
    let mut world = running_two(2, 2);
    world.broken.clear();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    while world.running() != ["node-1: web.1=r2", "node-2: web.2=r1"] {
        world.turn();
    }
    world.broken.extend(["hello@sha256:1".into(), "hello@sha256:2".into()]);
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-2: web.2=r1"], "the agent kept what serves");
}

#[test]
fn a_failed_deployment_after_a_superseded_one_goes_back_to_what_was_complete() {
    let mut world = running_two(2, 4);
    world.broken.clear();
    world.run(Command::Deploy { service: path(WEB), image: "hello:3".into() }).unwrap();
    while !world.running().contains(&"node-1: web.1=r2".into()) {
        world.turn();
    }
    world.run(Command::Deploy { service: path(WEB), image: "nobody:1".into() }).unwrap();
    world.settle();
    assert!(world.running().iter().all(|line| line.ends_with("=r1")), "{:?}", world.running());
}

#[test]
fn an_applied_file_that_is_as_before_goes_back_to_nothing() {
    let mut world = running_two(1, 1);
    let applied = world.apply("production", &[("web", web("hello:1", 1))]);
    assert_eq!((applied[0].change, applied[0].deployment), (Change::None, None));
    assert_eq!(world.service(WEB).last_deployment, 1);
}
