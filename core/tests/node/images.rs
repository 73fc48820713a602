//! What becomes of the images that the agent brought, as sentences about the product.

use crate::world::*;
use lapstrake_core::assignment::{AssignmentSet, KeptImages};
use lapstrake_core::node::action::Action;
use lapstrake_core::node::disk::{Disk, Fullness};
use lapstrake_core::node::images::Brought;
use lapstrake_core::node::ledger::NotAccepted;
use lapstrake_core::node::plan;
use lapstrake_core::node::seen::{Image, Seen};
use lapstrake_core::report::ReplacementPhase as Phase;
use lapstrake_core::time::{Millis, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// A slot whose job 1 (`good`) was replaced by job 2 (`stubborn`).
fn replaced() -> World {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    replace(&mut world);
    world
}

fn replace(world: &mut World) {
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    world.until("job 2 runs alone", |world| world.phase(&slot(1, 1)) == Some(Phase::Done) && !world.is_up(1));
}

fn kept(names: &[&str]) -> Option<KeptImages> {
    Some(KeptImages { all: names.iter().map(|name| (*name).to_owned()).collect(), firm: BTreeSet::new() })
}

fn held(world: &World) -> Vec<&str> {
    world.images.keys().map(String::as_str).collect()
}

/// Looks at the disk anew and finds it so full.
fn fill(world: &mut World, fullness: Fullness) {
    let disk = Disk { folder: "/var/lib/docker".into(), fullness, mark_percent: 95, holds_images: true };
    (world.seen.disks, world.seen.freed) = (Some(vec![disk]), false);
}

/// A node without a job any more, on which `good` ran first and then `stubborn`; a controller keeps these for rollbacks.
fn with_a_past(keeps: &[&str]) -> World {
    let mut world = World::default();
    world.kept_images = kept(keeps);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    replace(&mut world);
    world.accept(Vec::new());
    world.until("job 2 is gone", |world| world.processes.is_empty());
    world.accept(Vec::new());
    assert_eq!(held(&world), ["good", "stubborn"]);
    world
}

fn is_told(world: &World, said: &str) -> bool {
    world.last_plan.as_ref().expect("a plan").report.troubles.iter().any(|trouble| trouble.contains(said))
}

#[test]
fn an_image_that_nothing_needs_goes_after_its_time_and_one_that_is_used_stays() {
    let mut world = replaced();
    let since = world.ledger.brought["good"].unneeded_since.expect("nothing needs it");
    world.until("it is gone", |world| !world.images.contains_key("good"));
    assert_eq!(Tick(world.now), since + KEEP_IMAGES, "not a moment earlier, and the agent woke for it");
    world.pass(60_000);
    assert_eq!(held(&world), ["stubborn"]);
    assert!(!world.ledger.brought.contains_key("good"), "and the ledger has forgotten it");
}

#[test]
fn the_images_of_kept_revisions_stay_also_above_the_high_mark_and_a_rollback_asks_no_registry() {
    let mut world = World::default();
    world.kept_images = kept(&["good"]);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    replace(&mut world);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    world.registry_is_up = false;
    fill(&mut world, Fullness::High);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
    world.crash_agent();
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.until("it is back", |world| world.routed() == [3]);
}

#[test]
fn above_the_high_mark_what_nothing_needs_goes_at_once() {
    let mut world = replaced();
    fill(&mut world, Fullness::High);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    assert_eq!(held(&world), ["stubborn"]);
}

#[test]
fn nothing_goes_while_the_controller_has_not_said_what_it_keeps_or_may_have_forgotten_it() {
    for (says, stop_absent) in [(None, true), (kept(&[]), false)] {
        let mut world = World::default();
        world.kept_images = says;
        world.accept_with(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)], stop_absent);
        world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
        world.accept_with(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)], stop_absent);
        world.until("job 2 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done) && !world.is_up(1));
        world.accept_with(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)], stop_absent);
        fill(&mut world, Fullness::High);
        world.pass(60_000);
        assert_eq!(held(&world), ["good", "stubborn"]);
    }
}

