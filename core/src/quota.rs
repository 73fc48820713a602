//! What an application and an environment may have at most, and how much of it they have.
//!
//! A quota is of what was asked for (the specs as they were applied last), not of what runs: whoever asks is told at once.
//! What is over a quota already, because the quota was lowered, stays as it is; it may shrink and may not grow.

use crate::policy::SERVICES_PER_APPLICATION;
use crate::spec::ServiceSpec;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Good {
    /// Services; of an application counted by name, as one service in three environments is one.
    Services,
    /// Jobs of all services together.
    Jobs,
    /// Thousandths of a core, of all jobs together.
    Cpu,
    /// Bytes of memory, of all jobs together.
    Memory,
}

impl Good {
    /// All, in the order in which they are listed.
    pub const ALL: [Good; 4] = [Good::Services, Good::Jobs, Good::Cpu, Good::Memory];

    /// The quota's name, as people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Good::Services => "services",
            Good::Jobs => "jobs",
            Good::Cpu => "cpu",
            Good::Memory => "memory",
        }
    }

    /// The good of that name.
    pub fn named(name: &str) -> Option<Good> {
        Good::ALL.into_iter().find(|good| good.name() == name)
    }

    /// So much of it, as people read it.
    pub fn amount(self, amount: u64) -> Amount {
        Amount { good: self, amount }
    }
}

/// An amount of a good: `16 services`, `2.5 cpu`, `64 GiB of memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    good: Good,
    amount: u64,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Amount { good, amount } = *self;
        match good {
            Good::Services if amount == 1 => f.write_str("1 service"),
            Good::Services => write!(f, "{amount} services"),
            Good::Jobs if amount == 1 => f.write_str("1 job"),
            Good::Jobs => write!(f, "{amount} jobs"),
            Good::Cpu => write!(f, "{}.{:03} cpu", amount / 1000, amount % 1000),
            Good::Memory if amount.is_multiple_of(1 << 30) => write!(f, "{} GiB of memory", amount >> 30),
            Good::Memory => write!(f, "{} MiB of memory", amount.div_ceil(1 << 20)),
        }
    }
}

/// So much of each good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// How many services.
    pub services: u64,
    /// How many jobs.
    pub jobs: u64,
    /// Thousandths of a core.
    pub cpu: u64,
    /// Bytes.
    pub memory: u64,
}

impl Amounts {
    /// How much of one good.
    pub const fn of(&self, good: Good) -> u64 {
        match good {
            Good::Services => self.services,
            Good::Jobs => self.jobs,
            Good::Cpu => self.cpu,
            Good::Memory => self.memory,
        }
    }

    /// Adds what a service asks for, but for the service itself, which is counted by name.
    pub fn add(&mut self, spec: &ServiceSpec) {
        let jobs = u64::from(spec.scale);
        self.jobs = self.jobs.saturating_add(jobs);
        self.cpu = self.cpu.saturating_add(jobs.saturating_mul(u64::from(spec.size.cpu_milli)));
        self.memory = self.memory.saturating_add(jobs.saturating_mul(spec.size.memory_bytes));
    }
}

/// Whose quota it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An application's.
    Application,
    /// An environment's.
    Environment,
}

/// What an operator has set. What is not set is as `Quota::limit` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quota {
    /// How many services.
    #[serde(default)]
    pub services: Option<u64>,
    /// How many jobs.
    #[serde(default)]
    pub jobs: Option<u64>,
    /// Thousandths of a core.
    #[serde(default)]
    pub cpu: Option<u64>,
    /// Bytes.
    #[serde(default)]
    pub memory: Option<u64>,
}

impl Quota {
    /// What an operator has set of a good.
    pub const fn set(&self, good: Good) -> Option<u64> {
        match good {
            Good::Services => self.services,
            Good::Jobs => self.jobs,
            Good::Cpu => self.cpu,
            Good::Memory => self.memory,
        }
    }

    /// The same with another limit for a good; none for the default.
    pub const fn with(mut self, good: Good, limit: Option<u64>) -> Quota {
        match good {
            Good::Services => self.services = limit,
            Good::Jobs => self.jobs = limit,
            Good::Cpu => self.cpu = limit,
            Good::Memory => self.memory = limit,
        }
        self
    }

    /// The limit of a good: what was set, else the default, else none.
    pub const fn limit(&self, holder: Holder, good: Good) -> Option<u64> {
        match (self.set(good), holder, good) {
            (Some(limit), _, _) => Some(limit),
            (None, Holder::Application, Good::Services) => Some(SERVICES_PER_APPLICATION),
            (None, Holder::Application | Holder::Environment, _) => None,
        }
    }

    /// Why this may not become that, a sentence for each good: more than the quota, and more than it was.
    pub fn against(&self, holder: Holder, path: &str, was: Amounts, becomes: Amounts) -> Vec<(Good, String)> {
        let refuse = |good: Good| {
            let limit = self.limit(holder, good)?;
            let (was, becomes) = (was.of(good), becomes.of(good));
            (becomes > limit && becomes > was).then(|| {
                let (has, may) = (good.amount(becomes), good.amount(limit));
                (good, format!("{path} would have {has}; its quota \"{}\" is {may}", good.name()))
            })
        };
        Good::ALL.into_iter().filter_map(refuse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_refuses_what_grows_beyond_it_and_nothing_else() {
        let quota = Quota { jobs: Some(4), memory: Some(1 << 30), ..Quota::default() };
        let amounts = |services, jobs, memory| Amounts { services, jobs, cpu: 0, memory };
        let said = |was: Amounts, becomes: Amounts| -> Vec<String> {
            quota.against(Holder::Application, "shop", was, becomes).into_iter().map(|(_, why)| why).collect()
        };
        assert!(said(amounts(0, 0, 0), amounts(16, 4, 1 << 30)).is_empty(), "up to the limit");
        assert_eq!(
            said(amounts(16, 4, 1 << 30), amounts(17, 5, (1 << 30) + 1)),
            [
                "shop would have 17 services; its quota \"services\" is 16 services",
                "shop would have 5 jobs; its quota \"jobs\" is 4 jobs",
                "shop would have 1025 MiB of memory; its quota \"memory\" is 1 GiB of memory",
            ]
        );
        assert!(said(amounts(1, 9, 0), amounts(1, 8, 0)).is_empty(), "what is over it may shrink");
        assert!(quota.against(Holder::Environment, "shop/production", amounts(0, 0, 0), amounts(99, 0, 0)).is_empty());
    }
}
