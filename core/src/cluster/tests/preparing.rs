//! Release commands: once, before anything else, and fatal for the deployment when they fail.

use crate::cluster::command::{Applied, Change, Command, Which};
use crate::cluster::standing::StandingCommand;
use crate::cluster::state::*;
use crate::cluster::tests::world::*;
use crate::cluster::trial::Steer;
use crate::ids::NodeId;
use crate::spec::{ImageSource, Pull, ReleaseCommand, ServiceSpec};
use crate::time::Millis;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn releasing(image: &str, command: &str) -> ServiceSpec {
    let mut spec = web(image, 2);
    let command = vec![String::from(command), "migrate".into()];
    spec.deploy.release = Some(ReleaseCommand { command, timeout: Millis::secs(60) });
    spec
}

fn service() -> crate::assignment::ServicePath {
    path(WEB)
}

/// So often the agents have started each job that runs once, together.
fn starts(world: &World) -> u32 {
    world.agents.values().flat_map(|agent| agent.begun.values()).sum()
}

fn phase(world: &World) -> DeploymentPhase {
    world.last_deployment(WEB).phase
}

fn deployed(nodes: u128, command: &str) -> World {
    let mut world = World::with_nodes(nodes);
    world.apply("production", &[("web", releasing("hello:1", command))]);
    world.settle();
    world
}

/// Turns until the deployment runs its release command somewhere.
fn until_released(world: &mut World) -> NodeId {
    for _ in 0..50 {
        world.turn();
        let running = world.cluster.all::<OneOff>().find(|one| one.is_under_way());
        if let Some(one) = running.filter(|one| world.agents[&one.node].begun.contains_key(&one.job)) {
            return one.node;
        }
    }
    panic!("no release command runs: {:?}", world.live.waits);
}

/// Turns until the jobs are on their way.
fn until_rolling(world: &mut World) {
    while phase(world) != DeploymentPhase::Rolling {
        assert!(world.turn(), "{:?}", world.live.waits);
    }
}

#[test]
fn a_release_command_runs_once_before_any_job_of_its_deployment() {
    let mut world = deployed(2, "ok");
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 1));
    let reached: Vec<DeploymentPhase> = world.last_deployment(WEB).reached.iter().map(|(phase, _)| *phase).collect();
    let all = [
        DeploymentPhase::Queued,
        DeploymentPhase::Resolving,
        DeploymentPhase::Preparing,
        DeploymentPhase::Placing,
        DeploymentPhase::Rolling,
        DeploymentPhase::Complete,
    ];
    assert_eq!(reached, all);
    let told = world.sentences();
    let at = |text: &str| told.iter().position(|it| it.contains(text)).unwrap_or_else(|| panic!("{text}: {told:#?}"));
    assert!(at("release.1 on node-1: it ended with exit code 0") < at("web.1 on node-1 is accepted"), "{told:#?}");
    world.wait(Millis::secs(20 * 60));
    assert!(world.cluster.all::<OneOff>().next().is_none(), "what has ended is forgotten after a while");
    assert_eq!(world.running().len(), 2);
}

#[test]
fn every_new_revision_and_every_redeploy_runs_it_and_a_change_of_scale_does_not() {
    let mut world = deployed(1, "ok");
    world.run(Command::Redeploy { service: service() }).unwrap();
    world.settle();
    assert_eq!(starts(&world), 2, "a redeploy resolves the values anew");
    world.run(Command::Scale { service: service(), scale: 3 }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 2));
    world.run(Command::Deploy { service: service(), image: "hello:2".into() }).unwrap();
    world.settle();
    assert_eq!(starts(&world), 3);
    world.run(Command::Rollback { service: service(), to: None }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 4));
}

