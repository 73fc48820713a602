//! The command line: every verb, what it takes, and an example of each.

mod login;
mod nodes;
mod places;
mod rights;
mod run;
mod services;
mod setup;
mod values;

pub use login::{ContextVerb, Login};
pub use nodes::{NodeVerb, TokenVerb};
pub use places::{AppVerb, EnvVerb, Good, Limit, QuotaVerb};
pub use rights::{AuditRows, AuditVerb, CaVerb, NewToken, OperatorTokenVerb};
pub use run::Run;
pub use services::{
    Apply, Deploy, Deployments, Events, Exec, Forward, Listing, Logs, One, Pause, Ports, Redeploy, Redeployable,
    Release, Remove, Resume, Rollback, Scale, Spec, Steered, Top, Waiting, YesOrNo,
};
pub use setup::Setup;
pub use values::{SecretRemove, SecretSet, SecretVerb, VarVerb, Words};

use crate::context::Wish;
use crate::output::Format;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Lapstrake runs your services on your own machines; lap tells it what you want and shows how it is.
#[derive(Parser)]
#[command(
    name = "lap",
    version,
    disable_help_subcommand = true,
    after_help = "\
Services are named by their path: application/environment/service, as shop/production/web.
Exit codes: 0 done, 1 failed, 2 wrong command line or spec, 3 understood and refused, 4 timed out;
lap exec: the command's own, 125 when lap could not run it.

Example:
  lap login https://controller.example.com:7400
  lap apply -f shop.yaml --wait"
)]
pub struct Lap {
    /// What is given with any command.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is given with any command.
#[derive(Args)]
pub struct Common {
    /// The controller's address [env: LAP_URL]
    #[arg(
        long,
        global = true,
        env = "LAP_URL",
        hide_env = true,
        value_name = "URL",
        help_heading = "Options of every command"
    )]
    url: Option<String>,
    /// An operator's token [env: LAP_TOKEN]
    #[arg(
        long,
        global = true,
        env = "LAP_TOKEN",
        hide_env = true,
        value_name = "TOKEN",
        help_heading = "Options of every command"
    )]
    token: Option<String>,
    /// A stored context instead of the current one, and instead of LAP_URL and LAP_TOKEN [env: LAP_CONTEXT]
    #[arg(
        long,
        global = true,
        env = "LAP_CONTEXT",
        hide_env = true,
        value_name = "NAME",
        help_heading = "Options of every command"
    )]
    context: Option<String>,
    /// How data is written; with json, what goes on is a line each
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Options of every command"
    )]
    pub output: Format,
}

impl Lap {
    /// Reads the process's command line and environment; on a wrong one says so and ends the process.
    pub fn from_command_line() -> Lap {
        let matches = Lap::command().get_matches();
        let mut lap = Lap::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        lap.common.let_the_context_win(&matches);
        lap
    }
}

impl Common {
    /// A context that somebody names on the command line is meant, whatever a shell's environment says of other commands.
    fn let_the_context_win(&mut self, matches: &ArgMatches) {
        if matches.value_source("context") != Some(ValueSource::CommandLine) {
            return;
        }
        for (name, value) in [("url", &mut self.url), ("token", &mut self.token)] {
            if matches.value_source(name) == Some(ValueSource::EnvVariable) {
                *value = None;
            }
        }
    }