#[test]
fn an_image_that_was_there_before_or_that_somebody_has_named_is_left_alone() {
    let mut world = World::default();
    world.images.insert("good".into(), None);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert!(world.ledger.brought.is_empty(), "it was there");
    replace(&mut world);
    world.images.insert("stubborn".into(), Some("mine:latest".into()));
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.until("job 3 runs alone", |world| world.phase(&slot(1, 1)) == Some(Phase::Done) && !world.is_up(2));
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
    world.images.insert("stubborn".into(), None);
    world.pass(1_000);
    assert_eq!(held(&world), ["good"], "the name was taken away");
}

#[test]
fn an_image_that_went_and_came_back_without_the_agent_is_somebody_elses() {
    let mut world = replaced();
    world.images.remove("good");
    world.pass(200);
    assert!(!world.ledger.brought.contains_key("good"));
    world.images.insert("good".into(), None);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
}

#[test]
fn what_the_agent_brought_it_still_knows_after_a_crash_and_after_a_reboot() {
    let mut world = replaced();
    world.crash_agent();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    world.pass(1_000);
    world.reboot();
    world.decide();
    assert_eq!(world.ledger.brought["good"].unneeded_since, Some(Tick(500)), "its time restarts in full");
    world.until("it is gone", |world| !world.images.contains_key("good"));
    assert_eq!(Tick(world.now), Tick(500) + KEEP_IMAGES);
    assert_eq!(held(&world), ["stubborn"]);
}

#[test]
fn above_the_critical_mark_no_job_begins_what_runs_serves_on_and_it_recovers_by_itself() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    fill(&mut world, Fullness::Critical);
    // A job of another image in the place of the first, and one in a place that was empty.
    world
        .accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn), assignment(slot(2, 1), 3, 3, Behaviour::Good)]);
    world.pass(20_000);
    assert_eq!(world.routed(), [1]);
    for number in [1, 2] {
        let why = world.why(&slot(number, 1));
        assert_eq!(why, "waits for room on the node: the disk that holds /var/lib/docker has reached its mark of 95 %");
    }
    let report = &world.last_plan.as_ref().expect("a plan").report;
    assert_eq!(report.full_disk.as_ref().map(|disk| disk.mark_percent), Some(95));
    assert!(report.troubles[0].contains("no new job begins here"), "{:?}", report.troubles);
    // What ran and died is started again: it is no new job.
    world.process(1).exit = Some((1, false));
    world.until("job 1 runs again", |world| world.is_up(1));
    fill(&mut world, Fullness::Roomy);
    world.until("both new jobs serve", |world| world.routed() == [2, 3]);
}

#[test]
fn a_full_disk_does_not_block_the_way_back_to_an_image_that_is_here() {
    let mut world = World::default();
    world.kept_images = kept(&["good"]);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    replace(&mut world);
    fill(&mut world, Fullness::Critical);
    world.registry_is_up = false;
    // The agent does not remember that it has asked for it.
    world.crash_agent();
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.until("it is back", |world| world.routed() == [3]);
}

#[test]
fn above_the_critical_mark_images_that_stay_for_rollbacks_go_the_oldest_first_one_for_each_look_and_that_is_told() {
    let mut world = with_a_past(&["good", "stubborn"]);
    fill(&mut world, Fullness::High);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"], "new jobs still begin");
    assert!(!is_told(&world, "rollback"));
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["stubborn"], "there may be room already");
    assert!(is_told(&world, "stay for rollbacks: 1; until there is room the oldest goes next"));
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert!(held(&world).is_empty());
    assert!(!is_told(&world, "rollback"), "nothing is left to be given up");
    // What it costs.
    fill(&mut world, Fullness::Roomy);
    world.registry_is_up = false;
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.pass(10_000);
    assert!(world.routed().is_empty(), "the way back waits for the registry");
}

