//! The strategies besides `rolling`, and what they have in common with it: whatever goes wrong, somebody serves.

use crate::world::*;
use lapstrake_core::assignment::{Assignment, Traffic};
use lapstrake_core::ids::{JobId, SlotId};
use lapstrake_core::report::{Failure, JobPhase, ReplacementPhase as Phase};
use lapstrake_core::spec::Strategy;
use std::collections::BTreeMap;

/// A node on which a service has so many slots, with the jobs 1, 2, … of deployment 1.
fn running(slots: u32) -> World {
    let mut world = World::default();
    world.accept((1..=slots).map(|n| assignment(slot(1, n), n.into(), 1, Behaviour::Good)).collect());
    let jobs: Vec<u128> = (1..=slots).map(u128::from).collect();
    world.until("all run", |world| {
        world.routed() == jobs && world.ledger.replacements.values().all(|it| it.phase == Phase::Done)
    });
    world
}

/// The jobs 11, 12, … of deployment 2 for so many slots.
fn next(slots: u32, behaviour: Behaviour, change: impl Fn(&mut Assignment)) -> Vec<Assignment> {
    let one = |n: u32| {
        let mut one = assignment(slot(1, n), 10 + u128::from(n), 2, behaviour);
        change(&mut one);
        one
    };
    (1..=slots).map(one).collect()
}

fn recreate(one: &mut Assignment) {
    one.run.spec.deploy.strategy = Strategy::Recreate;
}

fn waits(traffic: Traffic) -> impl Fn(&mut Assignment) {
    move |one| (one.run.spec.deploy.strategy, one.traffic) = (Strategy::Canary, traffic)
}

fn weights(world: &World) -> BTreeMap<u128, u32> {
    let backends = world.ledger.table.routes.iter().flat_map(|route| &route.backends);
    backends.map(|backend| (backend.job.0, backend.weight)).collect()
}

fn up(world: &World, slot: &SlotId) -> usize {
    let of_slot = |job: &JobId| world.ledger.jobs.get(job).is_some_and(|job| job.assignment.slot == *slot);
    world.processes.iter().filter(|(attempt, one)| one.exit.is_none() && of_slot(&attempt.job)).count()
}

#[test]
fn recreate_ends_the_old_job_before_the_new_one_starts_and_after_its_image_is_there() {
    let mut world = running(1);
    world.registry_is_up = false;
    // A behaviour is an image, and this one's is not on the node.
    world.accept(next(1, Behaviour::Stubborn, recreate));
    world.pass(2_000);
    assert!(world.is_up(1) && world.routed() == [1], "an image that is not there stops nothing");
    world.registry_is_up = true;
    while world.phase(&slot(1, 1)) != Some(Phase::Done) {
        assert!(up(&world, &slot(1, 1)) <= 1, "two at once");
        world.pass(100);
    }
    assert!(world.when("terminate", 1).unwrap() <= world.when("run", 11).unwrap());
    assert_eq!(world.routed(), [11]);
    let phases: Vec<Phase> = world.replacement(&slot(1, 1)).reached.iter().map(|(phase, _)| *phase).collect();
    let all =
        [Phase::Accepted, Phase::Pulling, Phase::Emptying, Phase::Starting, Phase::Ready, Phase::Switched, Phase::Done];
    assert_eq!(phases, all);
}

#[test]
fn recreate_lets_the_old_job_finish_what_it_has() {
    let mut world = running(1);
    world.proxies[0].open.insert(JobId(1), 1);
    world.accept(next(1, Behaviour::Good, recreate));
    world.pass(3_000);
    assert!(world.is_up(1) && world.routed().is_empty(), "no new request, and the open one goes on");
    assert!(world.why(&slot(1, 1)).starts_with("1 connection open"), "{}", world.why(&slot(1, 1)));
    world.proxies[0].open.clear();
    world.until("the new job serves", |world| world.routed() == [11]);
}

#[test]
fn recreate_that_fails_starts_the_old_revision_again() {
    for bad in [Behaviour::Exits, Behaviour::Sick, Behaviour::Refused] {
        let mut world = running(1);
        world.accept(next(1, bad, recreate));
        world.until("the old revision serves again", |world| {
            world.phase(&slot(1, 1)) == Some(Phase::Abandoned) && world.routed() == [1]
        });
        assert!(world.replacement(&slot(1, 1)).failure.is_some(), "and it says why");
        assert_eq!(world.job(1).attempt, 2);
        assert!(!world.is_up(11));
    }
}

