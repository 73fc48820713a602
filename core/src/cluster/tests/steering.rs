use super::world::*;
use crate::assignment::Traffic;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::status::ServiceState;
use crate::cluster::tests::agent::crash;
use crate::cluster::trial::Steer;
use crate::ids::{JobId, NodeId};
use crate::report::{Health, NodeReport, ReplacementPhase, ReplacementReport, StrayReport, trouble_with_container};
use crate::spec::{CanaryStep, ServiceSpec, Strategy};
use crate::time::Millis;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn spec(image: &str, scale: u32, strategy: Strategy) -> ServiceSpec {
    let mut spec = web(image, scale);
    spec.deploy.strategy = strategy;
    if strategy == Strategy::Canary {
        let step = |weight, hold| CanaryStep { weight, hold };
        spec.deploy.steps = vec![step(10, Some(Millis::secs(60))), step(60, None)];
    }
    spec
}

/// Two nodes and four jobs of hello:1; hello:2 is there to be deployed in this way.
fn running(strategy: Strategy) -> World {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", spec("hello:1", 4, strategy))]);
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "the first one holds nothing back");
    world
}

fn deploy(world: &mut World, image: &str) {
    world.run(Command::Deploy { service: path(WEB), image: image.into() }).unwrap();
}

/// The first step of a canary of hello:2.
fn showing() -> World {
    let mut world = running(Strategy::Canary);
    deploy(&mut world, "hello:2");
    world.settle();
    world
}

/// A deployment of hello:2 that has gone on for so many turns.
fn under_way(strategy: Strategy, turns: u32) -> World {
    let mut world = running(strategy);
    deploy(&mut world, "hello:2");
    for _ in 0..turns {
        world.turn();
    }
    world
}

fn steer(world: &mut World, how: Steer) -> Result<Outcome, Vec<Refusal>> {
    let number = world.last_deployment(WEB).number;
    world.run(Command::Steer { service: path(WEB), number, how })
}

/// Lets everything happen, and releases whatever is held.
#[track_caller]
fn release_to_its_end(world: &mut World) {
    for _ in 0..3 {
        world.settle();
        let _ = steer(world, Steer::Release);
    }
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "{:?}", world.why(WEB));
}

fn shares(world: &World) -> Vec<(u32, Traffic)> {
    world.agents.values().flat_map(|agent| agent.shares()).collect()
}

const ALL_OLD: [&str; 4] = ["node-1: web.1=r1", "node-1: web.3=r1", "node-2: web.2=r1", "node-2: web.4=r1"];
const ALL_NEW: [&str; 4] = ["node-1: web.1=r2", "node-1: web.3=r2", "node-2: web.2=r2", "node-2: web.4=r2"];

#[test]
fn blue_green_moves_no_traffic_before_every_job_on_every_node_is_ready() {
    let mut world = running(Strategy::BlueGreen);
    deploy(&mut world, "hello:2");
    let mut most_held = 0;
    while world.last_deployment(WEB).phase != DeploymentPhase::Complete {
        assert!(world.turn(), "{:?}", world.why(WEB));
        let held = shares(&world);
        assert!(held.iter().all(|(_, traffic)| *traffic == Traffic::Held));
        most_held = most_held.max(held.len());
        if most_held < 4 {
            assert_eq!(world.running(), ALL_OLD);
        }
    }
    assert_eq!((world.running(), most_held), (ALL_NEW.map(Into::into).to_vec(), 4));
}

#[test]
fn blue_green_goes_back_when_one_of_its_jobs_fails_and_nothing_was_touched() {
    let mut world = running(Strategy::BlueGreen);
    world.broken.insert("hello@sha256:2".into());
    deploy(&mut world, "hello:2");
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(world.running(), ALL_OLD);
    assert!(shares(&world).is_empty());
    assert_eq!(world.status(WEB).healthy, 4);
}

