//! The records as tables, with a journal under them.
//!
//! Every change notes what was there before. From these notes a refused command is undone, and from the same notes the
//! rim learns which keys a batch has touched, to commit them in one transaction.

use crate::cluster::event::Event;
use crate::cluster::state::*;
use crate::ids::*;
use crate::values::{ValueKey, ValueKind, ValueScope};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A kind of record: how it is found, and in which table.
pub trait Stored: Sized + Clone + PartialEq + 'static {
    /// What finds it.
    type Id: Ord + Clone + 'static;
    /// What finds this one.
    fn id(&self) -> Self::Id;
    /// The key of such a record.
    fn key(id: Self::Id) -> Key;
    /// The table that holds it.
    fn table(cluster: &Cluster) -> &BTreeMap<Self::Id, Self>;
    /// Wrapped.
    fn record(self) -> Record;
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident: $kind:ident($word:literal), $id:ty, |$record:ident| $of:expr;)+) => {
        /// What finds a record in the store. Its text form is `service/<id>`, which never changes its meaning.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $($(#[$doc])* $kind($id),)+
        }

        /// Any record, as the store holds it.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Record {
            $($(#[$doc])* $kind($kind),)+
        }

        impl Record {
            /// What finds it.
            pub fn key(&self) -> Key {
                match self { $(Record::$kind($record) => Key::$kind($of),)+ }
            }
        }

        impl fmt::Display for Key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Key::$kind(id) => { f.write_str(concat!($word, "/"))?; id.write(f) })+ }
            }
        }

        impl FromStr for Key {
            type Err = NotAKey;
            fn from_str(text: &str) -> Result<Key, NotAKey> {
                let (word, rest) = text.split_once('/').ok_or(NotAKey)?;
                match word {
                    $($word => KeyPart::read(rest).map(Key::$kind).ok_or(NotAKey),)+
                    _ => Err(NotAKey),
                }
            }
        }

        /// Everything that is stored.
        #[derive(Debug, Clone, Default)]
        pub struct Cluster {
            $($(#[$doc])* pub(crate) $table: BTreeMap<$id, $kind>,)+
            /// Which slots are on a node. Follows from `slots`.
            pub(crate) slots_of_node: BTreeMap<NodeId, BTreeSet<SlotId>>,
            /// What was there before each change since the last `take_changes`, oldest first.
            undo: Vec<(Key, Option<Record>)>,
            /// What happened since the last `take_events`.
            events: Vec<Event>,
            /// The change number under which each record is stored.
            numbers: BTreeMap<Key, u64>,
            /// The newest change number.
            number: u64,
        }

        impl Cluster {
            /// Puts a record in or takes one out, without a note in the journal; gives what was there.
            fn swap(&mut self, key: &Key, record: Option<Record>) -> Option<Record> {
                match key {
                    $(Key::$kind(id) => {
                        let before = match record {
                            Some(Record::$kind(record)) => self.$table.insert(id.clone(), record),
                            Some(_) | None => self.$table.remove(id),
                        };
                        before.map(Record::$kind)
                    })+
                }
            }

            /// All records with their keys, as a store that begins would hold them.
            pub fn records(&self) -> Vec<(Key, Record)> {
                let mut all = Vec::new();
                $(all.extend(self.$table.values().cloned().map(|it| (Key::$kind(Stored::id(&it)), Record::$kind(it))));)+
                all
            }

            /// A record by its key.
            pub fn record(&self, key: &Key) -> Option<Record> {
                match key { $(Key::$kind(id) => self.$table.get(id).cloned().map(Record::$kind),)+ }
            }
        }

        $(impl Stored for $kind {
            type Id = $id;
            fn id(&self) -> $id { let $record = self; $of }
            fn key(id: $id) -> Key { Key::$kind(id) }
            fn table(cluster: &Cluster) -> &BTreeMap<$id, $kind> { &cluster.$table }
            fn record(self) -> Record { Record::$kind(self) }
        })+
    };
}

