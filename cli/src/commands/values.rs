//! Secrets, variables and the credentials for registries.

use super::Session;
use super::nodes::noted;
use crate::address::{NotAPath, ValueOwner};
use crate::args::{SecretRemove, SecretSet, Words};
use crate::error::LapError;
use crate::input::{hidden_line, read_up_to};
use crate::output::printable;
use crate::show::{amount, listing};
use lapstrake_api::{ask, view};
use lapstrake_core::cluster::values::why_not_called;
use lapstrake_core::values::{VALUE_BYTES, ValueKind};
use std::collections::BTreeSet;
use std::path::Path;

/// So many commands are named; whoever has more services to deploy knows by then how it goes on.
const COMMANDS_NAMED: usize = 4;

/// Of a longer line a terminal drops the rest without a word.
const TERMINAL_LINE_BYTES: usize = 4095;

/// What is said of a secret among the arguments.
const ON_THE_COMMAND_LINE: &str = "a secret is not given on the command line, where it stays in the shell's history and \
                                   everybody on the machine sees it; `lap secret set PATH NAME` asks for it or reads it from \
                                   stdin, and --from-file FILE from a file";

/// `lap secret set`.
pub async fn set_secret(session: &mut Session, set: &SecretSet) -> Result<(), LapError> {
    // It is not repeated, not even as a path that is none: what people put there by mistake is the secret.
    if set.words.words().any(|word| word.contains('=')) {
        return Err(LapError::Wrong(ON_THE_COMMAND_LINE.into()));
    }
    let (owner, rest) = split(&set.words)?;
    let (kind, name) = match (&set.registry, rest) {
        (Some(host), []) => (ValueKind::Registry, host.as_str()),
        (Some(_), _) => return Err(LapError::Wrong("with --registry there is a path and no name".into())),
        (None, [name]) if why_not_called(ValueKind::Secret, name).is_some() => {
            return Err(LapError::Wrong(
                "what follows the path is no name of a secret: small letters, digits and - are, and a letter begins it"
                    .into(),
            ));
        }
        (None, [name]) => (ValueKind::Secret, name.as_str()),
        (None, []) => return Err(LapError::Wrong("a secret has a name: `lap secret set PATH NAME`".into())),
        (None, _) => return Err(LapError::Wrong(ON_THE_COMMAND_LINE.into())),
    };
    well_called(kind, name)?;
    let value = secret_value(set, kind, name, &owner)?;
    let user = set.user.clone();
    let ask = ask::SetValue { of: owner.of(), kind: kind.word().into(), name: name.into(), value, user };
    let answer = session.client.post("/v1/values", &ask).await?;
    noted(session, &answer, &format!("set {} of {owner}", called(kind, name)), "it was so already")?;
    tell_not_deployed(session, &owner, kind, &BTreeSet::from([name])).await;
    Ok(())
}

/// `lap var set`.
pub async fn set_variables(session: &mut Session, words: &Words) -> Result<(), LapError> {
    let (owner, rest) = split(words)?;
    let mut pairs = Vec::new();
    let mut names = BTreeSet::new();
    let mut mistakes = Vec::new();
    for word in rest {
        let Some((name, value)) = word.split_once('=') else {
            mistakes.push(format!("`{}` has no value; one is written as NAME=VALUE", word.escape_debug()));
            continue;
        };
        mistakes.extend(why_not_called(ValueKind::Variable, name));
        if !names.insert(name) {
            mistakes.push(format!("the variable `{}` is given twice", name.escape_debug()));
        }
        pairs.push((name, value));
    }
    if !mistakes.is_empty() {
        return Err(LapError::Wrong(mistakes.join("; ")));
    }
    some(&pairs, "NAME=VALUE")?;
    for (name, value) in pairs {
        let (kind, value) = (ValueKind::Variable, value.to_owned());
        let ask = ask::SetValue { of: owner.of(), kind: kind.word().into(), name: name.into(), value, user: None };
        let answer = session.client.post("/v1/values", &ask).await?;
        noted(session, &answer, &format!("set {} of {owner}", called(kind, name)), "it was so already")?;
    }
    tell_not_deployed(session, &owner, ValueKind::Variable, &names).await;
    Ok(())
}