#[test]
fn a_plan_says_which_release_command_runs_before_any_job_is_replaced() {
    let planned = |world: &World, spec: ServiceSpec| {
        let plan = world.cluster.plan(&ada(), &file("production", &[("web", spec)]), world.wall()).unwrap();
        plan[0].release.clone()
    };
    let command = Some(vec![String::from("ok"), "migrate".into()]);
    assert_eq!(planned(&World::with_nodes(1), releasing("hello:1", "ok")), command);
    let mut world = deployed(1, "ok");
    let scaled = |image: &str| ServiceSpec { scale: 3, ..releasing(image, "ok") };
    assert_eq!(planned(&world, releasing("hello:2", "ok")), command);
    assert_eq!(planned(&world, web("hello:2", 2)), None);
    assert_eq!(planned(&world, releasing("hello:1", "ok")), None, "nothing would change");
    assert_eq!(planned(&world, scaled("hello:1")), None, "more of the same");
    world.apply("production", &[("web", releasing("hello:2", "ok"))]);
    assert_eq!(planned(&world, scaled("hello:2")), command, "it has not run yet");
    until_rolling(&mut world);
    world.run(Command::Scale { service: service(), scale: 4 }).unwrap();
    assert_eq!(planned(&world, scaled("hello:2")), None, "it has");
    assert_eq!(planned(&world, releasing("hello:1", "ok")), None, "back to what is active");
}

#[test]
fn a_plan_says_that_a_release_command_runs_if_the_tag_of_what_is_active_means_another_image_by_now() {
    let mut world = deployed(1, "ok");
    world.apply("production", &[("web", releasing("hello:2", "fail"))]);
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Failed, 2));
    let warned = |world: &World, image: &str| {
        let file = file("production", &[("web", releasing(image, "ok"))]);
        world.cluster.plan(&ada(), &file, world.wall()).unwrap()[0].warnings.clone()
    };
    let warning = "shop/production/web: if hello:1 means another image by now than the one that is active, its release command \
                   runs first, once: ok migrate";
    assert_eq!(warned(&world, "hello:1"), [warning]);
    assert_eq!(warned(&world, "hello:2"), [""; 0]);
    world.images.insert("hello:1".into(), Ok("hello@sha256:7".into()));
    world.apply("production", &[("web", releasing("hello:1", "ok"))]);
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 3));
}

/// How many warnings of a release command a plan has.
fn of_release(planned: &Applied) -> usize {
    planned.warnings.iter().filter(|warning| warning.contains("release command")).count()
}

#[test]
fn a_plan_says_of_an_image_that_is_always_the_same_one_that_no_release_command_runs() {
    let warned = |image: ImageSource| {
        let mut world = World::with_nodes(1);
        world.images.insert("hello@sha256:1".into(), Ok("hello@sha256:1".into()));
        let agent = world.agents.get_mut(&NodeId(1)).unwrap();
        agent.images_here.extend(["sha256:aa", "mine:1"].map(|name| (name.into(), "sha256:aa".into())));
        let spec = |command| ServiceSpec { image: image.clone(), ..releasing("", command) };
        for command in ["ok", "fail"] {
            world.apply("production", &[("web", spec(command))]);
            world.settle();
        }
        assert_eq!(phase(&world), DeploymentPhase::Failed);
        let file = file("production", &[("web", spec("ok"))]);
        of_release(&world.cluster.plan(&ada(), &file, world.wall()).unwrap()[0])
    };
    let (registry, local) = (Pull::Registry, Pull::Local);
    let of = |reference: &str, pull| ImageSource { reference: reference.into(), pull };
    let named_by_tag = [of("hello:1", registry), of("mine:1", local)].map(warned);
    let named_by_digest = [of("hello@sha256:1", registry), of("sha256:aa", local)].map(warned);
    assert_eq!((named_by_tag, named_by_digest), ([1, 1], [0, 0]));
}

