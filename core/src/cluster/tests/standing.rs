//! Whose certificate is believed: twins, revocation, return, and the root's rotation.

use crate::cluster::One;
use crate::cluster::command::{Answer, Command};
use crate::cluster::rotation::AuthorityCommand;
use crate::cluster::standing::{AskReturn, HelloRefused, StandingCommand};
use crate::cluster::state::{Authority, Node, ReturnAnswer, Root, RotationStage, Standing};
use crate::cluster::tests::world::*;
use crate::ids::{BootId, NodeId};
use crate::message::Credentials;
use crate::root::RootId;
use crate::time::{Millis, Wall};
use alloc::string::String;
use alloc::vec::Vec;

const TWO: NodeId = NodeId(2);

fn world() -> World {
    let mut world = World::empty();
    (1..=2).for_each(|number| world.join(number));
    world
}

fn standing(world: &World) -> Standing {
    world.cluster.get::<Node>(&TWO).unwrap().standing
}

/// The node's agent opens a session from this boot of its machine.
fn says_hello(world: &mut World, boot: u128) -> Result<(), HelloRefused> {
    world.agents.get_mut(&TWO).unwrap().boot = BootId(boot);
    world.try_connect(2)
}

fn stand(world: &mut World, command: StandingCommand) -> Result<Answer, String> {
    let done = world.run(Command::Standing(command));
    done.map(|outcome| outcome.answer).map_err(|refusals| refusals[0].sentence.clone())
}

#[test]
fn a_machine_that_reboots_is_no_twin_however_often() {
    let mut world = world();
    for boot in 10..40 {
        says_hello(&mut world, boot).unwrap();
        says_hello(&mut world, boot).unwrap();
    }
    assert_eq!(standing(&world), Standing::Good);
}

#[test]
fn two_machines_that_take_turns_are_both_refused_also_by_a_restarted_controller_until_an_operator_says_otherwise() {
    let mut world = world();
    says_hello(&mut world, 77).unwrap();
    says_hello(&mut world, 78).unwrap();
    // A restart in between: what was seen is stored.
    world.restart_controller();
    assert_eq!(says_hello(&mut world, 77), Err(HelloRefused::Twins));
    assert_eq!(standing(&world), Standing::Quarantined);
    assert!(world.live.session(TWO).is_none(), "the one that had a session has none either");
    for boot in [77, 78, 79] {
        assert_eq!(says_hello(&mut world, boot), Err(HelloRefused::Twins));
    }
    let troubles = world.cluster.get::<Node>(&TWO).unwrap().standing_troubles();
    assert!(troubles[0].contains("lap node unquarantine"), "{troubles:?}");
    let node = || "node-2".into();
    assert_eq!(stand(&mut world, StandingCommand::Release { node: node() }), Ok(Answer::Recorded));
    says_hello(&mut world, 77).unwrap();
    assert_eq!(stand(&mut world, StandingCommand::Release { node: node() }), Ok(Answer::Unchanged));
}

#[test]
fn a_revoked_node_is_refused_for_good() {
    let mut world = world();
    let node = || "node-2".into();
    assert_eq!(stand(&mut world, StandingCommand::Revoke { node: node() }), Ok(Answer::Recorded));
    assert_eq!(says_hello(&mut world, 1), Err(HelloRefused::Revoked));
    let told = stand(&mut world, StandingCommand::Release { node: node() }).unwrap_err();
    assert!(told.contains("was revoked"), "{told}");
    let told = stand(&mut world, StandingCommand::AskReturn(wish("k1"))).unwrap_err();
    assert!(told.contains("was revoked"), "{told}");
    world.restart_controller();
    assert_eq!(says_hello(&mut world, 1), Err(HelloRefused::Revoked));
}

fn wish(key: &str) -> AskReturn {
    AskReturn { node: TWO, key: key.into(), ended: Wall(1), address: "10.0.0.2".into() }
}

#[test]
fn a_node_returns_after_an_operators_yes_to_its_own_key_and_the_yes_is_used_up_by_its_session() {
    let mut world = world();
    world.cut(2);
    let ask = |world: &mut World, key: &str| stand(world, StandingCommand::AskReturn(wish(key)));
    let readmit = |world: &mut World, key: &str| {
        stand(world, StandingCommand::Readmit { node: "node-2".into(), key: key.into() })
    };
    readmit(&mut world, "k1").expect_err("it has not asked");
    assert_eq!(ask(&mut world, "k1"), Ok(Answer::Recorded));
    assert_eq!(ask(&mut world, "k1"), Ok(Answer::Unchanged), "asking again changes nothing");
    let told = ask(&mut world, "k2").unwrap_err();
    assert!(told.contains("another machine asks"), "{told}");
    let told = readmit(&mut world, "k2").unwrap_err();
    assert!(told.contains("with the key k1, not with k2"), "{told}");
    assert_eq!(readmit(&mut world, "k1"), Ok(Answer::Recorded));
    assert_eq!(ask(&mut world, "k1"), Ok(Answer::Node(TWO)));
    assert_eq!(ask(&mut world, "k1"), Ok(Answer::Node(TWO)), "an answer that was lost is given again");
    world.connect(2);
    world.cut(2);
    assert_eq!(ask(&mut world, "k1"), Ok(Answer::Recorded), "the next time it takes another yes");
}