    /// Whom to ask. Variables that are set to nothing say nothing.
    pub fn wish(&self) -> Wish {
        let said = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
        Wish { url: said(&self.url), token: said(&self.token), context: said(&self.context) }
    }
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Store a controller's address and your token, after checking both
    ///
    /// The token names the controller's certificate authority: it is only ever sent to that controller. Without TOKEN and
    /// --token-file it is asked for. It is stored under --context, or else under the current context's name.
    ///
    /// Where something with another certificate stands before the controller, --ca-file or --system-roots says which roots
    /// lead to that one; then it must be for the address's own name, and the token is sent to that address alone.
    #[command(
        after_help = "Example:\n  lap login https://controller.example.com:7400 --token-file operator.token\n  lap login \
                      https://lap.example.com --token-file operator.token --ca-file company-root.pem"
    )]
    Login(Login),
    /// From fresh packages on one machine to a served request: log in, apply a spec, make this machine a node
    ///
    /// For root on the controller's machine. It names each command that it gives instead of you, and leaves out what is done
    /// already: it may be given again.
    #[command(after_help = "Example:\n  apt install ./lapstrake*.deb\n  lap setup -f shop.yaml")]
    Setup(Setup),
    /// Controllers that `lap login` stored
    #[command(subcommand, after_help = "Example:\n  lap context use staging")]
    Context(ContextVerb),
    /// Applications: list, create
    #[command(subcommand, after_help = "Example:\n  lap app create shop")]
    App(AppVerb),
    /// Environments: list, create, give nodes to them and take them back
    #[command(subcommand, after_help = "Example:\n  lap env attach-node shop/production worker-1")]
    Env(EnvVerb),
    /// Quotas: what applications and environments have and may have
    #[command(subcommand, after_help = "Example:\n  lap quota set shop services=32 memory=64GiB")]
    Quota(QuotaVerb),
    /// Secrets and the credentials for registries: set, list, remove
    #[command(subcommand, after_help = "Example:\n  lap secret set shop/production api-key")]
    Secret(SecretVerb),
    /// Variables: set, list, remove
    #[command(subcommand, after_help = "Example:\n  lap var set shop/production LOG_LEVEL=info")]
    Var(VarVerb),
    /// Nodes: join tokens, list, show, label, cordon, revoke, readmit, remove
    #[command(subcommand, after_help = "Example:\n  lap node token create --env shop/production --name worker-1")]
    Node(NodeVerb),
    /// Operators' tokens: list, create, remove
    #[command(
        subcommand,
        after_help = "Example:\n  lap token create ci --role deployer --scope shop/staging --ttl 720h"
    )]
    Token(OperatorTokenVerb),
    /// Whose token this is, and what it gives
    #[command(after_help = "Example:\n  lap whoami")]
    Whoami,
    /// Who tried what, and what came of it: list, verify
    #[command(subcommand, after_help = "Example:\n  lap audit ls --since 1h")]
    Audit(AuditVerb),
    /// The certificate authority: its roots, and replacing one
    #[command(subcommand, after_help = "Example:\n  lap ca show\n  lap ca rotate")]
    Ca(CaVerb),
    /// Show what applying a spec would do, field by field; nothing is changed
    #[command(after_help = "Example:\n  lap plan -f shop.yaml --env staging")]
    Plan(Spec),
    /// Make the cluster as a spec says
    #[command(after_help = "Example:\n  lap apply -f shop.yaml --wait\n  generate-spec | lap apply -f - --env staging")]
    Apply(Apply),
    /// Jobs: where each runs and how it is
    #[command(after_help = "Example:\n  lap ps shop/production")]
    Ps(Listing),
    /// Services: how each is, in one line; of one service, all there is to know
    #[command(after_help = "Example:\n  lap status\n  lap status shop/production/web")]
    Status(Listing),
    /// Why a service is as it is, in one sentence and the rest of the story
    #[command(after_help = "Example:\n  lap why shop/production/web")]
    Why(One),
    /// What happened, oldest first
    #[command(after_help = "Example:\n  lap events -f shop/production\n  lap events node/worker-1")]
    Events(Events),
    /// The deployments of a service, newest first; with a number, one of them with its timeline
    #[command(after_help = "Example:\n  lap deployments shop/production/web\n  lap deployments shop/production/web 4")]
    Deployments(Deployments),
    /// Deploy another image
    #[command(
        after_help = "Example:\n  lap deploy shop/production/web --image registry.example.com/shop/web:1.5.0 --wait"
    )]
    Deploy(Deploy),
    /// Give every slot a new job of the same revision
    #[command(after_help = "Example:\n  lap redeploy shop/production/web --wait")]
    Redeploy(Redeploy),
    /// Deploy an earlier revision, by default the one before the active one
    #[command(after_help = "Example:\n  lap rollback shop/production/web --to r7 --wait")]
    Rollback(Rollback),
    /// End a deployment under way: the service goes back to what was active
    ///
    /// Nothing that serves is touched but by what the deployment had switched already, which is switched back.
    #[command(
        visible_alias = "abort",
        after_help = "Example:\n  lap cancel shop/production/web --wait\n  lap cancel shop/production/web 17"
    )]
    Cancel(Steered),
    /// Keep a canary at its step until it is released
    #[command(after_help = "Example:\n  lap hold shop/production/web")]
    Hold(Steered),
    /// Let a canary go to its next step, or have all of the traffic
    #[command(
        after_help = "Example:\n  lap release shop/production/web\n  lap release shop/production/web --all --wait"
    )]
    Release(Release),
    /// Change how many jobs a service has
    #[command(after_help = "Example:\n  lap scale shop/production/web 4 --wait")]
    Scale(Scale),
    /// Stop the jobs of a service, or of a whole environment, and keep all else
    ///
    /// Its jobs leave the proxies' tables, finish what they have, and stop. The revision, the values, the hosts and the share
    /// of quotas stay. Nothing but `lap resume` starts it again. A deployment under way ends. A spec that is applied meanwhile
    /// is recorded and takes effect at the resume; deploy, redeploy, rollback and scale are refused.
    #[command(
        after_help = "Example:\n  lap pause shop/production/web --reason migration --wait\n  lap pause shop/staging"
    )]
    Pause(Pause),
    /// Start again what was paused
    ///
    /// The active revision starts with the values that it had, on the nodes where it was if they still fit.
    #[command(after_help = "Example:\n  lap resume shop/production/web --wait")]
    Resume(Resume),
    /// Say whether people may give a service new jobs
    ///
    /// With `no`, redeploy, deploy, rollback, pause and specs that replace its jobs are refused with the reason and your name,
    /// except to operators. Scaling it is not.
    #[command(
        after_help = "Example:\n  lap redeployable shop/production/web no --reason migration\n  lap redeployable shop/production/web yes"
    )]
    Redeployable(Redeployable),
    /// Remove a service and stop its jobs
    #[command(after_help = "Example:\n  lap rm shop/staging/web --wait")]
    Rm(Remove),
    /// What a service's jobs write, straight from their nodes
    #[command(
        after_help = "Example:\n  lap logs -f -n 20 shop/production/web\n  lap logs shop/production/web --since 10m --grep 5[0-9][0-9]"
    )]
    Logs(Logs),
    /// Look at this machine's side and at the cluster: what is wrong, and what helps
    ///
    /// Each check is a line that begins with ok, warn or fail. Ends with 1 when one fails. On a node, `lapstrake-agent doctor`
    /// looks at the machine itself.
    #[command(after_help = "Example:\n  lap doctor\n  lap doctor -o json")]
    Doctor,
    /// Run a command in a job's container
    ///
    /// The command is run as it is, without a shell, by the user that the container's own program has. Without -t its standard
    /// output and error stay apart, and Control-C sends it SIGINT; a second Control-C leaves. When lap ends, or loses the
    /// controller, the command gets SIGHUP, and SIGKILL five seconds later.
    ///
    /// Ends with the command's own exit code (128 + the signal's number when it was killed); 127: there is no such program, 126:
    /// it cannot be run, 125: lap could not run it or lost it, 141: nobody reads its output any more, 2: wrong command line.
    /// Every use is written to the audit with the command, but not with what is typed: give secrets as input.
    #[command(
        after_help = "Example:\n  lap exec -it shop/production/web -- sh\n  lap exec shop/production/web --slot 2 -- cat /etc/os-release\n  \
                      lap exec -i shop/production/db -- psql -f -"
    )]
    Exec(Exec),
    /// Run a command once, in a job of its own beside the service's
    ///
    /// It gets the image, the values, the network and the limits of the active revision; it takes no traffic, fills no slot and
    /// is not restarted. A paused service can be run too. What it writes is shown as it comes; it has no input and no terminal
    /// (`lap exec -it PATH --job JOB` enters it). Control-C stops it, a second one leaves it; without lap it goes on.
    ///
    /// Ends with the command's own exit code (128 + the signal's number when it was killed); 125: it could not begin, was stopped,
    /// ran out of time, or its node was lost; 2: wrong command line. Its output can be read for ten minutes after its end with
    /// `lap logs PATH --job JOB`. Every use is written to the audit with the command, and with the variables' names.
    #[command(
        after_help = "Example:\n  lap run shop/production/web -- /app/migrate --to newest\n  lap run --detach --timeout 6h shop/production/web -- /app/reindex\n  \
                      lap run shop/production/web --list"
    )]
    Run(Run),
    /// Lead ports of this machine to a job's ports
    ///
    /// Each connection goes to a job of the service that is healthy then, so that after a deployment new ones go to the new job.
    /// Only ports that the service's spec declares can be reached. Runs until it is stopped.
    #[command(
        after_help = "Example:\n  lap forward shop/production/web 8080:80\n  lap forward shop/production/db 0:5432 --slot 1"
    )]
    Forward(Forward),
    /// What services and nodes use now: processor and memory
    ///
    /// On a terminal it is drawn again every two seconds until it is stopped.
    #[command(
        after_help = "Example:\n  lap top shop/production\n  lap top shop/production/web\n  lap top --nodes --once"
    )]
    Top(Top),
    /// The JSON schema of spec files, for editors
    ///
    /// Written to a file, it is named in a spec's first line: `# yaml-language-server: $schema=lapstrake.schema.json`.
    #[command(after_help = "Example:\n  lap schema")]
    Schema,
    /// What a shell needs to complete lap's verbs and options
    ///
    /// For bash it belongs into /etc/bash_completion.d/lap, for zsh into a file _lap of the folders in fpath, for fish into
    /// ~/.config/fish/completions/lap.fish.
    #[command(after_help = "Example:\n  lap completion bash")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write lap's manual pages into a folder, one for each verb
    #[command(after_help = "Example:\n  lap man /usr/local/share/man/man1")]
    Man {
        /// The folder; it is made if it is absent
        folder: PathBuf,
    },
    /// The versions of lap and of the controller
    #[command(after_help = "Example:\n  lap version")]
    Version,
}

/// `90s`, `10m`, `1h30m`, `30d`. A day has 24 hours; how long a month is depends on which.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{}` is no span of time; one is written as 90s, 10m, 1h30m or 30d", text.escape_debug());
    let parsed: jiff::Span = text.parse().map_err(|_| wrong())?;
    let exact = parsed.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).ok().filter(|span| !span.is_zero()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  "), "{} has none", command.get_name());
            assert!(help.contains(" lap ") || help.contains("\n  lap "), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        let lap = Lap::command();
        lap.clone().debug_assert();
        check(&lap);
    }

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let commands = help
                .lines()
                .filter_map(|line| line.find("lap ").filter(|_| line.starts_with("  ")).map(|at| &line[at..]));
            found.extend(commands.map(str::to_owned));
            command.get_subcommands().for_each(|command| examples(command, found));
        }
        let mut found = Vec::new();
        examples(&Lap::command(), &mut found);
        assert!(found.len() > 25, "{found:?}");
        for example in found {
            Lap::try_parse_from(example.split_whitespace()).map(|_| ()).expect(&example);
        }
    }

    #[test]
    fn spans_need_their_unit() {
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "5", "0s", "-5s", "soon", "1mo"] {
            span(wrong).expect_err(wrong);
        }
    }
}