#[test]
fn a_plan_of_a_paused_service_warns_of_a_release_command_only_where_its_end_deploys() {
    for (scale, runs) in [(2, 0), (3, 1)] {
        let mut world = deployed(1, "ok");
        world.apply("production", &[("web", releasing("hello:2", "fail"))]);
        world.settle();
        let which = || Which::Service(service());
        world.run(Command::Pause { which: which(), reason: None }).unwrap();
        world.settle();
        world.images.insert("hello:1".into(), Ok("hello@sha256:7".into()));
        let before = starts(&world);
        let applied = world.apply("production", &[("web", ServiceSpec { scale, ..releasing("hello:1", "ok") })]);
        assert_eq!((applied[0].change, applied[0].release.as_ref()), (Change::AtResume, None));
        assert_eq!(of_release(&applied[0]), runs, "{:?}", applied[0].warnings);
        world.run(Command::Resume { which: which() }).unwrap();
        world.settle();
        assert_eq!((world.running().len(), starts(&world) - before), (scale as usize, runs as u32));
    }
}

#[test]
fn a_release_command_that_fails_leaves_the_old_jobs_untouched_and_says_why() {
    let mut world = deployed(2, "ok");
    let before = world.running();
    let jobs = |world: &World| -> Vec<_> { world.cluster.all::<Slot>().map(|slot| slot.job).collect() };
    let were = jobs(&world);
    world.apply("production", &[("web", releasing("hello:2", "fail"))]);
    world.settle();
    assert_eq!(phase(&world), DeploymentPhase::Failed);
    assert_eq!((world.running(), jobs(&world)), (before, were));
    let why = world.why(WEB);
    let said = "the release command on node-1 failed: the process exited with code 3 after 120 ms; its last line was: no \
                DATABASE_URL";
    assert!(why[0].contains(said), "{why:?}");
    assert!(world.sentences().iter().any(|it| it.contains("release.2 on node-1: the process exited with code 3")));
    world.wait(Millis::secs(60 * 60));
    assert_eq!(starts(&world), 2, "it is not tried again by itself");
}

#[test]
fn a_first_deployment_whose_release_command_fails_starts_nothing() {
    let world = deployed(1, "fail");
    assert_eq!(phase(&world), DeploymentPhase::Failed);
    assert!(world.running().is_empty());
}

#[test]
fn a_superseded_deployment_stops_its_release_command_before_the_next_one_begins() {
    let mut world = deployed(2, "ok");
    world.apply("production", &[("web", releasing("hello:2", "hang"))]);
    until_released(&mut world);
    world.apply("production", &[("web", releasing("hello:3", "ok"))]);
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 3));
    let told = world.sentences();
    let stopped = told.iter().position(|it| it.contains("release.2 on node-1: it was stopped")).unwrap();
    let began = told.iter().position(|it| it.contains("release.3 begins")).unwrap();
    assert!(stopped < began, "{told:#?}");
}

#[test]
fn a_cancelled_deployment_stops_its_release_command() {
    let mut world = deployed(1, "ok");
    world.apply("production", &[("web", releasing("hello:2", "hang"))]);
    until_released(&mut world);
    world.settle();
    assert!(world.why(WEB)[0].contains("its release command on node-1 is running"), "{:?}", world.why(WEB));
    world.run(Command::Steer { service: service(), number: 2, how: Steer::Cancel }).unwrap();
    world.settle();
    assert_eq!(phase(&world), DeploymentPhase::Cancelled);
    assert!(world.cluster.all::<OneOff>().all(|one| !one.is_under_way()));
    assert_eq!(world.running().len(), 2);
}

#[test]
fn a_node_that_is_lost_under_a_release_command_fails_the_deployment_and_nothing_repeats_it() {
    let mut world = deployed(2, "ok");
    world.apply("production", &[("web", releasing("hello:2", "hang"))]);
    let node = until_released(&mut world);
    world.cut(node.0);
    world.wait(Millis::secs(30));
    world.settle();
    assert_eq!(phase(&world), DeploymentPhase::Failed);
    let why = world.why(WEB);
    assert!(why[0].contains("was lost; whether it came to its end is not known"), "{why:?}");
    world.connect(node.0);
    world.settle();
    let agent = &world.agents[&node];
    assert!(agent.jobs.values().all(|job| job.slot.target != "release" || job.phase.is_final()), "it is stopped");
    assert_eq!(starts(&world), 2);
}