#[test]
fn recreate_that_cannot_pull_its_image_takes_nothing_down() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::NoImage, recreate));
    world.until("it is given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert_eq!((world.job(1).attempt, world.routed()), (1, vec![1]));
    assert!(world.when("terminate", 1).is_none());
}

#[test]
fn recreate_takes_one_slot_after_the_other_so_that_the_others_serve() {
    let mut world = running(3);
    world.accept(next(3, Behaviour::Good, recreate));
    for _ in 0..1_000 {
        assert!(world.routed().len() >= 2, "{:?}", world.routed());
        world.pass(100);
    }
    assert_eq!(world.routed(), [11, 12, 13]);
}

#[test]
fn recreate_needs_no_room_for_both_jobs() {
    let mut world = running(1);
    let whole = world.seen.capacity.memory_bytes;
    let big = |one: &mut Assignment| {
        recreate(one);
        one.run.spec.size.memory_bytes = whole;
    };
    world.accept(next(1, Behaviour::Good, big));
    world.until("the new job serves", |world| world.routed() == [11]);
}

#[test]
fn recreate_survives_a_dead_agent_and_a_new_boot_at_every_step() {
    for step in 0..40 {
        for boot in [false, true] {
            let mut world = running(1);
            world.accept(next(1, Behaviour::Good, recreate));
            world.pass(step * 200);
            if boot {
                world.reboot()
            } else {
                world.crash_agent()
            }
            world.until("the new job serves", |world| world.routed() == [11] && !world.is_up(1));
            assert!(up(&world, &slot(1, 1)) == 1);
        }
    }
}

#[test]
fn a_newer_deployment_takes_over_from_a_recreate_at_every_step_and_never_are_two_jobs_up() {
    for step in 0..40 {
        let mut world = running(1);
        world.accept(next(1, Behaviour::Good, recreate));
        world.pass(step * 200);
        let mut third = assignment(slot(1, 1), 21, 3, Behaviour::Good);
        recreate(&mut third);
        world.accept(vec![third]);
        for _ in 0..600 {
            assert!(up(&world, &slot(1, 1)) <= 1, "two at once after {step} steps");
            world.pass(100);
        }
        assert_eq!(world.routed(), [21], "after {step} steps");
    }
}

#[test]
fn max_unavailable_replaces_in_place_what_max_surge_does_not_replace_beside() {
    let mut world = running(3);
    let policy = |one: &mut Assignment| {
        (one.run.spec.deploy.max_surge, one.run.spec.deploy.max_unavailable) = (1, 1);
    };
    world.accept(next(3, Behaviour::Good, policy));
    let under_way = |world: &World| world.ledger.replacements.values().filter(|one| !one.phase.is_final()).count();
    assert_eq!(under_way(&world), 2, "one beside, one instead");
    let mut most_up = 0;
    for _ in 0..1_000 {
        assert!(world.routed().len() >= 2);
        most_up = most_up.max(world.processes.values().filter(|one| one.exit.is_none()).count());
        world.pass(100);
    }
    assert_eq!((world.routed(), most_up), (vec![11, 12, 13], 4), "at most one more than the slots");
}

#[test]
fn jobs_that_are_held_get_no_request_until_they_are_released_all_at_once() {
    let mut world = running(3);
    world.accept(next(3, Behaviour::Good, waits(Traffic::Held)));
    world.until("all are ready", |world| (1..=3).all(|n| world.phase(&slot(1, n)) == Some(Phase::Ready)));
    world.pass(5_000);
    assert_eq!(world.routed(), [1, 2, 3]);
    assert_eq!(world.why(&slot(1, 2)), "ready; waits until all jobs of the deployment are");
    world.accept(next(3, Behaviour::Good, waits(Traffic::Full)));
    assert_eq!(world.routed(), [11, 12, 13], "one table");
    world.until("the old jobs end", |world| (1..=3).all(|n| world.phase(&slot(1, n)) == Some(Phase::Done)));
}

#[test]
fn jobs_that_nobody_releases_are_given_up_at_the_timeout_and_the_old_ones_serve_on() {
    let mut world = running(2);
    world.accept(next(2, Behaviour::Good, waits(Traffic::Held)));
    world.until("both are given up", |world| (1..=2).all(|n| world.phase(&slot(1, n)) == Some(Phase::Abandoned)));
    assert!(matches!(world.replacement(&slot(1, 1)).failure, Some(Failure::NotReleased { .. })));
    assert_eq!(world.routed(), [1, 2]);
    assert!(world.when("terminate", 1).is_none() && world.when("terminate", 11).is_some());
}

