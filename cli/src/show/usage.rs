//! What is used, and of how much.

use super::amount::{bytes, cores};
use super::table::{Cell, Column, Table};
use crate::output::Style;
use lapstrake_api::view::{Amount, Job, Node};
use std::collections::BTreeMap;

/// From so many per cent on it is worth a look, and from so many more it is short.
const MUCH: u64 = 80;
const SHORT: u64 = 95;

/// What is used of a limit, in per cent and coloured; nothing where there is no limit.
fn share(used: u64, limit: u64) -> Cell {
    if limit == 0 {
        return "".into();
    }
    let percent = used.saturating_mul(100) / limit;
    let style = match percent {
        SHORT.. => Style::Bad,
        MUCH.. => Style::Warn,
        _ => Style::Plain,
    };
    Cell::styled(format!("{percent}%"), style)
}

fn columns(first: &'static str) -> [Column; 8] {
    [
        Column::new(first),
        Column::new("NODE").leaves(3),
        Column::new("CPU").right(),
        Column::new("CPU LIMIT").right().leaves(2),
        Column::new("CPU%").right().leaves(1),
        Column::new("MEMORY").right(),
        Column::new("MEMORY LIMIT").right().leaves(2),
        Column::new("MEMORY%").right().leaves(1),
    ]
}

fn amounts(used: Amount, limit: Amount) -> [Cell; 6] {
    [
        cores(used.cpu_milli).into(),
        cores(limit.cpu_milli).into(),
        share(used.cpu_milli.into(), limit.cpu_milli.into()),
        bytes(used.memory_bytes).into(),
        bytes(limit.memory_bytes).into(),
        share(used.memory_bytes, limit.memory_bytes),
    ]
}

fn row(name: Cell, where_it_is: Cell, used: Amount, limit: Amount) -> [Cell; 8] {
    let [cpu, cpu_limit, cpu_share, memory, memory_limit, memory_share] = amounts(used, limit);
    [name, where_it_is, cpu, cpu_limit, cpu_share, memory, memory_limit, memory_share]
}

fn used(job: &Job) -> Amount {
    Amount { cpu_milli: job.cpu_milli, memory_bytes: job.memory_bytes }
}

/// Services, each with what its jobs use together; the one that uses most of the processor first.
pub fn services(jobs: &[Job]) -> Table {
    let mut sums: BTreeMap<&str, (usize, Amount, Amount)> = BTreeMap::new();
    for job in jobs {
        let (count, sum, limits) = sums.entry(&job.service).or_default();
        *count += 1;
        for (sum, more) in [(sum, used(job)), (limits, job.limit)] {
            sum.cpu_milli = sum.cpu_milli.saturating_add(more.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.saturating_add(more.memory_bytes);
        }
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by_key(|(path, (_, sum, _))| (std::cmp::Reverse((sum.cpu_milli, sum.memory_bytes)), *path));
    let mut columns = columns("SERVICE");
    columns[1] = Column::new("JOBS").right().leaves(3);
    let mut table = Table::new(columns);
    for (path, (count, sum, limits)) in rows {
        table.row(row(path.into(), count.to_string().into(), sum, limits));
    }
    table
}

/// Jobs one by one, in the order of their slots.
pub fn jobs(jobs: &[Job]) -> Table {
    let mut table = Table::new(columns("JOB"));
    for job in jobs {
        let name = format!("{}/{}", job.service, job.slot);
        table.row(row(name.into(), job.node.as_deref().unwrap_or("").into(), used(job), job.limit));
    }
    table
}

/// Nodes, with what their machines use of what they have for jobs.
pub fn nodes(nodes: &[Node]) -> Table {
    let mut columns = columns("NODE");
    columns[1] = Column::new("STATE").leaves(3);
    let mut table = Table::new(columns);
    for node in nodes {
        table.row(row((&node.name).into(), Cell::word(&node.liveness), node.used, node.capacity));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Surface;

    fn job(service: &str, slot: &str, cpu_milli: u32, mib: u64) -> Job {
        let text = serde_json::json!({
            "id": "1", "service": service, "slot": slot, "node": "n1", "revision": 1, "phase": "running",
            "health": "healthy", "attempt": 1, "role": "current", "message": null, "address": null,
            "memory_bytes": mib << 20, "cpu_milli": cpu_milli,
            "limit": { "cpu_milli": 500, "memory_bytes": 64 << 20 },
        });
        serde_json::from_value(text).expect("a job")
    }

    #[test]
    fn a_service_uses_what_its_jobs_use_together_and_the_hungriest_comes_first() {
        let jobs = [job("a/b/idle", "web.1", 0, 1), job("a/b/web", "web.1", 450, 32), job("a/b/web", "web.2", 50, 32)];
        let text = services(&jobs).draw(Surface::PLAIN);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["a/b/web", "2", "0.50", "1.00", "50%", "64", "MiB", "128", "MiB", "50%"]);
        assert_eq!(lines[2][..3], ["a/b/idle", "1", "0.00"]);
    }

    #[test]
    fn what_has_no_limit_has_no_share() {
        let unlimited = Job { limit: Amount::default(), ..job("a/b/web", "web.1", 10, 1) };
        let text = super::jobs(&[unlimited]).draw(Surface::PLAIN);
        let row = text.lines().last().expect("a row");
        assert!(!row.contains('%'), "{row}");
    }
}