#[test]
fn a_controller_that_dies_while_a_release_command_runs_goes_on_with_it() {
    let mut world = deployed(2, "ok");
    world.apply("production", &[("web", releasing("hello:2", "ok"))]);
    until_released(&mut world);
    world.restart_controller();
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 2));
}

#[test]
fn a_pause_ends_the_release_command_and_a_resume_runs_it_for_what_was_applied() {
    let mut world = deployed(1, "ok");
    world.apply("production", &[("web", releasing("hello:2", "hang"))]);
    until_released(&mut world);
    let which = || Which::Service(service());
    world.run(Command::Pause { which: which(), reason: None }).unwrap();
    world.settle();
    assert!(world.running().is_empty() && world.cluster.all::<OneOff>().all(|one| !one.is_under_way()));
    world.apply("production", &[("web", releasing("hello:3", "ok"))]);
    world.run(Command::Resume { which: which() }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world), world.running().len()), (DeploymentPhase::Complete, 3, 2));
}

#[test]
fn a_service_that_is_removed_ends_its_release_command_first() {
    let mut world = deployed(1, "hang");
    assert_eq!(phase(&world), DeploymentPhase::Preparing);
    world.run(Command::RemoveService { service: service() }).unwrap();
    world.settle();
    assert!(world.cluster.all::<Service>().next().is_none() && world.cluster.all::<OneOff>().next().is_none());
    assert!(world.agents.values().all(|agent| agent.jobs.is_empty()), "nothing of it is left");
}

#[test]
fn a_node_that_forgot_a_command_that_ended_is_told_not_to_run_it() {
    let world = deployed(1, "ok");
    let one = world.cluster.all::<OneOff>().next().expect("it is kept");
    let set = world.cluster.assignments(one.node, true).unwrap();
    let told = set.assignments.iter().find(|it| it.job == one.job).expect("its container is kept");
    assert!(told.once.is_some_and(|once| once.stop));
}

#[test]
fn a_release_command_that_fails_paces_no_job_of_its_deployment() {
    let world = deployed(1, "ok");
    let one = world.cluster.all::<OneOff>().next().expect("it is kept");
    assert_ne!(one.deployment, world.last_deployment(WEB).id);
}

#[test]
fn a_node_that_may_still_run_a_release_command_holds_up_the_next_one_until_it_is_heard_or_gone() {
    for comes_back in [true, false] {
        let mut world = deployed(2, "ok");
        world.apply("production", &[("web", releasing("hello:2", "hang"))]);
        let node = until_released(&mut world);
        world.cut(node.0);
        world.wait(Millis::secs(20 * 60));
        world.settle();
        assert_eq!(phase(&world), DeploymentPhase::Failed);
        world.apply("production", &[("web", releasing("hello:3", "ok"))]);
        world.settle();
        assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Preparing, 2));
        assert!(world.why(WEB)[0].contains("may still run on"), "{:?}", world.why(WEB));
        if comes_back {
            world.connect(node.0);
        } else {
            let name = world.cluster.node_name(node);
            world.run(Command::Standing(StandingCommand::Revoke { node: name })).unwrap();
        }
        world.settle();
        assert_eq!(
            (phase(&world), starts(&world)),
            (DeploymentPhase::Complete, 3),
            "{comes_back}: {:?}",
            world.live.waits
        );
    }
}

#[test]
fn a_restored_store_runs_no_release_command_until_that_is_accepted() {
    let mut world = deployed(1, "ok");
    world.live.restored = true;
    world.apply("production", &[("web", releasing("hello:2", "ok"))]);
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Preparing, 1));
    assert!(world.why(WEB)[0].contains("store was restored"), "{:?}", world.why(WEB));
    world.live.restored = false;
    world.look(world.service(WEB).id);
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 2));
}

