use super::world::*;
use crate::access::{Grant, Role, Scope};
use crate::assignment::RunSpec;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::values::{Resealed, SetValue, ValueCommand, registry_of};
use crate::ids::{NodeId, TokenId, ValueId};
use crate::policy::DEPLOYMENTS_KEPT;
use crate::spec::{SecretFile, ServiceSpec};
use crate::time::Millis;
use crate::values::{Binding, Body, Place, Sealed, VALUES_PER_SCOPE, ValueKey, ValueKind};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";
const ENVIRONMENT: &str = "shop/production";

/// What the rim would seal: here a value is as good as its text.
fn command(world: &World, at: &str, kind: ValueKind, name: &str, id: u128, text: &str) -> Command {
    let key = ValueKey { scope: world.cluster.value_scope(at).unwrap(), kind, name: name.into() };
    let set = SetValue { at: at.into(), key, id: ValueId(id), body: Sealed::from(text.as_bytes().to_vec()) };
    Command::Value(ValueCommand::Set(set))
}

fn set_value(world: &mut World, at: &str, kind: ValueKind, name: &str, id: u128) -> Outcome {
    let command = command(world, at, kind, name, id, &format!("{name}={id}"));
    world.run(command).unwrap()
}

fn secret(world: &mut World, at: &str, name: &str, id: u128) {
    set_value(world, at, ValueKind::Secret, name, id);
}

fn variable(world: &mut World, at: &str, name: &str, id: u128) {
    set_value(world, at, ValueKind::Variable, name, id);
}

fn remove(world: &mut World, at: &str, kind: ValueKind, name: &str) -> Result<Outcome, Vec<Refusal>> {
    world.run(Command::Value(ValueCommand::Remove { at: at.into(), kind, name: name.into() }))
}

/// A service that has the secret `api-key` in `API_KEY`.
fn with_key(tag: &str, scale: u32) -> ServiceSpec {
    ServiceSpec { secrets: BTreeMap::from([("API_KEY".into(), "api-key".into())]), ..web(tag, scale) }
}

/// The variables of each job that a node is to run, with what they hold.
fn given(world: &World, node: u128) -> Vec<BTreeMap<String, String>> {
    let set = world.cluster.assignments(NodeId(node), true).unwrap();
    let text = |value: &ValueId| match &set.values[value].body {
        Body::Stored { sealed, .. } => String::from_utf8(sealed.0.to_vec()).unwrap(),
        other => format!("{other:?}"),
    };
    let of_job = |run: &RunSpec| run.values.iter().map(|one| (one.place.name().into(), text(&one.value))).collect();
    set.assignments.iter().map(|one| of_job(&one.run)).collect()
}

fn one(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.into(), value.into())])
}

fn served() -> World {
    let mut world = World::with_nodes(2);
    secret(&mut world, ENVIRONMENT, "api-key", 1);
    world.apply("production", &[("web", with_key("hello:1", 2))]);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    world
}

#[test]
fn a_deployment_waits_for_a_secret_that_is_not_there_and_goes_on_when_it_is_set() {
    let mut world = World::with_nodes(1);
    let applied = world.apply("production", &[("web", with_key("hello:1", 1))]);
    let warning = "shop/production/web: shop/production has no secret api-key: it waits until \
                   `lap secret set shop/production api-key`";
    assert!(applied[0].warnings.contains(&warning.to_string()), "{:?}", applied[0].warnings);
    world.settle();
    let why = "shop/production/web waits: shop/production has no secret api-key; set it with \
               `lap secret set shop/production api-key`";
    assert_eq!(world.why(WEB)[0], why);
    secret(&mut world, ENVIRONMENT, "api-key", 1);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1")]);
}

