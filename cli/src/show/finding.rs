//! What a check-up has found: one line for each check, with what would help.

use super::amount::{ahead, count};
use crate::client::ClientError;
use crate::output::{Style, Surface, printable};
use lapstrake_api::view::{Authority, Controller, Identity, Node, Service};
use serde::Serialize;

const DAY_MS: u64 = 86_400_000;
/// A token or a root that ends sooner is worth a word: long enough to act on a Monday.
const SOON_MS: u64 = 14 * DAY_MS;
/// Clocks that differ by more make times in listings misleading.
const SKEW_MS: u64 = 2_000;
/// Clocks that differ by more make certificates invalid: they begin five minutes back.
const MOST_SKEW_MS: u64 = 300_000;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// In a sentence.
    pub said: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, said: String) -> Finding {
        Finding { check, verdict: Verdict::Ok, said, hint: None }
    }

    fn bad(check: &'static str, verdict: Verdict, said: String, hint: impl Into<String>) -> Finding {
        Finding { check, verdict, said, hint: Some(hint.into()) }
    }
}

/// The lines, and what helps below each that needs help.
pub fn draw(findings: &[Finding], surface: Surface) -> String {
    let names = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut drawn = String::new();
    for Finding { check, verdict, said, hint } in findings {
        let (word, style) = match verdict {
            Verdict::Ok => ("ok  ", Style::Good),
            Verdict::Warn => ("warn", Style::Warn),
            Verdict::Fail => ("fail", Style::Bad),
        };
        drawn.push_str(&format!("{}  {check:<names$}  {}\n", style.paint(word, surface.colour), printable(said)));
        if let Some(hint) = hint {
            drawn.push_str(&format!("      {:names$}  {}\n", "", Style::Faint.paint(&printable(hint), surface.colour)));
        }
    }
    drawn
}

/// The controller was not heard, or does not know the token.
pub fn unanswered(error: &ClientError) -> Finding {
    let hint = "`lap context ls` shows which controller is asked; `lap login` stores another address or token";
    Finding::bad("controller", Verdict::Fail, error.to_string(), hint)
}

/// One thing could not be read: often because the token is for a part of the organization only.
pub fn unread(check: &'static str, error: &ClientError) -> Finding {
    Finding::bad(check, Verdict::Warn, format!("not looked at: {error}"), "`lap whoami` says what the token shows")
}

/// Whose token it is, and how long it is good.
pub fn identity(identity: &Identity, now_ms: u64) -> Finding {
    let scope = identity.scope.as_deref().unwrap_or("the organization");
    let said = format!("{} is {} for {scope}", identity.name, identity.role);
    match identity.expires_ms.filter(|ends| *ends < now_ms + SOON_MS) {
        Some(ends) => {
            let said = format!("{said}; the token ends {}", ahead(ends, now_ms));
            Finding::bad("token", Verdict::Warn, said, "an admin makes another with `lap token create`")
        }
        None => Finding::ok("token", said),
    }
}

/// This machine's clock beside the controller's, whose answers name whole seconds.
pub fn clock(here_ms: u64, there_ms: i64) -> Finding {
    let there = u64::try_from(there_ms).unwrap_or(0);
    // The answer was written within the second that it names.
    let skew = here_ms.abs_diff(there).saturating_sub(1_000);
    let said = format!("this machine's clock and the controller's differ by {} s", skew / 1_000);
    if skew <= SKEW_MS {
        Finding::ok("clock", "this machine's clock agrees with the controller's".into())
    } else if skew <= MOST_SKEW_MS {
        Finding::bad("clock", Verdict::Warn, said, "set one of them with NTP")
    } else {
        Finding::bad("clock", Verdict::Fail, said, "set one of them with NTP: certificates depend on it")
    }
}

