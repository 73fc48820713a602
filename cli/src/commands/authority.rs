//! The certificate authority.

use super::Session;
use crate::error::LapError;
use crate::output::printable;
use crate::show::amount;
use lapstrake_api::view;

/// `lap ca show`.
pub async fn show(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.get("/v1/authority").await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.text(&told(&answer.read()?, amount::now_ms()))
}

/// `lap ca rotate`.
pub async fn rotate(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.post("/v1/authority/rotate", &serde_json::json!({})).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.say("a new root was made; every node is told to trust it. `lap ca show` says how far that is");
    session.output.text(&told(&answer.read()?, amount::now_ms()))
}

/// `lap ca advance`.
pub async fn advance(session: &mut Session, force: bool) -> Result<(), LapError> {
    let path = if force { "/v1/authority/advance?force=true" } else { "/v1/authority/advance" };
    let answer = session.client.post(path, &serde_json::json!({})).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    session.output.text(&told(&answer.read()?, amount::now_ms()))
}

/// For people.
fn told(authority: &view::Authority, now_ms: u64) -> String {
    let mut text = String::new();
    for root in &authority.roots {
        let signs = if root.signs { "signs" } else { "trusted" };
        let made = amount::ago(root.made_ms, now_ms);
        let ends = amount::ahead(root.ends_ms, now_ms);
        text.push_str(&format!("root {}  {signs}, made {made}, ends {ends}\n", printable(&root.fingerprint)));
    }
    let Some(rotation) = &authority.rotation else { return text };
    let begun = amount::ago(rotation.begun_ms, now_ms);
    text.push_str(&format!("{} began to replace the root {begun}; ", printable(&rotation.by)));
    text.push_str(match (rotation.stage.as_str(), rotation.waits.is_empty()) {
        ("announcing", true) => "every node trusts the new one\n",
        ("announcing", false) => "nodes are told to trust the new one. It waits for:\n",
        (_, true) => "every node has a certificate of the new one; `lap ca advance` drops the old one\n",
        (_, false) => "nodes get certificates of the new one. It waits for:\n",
    });
    for wait in &rotation.waits {
        text.push_str(&format!("  {} {}\n", printable(&wait.node), printable(&wait.why)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_names_whom_it_waits_for_and_what_comes_next() {
        let root =
            |fingerprint: &str, signs| view::Root { fingerprint: fingerprint.into(), made_ms: 0, ends_ms: 10, signs };
        let rotation = |stage: &str, waits: &[&str]| view::Authority {
            roots: vec![root("aa", false), root("bb", true)],
            rotation: Some(view::Rotation {
                stage: stage.into(),
                begun_ms: 0,
                since_ms: 0,
                by: "ann".into(),
                waits: waits
                    .iter()
                    .map(|node| view::RotationWait { node: (*node).into(), why: "has no session".into() })
                    .collect(),
            }),
        };
        let text = told(&rotation("announcing", &["n1"]), 5);
        assert!(text.contains("n1 has no session") && text.contains("root bb  signs"), "{text}");
        assert!(told(&rotation("reissuing", &[]), 5).contains("`lap ca advance` drops the old one"));
    }
}
