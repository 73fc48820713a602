//! One path each, as sentences about the product.

use crate::world::*;
use lapstrake_core::assignment::{AssignmentSet, Generation, ServicePath};
use lapstrake_core::ids::{EpochId, JobId, ServiceId, ValueId};
use lapstrake_core::message::Elsewhere;
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::ledger::NotAccepted;
use lapstrake_core::node::seen::Bridges;
use lapstrake_core::report::{Failure, JobPhase, ReplacementPhase as Phase};
use lapstrake_core::routes::Speaks;
use lapstrake_core::spec::{Protocol, ServiceType, WhenCutOff};
use lapstrake_core::time::{Millis, Tick};
use lapstrake_core::values::{Binding, Body, GivenValue, Place, Sealed};
use std::net::Ipv4Addr;

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
fn the_proxies_are_told_how_each_job_is_spoken_to() {
    let mut world = running();
    assert_eq!(world.ledger.table.routes[0].backends[0].speaks, Speaks::Http);
    let mut modern = assignment(slot(1, 1), 2, 2, Behaviour::Good);
    modern.run.spec.ports[0].protocol = Protocol::H2c;
    world.accept(vec![modern]);
    world.until("the new job has the traffic", |world| world.routed() == [2]);
    assert_eq!(world.ledger.table.routes[0].backends[0].speaks, Speaks::H2c);
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

#[test]
fn a_process_that_ends_at_once_is_tried_max_attempts_times_and_then_the_old_version_serves_on() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Exits)]);
    world.until("abandoned", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert_eq!(world.count("run", 2), 3, "max_attempts is 3");
    let why = "waits for the controller: the process exited with code 3 after 100 ms; its last line was: bye";
    assert_eq!(world.why(&slot(1, 1)), why);
    assert_eq!(world.routed(), [1]);
    world.pass(60_000);
    assert_eq!(world.count("run", 2), 3, "it is not tried again");
    assert!(world.processes.len() == 1, "no corpse is left");
}

#[test]
fn a_process_that_eats_its_memory_limit_is_reported_as_that() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::EatsMemory)]);
    world.until("abandoned", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert!(world.why(&slot(1, 1)).contains("killed it at its memory limit of 256 MiB"), "{}", world.why(&slot(1, 1)));
}

#[test]
fn a_container_that_cannot_start_is_reported_with_the_engines_words() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Refused)]);
    world.until("abandoned", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert_eq!(world.why(&slot(1, 1)), "waits for the controller: the container cannot be started: no such command");
    assert!(world.refused.is_empty(), "no corpse is left");
}

#[test]
fn a_job_that_never_gets_healthy_is_given_up_with_its_last_answer() {
    let mut world = running();
    let mut sick = assignment(slot(1, 1), 2, 2, Behaviour::Sick);
    sick.run.spec.health[0].grace = Millis(120_000);
    world.accept(vec![sick]);
    world.until("asked", |world| world.is_up(2));
    world.pass(200);
    assert_eq!(world.why(&slot(1, 1)), "waits to be healthy; the last answer was: 503 no");
    world.until("abandoned", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    let why = "waits for the controller: it was not healthy within 60 s; the last answer was: 503 no";
    assert_eq!(world.why(&slot(1, 1)), why);
    world.until("it is gone", |world| !world.is_up(2));
    assert_eq!(world.routed(), [1]);
}

#[test]
fn a_check_that_fails_restart_after_times_starts_a_new_attempt_of_the_same_job() {
    let mut world = running();
    world.process(1).sick = true;
    world.until("a new attempt", |world| world.job(1).attempt == 2 && world.is_up(1));
    world.until("routed again", |world| world.routed() == [1]);
    assert!(matches!(&world.job(1).failure, Some(Failure::CheckFailed { times: 3, .. })));
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Done), "a restart is no replacement");
}