#[test]
fn a_canary_begins_with_its_share_of_every_nodes_slots_and_goes_on_when_its_time_is_over() {
    let mut world = showing();
    assert_eq!(shares(&world), [(1, Traffic::Share(10)), (2, Traffic::Share(10))], "one slot on each node");
    assert_eq!(
        world.why(WEB),
        ["shop/production/web waits: the canary has 10 % of the requests, step 1 of 2; the next follows in 60 s"]
    );
    world.wait(Millis::secs(61));
    world.settle();
    let sixty = Traffic::Share(60);
    assert_eq!(shares(&world), [(1, sixty), (3, sixty), (2, sixty), (4, sixty)]);
    world.wait(Millis::secs(3_600));
    world.settle();
    assert_eq!(
        world.why(WEB),
        ["shop/production/web waits: the canary has 60 % of the requests, step 2 of 2; it goes on with `lap release`"]
    );
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    assert_eq!(world.running(), ALL_NEW);
}

#[test]
fn a_canary_that_is_held_stays_at_its_step_until_it_is_released() {
    let mut world = showing();
    steer(&mut world, Steer::Hold).unwrap();
    assert_eq!(steer(&mut world, Steer::Hold).unwrap().answer, Answer::Unchanged);
    world.wait(Millis::secs(3_600));
    world.settle();
    assert_eq!(shares(&world).len(), 2);
    assert!(world.why(WEB)[0].ends_with("it is held until `lap release`"), "{:?}", world.why(WEB));
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    assert_eq!(shares(&world).len(), 4);
    steer(&mut world, Steer::ReleaseAll).unwrap();
    world.settle();
    assert_eq!(world.running(), ALL_NEW);
}

#[test]
fn a_canary_with_a_job_that_fails_goes_back_by_itself() {
    let mut world = running(Strategy::Canary);
    world.broken.insert("hello@sha256:2".into());
    deploy(&mut world, "hello:2");
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(world.running(), ALL_OLD);
}

#[test]
fn a_cancelled_deployment_goes_back_and_is_no_failure_of_the_service() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen, Strategy::Rolling, Strategy::Recreate] {
        for turns in 0..25 {
            let mut world = under_way(strategy, turns);
            if steer(&mut world, Steer::Cancel).is_err() {
                assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
                continue;
            }
            world.settle();
            assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Cancelled, "{strategy:?} after {turns}");
            assert_eq!(world.running(), ALL_OLD, "{strategy:?} after {turns}");
            assert_eq!(world.status(WEB).state, ServiceState::Healthy, "{strategy:?} after {turns}");
            assert!(shares(&world).is_empty());
        }
    }
}

#[test]
fn the_same_file_after_a_cancelled_deployment_is_another_try() {
    let mut world = running(Strategy::Canary);
    let file = [("web", spec("hello:2", 4, Strategy::Canary))];
    world.apply("production", &file);
    world.settle();
    steer(&mut world, Steer::Cancel).unwrap();
    world.settle();
    assert_eq!(world.apply("production", &file)[0].change, Change::Retry { failed: 2 });
}

#[test]
fn what_has_ended_or_holds_nothing_back_cannot_be_steered_and_says_why() {
    let mut world = running(Strategy::Rolling);
    let refused = steer(&mut world, Steer::Cancel).unwrap_err();
    assert_eq!(refused[0].sentence, "deployment 1 of shop/production/web is complete already");
    deploy(&mut world, "hello:2");
    let refused = steer(&mut world, Steer::Release).unwrap_err();
    assert_eq!(refused[0].sentence, "deployment 2 of shop/production/web holds nothing back");
    let refused = world.run(Command::Steer { service: path(WEB), number: 9, how: Steer::Cancel }).unwrap_err();
    assert_eq!(refused[0].sentence, "shop/production/web has no deployment 9");
    steer(&mut world, Steer::Cancel).unwrap();
    assert_eq!(
        steer(&mut world, Steer::Cancel).unwrap_err()[0].sentence,
        "deployment 2 of shop/production/web is going back already"
    );
}

#[test]
fn a_newer_deployment_takes_over_from_one_that_shows_itself() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen] {
        for turns in 0..25 {
            let mut world = under_way(strategy, turns);
            world.images.insert("hello:3".into(), Ok("hello@sha256:3".into()));
            deploy(&mut world, "hello:3");
            release_to_its_end(&mut world);
            let revision = world.last_deployment(WEB).revision.map_or(String::new(), |number| format!("=r{number}"));
            assert!(world.running().iter().all(|it| it.ends_with(&revision)), "{:?} after {turns}", world.running());
        }
    }
}

