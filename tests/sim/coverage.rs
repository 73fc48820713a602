//! How often everything was reached that can be reached: what never happens in a simulation is not tested by it.

use std::collections::BTreeMap;
use std::fmt;

/// What is counted, by kind.
const EXPECTED: &[(&str, &[&str])] = &[
    (
        "replacement",
        &[
            "accepted",
            "pulling",
            "emptying",
            "starting",
            "ready",
            "switched",
            "overlapping",
            "draining",
            "done",
            "abandoned",
            "switched back",
        ],
    ),
    (
        "deployment",
        &[
            "queued",
            "resolving",
            "preparing",
            "placing",
            "rolling",
            "reverting",
            "complete",
            "superseded",
            "failed",
            "cancelled",
        ],
    ),
    (
        "job",
        &[
            "assigned",
            "pulling",
            "creating",
            "starting",
            "running",
            "stopping",
            "stopped",
            "succeeded",
            "failed",
            "rejected",
        ],
    ),
    (
        "action",
        &[
            "ensure-network",
            "remove-network",
            "pull",
            "remove-image",
            "run",
            "watch",
            "unwatch",
            "terminate",
            "kill",
            "remove",
            "publish-table",
        ],
    ),
    (
        "command",
        &[
            "create-application",
            "create-environment",
            "create-join-token",
            "enrol-node",
            "attach-node",
            "detach-node",
            "detach-node --force",
            "remove-node",
            "remove-node --force",
            "apply",
            "deploy",
            "redeploy",
            "rollback",
            "scale",
            "steer-deployment",
            "run",
            "end-run",
            "pause",
            "pause-environment",
            "resume",
            "remove-service",
            "create-operator-token",
            "remove-operator-token",
            "set-value",
            "cordon-node",
            "uncordon-node",
            "label-node",
            "refused",
        ],
    ),
    (
        "failure",
        &[
            "cannot-pull",
            "cannot-start",
            "exited",
            "out-of-memory",
            "check-failed",
            "not-ready-in-time",
            "no-room",
            "not-released",
            "superseded",
            "image not resolved",
            "release command",
            "timed-out",
            "cancelled",
        ],
    ),
    (
        "fault",
        &[
            "controller crash",
            "controller away",
            "controller crash before commit",
            "controller crash after commit",
            "store full",
            "agent crash",
            "agent crash before ledger write",
            "agent crash after ledger write",
            "agent crash between actions",
            "ledger disk full",
            "ledger lost",
            "machine reboot",
            "engine silence",
            "registry down",
            "images pruned",
            "container exits",
            "container sick",
            "container removed",
            "container started by hand",
            "proxy death",
            "proxy birth",
            "proxy stuck",
            "partition",
            "partition one way",
            "stream cut",
            "wall clock step",
            "old set again",
            "word doubled",
            "word after the end",
            "answer lost",
            "machine joins again",
        ],
    ),
    ("wait", &["leftover", "stray", "untold"]),
    (
        "promise",
        &[
            "1 a bad job beside a good one gets no request",
            "1 all jobs bad",
            "2 stopped after every proxy acknowledged",
            "2 a proxy was born during a replacement",
            "3 a deployment superseded an unfinished one",
            "3 no two containers of one job",
            "3 a command ran once",
            "4 an older set was refused",
            "4 a report of an ended session was dropped",
            "5 a second look changed nothing",
            "6 a job was placed",
            "6 a slot left a lost node",
            "6 a slot left a node that it does not fit",
            "6 a paused service has nothing that runs",
            "7 cut off and kept",
            "7 cut off and stopped",
            "8 acknowledged and found after a restart",
            "8 a failed commit was not acknowledged",
            "9 a job to be alone started",
            "10 a healthy container outlived its agent",
            "10 a healthy container was adopted without a ledger",
            "a request was served",
            "a connection was drained",
            "a connection was cut at the end of its drain",
            "the overlap was kept",
            "the stop grace was kept",
            "a wait had a reason",
        ],
    ),
];

/// The counts of one or many runs.
#[derive(Debug, Default, Clone)]
pub struct Coverage {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Coverage {
    /// Counts one.
    pub fn count(&mut self, kind: &'static str, what: &'static str) {
        *self.counts.entry((kind, what)).or_default() += 1;
    }

    /// How often this was counted.
    pub fn of(&self, kind: &'static str, what: &'static str) -> u64 {
        self.counts.get(&(kind, what)).copied().unwrap_or_default()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Coverage) {
        for (key, count) in &other.counts {
            *self.counts.entry(*key).or_default() += count;
        }
    }

    /// What is expected and never happened.
    pub fn missing(&self) -> Vec<String> {
        let all = EXPECTED.iter().flat_map(|(kind, words)| words.iter().map(move |word| (*kind, *word)));
        all.filter(|key| !self.counts.contains_key(key)).map(|(kind, word)| format!("{kind}: {word}")).collect()
    }

    /// What was counted and is not expected: a word that was changed in one place only.
    pub fn unexpected(&self) -> Vec<String> {
        let is_known =
            |(kind, word): &&(&str, &str)| EXPECTED.iter().any(|(known, words)| known == kind && words.contains(word));
        self.counts.keys().filter(|key| !is_known(key)).map(|(kind, word)| format!("{kind}: {word}")).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, words) in EXPECTED {
            for word in *words {
                writeln!(f, "{kind:<12} {word:<52} {:>9}", self.of(kind, word))?;
            }
        }
        Ok(())
    }
}
