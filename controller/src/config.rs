//! The controller's configuration: one TOML file, every key with a default, unknown keys refused.

use lapstrake::limits;
use lapstrake_core::time::Millis;
use lapstrake_metrics::Endpoint;
use lapstrake_pki::authority::NODE_LIFE;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// Where the file is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/lapstrake/controller.toml";

/// Watchers that were away for a while should find where they were.
const FEWEST_EVENTS: u64 = 1000;

/// What the file may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Store, certificate authority and first operator token live here. Created with mode 0700.
    pub state_dir: PathBuf,
    /// The operators' HTTPS.
    pub api_listen: SocketAddr,
    /// The agents' gRPC.
    pub control_listen: SocketAddr,
    /// `host:port` under which agents reach `control_listen`; printed with join tokens. By default the host's name with
    /// the port of `control_listen`.
    pub control_address: Option<String>,
    /// Further names and addresses that the operators' certificate is valid for, besides the host's own.
    pub api_names: Vec<String>,
    /// A certificate of your own for the operators' port, with its chain, PEM; without it the authority's is shown. Read
    /// again on SIGHUP. Needs `api_key`.
    pub api_certificate: Option<PathBuf>,
    /// The key of `api_certificate`, PEM.
    pub api_key: Option<PathBuf>,
    /// The file with the keys that secrets and variables are sealed with, as a credential of systemd is; one line each, the
    /// first seals. Without it the controller keeps its own, `master.keys` in `state_dir`.
    pub master_keys: Option<PathBuf>,
    /// How long a node's certificate counts, in seconds; nodes renew at 50 to 80 per cent of it. At least 10, at most a week.
    pub node_certificate_seconds: u64,
    /// The organization's name; only read when the store is made.
    pub organization: String,
    /// The domain of default hosts, `<service>-<environment>-<application>.<domain>`. `localhost` needs no DNS: it leads
    /// to the machine that asks. Another one than before counts for revisions that are made from then on.
    pub domain: String,
    /// So many events are kept for `lap events`; the oldest go first. At least 1000.
    pub events_kept: u64,
    /// Where Prometheus may ask for numbers: `127.0.0.1:9464`, or the absolute path of a Unix socket. By default nowhere.
    pub metrics_listen: Option<Endpoint>,
    /// What is logged, in tracing's filter syntax.
    pub log: String,
    /// How often somebody may ask the operators' HTTPS.
    pub rate: RateLimits,
    /// How many streams to jobs there may be: `lap exec`, `lap forward`.
    pub tunnels: TunnelLimits,
}

/// So long a stream may be silent at most: nobody waits longer for a command, and no clock's arithmetic overflows.
const MOST_IDLE_SECONDS: u64 = 7 * 24 * 3600;

/// How many streams to jobs there may be, and how long one may be silent. Each may take a quarter of a MiB of memory while
/// nobody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelLimits {
    /// With one token at once: a quarter of a node's, so that nobody alone takes all of them.
    pub per_token: usize,
    /// To one node at once; its agent takes no more than 64.
    pub per_node: usize,
    /// In all, at once.
    pub all: usize,
    /// A stream on which nothing was said for so many seconds is ended; at most a week.
    pub idle_seconds: u64,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        TunnelLimits { per_token: 16, per_node: limits::TUNNELS, all: 256, idle_seconds: 3600 }
    }
}

/// How often somebody may ask the operators' HTTPS. The defaults are far above what a team's dashboards and programs need,
/// and far below what keeps a controller from its work.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimits {
    /// Requests a second with one token, for as long as one likes.
    pub token_per_second: u32,
    /// And so many at once, after a time without any.
    pub token_burst: u32,
    /// Requests a second from one address (of IPv6 one /64), whatever they show. A whole office may stand behind one.
    pub address_per_second: u32,
    /// And so many at once.
    pub address_burst: u32,
    /// A token that is none counts as so many requests of its address.
    pub wrong_token_costs: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits {
            token_per_second: 100,
            token_burst: 1_000,
            address_per_second: 300,
            address_burst: 3_000,
            wrong_token_costs: 30,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            state_dir: "/var/lib/lapstrake/controller".into(),
            api_listen: SocketAddr::from(([0, 0, 0, 0], 7400)),
            control_listen: SocketAddr::from(([0, 0, 0, 0], 7401)),
            control_address: None,
            api_names: Vec::new(),
            api_certificate: None,
            api_key: None,
            master_keys: None,
            node_certificate_seconds: NODE_LIFE.0 / 1000,
            organization: "main".into(),
            domain: "localhost".into(),
            events_kept: 100_000,
            metrics_listen: None,
            log: "info".into(),
            rate: RateLimits::default(),
            tunnels: TunnelLimits::default(),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The text is not what this version understands. The message has line, column and the text.
    #[error("the configuration {path} is wrong: {said}")]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What the parser said.
        said: String,
    },
}

impl Config {
    /// How long a node's certificate counts.
    pub fn node_certificate_life(&self) -> Millis {
        Millis::secs(self.node_certificate_seconds)
    }