#[test]
fn what_is_set_nearer_to_a_service_hides_what_it_inherits_and_its_spec_comes_first() {
    let mut world = World::with_nodes(1);
    for (at, id) in [("", 1), ("shop", 2), (ENVIRONMENT, 3)] {
        variable(&mut world, at, "REGION", id);
        secret(&mut world, at, "api-key", 10 + id);
    }
    variable(&mut world, "", "TEAM", 20);
    variable(&mut world, "shop", "LEVEL", 21);
    variable(&mut world, "shop/staging", "STAGE", 22);
    let mut spec = with_key("hello:1", 1);
    spec.env.insert("LEVEL".into(), "debug".into());
    spec.files.insert("/run/key".into(), SecretFile { secret: "api-key".into(), mode: 0o444 });
    world.apply("production", &[("web", spec)]);
    world.settle();
    let expected = [("API_KEY", "api-key=13"), ("/run/key", "api-key=13"), ("REGION", "REGION=3"), ("TEAM", "TEAM=20")];
    let expected = expected.map(|(name, value)| (String::from(name), String::from(value)));
    assert_eq!(given(&world, 1), [BTreeMap::from(expected)]);
    variable(&mut world, WEB, "REGION", 4);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(given(&world, 1)[0]["REGION"], "REGION=4");
}

#[test]
fn a_value_that_is_set_anew_reaches_jobs_with_the_next_deployment_and_not_before() {
    let mut world = served();
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.settle();
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1")]);
    assert_eq!(world.why(WEB)[0], "not deployed yet: API_KEY; `lap redeploy` gives it new jobs with them");
    // A node is lost: the job elsewhere has what its siblings have.
    world.cut(2);
    world.wait(Millis(60_000));
    world.settle();
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1"), one("API_KEY", "api-key=1")]);
    // Another number of jobs is no deployment of values either.
    world.run(Command::Scale { service: path(WEB), scale: 3 }).unwrap();
    world.settle();
    assert_eq!(given(&world, 1), vec![one("API_KEY", "api-key=1"); 3]);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(given(&world, 1), vec![one("API_KEY", "api-key=2"); 3]);
    assert!(!world.why(WEB)[0].contains("not deployed"));
}

#[test]
fn a_deployment_of_the_same_image_gives_jobs_new_values_though_the_revision_is_the_same() {
    let mut world = served();
    let before = world.agents[&NodeId(1)].current.clone();
    world.run(Command::Deploy { service: path(WEB), image: "hello:1".into() }).unwrap();
    world.settle();
    assert_eq!(world.agents[&NodeId(1)].current, before, "nothing has changed, and no job was replaced");
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Deploy { service: path(WEB), image: "hello:1".into() }).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_ne!(world.agents[&NodeId(1)].current, before);
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=2")]);
}

#[test]
fn a_deployment_that_fails_goes_back_to_the_values_of_before() {
    let mut world = served();
    world.broken.insert("hello@sha256:2".into());
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1")]);
    // A fresh job of the old revision, because its node was lost meanwhile, as well.
    world.cut(1);
    world.wait(Millis(60_000));
    world.settle();
    assert_eq!(given(&world, 2), vec![one("API_KEY", "api-key=1"); 2]);
}

#[test]
fn slots_that_were_done_go_back_with_the_values_of_before() {
    let mut world = served();
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    while world.running() != ["node-1: web.1=r2", "node-2: web.2=r1"] {
        world.turn();
    }
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=2")]);
    world.broken.insert("hello@sha256:2".into());
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-2: web.2=r1"]);
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1")]);
}

#[test]
fn a_redeploy_that_did_not_end_leaves_no_job_with_its_values_when_the_next_deployment_fails() {
    let mut world = served();
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    while given(&world, 1) != [one("API_KEY", "api-key=2")] || world.agents[&NodeId(1)].replacements.is_empty() {
        world.turn();
    }
    world.broken.insert("hello@sha256:2".into());
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(
        (given(&world, 1), given(&world, 2)),
        (vec![one("API_KEY", "api-key=1")], vec![one("API_KEY", "api-key=1")])
    );
}

