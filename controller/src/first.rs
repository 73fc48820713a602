//! What the first start makes: the state folder and the first operator's token; and what this machine is called.

use crate::RunError;
use crate::config::Config;
use crate::engine::Engine;
use lapstrake_core::access::{Author, Grant, Role, Scope};
use lapstrake_core::cluster::command::{Command, NewOperatorToken};
use lapstrake_core::cluster::state::OperatorToken;
use lapstrake_core::ids::ClusterId;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::{Kind, Token};
use std::fs::{DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The first operator's name.
const FIRST_OPERATOR: &str = "admin";

/// Makes the state folder, for its owner only: keys and token hashes lie in it.
pub fn make_folder(path: &Path) -> Result<(), RunError> {
    let failed = |source| RunError::Folder { path: path.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}

/// Makes the first operator's token when there is none, and says in which file it is. The file is written before the
/// record: a crash between the two leaves a file that the next start replaces, never a token that nobody has.
pub async fn operator_token(
    engine: &Engine,
    state_dir: &Path,
    cluster: ClusterId,
    authority: Fingerprint,
) -> Result<PathBuf, RunError> {
    let path = state_dir.join("operator.token");
    let exists = engine.look(|look| look.cluster.all::<OperatorToken>().next().is_some());
    if exists.await.map_err(RunError::FirstToken)? {
        return Ok(path);
    }
    let token = Token::mint(Kind::Operator, cluster, authority);
    crate::ca::file::replace(&path, format!("{}\n", token.text()).as_bytes(), crate::ca::file::OWNER_ONLY)
        .map_err(|source| RunError::Folder { path: path.clone(), source })?;
    let new = NewOperatorToken {
        id: token.id,
        hash: token.secret.hash().to_hex(),
        name: FIRST_OPERATOR.into(),
        grant: Grant { role: Role::Admin, scope: Scope::Organization },
        lifetime: None,
    };
    engine.command(Command::CreateOperatorToken(new), Author::FirstStart).await.map_err(RunError::FirstToken)?;
    tracing::info!(file = %path.display(), "the first operator's token was made; give it to `lap login` and remove the file");
    Ok(path)
}

/// Names and addresses that the operators' certificate is valid for.
pub fn own_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(hostname());
    if !config.api_listen.ip().is_unspecified() {
        names.push(config.api_listen.ip().to_string());
    }
    names.extend(config.api_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Where agents reach a listener when nobody said so: by the host's name, or by the address that it listens on alone.
pub fn own_address(bound: SocketAddr) -> String {
    match hostname() {
        Some(name) if bound.ip().is_unspecified() => format!("{name}:{}", bound.port()),
        Some(_) | None => bound.to_string(),
    }
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