#[test]
fn a_held_job_that_fails_is_given_up_and_never_had_a_request() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, waits(Traffic::Held)));
    world.until("it is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    for process in world.processes.iter_mut().filter(|(attempt, _)| attempt.job == JobId(11)) {
        process.1.sick = true;
    }
    world.until("it is given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    assert_eq!(world.job(11).attempt, 1, "it is not tried again");
    assert_eq!(world.routed(), [1]);
}

#[test]
fn a_share_is_what_the_waiting_jobs_get_together_and_it_can_grow() {
    let mut world = running(4);
    let canary = |share| {
        let mut set = next(1, Behaviour::Good, waits(Traffic::Share(share)));
        set.extend((2..=4).map(|n| assignment(slot(1, n), n.into(), 1, Behaviour::Good)));
        set
    };
    world.accept(canary(10));
    world.until("the canary is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    assert_eq!(weights(&world), BTreeMap::from([(1, 9), (2, 9), (3, 9), (4, 9), (11, 4)]), "4 of 40");
    assert_eq!(world.why(&slot(1, 1)), "ready; has 10 % of the requests until it is given the rest");
    world.accept(canary(50));
    assert_eq!(weights(&world), BTreeMap::from([(1, 1), (2, 1), (3, 1), (4, 1), (11, 4)]));
    world.pass(600_000);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Ready), "it waits for as long as it is told");
    let mut set = next(4, Behaviour::Good, waits(Traffic::Full));
    set.sort_by_key(|one| one.slot.clone());
    world.accept(set);
    world.until("all are replaced", |world| world.routed() == [11, 12, 13, 14] && !world.is_up(4));
}

#[test]
fn a_canary_that_is_taken_back_leaves_the_old_jobs_as_they_were() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, waits(Traffic::Share(20))));
    world.until("the canary is ready", |world| world.routed() == [1, 11]);
    world.proxies[0].open.insert(JobId(11), 1);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    assert_eq!(world.routed(), [1]);
    world.pass(2_000);
    assert!(world.is_up(11), "it finishes what it has");
    world.proxies[0].open.clear();
    world.until("it is gone", |world| !world.is_up(11));
    assert_eq!((world.job(1).attempt, world.job(1).phase), (1, JobPhase::Running));
}

#[test]
fn a_canary_stays_what_it_is_when_the_agent_dies() {
    let mut world = running(2);
    world.accept(next(2, Behaviour::Good, waits(Traffic::Share(30))));
    world.until("both are ready", |world| world.routed() == [1, 2, 11, 12]);
    let before = weights(&world);
    world.crash_agent();
    world.pass(30_000);
    assert_eq!(weights(&world), before);
}

#[test]
fn recreate_that_fails_and_is_told_to_go_back_at_once_never_has_two_jobs_up() {
    // The new job runs, never gets well, and takes its whole grace to end; the controller's next set comes at once.
    let mut world = running(1);
    world.accept(next(1, Behaviour::Sick, recreate));
    world.until("it is given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    world.proxies[0].open.insert(JobId(11), 1);
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    for _ in 0..600 {
        assert!(up(&world, &slot(1, 1)) <= 1, "two at once");
        if world.now > 120_000 {
            world.proxies[0].open.clear();
        }
        world.pass(100);
    }
    assert_eq!(world.routed(), [1]);
}

#[test]
fn an_old_job_that_dies_while_its_successor_waits_for_an_image_is_started_again() {
    let mut world = running(1);
    world.registry_is_up = false;
    world.accept(next(1, Behaviour::Stubborn, recreate));
    world.pass(1_000);
    for process in world.processes.values_mut() {
        process.exit = Some((1, false));
    }
    world.until("it serves again", |world| world.routed() == [1] && world.is_up(1));
    assert_eq!((world.job(1).attempt, world.phase(&slot(1, 1))), (2, Some(Phase::Pulling)));
    world.registry_is_up = true;
    world.until("the new job serves", |world| world.routed() == [11] && !world.is_up(1));
}

#[test]
fn a_canary_that_was_held_for_long_has_its_time_again_when_it_is_released() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, waits(Traffic::Share(10))));
    world.until("it is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    world.pass(300_000);
    // An agent that has just started has asked nobody yet: it cannot say that the job is ready, and min_healthy begins anew.
    world.crash_agent();
    world.accept(next(1, Behaviour::Good, waits(Traffic::Full)));
    world.until("it has the slot", |world| world.routed() == [11] && !world.is_up(1));
}

