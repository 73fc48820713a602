//! Paused services: nothing starts them but a person, and nothing of them is lost.

use super::world::*;
use crate::access::{Author, Grant, Role, Scope};
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::cluster::status::ServiceState;
use crate::ids::{NodeId, TokenId};
use crate::time::Millis;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

const WEB: &str = "shop/production/web";

fn one() -> Which {
    Which::Service(path(WEB))
}

fn all() -> Which {
    Which::Environment { application: "shop".into(), environment: "production".into() }
}

fn pause(which: Which, reason: Option<&str>) -> Command {
    Command::Pause { which, reason: reason.map(String::from) }
}

fn resume(which: Which) -> Command {
    Command::Resume { which }
}

fn running(nodes: u128, scale: u32) -> World {
    let mut world = World::with_nodes(nodes);
    world.apply("production", &[("web", web("hello:1", scale))]);
    world.settle();
    world
}

fn sentence(result: Result<Outcome, Vec<Refusal>>) -> (RefusalKind, String, Option<String>) {
    let refusal = result.unwrap_err().remove(0);
    (refusal.kind, refusal.sentence, refusal.hint)
}

#[test]
fn a_paused_service_has_no_job_and_a_resumed_one_runs_its_revision_where_it_was() {
    let mut world = running(3, 2);
    let homes: Vec<(u32, NodeId)> = world.cluster.all::<Slot>().map(|slot| (slot.id.number, slot.node)).collect();
    world.run(pause(one(), Some("new disks"))).unwrap();
    assert_eq!(world.status(WEB).state, ServiceState::Pausing);
    assert_eq!(world.status(WEB).message, "it is paused by ada: new disks; 2 slots are left to empty");
    world.settle();
    assert!(world.running().is_empty(), "{:?}", world.running());
    assert_eq!(world.status(WEB).state, ServiceState::Paused);
    assert_eq!(world.status(WEB).message, "it is paused by ada: new disks; `lap resume` starts it again");
    assert_eq!(world.why(WEB)[0], format!("{WEB}: {}", world.status(WEB).message));
    // The other nodes are emptier now than those that it was on.
    for (other, node) in [("a", 1), ("b", 2)] {
        assert!(homes.iter().any(|(_, home)| *home == NodeId(node)));
        let constraints = vec!["on == it".parse().unwrap()];
        let set = [("on".to_string(), "it".to_string())].into();
        world.run(Command::LabelNode { node: format!("node-{node}"), set, remove: [].into() }).unwrap();
        let spec = crate::spec::ServiceSpec { constraints, ..web("hello:1", 1) };
        world.apply("production", &[(other, spec)]);
        world.settle();
    }
    world.run(resume(one())).unwrap();
    assert_eq!(world.status(WEB).state, ServiceState::Resuming);
    assert_eq!(world.status(WEB).message, "resumed by ada: 0 of 2 jobs healthy");
    world.settle();
    assert_eq!(world.status(WEB).state, ServiceState::Healthy);
    let service = world.service(WEB).id;
    let now: Vec<(u32, NodeId)> = world.cluster.slots_of(service).map(|slot| (slot.id.number, slot.node)).collect();
    assert_eq!(now, homes, "it is where it was");
    assert_eq!(world.last_deployment(WEB).number, 1, "a resume is no deployment");
    assert!(world.sentences().contains(&"the service runs again"));
}

#[test]
fn a_service_whose_node_is_gone_resumes_on_another() {
    let mut world = running(2, 1);
    let node = world.cluster.all::<Slot>().next().unwrap().node;
    world.run(pause(one(), None)).unwrap();
    world.settle();
    world.run(Command::CordonNode { node: format!("node-{}", node.0), reason: None }).unwrap();
    world.run(resume(one())).unwrap();
    world.settle();
    assert_ne!(world.cluster.all::<Slot>().next().unwrap().node, node);
}

#[test]
fn neither_a_lost_node_nor_a_restart_of_the_controller_starts_a_paused_service() {
    let mut world = running(2, 2);
    world.cut(2);
    world.run(pause(one(), None)).unwrap();
    world.settle();
    assert_eq!(world.status(WEB).state, ServiceState::Pausing, "a silent node has not said that it stopped");
    world.wait(Millis::secs(30));
    world.settle();
    assert_eq!(world.running(), ["node-2: web.2=r1"], "it cannot be told");
    assert_eq!(world.status(WEB).state, ServiceState::Paused);
    world.restart_controller();
    world.wait(Millis::secs(30));
    world.connect(2);
    world.settle();
    assert!(world.running().is_empty(), "{:?}", world.running());
    assert!(world.service(WEB).wanted.pause().is_some());
}