tables! {
    /// The cluster itself.
    meta: Meta("meta"), One, |_record| One;
    /// The certificate authority.
    authority: Authority("authority"), One, |_record| One;
    /// By id.
    applications: Application("application"), ApplicationId, |record| record.id;
    /// By id.
    environments: Environment("environment"), EnvironmentId, |record| record.id;
    /// By id.
    services: Service("service"), ServiceId, |record| record.id;
    /// By service and number.
    revisions: Revision("revision"), (ServiceId, u32), |record| (record.service, record.number);
    /// By service and number.
    deployments: Deployment("deployment"), (ServiceId, u32), |record| (record.service, record.number);
    /// By id.
    slots: Slot("slot"), SlotId, |record| record.id.clone();
    /// By service and number.
    one_offs: OneOff("one-off"), (ServiceId, u32), |record| (record.service, record.number);
    /// By id.
    nodes: Node("node"), NodeId, |record| record.id;
    /// By environment and node.
    allotments: Allotment("allotment"), (EnvironmentId, NodeId), |record| (record.environment, record.node);
    /// By id.
    join_tokens: JoinToken("join-token"), TokenId, |record| record.id;
    /// By id.
    operator_tokens: OperatorToken("operator-token"), TokenId, |record| record.id;
    /// By scope, kind and name.
    values: Value("value"), ValueKey, |record| record.key.clone();
    /// By token and idempotency key.
    done_requests: DoneRequest("request"), (TokenId, String), |record| (record.token, record.key.clone());
}

/// A text that is no key of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a key of this version's store")
    }
}

impl core::error::Error for NotAKey {}

/// The id of a table with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct One;

/// How an id stands in a key's text.
trait KeyPart: Sized {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    fn read(text: &str) -> Option<Self>;
}

macro_rules! plain_key_parts {
    ($($id:ty),+) => {$(
        impl KeyPart for $id {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{self}") }
            fn read(text: &str) -> Option<Self> { text.parse().ok() }
        }
    )+};
}
plain_key_parts!(ApplicationId, EnvironmentId, ServiceId, NodeId, TokenId, u32);

impl KeyPart for String {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| String::from(text))
    }
}

impl KeyPart for ValueKey {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let scope = read_scope(parts.next()?)?;
        let kind = ValueKind::from_word(parts.next()?)?;
        let name = String::from(parts.next().filter(|name| !name.is_empty())?);
        Some(ValueKey { scope, kind, name })
    }
}

fn read_scope(text: &str) -> Option<ValueScope> {
    if text == "organization" {
        return Some(ValueScope::Organization);
    }
    let (word, id) = text.split_once('-')?;
    match word {
        "application" => Some(ValueScope::Application(id.parse().ok()?)),
        "environment" => Some(ValueScope::Environment(id.parse().ok()?)),
        "service" => Some(ValueScope::Service(id.parse().ok()?)),
        _ => None,
    }
}

impl KeyPart for One {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one")
    }
    fn read(text: &str) -> Option<Self> {
        (text == "one").then_some(One)
    }
}

impl<A: KeyPart, B: KeyPart> KeyPart for (A, B) {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)?;
        f.write_str("/")?;
        self.1.write(f)
    }
    fn read(text: &str) -> Option<Self> {
        let (a, b) = text.split_once('/')?;
        Some((A::read(a)?, B::read(b)?))
    }
}

impl KeyPart for SlotId {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.service, self.target, self.number)
    }
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let service = parts.next()?.parse().ok()?;
        let target = String::from(parts.next()?);
        let number = parts.next()?.parse().ok()?;
        Some(SlotId { service, target, number })
    }
}

/// A point in the journal to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint {
    undo: usize,
    events: usize,
}

impl Cluster {
    /// The cluster as its store holds it. A record under another key than its own is a broken store.
    pub fn load(records: impl IntoIterator<Item = (Key, Record)>) -> Result<Cluster, String> {
        let mut cluster = Cluster::default();
        for (key, mut record) in records {
            // A value is proved to be its record's where it is opened, so one in another's place is found there, by name,
            // and the rest of the store is as good as it was.
            if let (Key::Value(own), Record::Value(value)) = (&key, &mut record) {
                value.key = own.clone();
            }
            if record.key() != key {
                return Err(format!("the store holds the record {} under the key {key}", record.key()));
            }
            cluster.write(key, Some(record));
        }
        cluster.undo.clear();
        Ok(cluster)
    }

    /// Under which change numbers the store holds the records of a cluster that was just loaded, and which is its newest.
    pub fn number(&mut self, numbers: impl IntoIterator<Item = (Key, u64)>, newest: u64) {
        self.numbers = numbers.into_iter().collect();
        self.number = newest;
    }

