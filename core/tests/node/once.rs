//! Jobs that run once, as sentences about the product.

use crate::world::*;
use lapstrake_core::assignment::{Assignment, Once};
use lapstrake_core::ids::{JobId, ServiceId, SlotId, ValueId};
use lapstrake_core::report::{Failure, JobPhase, ReplacementPhase as Phase};
use lapstrake_core::spec::WhenCutOff;
use lapstrake_core::time::{Millis, Tick};

const JOB: u128 = 9;

fn release() -> SlotId {
    SlotId { service: ServiceId(1), target: "release".into(), number: 1 }
}

fn once(behaviour: Behaviour) -> Assignment {
    let mut one = assignment(release(), JOB, 2, behaviour);
    one.run.spec.ports.clear();
    one.run.spec.health.clear();
    one.run.hosts.clear();
    one.run.spec.deploy.max_attempts = 1;
    one.once = Some(Once { timeout: Millis(30_000), start_timeout: Millis(20_000), stop: false });
    one
}

fn service() -> Assignment {
    assignment(slot(1, 1), 1, 1, Behaviour::Good)
}

/// A service's job, and beside it a command that runs.
fn running() -> World {
    let mut world = World::default();
    world.accept(vec![service()]);
    world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
    world.accept(vec![service(), once(Behaviour::Good)]);
    world.until("the command runs", |world| world.is_up(JOB));
    world
}

fn ends(world: &mut World, code: i64) {
    world.process(JOB).exit = Some((code, false));
    world.pass(500);
}

fn phase(world: &World) -> JobPhase {
    world.job(JOB).phase
}

#[test]
fn a_command_runs_once_beside_the_service_without_any_traffic() {
    let mut world = running();
    assert_eq!(world.routed(), [1]);
    assert_eq!(world.why(&release()), "its command runs; unless it ends it is stopped in 30 s");
    ends(&mut world, 0);
    assert_eq!(phase(&world), JobPhase::Succeeded);
    world.settle();
    assert_eq!((world.count("run", JOB), world.count("run", 1)), (1, 1));
    assert!(world.processes.keys().any(|attempt| attempt.job == JobId(JOB)), "its container is kept for its output");
    world.accept(vec![service()]);
    world.settle();
    assert!(world.processes.keys().all(|attempt| attempt.job != JobId(JOB)), "until no set names it");
    assert!(!world.ledger.jobs.contains_key(&JobId(JOB)) && !world.ledger.values.contains_key(&ValueId(JOB)));
    assert!(world.is_up(1));
}

#[test]
fn a_command_that_fails_is_not_run_again_and_tells_its_code_and_last_lines() {
    let mut world = running();
    ends(&mut world, 4);
    let Some(Failure::Exited { code, last_lines, .. }) = world.job(JOB).failure.clone() else {
        panic!("{:?}", world.job(JOB))
    };
    assert_eq!((phase(&world), code, last_lines), (JobPhase::Failed, 4, vec!["bye".to_owned()]));
    world.settle();
    assert_eq!(world.count("run", JOB), 1);
}

#[test]
fn a_command_without_its_image_or_that_cannot_start_has_never_run() {
    for (behaviour, phase) in [(Behaviour::NoImage, JobPhase::Rejected), (Behaviour::Refused, JobPhase::Failed)] {
        let mut world = World::default();
        world.accept(vec![once(behaviour)]);
        world.until("it is given up", |world| world.job(JOB).phase.is_final());
        assert_eq!(world.job(JOB).phase, phase, "{behaviour:?}");
        assert!(world.job(JOB).failure.is_some());
    }
}

#[test]
fn a_command_that_does_not_end_is_stopped_when_its_time_is_over() {
    let mut world = running();
    let began = world.now;
    world.until("it is stopped", |world| world.when("terminate", JOB).is_some());
    assert!((29_000..=31_000).contains(&(world.now - began)));
    world.pass(500);
    let failure = Failure::TimedOut { timeout: Millis(30_000), last_lines: vec!["bye".to_owned()] };
    assert_eq!((phase(&world), world.job(JOB).failure.clone()), (JobPhase::Failed, Some(failure)));
    world.settle();
    assert_eq!(world.count("run", JOB), 1);
}

#[test]
fn a_command_that_is_told_to_end_gets_its_signal_and_its_grace() {
    let mut world = running();
    let mut stopped = once(Behaviour::Good);
    stopped.once = stopped.once.map(|once| Once { stop: true, ..once });
    world.accept(vec![service(), stopped]);
    world.pass(500);
    assert_eq!((phase(&world), world.count("terminate", JOB)), (JobPhase::Stopped, 1));
    let mut world = World::default();
    let mut never = once(Behaviour::Good);
    never.once = never.once.map(|once| Once { stop: true, ..once });
    world.accept(vec![never]);
    world.settle();
    assert_eq!(
        (phase(&world), world.count("run", JOB)),
        (JobPhase::Rejected, 0),
        "one that had not begun does not begin"
    );
}

#[test]
fn an_agent_that_dies_takes_its_running_command_over_or_tells_its_end() {
    for ends_meanwhile in [false, true] {
        let mut world = running();
        if ends_meanwhile {
            world.process(JOB).exit = Some((0, false));
        }
        world.crash_agent();
        world.pass(1_000);
        assert_eq!(phase(&world), if ends_meanwhile { JobPhase::Succeeded } else { JobPhase::Running });
        world.settle();
        assert_eq!(world.count("run", JOB), 1);
    }
}

