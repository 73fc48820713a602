//! An agent that lies: with a good certificate and a session, about what is not its own.

use super::world::*;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::ids::{JobId, NodeId};
use crate::message::ResolvedImage;
use crate::report::{Failure, Health, JobPhase, JobReport, ReplacementPhase, ReplacementReport};
use crate::spec::Pull;
use crate::time::Wall;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn on_two_nodes() -> World {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    world
}

/// What the liar says of every slot of the other node: its job has failed, and its replacement was given up.
fn slander(world: &World, of: NodeId) -> (Vec<JobReport>, Vec<ReplacementReport>) {
    let failure = Some(Failure::CannotStart { said: "a slander".into() });
    let mut jobs = Vec::new();
    let mut replacements = Vec::new();
    for slot in world.cluster.slots_on(of) {
        let job = slot.job.unwrap();
        jobs.push(JobReport {
            job: job.job,
            slot: slot.id.clone(),
            attempt: u32::MAX,
            phase: JobPhase::Failed,
            health: Health::Unhealthy,
            failure: failure.clone(),
            address: None,
            memory_bytes: u64::MAX,
            cpu_milli: u32::MAX,
            waits_for: None,
        });
        replacements.push(ReplacementReport {
            slot: slot.id.clone(),
            deployment: job.deployment,
            old: Some(JobId(1)),
            new: Some(job.job),
            phase: ReplacementPhase::SwitchedBack,
            reached: vec![(ReplacementPhase::SwitchedBack, Wall(u64::MAX))],
            stopped_at: Some(Wall(u64::MAX)),
            good_at: Some(Wall(u64::MAX)),
            bad_answer: Some("a slander".into()),
            failure: failure.clone(),
            waits_for: Some("a slander".into()),
        });
    }
    (jobs, replacements)
}

#[test]
fn what_a_node_says_of_another_nodes_jobs_is_no_evidence() {
    let mut world = on_two_nodes();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    let mut lies = 0;
    // At every step of a deployment, with all ids right, as if it had seen them on an operator's screen.
    for _ in 0..60 {
        world.turn();
        let (jobs, replacements) = slander(&world, NodeId(1));
        let liar = &world.agents[&NodeId(2)];
        let session = liar.session;
        let mut report = liar.report();
        report.jobs.extend(jobs);
        report.jobs.sort_by_key(|job| job.job);
        report.replacements.extend(replacements);
        report.replacements.sort_by(|a, b| a.slot.cmp(&b.slot));
        // The honest picture first, so that only the lies could change anything.
        world.report(NodeId(2));
        let honest = (world.cluster.clone(), world.events.len());
        world.take_report(NodeId(2), session, report);
        lies += usize::from(!world.live.report(NodeId(2)).unwrap().replacements.is_empty());
        assert_eq!(world.last_deployment(WEB), honest.0.last_deployment(world.service(WEB)).unwrap());
        assert_eq!(world.events.len(), honest.1, "{:?}", world.sentences().last());
        for slot in honest.0.slots_on(NodeId(1)) {
            assert_eq!(world.cluster.get::<Slot>(&slot.id), Some(slot));
        }
        world.report(NodeId(2));
    }
    assert!(lies > 5, "{lies} lies were told");
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-2: web.2=r2"]);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    assert!(!world.sentences().iter().any(|said| said.contains("slander")));
    assert!(!world.why(WEB).iter().any(|said| said.contains("slander")), "{:?}", world.why(WEB));
}

#[test]
fn a_node_that_is_asked_what_a_tag_means_cannot_choose_whose_image_the_others_run() {
    for (pull, pinned) in [
        (Pull::Registry, "evil.example/hello@sha256:1"),
        (Pull::Registry, "hello-evil@sha256:1"),
        (Pull::Registry, "hello:1"),
        (Pull::Local, "evil.example/hello@sha256:1"),
        (Pull::Local, "hello:1"),
    ] {
        let mut world = World::with_nodes(2);
        let mut spec = web("hello:1", 2);
        spec.image.pull = pull;
        world.images.insert("hello:1".into(), Ok(pinned.into()));
        for agent in world.agents.values_mut() {
            agent.images_here.insert("hello:1".into(), pinned.into());
        }
        world.apply("production", &[("web", spec)]);
        world.settle();
        assert_eq!(world.running(), Vec::<String>::new(), "{pinned}");
        let why = world.why(WEB).join("\n");
        assert!(why.contains("no answer to the question") && why.contains(&alloc::format!("\"{pinned}\"")), "{why}");
    }
}

#[test]
fn an_answer_to_a_question_that_another_node_was_asked_is_dropped() {
    let mut world = on_two_nodes();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    let service = world.service(WEB).id;
    world.look(service);
    let asked: Vec<_> = world.live.asks.iter().map(|(request, ask)| (*request, ask.node)).collect();
    assert_eq!(asked.len(), 1, "one node is asked what the tag means");
    for (request, node) in asked {
        let liar = NodeId(3 - node.0);
        let forged = Ok(ResolvedImage { pinned: "hello@sha256:9".into() });
        assert!(world.cluster.image_resolved(&mut world.live, liar, request, forged).is_empty());
        assert!(world.live.asks.contains_key(&request), "the question is still open");
    }
    assert!(world.live.answers.keys().all(|(of, _)| *of != service));
}

#[test]
fn a_generation_from_the_end_of_all_numbers_makes_no_node_but_the_liars_wait() {
    let mut world = on_two_nodes();
    let liar = world.agents.get_mut(&NodeId(2)).unwrap();
    liar.held.as_mut().unwrap().number = u64::MAX;
    world.connect(2);
    let number = |world: &World| world.agents[&NodeId(1)].held.unwrap().number;
    let before = number(&world);
    world.cut(2);
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    for _ in 0..50 {
        world.turn();
    }
    assert!(number(&world) > before, "the other node got its new set");
    assert_eq!(world.running()[0].to_string(), "node-1: web.1=r2");
}
