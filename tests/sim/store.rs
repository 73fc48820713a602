//! The controller's disk: texts by key, as the real store keeps them, and a log that only grows.

use lapstrake_core::cluster::{Cluster, Key, Record};
use std::collections::BTreeMap;

/// What survives the controller.
#[derive(Debug, Default)]
pub struct Store {
    rows: BTreeMap<String, String>,
    events: usize,
    /// Nothing can be written.
    pub full: bool,
}

impl Store {
    /// Everything in one transaction, or nothing.
    pub fn commit(&mut self, changes: &[(Key, Option<Record>)], events: usize) -> bool {
        if self.full {
            return false;
        }
        for (key, record) in changes {
            match record {
                Some(record) => {
                    let text = serde_json::to_string(record).expect("a record can be written");
                    self.rows.insert(key.to_string(), text)
                }
                None => self.rows.remove(&key.to_string()),
            };
        }
        self.events += events;
        true
    }

    /// All rows, read back.
    pub fn records(&self) -> Vec<(Key, Record)> {
        let read = |(key, text): (&String, &String)| {
            let key: Key = key.parse().expect("a key that was written");
            let record: Record = serde_json::from_str(text).expect("a record that was written");
            (key, record)
        };
        self.rows.iter().map(read).collect()
    }

    /// The cluster as a starting controller finds it.
    pub fn load(&self) -> Cluster {
        Cluster::load(self.records()).expect("the store that was written can be loaded")
    }
}