#[test]
fn a_canary_that_is_superseded_gets_nothing_more_while_the_next_one_shows_itself() {
    let mut world = showing();
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    assert_eq!(shares(&world).len(), 4, "all four show hello:2");
    world.images.insert("hello:3".into(), Ok("hello@sha256:3".into()));
    deploy(&mut world, "hello:3");
    world.settle();
    assert_eq!(shares(&world), [(1, Traffic::Share(10)), (2, Traffic::Share(10))]);
    assert_eq!(world.running(), ALL_OLD);
    // The same where the next one does not show itself, and its nodes take turns.
    world.apply("production", &[("web", spec("hello:1", 4, Strategy::Rolling))]);
    while world.turn() {
        assert!(shares(&world).iter().all(|(_, traffic)| *traffic == Traffic::Share(10)));
        assert!(world.running().iter().all(|it| !it.ends_with("=r2") && !it.ends_with("=r3")), "{:?}", world.running());
    }
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_canary_that_is_taken_back_gets_nothing_more_when_a_node_loses_its_ledger_meanwhile() {
    for knows_of_it in [false, true] {
        let mut world = showing();
        if !knows_of_it {
            world.cut(1);
        }
        world.run(Command::Rollback { service: path(WEB), to: None }).unwrap();
        world.settle();
        world.lose_ledger(1);
        world.connect(1);
        while world.turn() {
            assert!(world.running().iter().all(|it| it.ends_with("=r1")), "{:?}", world.running());
        }
        world.wait(Millis::secs(61));
        steer(&mut world, Steer::Release).unwrap();
        world.settle();
        assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "{:?}", world.why(WEB));
        assert_eq!((world.running(), shares(&world)), (ALL_OLD.map(Into::into).to_vec(), vec![]));
    }
}

#[test]
fn a_redeploy_that_only_showed_itself_is_taken_back_when_what_superseded_it_fails() {
    for fails_early in [true, false] {
        let mut world = running(Strategy::Canary);
        world.run(Command::Redeploy { service: path(WEB) }).unwrap();
        world.settle();
        assert_eq!(shares(&world).len(), 2);
        world.broken.insert("hello@sha256:2".into());
        let image = if fails_early { "helo:1" } else { "hello:2" };
        world.apply("production", &[("web", spec(image, 1, Strategy::Rolling))]);
        world.settle();
        assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
        assert_eq!((shares(&world), world.running()), (vec![], ALL_OLD.map(Into::into).to_vec()));
    }
}

#[test]
fn more_jobs_of_what_only_shows_itself_are_released_with_it() {
    for strategy in [Strategy::Canary, Strategy::BlueGreen] {
        for turns in 0..25 {
            let mut world = under_way(strategy, turns);
            world.run(Command::Scale { service: path(WEB), scale: 6 }).unwrap();
            release_to_its_end(&mut world);
            assert_eq!(world.running().len(), 6);
            assert!(world.running().iter().all(|it| it.ends_with("=r2")), "{:?} after {turns}", world.running());
        }
    }
}

#[test]
fn a_node_that_is_lost_while_a_canary_shows_itself_is_made_good_with_what_serves() {
    let mut world = showing();
    world.cut(1);
    world.wait(Millis::secs(10));
    world.settle();
    let running = world.running();
    let on_two: Vec<_> = running.iter().filter(|it| it.starts_with("node-2")).collect();
    assert_eq!(on_two.len(), 4, "{running:?}: {:?}", world.why(WEB));
    assert!(on_two.iter().all(|it| it.ends_with("=r1")), "{running:?}");
}

#[test]
fn a_new_controller_lets_a_canarys_step_last_its_whole_time_again() {
    let mut world = showing();
    world.wait(Millis::secs(50));
    world.restart_controller();
    world.settle();
    world.wait(Millis::secs(50));
    world.settle();
    assert_eq!(shares(&world).len(), 2);
    world.wait(Millis::secs(20));
    world.settle();
    assert_eq!(shares(&world).len(), 4);
}

