//! Opens what a job gets, at the last moment before it gets it.

use crate::memory_files::{MemoryFiles, NewFile};
use crate::runtime::{Given, RegistryLogin};
use crate::vault::Vault;
use lapstrake_core::assignment::RunSpec;
use lapstrake_core::ids::ValueId;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::values::{Clear, GivenValue, Place};
use std::collections::BTreeMap;

/// The variables and files of an attempt, opened and written, or a sentence that names the value that is not to be had.
pub fn to_job(
    vault: &Vault,
    files: &MemoryFiles,
    attempt: Attempt,
    run: &RunSpec,
    values: &BTreeMap<ValueId, GivenValue>,
) -> Result<Given, String> {
    let mut variables = BTreeMap::new();
    let mut new_files = Vec::new();
    for one in &run.values {
        if one.place == Place::Registry {
            continue;
        }
        let Some(value) = values.get(&one.value) else {
            return Err(format!("the value of {} has not come to this node", one.place.name()));
        };
        let content = vault.open_value(one.value, value)?;
        match &one.place {
            Place::Variable(name) => {
                let text = text(&content).map_err(|why| format!("{} {why}", value.called))?;
                variables.insert(name.clone(), text.to_owned());
            }
            Place::File { path, mode } => new_files.push(NewFile { path: path.clone(), mode: *mode, content }),
            Place::Registry => {}
        }
    }
    Ok(Given { variables, files: files.write(attempt, &new_files)? })
}

/// The credentials of a pull, if there are any, or a sentence that names those that are not to be had.
pub fn login(
    vault: &Vault,
    login: Option<ValueId>,
    values: &BTreeMap<ValueId, GivenValue>,
) -> Result<Option<RegistryLogin>, String> {
    let Some(id) = login else { return Ok(None) };
    let Some(value) = values.get(&id) else {
        return Err("the credentials for the registry have not come to this node".into());
    };
    opened_login(vault, id, value).map(Some)
}

/// The credentials that a value is.
pub fn opened_login(vault: &Vault, id: ValueId, value: &GivenValue) -> Result<RegistryLogin, String> {
    let content = vault.open_value(id, value)?;
    RegistryLogin::read(&content.0).map_err(|why| format!("{} cannot be read: {why}", value.called))
}

/// What an environment variable can hold.
fn text(content: &Clear) -> Result<&str, &'static str> {
    match std::str::from_utf8(&content.0) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) => Err("has a zero byte, which no environment variable can hold; let it be a file"),
        Err(_) => Err("is not UTF-8 text, which an environment variable must be; let it be a file"),
    }
}
