use super::world::*;
use crate::access::{Grant, Role, Scope};
use crate::assignment::ServicePath;
use crate::cluster::command::{Answer, Command, NewOperatorToken, Refusal, RefusalKind};
use crate::cluster::request::{Carried, Expected, KEPT_FOR, KEPT_PER_TOKEN, Once, Request};
use crate::cluster::state::*;
use crate::cluster::tag::Tag;
use crate::ids::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

fn world() -> World {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    world
}

fn new_token(id: TokenId, name: &str) -> Command {
    let grant = Grant { role: Role::Viewer, scope: Scope::Organization };
    Command::CreateOperatorToken(NewOperatorToken { id, hash: "0".into(), name: name.into(), grant, lifetime: None })
}

fn token(world: &mut World, id: TokenId, name: &str) {
    world.run(new_token(id, name)).unwrap();
}

fn once(key: &str, digest: &str) -> Request {
    Request { once: Some(Once { token: ADA, key: key.into(), digest: digest.into() }), expects: None }
}

fn expecting(tags: &[Tag]) -> Request {
    Request { once: None, expects: Some(Expected::OneOf(tags.to_vec())) }
}

fn service(name: &str) -> ServicePath {
    ServicePath { application: "shop".into(), environment: "production".into(), service: name.into() }
}

fn web_path() -> ServicePath {
    service("web")
}

fn redeploy() -> Command {
    Command::Redeploy { service: web_path() }
}

impl World {
    fn request(&mut self, command: Command, request: &Request) -> Result<Carried, Vec<Refusal>> {
        let mut cx = Self::cx(&mut self.ids, self.tick);
        let result = self.cluster.request(&self.live, command, request, &mut cx);
        if let Ok(carried) = &result {
            self.queue.extend(&carried.outcome.touched);
        }
        self.commit();
        result
    }

    fn tag(&self) -> Tag {
        self.cluster.tag_of_subject(redeploy().subject().unwrap()).unwrap()
    }
}

fn only(result: Result<Carried, Vec<Refusal>>) -> Refusal {
    let mut refusals = result.unwrap_err();
    assert_eq!(refusals.len(), 1);
    refusals.remove(0)
}

#[test]
fn a_request_with_the_same_key_is_carried_out_once_also_after_the_controller_died() {
    let mut world = world();
    let first = world.request(redeploy(), &once("k1", "a")).unwrap();
    assert!(!first.again);
    let deployments = world.last_deployment("shop/production/web").number;
    for _ in 0..2 {
        let again = world.request(redeploy(), &once("k1", "a")).unwrap();
        assert!(again.again && again.outcome.touched.is_empty());
        assert_eq!(again.outcome.answer, first.outcome.answer);
        assert_eq!(world.last_deployment("shop/production/web").number, deployments, "nothing more was deployed");
        world.restart_controller();
    }
    let other = world.request(redeploy(), &once("k2", "a")).unwrap();
    assert!(!other.again, "another key is another request");
    assert_eq!(world.last_deployment("shop/production/web").number, deployments + 1);
}

#[test]
fn a_key_that_comes_back_with_another_request_is_refused_and_does_nothing() {
    let mut world = world();
    world.request(redeploy(), &once("k1", "a")).unwrap();
    let before = world.cluster.records();
    let refusal = only(world.request(redeploy(), &once("k1", "b")));
    assert_eq!(refusal.kind, RefusalKind::KeyReused);
    assert!(refusal.sentence.contains("k1") && refusal.sentence.contains("another request"), "{refusal}");
    assert_eq!(world.cluster.records(), before);
}

#[test]
fn keys_of_different_tokens_have_nothing_to_do_with_each_other() {
    let mut world = world();
    world.request(redeploy(), &once("k1", "a")).unwrap();
    token(&mut world, TokenId(78), "grace");
    let of_grace = Once { token: TokenId(78), key: "k1".into(), digest: "b".into() };
    let carried = world.request(redeploy(), &Request { once: Some(of_grace), expects: None }).unwrap();
    assert!(!carried.again);
}

#[test]
fn what_was_refused_is_decided_anew_when_it_comes_again() {
    let mut world = world();
    let create = || Command::CreateEnvironment { application: "new".into(), name: "qa".into() };
    assert_eq!(only(world.request(create(), &once("k1", "a"))).kind, RefusalKind::NotFound);
    world.run(Command::CreateApplication { name: "new".into() }).unwrap();
    assert!(!world.request(create(), &once("k1", "a")).unwrap().again);
    assert!(world.request(create(), &once("k1", "a")).unwrap().again);
}

