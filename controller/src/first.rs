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
use rustls::pki_types::ServerName;
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
    names(config, hostname())
}

/// Where agents reach a listener when nobody said so: by the host's name, or by the address that it listens on alone.
pub fn own_address(bound: SocketAddr) -> String {
    let address = address(bound, hostname());
    if address == bound.to_string() && bound.ip().is_unspecified() {
        tracing::warn!(%address, "join tokens name an address that nobody can dial: set control_address");
    }
    address
}

fn names(config: &Config, host: Option<String>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(host);
    if !config.api_listen.ip().is_unspecified() {
        names.push(config.api_listen.ip().to_string());
    }
    names.extend(config.api_names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn address(bound: SocketAddr, host: Option<String>) -> String {
    match host {
        Some(name) if bound.ip().is_unspecified() => format!("{name}:{}", bound.port()),
        Some(_) | None => bound.to_string(),
    }
}

/// The host's name as the kernel has it: the service sees nothing of /proc but its processes.
fn hostname() -> Option<String> {
    dns_name(nix::unistd::gethostname().ok()?.into_string().ok()?)
}

/// Linux takes host names that DNS does not. Nobody can dial those, and no certificate can be for them.
fn dns_name(name: String) -> Option<String> {
    ServerName::try_from(name.as_str()).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_tokens_name_the_host_when_the_controller_listens_everywhere() {
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 7401));
        let host = hostname().expect("a machine that runs tests has a name");
        assert_eq!(own_address(everywhere), format!("{host}:7401"));
        assert_eq!(own_address(SocketAddr::from(([192, 0, 2, 1], 7401))), "192.0.2.1:7401");
        assert!(own_names(&Config::default()).contains(&host));
    }

    #[test]
    fn a_host_name_that_no_certificate_can_be_for_is_left_out() {
        for name in ["two words", "-", "", "a..b", &"x".repeat(64)] {
            assert_eq!(dns_name(name.into()), None, "{name}");
        }
        assert_eq!(dns_name("web-1.example.com".into()).as_deref(), Some("web-1.example.com"));
        let names = names(&Config::default(), None);
        assert_eq!(names, ["127.0.0.1", "::1", "localhost"]);
    }
}
