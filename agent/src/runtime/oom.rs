//! Which containers the kernel killed for memory, from its log: Docker before 23 on cgroup v1 never says it, and the
//! counters go away with the container.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

/// The length of an engine's container id.
const ID_LEN: usize = 64;
/// A record of the kernel's log is never longer (Documentation/ABI/testing/dev-kmsg); a shorter buffer would be refused.
const RECORD: usize = 8192;

/// Reads the kernel's log whenever it is asked. It keeps only ids of containers that were killed, a few bytes per kill.
pub struct OomLog {
    inner: Mutex<Inner>,
}

struct Inner {
    kmsg: Option<File>,
    killed: BTreeSet<String>,
}

impl OomLog {
    /// Opens the log at its oldest record, so that kills while the agent was away are known too. Without the right to read
    /// it nothing is known.
    pub fn open() -> Self {
        let kmsg = OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open("/dev/kmsg")
            .inspect_err(|error| tracing::warn!(%error, "the kernel's log cannot be read: memory kills may look like ordinary ones"))
            .ok();
        OomLog { inner: Mutex::new(Inner { kmsg, killed: BTreeSet::new() }) }
    }

    /// Whether the kernel killed a process of this container for memory. The kernel writes its record before the process
    /// is gone, so that an ended container's record is always there.
    pub fn names(&self, container: &str) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.read_on();
        inner.killed.contains(container)
    }
}

impl Inner {
    fn read_on(&mut self) {
        let Some(kmsg) = &mut self.kmsg else { return };
        let mut record = [0u8; RECORD];
        loop {
            match kmsg.read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    if let Some(id) = killed_container(&String::from_utf8_lossy(&record[..length])) {
                        self.killed.insert(id.to_owned());
                    }
                }
                // EPIPE: records were overwritten before they were read; the next read goes on with the oldest.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Err(_) => return,
            }
        }
    }
}

/// The container that a record of a memory kill names by the path of its cgroup, whichever driver made it.
fn killed_container(record: &str) -> Option<&str> {
    let (_, after) = record.split_once("oom_memcg=")?;
    let path = after.split(',').next()?;
    let is_id = |part: &&str| part.len() == ID_LEN && part.bytes().all(|b| b.is_ascii_hexdigit());
    path.split(|c: char| !c.is_ascii_alphanumeric()).find(is_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_kill_is_laid_to_the_container_whose_cgroup_the_kernel_names() {
        let id = "ab".repeat(32);
        let v1 = format!(
            "6,900,5,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/docker/{id},task_memcg=/docker/{id},task=eat,pid=7,uid=0"
        );
        let v2 =
            format!("6,1,1,-;oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/system.slice/docker-{id}.scope,task=x");
        assert_eq!(killed_container(&v1), Some(id.as_str()));
        assert_eq!(killed_container(&v2), Some(id.as_str()));
        let whole = "6,1,1,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/user,task=x";
        assert_eq!(killed_container(whole), None, "the machine's own shortage is nobody's limit");
    }
}
