//! Cordons, labels, constraints and quotas.

use super::world::*;
use crate::cluster::command::{Answer, Command, Which};
use crate::cluster::state::{DeploymentPhase, Node, Slot};
use crate::ids::NodeId;
use crate::quota::Good;
use crate::spec::{ReleaseCommand, ServiceSpec, Strategy};
use crate::time::Millis;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

pub fn label(node: u128, set: &[(&str, &str)], remove: &[&str]) -> Command {
    let set = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let remove: BTreeSet<String> = remove.iter().map(|key| key.to_string()).collect();
    Command::LabelNode { node: format!("node-{node}"), set, remove }
}

fn cordon(node: u128, reason: Option<&str>) -> Command {
    Command::CordonNode { node: format!("node-{node}"), reason: reason.map(String::from) }
}

fn bound_to(constraints: &[&str], tag: &str, scale: u32) -> ServiceSpec {
    let constraints = constraints.iter().map(|it| it.parse().unwrap()).collect();
    ServiceSpec { constraints, ..web(tag, scale) }
}

/// One job that another one comes instead of.
fn recreated(constraint: &str, tag: &str, replace_after: Millis) -> [(&'static str, ServiceSpec); 1] {
    let mut spec = ServiceSpec { replace_after, ..bound_to(&[constraint], tag, 1) };
    spec.deploy.strategy = Strategy::Recreate;
    [("web", spec)]
}

/// Two nodes in the zones `a` and `b`, and such a job in the second one.
fn on_the_second_of_two_nodes(replace_after: Millis) -> World {
    let mut world = World::with_zones();
    world.apply("production", &recreated("zone == b", "hello:1", replace_after));
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1"]);
    world
}

fn quota(environment: Option<&str>, limits: &[(Good, Option<u64>)]) -> Command {
    let environment = environment.map(String::from);
    Command::SetQuota { application: "shop".into(), environment, limits: limits.iter().copied().collect() }
}

#[test]
fn a_service_that_waits_for_a_cordoned_node_says_who_cordoned_it_and_starts_when_it_is_opened() {
    let mut world = World::with_nodes(1);
    world.run(cordon(1, Some("disk swap"))).unwrap();
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    let why =
        "shop/production/web waits: no node of shop/production can take it: node-1: it is cordoned by ada: disk swap";
    assert!(world.why("shop/production/web").contains(&why.to_string()), "{:?}", world.why("shop/production/web"));
    let outcome = world.run(Command::UncordonNode { node: "node-1".into() }).unwrap();
    assert_eq!(outcome.touched.len(), 1, "who waits is looked at at once");
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
}

#[test]
fn cordoning_twice_changes_nothing_and_a_reason_is_one_plain_line() {
    let mut world = World::with_nodes(1);
    assert_eq!(world.run(cordon(1, Some("disk swap"))).unwrap().answer, Answer::Recorded);
    let node = world.cluster.get::<Node>(&NodeId(1)).cloned();
    for again in [cordon(1, Some("disk swap")), cordon(1, None)] {
        assert_eq!(world.run(again).unwrap().answer, Answer::Unchanged);
        assert_eq!(world.cluster.get::<Node>(&NodeId(1)).cloned(), node);
    }
    for reason in ["a\nb", "a\u{1b}[2J", "\u{202e}evil", &"x".repeat(201)] {
        let refusals = world.run(cordon(1, Some(reason))).unwrap_err();
        assert!(!refusals[0].sentence.contains(crate::quote::is_acting), "{:?}", refusals[0].sentence);
    }
    assert_eq!(world.run(Command::UncordonNode { node: "node-1".into() }).unwrap().answer, Answer::Recorded);
    assert_eq!(world.run(Command::UncordonNode { node: "node-1".into() }).unwrap().answer, Answer::Unchanged);
}

#[test]
fn jobs_come_only_to_nodes_whose_labels_the_service_asks_for() {
    let mut world = World::with_nodes(3);
    world.run(label(1, &[("zone", "a")], &[])).unwrap();
    world.run(label(2, &[("zone", "b")], &[])).unwrap();
    world.apply("production", &[("web", bound_to(&["zone == a"], "hello:1", 3))]);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.2=r1", "node-1: web.3=r1"]);
}

#[test]
fn a_service_that_no_node_fits_names_each_label_and_starts_when_a_node_gets_it() {
    let mut world = World::with_nodes(2);
    world.run(label(1, &[("zone", "b")], &[])).unwrap();
    world.apply("production", &[("web", bound_to(&["zone == a"], "hello:1", 1))]);
    world.settle();
    let why = world.why("shop/production/web");
    let nodes = "node-1: its label zone is b, a is wanted; node-2: it has no label zone, a is wanted";
    assert!(why.iter().any(|said| said.contains(nodes)), "{why:?}");
    assert_eq!(world.run(label(2, &[("zone", "a")], &[])).unwrap().touched.len(), 1);
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r1"]);
}

#[test]
fn a_label_that_changes_moves_nothing_and_says_what_no_longer_fits() {
    let mut world = World::with_nodes(2);
    world.run(label(1, &[("zone", "a")], &[])).unwrap();
    world.run(label(2, &[("zone", "a")], &[])).unwrap();
    world.apply("production", &[("web", bound_to(&["zone == a"], "hello:1", 2))]);
    world.settle();
    let outcome = world.run(label(1, &[("zone", "b")], &[])).unwrap();
    assert_eq!(outcome.warnings.len(), 1, "{:?}", outcome.warnings);
    assert!(outcome.warnings[0].contains("stays on node-1 until its next deployment, though its label zone is b"));
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    let why = world.why("shop/production/web");
    assert!(why.iter().any(|said| said.contains("its label zone is b, a is wanted")), "{why:?}");
}

#[test]
fn a_revision_that_asks_for_other_nodes_moves_its_slots_one_after_the_other_and_plan_says_so() {
    let mut world = World::with_zones();
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    let bound = || [("web", bound_to(&["zone == a"], "hello:1", 2))];
    let planned = world.cluster.plan(&ada(), &file("production", &bound()), world.wall()).unwrap();
    let warning = "shop/production/web: web.2 is on node-2, though its label zone is b, a is wanted: a deployment ends it there and starts it on another node";
    assert_eq!(planned[0].warnings, [warning]);
    world.apply("production", &bound());
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: web.2=r2"]);
    let moved = world.events.iter().find(|event| event.sentence.contains("moved from node-2 to node-1"));
    assert!(moved.is_some_and(|event| event.sentence.ends_with("its label zone is b, a is wanted")));
}

#[test]
fn a_recreated_slot_that_moves_starts_only_when_the_node_that_it_leaves_has_ended_it_or_is_lost() {
    for cut in [false, true] {
        let mut world = on_the_second_of_two_nodes(Millis(0));
        if cut {
            world.cut(2);
        }
        world.apply("production", &recreated("zone == a", "hello:2", Millis(0)));
        let up = |world: &World| {
            let jobs = world.agents.values().flat_map(|agent| agent.jobs.values());
            jobs.filter(|job| !job.phase.is_final()).count()
        };
        if cut {
            world.wait(Millis::secs(4));
            world.settle();
            assert_eq!(world.running(), ["node-2: web.1=r1"]);
            let why = world.why("shop/production/web");
            assert!(why.iter().any(|said| said.contains("node-2 has been silent for")), "{why:?}");
            world.wait(Millis::secs(4));
            world.settle();
            assert_eq!(world.running(), ["node-1: web.1=r2", "node-2: web.1=r1"], "it is lost by now");
            world.connect(2);
        }
        while world.turn() {
            assert!(cut || up(&world) <= 1, "two at once");
        }
        world.settle();
        assert_eq!(world.running(), ["node-1: web.1=r2"]);
        assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Complete);
    }
}