#[test]
fn a_key_is_forgotten_after_a_day_and_the_oldest_beyond_a_number() {
    let mut world = world();
    let name = |n: usize| new_token(TokenId(1_000 + n as u128), &format!("t{n}"));
    world.request(redeploy(), &once("old", "a")).unwrap();
    for n in 0..KEPT_PER_TOKEN + 10 {
        world.tick = world.tick + crate::time::Millis(1);
        world.request(name(n), &once(&format!("k{n}"), "a")).unwrap();
        assert!(world.cluster.all::<DoneRequest>().count() <= KEPT_PER_TOKEN, "the memory is bounded");
    }
    assert!(!world.request(redeploy(), &once("old", "a")).unwrap().again, "the oldest went first");
    let newest = KEPT_PER_TOKEN + 9;
    assert!(world.request(name(newest), &once(&format!("k{newest}"), "a")).unwrap().again);
    world.tick = world.tick + KEPT_FOR;
    let late = world.request(name(newest), &once(&format!("k{newest}"), "a")).unwrap();
    assert!(!late.again, "after a day nobody retries");
    for n in 0..KEPT_PER_TOKEN {
        world.request(name(n), &once(&format!("again{n}"), "a")).unwrap();
    }
    let old = world.cluster.all::<DoneRequest>().filter(|done| done.key.starts_with('k')).count();
    assert_eq!(old, 1, "all but the newest of the day before are gone");
}

#[test]
fn a_key_that_could_not_stand_in_the_store_is_refused() {
    let mut world = world();
    for key in ["", "a/b", "a b", "\u{1b}[2J", "ü", &"k".repeat(81)] {
        assert_eq!(only(world.request(redeploy(), &once(key, "a"))).kind, RefusalKind::Invalid, "{key}");
    }
    world.request(redeploy(), &once(&"k".repeat(80), "a")).unwrap();
}

#[test]
fn a_tag_changes_exactly_when_the_record_does() {
    let mut world = world();
    let tag = world.tag();
    world.run(Command::CreateApplication { name: "other".into() }).unwrap();
    world.restart_controller();
    world.settle();
    assert_eq!(world.tag(), tag, "neither other records nor readings nor a restart change it");
    assert_eq!(tag.to_string().parse(), Ok(tag));
    world.run(redeploy()).unwrap();
    let deploying = world.tag();
    assert_ne!(deploying, tag);
    world.settle();
    assert_ne!(world.tag(), deploying, "its active deployment is another now");
}

#[test]
fn what_was_decided_on_something_older_is_refused_and_does_nothing() {
    let mut world = world();
    let seen = world.tag();
    let scale = |scale| Command::Scale { service: web_path(), scale };
    world.request(scale(2), &expecting(&[seen])).unwrap();
    let before = world.cluster.records();
    let refusal = only(world.request(scale(3), &expecting(&[seen])));
    assert_eq!(refusal.kind, RefusalKind::Changed);
    assert!(refusal.sentence.contains("shop/production/web was changed"), "{refusal}");
    assert_eq!(world.cluster.records(), before);
    world.request(scale(3), &expecting(&[seen, world.tag()])).unwrap();
    let anything = Request { once: None, expects: Some(Expected::Anything) };
    world.request(scale(1), &anything).unwrap();
}

#[test]
fn a_request_that_comes_again_is_not_refused_for_what_it_changed_itself() {
    let mut world = world();
    let request = Request { expects: Some(Expected::OneOf(Vec::from([world.tag()]))), ..once("k1", "a") };
    assert!(!world.request(redeploy(), &request).unwrap().again);
    assert!(world.request(redeploy(), &request).unwrap().again);
}

#[test]
fn a_condition_on_what_has_no_tag_is_refused_and_one_on_what_is_not_there_says_that() {
    let mut world = world();
    let tag = world.tag();
    let create = Command::CreateApplication { name: "other".into() };
    assert_eq!(only(world.request(create, &expecting(&[tag]))).kind, RefusalKind::Invalid);
    let nowhere = Command::Redeploy { service: service("nowhere") };
    assert_eq!(only(world.request(nowhere, &expecting(&[tag]))).kind, RefusalKind::NotFound);
}

#[test]
fn two_commands_of_one_batch_cannot_both_be_decided_on_the_same_state() {
    let mut world = world();
    let seen = world.tag();
    let mut cx = World::cx(&mut world.ids, world.tick);
    let scale = |scale| Command::Scale { service: web_path(), scale };
    world.cluster.request(&world.live, scale(2), &expecting(&[seen]), &mut cx).unwrap();
    let second = world.cluster.request(&world.live, scale(3), &expecting(&[seen]), &mut cx);
    assert_eq!(only(second).kind, RefusalKind::Changed);
}

#[test]
fn the_tag_of_an_environment_changes_with_the_nodes_that_it_is_given() {
    let mut world = world();
    world.join(2);
    let attach =
        || Command::AttachNode { application: "shop".into(), environment: "production".into(), node: "node-2".into() };
    let tag = |world: &World| world.cluster.tag_of_subject(attach().subject().unwrap()).unwrap();
    let before = tag(&world);
    let carried = world.request(attach(), &expecting(&[before])).unwrap();
    assert_eq!(carried.outcome.answer, Answer::Recorded);
    assert_ne!(tag(&world), before);
    assert_eq!(only(world.request(attach(), &expecting(&[before]))).kind, RefusalKind::Changed);
}