#[test]
fn a_job_keeps_its_values_however_many_deployments_have_passed_it_by() {
    let mut world = served();
    for n in 0..DEPLOYMENTS_KEPT + 5 {
        world.run(Command::Scale { service: path(WEB), scale: 3 + n % 2 }).unwrap();
        world.settle();
    }
    assert!(world.last_deployment(WEB).number > DEPLOYMENTS_KEPT);
    assert!(given(&world, 1).iter().chain(&given(&world, 2)).all(|job| *job == one("API_KEY", "api-key=1")));
    let kept = world.cluster.deployments_of(world.service(WEB).id).count();
    assert!(kept <= DEPLOYMENTS_KEPT as usize + 2, "besides those of the first two, which jobs have: {kept}");
}

#[test]
fn versions_that_no_job_has_are_forgotten_and_those_that_jobs_have_are_kept() {
    let mut world = served();
    let numbers = |world: &World| -> Vec<u32> {
        let scope = world.cluster.value_scope(ENVIRONMENT).unwrap();
        let value = world.cluster.values_in(scope).next().unwrap();
        value.versions.iter().map(|version| version.number).collect()
    };
    for id in 2..=5 {
        secret(&mut world, ENVIRONMENT, "api-key", id);
    }
    assert_eq!(numbers(&world), [1, 5]);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(numbers(&world), [5]);
}

#[test]
fn a_secret_that_a_spec_names_is_not_removed_and_one_that_nobody_names_is_gone() {
    let mut world = served();
    let refused = remove(&mut world, ENVIRONMENT, ValueKind::Secret, "api-key").unwrap_err();
    let said = "the secret api-key of shop/production is named by the spec of shop/production/web";
    assert!(refused[0].to_string().starts_with(said), "{}", refused[0]);
    // With one of the same name further up, it can go: the service inherits that.
    secret(&mut world, "shop", "api-key", 2);
    remove(&mut world, ENVIRONMENT, ValueKind::Secret, "api-key").unwrap();
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=1")], "the jobs keep what they have");
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(given(&world, 1), [one("API_KEY", "api-key=2")]);
    let scope = world.cluster.value_scope(ENVIRONMENT).unwrap();
    assert_eq!(world.cluster.values_in(scope).count(), 0, "nothing is left of it");
    let refused = remove(&mut world, ENVIRONMENT, ValueKind::Secret, "api-key").unwrap_err();
    assert!(
        refused[0].to_string().starts_with("shop/production has no secret \"api-key\" of its own"),
        "{}",
        refused[0]
    );
}

