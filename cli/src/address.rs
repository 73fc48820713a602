//! Paths: `shop`, `shop/production`, `shop/production/web`, `node/<name>` for events.

use lapstrake_api::spec::Name;
use std::fmt;
use std::str::FromStr;

/// An application, an environment or a service: what listings are narrowed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below(String);

/// Exactly one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentPath {
    /// Its application's name.
    pub application: String,
    /// Its name.
    pub environment: String,
}

/// Exactly one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePath(String);

/// One service, or all of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesPath(String);

/// What values belong to: an application, an environment, a service, or the organization if it is none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValueOwner(Option<String>);

/// A node: machines' names have dots and capitals, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

/// Why a text is not the path that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPath {
    /// Too few or too many parts.
    #[error("{wanted} is written as `{example}`")]
    Parts {
        /// What is wanted.
        wanted: &'static str,
        /// How it looks.
        example: &'static str,
    },
    /// A part that can be no name.
    #[error("`{part}` is no name: {why}")]
    Part {
        /// The part.
        part: String,
        /// What is wrong with it.
        why: String,
    },
}

fn parts(text: &str) -> Result<Vec<&str>, NotAPath> {
    let parts: Vec<&str> = text.split('/').collect();
    for part in &parts {
        Name::from_str(part)
            .map_err(|error| NotAPath::Part { part: part.escape_debug().to_string(), why: error.to_string() })?;
    }
    Ok(parts)
}

impl FromStr for Below {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<Below, NotAPath> {
        if let Some(node) = text.strip_prefix("node/") {
            return node.parse().map(|NodeName(_)| Below(text.to_owned()));
        }
        match parts(text)?.len() {
            1..=3 => Ok(Below(text.to_owned())),
            _ => Err(NotAPath::Parts { wanted: "a path", example: "shop/production/web" }),
        }
    }
}

impl FromStr for ValueOwner {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<ValueOwner, NotAPath> {
        match parts(text)?.len() {
            1..=3 => Ok(ValueOwner(Some(text.to_owned()))),
            _ => Err(NotAPath::Parts { wanted: "a path", example: "shop/production/web" }),
        }
    }
}

impl ValueOwner {
    /// As the interface takes it.
    pub fn of(&self) -> Option<String> {
        self.0.clone()
    }

    /// An address with these fields of a query besides.
    pub fn url(&self, address: &str, more: &str) -> String {
        let of = self.0.iter().map(|path| format!("of={path}"));
        let more = (!more.is_empty()).then(|| more.to_owned());
        let query: Vec<String> = of.chain(more).collect();
        if query.is_empty() { address.to_owned() } else { format!("{address}?{}", query.join("&")) }
    }

    /// A service's path as it is said of this: `web` of what is in `shop/production`, nothing of the service itself.
    pub fn short<'p>(&self, path: &'p str) -> &'p str {
        let Some(rest) = self.0.as_deref().and_then(|own| path.strip_prefix(own)) else { return path };
        if rest.is_empty() { rest } else { rest.strip_prefix('/').unwrap_or(path) }
    }

    /// As it is written behind `lap secret set`.
    pub fn words(&self) -> &str {
        self.0.as_deref().unwrap_or("--organization")
    }
}

impl fmt::Display for ValueOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("the organization"))
    }
}

impl FromStr for NodeName {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<NodeName, NotAPath> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if !text.is_empty() && text.bytes().all(is_plain) && !text.bytes().all(|byte| byte == b'.') {
            return Ok(NodeName(text.to_owned()));
        }
        let why = "a node's name has only letters, digits, dots, dashes and underscores".to_owned();
        Err(NotAPath::Part { part: text.escape_debug().to_string(), why })
    }
}

impl Below {
    /// The path, when it is exactly one service's.
    pub fn service(&self) -> Option<ServicePath> {
        self.0.parse().ok()
    }

    /// As an address's query asks for it.
    pub fn query(below: Option<&Below>) -> String {
        below.map(|below| format!("?below={below}")).unwrap_or_default()
    }
}

impl FromStr for EnvironmentPath {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<EnvironmentPath, NotAPath> {
        match parts(text)?.as_slice() {
            [application, environment] => {
                Ok(EnvironmentPath { application: (*application).into(), environment: (*environment).into() })
            }
            _ => Err(NotAPath::Parts { wanted: "an environment", example: "shop/production" }),
        }
    }
}

impl FromStr for ServicePath {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<ServicePath, NotAPath> {
        match parts(text)?.len() {
            3 => Ok(ServicePath(text.to_owned())),
            _ => Err(NotAPath::Parts { wanted: "a service", example: "shop/production/web" }),
        }
    }
}

impl FromStr for ServicesPath {
    type Err = NotAPath;
    fn from_str(text: &str) -> Result<ServicesPath, NotAPath> {
        match parts(text)?.len() {
            2 | 3 => Ok(ServicesPath(text.to_owned())),
            _ => Err(NotAPath::Parts { wanted: "a service or an environment", example: "shop/production/web" }),
        }
    }
}

impl ServicesPath {
    /// Its address in the HTTP interface.
    pub fn url(&self) -> String {
        let kind = if self.0.split('/').count() == 2 { "envs" } else { "services" };
        format!("/v1/{kind}/{self}")
    }
}

impl fmt::Display for ServicesPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ServicePath {
    /// From the controller's own answer, which is not judged again.
    pub fn told(path: &str) -> ServicePath {
        ServicePath(path.to_owned())
    }

    /// Its address in the HTTP interface.
    pub fn url(&self) -> String {
        format!("/v1/services/{self}")
    }
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EnvironmentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.application, self.environment)
    }
}

impl fmt::Display for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_reach_another_address() {
        for text in
            ["", "shop/../nodes", "shop//web", "shop/production/web/", "shop?x=1", "a b", "shop/%2e/x", "a/b/c/d"]
        {
            text.parse::<Below>().expect_err(text);
        }
        for text in ["", "..", "a/b", "a?b", "a b", "node%2f"] {
            text.parse::<NodeName>().expect_err(text);
        }
        assert_eq!(
            "shop/production/web".parse::<ServicePath>().expect("a path").url(),
            "/v1/services/shop/production/web"
        );
    }

    #[test]
    fn a_services_path_is_shortened_by_whose_values_are_listed() {
        let path = "shop/production/web";
        for (owner, short) in
            [("shop", "production/web"), ("shop/production", "web"), (path, ""), ("sho", path), ("shop/prod", path)]
        {
            assert_eq!(owner.parse::<ValueOwner>().expect("a path").short(path), short, "{owner}");
        }
        assert_eq!(ValueOwner::default().short(path), path);
        assert_eq!(ValueOwner::default().url("/v1/values", "kind=secret"), "/v1/values?kind=secret");
        assert_eq!("a/b".parse::<ValueOwner>().expect("a path").url("/v1/values", "k=v"), "/v1/values?of=a/b&k=v");
        "node/Worker_1".parse::<ValueOwner>().expect_err("nodes have no values");
    }

    #[test]
    fn a_service_has_three_parts_and_an_environment_two() {
        assert_eq!(
            "shop/production".parse::<ServicePath>().expect_err("two parts").to_string(),
            "a service is written as `shop/production/web`"
        );
        assert_eq!("shop/production".parse::<EnvironmentPath>().expect("two parts").environment, "production");
        assert!("node/Worker_1.example.com".parse::<Below>().is_ok(), "events about a node have such a path");
    }
}
