//! The scoreboard: what `scripts/bench` measures with, and the table that it prints.
//!
//! The script writes what it measured as lines of `samples`; `board` says which rows the table has, against whom and with
//! which target; `table` prints it. `raw` is the loop over Docker's API that applying is compared with; `cpu` tells what a
//! process has used of a processor; `latency` reads what h2load wrote of its requests.

pub mod board;
pub mod cpu;
pub mod figures;
pub mod latency;
pub mod raw;
pub mod samples;
pub mod table;
