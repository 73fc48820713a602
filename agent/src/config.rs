//! The agent's configuration: one TOML file, every key optional, unknown keys refused with their line.

use lapstrake_core::node::disk::Marks;
use lapstrake_core::node::seen::NodeConfig;
use lapstrake_core::time::Millis;
use lapstrake_metrics::Endpoint;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// What the operator configured, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's name when it joins. Empty for the machine's host name.
    pub name: String,
    /// The ledger, the node's key and certificate.
    pub state_dir: PathBuf,
    /// Sockets and locks that a reboot may take.
    pub run_dir: PathBuf,
    /// The key that secrets are sealed with on this node, for example a systemd credential. Empty for `seal.key` in
    /// `state_dir`, which the agent makes itself.
    pub seal_key: PathBuf,
    /// Where jobs' secrets that are files lie: on a tmpfs. Empty for `files` in `run_dir`.
    pub memory_dir: PathBuf,
    /// The engine's socket. Empty for `DOCKER_HOST`, and without that the usual socket.
    pub docker_host: String,
    /// Where Prometheus may ask for numbers: `127.0.0.1:9465`, or the absolute path of a Unix socket. By default nowhere.
    pub metrics_listen: Option<Endpoint>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter as tracing reads it.
    pub log: String,
    /// Addresses and rules.
    pub network: Network,
    /// What jobs do not get.
    pub reserved: Reserved,
    /// How the proxies are reached.
    pub proxy: Proxy,
    /// Limits on work at once.
    pub bounds: Bounds,
    /// When a disk counts as full, and how long images stay.
    pub disk: Disk,
    /// How much of a job's output is kept.
    pub logs: Logs,
}

/// Addresses of jobs, and the table that keeps environments apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Environments get their subnets from here.
    pub pool: Pool,
    /// The prefix length of one environment's subnet.
    pub subnet_prefix: u8,
    /// The name of our nftables table. Another one only where two agents share a network namespace.
    pub nft_table: String,
}

/// A range of addresses, written `10.201.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pool {
    /// The first address.
    pub base: Ipv4Addr,
    /// The prefix length.
    pub prefix: u8,
}

impl TryFrom<String> for Pool {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a range of addresses such as \"10.201.0.0/16\"");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=28).contains(&prefix) {
            return Err(format!("{text:?}: the prefix length must be from 8 to 28"));
        }
        if u32::from(base) & (u32::MAX >> prefix) != 0 {
            return Err(format!("{text:?}: the address has bits behind its prefix"));
        }
        Ok(Pool { base, prefix })
    }
}

/// The system's share, which jobs do not get.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reserved {
    /// In percent of the cores.
    pub cpu_percent: u8,
    /// In percent of the memory.
    pub memory_percent: u8,
}

/// Where proxies listen for their tables.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// Each live proxy has a socket `<pid>.sock` here. Empty for `proxy` in `run_dir`.
    pub control_dir: PathBuf,
    /// What a starting proxy reads. Empty for `routes.json` in `state_dir`.
    pub table_file: PathBuf,
}

/// Limits on work at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Containers made and started at once. 8: on two cores a loop over the engine's interface made fifty in 9.3 to 9.6 s at
    /// this width, in 12.4 to 14.7 s at 4, and no sooner at 16 (docs/BENCHMARKS.md).
    pub starts: usize,
    /// Images pulled at once. 2: one slow registry does not hold up another, and the disk is not the place of a race.
    pub pulls: usize,
}

/// The marks of the disks that hold the engine's data and `state_dir`, in percent of their bytes or of their inodes, whichever
/// are nearer to their end; and how long images stay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// From here on images that nothing needs are removed at once. 85: what is left holds a large image and its layers'
    /// copies on a disk of 40 GB.
    pub high_percent: u8,
    /// From here on no new job begins here. 95, as file systems keep 5 percent for root.
    pub critical_percent: u8,
    /// Below the high mark an image stays for so long after nothing needs it any more.
    pub keep_images_minutes: u32,
}