#[test]
fn a_removed_service_takes_its_values_with_it() {
    let mut world = served();
    variable(&mut world, WEB, "REGION", 7);
    world.run(Command::RemoveService { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.cluster.all::<Value>().map(|value| value.key.name.as_str()).collect::<Vec<_>>(), ["api-key"]);
}

#[test]
fn the_credentials_of_the_images_registry_go_with_the_question_and_with_the_pull() {
    let mut world = World::with_nodes(1);
    let reference = "registry.example.com:5000/shop/web:1";
    world.images.insert(reference.into(), Ok("registry.example.com:5000/shop/web@sha256:1".into()));
    set_value(&mut world, "shop", ValueKind::Registry, "registry.example.com:5000", 1);
    set_value(&mut world, "shop", ValueKind::Registry, "other.example.com", 2);
    world.apply("production", &[("web", web(reference, 1))]);
    world.settle();
    let set = world.cluster.assignments(NodeId(1), true).unwrap();
    let login = set.assignments[0].run.registry_login().unwrap();
    assert_eq!(set.assignments[0].run.values, [Binding { place: Place::Registry, value: login }]);
    assert_eq!(set.values.len(), 1, "a node is given what its jobs need, and nothing else");
    assert_eq!(world.logins, [login]);
    assert!(matches!(&set.values[&login].body, Body::Stored { version: ValueId(1), .. }));
    // What is good today goes with the next pull, and no job is replaced for it.
    let before = world.agents[&NodeId(1)].current.clone();
    set_value(&mut world, "shop", ValueKind::Registry, "registry.example.com:5000", 3);
    world.settle();
    assert!(!world.why(WEB)[0].contains("not deployed"), "{:?}", world.why(WEB));
    let set = world.cluster.assignments(NodeId(1), true).unwrap();
    let login = set.assignments[0].run.registry_login().unwrap();
    assert!(matches!(&set.values[&login].body, Body::Stored { version: ValueId(3), .. }));
    world.broken.insert("hello@sha256:2".into());
    world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    assert_eq!(world.agents[&NodeId(1)].current, before);
}

#[test]
fn going_back_after_a_bad_apply_leaves_the_jobs_that_never_changed() {
    let mut world = served();
    let before = world.agents[&NodeId(1)].current.clone();
    let mut bad = with_key("hello:1", 2);
    bad.secrets.insert("OTHER".into(), "absent".into());
    world.apply("production", &[("web", bad)]);
    world.settle();
    assert!(world.why(WEB)[0].contains("no secret absent"), "{:?}", world.why(WEB));
    world.apply("production", &[("web", with_key("hello:1", 2))]);
    world.settle();
    assert_eq!(world.service(WEB).unfinished, None);
    assert_eq!(world.agents[&NodeId(1)].current, before);
}

#[test]
fn a_deployment_that_is_tried_again_leaves_no_slot_with_the_values_of_before() {
    let mut world = served();
    world.broken.insert("hello@sha256:1".into());
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    // The first node gets it to run, the second does not.
    world.broken.clear();
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    while world.agents[&NodeId(2)].replacements.is_empty() || given(&world, 2) != [one("API_KEY", "api-key=2")] {
        world.turn();
    }
    world.broken.insert("hello@sha256:1".into());
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Failed);
    world.broken.clear();
    let applied = world.apply("production", &[("web", with_key("hello:1", 2))]);
    assert!(matches!(applied[0].change, Change::Retry { .. }), "{:?}", applied[0].change);
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
    assert_eq!([given(&world, 1), given(&world, 2)], [[one("API_KEY", "api-key=2")], [one("API_KEY", "api-key=2")]]);
}

#[test]
fn a_rollback_out_of_a_redeploy_goes_back_to_the_values_that_were_good() {
    let mut world = served();
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    while given(&world, 1) != [one("API_KEY", "api-key=2")] {
        world.turn();
    }
    world.run(Command::Rollback { service: path(WEB), to: None }).unwrap();
    world.settle();
    assert_eq!([given(&world, 1), given(&world, 2)], [[one("API_KEY", "api-key=1")], [one("API_KEY", "api-key=1")]]);
    assert!(world.why(WEB)[0].starts_with("not deployed yet: API_KEY"));
}

#[test]
fn jobs_of_a_store_that_knew_no_values_are_not_replaced_for_it() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let slots: Vec<Slot> = world.cluster.all::<Slot>().cloned().collect();
    for mut slot in slots {
        slot.job.as_mut().unwrap().bound_by = 0;
        world.cluster.put(slot);
    }
    let deployments: Vec<Deployment> = world.cluster.all::<Deployment>().cloned().collect();
    for deployment in deployments {
        world.cluster.put(Deployment { bindings: None, ..deployment });
    }
    world.commit();
    let before = world.agents[&NodeId(1)].current.clone();
    world.run(Command::Deploy { service: path(WEB), image: "hello:1".into() }).unwrap();
    world.settle();
    assert_eq!(world.agents[&NodeId(1)].current, before);
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_deployment_that_would_bind_a_value_that_cannot_be_read_fails_and_touches_nothing() {
    let mut world = served();
    let before = world.agents[&NodeId(1)].current.clone();
    let scope = world.cluster.value_scope(ENVIRONMENT).unwrap();
    let key = ValueKey { scope, kind: ValueKind::Secret, name: "api-key".into() };
    world.live.unreadable.insert((key, ValueId(1)), "it was altered".into());
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(
        world.why(WEB)[0],
        "deployment 2 failed: the secret api-key of shop/production cannot be read: it was altered; set it again"
    );
    assert_eq!(world.agents[&NodeId(1)].current, before);
    secret(&mut world, ENVIRONMENT, "api-key", 2);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Complete);
}

