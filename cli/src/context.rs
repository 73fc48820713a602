//! Which controller, and who asks: the command line, then the environment, then the stored context. A context that is
//! named on the command line comes before the environment.
//!
//! `lap login` stores contexts in `$XDG_CONFIG_HOME/lapstrake/lap.toml`, readable by its owner alone, as it holds tokens.

use crate::client::{Roots, RootsError, Trust};
use crate::error::Exit;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::{Token, TokenError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The name of a context that nobody named.
const DEFAULT_NAME: &str = "default";

/// The controller's port for operators when an address names none.
const DEFAULT_PORT: u16 = 7400;

/// All that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one that counts unless another is named.
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// A controller and a token for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `https://host:port`.
    pub url: String,
    /// The operator's token.
    pub token: String,
    /// Fingerprints of roots that are trusted besides the one that the token names: those that took its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
    /// Roots, PEM, that lead to the certificate which the controller shows under the name in `url`: trusted there instead of
    /// the authority that the token names, and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The same with the roots that this system trusts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub system_roots: bool,
}

impl Context {
    /// By what the controller at `url` is recognised, if not by its authority.
    pub fn own_trust(&self) -> Result<Option<Roots>, RootsError> {
        match &self.ca {
            Some(pem) => Roots::from_pem(pem, "the file that was given at `lap login`").map(Some),
            None if self.system_roots => Roots::of_the_system().map(Some),
            None => Ok(None),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why it is not known whom to ask.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Nothing names a controller.
    #[error("no controller is known: `lap login URL` stores one, LAP_URL or --url names one")]
    NoController,
    /// Nothing gives a token.
    #[error("no token is known for {0}: `lap login {0}` stores one, LAP_TOKEN or --token gives one")]
    NoToken(String),
    /// A context that is not stored.
    #[error("there is no context {0}; `lap context ls` names those that there are")]
    NoContext(String),
    /// The name belongs to another controller's context.
    #[error(
        "the context {name} is for {url}: `--context NAME` stores this controller beside it, `--force` in its place"
    )]
    Taken {
        /// The context.
        name: String,
        /// Its controller.
        url: String,
    },
    /// An address that is none.
    #[error("`{0}` is no controller's address; one is written as https://controller.example.com:{DEFAULT_PORT}")]
    NotAnAddress(String),
    /// A fingerprint that is none.
    #[error("`{0}` is no fingerprint; one is 64 hexadecimal digits, as `lap ca show` prints them")]
    NotAFingerprint(String),
    /// Without TLS.
    #[error("{0} has no TLS, and the controller speaks nothing else; write https://")]
    NoTls(String),
    /// A token that is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No roots to trust.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// The file cannot be understood.
    #[error("{file} cannot be understood; mend it, or remove it and log in again")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file cannot be written.
    #[error("{file} cannot be written")]
    Unwritable {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No home.
    #[error("neither XDG_CONFIG_HOME nor HOME says where to store it; give --url and --token instead")]
    NoHome,
}

impl ContextError {
    /// Most of these are the command line's or its environment's fault.
    pub fn exit(&self) -> Exit {
        match self {
            ContextError::Unwritable { .. } => Exit::Failed,
            ContextError::Taken { .. } => Exit::Refused,
            _ => Exit::Wrong,
        }
    }
}

/// Where contexts are stored.
pub fn file() -> Result<PathBuf, ContextError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    Ok(config.ok_or(ContextError::NoHome)?.join("lapstrake/lap.toml"))
}