#[test]
fn a_bad_job_is_restarted_only_when_no_proxy_sends_to_it_any_more_if_another_one_can_serve() {
    let mut world = World::default();
    world.accept((1..=2).map(|n| assignment(slot(1, n), n.into(), 1, Behaviour::Good)).collect());
    world.until("two jobs run", |world| world.routed() == [1, 2]);
    world.proxies[0].stuck = true;
    world.process(1).sick = true;
    world.pass(20_000);
    assert_eq!(world.ledger.table.routes[0].backends.len(), 1, "the newest table is without it");
    assert_eq!(world.when("terminate", 1), None, "but the proxy still sends it requests");
    let why = format!("waits for proxy 100 to acknowledge route table {}", world.ledger.table.generation);
    assert_eq!(world.why(&slot(1, 1)), why);
    world.proxies[0].stuck = false;
    world.until("a new attempt", |world| world.job(1).attempt == 2 && world.routed() == [1, 2]);
}

#[test]
fn a_bad_job_that_nobody_can_stand_in_for_is_restarted_at_once() {
    let mut world = running();
    world.proxies[0].stuck = true;
    world.process(1).sick = true;
    world.until("a new attempt", |world| world.job(1).attempt == 2 && world.is_up(1));
}

#[test]
fn after_a_restart_of_the_agent_a_job_that_had_been_good_has_no_grace_once_more() {
    let mut world = World::default();
    let mut patient = assignment(slot(1, 1), 1, 1, Behaviour::Good);
    patient.run.spec.health[0].grace = Millis(600_000);
    world.accept(vec![patient]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.crash_agent();
    world.process(1).sick = true;
    world.process(1).started = world.now;
    let died = world.now;
    world.until("a new attempt", |world| world.job(1).attempt == 2);
    assert!(world.now - died < 10_000, "its grace was over long ago: {} ms", world.now - died);
}

#[test]
fn a_job_that_was_healthy_is_started_again_for_ever_at_most_a_minute_apart() {
    let mut world = running();
    for attempt in 2..12 {
        world.process(1).exit = Some((1, false));
        let died = world.now;
        world.until("the next attempt", |world| world.job(1).attempt == attempt && world.is_up(1));
        assert!(world.now - died <= 61_000, "attempt {attempt} came after {} ms", world.now - died);
    }
    assert_eq!(world.job(1).failures, 10);
    world.pass(61_000);
    assert_eq!(world.job(1).failures, 0, "healthy for a minute: forgiven");
}

#[test]
fn without_room_for_both_jobs_the_replacement_waits_with_that_reason_and_gives_up_at_its_timeout() {
    let mut world = World::default();
    let sized = |job, deployment| {
        let mut one = assignment(slot(1, 1), job, deployment, Behaviour::Good);
        one.run.spec.size.cpu_milli = 2_500;
        one
    };
    world.accept(vec![sized(1, 1)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.accept(vec![sized(2, 2)]);
    world.pass(1_000);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Accepted));
    assert_eq!(world.why(&slot(1, 1)), "waits for room on the node: 2.50 cpu wanted, 1.50 free");
    world.until("given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert!(matches!(world.replacement(&slot(1, 1)).failure, Some(Failure::NoRoom { .. })));
    assert_eq!((world.count("run", 2), world.routed()), (0, vec![1]));
}

#[test]
fn the_switch_waits_for_every_live_proxy_and_names_the_one_that_is_late() {
    let mut world = World::new(2);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.proxies[1].stuck = true;
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    world.pass(60_000);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Ready));
    let why = format!("waits for proxy 101 to acknowledge route table {}", world.ledger.table.generation);
    assert_eq!(world.why(&slot(1, 1)), why);
    assert!(world.is_up(1), "the late proxy still sends it requests");
    world.proxies.remove(1);
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
}

#[test]
fn open_connections_keep_the_old_job_until_they_close_or_the_drain_is_over() {
    for closes_after in [Some(3_000), None] {
        let mut world = running();
        world.proxies[0].open.insert(JobId(1), 2);
        world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
        world.until("draining", |world| world.phase(&slot(1, 1)) == Some(Phase::Draining));
        let drain = world.now;
        assert_eq!(world.why(&slot(1, 1)), "2 connections open, the drain ends in 10 s");
        if let Some(ms) = closes_after {
            world.pass(ms);
            world.proxies[0].open.clear();
        }
        world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
        let took = world.when("terminate", 1).unwrap() - drain;
        let expected = closes_after.unwrap_or(10_000);
        assert!((expected..expected + 200).contains(&took), "{took} ms");
    }
}

