//! `lap run`: a command beside a service's jobs.

use crate::cluster::command::{Answer, Command, Outcome, Refusal, RefusalKind, Which};
use crate::cluster::enter;
use crate::cluster::one_offs::MOST_ENDED;
use crate::cluster::running::{MOST_RUNNING, RunOnce};
use crate::cluster::state::*;
use crate::cluster::tests::world::*;
use crate::ids::JobId;
use crate::message::{Exec, Way};
use crate::time::Millis;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn deployed(nodes: u128) -> World {
    let mut world = World::with_nodes(nodes);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    world
}

fn once(command: &[&str]) -> RunOnce {
    RunOnce {
        service: path(WEB),
        command: command.iter().map(ToString::to_string).collect(),
        env: Default::default(),
        timeout: None,
    }
}

fn run(world: &mut World, command: &[&str]) -> Result<Outcome, Vec<Refusal>> {
    world.run(Command::Run(once(command)))
}

fn begun(world: &mut World, command: &[&str]) -> OneOff {
    let Answer::OneOff { service, number } = run(world, command).unwrap().answer else { panic!("it runs nothing") };
    world.cluster.get::<OneOff>(&(service, number)).unwrap().clone()
}

fn how(world: &World, job: JobId) -> Option<Ending> {
    let one = world.cluster.all::<OneOff>().find(|one| one.job == job).expect("it is kept");
    one.end.as_ref().map(|end| end.how.clone())
}

#[test]
fn a_command_runs_beside_the_jobs_and_counts_as_none_of_them() {
    let mut world = deployed(1);
    let one = begun(&mut world, &["ok"]);
    world.settle();
    assert_eq!(how(&world, one.job), Some(Ending::Succeeded));
    let status = world.status(WEB);
    assert_eq!((status.wanted, status.healthy, status.slots.len()), (1, 1, 1));
    let told = world.cluster.assignments(one.node, true).unwrap();
    let told = told.assignments.iter().find(|it| it.job == one.job).expect("its container is kept");
    assert!(told.run.spec.ports.is_empty() && told.run.spec.health.is_empty(), "no route leads to it");
    world.wait(Millis::secs(11 * 60));
    assert!(world.cluster.all::<OneOff>().next().is_none(), "and forgotten after ten minutes");
}

#[test]
fn a_command_that_fails_says_with_which_code() {
    let mut world = deployed(1);
    let one = begun(&mut world, &["fail"]);
    world.settle();
    let how = how(&world, one.job).unwrap().to_string();
    assert!(how.starts_with("the process exited with code 3"), "{how}");
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete, "the service has nothing to do with it");
}

#[test]
fn a_command_can_be_stopped_and_runs_while_the_service_is_paused() {
    let mut world = deployed(1);
    world.run(Command::Pause { which: Which::Service(path(WEB)), reason: None }).unwrap();
    world.settle();
    let one = begun(&mut world, &["hang"]);
    world.settle();
    assert_eq!(how(&world, one.job), None);
    let stop = || Command::EndRun { service: path(WEB), job: one.job };
    assert_eq!(world.run(stop()).unwrap().answer, Answer::Recorded);
    assert_eq!(world.run(stop()).unwrap().answer, Answer::Unchanged);
    world.settle();
    assert_eq!(how(&world, one.job), Some(Ending::Stopped { why: "ada stopped it".into() }));
}

#[test]
fn a_command_gets_the_variables_that_it_is_given_and_the_events_do_not_tell_it() {
    let mut world = deployed(1);
    let env = [("LEVEL".to_string(), "debug".to_string())].into();
    let Answer::OneOff { service, number } =
        world.run(Command::Run(RunOnce { env, ..once(&["hang", "s3cret"]) })).unwrap().answer
    else {
        panic!("it runs nothing")
    };
    let one = world.cluster.get::<OneOff>(&(service, number)).unwrap().clone();
    let set = world.cluster.assignments(one.node, true).unwrap();
    let told = set.assignments.iter().find(|it| it.job == one.job).unwrap();
    assert_eq!(told.run.spec.env.get("LEVEL").map(String::as_str), Some("debug"));
    assert_eq!(told.run.spec.command, ["hang", "s3cret"]);
    world.settle();
    assert!(!world.sentences().iter().any(|it| it.contains("s3cret")), "{:?}", world.sentences());
}

