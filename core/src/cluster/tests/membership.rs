use super::world::*;
use crate::cluster::Context;
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::ids::{NodeId, TokenId};
use crate::time::Millis;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn detach(node: &str, force: bool) -> Command {
    Command::DetachNode { application: "shop".into(), environment: "production".into(), node: node.into(), force }
}

fn refusal(world: &mut World, command: Command) -> String {
    world.run(command).unwrap_err()[0].to_string()
}

fn token(id: u128) -> NewJoinToken {
    NewJoinToken {
        id: TokenId(id),
        hash: "good".into(),
        lifetime: Millis::secs(3600),
        environment: None,
        node_name: None,
        cidr: None,
    }
}

#[test]
fn a_join_token_is_good_for_one_node() {
    let mut world = World::with_nodes(1);
    let second = Enrol { node: NodeId(9), name: "node-9".into(), key: "another key".into(), ..enrol(1) };
    let told = refusal(&mut world, Command::EnrolNode(second));
    assert_eq!(told, "this join token was used already, by node-1");
}

#[test]
fn a_join_whose_answer_got_lost_gives_the_same_node_again() {
    let mut world = World::with_nodes(1);
    let again = Enrol { node: NodeId(9), ..enrol(1) };
    assert_eq!(world.run(Command::EnrolNode(again)).unwrap().answer, Answer::Node(NodeId(1)));
    assert_eq!(world.cluster.all::<Node>().count(), 1);
}

#[test]
fn a_wrong_unknown_expired_or_bound_join_token_lets_nobody_in() {
    let mut world = World::with_nodes(0);
    world.run(Command::CreateJoinToken(NewJoinToken { cidr: Some("10.0.0.0/8".into()), ..token(1) })).unwrap();
    world.run(Command::CreateJoinToken(NewJoinToken { node_name: Some("edge".into()), ..token(2) })).unwrap();
    let wrong = Enrol { hash: "bad".into(), ..enrol(1) };
    let unknown = Enrol { token: TokenId(99), ..enrol(1) };
    let foreign = Enrol { address_allowed: false, ..enrol(1) };
    let told: Vec<String> =
        [wrong, unknown, foreign, enrol(2)].into_iter().map(|it| refusal(&mut world, Command::EnrolNode(it))).collect();
    assert_eq!(
        told,
        [
            "this join token is not one of this cluster's",
            "this join token is not one of this cluster's",
            "this join token is only for nodes in 10.0.0.0/8",
            "this join token is only for the node edge, not for node-2",
        ]
    );
    world.tick = world.tick + Millis::secs(3600);
    assert_eq!(refusal(&mut world, Command::EnrolNode(enrol(2))), "this join token has expired");
    assert_eq!(world.cluster.all::<Node>().count(), 0);
}

#[test]
fn a_token_that_is_bound_to_an_environment_gives_it_the_node() {
    let mut world = World::with_nodes(0);
    let environment = Some(("shop".into(), "production".into()));
    world.run(Command::CreateJoinToken(NewJoinToken { environment, ..token(1) })).unwrap();
    world.run(Command::EnrolNode(enrol(1))).unwrap();
    let environment = world.cluster.environment_named("shop", "production").unwrap().id;
    assert!(world.cluster.is_allotted(environment, NodeId(1)));
}

#[test]
fn a_node_on_which_jobs_run_is_not_taken_away_and_the_jobs_are_named() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 2))]);
    world.settle();
    let jobs = "jobs run on node-1: shop/production/web (web.1)";
    assert_eq!(refusal(&mut world, detach("node-1", false)), jobs);
    assert_eq!(refusal(&mut world, Command::RemoveNode { node: "node-1".into(), force: false }), jobs);
    let told = refusal(&mut world, detach("node-1", true));
    assert_eq!(
        told,
        "jobs run on node-1: shop/production/web (web.1), and node-1 is not lost, so --force does not apply"
    );
}

#[test]
fn a_lost_node_is_taken_away_by_force_and_its_jobs_start_elsewhere() {
    for command in [detach("node-1", true), Command::RemoveNode { node: "node-1".into(), force: true }] {
        let mut world = World::with_nodes(2);
        let mut spec = web("hello:1", 2);
        spec.replace_after = Millis::secs(3600);
        world.apply("production", &[("web", spec)]);
        world.settle();
        world.cut(1);
        world.wait(Millis::secs(10));
        world.run(command.clone()).unwrap();
        world.settle();
        assert_eq!(world.cluster.slots_on(NodeId(2)).count(), 2);
        if let Command::DetachNode { .. } = command {
            world.connect(1);
            world.settle();
            assert_eq!(world.running(), ["node-2: web.1=r1", "node-2: web.2=r1"], "it stops what is not its any more");
        }
    }
}

#[test]
fn a_node_without_jobs_is_taken_away_at_once() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    world.run(detach("node-2", false)).unwrap();
    assert_eq!(refusal(&mut world, detach("node-2", false)), "node-2 is not attached to shop/production");
    world.run(Command::RemoveNode { node: "node-2".into(), force: false }).unwrap();
    assert!(world.cluster.get::<Node>(&NodeId(2)).is_none());
}

#[test]
fn names_are_unique() {
    let mut world = World::with_nodes(1);
    world.run(Command::CreateJoinToken(token(5))).unwrap();
    let twin = Enrol { token: TokenId(5), name: "node-1".into(), ..enrol(5) };
    assert_eq!(refusal(&mut world, Command::EnrolNode(twin)), "there is a node node-1 already");
    let twin = Command::CreateApplication { name: "shop".into() };
    assert_eq!(refusal(&mut world, twin), "there is an application shop already");
    let twin = Command::CreateEnvironment { application: "shop".into(), name: "staging".into() };
    assert_eq!(refusal(&mut world, twin), "shop has an environment staging already");
}

#[test]
fn a_join_token_is_forgotten_a_week_after_its_end() {
    let mut world = World::with_nodes(1);
    world.run(Command::CreateJoinToken(token(5))).unwrap();
    let ends = world.cluster.get::<JoinToken>(&TokenId(5)).unwrap().expires;
    let week = Millis::secs(7 * 24 * 3600);
    let kept_at = |world: &mut World, wall| {
        let mut cx = Context { wall, ..World::cx(&mut world.ids, world.tick) };
        world.cluster.pass_time(&mut world.live, &mut cx);
        world.cluster.all::<JoinToken>().count()
    };
    assert_eq!(kept_at(&mut world, ends), 2, "until then whoever shows it is told that it has expired");
    assert_eq!(kept_at(&mut world, ends + week), 0, "the used one too");
    assert_eq!(world.cluster.all::<Node>().count(), 1);
}

#[test]
fn a_join_token_is_good_for_a_week_at_most_and_not_for_no_time() {
    let mut world = World::with_nodes(1);
    let token = |seconds| NewJoinToken {
        id: TokenId(77),
        hash: "h".into(),
        lifetime: Millis::secs(seconds),
        environment: None,
        node_name: None,
        cidr: None,
    };
    for seconds in [0, 7 * 24 * 3_600 + 1] {
        let refused = world.run(Command::CreateJoinToken(token(seconds))).unwrap_err();
        assert!(refused[0].sentence.contains("between 1 and 604800"), "{}", refused[0]);
    }
    world.run(Command::CreateJoinToken(token(7 * 24 * 3_600))).unwrap();
}
