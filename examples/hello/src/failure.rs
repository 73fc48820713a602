//! Being a bad version on purpose, so that deployments can be watched failing.
//!
//! | variable | what happens |
//! |---|---|
//! | `FAIL=exit` | exits with code 3 |
//! | `FAIL=unhealthy` | `/healthz` answers 500 and says why |
//! | `FAIL=memory` | takes memory until it is killed |
//! | `FAIL=start-delay` | listens only after `START_DELAY_MS` |
//! | `FAIL_AFTER_MS=n` | any of the first three, but n ms after the start; on its own, `unhealthy` |

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::{log, number_from_env};

static UNHEALTHY: AtomicBool = AtomicBool::new(false);

/// Why the health check has to fail; none while all is well.
pub fn unhealthy() -> Option<&'static str> {
    UNHEALTHY.load(Ordering::Relaxed).then_some("unhealthy: this version was told to fail its health check\n")
}

/// Fails now, or arranges to fail later, as the environment says.
pub async fn begin() {
    let kind = std::env::var("FAIL").ok();
    match (kind.as_deref(), number_from_env("FAIL_AFTER_MS")) {
        (Some("start-delay"), _) => {
            let delay = number_from_env("START_DELAY_MS").unwrap_or(0);
            log(&format!("starting slowly, in {delay} ms"));
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        (Some(kind), None) => fail(kind),
        (None, None) => {}
        (kind, Some(after)) => {
            let kind = kind.unwrap_or("unhealthy").to_owned();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                fail(&kind);
            });
        }
    }
}

fn fail(kind: &str) {
    match kind {
        "exit" => {
            log("fatal: cannot go on, as FAIL=exit asks");
            std::process::exit(3);
        }
        "unhealthy" => {
            log("unhealthy from now on");
            UNHEALTHY.store(true, Ordering::Relaxed);
        }
        "memory" => drop(std::thread::spawn(eat_memory)),
        other => log(&format!("unknown FAIL={other}: there are exit, unhealthy, memory and start-delay")),
    }
}

/// Takes 16 MiB every 20 ms and touches every page, so that the kernel has to find it.
fn eat_memory() {
    const BITE: usize = 16 << 20;
    /// Where no limit stops it, this does: it is meant to hit a container's limit, not to take a machine down.
    const ENOUGH: usize = 2 << 30;

    log("eating memory");
    let mut eaten = Vec::new();
    while eaten.len() * BITE < ENOUGH {
        eaten.push(vec![1_u8; BITE]);
        std::thread::sleep(Duration::from_millis(20));
    }
    log("ate 2 GiB, and nothing stopped it: the service has no memory limit");
    std::process::exit(4);
}