/// `lap secret ls`: secrets and the credentials for registries.
pub async fn secrets(session: &mut Session, owner: &ValueOwner) -> Result<(), LapError> {
    let mut all: Vec<serde_json::Value> = Vec::new();
    for kind in [ValueKind::Secret, ValueKind::Registry] {
        let answer = session.client.list(&address_of(owner, kind)).await?;
        all.extend(answer.read::<Vec<serde_json::Value>>()?);
    }
    if session.output.is_json() {
        return session.output.json_text(&serde_json::Value::from(all).to_string());
    }
    let values = serde_json::from_value(all.into()).map_err(crate::client::ClientError::NotUnderstood)?;
    table(session, values, owner, &format!("`lap secret set {} NAME` sets one", owner.words()))
}

/// `lap var ls`.
pub async fn variables(session: &mut Session, owner: &ValueOwner) -> Result<(), LapError> {
    let answer = session.client.list(&address_of(owner, ValueKind::Variable)).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    table(session, answer.read()?, owner, &format!("`lap var set {} NAME=VALUE` sets one", owner.words()))
}

fn table(session: &Session, values: Vec<view::Value>, owner: &ValueOwner, next: &str) -> Result<(), LapError> {
    if values.is_empty() {
        session.output.say(&format!("{owner} has none; {next}"));
        return Ok(());
    }
    session.output.table(&listing::values(&values, owner, amount::now_ms()))
}

/// `lap secret rm`.
pub async fn remove_secret(session: &mut Session, remove: &SecretRemove) -> Result<(), LapError> {
    let (owner, rest) = split(&remove.words)?;
    let (kind, name) = match (&remove.registry, rest) {
        (Some(host), []) => (ValueKind::Registry, host),
        (None, [name]) => (ValueKind::Secret, name),
        (Some(_), _) => return Err(LapError::Wrong("with --registry there is a path and no name".into())),
        (None, _) => return Err(LapError::Wrong("one secret at a time: `lap secret rm PATH NAME`".into())),
    };
    well_called(kind, name)?;
    remove_value(session, &owner, kind, name).await
}

/// `lap var rm`.
pub async fn remove_variables(session: &mut Session, words: &Words) -> Result<(), LapError> {
    let (owner, names) = split(words)?;
    some(names, "NAME")?;
    names.iter().try_for_each(|name| well_called(ValueKind::Variable, name))?;
    for name in names {
        remove_value(session, &owner, ValueKind::Variable, name).await?;
    }
    Ok(())
}

async fn remove_value(session: &mut Session, owner: &ValueOwner, kind: ValueKind, name: &str) -> Result<(), LapError> {
    // All that a good name may have, and a path may not.
    let name_in_path = name.replace('[', "%5B").replace(']', "%5D");
    let address = owner.url(&format!("/v1/values/{}/{name_in_path}", kind.word()), "");
    let answer = session.client.delete(&address).await?;
    let done = match kind {
        ValueKind::Registry => format!("removed {} of {owner}", called(kind, name)),
        ValueKind::Secret | ValueKind::Variable => {
            format!("removed {} of {owner}; jobs that have it keep it until the next deployment", called(kind, name))
        }
    };
    noted(session, &answer, &done, "it was so already")
}

/// `lap secret rotate-key`: the new key's fingerprint on stdout.
pub async fn rotate_key(session: &mut Session) -> Result<(), LapError> {
    let answer = session.client.post("/v1/values/key", &serde_json::json!({})).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let view::MasterKey { key, resealed, left } = answer.read()?;
    session.output.line(&printable(&key))?;
    let versions = amount::count(resealed.into(), "version");
    session.output.say(&format!("this key seals from now on; {versions} of values were sealed again"));
    session
        .output
        .say("copy the controller's master.keys to where its copy is kept: the old one opens no newer backup");
    for value in &left {
        session.output.say(&format!("warning: {} cannot be opened and was left as it is", printable(value)));
    }
    Ok(())
}

fn split(words: &Words) -> Result<(ValueOwner, &[String]), LapError> {
    words.split().map_err(|error: NotAPath| LapError::Wrong(error.to_string()))
}

fn some<T>(given: &[T], wanted: &str) -> Result<(), LapError> {
    let said = || LapError::Wrong(format!("no variable is named; after the path comes {wanted}"));
    if given.is_empty() { Err(said()) } else { Ok(()) }
}

fn well_called(kind: ValueKind, name: &str) -> Result<(), LapError> {
    why_not_called(kind, name).map_or(Ok(()), |why| Err(LapError::Wrong(why)))
}

