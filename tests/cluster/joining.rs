//! Join tokens: each works once, and everything else is a clear word that changes nothing.

use crate::bench::{Controller, Stored};
use lapstrake_agent::identity::Identity;
use lapstrake_agent::join::JoinError;
use lapstrake_api::view;
use std::path::PathBuf;

/// A machine that tries to join, and what the cluster holds before and after.
struct Applicant<'a> {
    controller: &'a Controller,
    folder: PathBuf,
}

impl<'a> Applicant<'a> {
    fn of(controller: &'a Controller, folder: &str) -> Applicant<'a> {
        Applicant { controller, folder: controller.folder().join(folder) }
    }

    async fn cluster(&self) -> (Vec<view::Node>, Stored) {
        let mut nodes: Vec<view::Node> = self.controller.client.get("/v1/nodes").await.json();
        // For how long a machine that only joined has been silent is a reading.
        nodes.iter_mut().for_each(|node| (node.silent_ms, node.liveness) = (0, String::new()));
        (nodes, self.controller.stored())
    }

    /// Tries with this token, which must not work: the error and its exit code.
    async fn is_refused(&self, token: &str) -> (String, u8) {
        let before = self.cluster().await;
        let address = self.controller.control_address();
        let error = crate::bench::join_with(token, &address, "intruder", &self.folder).await.expect_err("refused");
        assert_eq!(self.cluster().await, before, "nothing has changed");
        assert!(Identity::load(&self.folder).is_err(), "and the machine is no node");
        (chain(&error), error.exit_code())
    }

    async fn joins(&self, token: &str, name: &str) -> Result<Identity, JoinError> {
        crate::bench::join_with(token, &self.controller.control_address(), name, &self.folder).await
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test]
async fn a_join_token_makes_one_node_and_no_second_one() {
    let controller = Controller::start().await;
    let token = controller.join_token(serde_json::json!({})).await;
    let first = Applicant::of(&controller, "first").joins(&token.token, "n1").await.expect("joined");
    let (nodes, _) = Applicant::of(&controller, "first").cluster().await;
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["n1"]);
    assert_eq!(nodes[0].id, first.node.to_string());

    let (said, code) = Applicant::of(&controller, "second").is_refused(&token.token).await;
    assert!(said.contains("was used already, by n1") && said.contains("lap node token create"), "{said}");
    assert_eq!(code, 3);
}

#[tokio::test]
async fn an_expired_join_token_is_refused_and_nothing_is_changed() {
    let controller = Controller::start().await;
    let token = controller.join_token(serde_json::json!({ "ttl_seconds": 1 })).await;
    crate::bench::until("the token has expired", || async {
        (lapstrake_pki::mint::wall().0 > token.expires_ms).then_some(())
    })
    .await;
    let (said, code) = Applicant::of(&controller, "late").is_refused(&token.token).await;
    assert!(said.contains("has expired") && said.contains("lap node token create"), "{said}");
    assert_eq!(code, 3);
}

#[tokio::test]
async fn a_join_token_with_any_one_character_altered_is_a_wrong_command_line() {
    let controller = Controller::start().await;
    let token = controller.join_token(serde_json::json!({})).await.token;
    let applicant = Applicant::of(&controller, "altered");
    let before = applicant.cluster().await;
    for at in 0..token.len() {
        for other in ["x", "7"] {
            let mut altered = token.clone();
            altered.replace_range(at..=at, other);
            if altered == token {
                continue;
            }
            let error = applicant.joins(&altered, "intruder").await.expect_err("altered");
            assert_eq!(error.exit_code(), 2, "character {at}: {error}");
        }
    }
    assert_eq!(applicant.cluster().await, before, "nothing has changed");
    applicant.joins(&token, "n1").await.expect("and the right one still works");
}

#[tokio::test]
async fn a_join_token_of_another_controller_is_refused_before_anything_is_sent() {
    let (controller, other) = (Controller::start().await, Controller::start().await);
    let foreign = other.join_token(serde_json::json!({})).await;
    let (said, code) = Applicant::of(&controller, "stranger").is_refused(&foreign.token).await;
    assert!(said.contains("another controller's"), "{said}");
    assert_eq!(code, 3);
    Applicant::of(&other, "own").joins(&foreign.token, "n1").await.expect("it is still good at its own controller");
}

#[tokio::test]
async fn a_join_token_is_only_good_for_the_node_and_the_network_that_it_names() {
    let controller = Controller::start().await;
    let named = controller.join_token(serde_json::json!({ "node": "n7" })).await;
    let (said, code) = Applicant::of(&controller, "a").is_refused(&named.token).await;
    assert!(said.contains("only for the node n7"), "{said}");
    assert_eq!(code, 3);
    let elsewhere = controller.join_token(serde_json::json!({ "cidr": "192.0.2.0/24" })).await;
    let (said, code) = Applicant::of(&controller, "b").is_refused(&elsewhere.token).await;
    assert!(said.contains("only for nodes in 192.0.2.0/24"), "{said}");
    assert_eq!(code, 3);
}

#[tokio::test]
async fn a_token_of_an_operator_does_not_join_and_a_join_token_does_not_operate() {
    let controller = Controller::start().await;
    let (said, code) = Applicant::of(&controller, "a").is_refused(&controller.client.token.clone()).await;
    assert!(said.contains("operator"), "{said}");
    assert_eq!(code, 2);
    let token = controller.join_token(serde_json::json!({})).await.token;
    let request =
        http::Request::get("/v1/nodes").header("host", "localhost").header("authorization", format!("Bearer {token}"));
    let answer = controller.client.ask_raw(request.body(Default::default()).expect("a request")).await;
    answer.problem(401);
}