#[test]
fn what_cannot_run_is_refused_with_every_reason() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("missing:1", 1))]);
    world.settle();
    assert_eq!(run(&mut world, &["ok"]).unwrap_err()[0].kind, RefusalKind::Conflict, "no revision is known");
    let mut world = deployed(1);
    let env = [("A=B".to_string(), String::new()), ("C".to_string(), "\0".into())].into();
    let wrong = RunOnce { env, timeout: Some(Millis(0)), ..once(&[]) };
    let refusals = world.run(Command::Run(wrong)).unwrap_err();
    assert_eq!(refusals.len(), 4, "{refusals:#?}");
    world.cut(1);
    world.wait(Millis::secs(3));
    let refusals = run(&mut world, &["ok"]).unwrap_err();
    assert!(refusals[0].sentence.contains("no node of shop/production can take it"), "{refusals:#?}");
}

#[test]
fn only_so_many_commands_run_at_once_and_only_so_many_are_kept() {
    let mut world = deployed(1);
    let running: Vec<OneOff> = (0..MOST_RUNNING).map(|_| begun(&mut world, &["hang"])).collect();
    assert_eq!(run(&mut world, &["hang"]).unwrap_err()[0].kind, RefusalKind::Refused);
    for one in &running {
        world.run(Command::EndRun { service: path(WEB), job: one.job }).unwrap();
    }
    world.settle();
    for _ in 0..MOST_ENDED {
        begun(&mut world, &["ok"]);
        world.settle();
    }
    assert_eq!(world.cluster.all::<OneOff>().count(), MOST_ENDED);
}

#[test]
fn a_command_goes_on_while_its_node_is_lost_and_one_that_was_stopped_ends() {
    for is_stopped in [false, true] {
        let mut world = deployed(2);
        let one = begun(&mut world, &["hang"]);
        world.settle();
        world.cut(one.node.0);
        let stop = Command::EndRun { service: path(WEB), job: one.job };
        if is_stopped {
            world.run(stop.clone()).unwrap();
        }
        world.wait(Millis::secs(30));
        assert_eq!(matches!(how(&world, one.job), Some(Ending::Unknown { .. })), is_stopped);
        world.connect(one.node.0);
        world.settle();
        let runs = |world: &World| {
            world.agents[&one.node].jobs.values().any(|job| job.job == one.job && !job.phase.is_final())
        };
        assert_eq!(runs(&world), !is_stopped, "a returning node stops only what shall end");
        if !is_stopped {
            world.run(stop).unwrap();
            world.settle();
            assert_eq!(how(&world, one.job), Some(Ending::Stopped { why: "ada stopped it".into() }));
        }
    }
}

#[test]
fn nothing_runs_from_a_restored_store_before_that_is_accepted() {
    let mut world = deployed(1);
    world.live.restored = true;
    assert_eq!(run(&mut world, &["ok"]).unwrap_err()[0].kind, RefusalKind::Conflict);
}

#[test]
fn of_too_many_ended_commands_those_that_ended_first_are_forgotten() {
    let mut world = deployed(1);
    let long = begun(&mut world, &["hang"]);
    for _ in 0..MOST_ENDED {
        begun(&mut world, &["ok"]);
        world.settle();
        world.wait(Millis::secs(1));
    }
    world.run(Command::EndRun { service: path(WEB), job: long.job }).unwrap();
    world.settle();
    assert_eq!(world.cluster.all::<OneOff>().count(), MOST_ENDED);
    assert!(how(&world, long.job).is_some(), "it began first and ended last");
}

#[test]
fn a_node_is_not_taken_away_under_a_command() {
    let mut world = deployed(2);
    let one = begun(&mut world, &["hang"]);
    let node = world.cluster.node_name(one.node);
    let refusals = world.run(Command::RemoveNode { node, force: false }).unwrap_err();
    assert!(refusals[0].sentence.contains("(run.1)"), "{refusals:?}");
}

#[test]
fn people_enter_a_command_that_runs() {
    let mut world = deployed(1);
    let one = begun(&mut world, &["hang"]);
    world.settle();
    let exec = Exec { command: [String::from("sh")].into(), input: false, terminal: None };
    let which = enter::Which::Job(one.job);
    let way = Way::Exec(exec);
    let entered = world.run(Command::Enter(enter::Enter { service: path(WEB), which, way })).unwrap().answer;
    let Answer::Entrance(entrance) = entered else { panic!("{entered:?}") };
    assert_eq!((entrance.job, entrance.slot.as_str()), (one.job, "run.1"));
}