#[test]
fn above_the_critical_mark_what_is_firm_stays_though_no_job_here_runs_it_and_that_is_told() {
    let mut world = with_a_past(&["good", "stubborn"]);
    // The same set says it, as when a deployment has completed on another node.
    let said = KeptImages {
        firm: BTreeSet::from(["good".into(), "never-kept".into()]),
        ..kept(&["good", "stubborn"]).unwrap()
    };
    let set = AssignmentSet {
        generation: world.ledger.generation.unwrap(),
        stop_absent: true,
        assignments: Vec::new(),
        values: BTreeMap::new(),
        kept_images: Some(said.clone()),
    };
    assert_eq!(world.ledger.accept(set.clone(), world.instant()), Ok(()));
    assert_eq!(world.ledger.accept(set, world.instant()), Err(NotAccepted::Older), "it has it");
    assert_eq!(world.ledger.firm_images, BTreeSet::from(["good".into()]), "nothing is kept by being called firm");
    let looks = |world: &mut World| {
        for _look in 0..3 {
            fill(world, Fullness::Critical);
            world.pass(60_000);
        }
    };
    looks(&mut world);
    assert_eq!(held(&world), ["good"], "the older one, and the one that is firm");
    assert!(!is_told(&world, "rollback"), "nothing is left to be given up");
    assert!(is_told(&world, "stay because a paused service or a deployment goes on with them: 1"));
    // A second name of ours makes it no other image; a store that may have forgotten keeps everything, for another reason.
    let second = Brought { name: "mirror/good".into(), ..world.ledger.brought["good"].clone() };
    world.ledger.brought.insert("mirror/good".into(), second);
    world.images.insert("good".into(), Some("mirror/good".into()));
    world.pass(1_000);
    assert!(is_told(&world, "stay because a paused service or a deployment goes on with them: 1"));
    world.ledger.stop_absent = false;
    world.pass(1_000);
    assert!(!is_told(&world, "stay because"));
    world.ledger.stop_absent = true;
    world.images.insert("good".into(), None);
    world.pass(1_000);
    // A newer set says the same.
    world.kept_images = Some(said);
    world.accept(Vec::new());
    looks(&mut world);
    assert_eq!(held(&world), ["good"]);
    fill(&mut world, Fullness::Roomy);
    world.registry_is_up = false;
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.until("it is resumed", |world| world.routed() == [3]);
    assert!(!is_told(&world, "stay because"), "a job runs it");
    world.accept(Vec::new());
    world.until("it is paused", |world| world.processes.is_empty());
    // A set of a controller that does not say it.
    world.kept_images = kept(&["good", "stubborn"]);
    world.accept(Vec::new());
    looks(&mut world);
    assert_eq!(held(&world), [""; 0]);
}

#[test]
fn above_the_critical_mark_a_second_name_of_ours_that_nothing_needs_keeps_no_image() {
    let mut world = with_a_past(&["good"]);
    let good = world.ledger.brought["good"].clone();
    world.images.insert("good".into(), Some("mirror/good".into()));
    let second = Brought { name: "mirror/good".into(), unneeded_since: Some(Tick(world.now)), ..good };
    world.ledger.brought.insert("mirror/good".into(), second);
    world.pass(200);
    let next = |world: &World| {
        let plan = plan(&world.ledger, &world.seen, &world.config, world.instant());
        plan.actions.into_iter().find_map(|action| match action {
            Action::RemoveImage { pinned, .. } => Some(pinned),
            _ => None,
        })
    };
    world.ledger.brought.remove("stubborn");
    fill(&mut world, Fullness::High);
    assert_eq!(next(&world), None, "the other name stays for a rollback");
    fill(&mut world, Fullness::Critical);
    assert_eq!(next(&world).as_deref(), Some("good"));
}

#[test]
fn an_image_that_stays_for_rollbacks_goes_only_when_nothing_else_can() {
    let mut world = with_a_past(&["good"]);
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["good"]);
    fill(&mut world, Fullness::High);
    world.pass(60_000);
    assert_eq!(held(&world), ["good"], "that was enough");
}

#[test]
fn an_image_that_a_job_uses_is_never_given_up() {
    let mut world = replaced();
    world.kept_images = kept(&["good", "stubborn"]);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    for _look in 0..3 {
        fill(&mut world, Fullness::Critical);
        world.pass(10_000);
    }
    assert_eq!(held(&world), ["stubborn"]);
}

