//! What a process has used of a processor.

use anyhow::Context as _;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Nanoseconds, of all threads that the process has and had: `/proc/PID/stat` counts in hundredths of a second only, and
/// `/proc/PID/task` forgets threads that have ended.
pub fn used_ns(pid: i32) -> anyhow::Result<i64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).with_context(|| format!("no process {pid}"))?;
    let used = clock_gettime(clock).with_context(|| format!("no process {pid}"))?;
    Ok(used.tv_sec() * 1_000_000_000 + used.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_has_ended_counts_on() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = used_ns(own).unwrap();
        let work = || (0..5_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        std::thread::spawn(work).join().unwrap();
        let after = used_ns(own).unwrap();
        assert!(after - before > 100_000, "{before} {after}");
    }
}