#[test]
fn a_job_that_ignores_its_stop_signal_is_killed_after_its_stop_grace() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Stubborn)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("told to stop", |world| world.when("terminate", 1).is_some());
    world.pass(1_000);
    assert_eq!(world.why(&slot(1, 1)), "told to stop; will be killed in 3 s");
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.when("kill", 1).unwrap() - world.when("terminate", 1).unwrap(), 4_000);
    assert!(world.replacement(&slot(1, 1)).stopped_at.is_some());
}

#[test]
fn a_new_job_that_fails_in_the_overlap_gives_the_traffic_back() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    world.process(2).exit = Some((9, false));
    world.until("switched back", |world| world.phase(&slot(1, 1)) == Some(Phase::SwitchedBack));
    assert_eq!(world.routed(), [1]);
    world.pass(30_000);
    assert!(world.is_up(1) && !world.is_up(2));
    assert_eq!(world.count("terminate", 1), 0);
    assert!(world.why(&slot(1, 1)).contains("exited with code 9"), "{}", world.why(&slot(1, 1)));
}

#[test]
fn after_the_old_jobs_stop_signal_there_is_no_way_back_only_restarts_of_the_new_one() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Stubborn)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("told to stop", |world| world.when("terminate", 1).is_some());
    world.process(2).exit = Some((9, false));
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.until("job 2 is back", |world| world.routed() == [2]);
    assert_eq!(world.job(2).attempt, 2);
}

#[test]
fn an_old_job_that_dies_in_the_overlap_is_not_missed() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    world.process(1).exit = Some((9, false));
    world.pass(300);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Done), "there is nothing left to wait for");
    assert_eq!(world.count("run", 1), 1, "it is not started again");
}

#[test]
fn an_old_job_that_dies_before_the_new_one_is_ready_is_started_again() {
    let mut world = running();
    let mut slow = assignment(slot(1, 1), 2, 2, Behaviour::Good);
    slow.run.spec.deploy.min_healthy = Millis(20_000);
    world.accept(vec![slow]);
    world.until("job 2 runs", |world| world.is_up(2));
    world.process(1).exit = Some((9, false));
    world.until("job 1 is back", |world| world.job(1).attempt == 2 && world.routed() == [1]);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Starting));
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
}

#[test]
fn a_newer_deployment_abandons_one_that_has_not_switched() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Sick)]);
    world.until("job 2 starts", |world| world.is_up(2));
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Abandoned));
    assert_eq!(world.replacement(&slot(1, 1)).failure, Some(Failure::Superseded));
    world.until("job 2 is gone", |world| !world.is_up(2));
    assert_eq!((world.routed(), world.count("terminate", 1)), (vec![1], 0));
}

#[test]
fn a_newer_deployment_waits_for_one_that_has_switched() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.pass(1_000);
    assert_eq!(world.replacement(&slot(1, 1)).new, Some(JobId(2)));
    world.until("job 3 has the slot", |world| world.routed() == [3] && !world.is_up(2));
}

#[test]
fn max_surge_slots_are_replaced_at_once_and_the_next_one_says_what_it_waits_for() {
    let mut world = World::default();
    let set = |first: u128, deployment| {
        (1..=3).map(|n| assignment(slot(1, n), first + u128::from(n), deployment, Behaviour::Good)).collect::<Vec<_>>()
    };
    world.accept(set(0, 1));
    world.until("three jobs run", |world| world.routed() == [1, 2, 3]);
    world.accept(set(10, 2));
    let under_way = |world: &World| world.ledger.replacements.values().filter(|one| !one.phase.is_final()).count();
    let reason = "waits for its turn: at most 1 of the service's slots here may be replaced at once";
    assert_eq!(world.why(&slot(1, 2)), reason);
    for _ in 0..1_000 {
        assert!(under_way(&world) <= 1);
        world.pass(100);
    }
    assert_eq!(world.routed(), [11, 12, 13]);
}

