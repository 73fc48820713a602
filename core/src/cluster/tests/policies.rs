use super::world::*;
use crate::access::{Author, Grant, Role, Scope};
use crate::cluster::command::*;
use crate::ids::TokenId;
use crate::policy::{OperatorField, OperatorFields, Policy};
use crate::time::Millis;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

fn reserve(world: &mut World, fields: &[&str]) {
    let set = SetPolicy {
        application: "shop".into(),
        environment: "production".into(),
        max_scale: None,
        operator_fields: Some(fields.iter().map(ToString::to_string).collect()),
    };
    world.run(Command::SetPolicy(set)).unwrap();
}

fn deployer(world: &mut World) -> Author {
    let grant = Grant { role: Role::Deployer, scope: Scope::of_path("shop") };
    let new = NewOperatorToken { id: TokenId(7), hash: "h".into(), name: "ci".into(), grant, lifetime: None };
    world.run(Command::CreateOperatorToken(new)).unwrap();
    holder(TokenId(7), "ci")
}

fn places(result: Result<Outcome, Vec<Refusal>>) -> Vec<(RefusalKind, Option<String>)> {
    result.unwrap_err().into_iter().map(|refusal| (refusal.kind, refusal.place)).collect()
}

#[test]
fn a_new_service_of_a_deployer_keeps_to_the_defaults_of_reserved_fields() {
    let mut world = World::with_nodes(1);
    reserve(&mut world, &["deploy.overlap", "deploy.drain"]);
    let deployer = deployer(&mut world);
    let mut spec = web("hello:1", 1);
    spec.deploy.overlap = Millis(1);
    let refused = places(world.run_as(deployer.clone(), Command::Apply(file("production", &[("web", spec)]))));
    let place = "environments.production.services.web.deploy.overlap".to_string();
    assert_eq!(refused, [(RefusalKind::Forbidden, Some(place))]);
    world.run_as(deployer, Command::Apply(file("production", &[("web", web("hello:1", 1))]))).unwrap();
}

#[test]
fn a_deployer_does_not_go_back_to_a_revision_with_another_value_of_a_reserved_field() {
    let mut world = World::with_nodes(1);
    let mut spec = web("hello:1", 1);
    spec.deploy.overlap = Millis::secs(9);
    world.apply("production", &[("web", spec)]);
    world.settle();
    world.apply("production", &[("web", web("hello:2", 1))]);
    world.settle();
    reserve(&mut world, &["deploy.overlap"]);
    let deployer = deployer(&mut world);
    let rollback = || Command::Rollback { service: path("shop/production/web"), to: Some(1) };
    assert_eq!(places(world.run_as(deployer.clone(), rollback()))[0].0, RefusalKind::Forbidden);
    let deploy = Command::Deploy { service: path("shop/production/web"), image: "hello:3".into() };
    world.run_as(deployer, deploy).unwrap();
    world.settle();
    world.run(rollback()).unwrap();
}

#[test]
fn every_reservable_field_is_found_when_it_changes_and_only_then() {
    let spec = web("hello:1", 1);
    let changes: [fn(&mut crate::spec::ServiceSpec); 10] = [
        |spec| spec.deploy.overlap = Millis(1),
        |spec| spec.deploy.drain = Millis(1),
        |spec| spec.deploy.stop_grace = Millis(1),
        |spec| spec.deploy.min_healthy = Millis(1),
        |spec| spec.deploy.timeout = Millis(1),
        |spec| spec.deploy.max_surge = 9,
        |spec| spec.deploy.max_unavailable = 9,
        |spec| spec.deploy.strategy = crate::spec::Strategy::Recreate,
        |spec| spec.size.cpu_milli = 1,
        |spec| spec.size.memory_bytes = 1,
    ];
    for (changed, change) in OperatorField::ALL.into_iter().zip(changes) {
        let mut other = spec.clone();
        change(&mut other);
        let differs = OperatorField::ALL.into_iter().filter(|field| field.value(&spec) != field.value(&other));
        assert_eq!(differs.collect::<Vec<_>>(), [changed]);
        assert_eq!(OperatorField::named(changed.name()), Some(changed));
    }
}

#[test]
fn a_policy_of_before_there_were_reserved_fields_reserves_none() {
    let policy: Policy = serde_json::from_str(r#"{"max_scale":2}"#).unwrap();
    assert_eq!(policy, Policy { max_scale: 2, operator_fields: OperatorFields::default() });
    let reserved = Policy { operator_fields: [OperatorField::Drain].into_iter().collect(), ..policy };
    let text = serde_json::to_string(&reserved).unwrap();
    assert_eq!(text, r#"{"max_scale":2,"operator_fields":["deploy.drain"]}"#);
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), reserved);
    assert_eq!(Vec::<String>::from(reserved.operator_fields), vec!["deploy.drain"]);
}
