//! The names of bridges that go into rules and paths.
//!
//! The engine's answers are a stranger's texts: whoever else may speak to it can make a network with our labels and any
//! words in its options. A name goes to `nft` and below `/sys` only as a [`Bridge`], and that is always one of our making.

use lapstrake_core::ids::{EnvironmentId, NodeId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::quote::quoted;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// So many characters of an id are in a name.
const KEPT: usize = 11;

/// The interface of an environment's bridge on a node: `lap` and 11 characters of `0-9a-z`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge(String);

/// A name that the engine tells and that is not the environment's on this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its bridge is called {told}, which is not a name that this agent gave; its own is {own}")]
pub struct NotOurs {
    told: String,
    own: Bridge,
}

/// The bridges that stand, by the engine's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bridges {
    /// Those of our making.
    pub own: BTreeMap<EnvironmentId, Bridge>,
    /// The addresses of those, as far as the engine tells them.
    pub subnets: BTreeMap<EnvironmentId, Subnet>,
    /// The others with our labels: nothing is done to them, and a person is told.
    pub refused: Vec<(EnvironmentId, NotOurs)>,
    /// The addresses of all that are not ours: an engine makes no bridge that overlaps one of them.
    pub others: BTreeSet<Subnet>,
}

impl Bridges {
    /// Adds one that carries our labels.
    pub fn add(&mut self, environment: EnvironmentId, told: Result<Bridge, NotOurs>, subnet: Option<Subnet>) {
        match told {
            Ok(bridge) => {
                self.own.insert(environment, bridge);
                self.subnets.extend(subnet.map(|subnet| (environment, subnet)));
            }
            Err(error) => {
                self.refused.push((environment, error));
                self.others.extend(subnet);
            }
        }
    }

    /// What a person is told of those that are refused.
    pub fn trouble(&self) -> Option<String> {
        let (environment, error) = self.refused.first()?;
        Some(format!(
            "a network of the engine calls itself that of environment {environment} and is left alone: {error}"
        ))
    }
}

impl Bridge {
    /// The environment's. The kernel allows 15 bytes. Ids begin with the time of their birth, which environments made
    /// together share, so the name comes from their random ends; the node is in it because several agents may share a
    /// kernel.
    pub fn of(node: NodeId, environment: EnvironmentId) -> Bridge {
        let text = EnvironmentId(node.0 ^ environment.0).to_string();
        Bridge(format!("lap{}", &text[text.len() - KEPT..]))
    }

    /// What the engine tells, if it is that one. Nothing else is taken, however harmless it looks: rules for `eth0` would
    /// cut the machine off.
    pub fn told(node: NodeId, environment: EnvironmentId, told: &str) -> Result<Bridge, NotOurs> {
        let own = Bridge::of(node, environment);
        if own.0 == told { Ok(own) } else { Err(NotOurs { told: quoted(told), own }) }
    }

    /// As the kernel knows it.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::quote::is_acting;

    const NODE: NodeId = NodeId(99);
    const SHOP: EnvironmentId = EnvironmentId(0x0193_4c5a << 90);

    #[test]
    fn environments_that_were_made_in_the_same_millisecond_get_bridges_of_their_own() {
        let time = 0x0193_4c5a_0000_u128 << 80;
        let names: BTreeSet<Bridge> = (1..=3).map(|n| Bridge::of(NodeId(time | 99), EnvironmentId(time | n))).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|bridge| bridge.name().len() <= 15));
    }

    #[test]
    fn a_bridge_of_another_name_is_refused_and_the_name_is_shown_quoted() {
        let own = Bridge::of(NODE, SHOP);
        assert_eq!(Bridge::told(NODE, SHOP, own.name()), Ok(own.clone()));
        let (other, long) = (Bridge::of(NODE, EnvironmentId(SHOP.0 + 1)).0, own.0.repeat(1000));
        for told in [
            "../../x",
            "a b",
            "\"; flush ruleset",
            "\" }; flush ruleset; #",
            "lap0\n\tflush ruleset",
            "lap\u{1b}[2J",
            "eth0",
            "docker0",
            "lap/../eth0",
            ".",
            "",
            "lap*",
            "@bridges",
            &other,
            &long,
            &own.0.to_uppercase(),
            &format!("{own} "),
        ] {
            let refused = Bridge::told(NODE, SHOP, told).expect_err(told).to_string();
            assert!(refused.contains("its bridge is called \"") && refused.contains(own.name()), "{refused}");
            assert!(!refused.contains(is_acting) && refused.len() < 500, "{refused:?}");
        }
    }

    #[test]
    fn a_stranger_beside_an_environments_bridge_does_not_take_its_place() {
        let own = Bridge::of(NODE, SHOP);
        let listed = [own.name(), "eth0", "lap0\nflush ruleset"].map(|told| (SHOP, Bridge::told(NODE, SHOP, told)));
        let mut bridges = Bridges::default();
        listed.into_iter().for_each(|(environment, told)| bridges.add(environment, told, None));
        assert_eq!((bridges.own.get(&SHOP), bridges.refused.len()), (Some(&own), 2));
        let said = bridges.trouble().expect("a person is told");
        assert!(said.contains("\"eth0\"") && said.contains("left alone"), "{said}");
    }

    #[test]
    fn every_name_of_ours_is_harmless_in_a_rule_and_in_a_path() {
        for n in [0, 1, u128::MAX, 0x5555 << 60] {
            let bridge = Bridge::of(NODE, EnvironmentId(n));
            let (prefix, rest) = bridge.name().split_at(3);
            assert_eq!((prefix, rest.len()), ("lap", KEPT));
            assert!(rest.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()), "{bridge}");
        }
    }
}