impl Contexts {
    /// What is stored; nothing when there is no file.
    pub fn load(file: &Path) -> Result<Contexts, ContextError> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(ContextError::Unreadable { file: file.into(), source: error.into() }),
        };
        // The parser's own message quotes the line, which may hold a token.
        toml::from_str(&text).map_err(|error: toml::de::Error| ContextError::Unreadable {
            file: file.into(),
            source: error.message().to_owned().into(),
        })
    }

    /// Stores it: a new file beside the old one takes its name, so that there is always a whole one.
    pub fn store(&self, file: &Path) -> Result<(), ContextError> {
        self.write(file).map_err(|source| ContextError::Unwritable { file: file.into(), source })
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        if let Some(folder) = file.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let beside = file.with_extension(format!("toml.{}", std::process::id()));
        let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let done = written.write_all(text.as_bytes()).and_then(|()| written.sync_all());
        done.and_then(|()| fs::rename(&beside, file)).inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }

    /// The roots that are trusted for a token besides the one that it names.
    pub fn roots_for(&self, token: &Token) -> Vec<Fingerprint> {
        let text = token.text();
        let same = self.contexts.values().filter(|context| context.token == text);
        same.flat_map(|context| &context.roots).filter_map(|root| Fingerprint::from_hex(root)).collect()
    }

    /// Trusts one more root wherever this token is stored. False when it is stored nowhere.
    pub fn trust(&mut self, token: &Token, root: Fingerprint) -> bool {
        let (text, root) = (token.text(), root.to_string());
        let mut found = false;
        for context in self.contexts.values_mut().filter(|context| context.token == text) {
            found = true;
            if !context.roots.contains(&root) {
                context.roots.push(root.clone());
            }
        }
        found
    }

    /// The context of this name, or the current one.
    pub fn find(&self, name: Option<&str>) -> Result<Option<&Context>, ContextError> {
        match name {
            Some(name) => match self.contexts.get(name) {
                Some(context) => Ok(Some(context)),
                None => Err(ContextError::NoContext(name.to_owned())),
            },
            None => Ok(self.current.as_ref().and_then(|name| self.contexts.get(name))),
        }
    }
}

impl Context {
    /// Whether both are for the same controller: by its address, or by the authority that the tokens name.
    fn is_of_the_same_controller(&self, other: &Context) -> bool {
        let authority = |context: &Context| Token::operator(&context.token).ok().map(|token| token.authority);
        self.url == other.url || authority(self).is_some_and(|own| authority(other) == Some(own))
    }
}

impl Contexts {
    /// Puts a context under a name and makes it the current one. Without a name it is the current one's, which must not be
    /// another controller's unless `force` says so.
    pub fn put(&mut self, name: Option<String>, context: Context, force: bool) -> Result<String, ContextError> {
        let is_named = name.is_some();
        let name = name.or_else(|| self.current.clone()).unwrap_or_else(|| DEFAULT_NAME.into());
        if let Some(held) = self.contexts.get(&name)
            && !is_named
            && !force
            && !held.is_of_the_same_controller(&context)
        {
            return Err(ContextError::Taken { name, url: held.url.clone() });
        }
        self.contexts.insert(name.clone(), context);
        self.current = Some(name.clone());
        Ok(name)
    }
}

/// What the command line and the environment say about whom to ask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// `--url` or `LAP_URL`.
    pub url: Option<String>,
    /// `--token` or `LAP_TOKEN`.
    pub token: Option<String>,
    /// `--context` or `LAP_CONTEXT`.
    pub context: Option<String>,
}

/// A controller's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// As people write it.
    pub url: String,
}

impl std::str::FromStr for Address {
    type Err = ContextError;
    fn from_str(text: &str) -> Result<Address, ContextError> {
        let text = text.trim();
        let wrong = || ContextError::NotAnAddress(text.escape_debug().to_string());
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: http::Uri = with_scheme.parse().map_err(|_| wrong())?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(ContextError::NoTls(text.to_owned())),
            _ => return Err(wrong()),
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.host().is_empty() {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Address { url: format!("https://{}:{port}", authority.host()), host, port })
    }
}

impl Wish {
    /// The address alone, for those who need no token.
    pub fn address(&self, stored: &Contexts) -> Result<Address, ContextError> {
        let context = stored.find(self.context.as_deref())?;
        let url = self.url.as_deref().or(context.map(|context| context.url.as_str()));
        url.ok_or(ContextError::NoController)?.parse()
    }