#[test]
fn an_agent_that_dies_at_any_step_does_not_run_a_command_twice() {
    for effects in 0..6 {
        let mut world = World::default();
        world.dies_after = Some(effects);
        world.accept(vec![once(Behaviour::Good)]);
        world.until("the command runs", |world| world.is_up(JOB));
        ends(&mut world, 0);
        world.settle();
        assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Succeeded, 1), "after {effects} effects");
    }
}

#[test]
fn a_lost_ledger_runs_no_command_again() {
    for exit in [None, Some(0), Some(7)] {
        let mut world = running();
        if let Some(code) = exit {
            world.process(JOB).exit = Some((code, false));
        }
        world.lose_ledger();
        world.pass(1_000);
        world.accept(vec![service(), once(Behaviour::Good)]);
        world.pass(1_000);
        let expected = match exit {
            None => JobPhase::Running,
            Some(0) => JobPhase::Succeeded,
            Some(_) => JobPhase::Failed,
        };
        assert_eq!((phase(&world), world.count("run", JOB)), (expected, 1), "{exit:?}");
    }
}

#[test]
fn a_machine_that_starts_anew_does_not_run_a_command_again() {
    let mut world = running();
    world.reboot();
    world.settle();
    assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Failed, 1));
    assert!(world.is_up(1), "the service's job is up again");
}

#[test]
fn an_engine_that_is_silent_ends_no_command() {
    let mut world = running();
    world.engine_is_up = false;
    world.pass(60_000);
    assert_eq!(phase(&world), JobPhase::Running, "nobody can tell");
    world.process(JOB).exit = Some((0, false));
    world.engine_is_up = true;
    world.pass(1_000);
    assert_eq!(phase(&world), JobPhase::Succeeded);
}

#[test]
fn a_command_waits_for_room_and_is_given_up_after_a_while() {
    let mut world = World::default();
    let mut large = once(Behaviour::Good);
    large.run.spec.size.memory_bytes = CAPACITY.memory_bytes + 1;
    world.accept(vec![large]);
    world.pass(1_000);
    assert!(world.why(&release()).contains("MiB memory wanted"), "{}", world.why(&release()));
    world.settle();
    assert!(matches!(world.job(JOB).failure, Some(Failure::NoRoom { .. })));
    assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Rejected, 0));
}

#[test]
fn a_command_of_a_service_that_stops_when_cut_off_is_stopped_and_not_begun_again() {
    let mut world = World::default();
    let mut one = once(Behaviour::Good);
    one.run.spec.when_cut_off = WhenCutOff::Stop;
    world.accept(vec![one]);
    world.until("the command runs", |world| world.is_up(JOB));
    world.seen.lease_ends = Some(Tick(world.now));
    world.pass(1_000);
    assert_eq!(phase(&world), JobPhase::Stopped);
    world.seen.lease_ends = Some(Tick(u64::MAX));
    world.settle();
    assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Stopped, 1));
}

#[test]
fn a_command_that_failed_holds_up_no_replacement_of_its_service() {
    let mut world = running();
    ends(&mut world, 1);
    let mut failed = once(Behaviour::Good);
    failed.deployment = assignment(slot(1, 1), 2, 2, Behaviour::Good).deployment;
    world.accept(vec![assignment(slot(1, 1), 2, 2, Behaviour::Good), failed]);
    world.until("job 2 has the slot", |world| world.routed() == [2]);
}

#[test]
fn what_has_ended_or_was_stopped_is_not_begun_by_a_node_that_forgot_it() {
    for forgets_container in [false, true] {
        let mut world = running();
        ends(&mut world, 0);
        world.lose_ledger();
        if forgets_container {
            world.processes.retain(|attempt, _| attempt.job != JobId(JOB));
        }
        world.pass(1_000);
        let mut ended = once(Behaviour::Good);
        ended.once = ended.once.map(|once| Once { stop: true, ..once });
        world.accept(vec![service(), ended]);
        world.settle();
        let expected = if forgets_container { JobPhase::Rejected } else { JobPhase::Succeeded };
        assert_eq!((phase(&world), world.count("run", JOB)), (expected, 1), "{forgets_container}");
    }
}

#[test]
fn a_command_that_a_new_boot_cut_off_has_not_succeeded_whatever_its_code_is() {
    let mut world = running();
    // The engine was told to end, and stopped it.
    world.process(JOB).exit = Some((0, false));
    world.reboot();
    world.settle();
    assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Failed, 1));
    let failure = world.job(JOB).failure.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(failure.contains("whether it came to its end is not known"), "{failure}");
}

#[test]
fn a_command_of_which_nothing_was_made_begins_after_a_new_boot() {
    for has_begun in [false, true] {
        let mut world = World::default();
        world.accept(vec![service()]);
        world.until("job 1 runs", |world| world.phase(&slot(1, 1)) == Some(Phase::Done));
        if has_begun {
            world.dies_after = Some(0);
            world.accept(vec![service(), once(Behaviour::Good)]);
            world.until("the agent dies before it makes anything", |world| world.dies_after.is_none());
            assert_eq!(phase(&world), JobPhase::Creating);
        } else {
            world.engine_is_up = false;
            world.accept(vec![service(), once(Behaviour::Good)]);
        }
        world.reboot();
        world.engine_is_up = true;
        world.until("the command runs", |world| world.is_up(JOB));
        ends(&mut world, 0);
        assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Succeeded, 1), "{has_begun}");
    }
}

#[test]
fn a_command_whose_container_is_removed_before_it_was_seen_to_run_is_not_begun_again() {
    let mut world = running();
    world.ledger.jobs.get_mut(&JobId(JOB)).unwrap().phase = JobPhase::Starting;
    world.processes.retain(|attempt, _| attempt.job != JobId(JOB));
    world.settle();
    assert_eq!((phase(&world), world.count("run", JOB)), (JobPhase::Failed, 1));
}