#[test]
fn a_recreated_slot_that_moves_waits_for_its_lost_node_as_long_as_the_spec_says_unless_that_is_taken_away() {
    for forced in [false, true] {
        let mut world = on_the_second_of_two_nodes(Millis::secs(60));
        world.cut(2);
        world.wait(Millis::secs(10));
        world.apply("production", &recreated("zone == a", "hello:2", Millis::secs(60)));
        world.wait(Millis::secs(20));
        world.settle();
        assert_eq!(world.running(), ["node-2: web.1=r1"], "it is lost, and may come back");
        let why = world.why("shop/production/web");
        assert!(why.iter().any(|said| said.contains("its jobs start elsewhere in")), "{why:?}");
        if forced {
            let (application, environment, node) = ("shop".into(), "production".into(), "node-2".into());
            world.run(Command::DetachNode { application, environment, node, force: true }).unwrap();
        } else {
            world.wait(Millis::secs(60));
        }
        world.settle();
        assert_eq!(world.running(), ["node-1: web.1=r2", "node-2: web.1=r1"]);
        assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Complete);
    }
}

#[test]
fn a_revision_that_no_node_fits_changes_nothing_and_plan_warns() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let bound = || [("web", bound_to(&["zone == a"], "hello:2", 2))];
    let planned = world.cluster.plan(&ada(), &file("production", &bound()), world.wall()).unwrap();
    assert!(
        planned[0].warnings[0].contains("no node of shop/production is what it asks for: node-1: it has no label zone")
    );
    world.apply("production", &bound());
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"], "the old revision serves on");
    world.run(label(2, &[("zone", "a")], &[])).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-2: web.1=r2", "node-2: web.2=r2"]);
}

