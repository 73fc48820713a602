use super::world::*;
use crate::cluster::command::*;
use crate::spec::Size;
use crate::time::Millis;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn refusals(world: &mut World, apply: Apply) -> Vec<(String, String)> {
    let before = world.store.clone();
    let planned = world.cluster.plan(&ada(), &apply, world.wall()).unwrap_err();
    let refused = world.run(Command::Apply(apply)).unwrap_err();
    assert_eq!(planned, refused, "plan and apply make the same checks");
    assert_eq!(before, world.store, "a refused file changes nothing");
    refused.into_iter().map(|it| (it.place.unwrap_or_default(), it.sentence)).collect()
}

#[test]
fn an_absent_application_is_created_as_a_project() {
    let mut world = World::empty();
    let applied = world.apply("staging", &[("web", web("hello:1", 1))]);
    assert_eq!(applied[0].change, Change::Create { jobs: 1 });
    for environment in ["development", "staging", "production"] {
        assert!(world.cluster.environment_named("shop", environment).is_ok());
    }
    assert_eq!(applied[0].deployment, Some(1));
    assert!(applied[0].warnings[0].starts_with("no node is attached to shop/staging"));
}

#[test]
fn the_same_file_twice_changes_nothing_the_second_time() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    let applied = world.apply("production", &[("web", web("hello:1", 2))]);
    assert_eq!((applied[0].change, applied[0].deployment), (Change::None, Some(1)), "the one under way");
    world.settle();
    let before = world.store.clone();
    let applied = world.apply("production", &[("web", web("hello:1", 2))]);
    assert_eq!((applied[0].change, applied[0].deployment), (Change::None, None));
    world.settle();
    assert_eq!(before, world.store);
}

#[test]
fn a_file_that_changes_only_the_scale_replaces_no_job_and_looks_up_no_image() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    // The tag has moved since; that is not what the file changed.
    world.images.insert("hello:1".into(), Ok("hello@sha256:moved".into()));
    let applied = world.apply("production", &[("web", web("hello:1", 3))]);
    assert_eq!(applied[0].change, Change::Scale { from: 2, to: 3 });
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: web.2=r1", "node-1: web.3=r1"]);
}

#[test]
fn a_plan_says_what_would_happen_and_does_nothing() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let before = world.store.clone();
    let mut bigger = web("hello:1", 1);
    bigger.size = Size { memory_bytes: 128 * MIB, ..bigger.size };
    bigger.deploy.overlap = Millis::secs(30);
    let plan = world
        .cluster
        .plan(&ada(), &file("production", &[("web", bigger), ("api", web("hello:2", 1))]), world.wall())
        .unwrap();
    let changes: Vec<_> = plan.iter().map(|it| (it.path.to_string(), it.change)).collect();
    assert_eq!(
        changes,
        [
            (WEB.into(), Change::Replace { jobs: 1, scale_from: 2, scale_to: 1 }),
            ("shop/production/api".into(), Change::Create { jobs: 1 }),
        ]
    );
    assert_eq!(
        plan[0].warnings,
        [format!("{WEB} has scale 1 and an overlap of 30 s: for that long two jobs of it are up")]
    );
    assert_eq!(before, world.store);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_each_with_its_place() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    let mut stolen = web("hello:1", 40);
    stolen.ports[0].host = Some("web-production-shop.apps.test".into());
    let mut apply = file("production", &[("Big", web("hello:1", 0)), ("thief", stolen)]);
    apply.environments.extend(file("development", &[("api", web("hello:1", 3))]).environments);
    apply.environments.extend(file("canary", &[("api", web("hello:1", 1))]).environments);
    let told = refusals(&mut world, apply);
    let expected = [
        ("environments.production.services.Big", "the name \"Big\" contains \"B\"; a-z, 0-9 and - are allowed"),
        ("environments.production.services.Big.scale", "a scale of 0 runs nothing"),
        ("environments.production.services.thief.scale", "40 jobs are wanted; the quota of jobs per service is 32"),
        (
            "environments.production.services.thief.ports.0.host",
            "web-production-shop.apps.test/ already leads to shop/production/web",
        ),
        (
            "environments.development.services.api.scale",
            "3 jobs are wanted; the policy of development allows a service 2",
        ),
        ("environments.canary", "shop has no environment canary"),
    ];
    assert_eq!(told, expected.map(|(place, sentence)| (place.to_string(), sentence.to_string())));
}

#[test]
fn the_seventeenth_service_is_refused_by_the_quota_and_services_are_counted_by_name() {
    let mut world = World::with_nodes(0);
    let names: Vec<String> = (1..=17).map(|number| format!("s{number}")).collect();
    let services = |count: usize| -> Vec<(&str, crate::spec::ServiceSpec)> {
        names[..count].iter().map(|name| (name.as_str(), web("hello:1", 1))).collect()
    };
    world.apply("production", &services(16));
    world.apply("staging", &services(16));
    let told = refusals(&mut world, file("production", &services(17)));
    assert_eq!(told[0].1, "shop would have 17 services; its quota \"services\" is 16 services");
}

#[test]
fn a_host_stays_with_a_service_as_long_as_its_jobs_serve_it() {
    let mut world = World::with_nodes(1);
    let mut first = web("hello:1", 1);
    first.ports[0].host = Some("shop.example.com".into());
    world.apply("production", &[("web", first)]);
    world.settle();
    // The new spec gives the host up, but the image is not found: the old revision serves on.
    world.apply("production", &[("web", web("nobody:1", 1))]);
    world.settle();
    let mut second = web("hello:2", 1);
    second.ports[0].host = Some("shop.example.com".into());
    let told = refusals(&mut world, file("production", &[("other", second)]));
    assert_eq!(told[0].1, "shop.example.com/ already leads to shop/production/web");
}

#[test]
fn a_file_that_is_too_large_for_one_transaction_is_refused_with_a_way_out() {
    let mut world = World::with_nodes(0);
    let names: Vec<String> = (1..=16).map(|number| format!("s{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), web("hello:1", 1))).collect();
    let mut apply = file("production", &all);
    for environment in ["staging", "development"] {
        apply.environments.extend(file(environment, &all).environments);
    }
    world.run(Command::Apply(apply.clone())).unwrap();
    for service in apply.environments.iter_mut().flat_map(|it| &mut it.services) {
        service.spec = web("hello:2", 1);
    }
    let refused = world.run(Command::Apply(apply)).unwrap_err();
    assert_eq!(refused[0].sentence, "this changes 144 records at once; 100 are allowed");
    assert_eq!(refused[0].hint.as_deref(), Some("apply one environment after the other, with --env"));
}

#[test]
fn what_does_not_exist_is_named() {
    let mut world = World::with_nodes(0);
    let run = |world: &mut World, command| world.run(command).unwrap_err()[0].to_string();
    let cases = vec![
        ("shop/production/web", "shop/production has no service web"),
        ("shop/canary/web", "shop has no environment canary"),
        ("shoe/production/web", "there is no application shoe"),
    ];
    for (service, sentence) in cases {
        assert_eq!(run(&mut world, Command::Redeploy { service: path(service) }), sentence);
    }
}