#[test]
fn a_canary_gets_nothing_where_nobody_serves_beside_it_until_it_is_released() {
    let mut world = World::default();
    world.accept(next(1, Behaviour::Good, waits(Traffic::Share(10))));
    world.until("it is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    world.pass(5_000);
    assert_eq!(world.routed(), [0u128; 0], "a share of nothing");
    world.accept(next(1, Behaviour::Good, waits(Traffic::Full)));
    world.until("it serves", |world| world.routed() == [11]);
}

#[test]
fn a_canary_takes_no_path_away_from_the_jobs_beside_it() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, |one| {
        waits(Traffic::Share(50))(one);
        one.run.spec.ports[0].path = Some("/api".into());
    }));
    world.until("it is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
    let paths: Vec<&str> = world.ledger.table.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!((paths, weights(&world)), (vec!["/"], BTreeMap::from([(1, 1)])));
}

#[test]
fn a_job_that_waits_goes_on_waiting_when_the_ledger_is_lost() {
    for traffic in [Traffic::Held, Traffic::Share(10)] {
        let mut world = World::default();
        world.accept(next(1, Behaviour::Good, waits(traffic)));
        world.until("it is ready", |world| world.phase(&slot(1, 1)) == Some(Phase::Ready));
        world.lose_ledger();
        world.accept(next(1, Behaviour::Good, waits(traffic)));
        world.pass(10_000);
        assert_eq!((world.phase(&slot(1, 1)), world.routed()), (Some(Phase::Ready), vec![]), "{traffic:?}");
        assert_eq!((world.count("run", 11), world.job(11).phase), (1, JobPhase::Running));
        world.accept(next(1, Behaviour::Good, waits(Traffic::Full)));
        world.until("it serves", |world| world.routed() == [11]);
    }
}

#[test]
fn recreate_that_is_overtaken_when_its_new_job_serves_goes_on_serving_until_the_next_ones_image_is_there() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, recreate));
    world.until("the new job runs", |world| world.is_up(11));
    // A second proxy does not acknowledge, so that the replacement stays where it is.
    world.proxies.push(ProxyProcess { pid: 300, stuck: true, ..ProxyProcess::default() });
    world.until("the new job serves", |world| world.routed() == [11]);
    assert_eq!(world.phase(&slot(1, 1)), Some(Phase::Ready));
    world.registry_is_up = false;
    let mut third = assignment(slot(1, 1), 21, 3, Behaviour::Stubborn);
    recreate(&mut third);
    world.accept(vec![third]);
    for step in 0..20 {
        assert_eq!((world.routed(), world.count("run", 1)), (vec![11], 1));
        if step == 10 {
            world.proxies.pop();
        }
        world.pass(100);
    }
    world.registry_is_up = true;
    while world.phase(&slot(1, 1)) != Some(Phase::Done) || world.routed() != [21] {
        assert!(up(&world, &slot(1, 1)) <= 1, "two at once");
        world.pass(100);
        assert!(world.now < 600_000, "{}", world.why(&slot(1, 1)));
    }
    assert_eq!(world.count("run", 1), 1, "the first one was not started again for nothing");
}

#[test]
fn recreate_waits_for_the_end_of_a_job_that_was_given_up_before_anybody_had_the_slot() {
    let mut world = World::default();
    world.accept(next(1, Behaviour::Sick, recreate));
    world.until("it runs", |world| world.is_up(11));
    world.proxies[0].open.insert(JobId(11), 1);
    let mut third = assignment(slot(1, 1), 21, 3, Behaviour::Good);
    recreate(&mut third);
    world.accept(vec![third]);
    world.pass(1_000);
    assert!(world.is_up(11), "it finishes what it has");
    while world.routed() != [21] {
        assert!(up(&world, &slot(1, 1)) <= 1, "two at once");
        world.pass(100);
        assert!(world.now < 600_000, "{}", world.why(&slot(1, 1)));
    }
}

