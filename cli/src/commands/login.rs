//! Which controllers there are, and that they are the right ones.

use super::stored;
use crate::args::{Common, Login};
use crate::client::{Client, Roots, RootsError, Trust, read_roots};
use crate::context::{self, Address, Context, ContextError, Wish};
use crate::error::LapError;
use crate::input::{hidden_line, read_up_to};
use crate::output::{Output, printable};
use crate::show::table::{Column, Table};
use lapstrake_api::view;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::Token;
use std::io;
use std::path::Path;

/// Longer than any token, so that a wrong file is not read whole.
const MAX_TOKEN_BYTES: u64 = 4096;

/// `lap login`: stored only after the controller proved to be the token's, and the token to be the controller's.
pub async fn login(common: &Common, login: &Login) -> Result<(), LapError> {
    let output = Output::new(common.output);
    let wish = common.wish();
    let file = context::file()?;
    let mut contexts = context::Contexts::load(&file)?;
    // A context of that name need not be there yet; if it is, its address is the one that is meant.
    let named = wish.context.clone().filter(|name| contexts.contexts.contains_key(name));
    let known = Wish { context: named, token: None, url: login.address.clone().or(wish.url) };
    let address: Address = known.address(&contexts)?;
    let text = match (&login.given, &login.token_file, wish.token) {
        (Some(given), _, _) => given.clone(),
        (None, Some(file), _) => read_token(file)?,
        (None, None, Some(token)) => token,
        (None, None, None) => ask_for_token()?,
    };
    let token = Token::operator(&text).map_err(ContextError::Token)?;
    let roots: Vec<Fingerprint> = match &login.fingerprint {
        Some(text) => vec![Fingerprint::from_hex(text).ok_or_else(|| ContextError::NotAFingerprint(text.clone()))?],
        None => contexts.roots_for(&token),
    };
    let context = Context {
        url: address.url.clone(),
        token: token.text(),
        roots: roots.iter().map(Fingerprint::to_string).collect(),
        // The roots themselves: the file may be gone or another one when the next command is given.
        ca: login
            .ca_file
            .as_deref()
            .map(|file| read_roots(file).map(|pem| Roots::only_certificates(&pem)))
            .transpose()
            .map_err(ContextError::Roots)?,
        system_roots: login.system_roots,
    };
    let own = context.own_trust().map_err(|error| in_file(error, login.ca_file.as_deref()))?;
    let trust = own.map_or(Trust::Pinned(roots), Trust::Roots);
    let name = contexts.put(wish.context, context, login.force)?;

    let mut client = Client::new(address.clone(), token.clone(), trust.clone());
    let version: view::Version = client.get("/v1/version").await?.read()?;
    // The version is told to everybody; this needs the token.
    client.get("/v1/apps").await?;

    if let Some((token, root)) = client.successor() {
        contexts.trust(token, root);
    }
    let recognised = match &trust {
        Trust::Pinned(_) => {
            let trusted = std::iter::once(token.authority).chain(contexts.roots_for(&token));
            let fingerprints = trusted.map(|root| root.to_string()).collect::<Vec<_>>().join(" or ");
            format!("the controller's authority has the fingerprint {fingerprints}; lap speaks to no other")
        }
        Trust::Roots(roots) => {
            let (count, whose) = (roots.count(), login.ca_file.as_ref().map(|file| file.display().to_string()));
            let whose = whose.unwrap_or_else(|| roots.whose().to_owned());
            format!(
                "lap speaks to whoever has a certificate for {} by one of the {count} roots of {whose}, and not by the \
                 authority that the token names",
                address.host
            )
        }
    };
    contexts.store(&file)?;
    output.say(&format!(
        "logged in to {} (organization {}, version {}) as context {name}",
        address.url,
        printable(&version.organization),
        printable(&version.version)
    ));
    output.say(&printable(&recognised));
    Ok(())
}

/// A stored text has no name; at the login it is still the file's.
fn in_file(error: RootsError, file: Option<&Path>) -> ContextError {
    match (error, file) {
        (RootsError::NotRoots { said, .. }, Some(file)) => {
            RootsError::NotRoots { file: file.display().to_string(), said }.into()
        }
        (error, _) => error.into(),
    }
}

fn read_token(file: &Path) -> Result<String, LapError> {
    let bytes = read_up_to(file, MAX_TOKEN_BYTES)?;
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not text");
    String::from_utf8(bytes)
        .map_err(not_text)
        .map_err(|source| LapError::Unreadable { file: file.display().to_string(), source })
}

/// From a person without showing it, or from a pipe.
fn ask_for_token() -> Result<String, LapError> {
    match hidden_line("operator's token (it is not shown): ")? {
        Some(token) => Ok(token),
        None => read_token(Path::new("-")),
    }
}

/// `lap context ls`. Tokens are not shown, not even as JSON.
pub fn list(common: &Common) -> Result<(), LapError> {
    let output = Output::new(common.output);
    let contexts = stored()?;
    let is_current = |name: &String| contexts.current.as_ref() == Some(name);
    if output.is_json() {
        let shown = contexts.contexts.iter().map(
            |(name, context)| serde_json::json!({ "name": name, "url": context.url, "current": is_current(name) }),
        );
        return output.json_text(&serde_json::Value::from_iter(shown).to_string());
    }
    let mut table = Table::new([Column::new("CONTEXT"), Column::new("CURRENT"), Column::new("URL").cut_to(10)]);
    for (name, context) in &contexts.contexts {
        let current = if is_current(name) { "yes" } else { "" };
        table.row([name.into(), current.into(), (&context.url).into()]);
    }
    if table.is_empty() {
        output.say("no controller is stored; `lap login URL` stores one");
        return Ok(());
    }
    output.table(&table)
}

/// `lap context use`.
pub fn choose(name: &str) -> Result<(), LapError> {
    let file = context::file()?;
    let mut contexts = context::Contexts::load(&file)?;
    contexts.find(Some(name))?;
    contexts.current = Some(name.to_owned());
    contexts.store(&file)?;
    Ok(())
}

/// `lap version`: ours always, the controller's where one is known.
pub async fn version(common: &Common) -> Result<(), LapError> {
    let output = Output::new(common.output);
    let ours = env!("CARGO_PKG_VERSION");
    let asked = match common.wish().resolve(&stored()?) {
        Ok((address, token, trust)) => {
            let url = address.url.clone();
            let answer = Client::new(address, token, trust).get("/v1/version").await;
            Some((url, answer.and_then(|answer| answer.read::<view::Version>())))
        }
        Err(ContextError::NoController | ContextError::NoToken(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let (url, controller) = match asked {
        Some((url, answer)) => (Some(url), Some(answer)),
        None => (None, None),
    };
    if output.is_json() {
        let known = controller.as_ref().and_then(|answer| answer.as_ref().ok());
        output.json_text(&serde_json::json!({ "lap": ours, "controller": known }).to_string())?;
    } else {
        output.line(&format!("lap         {ours}"))?;
        if let (Some(Ok(version)), Some(url)) = (&controller, &url) {
            let of =
                format!("{} (organization {}, cluster {})", version.version, version.organization, version.cluster);
            output.line(&format!("controller  {} at {url}", printable(&of)))?;
        }
    }
    match controller {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Ok(()),
    }
}