#[test]
fn what_ends_before_its_successor_starts_is_announced_and_nothing_else_is() {
    let warned = |before: (u32, Strategy), after: ServiceSpec| {
        let mut world = World::with_nodes(2);
        world.apply("production", &[("web", spec("hello:1", before.0, before.1))]);
        world.settle();
        world.apply("production", &[("web", after)])[0].warnings.clone()
    };
    let one = warned((1, Strategy::Rolling), spec("hello:2", 1, Strategy::Recreate));
    assert!(one[0].starts_with("shop/production/web: down-time: nothing answers while 1 job is replaced: "), "{one:?}");
    let four = warned((4, Strategy::Rolling), spec("hello:2", 4, Strategy::Recreate));
    assert!(four[0].starts_with("shop/production/web: of 4 jobs only 3 serve at times: "), "{four:?}");
    let mut some = spec("hello:2", 4, Strategy::Rolling);
    some.deploy.max_unavailable = 2;
    let some = warned((4, Strategy::Rolling), some);
    assert!(some[0].starts_with("shop/production/web: of 4 jobs only 2 serve at times: "), "{some:?}");
    for strategy in [Strategy::Rolling, Strategy::BlueGreen, Strategy::Canary] {
        assert_eq!(warned((4, Strategy::Rolling), spec("hello:2", 4, strategy)), Vec::<String>::new());
    }
    assert_eq!(warned((1, Strategy::Recreate), spec("hello:1", 2, Strategy::Recreate)), Vec::<String>::new());
}

#[test]
fn another_number_of_jobs_leaves_a_canary_that_is_held_where_it_is() {
    let mut world = showing();
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    steer(&mut world, Steer::Hold).unwrap();
    for scale in [6, 5] {
        world.run(Command::Scale { service: path(WEB), scale }).unwrap();
        world.settle();
        world.wait(Millis::secs(3_600));
        world.settle();
        let sixty = Traffic::Share(60);
        assert!(shares(&world).len() >= 4 && shares(&world).iter().all(|it| it.1 == sixty), "{:?}", shares(&world));
        assert!(world.why(WEB)[0].ends_with("step 2 of 2; it is held until `lap release`"), "{:?}", world.why(WEB));
    }
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    assert_eq!(world.running().len(), 5);
}

#[test]
fn another_number_of_jobs_holds_nothing_back_that_was_released() {
    for turns in 0..12 {
        let mut world = showing();
        steer(&mut world, Steer::ReleaseAll).unwrap();
        for _ in 0..turns {
            world.turn();
        }
        world.run(Command::Scale { service: path(WEB), scale: 6 }).unwrap();
        world.settle();
        assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "{:?}", world.why(WEB));
        assert!(world.running().iter().all(|it| it.ends_with("=r2")), "{:?}", world.running());
    }
}

#[test]
fn a_canary_does_not_go_on_while_a_node_that_shows_it_is_silent() {
    let mut world = showing();
    world.wait(Millis::secs(58));
    world.cut(2);
    world.wait(Millis::secs(3));
    world.settle();
    assert_eq!(shares(&world), [(1, Traffic::Share(10)), (2, Traffic::Share(10))]);
    let why = world.why(WEB);
    assert!(why.iter().any(|said| said.contains("node-2 has been silent for")), "{why:?}");
    world.connect(2);
    world.settle();
    assert_eq!(shares(&world).len(), 4);
}

#[test]
fn nothing_is_released_while_a_job_that_shows_itself_is_not_healthy() {
    let mut world = showing();
    let set_health = |world: &mut World, health| {
        let agent = world.agents.get_mut(&NodeId(2)).unwrap();
        let new: Vec<JobId> = agent.replacements.values().filter_map(|it| it.new).collect();
        new.iter().for_each(|job| agent.jobs.get_mut(job).unwrap().health = health);
        world.report(NodeId(2));
        world.settle();
    };
    for (health, said) in [
        (Health::Unhealthy, "web.2 waits: its job on node-2 shows itself and is not healthy"),
        (Health::Unknown, "web.2 waits: its job on node-2 shows itself, and how it is nobody knows"),
    ] {
        set_health(&mut world, health);
        world.wait(Millis::secs(61));
        world.settle();
        assert_eq!(shares(&world).len(), 2, "{health:?}");
        assert_eq!(world.why(WEB), [format!("shop/production/web: {said}")]);
    }
    set_health(&mut world, Health::Healthy);
    assert_eq!(shares(&world).len(), 4);
}