#[test]
fn a_return_that_was_refused_stays_refused_for_that_key() {
    let mut world = world();
    world.cut(2);
    stand(&mut world, StandingCommand::AskReturn(wish("k1"))).unwrap();
    stand(&mut world, StandingCommand::RefuseReturn { node: "node-2".into() }).unwrap();
    let told = stand(&mut world, StandingCommand::AskReturn(wish("k1"))).unwrap_err();
    assert!(told.contains("refused this node's return"), "{told}");
    assert_eq!(stand(&mut world, StandingCommand::AskReturn(wish("k2"))), Ok(Answer::Recorded));
    let returning = world.cluster.get::<Node>(&TWO).unwrap().returning.clone().unwrap();
    assert_eq!((returning.key.as_str(), returning.answer), ("k2", ReturnAnswer::Waiting));
}

#[test]
fn a_machine_that_only_joined_is_not_told_to_be_lost() {
    let mut world = world();
    world.join_without_session(3);
    world.wait(Millis::secs(60));
    let lost =
        |world: &World| world.events.iter().any(|event| event.path == "node/node-3" && event.sentence.contains("lost"));
    assert!(!lost(&world), "nothing was ever heard of it");
}

fn root(number: u8) -> Root {
    Root { id: RootId([number; 32]), made: Wall(1), ends: Wall(2) }
}

fn rotate(world: &mut World, command: AuthorityCommand) -> Result<Answer, String> {
    let done = world.run(Command::Authority(command));
    done.map(|outcome| outcome.answer).map_err(|refusals| refusals[0].sentence.clone())
}

fn stage(world: &World) -> Option<RotationStage> {
    world.cluster.get::<Authority>(&One).unwrap().rotation.as_ref().map(|rotation| rotation.stage)
}

/// What a node says of itself.
fn says(world: &mut World, number: u128, roots: &[u8], issuer: u8) {
    let credentials = Credentials {
        roots: roots.iter().map(|root| RootId([*root; 32])).collect(),
        issuer: Some(RootId([issuer; 32])),
    };
    let session = world.agents[&NodeId(number)].session;
    world.live.take_credentials(NodeId(number), session, credentials);
    world.pass_time();
    world.commit();
}

#[test]
fn a_root_takes_anothers_place_when_every_node_is_ready_and_an_operator_says_so() {
    let mut world = world();
    rotate(&mut world, AuthorityCommand::Adopt(root(1))).unwrap();
    rotate(&mut world, AuthorityCommand::Advance { force: true }).expect_err("there is nothing to advance");
    rotate(&mut world, AuthorityCommand::Begin(root(2))).unwrap();
    rotate(&mut world, AuthorityCommand::Begin(root(3))).expect_err("one at a time");
    says(&mut world, 1, &[1, 2], 1);
    assert_eq!(stage(&world), Some(RotationStage::Announcing));
    let told = rotate(&mut world, AuthorityCommand::Advance { force: false }).unwrap_err();
    assert!(told.contains("node-2"), "{told}");
    says(&mut world, 2, &[1], 1);
    assert_eq!(stage(&world), Some(RotationStage::Announcing), "it only trusts the old one");
    says(&mut world, 2, &[1, 2], 1);
    assert_eq!(stage(&world), Some(RotationStage::Reissuing), "the first step needs nobody");
    says(&mut world, 1, &[1, 2], 2);
    let waits: Vec<_> = world.cluster.rotation_waits(&world.live).into_iter().map(|wait| wait.node).collect();
    assert_eq!(waits, ["node-2"]);
    rotate(&mut world, AuthorityCommand::Advance { force: false }).expect_err("node-2 has no new certificate");
    says(&mut world, 2, &[1, 2], 2);
    world.pass_time();
    assert_eq!(stage(&world), Some(RotationStage::Reissuing), "the last step needs an operator");
    rotate(&mut world, AuthorityCommand::Advance { force: false }).unwrap();
    assert_eq!(world.cluster.get::<Authority>(&One).unwrap(), &Authority { root: root(2), rotation: None });
}

#[test]
fn a_rotation_waits_anew_after_a_restart_and_goes_on_by_force_with_the_names_of_those_left_behind() {
    let mut world = world();
    rotate(&mut world, AuthorityCommand::Adopt(root(1))).unwrap();
    rotate(&mut world, AuthorityCommand::Begin(root(2))).unwrap();
    says(&mut world, 1, &[1, 2], 1);
    world.cut(2);
    world.restart_controller();
    let waits: Vec<_> =
        world.cluster.rotation_waits(&world.live).into_iter().map(|wait| (wait.node, wait.why)).collect();
    assert_eq!(waits.len(), 2, "what nodes trust is a reading: {waits:?}");
    assert_eq!(waits[1], ("node-2".into(), "has no session"));
    says(&mut world, 1, &[1, 2], 1);
    assert_eq!(stage(&world), Some(RotationStage::Announcing));
    rotate(&mut world, AuthorityCommand::Advance { force: true }).unwrap();
    assert_eq!(stage(&world), Some(RotationStage::Reissuing));
    let event = world.events.iter().rev().find(|event| event.path == "authority").unwrap();
    assert!(event.sentence.ends_with("left behind: node-2"), "{}", event.sentence);
    // A node without good standing is waited for by nobody.
    says(&mut world, 1, &[1, 2], 2);
    stand(&mut world, StandingCommand::Revoke { node: "node-2".into() }).unwrap();
    rotate(&mut world, AuthorityCommand::Advance { force: false }).unwrap();
}