#[test]
fn a_release_command_that_was_under_way_in_a_restored_store_is_named_to_nobody() {
    let mut world = deployed(1, "ok");
    world.apply("production", &[("web", releasing("hello:2", "hang"))]);
    let node = until_released(&mut world);
    world.live.restored = true;
    let named = |world: &World, accepted| {
        let set = world.cluster.assignments(node, accepted).unwrap();
        set.assignments.into_iter().filter_map(|it| it.once).collect::<Vec<_>>()
    };
    assert!(named(&world, false).is_empty());
    world.look(world.service(WEB).id);
    assert_eq!(phase(&world), DeploymentPhase::Failed);
    assert!(world.why(WEB)[0].contains("store was restored while it ran"), "{:?}", world.why(WEB));
    assert!(named(&world, true).iter().all(|once| once.stop));
}

#[test]
fn a_change_of_scale_takes_over_the_release_command_of_the_redeploy_that_it_supersedes() {
    let mut world = deployed(1, "ok");
    world.run(Command::Redeploy { service: service() }).unwrap();
    world.run(Command::Scale { service: service(), scale: 3 }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 2), "the redeploy's had not run");
    // It came to its end, and the jobs are on their way.
    world.run(Command::Redeploy { service: service() }).unwrap();
    until_rolling(&mut world);
    assert_eq!(starts(&world), 3);
    world.run(Command::Scale { service: service(), scale: 2 }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world)), (DeploymentPhase::Complete, 3));
}

#[test]
fn a_release_command_whose_node_lives_and_never_tells_its_end_is_given_up_in_time() {
    let mut world = deployed(1, "hang");
    assert_eq!(phase(&world), DeploymentPhase::Preparing);
    world.wait(Millis::secs(60 * 60));
    world.settle();
    assert_eq!(phase(&world), DeploymentPhase::Failed);
    assert!(world.why(WEB)[0].contains("has not told its end in time"), "{:?}", world.why(WEB));
}

#[test]
fn an_apply_that_only_changes_the_number_of_jobs_runs_no_release_command_again() {
    let mut world = deployed(1, "ok");
    world.apply("production", &[("web", releasing("hello:2", "ok"))]);
    until_rolling(&mut world);
    for scale in [3, 4] {
        let more = ServiceSpec { scale, ..releasing("hello:2", "ok") };
        world.apply("production", &[("web", more)]);
    }
    world.settle();
    assert_eq!((phase(&world), starts(&world), world.running().len()), (DeploymentPhase::Complete, 2, 4));
}

#[test]
fn a_change_of_scale_runs_no_release_command_of_a_redeploy_that_a_pause_has_ended() {
    let mut world = deployed(1, "ok");
    let which = || Which::Service(service());
    world.run(Command::Redeploy { service: service() }).unwrap();
    world.run(Command::Pause { which: which(), reason: None }).unwrap();
    world.settle();
    world.run(Command::Resume { which: which() }).unwrap();
    world.settle();
    world.run(Command::Scale { service: service(), scale: 3 }).unwrap();
    world.settle();
    assert_eq!((phase(&world), starts(&world), world.running().len()), (DeploymentPhase::Complete, 1, 3));
}

#[test]
fn a_release_command_that_ended_well_before_it_heard_that_it_was_superseded_does_not_run_again() {
    // After 10 s its node is lost, and how the command has ended is unknown until it comes back.
    for silent in [Millis(0), Millis::secs(10)] {
        let mut world = deployed(1, "ok");
        world.apply("production", &[("web", releasing("hello:2", "ok"))]);
        let node = until_released(&mut world);
        world.cut(node.0);
        world.run(Command::Scale { service: service(), scale: 3 }).unwrap();
        world.settle();
        world.wait(silent);
        world.connect(node.0);
        world.settle();
        let ran = (phase(&world), starts(&world), world.running().len());
        assert_eq!(ran, (DeploymentPhase::Complete, 2, 3), "silent for {silent:?}");
    }
}