#[test]
fn a_rollback_of_a_half_done_canary_does_not_wait_for_the_health_of_old_jobs() {
    let mut world = showing();
    steer(&mut world, Steer::ReleaseAll).unwrap();
    let is_half_done = |world: &World| world.running().iter().filter(|it| it.ends_with("=r2")).count() == 2;
    while !is_half_done(&world) {
        assert!(world.turn(), "{:?}", world.why(WEB));
    }
    let old = world.agents.iter().find_map(|(node, agent)| {
        let of_first = agent.current.values().find(|job| agent.runs[*job].0 == 1);
        Some((*node, *of_first?))
    });
    let (node, job) = old.expect("half of them are old");
    world.agents.get_mut(&node).unwrap().jobs.get_mut(&job).unwrap().health = Health::Unhealthy;
    world.report(node);
    world.run(Command::Rollback { service: path(WEB), to: None }).unwrap();
    world.settle();
    world.wait(Millis::secs(61));
    world.settle();
    assert!(world.why(WEB)[0].ends_with("step 2 of 2; it goes on with `lap release`"), "{:?}", world.why(WEB));
    steer(&mut world, Steer::Release).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "{:?}", world.why(WEB));
    assert_eq!(world.running(), ALL_OLD);
}

#[test]
fn the_jobs_that_serve_go_on_when_a_node_loses_its_ledger_while_others_wait_beside_them() {
    for strategy in [Strategy::BlueGreen, Strategy::Canary] {
        for turns in 0..25 {
            let mut world = under_way(strategy, turns);
            let waited = shares(&world).len();
            let served = world.agents[&NodeId(1)].current.clone();
            world.lose_ledger(1);
            let agent = &world.agents[&NodeId(1)];
            if waited > 0 {
                assert_eq!(agent.current, served, "{strategy:?} after {turns}: what served was known again");
            }
            release_to_its_end(&mut world);
            assert_eq!(world.running(), ALL_NEW, "{strategy:?} after {turns}");
        }
    }
}

#[test]
fn a_node_whose_service_shows_itself_is_still_named_to_the_others() {
    for strategy in [Strategy::BlueGreen, Strategy::Canary, Strategy::Rolling] {
        let mut world = running(strategy);
        deploy(&mut world, "hello:2");
        while world.turn() {
            let elsewhere = world.cluster.elsewhere(NodeId(1));
            assert_eq!(elsewhere[0].nodes, ["node-2"], "{strategy:?}: its old jobs serve");
        }
    }
}

#[test]
fn why_says_who_cancelled_a_deployment_and_not_that_it_failed() {
    let mut world = showing();
    steer(&mut world, Steer::Cancel).unwrap();
    assert_eq!(world.why(WEB)[0], "deployment 2 is going back: ada cancelled it");
    world.settle();
    assert_eq!(world.why(WEB), ["deployment 2 was cancelled by ada"]);
}

#[test]
fn nothing_is_announced_to_go_down_of_a_service_that_is_paused() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", spec("hello:1", 1, Strategy::Recreate))]);
    world.settle();
    world.run(Command::Pause { which: Which::Service(path(WEB)), reason: None }).unwrap();
    world.settle();
    let warnings = world.apply("production", &[("web", spec("hello:2", 1, Strategy::Recreate))])[0].warnings.clone();
    assert!(!warnings.iter().any(|warning| warning.contains("down-time")), "{warnings:?}");
}

