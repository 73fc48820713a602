//! The audit: who tried what, in a chain in which nothing can be altered, taken out or moved without being found.

use crate::bench::{Client, Controller, shop};
use lapstrake_api::view::{self, AuditHead, AuditRow};
use lapstrake_controller::config::RateLimits;
use lapstrake_core::audit::{Deed, Entry, Fault, Link};
use lapstrake_core::time::Wall;
use lapstrake_pki::fingerprint::sha256;
use lapstrake_pki::token::{Kind, Secret, SecretHash, Token};
use rusqlite::Connection;
use serde_json::json;

pub async fn rows(client: &Client) -> Vec<AuditRow> {
    let mut all: Vec<AuditRow> = Vec::new();
    loop {
        let after = all.last().map_or(0, |row| row.number);
        let page: Vec<AuditRow> = client.get(&format!("/v1/audit?after={after}")).await.json();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn link(number: u64, hash: &str) -> Link {
    Link { number, hash: SecretHash::from_hex(hash).map_or([0; 32], |hash| hash.0) }
}

/// As `lap audit verify` does it: nothing of the controller's is believed but the rows.
pub async fn verify(client: &Client) -> Result<(), Fault> {
    let head: AuditHead = client.get("/v1/audit/head").await.json();
    let beginning = Link::beginning(head.cluster.parse().expect("an id"), sha256);
    let last = rows(client).await.into_iter().try_fold(beginning, |before, row| {
        let entry = Entry {
            wall: Wall(row.at_ms),
            who: row.who,
            token: row.token,
            address: row.address,
            deed: Deed { verb: row.verb, subject: row.subject, detail: row.detail },
            verdict: row.verdict,
            said: row.said,
        };
        before.follow(&link(row.number, &row.hash), &entry, sha256)
    })?;
    last.end(&link(head.number, &head.hash.expect("rows")))
}

fn what(row: &AuditRow) -> [&str; 4] {
    [&row.who, &row.verb, &row.subject, &row.verdict]
}

/// Some rows of every kind.
async fn with_some_history() -> Controller {
    let controller = Controller::start().await;
    let client = &controller.client;
    client.post("/v1/apps", r#"{"name":"shop"}"#).await.json::<view::Application>();
    client.post("/v1/apps", r#"{"name":"shop"}"#).await.problem(409);
    client.apply(&shop("web:1", 1)).await;
    client.delete("/v1/nodes/absent").await.problem(404);
    client.post("/v1/services/shop/production/web/redeploy", "").await;
    controller
}

#[tokio::test]
async fn every_command_and_every_refusal_is_a_row_with_who_from_where_what_and_what_came_of_it() {
    let controller = with_some_history().await;
    let client = &controller.client;
    let ask = json!({ "name": "ci", "role": "viewer", "scope": "shop/staging" });
    let made: view::NewOperatorToken = client.post("/v1/tokens", ask.to_string()).await.json();
    let ci = Client { token: made.token.clone(), ..client.clone() };
    ci.post("/v1/services/shop/staging/web/redeploy", "").await.problem(403);
    ci.get("/v1/services/shop/production/web").await.problem(404);
    ci.post("/v1/plan", shop("web:1", 1)).await.problem(403);
    let all = rows(client).await;
    let told: Vec<_> = all.iter().map(what).collect();
    assert_eq!(
        told,
        [
            ["the first start", "create-token", "token/admin", "done"],
            ["admin", "create-application", "shop", "done"],
            ["admin", "create-application", "shop", "refused"],
            ["admin", "apply", "shop", "done"],
            ["admin", "remove-node", "node/absent", "refused"],
            ["admin", "redeploy", "shop/production/web", "done"],
            ["admin", "create-token", "token/ci", "done"],
            ["ci", "request", "/v1/services/shop/staging/web/redeploy", "refused"],
            ["ci", "request", "/v1/services/shop/production/web", "refused"],
            ["ci", "request", "/v1/plan", "refused"],
        ]
    );
    assert_eq!(all[3].detail, "production: web");
    assert_eq!(all[4].said, "there is no node absent");
    assert!(all[1..].iter().all(|row| row.address == "127.0.0.1" && row.at_ms > 1_700_000_000_000), "{all:#?}");
    assert_eq!(all[7].token, made.about.id);
    let (_, secret) = made.token.rsplit_once('_').expect("parts");
    assert!(!format!("{all:?}").contains(&secret[..16]));
    let of_ci: Vec<AuditRow> = client.get("/v1/audit?by=ci").await.json();
    assert_eq!(of_ci.len(), 3);
    let late: Vec<AuditRow> = client.get("/v1/audit?since_ms=99999999999999").await.json();
    assert_eq!(late, []);
    assert_eq!(verify(client).await, Ok(()));
}

#[tokio::test]
async fn guesses_of_tokens_are_rows_too_and_hold_up_nobody() {
    // All of them shall be heard; that there is a limit is another test's matter.
    let rate = RateLimits { wrong_token_costs: 1, ..RateLimits::default() };
    let controller = Controller::start_with(|config| config.rate = rate).await;
    let client = &controller.client;
    let known = Token::operator(&client.token).expect("a token");
    let guess = |number: u8| Token { secret: Secret::new([number; 32]), ..known.clone() }.text();
    let guesses = (0..120u8).map(|number| {
        let client = Client { token: guess(number), ..client.clone() };
        tokio::spawn(async move { client.get("/v1/apps").await.problem(401) })
    });
    let guesses: Vec<_> = guesses.collect();
    client.post("/v1/apps", r#"{"name":"shop"}"#).await.json::<view::Application>();
    for guess in guesses {
        guess.await.expect("is answered");
    }
    // Whoever shows nothing has tried nothing.
    let unasked = http::Request::builder().uri("/v1/apps").header("host", "localhost");
    client.ask_raw(unasked.body(Default::default()).expect("a request")).await.problem(401);
    let all = rows(client).await;
    let guessed: Vec<_> = all.iter().filter(|row| row.verb == "request").collect();
    assert_eq!(guessed.len(), 120);
    assert!(
        guessed.iter().all(|row| row.who.is_empty() && row.said.contains("does not know the token")),
        "{guessed:#?}"
    );
    assert!(guessed.iter().all(|row| row.address == "127.0.0.1"));
    assert_eq!(verify(client).await, Ok(()));
}

#[tokio::test]
async fn a_machine_that_is_refused_is_a_row_with_its_address_and_without_its_secret() {
    let controller = Controller::start().await;
    let good = controller.join_token(json!({})).await.token;
    let token = Token::join(&good).expect("a token");
    assert_eq!(token.kind, Kind::Join);
    let guessed = Token { secret: Secret::new([7; 32]), ..token.clone() }.text();
    let folder = controller.folder().join("intruder");
    crate::bench::join_with(&guessed, &controller.control_address(), "intruder", &folder).await.expect_err("refused");
    let all = rows(&controller.client).await;
    let row = all.last().expect("rows");
    assert_eq!(what(row), ["a machine that joins", "enrol-node", "node/intruder", "refused"]);
    assert_eq!(
        (row.address.as_str(), row.said.as_str()),
        ("127.0.0.1", "this join token is not one of this cluster's")
    );
    assert!(row.detail.contains(&token.id.to_string()), "{row:?}");
}

#[tokio::test]
async fn a_machine_with_a_good_token_joins_while_others_guess_and_every_guess_is_a_row() {
    const GUESSERS: usize = 8;
    const GUESSES: u8 = 12;
    let controller = Controller::start().await;
    let good = controller.join_token(json!({})).await.token;
    let token = Token::join(&good).expect("a token");
    let guesser = |guesser: usize| {
        let (token, address) = (token.clone(), controller.control_address());
        let folder = controller.folder().join(format!("guesser-{guesser}"));
        tokio::spawn(async move {
            for number in 0..GUESSES {
                let guess = Token { secret: Secret::new([number; 32]), ..token.clone() }.text();
                crate::bench::join_with(&guess, &address, "guesser", &folder).await.expect_err("refused");
            }
        })
    };
    let guessers: Vec<_> = (0..GUESSERS).map(guesser).collect();
    let begun = std::time::Instant::now();
    let folder = controller.folder().join("honest");
    crate::bench::join_with(&good, &controller.control_address(), "honest", &folder).await.expect("joins");
    println!("joined in {:?}", begun.elapsed());
    for guesser in guessers {
        guesser.await.expect("was refused each time");
    }
    let all = rows(&controller.client).await;
    let refused = all.iter().filter(|row| row.verb == "enrol-node" && row.verdict == "refused").count();
    assert_eq!(refused, GUESSERS * GUESSES as usize);
    let nodes: Vec<view::Node> = controller.client.get("/v1/nodes").await.json();
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["honest"]);
    assert_eq!(verify(&controller.client).await, Ok(()));
}

/// Alters the store behind the controller's back, and says what is found.
async fn after(alteration: &str) -> Result<(), Fault> {
    let controller = with_some_history().await;
    assert_eq!(verify(&controller.client).await, Ok(()));
    let store = Connection::open(controller.store_file()).expect("the store");
    store.execute_batch(alteration).expect("sql");
    verify(&controller.client).await
}

#[tokio::test]
async fn a_row_that_is_altered_is_found() {
    let altered = Err(Fault::Altered { number: 3 });
    for field in ["at_ms = at_ms + 1", "who = 'eve'", "token = ''", "address = '::1'", "verb = 'apply'"] {
        assert_eq!(after(&format!("UPDATE audit SET {field} WHERE number = 3")).await, altered, "{field}");
    }
    for field in ["subject = 'blog'", "detail = 'x'", "verdict = 'done'", "said = ''", "hash = 'none'"] {
        assert_eq!(after(&format!("UPDATE audit SET {field} WHERE number = 3")).await, altered, "{field}");
    }
}

#[tokio::test]
async fn rows_that_are_removed_swapped_or_cut_off_are_found() {
    assert_eq!(after("DELETE FROM audit WHERE number = 3").await, Err(Fault::Missing { number: 3 }));
    assert_eq!(after("DELETE FROM audit WHERE number = 1").await, Err(Fault::Missing { number: 1 }));
    assert_eq!(after("DELETE FROM audit WHERE number = 6").await, Err(Fault::CutOff { number: 6, last: 6 }));
    assert_eq!(after("DELETE FROM audit WHERE number > 2").await, Err(Fault::CutOff { number: 3, last: 6 }));
    let swap = "UPDATE audit SET number = 99 WHERE number = 2; UPDATE audit SET number = 2 WHERE number = 3;
                UPDATE audit SET number = 3 WHERE number = 99";
    assert_eq!(after(swap).await, Err(Fault::Altered { number: 2 }));
    let renumbered = "DELETE FROM audit WHERE number = 3; UPDATE audit SET number = number - 1 WHERE number > 3";
    assert_eq!(after(renumbered).await, Err(Fault::Altered { number: 3 }));
    let put_in = "INSERT INTO audit SELECT 7, at_ms, who, token, address, verb, subject, detail, verdict, said, hash
                  FROM audit WHERE number = 6";
    assert_eq!(after(put_in).await, Err(Fault::Altered { number: 7 }));
    let head = "UPDATE audit_head SET number = 5, hash = (SELECT hash FROM audit WHERE number = 5)";
    assert_eq!(after(head).await, Err(Fault::Altered { number: 5 }), "the head alone");
}

#[tokio::test]
async fn what_cannot_be_audited_is_not_done() {
    let controller = with_some_history().await;
    let before = controller.stored();
    let store = Connection::open(controller.store_file()).expect("the store");
    store
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END")
        .expect("sql");
    controller.client.post("/v1/apps", r#"{"name":"blog"}"#).await.problem(503);
    assert_eq!(controller.stored(), before);
    store.execute_batch("DROP TRIGGER full").expect("sql");
    controller.client.post("/v1/apps", r#"{"name":"blog"}"#).await.json::<view::Application>();
    assert_eq!(verify(&controller.client).await, Ok(()));
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let mut controller = with_some_history().await;
    controller.start_again().await;
    controller.client.post("/v1/apps", r#"{"name":"blog"}"#).await.json::<view::Application>();
    assert_eq!(rows(&controller.client).await.len(), 7);
    assert_eq!(verify(&controller.client).await, Ok(()));
}
