//! What nodes keep for the way back, and what a full disk keeps them from.

use super::world::*;
use crate::assignment::KeptImages;
use crate::cluster::command::*;
use crate::cluster::state::{DeploymentPhase, Revision, Service};
use crate::ids::NodeId;
use crate::policy::REVISIONS_KEPT;
use crate::report::FullDisk;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn kept(world: &World, node: u128) -> Vec<String> {
    let set = world.cluster.assignments(NodeId(node), true).unwrap();
    set.kept_images.expect("this controller says it").all.into_iter().collect()
}

fn deploy(world: &mut World, number: u32) {
    let image = format!("hello:v{number}");
    world.images.insert(image.clone(), Ok(format!("hello@sha256:{number:02}")));
    world.run(Command::Deploy { service: path(WEB), image }).unwrap();
    world.settle();
}

#[test]
fn a_node_keeps_the_images_of_the_last_revisions_of_its_services_and_of_no_others() {
    let mut world = World::with_nodes(2);
    world.images.insert("hello:1".into(), Ok("hello@sha256:00".into()));
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    assert_eq!((kept(&world, 1), kept(&world, 2)), (["hello@sha256:00".to_string()].into(), Vec::new()));
    for number in 1..=REVISIONS_KEPT + 2 {
        deploy(&mut world, number);
    }
    let newest: Vec<String> = (3..=REVISIONS_KEPT + 2).map(|number| format!("hello@sha256:{number:02}")).collect();
    assert_eq!(kept(&world, 1), newest);
    assert_eq!(kept(&world, 2), Vec::<String>::new(), "it has no job of the service");
}

#[test]
fn a_paused_service_keeps_its_images_where_it_was_and_a_removed_one_keeps_none() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    deploy(&mut world, 2);
    let before = kept(&world, 1);
    assert_eq!(before.len(), 2);
    let which = Which::Service(path(WEB));
    world.run(Command::Pause { which, reason: None }).unwrap();
    world.settle();
    assert_eq!((world.running().len(), kept(&world, 1)), (0, before));
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(kept(&world, 1), Vec::<String>::new());
}

#[test]
fn a_node_hears_that_it_keeps_less_though_none_of_its_slots_has_changed() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    let which = Which::Service(path(WEB));
    world.run(Command::Pause { which, reason: None }).unwrap();
    world.settle();
    let mut sent = None;
    let first = world.cluster.newer_set(NodeId(1), true, &mut sent).expect("the session's first");
    assert_eq!(first.kept_images.map(|kept| kept.all.len()), Some(1));
    assert_eq!(world.cluster.newer_set(NodeId(1), true, &mut sent), None, "it has it");
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    world.settle();
    let second = world.cluster.newer_set(NodeId(1), true, &mut sent).expect("it keeps less");
    assert_eq!(second.generation, first.generation, "nothing else has changed");
    assert_eq!(second.kept_images, Some(KeptImages::default()));
    assert_eq!(world.cluster.newer_set(NodeId(1), true, &mut sent), None);
}

#[test]
fn an_image_of_the_nodes_own_is_kept_by_its_id_because_the_agent_may_have_brought_it_under_another_name() {
    let mut world = World::with_nodes(1);
    let mut spec = web("mine:1", 1);
    spec.image.pull = crate::spec::Pull::Local;
    world.agents.get_mut(&NodeId(1)).unwrap().images_here.insert("mine:1".into(), "sha256:aa".into());
    world.apply("production", &[("web", spec)]);
    world.settle();
    assert_eq!(world.running().len(), 1);
    assert_eq!(kept(&world, 1), ["sha256:aa"]);
}

fn firm(world: &World, node: u128) -> Vec<String> {
    let set = world.cluster.assignments(NodeId(node), true).unwrap();
    set.kept_images.expect("this controller says it").firm.into_iter().collect()
}

#[test]
fn a_node_hears_which_images_are_firm_also_when_that_changes_elsewhere() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    while world.last_deployment(WEB).phase != DeploymentPhase::Rolling {
        assert!(world.turn());
    }
    let mut sent = None;
    while world.last_deployment(WEB).phase != DeploymentPhase::Complete {
        assert_eq!(firm(&world, 1), ["hello@sha256:1", "hello@sha256:2"]);
        assert_eq!(firm(&world, 2), firm(&world, 1), "whichever has got its job already");
        world.cluster.newer_set(NodeId(1), true, &mut sent);
        assert!(world.turn());
    }
    let set = world.cluster.newer_set(NodeId(1), true, &mut sent).expect("node-1 got nothing else at the end");
    assert_eq!(set.kept_images.unwrap().firm.into_iter().collect::<Vec<_>>(), ["hello@sha256:2"]);
    world.broken.insert("hello@sha256:3".into());
    world.run(Command::Deploy { service: path(WEB), image: "hello:3".into() }).unwrap();
    world.settle();
    assert_eq!(firm(&world, 1), ["hello@sha256:2"], "a deployment that failed changes nothing");
    world.run(Command::Pause { which: Which::Service(path(WEB)), reason: None }).unwrap();
    world.settle();
    assert_eq!((world.running().len(), firm(&world, 2)), (0, vec!["hello@sha256:2".into()]));
}

#[test]
fn names_that_do_not_fit_into_a_set_are_those_of_the_oldest_revisions() {
    let mut world = World::with_nodes(1);
    let long = |number: u32| format!("{}@sha256:{number:02}", "r".repeat(400_000));
    world.images.insert("hello:1".into(), Ok("hello@sha256:00".into()));
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    let service = world.service(WEB).id;
    for number in 2..=4 {
        let first = world.cluster.get::<Revision>(&(service, 1)).unwrap().clone();
        let image = crate::assignment::BoundImage::Digest { reference: "hello".into(), pinned: long(number) };
        world.cluster.put(Revision { number, image, ..first });
    }
    world.cluster.edit::<Service>(&service, |service| service.last_revision = 4);
    assert_eq!(kept(&world, 1), ["hello@sha256:00".into(), long(3), long(4)], "and the one that is active");
    world.cluster.edit::<Service>(&service, |service| service.active.as_mut().unwrap().revision = 2);
    assert_eq!((kept(&world, 1), firm(&world, 1)), (vec![long(2)], vec![long(2)]), "it is named twice");
}

#[test]
fn a_node_with_a_full_disk_gets_no_new_job_keeps_those_that_it_has_and_takes_jobs_again_by_itself() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let fill = |world: &mut World, full: bool| {
        for node in [1, 2] {
            let disk = FullDisk { folder: "/var/lib/docker".into(), mark_percent: 95 };
            world.agents.get_mut(&NodeId(node)).unwrap().full_disk = full.then_some(disk);
            world.report(NodeId(node));
        }
    };
    fill(&mut world, true);
    world.run(Command::Scale { service: path(WEB), scale: 3 }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    let why = world.why(WEB).join("\n");
    assert!(why.contains("node-1: the disk that holds /var/lib/docker has reached its mark of 95 %"), "{why}");
    fill(&mut world, false);
    world.settle();
    assert_eq!(world.running().len(), 3);
}
