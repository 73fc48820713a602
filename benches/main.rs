//! What `scripts/bench` measures with.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lapstrake_bench::samples::Samples;
use lapstrake_bench::{board, cpu, latency, raw, table};
use lapstrake_core::ids::ClusterId;
use std::net::Ipv4Addr;
use std::path::PathBuf;

#[derive(Parser)]
#[command(version, about = "What scripts/bench measures with.")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Prints a fresh id, for the label of what `raw` makes.
    Id,
    /// Starts containers over Docker's API until all are healthy, and removes them; prints how many milliseconds it took.
    Raw {
        /// The id that labels them.
        #[arg(long)]
        cluster: String,
        /// The image, on the engine already.
        #[arg(long)]
        image: String,
        /// How many.
        #[arg(long)]
        count: u32,
        /// How many at once.
        #[arg(long)]
        width: usize,
        /// The address of their network, of 24 bits.
        #[arg(long)]
        network: Ipv4Addr,
        /// Thousandths of a core of each.
        #[arg(long)]
        cpu_milli: u32,
        /// MiB of memory of each.
        #[arg(long)]
        memory_mib: u64,
        /// The engine.
        #[arg(long, env = "DOCKER_HOST", default_value = "unix:///var/run/docker.sock")]
        docker_host: String,
    },
    /// Prints how many nanoseconds of a processor these processes have used together.
    Cpu {
        /// The processes.
        #[arg(required = true)]
        pids: Vec<i32>,
    },
    /// Prints the 99th percentile, in milliseconds, of the requests in a log of h2load's that began in a span.
    P99 {
        /// The log.
        log: PathBuf,
        /// Milliseconds since 1970.
        #[arg(long, default_value_t = 0.0)]
        from: f64,
        /// Milliseconds since 1970.
        #[arg(long, default_value_t = f64::MAX)]
        to: f64,
    },
    /// Prints the table of what was measured.
    Table {
        /// The samples.
        file: PathBuf,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Command::parse().verb {
        Verb::Id => println!("{}", ClusterId(raw::fresh()?)),
        Verb::Raw { cluster, image, count, width, network, cpu_milli, memory_mib, docker_host } => {
            let cluster: ClusterId = cluster.parse().context("--cluster")?;
            let memory_bytes = memory_mib << 20;
            let plan = raw::Plan { docker_host, cluster, image, count, width, network, cpu_milli, memory_bytes };
            println!("{:.1}", raw::run(&plan).await?.as_secs_f64() * 1000.0);
        }
        Verb::Cpu { pids } => println!("{}", pids.into_iter().map(cpu::used_ns).sum::<anyhow::Result<i64>>()?),
        Verb::P99 { log, from, to } => {
            let text = std::fs::read_to_string(&log).with_context(|| format!("{} cannot be read", log.display()))?;
            let (p99, _) = latency::p99_between(&latency::read(&text)?, from, to).context("no request in that span")?;
            println!("{p99:.3}");
        }
        Verb::Table { file } => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            print!("{}", table::table(&board::rows(), &Samples::read(&text)?));
        }
    }
    Ok(())
}