/// The controller's version beside lap's own.
pub fn version(controller: &str) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    if controller == own {
        return Finding::ok("versions", format!("lap and the controller are {own}"));
    }
    let said = format!("lap is {own}, the controller {controller}");
    Finding::bad("versions", Verdict::Warn, said, "version N talks to N-1; install the same of both")
}

/// Whether the controller's store took the last change.
pub fn store(controller: &Controller) -> Finding {
    match &controller.not_stored {
        None => Finding::ok("store", "the controller's store took the last change".into()),
        Some(why) => Finding::bad(
            "store",
            Verdict::Fail,
            format!("the last change was refused: {why}"),
            "look at the controller's state_dir, its disk, and its log; what runs goes on meanwhile, and nothing has to be restarted",
        ),
    }
}

/// When the authority's roots end, and whether a rotation waits.
pub fn authority(authority: &Authority, now_ms: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let signing = authority.roots.iter().find(|root| root.signs);
    findings.extend(signing.map(|root| {
        let days = root.ends_ms.saturating_sub(now_ms) / DAY_MS;
        match root.ends_ms {
            ends if ends <= now_ms => {
                Finding::bad("certificates", Verdict::Fail, "the authority's root has ended".into(), "`lap ca rotate`")
            }
            ends if ends < now_ms + SOON_MS => {
                let said = format!("the authority's root ends in {}", count(days, "day"));
                Finding::bad("certificates", Verdict::Warn, said, "`lap ca rotate` puts another in its place")
            }
            _ => Finding::ok("certificates", format!("the authority's root is good for {}", count(days, "day"))),
        }
    }));
    let waits = authority.rotation.iter().flat_map(|rotation| &rotation.waits);
    findings.extend(waits.map(|wait| {
        let said = format!("the root's rotation waits for {}: {}", wait.node, wait.why);
        Finding::bad("certificates", Verdict::Warn, said, "`lap ca show` says how far it is")
    }));
    findings
}

/// Each node that is not simply ready, and one line for those that are.
pub fn nodes(nodes: &[Node], controller: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in nodes {
        let name = &node.name;
        let show = format!("`lap node show {name}` says more");
        match (node.standing.as_str(), node.liveness.as_str()) {
            ("quarantined" | "revoked", _) => {
                let said = format!("{name} is {}", node.standing);
                findings.push(Finding::bad("nodes", Verdict::Fail, said, &show));
            }
            (_, "lost") => {
                let said = format!("{name} is lost, silent for {} s", node.silent_ms / 1_000);
                let hint = "look whether the machine and its lapstrake-agent run: `lapstrake-agent doctor` there";
                findings.push(Finding::bad("nodes", Verdict::Fail, said, hint));
            }
            (_, "ready") => {}
            (_, other) => findings.push(Finding::bad("nodes", Verdict::Warn, format!("{name} is {other}"), &show)),
        }
        // The engine, the disk, the rules and the clock: what the agent itself has against working there.
        for trouble in &node.troubles {
            findings.push(Finding::bad("nodes", Verdict::Warn, format!("{name}: {trouble}"), &show));
        }
        if !node.version.is_empty() && node.version != controller {
            let said = format!("the agent of {name} is {}, the controller {controller}", node.version);
            findings.push(Finding::bad("versions", Verdict::Warn, said, "install the same version on all machines"));
        }
        if let Some(cordon) = &node.cordon {
            let reason = cordon.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let said = format!("{name} gets no new jobs, by {}{reason}", cordon.by);
            findings.push(Finding::bad("nodes", Verdict::Warn, said, format!("`lap node uncordon {name}`")));
        }
    }
    let ready = nodes.iter().filter(|node| node.liveness == "ready").count();
    findings.push(match nodes.len() {
        0 => {
            let said = "there is none, so nothing can run".into();
            Finding::bad("nodes", Verdict::Warn, said, "`lap node token create` lets a machine join")
        }
        all if all == ready => Finding::ok("nodes", format!("{} ready", count(all as u64, "node"))),
        all => Finding::bad("nodes", Verdict::Warn, format!("{ready} of {all} nodes are ready"), "`lap node ls`"),
    });
    findings
}

