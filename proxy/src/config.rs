//! What an operator may set: one TOML file, every key optional, unknown keys refused.

use crate::handover::MAX_SOCKETS;
use lapstrake_metrics::Endpoint;
use serde::{Deserialize, Deserializer, de};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what we understand; the cause names key, line and column.
    #[error("the configuration {} is wrong", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value is of the right type and of no use.
    #[error("the configuration {} is wrong: {key}: {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it must be.
        why: &'static str,
    },
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect. An IPv6 address takes IPv6 only, so that the two defaults stand beside each other whatever
    /// the machine's `bindv6only` says; a family that the kernel lacks is skipped as long as another address is left.
    pub listen: Vec<SocketAddr>,
    /// Where the control socket `<pid>.sock` is made.
    pub control_dir: PathBuf,
    /// The route table as the agent last wrote it. Only read here.
    pub table_file: PathBuf,
    /// How long requests and connections in flight may go on after SIGTERM.
    #[serde(deserialize_with = "span")]
    pub shutdown_grace: Duration,
    /// How long they may go on after a successor has taken over. Nobody waits for it: the successor serves meanwhile.
    #[serde(deserialize_with = "span")]
    pub handover_grace: Duration,
    /// Where Prometheus asks for the metrics: a loopback address (`127.0.0.1:9464`) or the path of a Unix socket. Nowhere
    /// unless it is said.
    pub metrics_listen: Option<Endpoint>,
    /// The access log: a file, a named pipe, or `stdout`. None unless it is said.
    pub access_log: Option<PathBuf>,
    /// How many threads serve; 0 means one per core.
    pub workers: usize,
    /// What is logged: a level (`info`), or a filter of tracing's (`lapstrake_proxy=debug`).
    pub log: String,
    /// What one client, one request and one service may take.
    pub limits: Limits,
}

/// Limits of size, time and number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Request line and headers together. At least 8192, which is the least that hyper can do.
    pub max_header_bytes: usize,
    /// From the first byte of a request's head to its last; on a new connection from the accept.
    #[serde(deserialize_with = "span")]
    pub header_timeout: Duration,
    /// How long a kept-alive connection of a client may wait for its next request.
    #[serde(deserialize_with = "span")]
    pub idle_timeout: Duration,
    /// To connect to a job. It is on this machine: two seconds is already an overloaded one.
    #[serde(deserialize_with = "span")]
    pub connect_timeout: Duration,
    /// From the last byte of the request that moved to the first of the job's answer.
    #[serde(deserialize_with = "span")]
    pub first_byte_timeout: Duration,
    /// How long a client may take nothing of what is sent to it, in an answer or after a change of protocol. Then its
    /// connection is closed, and what the job still has to say to it is not waited for.
    #[serde(deserialize_with = "span")]
    pub write_timeout: Duration,
    /// Connections of clients at the same time. The next ones are answered 503.
    pub max_connections: usize,
    /// Requests at the same time on one connection of HTTP/2. The next ones wait at the client.
    pub max_streams: u32,
    /// Requests and upgraded connections of one service at the same time. The next ones are answered 503.
    pub max_in_flight: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80),
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80),
            ],
            control_dir: PathBuf::from("/run/lapstrake/proxy"),
            table_file: PathBuf::from("/var/lib/lapstrake/agent/routes.json"),
            shutdown_grace: Duration::from_secs(10),
            // As long as a WebSocket or a download may be worth waiting for, and old processes do not pile up.
            handover_grace: Duration::from_secs(3600),
            metrics_listen: None,
            access_log: None,
            workers: 0,
            log: "info".to_owned(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_header_bytes: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            // Longer than the 60 s after which most clients and load balancers close by themselves: the side that
            // sends requests should be the one that closes, or a request can meet the closing.
            idle_timeout: Duration::from_secs(75),
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(60),
            // A phone that is out of reach in a tunnel is back within it; a page that nobody reads holds a connection of
            // its job no longer than a job may be silent.
            write_timeout: Duration::from_secs(60),
            // Two file descriptors each, below the 65,536 that systemd's units and containers usually allow.
            max_connections: 20_000,
            // The least that RFC 9113 recommends, and what browsers and gRPC's libraries count on.
            max_streams: 100,
            max_in_flight: 5_000,
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Config::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        let wrong = |key, why| Err(ConfigError::Value { path: path.to_owned(), key, why });
        if config.listen.is_empty() {
            return wrong("listen", "must name at least one address");
        }
        if config.listen.len() >= MAX_SOCKETS {
            return wrong("listen", "must name fewer than 64 addresses");
        }
        if config.limits.max_header_bytes < 8192 {
            return wrong("limits.max_header_bytes", "must be at least 8192");
        }
        if config.limits.max_connections == 0 {
            return wrong("limits.max_connections", "must be at least 1");
        }
        if config.limits.max_streams == 0 {
            return wrong("limits.max_streams", "must be at least 1");
        }
        if config.limits.max_in_flight == 0 {
            return wrong("limits.max_in_flight", "must be at least 1");
        }
        Ok(config)
    }
}

/// Reads `250ms`, `10s`, `2m` or `1h`.
fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_span(&text).ok_or_else(|| {
        de::Error::custom(format!(
            "`{text}` is not a span of time above zero like \"250ms\", \"10s\", \"2m\" or \"1h\""
        ))
    })
}

fn parse_span(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let milliseconds_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let milliseconds = digits.parse::<u64>().ok()?.checked_mul(milliseconds_per_unit)?;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    include!("../../packages/sample.rs");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("proxy.toml"))
    }

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name_and_line() {
        for text in ["log = \"info\"\nlisten_on = []\n", "[limits]\nmax_conections = 1\n"] {
            let error = parse(text).unwrap_err();
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains("line 2") && cause.contains("unknown field"), "{cause}");
        }
    }

    #[test]
    fn the_packages_sample_shows_every_key_with_its_default() {
        let sample = uncommented(include_str!("../../packages/lapstrake-agent/proxy.toml"));
        let mut read = parse(&sample).unwrap();
        // Off by default, so these are examples.
        (read.metrics_listen, read.access_log) = (None, None);
        assert_eq!(read, Config::default());
        for wrong in ["what = 1", "[limits]\nwhat = 1"] {
            assert_shows_all(&sample, &parse(wrong).unwrap_err().source().unwrap().to_string(), 5);
        }
    }

    #[test]
    fn spans_of_time_carry_their_unit() {
        assert_eq!(parse("[limits]\nconnect_timeout = \"250ms\"").unwrap().limits.connect_timeout.as_millis(), 250);
        for wrong in ["10", "s", "-1s", "0s", "1 s", "99999999999999999999s"] {
            assert!(parse(&format!("shutdown_grace = \"{wrong}\"")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_of_no_use_are_refused_by_key() {
        for (text, key) in [
            ("listen = []", "listen"),
            ("metrics_listen = \"0.0.0.0:9464\"", "wrong"),
            ("[limits]\nmax_header_bytes = 100", "limits.max_header_bytes"),
            ("[limits]\nmax_streams = 0", "limits.max_streams"),
            ("[limits]\nmax_in_flight = 0", "limits.max_in_flight"),
        ] {
            assert!(parse(text).unwrap_err().to_string().contains(key), "{text}");
        }
    }
}