#[test]
fn a_version_that_stands_in_anothers_record_is_none_that_a_node_has() {
    let mut world = served();
    secret(&mut world, "shop", "tls-key", 9);
    let scope = world.cluster.value_scope(ENVIRONMENT).unwrap();
    let key = ValueKey { scope, kind: ValueKind::Secret, name: "api-key".into() };
    let other = world.cluster.value_scope("shop").unwrap();
    let other = ValueKey { scope: other, kind: ValueKind::Secret, name: "tls-key".into() };
    let taken = world.cluster.get::<Value>(&other).unwrap().versions[0].clone();
    world.cluster.edit::<Value>(&key, |value| {
        value.current = Some(taken.id);
        value.versions.push(taken.clone());
    });
    world.commit();
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    let set = world.cluster.assignments(NodeId(1), true).unwrap();
    let binding = &set.assignments[0].run.values[0];
    assert_ne!(binding.value, other.on_nodes(taken.id));
    assert!(matches!(&set.values[&binding.value].body, Body::Stored { key: of, .. } if *of == key));
}

#[test]
fn the_registry_of_an_image_is_what_engines_take_for_it() {
    for (reference, host) in [
        ("web:1", "docker.io"),
        ("shop/web:1", "docker.io"),
        ("index.docker.io/shop/web", "docker.io"),
        ("registry.example.com/web", "registry.example.com"),
        ("Registry.Example.com/web", "registry.example.com"),
        ("LANHOST/web", "lanhost"),
        ("localhost/web", "localhost"),
        ("host:5000/a/b", "host:5000"),
    ] {
        assert_eq!(registry_of(reference), host);
    }
}

#[test]
fn only_nodes_that_run_a_service_are_given_its_values() {
    let mut world = World::with_nodes(2);
    secret(&mut world, ENVIRONMENT, "api-key", 1);
    world.apply("production", &[("web", with_key("hello:1", 1))]);
    world.settle();
    let values = |node| world.cluster.assignments(NodeId(node), true).unwrap().values.len();
    assert_eq!((values(1), values(2)), (1, 0));
}

#[test]
fn another_key_changes_no_value_and_leaves_alone_what_was_set_meanwhile() {
    let mut world = served();
    let key = ValueKey {
        scope: world.cluster.value_scope(ENVIRONMENT).unwrap(),
        kind: ValueKind::Secret,
        name: "api-key".into(),
    };
    let reseal = |before: &str, after: &str| {
        let sealed = |text: &str| Sealed::from(text.as_bytes().to_vec());
        let one = Resealed { key: key.clone(), id: ValueId(1), before: sealed(before), after: sealed(after) };
        Command::Value(ValueCommand::Reseal { versions: vec![one] })
    };
    world.run(reseal("api-key=1", "resealed")).unwrap();
    assert_eq!(given(&world, 1), [one("API_KEY", "resealed")]);
    world.run(reseal("api-key=1", "late")).unwrap();
    assert_eq!(given(&world, 1), [one("API_KEY", "resealed")]);
    world.settle();
    assert_eq!(world.last_deployment(WEB).number, 1, "nothing is deployed for it");
}