#[test]
fn a_recreated_slot_that_was_emptied_for_its_move_runs_what_is_active_until_a_newer_deployment_begins() {
    use DeploymentPhase::{Placing, Preparing, Queued, Resolving};
    for phase in [Queued, Resolving, Preparing, Placing] {
        let mut world = on_the_second_of_two_nodes(Millis(0));
        world.apply("production", &recreated("zone == a", "hello:2", Millis(0)));
        let is_empty = |world: &World| world.cluster.all::<Slot>().all(|slot| slot.job.is_none());
        while !is_empty(&world) {
            assert!(world.turn(), "{:?}", world.why("shop/production/web"));
        }
        // Nobody is in the zone `c`.
        let zone = if phase == Placing { "zone == c" } else { "zone == a" };
        let mut newer = recreated(zone, "hello:3", Millis(0));
        let spec = &mut newer[0].1;
        match phase {
            DeploymentPhase::Queued => drop(spec.secrets.insert("KEY".into(), "api-key".into())),
            DeploymentPhase::Preparing => {
                spec.deploy.release = Some(ReleaseCommand { command: vec!["hang".into()], timeout: Millis::secs(600) });
            }
            _ => {}
        }
        world.apply("production", &newer);
        if phase == DeploymentPhase::Resolving {
            world.look(world.service("shop/production/web").id);
            world.lose_questions();
        }
        world.settle();
        assert_eq!(world.last_deployment("shop/production/web").phase, phase);
        assert_eq!(world.running(), ["node-2: web.1=r1"], "{phase:?}");
        if phase == DeploymentPhase::Resolving {
            // The node that was asked is asked again.
            world.cut(1);
            world.connect(1);
            world.settle();
            assert_eq!(world.running(), ["node-1: web.1=r3"]);
        }
    }
}

#[test]
fn a_recreated_slot_whose_next_place_is_taken_while_it_ends_runs_what_is_active_until_there_is_one() {
    let mut world = on_the_second_of_two_nodes(Millis(0));
    world.apply("production", &recreated("zone == a", "hello:2", Millis(0)));
    while world.cluster.all::<Slot>().any(|slot| slot.job.is_some()) {
        assert!(world.turn(), "{:?}", world.why("shop/production/web"));
    }
    world.run(cordon(1, None)).unwrap();
    world.settle();
    assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Rolling);
    assert_eq!(world.running(), ["node-2: web.1=r1"]);
    let why = world.why("shop/production/web");
    assert!(why.iter().any(|said| said.contains("no node of shop/production can take it")), "{why:?}");
    world.run(Command::UncordonNode { node: "node-1".into() }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Complete);
    assert_eq!(world.running(), ["node-1: web.1=r2"]);
}

#[test]
fn of_a_lost_node_whose_slot_is_not_wanted_any_more_it_is_not_said_that_its_jobs_start_elsewhere() {
    let mut world = on_the_second_of_two_nodes(Millis::secs(60));
    world.run(Command::Pause { which: Which::Service(path("shop/production/web")), reason: None }).unwrap();
    world.look(world.service("shop/production/web").id);
    world.cut(2);
    world.wait(Millis::secs(10));
    let why = world.why("shop/production/web");
    assert!(why.iter().any(|said| said.contains("unless it comes back, it is waited for")), "{why:?}");
    assert!(!why.iter().any(|said| said.contains("start elsewhere")), "{why:?}");
}

#[test]
fn a_job_that_a_deployment_will_end_still_starts_elsewhere_while_that_deployment_has_no_place() {
    let mut world = World::with_zones();
    let replace_after = Millis::secs(60);
    world.apply("production", &[("web", ServiceSpec { replace_after, ..web("hello:1", 2) })]);
    world.settle();
    world.apply("production", &[("web", ServiceSpec { replace_after, ..bound_to(&["zone == c"], "hello:2", 1) })]);
    world.settle();
    assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Placing);
    world.cut(2);
    world.wait(Millis::secs(10));
    let why = world.why("shop/production/web");
    let moves = "web.2 waits: node-2 has been silent for 7 s; unless it comes back, its jobs start elsewhere in 60 s";
    assert!(why.iter().any(|said| said.ends_with(moves)), "{why:?}");
    world.wait(Millis::secs(60));
    assert_eq!(world.cluster.slots_on(NodeId(1)).count(), 2, "and so they do");
}