#[test]
fn after_a_reboot_the_image_that_is_given_up_first_is_still_the_one_that_came_first() {
    let mut world = World::default();
    world.kept_images = kept(&["good", "stubborn"]);
    for (job, behaviour) in [(1, Behaviour::Stubborn), (2, Behaviour::Good)] {
        world.accept(vec![assignment(slot(1, 1), job, job, behaviour)]);
        world.until("it runs alone", |world| world.routed() == [job] && world.processes.len() == 1);
    }
    world.accept(Vec::new());
    world.until("job 2 is gone", |world| world.processes.is_empty());
    world.reboot();
    world.accept(Vec::new());
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["good"]);
}

#[test]
fn nobody_is_told_that_images_are_given_up_that_cannot_go() {
    let mut world = with_a_past(&["good", "stubborn"]);
    for name in ["good", "stubborn"] {
        world.images.insert(name.into(), Some(format!("mine/{name}:latest")));
    }
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
    assert!(!is_told(&world, "rollback"));
}

#[test]
fn an_image_that_stays_for_rollbacks_stays_when_its_going_would_make_no_room() {
    let mut world = with_a_past(&["good", "stubborn"]);
    let disk = Disk {
        folder: "/var/lib/lapstrake".into(),
        fullness: Fullness::Critical,
        mark_percent: 95,
        holds_images: false,
    };
    world.seen.disks = Some(vec![disk]);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
    assert!(!is_told(&world, "rollback"));
}

#[test]
fn no_new_job_begins_before_the_disks_were_looked_at() {
    let mut world = World::default();
    world.seen.disks = None;
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.pass(1_000);
    assert_eq!(world.why(&slot(1, 1)), "waits for room on the node: how full the disks are is not known yet");
    fill(&mut world, Fullness::Roomy);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
}

#[test]
fn an_image_that_is_needed_by_its_id_stays_though_it_was_brought_by_its_digest() {
    let mut world = replaced();
    let id = world.ledger.brought["good"].id.clone();
    world.kept_images = kept(&[&id]);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    fill(&mut world, Fullness::Critical);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"]);
}

#[test]
fn a_removal_that_was_refused_is_tried_again_when_the_list_of_images_is_another_one() {
    let mut world = replaced();
    let id = world.ledger.brought["good"].id.clone();
    world.seen.not_removed.insert(id, "another image is built on it".into());
    fill(&mut world, Fullness::High);
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Stubborn)]);
    world.pass(60_000);
    assert_eq!(held(&world), ["good", "stubborn"], "the engine is not asked again and again");
    world.images.insert("somebody-elses".into(), None);
    world.pass(1_000);
    assert_eq!(held(&world), ["somebody-elses", "stubborn"]);
}

#[test]
fn images_are_removed_one_at_a_time_the_one_first_that_nothing_has_needed_for_longest() {
    let mut world = replaced();
    world.config.keep_images = Millis(600_000);
    world.accept(Vec::new());
    world.until("nothing is needed", |world| world.ledger.brought.values().all(|one| one.unneeded_since.is_some()));
    assert_eq!(held(&world), ["good", "stubborn"]);
    fill(&mut world, Fullness::High);
    let removed = |world: &World| {
        let plan = plan(&world.ledger, &world.seen, &world.config, world.instant());
        let name = |action| if let Action::RemoveImage { pinned, .. } = action { Some(pinned) } else { None };
        plan.actions.into_iter().filter_map(name).collect::<Vec<_>>()
    };
    assert_eq!(removed(&world), ["good"]);
    world.pass(1_000);
    assert_eq!(held(&world), Vec::<&str>::new(), "and then the next");
}

#[test]
fn an_image_that_goes_is_forgotten_under_everything_that_it_was_asked_for_as() {
    let mut seen = Seen::default();
    for (pinned, image) in [
        ("a/web@sha256:1", Image::Present),
        ("b/web@sha256:1", Image::Present),
        ("c/web@sha256:1", Image::Pulling),
        ("sha256:id", Image::Present),
        ("a/web@sha256:2", Image::Present),
    ] {
        seen.images.insert(pinned.into(), image);
    }
    assert!(seen.forget_image("a/web@sha256:1", "sha256:id"));
    assert_eq!(seen.images.into_keys().collect::<Vec<_>>(), ["a/web@sha256:2", "c/web@sha256:1"]);
}