#[test]
fn a_deployment_that_failed_in_one_slot_is_not_tried_in_the_next() {
    let mut world = World::default();
    world.accept((1..=2).map(|n| assignment(slot(1, n), n.into(), 1, Behaviour::Good)).collect());
    world.until("two jobs run", |world| world.routed() == [1, 2]);
    world.accept((1..=2).map(|n| assignment(slot(1, n), 10 + u128::from(n), 2, Behaviour::Exits)).collect());
    world.pass(120_000);
    assert_eq!((world.count("run", 11), world.count("run", 12)), (3, 0));
    assert!(world.why(&slot(1, 2)).contains("failed in slot 1: the process exited with code 3"));
    assert_eq!(world.routed(), [1, 2]);
    world.accept((1..=2).map(|n| assignment(slot(1, n), 20 + u128::from(n), 3, Behaviour::Good)).collect());
    world.until("the next deployment goes through", |world| world.routed() == [21, 22]);
}

#[test]
fn a_slot_that_is_not_wanted_any_more_is_emptied_after_its_connections() {
    let mut world = running();
    world.proxies[0].open.insert(JobId(1), 1);
    world.accept(vec![]);
    assert!(world.routed().is_empty(), "no new request");
    world.pass(3_000);
    assert!(world.is_up(1));
    world.proxies[0].open.clear();
    world.until("it is gone", |world| world.processes.is_empty());
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Done));
    world.accept(vec![]);
    world.pass(1_000);
    let ledger = &world.ledger;
    assert!(ledger.jobs.is_empty() && ledger.replacements.is_empty() && ledger.subnets.is_empty(), "{ledger:#?}");
    assert!(world.seen.networks.is_empty(), "the bridge is gone too");
}

#[test]
fn before_the_controller_has_read_the_inventory_absence_stops_nothing() {
    let mut world = running();
    world.accept_with(vec![], false);
    world.pass(60_000);
    assert!(world.is_up(1));
    assert_eq!(world.routed(), [1]);
}

#[test]
fn losing_the_controller_stops_only_what_the_spec_says_and_it_comes_back_with_the_lease() {
    let mut world = World::default();
    let mut stops = assignment(slot(1, 1), 1, 1, Behaviour::Good);
    stops.run.spec.when_cut_off = WhenCutOff::Stop;
    world.accept(vec![stops, assignment(slot(2, 1), 2, 2, Behaviour::Good)]);
    world.until("both run", |world| world.routed() == [1, 2]);
    world.seen.lease_ends = Some(Tick(world.now + 5_000));
    world.pass(4_900);
    assert!(world.is_up(1) && world.is_up(2));
    world.until("one stops", |world| !world.is_up(1));
    world.pass(60_000);
    assert!(!world.is_up(1) && world.is_up(2));
    assert_eq!(world.why(&slot(1, 1)), "stopped until the controller answers again, as the spec says");
    world.seen.lease_ends = Some(Tick(u64::MAX));
    world.until("it is back", |world| world.routed() == [1, 2]);
    assert_eq!(world.job(1).failures, 0, "that was no failure");
}

#[test]
fn a_new_boot_starts_everything_again_without_counting_it_as_a_failure() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("job 2 starts", |world| world.phase(&slot(1, 1)) == Some(Phase::Starting));
    world.reboot();
    world.decide();
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Starting), "phases do not go back");
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done) && world.routed() == [2]);
    assert_eq!((world.job(2).attempt, world.job(2).failures), (2, 0));
}

#[test]
fn a_restarted_agent_keeps_routing_to_jobs_that_it_has_not_asked_yet() {
    let mut world = running();
    let table = world.ledger.table.clone();
    world.engine_is_up = false;
    world.crash_agent();
    world.pass(5_000);
    assert_eq!(world.ledger.table, table);
    assert!(world.last_plan.as_ref().unwrap().report.troubles[0].contains("engine does not answer"));
    world.engine_is_up = true;
    world.pass(5_000);
    assert_eq!((world.ledger.table.clone(), world.count("run", 1)), (table, 1));
}

