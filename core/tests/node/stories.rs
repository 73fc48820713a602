//! One path each, as sentences about the product.

use crate::world::*;
use lapstrake_core::report::{Failure, JobPhase, ReplacementPhase as Phase};

/// A slot whose job 1 of deployment 1 runs and has the traffic.
fn running() -> World {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world
}

#[test]
fn a_first_start_takes_traffic_once_it_was_healthy_for_min_healthy() {
    let world = running();
    assert_eq!(world.routed(), [1]);
    assert!(world.job(1).was_healthy);
    let started = world.when("run", 1).unwrap();
    let reached = world.replacement(&slot(1, 1)).reached.iter().find(|(phase, _)| *phase == Phase::Ready).unwrap().1;
    assert!(reached.0 - 1_000_000 >= started + 2_000, "min_healthy is 2 s");
}

#[test]
fn a_redeploy_overlaps_drains_and_stops_the_old_job() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    assert_eq!(world.routed(), [2], "one table: new in, old out");
    assert!(world.is_up(1) && world.is_up(2));
    assert_eq!(world.why(&slot(1, 1)), "overlap: 5 s left");
    let switched = world.now;
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.when("terminate", 1).unwrap(), switched + 5_000);
    assert!(!world.is_up(1) && world.is_up(2));
    let phases: Vec<Phase> = world.replacement(&slot(1, 1)).reached.iter().map(|(phase, _)| *phase).collect();
    let all = [
        Phase::Accepted,
        Phase::Pulling,
        Phase::Starting,
        Phase::Ready,
        Phase::Switched,
        Phase::Overlapping,
        Phase::Draining,
        Phase::Done,
    ];
    assert_eq!(phases, all);
}

#[test]
fn an_image_that_cannot_be_pulled_stops_nothing_and_says_so() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::NoImage)]);
    world.until("abandoned", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert_eq!(
        world.why(&slot(1, 1)),
        "waits for the controller: the image noimage cannot be pulled: manifest unknown"
    );
    assert_eq!(world.job(2).phase, JobPhase::Rejected);
    assert_eq!(world.routed(), [1]);
    assert_eq!(world.count("terminate", 1), 0);
    assert!(matches!(world.replacement(&slot(1, 1)).failure, Some(Failure::CannotPull { .. })));
}
