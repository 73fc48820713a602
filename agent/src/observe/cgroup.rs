//! What a container uses, from its cgroup's files, version 1 and 2. The engine's own statistics are all zero with some
//! engines and cost a round of its locks with all.

use std::path::{Path, PathBuf};

/// Where the kernel's cgroups are mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// As Docker counts: without file pages that can be dropped.
    pub memory_bytes: u64,
    /// Processor time since the container's start.
    pub cpu_nanos: u64,
}

/// Reads a process's cgroup; `None` when the process or the cgroup is gone.
pub fn read(root: &Path, pid: u32) -> Option<Sample> {
    let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    read_at(root, &membership)
}

fn read_at(root: &Path, membership: &str) -> Option<Sample> {
    match (controller(membership, "memory"), controller(membership, "cpuacct")) {
        (Some((_, memory)), Some((name, cpu))) => {
            let memory = inside(&root.join("memory"), memory);
            let cpu = inside(&root.join(name), cpu);
            let used = number(&memory.join("memory.usage_in_bytes"))?;
            let droppable = field(&memory.join("memory.stat"), "total_inactive_file").unwrap_or(0);
            let cpu_nanos = number(&cpu.join("cpuacct.usage"))?;
            Some(Sample { memory_bytes: used.saturating_sub(droppable), cpu_nanos })
        }
        _ => {
            let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
            let group = inside(root, path);
            let used = number(&group.join("memory.current"))?;
            let droppable = field(&group.join("memory.stat"), "inactive_file").unwrap_or(0);
            let cpu_nanos = field(&group.join("cpu.stat"), "usage_usec")? * 1_000;
            Some(Sample { memory_bytes: used.saturating_sub(droppable), cpu_nanos })
        }
    }
}

/// The line `4:cpu,cpuacct:/docker/…` of a version 1 controller: the hierarchy's name and the path in it.
fn controller<'a>(membership: &'a str, wanted: &str) -> Option<(&'a str, &'a str)> {
    membership.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (names, path) = line.split_once(':')?;
        names.split(',').any(|name| name == wanted).then_some((names, path))
    })
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(root: &Path, files: &[(&str, &str)]) {
        for (path, content) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, content).expect("written");
        }
    }

    #[test]
    fn version_1_files_are_read_without_droppable_pages() {
        let dir = tempfile::tempdir().expect("a folder");
        lay(
            dir.path(),
            &[
                ("memory/docker/x/memory.usage_in_bytes", "5000\n"),
                ("memory/docker/x/memory.stat", "cache 1\ntotal_inactive_file 2000\n"),
                ("cpu,cpuacct/docker/x/cpuacct.usage", "77\n"),
            ],
        );
        let membership = "9:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n";
        assert_eq!(read_at(dir.path(), membership), Some(Sample { memory_bytes: 3000, cpu_nanos: 77 }));
    }

    #[test]
    fn version_2_files_are_read_without_droppable_pages() {
        let dir = tempfile::tempdir().expect("a folder");
        lay(
            dir.path(),
            &[
                ("system.slice/docker-x.scope/memory.current", "5000\n"),
                ("system.slice/docker-x.scope/memory.stat", "anon 1\ninactive_file 500\n"),
                ("system.slice/docker-x.scope/cpu.stat", "usage_usec 9\nuser_usec 3\n"),
            ],
        );
        let sample = read_at(dir.path(), "0::/system.slice/docker-x.scope\n");
        assert_eq!(sample, Some(Sample { memory_bytes: 4500, cpu_nanos: 9000 }));
    }

    #[test]
    fn a_container_that_is_gone_has_no_reading() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(read_at(dir.path(), "9:memory:/docker/x\n3:cpuacct:/docker/x\n"), None);
        assert_eq!(read(dir.path(), u32::MAX), None);
    }
}
