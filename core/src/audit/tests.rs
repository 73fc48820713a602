use super::*;
use crate::access::{Grant, Role, Scope};
use crate::cluster::command::NewOperatorToken;
use crate::ids::TokenId;
use alloc::vec;

/// Not SHA-256, but every byte counts, and its place.
fn sum(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0u8; 32];
    for (i, byte) in bytes.iter().enumerate() {
        let carried = sum[(i + 31) % 32];
        sum[i % 32] = sum[i % 32].wrapping_mul(31).wrapping_add(*byte) ^ carried.rotate_left(3);
    }
    for round in 0..96 {
        sum[round % 32] = sum[round % 32].wrapping_mul(5).wrapping_add(sum[(round + 31) % 32]);
    }
    sum
}

fn entry(detail: &str) -> Entry {
    let deed = Deed::new("deploy", "shop/production/web", detail);
    Entry::of_refusal(None, "192.0.2.7", deed, "no", Wall(5))
}

fn chain(length: u64) -> (Vec<(Link, Entry)>, Link) {
    let mut link = Link::beginning(ClusterId(1), sum);
    let mut rows = vec![];
    for number in 1..=length {
        let entry = entry(&format!("image web:{number}"));
        link = link.next(&entry, sum);
        rows.push((link, entry));
    }
    (rows, link)
}

fn verify(cluster: u128, rows: &[(Link, Entry)], head: &Link) -> Result<(), Fault> {
    let begin = Link::beginning(ClusterId(cluster), sum);
    let last = rows.iter().try_fold(begin, |link, (row, entry)| link.follow(row, entry, sum))?;
    last.end(head)
}

#[test]
fn a_chain_as_it_was_written_holds() {
    let (rows, head) = chain(5);
    assert_eq!(verify(1, &rows, &head), Ok(()));
    assert_eq!(verify(2, &rows, &head), Err(Fault::Altered { number: 1 }), "another cluster's");
}

#[test]
fn every_field_that_is_altered_is_found_at_its_row() {
    let (rows, head) = chain(5);
    let alterations: [fn(&mut Entry); 9] = [
        |row| row.wall = Wall(6),
        |row| row.who.push('x'),
        |row| row.token.push('x'),
        |row| row.address = "192.0.2.8".into(),
        |row| row.deed.verb.push('x'),
        |row| row.deed.subject.push('x'),
        |row| row.deed.detail.push('x'),
        |row| row.verdict = "done".into(),
        |row| row.said.clear(),
    ];
    for alter in alterations {
        let mut rows = rows.clone();
        alter(&mut rows[2].1);
        assert_eq!(verify(1, &rows, &head), Err(Fault::Altered { number: 3 }));
    }
    // A text that moves from one field to the next is another row.
    let mut moved = rows.clone();
    moved[2].1.deed = Deed { verb: "deploys".into(), subject: "hop/production/web".into(), ..moved[2].1.deed.clone() };
    assert_eq!(verify(1, &moved, &head), Err(Fault::Altered { number: 3 }));
}

#[test]
fn rows_that_are_taken_out_put_in_swapped_or_cut_off_are_found() {
    let (rows, head) = chain(5);
    let without = |number: usize| {
        let mut rows = rows.clone();
        rows.remove(number - 1);
        verify(1, &rows, &head)
    };
    assert_eq!(without(1), Err(Fault::Missing { number: 1 }));
    assert_eq!(without(3), Err(Fault::Missing { number: 3 }));
    assert_eq!(without(5), Err(Fault::CutOff { number: 5, last: 5 }));
    assert_eq!(verify(1, &[], &head), Err(Fault::CutOff { number: 1, last: 5 }));
    let mut swapped = rows.clone();
    swapped.swap(1, 2);
    assert_eq!(verify(1, &swapped, &head), Err(Fault::Missing { number: 2 }));
    let (two, three) = (rows[1].clone(), rows[2].clone());
    let mut contents = rows.clone();
    (contents[1].1, contents[2].1) = (three.1, two.1);
    assert_eq!(verify(1, &contents, &head), Err(Fault::Altered { number: 2 }));
    let mut doubled = rows.clone();
    doubled.insert(2, rows[1].clone());
    assert_eq!(verify(1, &doubled, &head), Err(Fault::Altered { number: 2 }));
}

#[test]
fn what_a_stranger_sends_is_cut_and_cannot_act_on_a_terminal() {
    let deed = Deed::new("enrol-node", "node/\u{1b}[2J", "x".repeat(10_000));
    assert_eq!(deed.subject, "node/\\u{1b}[2J");
    assert_eq!(deed.detail.chars().count(), LONGEST_FIELD + 1);
}

#[test]
fn no_row_repeats_a_secret() {
    let grant = Grant { role: Role::Viewer, scope: Scope::Organization };
    let new =
        NewOperatorToken { id: TokenId(7), hash: "0123456789abcdef".into(), name: "ci".into(), grant, lifetime: None };
    let deed = Command::CreateOperatorToken(new).deed();
    assert!(!format!("{deed:?}").contains("0123456789abcdef"), "{deed:?}");
    let pasted = Command::RemoveOperatorToken { token: token("lapo1_") };
    assert_eq!(pasted.deed().subject, "token/(a token)");
}

/// A text of a token's form.
fn token(beginning: &str) -> String {
    let parts = [26, 52, 26, 58].map(|length| "q7".repeat(length / 2));
    format!("{beginning}{}", parts.join("_"))
}

#[test]
fn a_token_in_a_command_hides_itself_and_nothing_beside_it() {
    let (one, other) = (token("lapo1_"), token("lapj1_"));
    let line = format!("sh -c 'rm -r /data #{one}.y-z' {other}x=1 lapj1_ lapo1_a");
    let deed = Deed::of_line("exec", "shop/production/web", &line);
    assert_eq!(deed.detail, "sh -c 'rm -r /data #(a token).y-z' (a token)x=1 lapj1_ lapo1_a");
}

#[test]
fn a_program_whose_name_begins_like_a_token_is_in_the_audit() {
    for line in ["./lapo1_wipe.sh /data", "lapj1_x-and-what-follows", "./lapo1_lapj1_x"] {
        assert_eq!(Deed::of_line("exec", "shop/production/web", line).detail, line);
    }
}

#[test]
fn a_token_that_lacks_its_end_or_has_a_slip_in_it_is_no_more_repeated_than_a_whole_one() {
    let whole = token("lapo1_");
    let pasted = [
        whole[..whole.len() - 1].to_string(),
        whole[..6 + 108].to_string(),
        whole.replacen('q', "o", 3),
        whole.to_uppercase().replacen("LAPO", "lapo", 1),
    ];
    for text in pasted {
        assert_eq!(Deed::of_line("exec", "shop/production/web", &text).detail, "(a token)", "{text}");
    }
}

#[test]
fn a_token_that_follows_one_that_was_cut_off_hides_itself_too() {
    let whole = token("lapo1_");
    for kept in 0..whole.len() {
        let cut = &whole[..kept];
        let detail = Deed::of_line("exec", "shop/production/web", &format!("{cut}{}", token("lapj1_"))).detail;
        let shown = if kept > 6 + OPEN_CHARS { "(a token)" } else { cut };
        assert_eq!(detail, format!("{shown}(a token)"), "{kept}");
    }
}