fn called(kind: ValueKind, name: &str) -> String {
    format!("{} {name}", kind.noun())
}

fn address_of(owner: &ValueOwner, kind: ValueKind) -> String {
    owner.url("/v1/values", &format!("kind={}", kind.word()))
}

/// From a file, from a person without showing it, or from a pipe.
fn secret_value(set: &SecretSet, kind: ValueKind, name: &str, owner: &ValueOwner) -> Result<String, LapError> {
    let question = match kind {
        ValueKind::Registry => format!("password for {name} (it is not shown): "),
        ValueKind::Secret | ValueKind::Variable => format!("{} of {owner} (it is not shown): ", called(kind, name)),
    };
    let asked = match set.from_file {
        Some(_) => None,
        None => hidden_line(&question)?,
    };
    if let Some(line) = asked {
        if line.len() >= TERMINAL_LINE_BYTES {
            let said =
                "a terminal passes on no longer line than this, so part of it may be missing; use --from-file FILE";
            return Err(LapError::Wrong(said.into()));
        }
        // Here the line feed is the key that ends it, and never part of it.
        return value_of(line.strip_suffix('\n').unwrap_or(&line).into(), true);
    }
    // A little more than is taken, so that what is longer is known to be; the line feed that goes counts as well.
    let file = set.from_file.as_deref().unwrap_or(Path::new("-"));
    value_of(read_up_to(file, VALUE_BYTES as u64 + 2)?, set.keep_newline)
}

fn value_of(mut bytes: Vec<u8>, keep_newline: bool) -> Result<String, LapError> {
    if !keep_newline && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let wrong = |said: String| Err(LapError::Wrong(said));
    if bytes.is_empty() {
        return wrong("the value is empty, so nothing was set; did what should write it fail?".into());
    }
    if bytes.len() > VALUE_BYTES {
        return wrong(format!("the value has more than {} KiB, so nothing was set", VALUE_BYTES >> 10));
    }
    let not_text = "the value is not text in UTF-8, so nothing was set; encode it, with base64 for example";
    String::from_utf8(bytes).or_else(|_| wrong(not_text.into()))
}

/// Says which services have to be deployed for their jobs to get what was set. That it is set is true even if nobody
/// answers this.
async fn tell_not_deployed(session: &mut Session, owner: &ValueOwner, kind: ValueKind, names: &BTreeSet<&str>) {
    let listed = session.client.list(&address_of(owner, kind)).await;
    let values: Vec<view::Value> = match listed.and_then(|answer| answer.read()) {
        Ok(values) => values,
        Err(error) => {
            let said = format!("it is set; which services have to be deployed is not known: {error}");
            return session.output.say(&printable(&said));
        }
    };
    let waiting = values.iter().filter(|value| names.contains(value.name.as_str())).flat_map(|it| &it.not_deployed);
    let services: BTreeSet<&String> = waiting.collect();
    if services.is_empty() {
        return;
    }
    let commands: Vec<String> =
        services.iter().take(COMMANDS_NAMED).map(|path| format!("lap redeploy {}", printable(path))).collect();
    let more = match services.len().saturating_sub(COMMANDS_NAMED) {
        0 => String::new(),
        more => format!(", and so on for {}", amount::count(more as u64, "more service")),
    };
    session.output.say(&format!("not deployed yet; `{}` deploys it{more}", commands.join(" && ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_feed_at_the_end_of_a_value_goes_unless_it_is_kept() {
        let read = |text: &str, keep| value_of(text.into(), keep).ok();
        assert_eq!(read("x\n", false).as_deref(), Some("x"));
        assert_eq!(read("x\n\n", false).as_deref(), Some("x\n"));
        assert_eq!(read("x\r\n", false).as_deref(), Some("x\r"));
        assert_eq!(read("x\n", true).as_deref(), Some("x\n"));
        assert_eq!(read(" x ", false).as_deref(), Some(" x "));
        assert_eq!([read("", false), read("\n", false)], [None, None]);
    }

    #[test]
    fn a_value_is_text_of_at_most_32_kib() {
        let most = "x".repeat(VALUE_BYTES);
        assert_eq!(value_of(format!("{most}\n").into(), false).ok().map(|value| value.len()), Some(VALUE_BYTES));
        assert!(value_of(format!("{most}\n").into(), true).is_err());
        assert!(value_of(vec![0xff, b'a'], false).is_err());
    }
}
