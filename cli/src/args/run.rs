//! The arguments of `lap run`.

use super::services::job;
use super::span;
use crate::address::ServicePath;
use clap::Args;
use std::time::Duration;

/// `lap run`.
#[derive(Args)]
pub struct Run {
    /// The service's path
    pub path: ServicePath,
    /// Give it this variable besides the service's, and before it; may be said again
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// Stop it if it runs longer: an hour unless this says otherwise, a week at most
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub timeout: Option<Duration>,
    /// Leave it when it has begun, and print its job's id
    #[arg(short, long)]
    pub detach: bool,
    /// List the one-off jobs that run or ended lately instead
    #[arg(long, conflicts_with_all = ["env", "timeout", "detach", "stop", "command"])]
    pub list: bool,
    /// Stop the one-off job of this id instead
    #[arg(long, value_name = "JOB", value_parser = job, conflicts_with_all = ["env", "timeout", "detach", "command"])]
    pub stop: Option<String>,
    /// The program and its arguments
    #[arg(last = true, num_args = 1.., required_unless_present_any = ["list", "stop"], value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `LEVEL=debug`.
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{}` is no variable; one is written as NAME=VALUE", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_name_and_all_that_follows() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        for wrong in ["", "A", "=b"] {
            variable(wrong).expect_err(wrong);
        }
    }
}