#[test]
fn a_replacement_keeps_when_its_new_job_was_good_first_and_what_it_answered_before() {
    let mut world = running(1);
    world.accept(next(1, Behaviour::Good, |_| {}));
    world.until("it runs", |world| world.is_up(11));
    world.process(11).sick = true;
    world.pass(1_000);
    world.process(11).sick = false;
    let recovered = world.instant().wall;
    world.until("it is good", |world| world.replacement(&slot(1, 1)).phase >= Phase::Ready);
    let one = world.replacement(&slot(1, 1));
    assert!(one.good_at.is_some_and(|at| at > recovered), "{one:?}");
    assert_eq!(one.bad_answer.as_deref(), Some("503 no"));
    let mut world = running(1);
    world.accept(next(1, Behaviour::Sick, |_| {}));
    world.until("it is given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
    let one = world.replacement(&slot(1, 1));
    assert_eq!((one.good_at, one.bad_answer.as_deref()), (None, Some("503 no")));
    let told = &world.last_plan.as_ref().expect("a plan").report.replacements[0];
    assert_eq!(told.bad_answer, one.bad_answer);
}

/// A node that has lost its ledger while the job 1 of the slot runs.
fn without_a_ledger(behaviour: Behaviour, change: impl Fn(&mut Assignment)) -> World {
    let mut world = World::default();
    let mut old = assignment(slot(1, 1), 1, 1, behaviour);
    change(&mut old);
    world.accept(vec![old]);
    world.until("job 1 runs", |world| world.routed() == [1]);
    world.lose_ledger();
    world.set_number = 10;
    world
}

/// Such a node that is given the job 11 for the slot; the job 1 does not end on its stop signal.
fn overtaken_without_a_ledger(change: impl Fn(&mut Assignment)) -> World {
    let mut world = without_a_ledger(Behaviour::Stubborn, &change);
    world.accept(next(1, Behaviour::Good, change));
    world
}

#[test]
fn recreate_starts_nothing_beside_a_container_that_a_lost_ledger_has_forgotten_and_says_so() {
    let mut world = overtaken_without_a_ledger(recreate);
    world.until("the image is there", |world| world.images.contains_key(&Behaviour::Good.image()));
    world.pass(2_000);
    assert_eq!((world.is_up(1), world.is_up(11)), (true, false));
    let job = JobId(1);
    let why =
        format!("waits until job {job} has ended, which may run in this slot and of which the node has no record");
    assert_eq!(world.why(&slot(1, 1)), why);
    assert_eq!(world.replacement(&slot(1, 1)).phase, Phase::Pulling, "pull first");
    world.until("the new one serves", |world| world.routed() == [11]);
    let (kill, run) = (world.when("kill", 1).unwrap(), world.when("run", 11).unwrap());
    assert!(run >= kill, "started at {run}, and the other was killed at {kill}");
}

#[test]
fn a_strategy_that_may_have_two_jobs_up_does_not_wait_for_what_a_lost_ledger_has_forgotten() {
    let mut world = overtaken_without_a_ledger(|_| {});
    world.until("the new one serves", |world| world.routed() == [11]);
    assert!(world.is_up(1), "it has its stop grace still");
}

#[test]
fn recreate_waits_for_the_proxy_that_keeps_a_forgotten_container_from_being_stopped_and_names_it() {
    let mut world = without_a_ledger(Behaviour::Good, recreate);
    world.proxies[0].stuck = true;
    world.accept(next(1, Behaviour::Good, recreate));
    world.pass(20_000);
    assert_eq!((world.is_up(1), world.is_up(11)), (true, false));
    let why = format!("waits for proxy 100 to acknowledge route table {}", world.ledger.table.generation);
    assert_eq!(world.why(&slot(1, 1)), why);
    world.proxies[0].stuck = false;
    world.until("the new one serves", |world| world.routed() == [11]);
}

#[test]
fn recreate_waits_for_the_operator_where_a_restored_store_keeps_forgotten_containers_from_being_stopped() {
    let mut world = without_a_ledger(Behaviour::Good, recreate);
    world.accept_with(next(1, Behaviour::Good, recreate), false);
    world.pass(20_000);
    assert_eq!((world.is_up(1), world.is_up(11)), (true, false));
    assert!(world.why(&slot(1, 1)).ends_with("`lapstrake-controller accept-restored`"), "{}", world.why(&slot(1, 1)));
    world.accept_with(next(1, Behaviour::Good, recreate), true);
    world.until("the new one serves", |world| world.routed() == [11]);
}

#[test]
fn a_job_that_is_given_up_because_a_forgotten_container_does_not_end_says_so() {
    let timeout = next(1, Behaviour::Good, recreate)[0].run.timeout();
    for stuck in [false, true] {
        let mut world = without_a_ledger(Behaviour::Good, recreate);
        world.proxies[0].stuck = stuck;
        world.accept_with(next(1, Behaviour::Good, recreate), stuck);
        world.until("it is given up", |world| world.phase(&slot(1, 1)) == Some(Phase::Abandoned));
        let Some(Failure::CannotStart { said }) = &world.replacement(&slot(1, 1)).failure else {
            panic!("{:?}", world.replacement(&slot(1, 1)).failure)
        };
        let why = match stuck {
            true => format!("after {timeout} it still waits for proxy 100 to acknowledge route table"),
            false => format!("after {timeout} it still waits until job {} has ended, which may run in", JobId(1)),
        };
        assert!(said.starts_with(&why), "{said}");
        assert_eq!((world.is_up(1), world.is_up(11)), (true, false));
    }
}

#[test]
fn recreate_starts_nothing_beside_a_forgotten_container_of_which_nobody_knows_yet_which_slot_it_fills() {
    let mut world = World::default();
    // What a dying agent had begun comes up only now: an event tells of it, and the list that has its labels comes later.
    world.accept(vec![assignment(slot(2, 1), 1, 1, Behaviour::Stubborn)]);
    world.until("job 1 runs", |world| world.routed() == [1]);
    world.unlabelled.insert(JobId(1));
    world.lose_ledger();
    world.set_number = 10;
    world.accept(next(1, Behaviour::Good, recreate));
    world.pass(2_000);
    assert_eq!((world.is_up(1), world.is_up(11)), (true, false));
    world.unlabelled.clear();
    world.until("the new one serves", |world| world.routed() == [11]);
    assert!(world.is_up(1), "it is another slot's");
}

#[test]
fn recreate_starts_nothing_beside_a_forgotten_container_that_comes_up_when_its_own_is_about_to_be_made() {
    let mut world = World::default();
    world.accept(vec![assignment(slot(2, 1), 5, 1, Behaviour::Good)]);
    world.until("job 5 runs", |world| world.routed() == [5]);
    world.lose_ledger();
    world.set_number = 10;
    // No address is given away before the proxy has acknowledged the first table.
    world.proxies[0].stuck = true;
    world.accept(next(1, Behaviour::Good, recreate));
    world.until("it waits for its address", |world| world.job(11).phase == JobPhase::Creating);
    world.comes_up(&assignment(slot(1, 1), 1, 1, Behaviour::Stubborn));
    world.proxies[0].stuck = false;
    world.until("the new one serves", |world| world.routed() == [11]);
    assert!(!world.is_up(1));
}

#[test]
fn a_node_tells_what_runs_without_its_knowledge_and_in_which_slot_and_whether_that_may_be_all() {
    let mut world = World::default();
    world.accept(vec![
        assignment(slot(1, 1), 1, 1, Behaviour::Good),
        assignment(slot(1, 2), 2, 1, Behaviour::Stubborn),
        assignment(slot(2, 1), 3, 1, Behaviour::Good),
    ]);
    world.until("all run", |world| world.routed() == [1, 2, 3]);
    let told = |world: &World| {
        let report = &world.last_plan.as_ref().expect("a plan").report;
        let strays: Vec<_> = report.strays.iter().map(|one| (one.job.0, one.slot.clone())).collect();
        (strays, report.strays_unclear)
    };
    assert_eq!(told(&world), (vec![], false));
    world.engine_is_up = false;
    world.lose_ledger();
    world.set_number = 10;
    world.decide();
    assert_eq!(told(&world), (vec![], true), "the engine has not told yet what runs");
    world.engine_is_up = true;
    world.unlabelled.insert(JobId(3));
    world.mute.insert(JobId(1));
    world.decide();
    assert_eq!(told(&world), (vec![(1, slot(1, 1)), (2, slot(1, 2))], true), "of one nobody knows which slot it fills");
    world.unlabelled.clear();
    world.mute.clear();
    world.accept(vec![assignment(slot(1, 1), 1, 1, Behaviour::Good)]);
    assert_eq!(told(&world), (vec![(2, slot(1, 2))], false), "what is wanted is known again, and one has ended");
    world.until("the other one has ended too", |world| !world.is_up(2));
    assert_eq!(told(&world), (vec![], false));
}