/// The engine's log files of one container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// A file that has become so large is put aside.
    pub max_size_mib: u32,
    /// So many files are kept, with the one that is written.
    pub max_files: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: String::new(),
            state_dir: "/var/lib/lapstrake/agent".into(),
            run_dir: "/run/lapstrake".into(),
            seal_key: PathBuf::new(),
            memory_dir: PathBuf::new(),
            docker_host: String::new(),
            metrics_listen: None,
            log: "info".into(),
            network: Network::default(),
            reserved: Reserved::default(),
            proxy: Proxy { control_dir: PathBuf::new(), table_file: PathBuf::new() },
            bounds: Bounds::default(),
            disk: Disk::default(),
            logs: Logs::default(),
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        let pool = Pool { base: Ipv4Addr::new(10, 201, 0, 0), prefix: 16 };
        Network { pool, subnet_prefix: 24, nft_table: "lapstrake".into() }
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Reserved { cpu_percent: 5, memory_percent: 10 }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy { control_dir: PathBuf::new(), table_file: PathBuf::new() }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { starts: 8, pulls: 2 }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Disk { high_percent: 85, critical_percent: 95, keep_images_minutes: 60 }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Logs { max_size_mib: 10, max_files: 3 }
    }
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or a value is wrong; the text shows the line.
    #[error("{path}: {said}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// The mistake with its line.
        said: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|said| ConfigError::Wrong { path: path.to_owned(), said })
    }

    /// Reads and checks a text, and fills in what depends on other keys and on the machine.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.completed()
    }

    /// Checks what a type cannot say and fills in what depends on other keys and on the machine.
    pub fn completed(mut self) -> Result<Self, String> {
        if self.network.subnet_prefix <= self.network.pool.prefix || self.network.subnet_prefix > 29 {
            return Err(format!(
                "network.subnet_prefix {} must be longer than the pool's {} and at most 29",
                self.network.subnet_prefix, self.network.pool.prefix
            ));
        }
        let table = &self.network.nft_table;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if table.is_empty()
            || table.len() > 64
            || !table.chars().all(plain)
            || table.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(format!("network.nft_table {table:?} must be a word of letters, digits and _"));
        }
        if self.reserved.cpu_percent > 90 || self.reserved.memory_percent > 90 {
            return Err("reserved: more than 90 percent leaves no room for jobs".into());
        }
        if self.bounds.starts == 0 || self.bounds.pulls == 0 {
            return Err("bounds: starts and pulls must be at least 1".into());
        }
        let Disk { high_percent, critical_percent, .. } = self.disk;
        if high_percent == 0 || high_percent > critical_percent || critical_percent > 100 {
            return Err(format!(
                "disk: high_percent {high_percent} must be from 1 to critical_percent {critical_percent}, and that at most 100"
            ));
        }
        if self.logs.max_size_mib == 0 || self.logs.max_files == 0 {
            return Err("logs: max_size_mib and max_files must be at least 1".into());
        }
        if self.name.is_empty() {
            self.name = std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map(|name| name.trim().to_owned())
                .map_err(|error| format!("name: not given, and the machine's host name cannot be read: {error}"))?;
        }
        if self.docker_host.is_empty() {
            let usual = || "unix:///var/run/docker.sock".to_owned();
            self.docker_host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(usual);
        }
        if self.memory_dir.as_os_str().is_empty() {
            self.memory_dir = self.run_dir.join("files");
        }
        if self.proxy.control_dir.as_os_str().is_empty() {
            self.proxy.control_dir = self.run_dir.join("proxy");
        }
        if self.proxy.table_file.as_os_str().is_empty() {
            self.proxy.table_file = self.state_dir.join("routes.json");
        }
        Ok(self)
    }

    /// What the decisions need of it.
    pub fn for_decisions(&self, name: &str) -> NodeConfig {
        NodeConfig {
            name: name.to_owned(),
            pool: self.network.pool.base,
            pool_prefix: self.network.pool.prefix,
            subnet_prefix: self.network.subnet_prefix,
            keep_images: Millis::secs(u64::from(self.disk.keep_images_minutes) * 60),
        }
    }
}

impl Disk {
    /// What the decisions need of it.
    pub const fn marks(&self) -> Marks {
        Marks { high_percent: self.high_percent, critical_percent: self.critical_percent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = Config::parse("").expect("every key has a default");
        assert!(!config.name.is_empty());
        assert_eq!(config.proxy.control_dir, Path::new("/run/lapstrake/proxy"));
        assert_eq!(config.proxy.table_file, Path::new("/var/lib/lapstrake/agent/routes.json"));
        assert_eq!(config.memory_dir, Path::new("/run/lapstrake/files"));
        assert_eq!(config.network.pool.prefix, 16);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let said = Config::parse("name = \"n1\"\n[network]\npol = \"10.0.0.0/8\"\n").expect_err("no such key");
        assert!(said.contains("line 3") && said.contains("pol"), "{said}");
    }

    #[test]
    fn values_that_cannot_work_are_refused() {
        for (text, word) in [
            ("[network]\npool = \"10.201.0.0\"", "range"),
            ("[network]\npool = \"10.201.0.1/16\"", "bits"),
            ("[network]\nsubnet_prefix = 16", "subnet_prefix"),
            ("[network]\nnft_table = \"a; flush ruleset\"", "nft_table"),
            ("[reserved]\nmemory_percent = 95", "reserved"),
            ("[bounds]\nstarts = 0", "bounds"),
            ("[disk]\nhigh_percent = 0", "disk"),
            ("[disk]\nhigh_percent = 96", "disk"),
            ("[disk]\ncritical_percent = 101", "disk"),
            ("[logs]\nmax_files = 0", "logs"),
        ] {
            let said = Config::parse(text).expect_err(text);
            assert!(said.contains(word), "{said}");
        }
    }
}
