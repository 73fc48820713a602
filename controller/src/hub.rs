//! The engine as the agents' control channel sees it.

use crate::control::{Applicant, EnrolRefusal, Enrolled, HelloRefusal, Hub, Outbox, Terms};
use crate::engine::{CommandError, Engine};
use lapstrake_core::access::Author;
use lapstrake_core::audit::{Deed, Entry};
use lapstrake_core::cluster::command::{Answer, Command, Enrol, Refusal, RefusalKind};
use lapstrake_core::cluster::standing::{AskReturn, HelloRefused, StandingCommand};
use lapstrake_core::cluster::state::{JoinToken, Node};
use lapstrake_core::ids::{NodeId, RequestId, SessionId, TokenId};
use lapstrake_core::liveness::{HEARTBEAT, LEASE};
use lapstrake_core::message::{Credentials, Hello, ResolvedImage};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_pki::mint;
use std::net::IpAddr;

impl Hub for Engine {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, EnrolRefusal> {
        let unavailable = |error: CommandError| EnrolRefusal::Unavailable(error.to_string());
        let token = applicant.token;
        let cidr = self.look(move |look| look.cluster.get::<JoinToken>(&token).and_then(|token| token.cidr.clone()));
        let cidr = cidr.await.map_err(unavailable)?;
        let name = applicant.name.unwrap_or_else(|| name_from(&applicant.hostname));
        let enrol = Enrol {
            token: applicant.token,
            hash: applicant.secret.to_hex(),
            address_allowed: cidr.is_none_or(|cidr| contains(&cidr, applicant.address)),
            node: NodeId(mint::id()),
            name: name.clone(),
            architecture: applicant.architecture,
            capacity: lapstrake_core::report::Capacity::default(),
            key: applicant.key.to_string(),
        };
        let author = Author::Applicant { address: applicant.address };
        let outcome = match self.command(Command::EnrolNode(enrol), author).await {
            Ok(outcome) => outcome,
            Err(CommandError::Refused(refusals)) => return Err(refused(&refusals)),
            Err(error) => return Err(unavailable(error)),
        };
        match outcome.answer {
            Answer::Node(node) => {
                let named = self.look(move |look| look.cluster.get::<Node>(&node).map(|node| node.name.clone())).await;
                Ok(Enrolled { node, name: named.map_err(unavailable)?.unwrap_or(name) })
            }
            _ => Err(EnrolRefusal::Unavailable("the node was not recorded".into())),
        }
    }

    async fn turned_away(&self, address: IpAddr, said: String) {
        let author = Author::Applicant { address };
        let deed = Deed::new("enrol-node", "", "");
        let entry = Entry::of_refusal(Some(&author), &address.to_string(), deed, &said, mint::wall());
        self.refused(entry).await;
    }

    async fn has_token(&self, token: TokenId) -> bool {
        self.look(move |look| look.cluster.get::<JoinToken>(&token).is_some()).await.unwrap_or(false)
    }

    fn refuses(&self, node: NodeId) -> Option<HelloRefused> {
        Engine::refuses(self, node)
    }

    async fn ask_return(&self, wish: AskReturn, address: IpAddr) -> Result<bool, EnrolRefusal> {
        match self.command(Command::Standing(StandingCommand::AskReturn(wish)), Author::Applicant { address }).await {
            Ok(outcome) => Ok(matches!(outcome.answer, Answer::Node(_))),
            Err(CommandError::Refused(refusals)) => Err(refused(&refusals)),
            Err(error) => Err(EnrolRefusal::Unavailable(error.to_string())),
        }
    }

    fn credentials(&self, node: NodeId, session: SessionId, credentials: Credentials) {
        Engine::node_credentials(self, node, session, credentials);
    }

    async fn hello(
        &self,
        session: SessionId,
        hello: Hello,
        _address: IpAddr,
        outbox: Outbox,
    ) -> Result<Terms, HelloRefusal> {
        let epoch = Engine::hello(self, hello.node, session, hello, outbox).await?;
        Ok(Terms { epoch, lease: LEASE, heartbeat: HEARTBEAT })
    }

    fn heartbeat(&self, node: NodeId, session: SessionId, used: Use) {
        Engine::heartbeat(self, node, session, used);
    }

    async fn report(&self, node: NodeId, session: SessionId, report: NodeReport) {
        Engine::report(self, node, session, report).await;
    }

    async fn resolved(
        &self,
        node: NodeId,
        _session: SessionId,
        request: RequestId,
        outcome: Result<ResolvedImage, String>,
    ) {
        Engine::resolved(self, node, request, outcome);
    }

    fn ended(&self, node: NodeId, session: SessionId) {
        Engine::ended(self, node, session);
    }
}

/// The decision's sentences with what would help.
fn refused(refusals: &[Refusal]) -> EnrolRefusal {
    let sentence = |refusal: &Refusal| match &refusal.hint {
        Some(hint) => format!("{}; {hint}", refusal.sentence),
        None => refusal.sentence.clone(),
    };
    let sentence = refusals.iter().map(sentence).collect::<Vec<_>>().join("; ");
    EnrolRefusal::Refused { kind: refusals.first().map_or(RefusalKind::Refused, |first| first.kind), sentence }
}

/// The first part of a host name, as far as it can be a node's name: `Web-01.example.org` gives `web-01`.
fn name_from(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect()
}

/// Whether an address lies in a network such as `10.0.0.0/8` or is the one that is named. A text that is no network holds
/// nobody.
fn contains(cidr: &str, address: IpAddr) -> bool {
    let (base, prefix) = cidr.split_once('/').unwrap_or((cidr, ""));
    let Ok(base) = base.parse::<IpAddr>() else { return false };
    let bits = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    };
    let ((width, base), (own_width, own)) = (bits(base), bits(address));
    let prefix = if prefix.is_empty() { Ok(width) } else { prefix.parse::<u32>() };
    match prefix {
        Ok(0) => width == own_width,
        Ok(prefix) if prefix <= width && width == own_width => (base ^ own) >> (128 - prefix) == 0,
        Ok(_) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_its_network_and_in_no_other() {
        let lies = |cidr: &str, address: &str| contains(cidr, address.parse().expect("an address"));
        assert!(lies("10.0.0.0/8", "10.255.0.1"));
        assert!(lies("10.0.0.7", "10.0.0.7"));
        assert!(lies("0.0.0.0/0", "192.0.2.1"));
        assert!(lies("10.0.0.0/8", "::ffff:10.1.2.3"), "a mapped address is the address");
        assert!(lies("2001:db8::/32", "2001:db8:1::1"));
        assert!(!lies("10.0.0.0/8", "11.0.0.1"));
        assert!(!lies("10.0.0.0/33", "10.0.0.1"));
        assert!(!lies("0.0.0.0/0", "2001:db8::1"));
        assert!(!lies("nonsense", "10.0.0.1"));
    }

    #[test]
    fn a_host_name_gives_a_nodes_name() {
        assert_eq!(name_from("Web_01.example.org"), "web-01");
    }
}