/// Each service that is not as somebody wants it, and one line for those that are.
pub fn services(services: &[Service]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut well = 0;
    for service in services {
        let why = format!("`lap why {}` says more", service.path);
        let said = format!("{} is {}: {}", service.path, service.state, service.message);
        match service.state.as_str() {
            "healthy" => well += 1,
            // Somebody wants it so.
            "paused" => findings.push(Finding::ok("services", said)),
            "unhealthy" => findings.push(Finding::bad("services", Verdict::Fail, said, why)),
            _ => findings.push(Finding::bad("services", Verdict::Warn, said, why)),
        }
    }
    findings
        .push(Finding::ok("services", format!("{well} of {} are healthy", count(services.len() as u64, "service"))));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(findings: &[Finding]) -> Vec<(Verdict, &str)> {
        findings.iter().map(|finding| (finding.verdict, finding.said.as_str())).collect()
    }

    fn node(name: &str, liveness: &str) -> Node {
        let node = serde_json::json!({
            "name": name, "id": "1", "liveness": liveness, "standing": "good", "silent_ms": 90_000, "version": "1",
            "architecture": "amd64", "capacity": { "cpu_milli": 1, "memory_bytes": 1 },
            "committed": { "cpu_milli": 0, "memory_bytes": 0 }, "used": { "cpu_milli": 0, "memory_bytes": 0 },
            "environments": [], "jobs": 0, "troubles": [], "joined_ms": 0,
        });
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn a_lost_node_fails_and_one_in_trouble_is_worth_a_word() {
        let mut troubled = node("b", "ready");
        troubled.troubles.push("the disk is nearly full".into());
        let found = nodes(&[node("a", "lost"), troubled], "1");
        assert_eq!(
            verdicts(&found),
            [
                (Verdict::Fail, "a is lost, silent for 90 s"),
                (Verdict::Warn, "b: the disk is nearly full"),
                (Verdict::Warn, "1 of 2 nodes are ready"),
            ]
        );
        assert_eq!(verdicts(&nodes(&[node("a", "ready")], "1")), [(Verdict::Ok, "1 node ready")]);
        let skewed = nodes(&[node("a", "ready")], "2");
        assert_eq!(skewed[0].said, "the agent of a is 1, the controller 2");
        assert_eq!(nodes(&[], "1")[0].verdict, Verdict::Warn);
    }

    #[test]
    fn a_store_that_takes_no_change_fails_and_says_why() {
        let of = |why: Option<&str>| store(&Controller { not_stored: why.map(String::from) });
        assert_eq!(of(None).verdict, Verdict::Ok);
        let full = of(Some("the store cannot take a change: database or disk is full"));
        assert_eq!(full.verdict, Verdict::Fail);
        assert_eq!(full.said, "the last change was refused: the store cannot take a change: database or disk is full");
    }

    #[test]
    fn clocks_that_differ_are_told_by_how_much() {
        let at = 1_800_000_000_000;
        assert_eq!(clock(at, at as i64).verdict, Verdict::Ok);
        assert_eq!(clock(at + 61_000, at as i64).said, "this machine's clock and the controller's differ by 60 s");
        assert_eq!(clock(at + 61_000, at as i64).verdict, Verdict::Warn);
        assert_eq!(clock(at, at as i64 + 3_600_000).verdict, Verdict::Fail);
    }

    #[test]
    fn each_finding_is_a_line_and_each_hint_another() {
        let findings = [
            Finding::ok("clock", "it is right".into()),
            Finding::bad("nodes", Verdict::Fail, "a is lost".into(), "look there"),
        ];
        let drawn = draw(&findings, Surface::PLAIN);
        assert_eq!(drawn, "ok    clock  it is right\nfail  nodes  a is lost\n             look there\n");
    }
}