#[test]
fn a_container_that_the_engine_does_not_tell_about_is_unknown_and_not_gone() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good), assignment(slot(2, 1), 2, 2, Behaviour::Good)]);
    world.until("both run", |world| world.routed() == [1, 2]);
    world.mute.insert(JobId(1));
    world.pass(20_000);
    assert_eq!(world.routed(), [1, 2], "its last reading counts");
    world.crash_agent();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good), assignment(slot(2, 1), 3, 3, Behaviour::Good)]);
    world.until("the other one is replaced", |world| world.routed() == [1, 3] && !world.is_up(2));
    let why = "the container engine does not tell how the container is: no answer to inspect within 10 s";
    assert_eq!(world.why(&slot(1, 1)), why);
    let told = &world.last_plan.as_ref().unwrap().report.troubles;
    assert!(told.iter().any(|said| said.contains("does not tell how the container of job")), "{told:?}");
    world.mute.clear();
    world.pass(20_000);
    assert_eq!((world.routed(), world.count("run", 1)), (vec![1, 3], 1), "it was left alone");
}

#[test]
fn what_a_lost_ledger_has_forgotten_and_the_engine_does_not_tell_about_is_not_started_beside_itself() {
    let mut world = running();
    world.lose_ledger();
    world.set_number = 10;
    world.mute.insert(JobId(1));
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.pass(20_000);
    assert!(world.why(&slot(1, 1)).contains("does not tell how the container is"), "{}", world.why(&slot(1, 1)));
    world.mute.clear();
    world.pass(5_000);
    assert_eq!((world.routed(), world.count("run", 1), world.count("terminate", 1)), (vec![1], 1, 0), "taken over");
}

#[test]
fn a_silent_engine_ends_nothing() {
    let mut world = running();
    world.engine_is_up = false;
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.pass(300_000);
    assert_eq!(world.why(&slot(1, 1)), "the container engine does not answer");
    world.engine_is_up = true;
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done) && world.routed() == [2]);
}

#[test]
fn while_the_ledger_cannot_be_written_the_node_serves_on_and_sleeps() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    world.disk_is_full = true;
    // The world asks after each decision that the node does not want to be woken at once, again and again.
    world.pass(20_000);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Overlapping), "the overlap is over, and that cannot be written");
    assert!(world.is_up(1) && world.is_up(2));
    world.process(2).exit = Some((1, false));
    world.pass(20_000);
    assert!(world.is_up(1), "and nothing follows from what is not written");
    world.disk_is_full = false;
    world.until("switched back", |world| world.phase(&slot(1, 1)) == Some(Phase::SwitchedBack));
    assert_eq!(world.routed(), [1]);
}

#[test]
fn a_lost_ledger_adopts_what_is_wanted_and_stops_what_is_not() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good), assignment(slot(2, 1), 2, 2, Behaviour::Good)]);
    world.until("both run", |world| world.routed() == [1, 2]);
    let before = world.ledger.table.generation;
    world.lose_ledger();
    world.set_number = 10;
    world.pass(20_000);
    assert!(world.is_up(1) && world.is_up(2), "nothing is touched before the controller has spoken");
    assert_eq!(world.routed(), [1, 2], "and the proxies serve on");
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    assert!(world.ledger.table.generation > before, "a proxy refuses an older table");
    assert_eq!(world.routed(), [1]);
    world.until("job 2 is gone", |world| !world.is_up(2));
    assert_eq!(world.count("run", 1), 1, "a healthy container is never restarted");
}

#[test]
fn a_route_leads_to_a_bad_job_only_when_all_are_bad_and_the_report_says_so() {
    let mut world = World::default();
    let slow_to_give_up = |n: u32| {
        let mut one = assignment(slot(1, n), n.into(), 1, Behaviour::Good);
        one.run.spec.deploy.min_healthy = Millis(0);
        one
    };
    world.accept(vec![slow_to_give_up(1), slow_to_give_up(2)]);
    world.until("both run", |world| world.routed() == [1, 2]);
    world.process(1).exit = Some((1, false));
    world.pass(100);
    assert_eq!(world.routed(), [2], "the dead one gets nothing");
    world.process(2).exit = Some((1, false));
    world.until("both are gone", |world| world.routed().is_empty());
    let route = &world.ledger.table.routes[0];
    assert_eq!((route.host.as_str(), route.backends.len()), ("s1.example", 0), "the route stays, to answer 503");
    world.until("one runs again", |world| !world.routed().is_empty());
    let trouble = "no job of shop/production/s1 on this node is healthy; requests still go to those that run";
    assert_eq!(world.last_plan.as_ref().unwrap().report.troubles, [trouble]);
    world.until("all is well", |world| world.routed() == [1, 2]);
    assert!(world.last_plan.as_ref().unwrap().report.troubles.is_empty());
}

