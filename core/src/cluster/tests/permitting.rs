use super::world::*;
use crate::access::{Author, Grant, Role, Scope};
use crate::cluster::command::*;
use crate::cluster::state::*;
use crate::ids::{EnvironmentId, NodeId, TokenId};
use crate::time::{Millis, Wall};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

fn grant(role: Role, path: &str) -> Grant {
    Grant { role, scope: Scope::of_path(path) }
}

fn new(id: u128, name: &str, grant: Grant, lifetime: Option<Millis>) -> NewOperatorToken {
    NewOperatorToken { id: TokenId(id), hash: format!("hash of {name}"), name: name.into(), grant, lifetime }
}

/// Somebody with a token of Ada's making.
fn with_token(world: &mut World, id: u128, role: Role, path: &str) -> Author {
    let name = format!("holder-{id}");
    world.run(Command::CreateOperatorToken(new(id, &name, grant(role, path), None))).unwrap();
    holder(TokenId(id), &name)
}

fn told(result: Result<Outcome, Vec<Refusal>>) -> Vec<(RefusalKind, String)> {
    result.unwrap_err().into_iter().map(|refusal| (refusal.kind, refusal.sentence)).collect()
}

fn apply(application: &str, environments: &[&str]) -> Command {
    let services = || vec![ApplyService { name: "web".into(), spec: web("hello:1", 1) }];
    let environments = environments.iter().map(|name| ApplyEnvironment { name: (*name).into(), services: services() });
    Command::Apply(Apply { application: application.into(), environments: environments.collect() })
}

#[test]
fn a_deployer_applies_in_their_environment_and_learns_nothing_of_others() {
    let mut world = World::with_nodes(1);
    world.run(Command::CreateApplication { name: "blog".into() }).unwrap();
    let deployer = with_token(&mut world, 7, Role::Deployer, "shop/production");
    world.run_as(deployer.clone(), apply("shop", &["production"])).unwrap();
    let absent = |path: &str| vec![(RefusalKind::NotFound, format!("there is no environment {path}"))];
    // What exists and what does not are answered alike.
    assert_eq!(told(world.run_as(deployer.clone(), apply("shop", &["staging"]))), absent("shop/staging"));
    assert_eq!(told(world.run_as(deployer.clone(), apply("shop", &["nothing"]))), absent("shop/nothing"));
    assert_eq!(told(world.run_as(deployer.clone(), apply("blog", &["staging"]))), absent("blog/staging"));
    assert_eq!(told(world.run_as(deployer.clone(), apply("nothing", &["staging"]))), absent("nothing/staging"));
    // One environment too many, and nothing is applied.
    assert_eq!(told(world.run_as(deployer.clone(), apply("shop", &["production", "staging"]))), absent("shop/staging"));
    let path = path("shop/staging/web");
    assert_eq!(told(world.run_as(deployer, Command::Redeploy { service: path })), absent("shop/staging"));
}

#[test]
fn only_an_operator_of_the_organization_applies_an_application_into_being() {
    let mut world = World::with_nodes(1);
    let deployer = with_token(&mut world, 7, Role::Deployer, "");
    let operator = with_token(&mut world, 8, Role::Operator, "");
    let sentence = "this needs the role operator for the organization; this token has deployer for the organization";
    assert_eq!(
        told(world.run_as(deployer.clone(), apply("blog", &["staging"]))),
        [(RefusalKind::Forbidden, sentence.to_string())]
    );
    world.run_as(operator, apply("blog", &["staging"])).unwrap();
    world.run_as(deployer, apply("blog", &["production"])).unwrap();
}

#[test]
fn a_token_that_was_removed_or_has_ended_a_moment_ago_decides_nothing() {
    let mut world = World::with_nodes(1);
    let removed = with_token(&mut world, 7, Role::Admin, "");
    world.run(Command::RemoveOperatorToken { token: "holder-7".into() }).unwrap();
    let create = || Command::CreateApplication { name: "blog".into() };
    let nobody = |said: &str| vec![(RefusalKind::Unauthenticated, said.to_string())];
    assert_eq!(told(world.run_as(removed, create())), nobody("this token was removed"));

    let short = new(8, "short", grant(Role::Admin, ""), Some(Millis::secs(60)));
    world.run(Command::CreateOperatorToken(short)).unwrap();
    let short = holder(TokenId(8), "short");
    world.tick = world.tick + Millis(59_999);
    world.run_as(short.clone(), create()).unwrap();
    world.tick = world.tick + Millis(1);
    assert_eq!(told(world.run_as(short, create())), nobody("this token has expired"));
}

#[test]
fn a_token_for_an_environment_that_is_gone_does_not_open_its_successor_of_the_same_name() {
    let mut world = World::with_nodes(1);
    let deployer = with_token(&mut world, 7, Role::Deployer, "shop/staging");
    let old = world.cluster.environment_named("shop", "staging").unwrap().clone();
    world.cluster.remove::<Environment>(old.id);
    world.cluster.put(Environment { id: EnvironmentId(99_999), ..old });
    world.commit();
    let refused = told(world.run_as(deployer, apply("shop", &["staging"])));
    assert_eq!(refused[0].0, RefusalKind::Unauthenticated, "{refused:?}");
}