    /// Reads and checks the file. An absent file at the default path means defaults, anywhere else it is an error.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) => {
                return Ok(Config::default());
            }
            Err(source) => return Err(ConfigError::Unreadable { path: path.into(), source }),
        };
        let wrong = |said: String| ConfigError::Wrong { path: path.into(), said };
        let config: Config = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    /// Finds every value that cannot work, so that a person mends the file once.
    fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.state_dir.is_relative() {
            wrong.push(format!("state_dir = {:?} is relative; it must start with /", self.state_dir));
        }
        if self.api_listen == self.control_listen && self.api_listen.port() != 0 {
            wrong.push(format!("api_listen and control_listen are both {}; they need a port each", self.api_listen));
        }
        if let Some(address) = &self.control_address
            && address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
        {
            wrong.push(format!("control_address = {address:?} is not host:port"));
        }
        if self.api_certificate.is_some() != self.api_key.is_some() {
            wrong.push("api_certificate and api_key need each other; only one of them is there".into());
        }
        if !(10..=7 * 24 * 3600).contains(&self.node_certificate_seconds) {
            let said = self.node_certificate_seconds;
            wrong.push(format!("node_certificate_seconds = {said} must be between 10 and 604800, a week"));
        }
        for (key, value) in [("domain", &self.domain), ("organization", &self.organization)] {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            if value.is_empty() || value.len() > 200 || !value.chars().all(fits) {
                wrong.push(format!("{key} = {value:?} may only have a-z, 0-9, - and ."));
            }
        }
        if self.events_kept < FEWEST_EVENTS {
            wrong.push(format!("events_kept = {} is fewer than {FEWEST_EVENTS}", self.events_kept));
        }
        for name in self.api_names.iter().filter(|name| ServerName::try_from(name.as_str()).is_err()) {
            wrong.push(format!("api_names has {name:?}, which is no host name and no IP address"));
        }
        if let Err(error) = EnvFilter::try_new(&self.log) {
            wrong.push(format!("log = {:?} is no filter: {error}", self.log));
        }
        let rate = &self.rate;
        for (key, value) in [
            ("token_per_second", rate.token_per_second),
            ("token_burst", rate.token_burst),
            ("address_per_second", rate.address_per_second),
            ("address_burst", rate.address_burst),
        ] {
            if value == 0 {
                wrong.push(format!("rate.{key} = 0 lets nobody ask anything; it must be at least 1"));
            }
        }
        let TunnelLimits { per_token, per_node, all, idle_seconds } = self.tunnels;
        for (key, value) in [("per_token", per_token), ("per_node", per_node), ("all", all)] {
            if value == 0 {
                wrong.push(format!("tunnels.{key} = 0 lets nobody enter a job; it must be at least 1"));
            }
        }
        if per_node > limits::TUNNELS {
            let most = limits::TUNNELS;
            wrong.push(format!("tunnels.per_node = {per_node} is more than an agent takes; it must be at most {most}"));
        }
        if idle_seconds == 0 {
            wrong.push("tunnels.idle_seconds = 0 ends every stream at once; it must be at least 1".into());
        }
        if idle_seconds > MOST_IDLE_SECONDS {
            wrong.push(format!(
                "tunnels.idle_seconds = {idle_seconds} is too long; it must be at most {MOST_IDLE_SECONDS}, a week"
            ));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../packages/sample.rs");

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("controller.toml");
        std::fs::write(&path, text).expect("a file");
        Config::read(&path)
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(read("").expect("fine"), Config::default());
    }

    #[test]
    fn the_packages_sample_shows_every_key_with_its_default() {
        let sample = uncommented(include_str!("../../packages/lapstrake-controller/controller.toml"));
        let mut config = read(&sample).expect("a good file");
        // Not set by default, so these are examples.
        config.control_address = None;
        (config.api_certificate, config.api_key, config.master_keys, config.metrics_listen) = (None, None, None, None);
        assert_eq!(config, Config::default());
        for wrong in ["what = 1", "[rate]\nwhat = 1", "[tunnels]\nwhat = 1"] {
            assert_shows_all(&sample, &read(wrong).expect_err("refused").to_string(), 3);
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let said = read("domain = \"x.org\"\nstate-dir = \"/tmp\"\n").expect_err("refused").to_string();
        assert!(said.contains("line 2") && said.contains("state-dir"), "{said}");
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let said = read(
            "state_dir = \"here\"\ndomain = \"Ü\"\ncontrol_address = \"nowhere\"\nevents_kept = 1\nlog = \"a=b=c\"\n\
             api_names = [\"good.example.com\", \"two words\"]\n",
        )
        .expect_err("refused")
        .to_string();
        for part in ["state_dir", "domain", "control_address", "events_kept", "log = ", "two words"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_rate_that_lets_nobody_in_is_refused() {
        let said = read("[rate]\ntoken_burst = 0\naddress_per_second = 0\n").expect_err("refused").to_string();
        assert!(said.contains("rate.token_burst") && said.contains("rate.address_per_second"), "{said}");
        assert_eq!(read("[rate]\ntoken_burst = 7\n").expect("fine").rate.token_burst, 7);
    }

    #[test]
    fn a_node_is_given_no_more_streams_than_its_agent_takes() {
        let said = read("[tunnels]\nper_node = 65\n").expect_err("refused").to_string();
        assert!(said.contains("tunnels.per_node = 65 is more than an agent takes; it must be at most 64"), "{said}");
        assert_eq!(read("[tunnels]\nper_node = 64\n").expect("fine").tunnels.per_node, 64);
    }

    #[test]
    fn a_stream_may_be_silent_for_a_week_and_no_longer() {
        read("[tunnels]\nidle_seconds = 9223372036854775807\n").expect_err("refused");
        let said = read("[tunnels]\nidle_seconds = 604801\n").expect_err("refused").to_string();
        assert!(
            said.contains("tunnels.idle_seconds = 604801 is too long; it must be at most 604800, a week"),
            "{said}"
        );
        assert_eq!(read("[tunnels]\nidle_seconds = 604800\n").expect("fine").tunnels.idle_seconds, 604_800);
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let said = Config::read(Path::new("/nonexistent/controller.toml")).expect_err("refused").to_string();
        assert!(said.contains("/nonexistent/controller.toml"), "{said}");
    }
}