#[test]
fn what_would_start_a_paused_service_is_refused_with_who_paused_it_and_why() {
    let mut world = running(1, 1);
    world.run(pause(one(), Some("new disks"))).unwrap();
    world.settle();
    let service = || path(WEB);
    for command in [
        Command::Deploy { service: service(), image: "hello:2".into() },
        Command::Redeploy { service: service() },
        Command::Rollback { service: service(), to: Some(1) },
        Command::Scale { service: service(), scale: 3 },
    ] {
        let (kind, said, hint) = sentence(world.run(command));
        assert_eq!((kind, said.as_str()), (RefusalKind::Conflict, "shop/production/web is paused by ada: new disks"));
        assert_eq!(hint.as_deref(), Some("`lap resume shop/production/web` starts it again"));
    }
    world.run(Command::RemoveService { service: service() }).unwrap();
    world.settle();
    assert!(world.cluster.all::<Service>().next().is_none(), "removing works");
}

#[test]
fn a_spec_that_is_applied_during_the_pause_is_deployed_when_it_ends() {
    let mut world = running(1, 1);
    world.run(pause(one(), None)).unwrap();
    world.settle();
    let applied = world.apply("production", &[("web", web("hello:1", 1))]);
    assert_eq!(applied[0].change, Change::None, "as the file says already");
    let applied = world.apply("production", &[("web", web("hello:2", 2))]);
    assert_eq!((applied[0].change, applied[0].deployment), (Change::AtResume, None));
    let said =
        "shop/production/web is paused by ada; what is applied takes effect with `lap resume shop/production/web`";
    assert_eq!(applied[0].warnings[0], said);
    let applied = world.apply("production", &[("web", web("hello:2", 2))]);
    assert_eq!(applied[0].change, Change::None, "recorded already");
    world.settle();
    assert!(world.running().is_empty());
    world.run(resume(one())).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2", "node-1: web.2=r2"]);
    assert_eq!(world.last_deployment(WEB).trigger.kind, TriggerKind::Resume);
    assert_eq!(world.status(WEB).state, ServiceState::Healthy);
}

#[test]
fn a_spec_that_fails_at_the_resume_leaves_what_ran_before_the_pause() {
    let mut world = running(1, 1);
    world.broken.insert("hello@sha256:2".into());
    world.run(pause(one(), None)).unwrap();
    world.settle();
    world.apply("production", &[("web", web("hello:2", 1))]);
    world.run(resume(one())).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
    assert_eq!(world.service(WEB).wanted, Wanted::Running);
}

#[test]
fn a_pause_ends_the_deployment_under_way_and_applying_the_file_again_repeats_it() {
    let mut world = running(1, 1);
    world.apply("production", &[("web", web("hello:2", 1))]);
    world.turn();
    world.run(pause(one(), None)).unwrap();
    assert_eq!(world.last_deployment(WEB).phase, DeploymentPhase::Superseded);
    assert!(world.sentences().contains(&"deployment 2 is superseded: the service is paused"));
    world.settle();
    assert!(world.running().is_empty(), "{:?}", world.running());
    world.run(resume(one())).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"], "the active revision");
    let applied = world.apply("production", &[("web", web("hello:2", 1))]);
    assert_eq!(applied[0].change, Change::Retry { failed: 2 });
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r2"]);
}

#[test]
fn a_service_that_was_paused_before_it_ever_ran_is_deployed_at_the_resume() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.run(pause(one(), None)).unwrap();
    world.settle();
    assert_eq!(world.status(WEB).state, ServiceState::Paused);
    world.run(resume(one())).unwrap();
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1"]);
}

#[test]
fn an_environment_is_paused_and_resumed_as_a_whole_and_twice_changes_nothing() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1)), ("api", web("hello:2", 1))]);
    world.settle();
    assert_eq!(world.run(pause(all(), Some("moving"))).unwrap().touched.len(), 2);
    world.settle();
    assert!(world.running().is_empty());
    let before = world.store.clone();
    for again in [pause(all(), Some("moving")), pause(all(), None)] {
        assert_eq!(world.run(again).unwrap().answer, Answer::Unchanged);
    }
    assert_eq!(world.store, before);
    assert_eq!(world.run(resume(all())).unwrap().answer, Answer::Recorded);
    assert_eq!(world.run(resume(all())).unwrap().answer, Answer::Unchanged);
    world.settle();
    assert_eq!(world.running(), ["node-1: web.1=r1", "node-1: api.1=r1"]);
    let gone = Which::Environment { application: "shop".into(), environment: "nowhere".into() };
    assert_eq!(sentence(world.run(pause(gone, None))).0, RefusalKind::NotFound);
}

