use super::world::*;
use crate::cluster::command::*;
use crate::spec::ServiceSpec;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn at(host: &str, prefix: &str) -> ServiceSpec {
    let mut spec = web("hello:1", 1);
    spec.ports[0].host = Some(host.into());
    spec.ports[0].path = Some(prefix.into());
    spec
}

fn refusals(world: &mut World, apply: Apply) -> Vec<String> {
    let refused = world.run(Command::Apply(apply)).unwrap_err();
    refused.iter().map(ToString::to_string).collect()
}

#[test]
fn a_path_with_a_slash_at_its_end_is_the_same_path() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("api", at("shop.example.com", "/api"))]);
    let other = file("production", &[("other", at("SHOP.example.com", "/api/"))]);
    assert_eq!(refusals(&mut world, other), ["shop.example.com/api already leads to shop/production/api"]);
    world.apply("production", &[("other", at("shop.example.com", "/"))]);
}

#[test]
fn a_rollback_does_not_take_back_a_host_that_another_service_has_by_now() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", at("shop.example.com", "/"))]);
    world.settle();
    world.apply("production", &[("web", at("www.example.com", "/"))]);
    world.settle();
    world.apply("production", &[("api", at("shop.example.com", "/"))]);
    world.settle();
    let rollback = || Command::Rollback { service: path("shop/production/web"), to: Some(1) };
    let refused = world.run(rollback()).unwrap_err();
    assert_eq!(
        refused[0].to_string(),
        "r1 of shop/production/web has shop.example.com/, which leads to shop/production/api by now"
    );
    world.run(Command::RemoveService { service: path("shop/production/api") }).unwrap();
    world.settle();
    world.run(rollback()).unwrap();
}