#[test]
fn an_address_is_used_again_only_after_every_proxy_forgot_it() {
    let mut world = running();
    let first = world.job(1).address;
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("job 2 runs", |world| world.is_up(2));
    assert_ne!(world.job(2).address, first);
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.job(1).address, None, "given back");
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    world.until("job 3 runs", |world| world.is_up(3));
    assert_eq!(world.job(3).address, first);
}

#[test]
fn an_older_set_is_refused() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    let held = world.ledger.generation.unwrap();
    let older = Generation { epoch: held.epoch, number: held.number - 1 };
    let set = |generation| AssignmentSet {
        generation,
        stop_absent: true,
        assignments: vec![],
        values: Default::default(),
        kept_images: None,
    };
    let now = world.instant();
    assert_eq!(world.ledger.accept(set(older), now), Err(NotAccepted::Older));
    assert_eq!(world.ledger.accept(set(held), now), Err(NotAccepted::Older));
    assert_eq!(world.ledger.accept(set(Generation { epoch: EpochId(2), number: 1 }), now), Ok(()));
}

#[test]
fn a_value_that_the_ledger_holds_stays_when_the_controller_cannot_read_it_any_more() {
    let mut world = running();
    let held = world.ledger.values.clone();
    assert_eq!(held.keys().copied().collect::<Vec<_>>(), [ValueId(1)]);
    let generation = Generation { epoch: EpochId(1), number: world.ledger.generation.unwrap().number + 1 };
    let assignments = vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)];
    let unreadable = GivenValue { called: "the secret a".into(), body: Body::Unreadable { said: "altered".into() } };
    let values = [(ValueId(1), unreadable)].into();
    let set = AssignmentSet { generation, stop_absent: true, assignments, values, kept_images: None };
    let now = world.instant();
    world.ledger.accept(set, now).unwrap();
    assert_eq!(world.ledger.values, held);
}

#[test]
fn values_are_kept_as_long_as_a_job_has_them_and_forgotten_after_that() {
    let mut world = running();
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    assert_eq!(world.ledger.values.len(), 2, "the old job may have to be started again");
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good)]);
    assert_eq!(world.ledger.values.keys().copied().collect::<Vec<_>>(), [ValueId(2), ValueId(3)]);
}

#[test]
fn the_set_that_is_held_already_brings_the_values_that_could_not_be_read_and_nothing_else() {
    let mut world = running();
    let mut one = assignment(slot(1, 1), 1, 1, Behaviour::Good);
    let binding = |name: &str, value| Binding { place: Place::Variable(name.into()), value: ValueId(value) };
    one.run.values = vec![binding("A", 11), binding("B", 12)];
    let generation = Generation { epoch: EpochId(2), number: 1 };
    let sealed = |byte| Body::Sealed(Sealed::from(vec![byte]));
    let unreadable = || Body::Unreadable { said: "its key is gone".into() };
    let set = |bodies: [Body; 3]| {
        let given = |body| GivenValue { called: "it".into(), body };
        let values = (11..).map(ValueId).zip(bodies.map(given)).collect();
        AssignmentSet { generation, stop_absent: true, assignments: vec![one.clone()], values, kept_images: None }
    };
    let now = world.instant();
    assert_eq!(world.ledger.accept(set([sealed(1), unreadable(), sealed(3)]), now), Ok(()));
    assert!(!world.ledger.values.contains_key(&ValueId(13)), "no job gets it");
    let same = set([sealed(9), unreadable(), sealed(3)]);
    assert_eq!(world.ledger.accept(same, now), Err(NotAccepted::Older), "nothing that was missing");
    assert_eq!(world.ledger.accept(set([unreadable(), sealed(2), sealed(3)]), now), Ok(()));
    let held: Vec<Body> = world.ledger.values.range(ValueId(11)..).map(|(_, value)| value.body.clone()).collect();
    assert_eq!(held, [sealed(1), sealed(2)]);
    assert_eq!(world.ledger.accept(set([sealed(9), sealed(9), sealed(9)]), now), Err(NotAccepted::Older));
}

