use super::world::*;
use crate::check::cluster as check;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Key, One, Record};
use crate::ids::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

fn application(name: &str) -> Application {
    let kind = crate::policy::ApplicationKind::Project;
    Application {
        id: ApplicationId(1),
        name: name.into(),
        kind,
        quota: Default::default(),
        created: crate::time::Wall(0),
    }
}

#[test]
fn the_store_gives_back_all_that_was_committed() {
    let mut world = World::with_nodes(2);
    world.apply("production", &[("web", web("hello:1", 3))]);
    world.settle();
    let stored = |store: &alloc::collections::BTreeMap<alloc::string::String, alloc::string::String>| -> Vec<_> {
        store
            .iter()
            .map(|(key, json)| (key.parse::<Key>().unwrap(), serde_json::from_str::<Record>(json).unwrap()))
            .collect()
    };
    assert_eq!(check::of_store(&world.cluster, stored(&world.store)), vec![]);
    // And the check would notice.
    let key = world.store.keys().find(|key| key.starts_with("slot/")).unwrap().clone();
    world.store.remove(&key);
    assert_eq!(check::of_store(&world.cluster, stored(&world.store)).len(), 1);
}

#[test]
fn a_key_is_read_back_as_it_was_written() {
    let slot = SlotId { service: ServiceId(5), target: "web".into(), number: 3 };
    let keys = [
        Key::Meta(One),
        Key::Application(ApplicationId(1)),
        Key::Revision((ServiceId(5), 7)),
        Key::Slot(slot),
        Key::Allotment((EnvironmentId(2), NodeId(3))),
    ];
    for key in keys {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    assert_eq!(Key::Meta(One).to_string(), "meta/one");
    assert!("novel/1".parse::<Key>().is_err());
}

#[test]
fn what_was_refused_is_undone_with_its_index_and_its_events() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    world.settle();
    let before = world.cluster.records();
    let point = world.cluster.savepoint();
    let slot = world.cluster.slots_on(NodeId(1)).next().unwrap().id.clone();
    world.cluster.give(&slot, NodeId(2), None);
    world.cluster.remove::<Node>(NodeId(1));
    world.cluster.put(application("other"));
    assert_eq!(world.cluster.changes_since(point), 3);
    world.cluster.roll_back(point);
    assert_eq!(world.cluster.records(), before);
    assert_eq!(world.cluster.slots_on(NodeId(1)).count(), 1);
    assert!(world.cluster.take_changes().is_empty());
}

#[test]
fn a_batch_names_each_changed_record_once_and_unchanged_ones_never() {
    let mut cluster = Cluster::default();
    cluster.put(application("a"));
    cluster.put(application("b"));
    let changes = cluster.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1, Some(Record::Application(application("b"))));
    cluster.put(application("c"));
    cluster.put(application("b"));
    assert_eq!(cluster.take_changes(), vec![]);
    cluster.remove::<Application>(ApplicationId(1));
    assert_eq!(cluster.take_changes(), vec![(Key::Application(ApplicationId(1)), None)]);
}

#[test]
fn a_record_under_a_wrong_key_is_a_broken_store() {
    let wrong = (Key::Application(ApplicationId(9)), Record::Application(application("a")));
    assert!(Cluster::load([wrong]).unwrap_err().starts_with("the store holds the record application/"));
}

#[test]
fn what_agents_have_said_is_not_forgotten_when_a_batch_is_not_stored() {
    let mut world = World::with_nodes(1);
    world.apply("production", &[("web", web("hello:1", 1))]);
    let mut earlier = world.store.clone();
    while world.last_deployment("shop/production/web").phase != DeploymentPhase::Complete {
        earlier.clone_from(&world.store);
        world.turn();
    }
    // The last batches were not stored, and the agent has nothing new to say.
    let records = earlier.iter().map(|(key, json)| (key.parse().unwrap(), serde_json::from_str(json).unwrap()));
    world.cluster = Cluster::load(records).unwrap();
    world.take_pictures_again();
    world.settle();
    assert_eq!(world.last_deployment("shop/production/web").phase, DeploymentPhase::Complete);
}
