//! The simulator: thousands of small clusters in which everything that can break does.
//!
//! The decisions of controller and agents are the real ones; network, disks, engines, proxies and people are models, driven
//! by one seeded queue of events. After every event the promises of `docs/ARCHITECTURE.md` are checked, and once nothing
//! breaks any more everything has to come to its end.
//!
//! ```text
//! cargo test --test sim                                       a thousand seeds
//! LAPSTRAKE_SIM_SEEDS=100000 cargo test --test sim            more of them
//! LAPSTRAKE_SIM_SEED=17 cargo test --test sim -- --nocapture  one, told in full with LAPSTRAKE_SIM_TRACE=1
//! ```

mod agent;
mod controller;
mod coverage;
mod event;
mod execute;
mod facts;
mod faults;
mod images;
mod judge;
mod machine;
mod network;
mod observe;
mod people;
mod proxy;
mod queue;
mod regressions;
mod requests;
mod rng;
mod runtime;
mod settled;
mod specs;
mod store;
mod trace;
mod world;

use coverage::Coverage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

/// Seeds of a normal test run.
const SEEDS: u64 = 1_000;
/// Seeds that are run twice.
const TWICE: u64 = 20;
/// Each world is worth its name only if so much happens in it.
const FEWEST_EVENTS: u64 = 300;

/// What came of one seed.
struct Run {
    seed: u64,
    hash: u64,
    events: u64,
    coverage: Coverage,
    broken: Option<String>,
    tail: String,
}

fn run(seed: u64) -> Run {
    let mut world = World::new(seed);
    let broken = match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(result) => result.err(),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            Some(said.or_else(|| panic.downcast_ref::<&str>().map(|said| said.to_string())).unwrap_or_default())
        }
    };
    let hash = world.trace.hash();
    Run { seed, hash, events: world.events, coverage: world.coverage, broken, tail: world.trace.tail() }
}

/// Nothing if the world of this seed kept every promise, else how it did not.
fn complaint(run: &Run) -> Option<String> {
    let seed = run.seed;
    let again =
        format!("LAPSTRAKE_SIM_SEED={seed} LAPSTRAKE_SIM_TRACE=1 cargo test --test sim -- one_seed --nocapture");
    if let Some(broken) = &run.broken {
        return Some(format!("seed {seed}: {broken}\n{again}\n{}", run.tail));
    }
    let happened =
        |kind: &'static str, words: &[&'static str]| words.iter().any(|word| run.coverage.of(kind, word) > 0);
    let enough = run.events >= FEWEST_EVENTS
        && happened("fault", &faults::CRASHES)
        && happened("fault", &["partition"])
        && happened("deployment", &["rolling"]);
    (!enough).then(|| format!("seed {seed}: too little happened in {} events\n{again}", run.events))
}

/// Runs these seeds on all cores; gives what all of them reached, and what went wrong.
fn run_all(seeds: u64) -> (Coverage, u64, Vec<String>) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let next = AtomicU64::new(0);
    let together = Mutex::new((Coverage::default(), 0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let run = run(seed);
                    let mut all = together.lock().expect("no other seed has panicked here");
                    all.0.add(&run.coverage);
                    all.1 += run.events;
                    all.2.extend(complaint(&run));
                }
            });
        }
    });
    together.into_inner().expect("no seed has panicked here")
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn in_a_thousand_worlds_every_promise_is_kept_and_everything_settles() {
    if number_from("LAPSTRAKE_SIM_SEED").is_some() {
        return;
    }
    let seeds = number_from("LAPSTRAKE_SIM_SEEDS").unwrap_or(SEEDS);
    let (coverage, events, complaints) = run_all(seeds);
    println!("{seeds} seeds, {events} events\n{coverage}");
    complaints.iter().filter_map(|said| said.lines().next()).for_each(|said| println!("{said}"));
    let shown: Vec<&str> = complaints.iter().map(String::as_str).take(3).collect();
    assert!(complaints.is_empty(), "{} of {seeds} seeds:\n{}", complaints.len(), shown.join("\n"));
    assert_eq!(coverage.unexpected(), Vec::<String>::new(), "counted, and not in the table");
    assert_eq!(coverage.missing(), Vec::<String>::new(), "never reached");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..TWICE {
        assert_eq!(run(seed).hash, run(seed).hash, "seed {seed}");
    }
    assert_ne!(run(0).hash, run(1).hash);
}

#[test]
fn one_seed_of_choice_keeps_every_promise() {
    let Some(seed) = number_from("LAPSTRAKE_SIM_SEED") else { return };
    let run = run(seed);
    println!("{}\nseed {seed}: {} events, trace hash {:016x}", run.tail, run.events, run.hash);
    assert_eq!(run.broken, None);
}

#[test]
fn what_once_broke_a_promise_does_not_break_it_again() {
    for (seed, what) in regressions::SEEDS {
        let run = run(*seed);
        assert_eq!(complaint(&run), None, "seed {seed} once found this: {what}");
    }
}