#[test]
fn the_bridge_of_an_environment_whose_last_job_has_ended_leaves_without_another_set() {
    let mut world = running();
    assert_eq!(world.seen.networks.len(), 1);
    world.proxies[0].stuck = true;
    world.accept(vec![]);
    let number = world.set_number;
    world.pass(30_000);
    assert_eq!(world.seen.networks.len(), 1, "a proxy may still send to its address");
    world.proxies[0].stuck = false;
    world.until("the bridge is gone", |world| world.seen.networks.is_empty() && world.ledger.subnets.is_empty());
    assert_eq!(world.set_number, number, "the controller said nothing more");
    // A new set for the same environment makes it again.
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("job 2 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.seen.networks.len(), 1);
}

#[test]
fn a_public_service_that_runs_elsewhere_has_a_route_that_names_the_nodes() {
    let mut world = running();
    let elsewhere = Elsewhere {
        service: ServiceId(7),
        path: ServicePath { application: "shop".into(), environment: "production".into(), service: "api".into() },
        routes: vec![("api.example".into(), "/".into())],
        nodes: vec!["n2".into(), "n3".into()],
        paused: false,
    };
    assert!(world.ledger.set_elsewhere(vec![elsewhere.clone()]));
    assert!(!world.ledger.set_elsewhere(vec![elsewhere]));
    world.decide();
    let route = &world.ledger.table.routes[0];
    assert_eq!((route.host.as_str(), route.backends.len()), ("api.example", 0));
    assert_eq!(route.elsewhere, ["n2", "n3"]);
}

#[test]
fn a_public_service_that_is_paused_has_a_route_that_says_so() {
    let mut world = running();
    let elsewhere = Elsewhere {
        service: ServiceId(7),
        path: ServicePath { application: "shop".into(), environment: "production".into(), service: "api".into() },
        routes: vec![("api.example".into(), "/".into())],
        nodes: vec![],
        paused: true,
    };
    assert!(world.ledger.set_elsewhere(vec![elsewhere]));
    world.decide();
    assert!(world.ledger.table.routes[0].paused);
    assert!(world.ledger.table.routes[1..].iter().all(|route| !route.paused));
}

fn subnet(third: u8, prefix: u8) -> Subnet {
    Subnet { base: Ipv4Addr::new(10, 201, third, 0), prefix }
}

#[test]
fn an_environment_gets_addresses_that_overlap_no_bridge_that_stands() {
    let mut world = World::default();
    world.bridges.others.extend([subnet(0, 23), Subnet { base: Ipv4Addr::new(172, 17, 0, 0), prefix: 16 }]);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.bridges.own.values().collect::<Vec<_>>(), [&subnet(2, 24)]);
}

#[test]
fn after_a_lost_ledger_and_a_new_boot_each_environment_finds_its_own_bridge() {
    let mut world = World::default();
    let both = || vec![assignment(slot(1, 1), 1, 1, Behaviour::Good), assignment(slot(2, 1), 2, 2, Behaviour::Good)];
    world.accept(both());
    world.until("both run", |world| world.routed() == [1, 2]);
    let before = world.bridges.clone();
    assert_eq!(before.own.len(), 2, "two environments");
    // Somebody cleans up: no container is left to tell which addresses are taken.
    world.reboot();
    world.lose_ledger();
    world.processes.clear();
    world.seen.networks.clear();
    world.set_number = 10;
    // The other one comes first this time.
    world.accept(vec![assignment(slot(2, 1), 4, 4, Behaviour::Good)]);
    world.until("it runs", |world| world.routed() == [4]);
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good), assignment(slot(2, 1), 4, 4, Behaviour::Good)]);
    world.until("both run", |world| world.routed() == [3, 4]);
    assert_eq!(world.bridges, before);
}

#[test]
fn another_prefix_in_the_configuration_leaves_the_bridges_that_stand() {
    let mut world = running();
    world.config.subnet_prefix = 20;
    world.lose_ledger();
    world.set_number = 10;
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good), assignment(slot(2, 1), 2, 2, Behaviour::Good)]);
    world.until("both run", |world| world.routed() == [1, 2]);
    world.accept(vec![assignment(slot(1, 1), 3, 3, Behaviour::Good), assignment(slot(2, 1), 2, 2, Behaviour::Good)]);
    world.until("the next one too", |world| world.routed() == [2, 3]);
    let stand: Vec<Subnet> = world.bridges.own.values().copied().collect();
    assert_eq!(stand.iter().map(|subnet| subnet.prefix).collect::<Vec<_>>(), [20, 24]);
    assert_eq!(world.count("run", 1), 1, "a healthy container is never restarted");
}