#[test]
fn a_resumed_service_has_the_values_that_it_had() {
    use crate::cluster::values::{SetValue, ValueCommand};
    use crate::ids::ValueId;
    use crate::values::{Sealed, ValueKey, ValueKind};
    let mut world = running(1, 1);
    let set = |world: &mut World, id: u128| {
        let key =
            ValueKey { scope: world.cluster.value_scope("shop").unwrap(), kind: ValueKind::Variable, name: "A".into() };
        let body = Sealed::from(vec![1]);
        world
            .run(Command::Value(ValueCommand::Set(SetValue { at: "shop".into(), key, id: ValueId(id), body })))
            .unwrap();
    };
    set(&mut world, 1);
    world.run(Command::Redeploy { service: path(WEB) }).unwrap();
    world.settle();
    let values = |world: &World| world.cluster.assignments(NodeId(1), true).unwrap().values;
    let before = values(&world);
    assert_eq!(before.len(), 1);
    world.run(pause(one(), None)).unwrap();
    world.settle();
    set(&mut world, 2);
    world.run(resume(one())).unwrap();
    world.settle();
    assert_eq!(values(&world), before);
}

#[test]
fn proxies_are_told_that_a_public_service_is_paused() {
    let mut world = running(2, 1);
    world.run(pause(one(), None)).unwrap();
    world.settle();
    for number in [1, 2] {
        let told = world.cluster.elsewhere(NodeId(number));
        assert_eq!((told.len(), told[0].paused, told[0].nodes.len()), (1, true, 0));
    }
    world.run(resume(one())).unwrap();
    world.settle();
    assert!(world.cluster.elsewhere(NodeId(1)).iter().all(|told| !told.paused));
}

fn deployer(world: &mut World) -> Author {
    let grant = Grant { role: Role::Deployer, scope: Scope::of_path("shop") };
    let new = NewOperatorToken { id: TokenId(7), hash: "h".into(), name: "ci".into(), grant, lifetime: None };
    world.run(Command::CreateOperatorToken(new)).unwrap();
    holder(TokenId(7), "ci")
}

#[test]
fn a_service_that_is_not_redeployable_gets_new_jobs_from_operators_only() {
    let mut world = running(1, 1);
    let ci = deployer(&mut world);
    let mark =
        |against: Option<&str>| Command::SetRedeployable { service: path(WEB), against: against.map(String::from) };
    let refused = sentence(world.run_as(ci.clone(), mark(Some("mine"))));
    assert_eq!(refused.0, RefusalKind::Forbidden, "only an operator marks");
    assert_eq!(sentence(world.run(mark(Some(" ")))).0, RefusalKind::Invalid, "a reason is asked for");
    assert_eq!(world.run(mark(Some("migration"))).unwrap().answer, Answer::Recorded);
    assert_eq!(world.run(mark(Some("migration"))).unwrap().answer, Answer::Unchanged);
    let said = "shop/production/web is not redeployable, by ada: migration";
    assert!(world.why(WEB).contains(&said.to_string()), "{:?}", world.why(WEB));
    let service = || path(WEB);
    let changed = || Command::Apply(file("production", &[("web", web("hello:2", 1))]));
    for command in [
        Command::Deploy { service: service(), image: "hello:2".into() },
        Command::Redeploy { service: service() },
        Command::Rollback { service: service(), to: Some(1) },
        pause(one(), None),
        pause(all(), None),
        changed(),
    ] {
        let (kind, why, hint) = sentence(world.run_as(ci.clone(), command));
        assert_eq!((kind, why.as_str()), (RefusalKind::Forbidden, said));
        assert_eq!(hint.as_deref(), Some("ask ada, or an operator of shop/production"));
    }
    let same = Command::Apply(file("production", &[("web", web("hello:1", 1))]));
    assert!(world.run_as(ci.clone(), same).is_ok(), "what replaces no job is not held");
    assert!(world.run_as(ci.clone(), Command::Scale { service: service(), scale: 2 }).is_ok());
    world.settle();
    world.run(Command::Redeploy { service: service() }).unwrap();
    assert_eq!(
        world.last_deployment(WEB).trigger.why,
        "new jobs of r1; though it is not redeployable, by ada: migration"
    );
    world.settle();
    world.run(mark(None)).unwrap();
    assert!(world.run_as(ci, Command::Redeploy { service: service() }).is_ok());
}

#[test]
fn whenever_a_deployment_is_paused_and_resumed_every_job_is_of_what_was_active() {
    for turns in 0..25 {
        for while_paused in 0..4 {
            let mut world = running(2, 4);
            world.run(Command::Redeploy { service: path(WEB) }).unwrap();
            world.settle();
            world.run(Command::Deploy { service: path(WEB), image: "hello:2".into() }).unwrap();
            for _ in 0..turns {
                world.turn();
            }
            let active = world.service(WEB).active.unwrap().revision;
            world.run(pause(one(), None)).unwrap();
            for _ in 0..while_paused {
                world.turn();
            }
            world.run(resume(one())).unwrap();
            world.settle();
            let all = world.running();
            let revision = format!("=r{active}");
            assert!(all.len() == 4 && all.iter().all(|it| it.ends_with(&revision)), "{turns}, {while_paused}: {all:?}");
            assert_eq!(world.service(WEB).unfinished, None);
        }
    }
}
