//! The rows of the table: what is measured, against whom, and what was wanted of it.

/// In what a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Millions of bytes.
    Megabytes,
    /// Milliseconds of a processor each second.
    CpuMillis,
    /// Microseconds of a processor for each request.
    CpuMicros,
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Ours divided by theirs, round by round.
    Ratio,
    /// Ours less theirs, round by round.
    Difference,
    /// Ours alone.
    Alone,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it says at its left.
    pub title: String,
    /// As the samples name it.
    pub measure: String,
    /// As the samples name the other side; empty where there is none.
    pub against: &'static str,
    /// Of the values, and of a difference.
    pub unit: Unit,
    /// How the two are compared.
    pub compared: Compared,
    /// The most that the comparison (or ours alone) may come to.
    pub target: Option<f64>,
}

fn row(title: impl Into<String>, measure: impl Into<String>, unit: Unit) -> Row {
    let (title, measure) = (title.into(), measure.into());
    Row { title, measure, against: "", unit, compared: Compared::Alone, target: None }
}

impl Row {
    fn at_most(self, target: f64) -> Row {
        Row { target: Some(target), ..self }
    }

    fn times(self, against: &'static str) -> Row {
        Row { against, compared: Compared::Ratio, ..self }
    }

    fn more_than(self, against: &'static str) -> Row {
        Row { against, compared: Compared::Difference, ..self }
    }
}

/// How many are started by one `apply`.
pub const COUNTS: [u32; 3] = [1, 10, 50];
/// The other proxies, and what ours may use of a processor compared with each.
pub const PROXIES: [(&str, f64); 3] = [("haproxy", 1.05), ("nginx", 1.05), ("caddy", 0.4)];
/// Protocols, as the samples name them and as people do.
pub const PROTOCOLS: [(&str, &str); 2] = [("h1", "HTTP/1.1"), ("h2", "HTTP/2")];
/// The sizes of an answer's body, in KiB.
pub const SIZES_KIB: [u32; 2] = [1, 20];
/// Requests each second.
pub const RATES: [u32; 2] = [2000, 4000];

/// All rows, in the order in which they are printed.
pub fn rows() -> Vec<Row> {
    let mut rows = applying();
    rows.extend([
        row("redeploy: p99 1 s around the switch", "redeploy-switch", Unit::Millis).more_than("quiet").at_most(1.0),
        row("redeploy: p99 from start to end", "redeploy-whole", Unit::Millis).more_than("quiet"),
        row("idle memory: agent (PSS)", "memory-agent", Unit::Megabytes).at_most(12.0),
        row("idle memory: proxy (PSS)", "memory-proxy", Unit::Megabytes).at_most(12.0),
        row("idle memory: controller (PSS)", "memory-controller", Unit::Megabytes).at_most(25.0),
        row("idle processor: agent", "idle-agent", Unit::CpuMillis),
        row("idle processor: proxy", "idle-proxy", Unit::CpuMillis),
        row("idle processor: controller", "idle-controller", Unit::CpuMillis),
        row("start: controller until it answers", "start-controller", Unit::Millis),
        row("start: agent until its node is ready", "start-agent", Unit::Millis),
        row("start: proxy until it answers", "start-proxy", Unit::Millis),
        row("binary: lapstrake-controller", "size-lapstrake-controller", Unit::Megabytes).at_most(20.0),
        row("binary: lapstrake-agent", "size-lapstrake-agent", Unit::Megabytes).at_most(20.0),
        row("binary: lapstrake-proxy", "size-lapstrake-proxy", Unit::Megabytes).at_most(20.0),
        row("binary: lap", "size-lap", Unit::Megabytes).at_most(20.0),
    ]);
    rows.extend(proxying());
    rows
}

fn applying() -> Vec<Row> {
    let mut rows = Vec::new();
    for count in COUNTS {
        let title = |whom| format!("apply -> {count} healthy, {whom}");
        let measure = format!("apply-{count}");
        let raw = row(title("raw API loop"), &measure, Unit::Millis);
        rows.push(match count {
            1 => raw.more_than("raw").at_most(25.0),
            50 => raw.times("raw").at_most(1.10),
            _ => raw.times("raw"),
        });
        rows.push(row(title("Docker Swarm"), &measure, Unit::Millis).times("swarm"));
        rows.push(row(format!("lap apply --wait of {count} returns"), format!("waited-{count}"), Unit::Millis));
    }
    rows
}

fn proxying() -> Vec<Row> {
    let mut rows = Vec::new();
    let cells = |rows: &mut Vec<Row>, kind: &str, what: &str, unit, rates: &[u32]| {
        for (protocol, spoken) in PROTOCOLS {
            for size in SIZES_KIB {
                for rate in rates {
                    for (other, cpu_target) in PROXIES {
                        let title = format!("{what} {spoken} {size} KiB {rate}/s, {other}");
                        let compared = row(title, measure(kind, protocol, size, *rate), unit);
                        rows.push(match unit {
                            Unit::CpuMicros => compared.times(other).at_most(cpu_target),
                            _ => compared.more_than(other),
                        });
                    }
                }
            }
        }
    };
    cells(&mut rows, "proxy-cpu", "cpu", Unit::CpuMicros, &RATES);
    cells(&mut rows, "proxy-p99", "p99", Unit::Millis, &RATES[..1]);
    rows
}

/// As the samples name a measurement of a proxy.
fn measure(kind: &str, protocol: &str, size_kib: u32, rate: u32) -> String {
    format!("{kind}-{protocol}-{size_kib}k-{rate}")
}