#[test]
fn names_that_cannot_be_are_refused_and_so_is_one_too_many() {
    let mut world = World::with_nodes(1);
    let mut refused = |kind, name: &str| {
        let command = command(&world, ENVIRONMENT, kind, name, 1, "x");
        world.run(command).unwrap_err()[0].to_string()
    };
    for name in ["", "../x", "Key", "a b", "a\u{1b}[2J"] {
        refused(ValueKind::Secret, name);
    }
    for name in ["", "1A", "A=B", "A B", "A-B", "Ä", "LAPSTRAKE_SLOT"] {
        refused(ValueKind::Variable, name);
    }
    for name in ["", "user@host", "host/path", "a b"] {
        refused(ValueKind::Registry, name);
    }
    for n in 0..VALUES_PER_SCOPE {
        secret(&mut world, ENVIRONMENT, &format!("s{n}"), 100 + n as u128);
    }
    secret(&mut world, ENVIRONMENT, "s0", 500);
    let command = command(&world, ENVIRONMENT, ValueKind::Secret, "more", 501, "x");
    let said = world.run(command).unwrap_err()[0].to_string();
    assert_eq!(said, "shop/production has 100 values of this kind; the quota is 100");
}

#[test]
fn a_value_that_was_sealed_for_another_place_is_refused() {
    let mut world = World::with_nodes(1);
    let Command::Value(ValueCommand::Set(set)) = command(&world, "shop", ValueKind::Secret, "api-key", 1, "x") else {
        unreachable!()
    };
    let moved = SetValue { at: ENVIRONMENT.into(), ..set };
    let refused = world.run(Command::Value(ValueCommand::Set(moved))).unwrap_err();
    assert_eq!(refused[0].kind, RefusalKind::Conflict);
}

#[test]
fn values_too_large_for_a_job_fail_its_deployment_with_a_sentence() {
    let mut world = World::with_nodes(1);
    for n in 0..5 {
        let command = command(&world, ENVIRONMENT, ValueKind::Variable, &format!("V{n}"), n, &"x".repeat(32 << 10));
        world.run(command).unwrap();
    }
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    assert_eq!(
        world.why(WEB)[0],
        "deployment 1 failed: its secrets and variables are 163840 bytes together; a job gets at most 131328"
    );
}

#[test]
fn whoever_has_no_right_to_secrets_in_a_scope_changes_none_there() {
    let mut world = World::with_nodes(1);
    let grants = [
        (1, Role::Deployer, "shop/production", false),
        (2, Role::Operator, "shop/staging", false),
        (3, Role::Operator, "shop/production", true),
        (4, Role::Operator, "shop", true),
    ];
    for (id, role, at, allowed) in grants {
        let new = NewOperatorToken {
            id: TokenId(id),
            hash: format!("{id}"),
            name: format!("t{id}"),
            grant: Grant { role, scope: Scope::of_path(at) },
            lifetime: None,
        };
        world.run(Command::CreateOperatorToken(new)).unwrap();
        let command = command(&world, ENVIRONMENT, ValueKind::Secret, "api-key", id, "x");
        let result = world.run_as(holder(TokenId(id), "somebody"), command);
        assert_eq!(result.is_ok(), allowed, "{role} at {at}: {result:?}");
    }
    let reseal = Command::Value(ValueCommand::Reseal { versions: vec![] });
    assert!(world.run_as(holder(TokenId(4), "somebody"), reseal).is_err(), "the key is the organization's admins'");
}

#[test]
fn what_a_value_may_be_is_said_in_sentences() {
    use crate::cluster::values::value_text;
    use crate::values::VALUE_BYTES;
    let text =
        |kind, user: Option<&str>, value: &str| value_text(kind, user, value).map_err(|refusal| refusal.sentence);
    assert_eq!(text(ValueKind::Secret, None, "hunter2"), Ok("hunter2".into()));
    assert_eq!(text(ValueKind::Registry, Some("ci"), "hunter2"), Ok("ci\nhunter2".into()));
    let no_user = Err("the credentials for a registry need a user without : in its name".into());
    for user in [None, Some(""), Some("a:b"), Some("a\nb")] {
        assert_eq!(text(ValueKind::Registry, user, "x"), no_user, "{user:?}");
    }
    let only = Err("user is said of the credentials for a registry only".into());
    assert_eq!(text(ValueKind::Variable, Some("ci"), "x"), only);
    assert!(text(ValueKind::Variable, None, &"x".repeat(VALUE_BYTES)).is_ok());
    let long = text(ValueKind::Variable, None, &"x".repeat(VALUE_BYTES + 1)).unwrap_err();
    assert_eq!(long, "the value has 32769 bytes; 32768 are allowed");
    assert!(text(ValueKind::Secret, None, "a\0b").unwrap_err().contains("NUL"));
}