    /// The newest change number: that of the changes that were taken last.
    pub fn newest_number(&self) -> u64 {
        self.number
    }

    /// The number of a record's newest change. One that waits to be taken counts with the number that it will have.
    pub fn change_of(&self, key: &Key) -> u64 {
        let first = self.undo.iter().find(|(changed, _)| changed == key);
        match first {
            Some((_, before)) if *before != self.record(key) => self.number + 1,
            Some(_) | None => self.numbers.get(key).copied().unwrap_or(0),
        }
    }

    /// A record by its id.
    pub fn get<R: Stored>(&self, id: &R::Id) -> Option<&R> {
        R::table(self).get(id)
    }

    /// All records of a kind, by id.
    pub fn all<R: Stored>(&self) -> impl Iterator<Item = &R> {
        R::table(self).values()
    }

    /// Puts a record in, in place of the one with the same id. One that is already there as it is changes nothing.
    pub fn put<R: Stored>(&mut self, record: R) {
        if self.get::<R>(&record.id()) != Some(&record) {
            let key = R::key(record.id());
            let before = self.write(key.clone(), Some(record.record()));
            self.undo.push((key, before));
        }
    }

    /// Takes a record out.
    pub fn remove<R: Stored>(&mut self, id: R::Id) {
        if self.get::<R>(&id).is_some() {
            let key = R::key(id);
            let before = self.write(key.clone(), None);
            self.undo.push((key, before));
        }
    }

    /// Changes a record, if it is there.
    pub fn edit<R: Stored>(&mut self, id: &R::Id, change: impl FnOnce(&mut R)) {
        if let Some(mut record) = self.get::<R>(id).cloned() {
            change(&mut record);
            self.put(record);
        }
    }

    /// Adds to the log of what happened.
    pub fn note(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The point to go back to if what follows is refused.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { undo: self.undo.len(), events: self.events.len() }
    }

    /// Undoes everything since a savepoint.
    pub fn roll_back(&mut self, to: Savepoint) {
        while self.undo.len() > to.undo {
            if let Some((key, before)) = self.undo.pop() {
                self.write(key, before);
            }
        }
        self.events.truncate(to.events);
    }

    /// How many records are different from what they were at a savepoint.
    pub fn changes_since(&self, point: Savepoint) -> usize {
        self.undo[point.undo..].iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len()
    }

    /// How many changes wait for `take_changes`; a record that changed twice counts twice.
    pub fn changes_waiting(&self) -> usize {
        self.undo.len()
    }

    /// The records that changed since the last call, with what is to be stored; none for a removed one. To be committed
    /// in one transaction, with the events, under `newest_number`. When that fails, the store must be loaded again before
    /// deciding on.
    pub fn take_changes(&mut self) -> Vec<(Key, Option<Record>)> {
        let mut first: BTreeMap<Key, Option<Record>> = BTreeMap::new();
        for (key, before) in core::mem::take(&mut self.undo) {
            first.entry(key).or_insert(before);
        }
        let changed = first.into_iter().filter_map(|(key, before)| {
            let now = self.record(&key);
            (now != before).then_some((key, now))
        });
        let changes: Vec<_> = changed.collect();
        if !changes.is_empty() {
            self.number += 1;
        }
        for (key, record) in &changes {
            match record {
                Some(_) => self.numbers.insert(key.clone(), self.number),
                None => self.numbers.remove(key),
            };
        }
        changes
    }

    /// What happened since the last call, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// `swap`, with the index kept.
    fn write(&mut self, key: Key, record: Option<Record>) -> Option<Record> {
        let now_at = match &record {
            Some(Record::Slot(slot)) => Some(slot.node),
            _ => None,
        };
        let before = self.swap(&key, record);
        if let Key::Slot(id) = key {
            if let Some(Record::Slot(slot)) = &before
                && let Some(slots) = self.slots_of_node.get_mut(&slot.node)
            {
                slots.remove(&id);
                if slots.is_empty() {
                    self.slots_of_node.remove(&slot.node);
                }
            }
            if let Some(node) = now_at {
                self.slots_of_node.entry(node).or_default().insert(id);
            }
        }
        before
    }
}