#[test]
fn only_operators_command_but_for_a_join_and_the_first_token() {
    let mut world = World::with_nodes(1);
    let applicant = || Author::Applicant { address: core::net::Ipv4Addr::LOCALHOST.into() };
    let first = |id| Command::CreateOperatorToken(new(id, "first", grant(Role::Admin, ""), None));
    for author in [applicant(), Author::FirstStart, Author::Controller] {
        for command in [Command::CreateApplication { name: "blog".into() }, apply("shop", &["staging"]), first(20)] {
            let refused = told(world.run_as(author.clone(), command));
            assert_eq!(refused[0].0, RefusalKind::Forbidden, "{author:?}: {refused:?}");
        }
    }
    let enrolled = told(world.run_as(ada(), Command::EnrolNode(Enrol { node: NodeId(9), ..enrol(1) })));
    assert_eq!(enrolled[0].0, RefusalKind::Forbidden, "an operator's token lets no node join");
    world.cluster.remove::<OperatorToken>(ADA);
    world.commit();
    world.run_as(Author::FirstStart, first(21)).unwrap();
    let refused = told(world.run_as(Author::FirstStart, first(22)));
    assert_eq!(refused[0].0, RefusalKind::Forbidden, "only the first");
}

#[test]
fn a_token_gives_at_most_what_its_maker_has_and_no_longer() {
    let mut world = World::with_nodes(1);
    let short = new(7, "short", grant(Role::Admin, "shop"), Some(Millis::secs(60)));
    world.run(Command::CreateOperatorToken(short)).unwrap();
    let short = holder(TokenId(7), "short");
    let mut made = |id, role, path: &str, lifetime| {
        let new = new(id, &format!("made-{id}"), grant(role, path), lifetime);
        world.run_as(short.clone(), Command::CreateOperatorToken(new))
    };
    assert_eq!(told(made(10, Role::Viewer, "", Some(Millis(1))))[0].0, RefusalKind::Forbidden);
    assert_eq!(told(made(11, Role::Viewer, "blog", Some(Millis(1))))[0].1, "there is no application blog");
    assert_eq!(told(made(12, Role::Viewer, "shop", None))[0].0, RefusalKind::Forbidden);
    assert_eq!(told(made(13, Role::Viewer, "shop", Some(Millis(60_001))))[0].0, RefusalKind::Forbidden);
    assert_eq!(told(made(14, Role::Viewer, "shop/nothing", Some(Millis(1))))[0].0, RefusalKind::NotFound);
    made(15, Role::Admin, "shop/staging", Some(Millis::secs(60))).unwrap();
    assert_eq!(made(15, Role::Admin, "shop/staging", None).unwrap().answer, Answer::Unchanged, "asked again");
    let again = new(16, "made-15", grant(Role::Viewer, "shop"), Some(Millis(1)));
    assert_eq!(told(world.run_as(short, Command::CreateOperatorToken(again)))[0].0, RefusalKind::Conflict);
}

#[test]
fn an_admin_of_one_application_does_not_learn_of_the_tokens_of_others() {
    let mut world = World::with_nodes(1);
    let admin = with_token(&mut world, 7, Role::Admin, "shop");
    let operator = with_token(&mut world, 8, Role::Operator, "");
    let remove = |token: &str| Command::RemoveOperatorToken { token: token.into() };
    let absent = |name: &str| vec![(RefusalKind::NotFound, format!("there is no token {name}"))];
    assert_eq!(told(world.run_as(admin.clone(), remove("ada"))), absent("ada"));
    assert_eq!(told(world.run_as(admin.clone(), remove("nobody"))), absent("nobody"));
    let refused: Vec<_> = ["ada", "nobody"].map(|name| told(world.run_as(operator.clone(), remove(name)))).into();
    assert_eq!(refused[0], refused[1], "who manages no tokens is told the same of all");
    assert_eq!(refused[0][0].0, RefusalKind::Forbidden);
    with_token(&mut world, 9, Role::Deployer, "shop/staging");
    world.run_as(admin, remove("holder-9")).unwrap();
}

#[test]
fn the_last_token_that_can_make_others_and_does_not_end_stays() {
    let mut world = World::with_nodes(1);
    let short = new(7, "short", grant(Role::Admin, ""), Some(Millis::secs(60)));
    world.run(Command::CreateOperatorToken(short)).unwrap();
    with_token(&mut world, 8, Role::Admin, "shop");
    with_token(&mut world, 9, Role::Operator, "");
    let remove = || Command::RemoveOperatorToken { token: "ada".into() };
    let refused = world.run(remove()).unwrap_err().remove(0);
    assert!(refused.sentence.starts_with("ada is the last token of an admin"), "{refused}");
    assert!(refused.hint.unwrap().contains("lap token create"));
    with_token(&mut world, 10, Role::Admin, "");
    world.run(remove()).unwrap();
}

#[test]
fn a_token_of_before_there_were_roles_is_an_admins() {
    let stored = r#"{"id":"00000000000000000000000007","hash":"00","name":"admin","created":5}"#;
    let token: OperatorToken = serde_json::from_str(stored).unwrap();
    assert_eq!((token.role, token.scope, token.expires), (Role::Admin, TokenScope::Organization, None));
    assert!(token.is_good(Wall(u64::MAX)));
}