/// A value of the largest size, for one service.
fn set_large(world: &mut World, name: &str, secret: &str, id: u128) {
    let at = alloc::format!("shop/production/{name}");
    let key = ValueKey { scope: world.cluster.value_scope(&at).unwrap(), kind: ValueKind::Secret, name: secret.into() };
    let set = SetValue { at, key, id: ValueId(id), body: Sealed::from(alloc::vec![7; crate::values::VALUE_BYTES]) };
    world.run(Command::Value(ValueCommand::Set(set))).unwrap();
}

#[test]
fn a_node_whose_agent_could_not_be_told_more_gets_no_more() {
    use crate::assignment::bytes::{SET_BYTES, of_set};
    let mut world = World::with_nodes(1);
    world
        .run(Command::SetQuota {
            application: "shop".into(),
            environment: None,
            limits: [(crate::quota::Good::Services, Some(200))].into(),
        })
        .unwrap();
    // Most of it is taken by one: a spec may have a large variable of its own.
    let small = |name: &str| {
        let mut spec = web("hello:1", 1);
        spec.ports.clear();
        (spec.size.cpu_milli, spec.size.memory_bytes) = (1, MIB);
        spec.env.insert("NAME".into(), name.into());
        spec
    };
    let mut filler = small("filler");
    filler.env.insert("FILLER".into(), "x".repeat((11 << 20) + (700 << 10)));
    world.apply("production", &[("filler", filler)]);
    world.settle();
    assert_eq!(world.running().len(), 1);
    let secrets = ["a", "b", "c", "d"];
    let mut placed = 0;
    for number in 1..=4u128 {
        let name = alloc::format!("web-{number}");
        let mut spec = small(&name);
        spec.secrets = secrets.iter().map(|it| (it.to_uppercase(), it.to_string())).collect();
        world.apply("production", &[(&name, spec)]);
        for (index, secret) in secrets.iter().enumerate() {
            set_large(&mut world, &name, secret, number * 10 + index as u128);
        }
        world.settle();
        if world.running().len() == 1 + placed {
            let why = world.why(&alloc::format!("shop/production/{name}")).remove(0);
            assert!(why.contains("node-1: its assignments would be too large: "), "{why}");
            break;
        }
        placed += 1;
    }
    assert_eq!(placed, 2, "services with 128 KiB each in the last 324");
    let set = world.cluster.assignments(NodeId(1), true).unwrap();
    assert!(of_set(&set) <= SET_BYTES);
    // What is there can have new jobs with the same values, and not with larger ones.
    let first = path("shop/production/web-1");
    world.run(Command::Redeploy { service: first.clone() }).unwrap();
    world.settle();
    assert_eq!(world.last_deployment("shop/production/web-1").phase, DeploymentPhase::Complete);
    let before = world.running();
    for (index, secret) in secrets.iter().enumerate() {
        set_large(&mut world, "web-1", secret, 50_000 + index as u128);
    }
    let generation = world.cluster.get::<Node>(&NodeId(1)).unwrap().generation;
    world.run(Command::Redeploy { service: first }).unwrap();
    world.settle();
    let failed = world.last_deployment("shop/production/web-1");
    assert_eq!(failed.phase, DeploymentPhase::Failed);
    let said = failed.failure.as_ref().unwrap().to_string();
    assert!(said.contains("web.1 is on node-1: its assignments would be too large: "), "{said}");
    assert_eq!(world.running(), before);
    assert_eq!(world.cluster.get::<Node>(&NodeId(1)).unwrap().generation, generation, "nothing was touched");
}
