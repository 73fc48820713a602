use super::*;
use alloc::string::ToString;
use alloc::vec::Vec;

fn scopes() -> Vec<Scope> {
    let environment = |application: &str, name: &str| Scope::Environment(application.into(), name.into());
    Vec::from([
        Scope::Organization,
        Scope::Application("shop".into()),
        Scope::Application("blog".into()),
        environment("shop", "production"),
        environment("shop", "staging"),
        environment("blog", "production"),
    ])
}

fn grant(role: Role, scope: &Scope) -> Grant {
    Grant { role, scope: scope.clone() }
}

#[test]
fn nobody_does_anything_beside_or_above_their_scope() {
    for own in scopes() {
        for asked in scopes().into_iter().filter(|asked| !own.covers(asked)) {
            for verb in Verb::ALL {
                let told = decide(&grant(Role::Admin, &own), verb, &asked);
                assert!(told.is_err(), "an admin of {own} did {verb:?} in {asked}");
            }
        }
    }
}

#[test]
fn a_larger_role_or_scope_never_allows_less() {
    for (own, wider) in scopes().iter().flat_map(|own| scopes().into_iter().map(move |wider| (own.clone(), wider))) {
        for (asked, verb) in scopes().into_iter().flat_map(|asked| Verb::ALL.map(|verb| (asked.clone(), verb))) {
            for role in Role::ALL {
                let small = grant(role, &own);
                for large in Role::ALL.map(|role| grant(role, &wider)).iter().filter(|large| large.includes(&small)) {
                    let allowed = decide(&small, verb, &asked).is_ok();
                    assert!(!allowed || decide(large, verb, &asked).is_ok(), "{small}, {large}, {verb:?}, {asked}");
                }
            }
        }
    }
}

#[test]
fn what_lies_beside_the_scope_is_not_there_and_what_lies_above_needs_a_role() {
    let own = grant(Role::Operator, &Scope::of_path("shop/production"));
    let told = |verb, path| decide(&own, verb, &Scope::of_path(path)).expect_err("refused").to_string();
    assert_eq!(told(Verb::See, "shop/staging"), "there is no environment shop/staging");
    assert_eq!(told(Verb::See, "blog"), "there is no application blog");
    assert_eq!(
        told(Verb::ManageNodes, ""),
        "managing nodes needs the role operator for the organization; this token has operator for shop/production"
    );
    assert_eq!(
        told(Verb::ManageTokens, "shop/production"),
        "managing tokens needs the role admin for shop/production; this token has operator for shop/production"
    );
}

#[test]
fn a_path_lies_in_the_smallest_scope_that_holds_it() {
    assert_eq!(Scope::of_path("shop/production/web"), Scope::of_path("shop/production"));
    assert_eq!(Scope::of_path("shop"), Scope::Application("shop".into()));
    assert_eq!(Scope::of_path(""), Scope::Organization);
    assert!(!Scope::Application("shop".into()).covers(&Scope::of_path("shopping/production")));
    assert!(scopes().iter().all(|scope| scope.path().is_none_or(|path| Scope::of_path(&path) == *scope)));
}

#[test]
fn hashes_are_the_same_only_when_every_character_is() {
    assert!(same_hash("abcd", "abcd"));
    assert!(!same_hash("abcd", "abce") && !same_hash("xbcd", "abcd"));
    assert!(!same_hash("abcd", "abc") && !same_hash("", "a"));
}

/// The table of roles in the operations manual: a row for each verb, as it is decided.
fn table_of_roles() -> String {
    let mark = |role: Role, verb: Verb| {
        let grant = Grant { role, scope: Scope::Organization };
        if decide(&grant, verb, &Scope::Organization).is_ok() { "yes" } else { "-" }
    };
    let mut table = String::from("| | viewer | deployer | operator | admin |\n|---|---|---|---|---|\n");
    for verb in Verb::ALL {
        let marks: String = Role::ALL.into_iter().map(|role| format!(" {} |", mark(role, verb))).collect();
        table.push_str(&format!("| {} |{marks}\n", verb.meaning()));
    }
    table
}

#[test]
fn the_manual_shows_the_roles_as_they_are_decided() {
    let manual = include_str!("../../../docs/OPERATIONS.md");
    assert!(manual.contains(&table_of_roles()), "docs/OPERATIONS.md should have this table:\n\n{}", table_of_roles());
}