#[test]
fn a_subnet_that_somebody_elses_bridge_has_taken_is_given_up() {
    let mut world = running();
    let mut twin = World::default();
    // The machine joins anew: the bridges of the node that it was before stand, and are not its own.
    twin.bridges.others = world.bridges.own.values().copied().collect();
    twin.ledger.subnets = world.ledger.subnets.clone();
    twin.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    twin.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    let chosen = *twin.bridges.own.values().next().expect("a bridge");
    assert!(world.bridges.own.values().all(|other| !other.overlaps(chosen)));
    // The same after a reboot in which another product was quicker to make its bridge.
    world.reboot();
    world.seen.networks.clear();
    world.bridges = Bridges { own: [].into(), others: [subnet(0, 24)].into() };
    world.until("job 1 is back", |world| world.routed() == [1]);
    assert_eq!(world.bridges.own.values().collect::<Vec<_>>(), [&subnet(1, 24)]);
}

#[test]
fn a_worker_takes_the_same_way_without_any_route() {
    let worker = |job, deployment| {
        let mut one = assignment(slot(1, 1), job, deployment, Behaviour::Good);
        one.run.spec.service_type = ServiceType::Worker;
        (one.run.spec.ports, one.run.spec.health) = (vec![], vec![]);
        one
    };
    let mut world = World::default();
    world.accept(vec![worker(1, 1)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.proxies[0].stuck = true;
    world.accept(vec![worker(2, 2)]);
    world.until("overlap", |world| world.phase(&slot(1, 1)) == Some(Phase::Overlapping));
    let switched = world.now;
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.when("terminate", 1), Some(switched + 5_000), "there the overlap is only time");
}

#[test]
fn the_address_of_a_job_that_died_stays_its_own_while_a_proxy_may_still_use_it() {
    let mut world = running();
    let first = world.job(1).address;
    world.proxies[0].stuck = true;
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good)]);
    world.until("ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    world.process(1).exit = Some((1, false));
    world.pass(20_000);
    assert!(world.processes.keys().all(|attempt| attempt.job != JobId(1)), "its container is gone");
    assert_eq!(world.job(1).address, first, "but the stuck proxy still sends there");
    world.proxies[0].stuck = false;
    world.until("done", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.until("given back", |world| world.job(1).address.is_none());
}

#[test]
fn what_a_lost_ledger_has_forgotten_is_told_to_stop_only_when_every_proxy_has_a_table_without_it() {
    let mut world = running();
    world.lose_ledger();
    world.set_number = 10;
    world.pass(1_000);
    world.proxies[0].stuck = true;
    world.accept(vec![]);
    world.pass(5_000);
    assert_eq!(world.when("terminate", 1), None, "the proxy still sends requests to it");
    world.proxies[0].stuck = false;
    world.until("job 1 is gone", |world| !world.is_up(1));
}

#[test]
fn the_address_of_a_container_that_is_just_being_started_is_not_given_away() {
    let mut world = running();
    let attempt = world.job(1).key();
    // The call is under way: the engine does not list the container yet, and may in the next moment.
    world.seen.starting.insert(attempt);
    world.accept(vec![]);
    world.until("job 1 is gone", |world| !world.is_up(1));
    world.pass(5_000);
    assert!(world.job(1).address.is_some());
    world.seen.starting.remove(&attempt);
    world.pass(1_000);
    assert_eq!(world.job(1).address, None);
}

#[test]
fn a_container_that_was_told_to_stop_is_not_taken_back_when_it_is_wanted_again() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Stubborn)]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.lose_ledger();
    world.set_number = 10;
    world.accept(vec![]);
    world.until("it is told to stop", |world| world.when("terminate", 1).is_some());
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Stubborn)]);
    world.pass(1_000);
    assert!(world.routed().is_empty(), "nobody is sent to a process that ends");
    world.until("another attempt runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    assert_eq!(world.job(1).attempt, 2);
}