#[test]
fn what_goes_back_waits_until_a_node_without_a_ledger_has_said_what_it_has() {
    let mut world = showing();
    let untold = world.cluster.slots_on(NodeId(2)).next().unwrap().clone();
    world.live.untold.insert((untold.node, untold.id.clone()));
    steer(&mut world, Steer::Cancel).unwrap();
    world.look(untold.id.service);
    assert_eq!(world.cluster.get::<Slot>(&untold.id).unwrap().job, untold.job);
    assert!(world.why(WEB).iter().any(|said| said.contains("web.2 waits")), "{:?}", world.why(WEB));
    // Another node's word is none of its own.
    let mut told = world.agents[&NodeId(1)].report();
    told.jobs.extend(world.agents[&NodeId(2)].report().jobs);
    world.take_report(NodeId(1), world.agents[&NodeId(1)].session, told);
    assert!(world.live.is_untold(&untold));
    world.report(NodeId(2));
    assert!(!world.live.is_untold(&untold));
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Cancelled);
    assert_eq!(world.running(), ALL_OLD);
}

#[test]
fn what_goes_back_waits_for_a_node_that_a_restarted_controller_has_not_heard_yet() {
    let mut world = showing();
    let shown: Vec<Slot> = world.cluster.slots_on(NodeId(2)).cloned().collect();
    world.cut(2);
    world.restart_controller();
    steer(&mut world, Steer::Cancel).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Reverting);
    for slot in &shown {
        let now = world.cluster.get::<Slot>(&slot.id).unwrap();
        assert_eq!(now.job, slot.job, "it may have lost its ledger, and run what it had");
    }
    world.connect(2);
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Cancelled);
    assert_eq!(world.running(), ALL_OLD);
}

#[test]
fn what_goes_back_says_what_keeps_a_node_from_telling_what_it_has_and_does_not_wait_for_one_container_only() {
    let mut world = showing();
    let untold = world.cluster.slots_on(NodeId(2)).next().unwrap().clone();
    world.live.untold.insert((untold.node, untold.id.clone()));
    let agent = world.agents.get_mut(&NodeId(2)).unwrap();
    agent.connected = false;
    let (session, mut told) = (agent.session, agent.report());
    let job = untold.job.unwrap().job;
    told.jobs.retain(|it| it.slot != untold.id);
    told.replacements.retain(|it| it.slot != untold.id);
    let engine = String::from("the container engine does not answer: no socket");
    let blind =
        NodeReport { strays_unclear: true, troubles: vec![engine, "its disk is nearly full".into()], ..told.clone() };
    world.take_report(NodeId(2), session, blind);
    steer(&mut world, Steer::Cancel).unwrap();
    world.look(untold.id.service);
    assert_eq!(world.cluster.get::<Slot>(&untold.id).unwrap().job, untold.job);
    let why = "web.2 waits: node-2 has forgotten what it has of it, and has not yet found out: the container engine does not \
               answer: no socket";
    assert!(world.why(WEB).iter().any(|said| said.ends_with(why)), "{:?}", world.why(WEB));
    // Its engine answers, and tells nothing of that one container.
    told.troubles = vec![format!("{}: no such file", trouble_with_container(job))];
    told.strays = vec![StrayReport { job, slot: untold.id.clone() }];
    world.take_report(NodeId(2), session, told);
    world.agents.get_mut(&NodeId(2)).unwrap().connected = true;
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Cancelled);
    assert_eq!(world.running(), ALL_OLD);
}

#[test]
fn a_node_without_a_ledger_has_nothing_of_a_slot_that_it_holds_back_because_another_failed() {
    let mut world = running(Strategy::Rolling);
    let slots: Vec<Slot> = world.cluster.slots_on(NodeId(1)).cloned().collect();
    world.live.untold.extend(slots.iter().map(|slot| (slot.node, slot.id.clone())));
    let agent = &world.agents[&NodeId(1)];
    let (session, mut told) = (agent.session, agent.report());
    let (held_back, failed) = (slots[0].clone(), slots[1].clone());
    told.jobs.retain(|job| job.job == failed.job.unwrap().job);
    told.replacements = vec![ReplacementReport {
        slot: failed.id.clone(),
        deployment: failed.job.unwrap().deployment,
        old: None,
        new: failed.job.map(|job| job.job),
        phase: ReplacementPhase::Abandoned,
        reached: vec![],
        stopped_at: None,
        good_at: None,
        bad_answer: None,
        failure: Some(crash()),
        waits_for: None,
    }];
    world.take_report(NodeId(1), session, told);
    assert!(!world.live.is_untold(&held_back), "its agent has looked at its containers");
}