#[test]
fn wrong_labels_are_refused_all_at_once_and_none_is_set() {
    let mut world = World::with_nodes(1);
    let command = label(
        1,
        &[("zone", "a"), ("Zone", "a"), ("arch", "arm64"), ("disk", "../../etc"), ("x", "$(touch y)")],
        &["zone"],
    );
    let refusals = world.run(command).unwrap_err();
    let said: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert_eq!(world.cluster.get::<Node>(&NodeId(1)).unwrap().labels, BTreeMap::new());
    let many: Vec<(String, &str)> = (0..33).map(|i| (format!("l{i}"), "x")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    assert!(world.run(label(1, &many, &[])).unwrap_err()[0].sentence.contains("33 labels; 32 are allowed"));
}

#[test]
fn a_service_that_waits_for_room_is_looked_at_as_soon_as_another_leaves_some() {
    let mut world = World::with_nodes(1);
    let sized = |tag: &str, mib: u64| {
        let mut spec = web(tag, 1);
        spec.size.memory_bytes = mib * MIB;
        spec
    };
    let web = world.apply("production", &[("web", sized("hello:1", 600))])[0].service.unwrap();
    world.settle();
    let api = world.apply("production", &[("api", sized("hello:1", 600))])[0].service.unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
    world.apply("production", &[("web", sized("hello:2", 300))]);
    world.look(web);
    world.answer();
    world.queue.clear();
    world.look(web);
    assert!(world.queue.contains(&api), "no report of the node is waited for");
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: api.1=r1"]);
}

#[test]
fn the_seventeenth_service_of_an_application_is_refused_with_the_quota_named_until_an_operator_raises_it() {
    let mut world = World::with_nodes(1);
    for i in 0..16 {
        world.apply("production", &[(&format!("web-{i}"), web("hello:1", 1))]);
    }
    let seventeenth = || Command::Apply(file("production", &[("web-16", web("hello:1", 1))]));
    let refusals = world.run(seventeenth()).unwrap_err();
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].sentence, "shop would have 17 services; its quota \"services\" is 16 services");
    assert_eq!(refusals[0].place.as_deref(), Some("environments.production.services.web-16"));
    // The same name in another environment is the same service.
    world.run(Command::Apply(file("staging", &[("web-0", web("hello:1", 1))]))).unwrap();
    world.run(quota(None, &[(Good::Services, Some(17))])).unwrap();
    world.run(seventeenth()).unwrap();
    let outcome = world.run(quota(None, &[(Good::Services, None)])).unwrap();
    assert!(outcome.warnings[0].contains("17 services already, more than 16"), "{:?}", outcome.warnings);
    world.run(seventeenth()).unwrap();
}

#[test]
fn quotas_of_jobs_cores_and_memory_hold_for_apply_and_scale_and_all_are_said_at_once() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let one = web("hello:1", 1).size;
    world.run(quota(Some("production"), &[(Good::Jobs, Some(2)), (Good::Memory, Some(2 * one.memory_bytes))])).unwrap();
    world.run(quota(None, &[(Good::Cpu, Some(2 * u64::from(one.cpu_milli)))])).unwrap();
    let scale = |scale: u32| Command::Scale { service: path("shop/production/web"), scale };
    let apply = |scale: u32| Command::Apply(file("production", &[("web", web("hello:1", scale))]));
    for command in [scale(3), apply(3)] {
        let refusals = world.run(command).unwrap_err();
        let said: Vec<&str> = refusals.iter().map(|it| it.sentence.as_str()).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("shop would have") && said[0].contains("its quota \"cpu\""), "{said:?}");
        assert!(said[1].starts_with("shop/production would have 3 jobs; its quota \"jobs\" is 2 jobs"), "{said:?}");
        assert!(said[2].contains("its quota \"memory\""), "{said:?}");
    }
    world.run(scale(1)).unwrap();
    world.run(scale(2)).unwrap();
    world.run(Command::Rollback { service: path("shop/production/web"), to: Some(1) }).ok();
    assert_eq!(
        world.run(quota(None, &[(Good::Cpu, Some(2 * u64::from(one.cpu_milli)))])).unwrap().answer,
        Answer::Unchanged
    );
}