    /// The address, the token, and whom the token may be shown to. A token only ever goes to the controller whose authority
    /// it names, or to the one address for which other roots are stored with it, so that mixing a given address with a
    /// stored token can reveal nothing.
    pub fn resolve(&self, stored: &Contexts) -> Result<(Address, Token, Trust), ContextError> {
        let address = self.address(stored)?;
        let context = stored.find(self.context.as_deref())?;
        let token = self.token.as_deref().or(context.map(|context| context.token.as_str()));
        let token = Token::operator(token.ok_or_else(|| ContextError::NoToken(address.url.clone()))?)?;
        let is_meant = |context: &&Context| context.url == address.url && context.token == token.text();
        let own = context.filter(is_meant).map(Context::own_trust).transpose()?.flatten();
        let trust = own.map_or_else(|| Trust::Pinned(stored.roots_for(&token)), Trust::Roots);
        Ok((address, token, trust))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::ClusterId;
    use lapstrake_pki::authority::Authority;
    use lapstrake_pki::mint;
    use lapstrake_pki::token::Kind;
    use std::os::unix::fs::PermissionsExt as _;

    fn context(url: &str, token: &str) -> Context {
        Context { url: url.into(), token: token.into(), roots: Vec::new(), ca: None, system_roots: false }
    }

    #[test]
    fn roots_that_are_stored_with_a_login_count_for_its_address_and_its_token_alone() {
        let authority = Authority::create(ClusterId(1), mint::wall()).expect("an authority");
        let [token, other] =
            [(); 2].map(|()| Token::mint(Kind::Operator, ClusterId(1), authority.fingerprint()).text());
        let ca = Some(authority.certificate_pem().to_owned());
        let mut stored = Contexts { current: Some("a".into()), ..Contexts::default() };
        stored.contexts.insert("a".into(), Context { ca, ..context("https://a:1", &token) });
        let trust = |wish: Wish| wish.resolve(&stored).expect("resolved").2;
        let (url, token) = (Some("https://a:1".to_owned()), Some(token));
        assert!(matches!(trust(Wish::default()), Trust::Roots(roots) if roots.count() == 1));
        assert!(matches!(trust(Wish { url: url.clone(), token: token.clone(), context: None }), Trust::Roots(_)));
        // Anybody can have a certificate for another name: there the authority is asked for.
        let elsewhere = Wish { url: Some("https://b:1".into()), ..Wish::default() };
        assert!(matches!(trust(elsewhere), Trust::Pinned(_)));
        assert!(matches!(trust(Wish { url, token: Some(other), context: None }), Trust::Pinned(_)));
    }

    #[test]
    fn an_address_may_leave_out_what_is_clear() {
        let url = |text: &str| text.parse::<Address>().map(|address| address.url).map_err(|error| error.to_string());
        assert_eq!(url("controller.example.com").as_deref(), Ok("https://controller.example.com:7400"));
        assert_eq!(url("https://10.0.0.1:8443/").as_deref(), Ok("https://10.0.0.1:8443"));
        assert_eq!("https://[::1]:1".parse::<Address>().expect("an address").host, "::1");
        assert!(url("http://c:7400").expect_err("no TLS").contains("https://"));
        for wrong in ["", "https://", "ftp://c", "https://a@b", "https://c/v1", "a b"] {
            url(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn contexts_are_stored_for_their_owner_alone_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config/lapstrake/lap.toml");
        let context = Context { roots: vec!["00".into()], ..context("https://c:7400", "lapo1_x") };
        let mut stored = Contexts::default();
        stored.contexts.insert("default".into(), context.clone());
        stored.current = Some("default".into());
        stored.store(&file).expect("stored");
        stored.store(&file).expect("stored again");
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(Contexts::load(&file).expect("read"), stored);
        assert!(!format!("{context:?}").contains("lapo1"));
    }

    #[test]
    fn a_root_that_took_anothers_place_is_trusted_for_its_token_and_no_other() {
        let mint = || {
            let (cluster, root) = (lapstrake_core::ids::ClusterId(1), Fingerprint::of(b"old"));
            Token::mint(lapstrake_pki::token::Kind::Operator, cluster, root)
        };
        let (ours, other) = (mint(), mint());
        let mut stored = Contexts::default();
        for (name, token) in [("a", &ours), ("b", &other)] {
            stored.contexts.insert(name.into(), context("https://c:1", &token.text()));
        }
        let next = Fingerprint::of(b"next");
        assert!(stored.trust(&ours, next) && stored.trust(&ours, next));
        assert_eq!((stored.roots_for(&ours), stored.roots_for(&other)), (vec![next], vec![]));
        assert!(!stored.trust(&mint(), next), "a token that is not stored");
    }

    #[test]
    fn the_command_line_comes_before_the_stored_context() {
        let mut stored = Contexts { current: Some("a".into()), ..Contexts::default() };
        stored.contexts.insert("a".into(), context("https://a:1", ""));
        stored.contexts.insert("b".into(), context("https://b:1", ""));
        let address = |wish: Wish| wish.address(&stored).map(|address| address.host).map_err(|error| error.to_string());
        assert_eq!(address(Wish::default()).as_deref(), Ok("a"));
        assert_eq!(address(Wish { context: Some("b".into()), ..Wish::default() }).as_deref(), Ok("b"));
        assert_eq!(address(Wish { url: Some("c".into()), ..Wish::default() }).as_deref(), Ok("c"));
        assert!(
            address(Wish { context: Some("z".into()), ..Wish::default() })
                .expect_err("unknown")
                .contains("no context z")
        );
        assert!(matches!(Wish::default().resolve(&Contexts::default()), Err(ContextError::NoController)));
    }
}
