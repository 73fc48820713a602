//! Every address of the interface: what it is for, what a caller needs for it, and who answers. The router is made from
//! this list and from nothing else, so no address can be reached without a rule.

use super::caller::{Rule, guard};
use super::openapi::About;
use super::page::{Below, Turn};
use super::{ApiError, Office};
use super::{
    applications, audit, authority, counted, events, limits, logs, nodes, openapi, pauses, problem, quotas, runs,
    services, spec, tokens, tunnels, values, wishes,
};
use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use lapstrake_api::{ask, view};
use lapstrake_core::access::Verb;
use std::sync::Arc;

/// One method of one address.
pub struct Endpoint {
    /// The method; a GET also answers HEAD.
    pub method: Method,
    /// The path, with `{app}`, `{env}`, `{service}`, … for its parts. A rule reads `{app}` and `{env}`.
    pub path: &'static str,
    /// What it needs.
    pub rule: Rule,
    /// What it does, as one line.
    pub summary: &'static str,
    /// What it takes and gives.
    pub about: About,
    route: MethodRouter<Arc<Office>>,
}

fn endpoint<H, T>(method: Method, path: &'static str, rule: Rule, summary: &'static str, answer: H) -> Endpoint
where
    H: Handler<T, Arc<Office>>,
    T: 'static,
{
    let filter = match method {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::PATCH => MethodFilter::PATCH,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    Endpoint { method, path, rule, summary, about: About::default(), route: on(filter, answer) }
}

/// The list. `Rule::Shown` answers everybody who has the verb somewhere, and the answer is cut to what the caller sees;
/// `Rule::Asked` leaves the scope to the command that the body makes, which core judges (`Command::needs`).
pub fn endpoints() -> Vec<Endpoint> {
    use Rule::{Asked, Environment, Open, Organization, Own, Shown};
    use Verb::{Deploy, Enter, ManageAuthority, ManageNodes, ManageSecrets, ManageTokens, Operate, ReadAudit, See};
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        endpoint(get.clone(), "/openapi.json", Open, "This description.", openapi::serve)
            .gives::<serde_json::Value>(200),
        endpoint(get.clone(), "/problems/{problem}", Open, "What a problem means.", problem::page).gives_text(),
        endpoint(get.clone(), "/v1/version", Open, "Version, cluster and organization.", applications::version)
            .gives::<view::Version>(200),
        endpoint(
            get.clone(),
            "/v1/controller",
            Own,
            "Whether the store took the last change.",
            applications::controller,
        )
        .gives::<view::Controller>(200),
        endpoint(get.clone(), "/v1/whoami", Own, "Whose token this is, and what it gives.", tokens::whoami)
            .gives::<view::Identity>(200),
        endpoint(
            get.clone(),
            "/v1/tokens",
            Shown(ManageTokens),
            "Operators' tokens, without their secrets.",
            tokens::list,
        )
        .query::<Turn>()
        .lists::<view::OperatorToken>(),
        endpoint(post.clone(), "/v1/tokens", Asked(ManageTokens), "Make an operator's token.", tokens::create)
            .takes::<ask::CreateOperatorToken>()
            .gives::<view::NewOperatorToken>(201),
        endpoint(delete.clone(), "/v1/tokens/{token}", Asked(ManageTokens), "End a token at once.", tokens::remove)
            .gives_nothing(204),
        endpoint(get.clone(), "/v1/apps", Shown(See), "Applications.", applications::list)
            .query::<Turn>()
            .lists::<view::Application>(),
        endpoint(post.clone(), "/v1/apps", Organization(Operate), "Create an application.", applications::create)
            .takes::<ask::CreateApplication>()
            .gives::<view::Application>(201),
        endpoint(get.clone(), "/v1/envs", Shown(See), "Environments.", applications::environments)
            .query::<applications::Which>()
            .lists::<view::Environment>(),
        endpoint(post.clone(), "/v1/envs", Asked(Operate), "Create an environment.", applications::create_environment)
            .takes::<ask::CreateEnvironment>()
            .gives::<view::Environment>(201),
        endpoint(get.clone(), "/v1/envs/{app}/{env}", Environment(See), "One environment.", applications::environment)
            .shows::<view::Environment>(),
        endpoint(
            post.clone(),
            "/v1/envs/{app}/{env}/nodes",
            Organization(ManageNodes),
            "Give a node to an environment.",
            nodes::attach,
        )
        .takes::<ask::AttachNode>()
        .conditional()
        .gives_nothing(204),
        endpoint(
            delete.clone(),
            "/v1/envs/{app}/{env}/nodes/{node}",
            Organization(ManageNodes),
            "Take a node back.",
            nodes::detach,
        )
        .query::<nodes::Force>()
        .conditional()
        .gives_nothing(204),
        endpoint(get.clone(), "/v1/nodes", Shown(See), "Nodes.", nodes::list).query::<Turn>().lists::<view::Node>(),
        endpoint(get.clone(), "/v1/nodes/{node}", Shown(See), "One node.", nodes::show).shows::<view::Node>(),
        endpoint(delete.clone(), "/v1/nodes/{node}", Organization(ManageNodes), "Remove a node.", nodes::remove)
            .query::<nodes::Force>()
            .conditional()
            .gives_nothing(204),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/cordon",
            Organization(ManageNodes),
            "Keep new jobs from a node.",
            wishes::cordon,
        )
        .takes::<ask::Cordon>()
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            delete.clone(),
            "/v1/nodes/{node}/cordon",
            Organization(ManageNodes),
            "Let new jobs come to a node again.",
            wishes::uncordon,
        )
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/labels",
            Organization(ManageNodes),
            "Set and remove labels of a node.",
            wishes::label,
        )
        .takes::<ask::Labels>()
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(get.clone(), "/v1/quotas", Shown(See), "Quotas, with what is asked for.", quotas::list)
            .query::<Below>()
            .lists::<view::Quota>(),
        endpoint(
            post.clone(),
            "/v1/quotas/{app}",
            Organization(Operate),
            "Set limits of an application.",
            quotas::of_application,
        )
        .takes::<ask::Quota>()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/quotas/{app}/{env}",
            Asked(Operate),
            "Set limits of an environment.",
            quotas::of_environment,
        )
        .takes::<ask::Quota>()
        .gives::<view::Noted>(200),
        endpoint(get.clone(), "/v1/values", Shown(See), "Secrets and variables, with their origin.", values::list)
            .query::<values::Which>()
            .lists::<view::Value>(),
        endpoint(post.clone(), "/v1/values", Asked(ManageSecrets), "Set a secret or a variable.", values::set)
            .takes::<ask::SetValue>()
            .gives::<view::Noted>(200),
        endpoint(
            delete.clone(),
            "/v1/values/{kind}/{name}",
            Asked(ManageSecrets),
            "Remove a secret or a variable.",
            values::remove,
        )
        .query::<values::Owner>()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/values/key",
            Organization(ManageAuthority),
            "Replace the master key.",
            values::rotate,
        )
        .gives::<view::MasterKey>(200),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/revoke",
            Organization(ManageNodes),
            "End the use of a node's certificate, for good.",
            nodes::revoke,
        )
        .gives_nothing(204),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/unquarantine",
            Organization(ManageNodes),
            "End a node's quarantine.",
            nodes::unquarantine,
        )
        .gives_nothing(204),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/return",
            Organization(ManageNodes),
            "Let a node return whose certificate has ended.",
            nodes::readmit,
        )
        .takes::<ask::Readmit>()
        .gives_nothing(204),
        endpoint(
            delete.clone(),
            "/v1/nodes/{node}/return",
            Organization(ManageNodes),
            "Do not let a node return.",
            nodes::refuse_return,
        )
        .gives_nothing(204),
        endpoint(
            get.clone(),
            "/v1/authority",
            Organization(See),
            "The authority's roots and their rotation.",
            authority::show,
        )
        .gives::<view::Authority>(200),
        endpoint(
            post.clone(),
            "/v1/authority/rotate",
            Organization(ManageAuthority),
            "Begin to replace the authority's root.",
            authority::rotate,
        )
        .gives::<view::Authority>(200),
        endpoint(
            post.clone(),
            "/v1/authority/advance",
            Organization(ManageAuthority),
            "Go to the next stage of the rotation.",
            authority::advance,
        )
        .query::<nodes::Force>()
        .gives::<view::Authority>(200),
        endpoint(post.clone(), "/v1/node-tokens", Organization(ManageNodes), "Make a join token.", nodes::create_token)
            .takes::<ask::CreateJoinToken>()
            .gives::<view::JoinToken>(201),
        endpoint(post.clone(), "/v1/plan", Asked(Deploy), "What applying a spec would do.", spec::plan)
            .takes_spec()
            .gives::<view::Changes>(200),
        endpoint(post.clone(), "/v1/apply", Asked(Deploy), "Apply a spec.", spec::apply)
            .takes_spec()
            .conditional()
            .gives::<view::Changes>(200),
        endpoint(get.clone(), "/v1/jobs", Shown(See), "Jobs.", services::jobs).query::<Below>().lists::<view::Job>(),
        endpoint(get.clone(), "/v1/services", Shown(See), "Services.", services::list)
            .query::<Below>()
            .lists::<view::Service>(),
        endpoint(get.clone(), "/v1/services/{app}/{env}/{service}", Environment(See), "One service.", services::show)
            .shows::<view::Service>(),
        endpoint(
            delete.clone(),
            "/v1/services/{app}/{env}/{service}",
            Environment(Operate),
            "Remove a service.",
            services::remove,
        )
        .conditional()
        .gives_nothing(202),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/why",
            Environment(See),
            "Why a service is as it is.",
            services::why,
        )
        .gives::<view::Why>(200),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/deployments",
            Environment(See),
            "Its deployments, newest first.",
            services::deployments,
        )
        .query::<Turn>()
        .lists::<view::Deployment>(),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/deployments/{number}",
            Environment(See),
            "One deployment with its timeline.",
            services::deployment,
        )
        .shows::<view::Deployment>(),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/deployments/{number}/cancel",
            Environment(Deploy),
            "Ends a deployment under way: the service goes back to what was active.",
            services::cancel,
        )
        .conditional()
        .shows::<view::Deployment>(),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/deployments/{number}/hold",
            Environment(Deploy),
            "A canary stays at its step until it is released.",
            services::hold,
        )
        .conditional()
        .shows::<view::Deployment>(),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/deployments/{number}/release",
            Environment(Deploy),
            "A canary goes to its next step, or gets all of the traffic.",
            services::release,
        )
        .takes::<ask::Release>()
        .conditional()
        .shows::<view::Deployment>(),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/deploy",
            Environment(Deploy),
            "Another image.",
            services::deploy,
        )
        .takes::<ask::Deploy>()
        .conditional()
        .gives::<view::Deployment>(202),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/redeploy",
            Environment(Deploy),
            "New jobs of the same revision.",
            services::redeploy,
        )
        .conditional()
        .gives::<view::Deployment>(202),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/rollback",
            Environment(Deploy),
            "Back to an older revision.",
            services::rollback,
        )
        .takes::<ask::Rollback>()
        .conditional()
        .gives::<view::Deployment>(202),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/scale",
            Environment(Deploy),
            "Another number of jobs.",
            services::scale,
        )
        .takes::<ask::Scale>()
        .conditional()
        .gives::<view::Deployment>(202)
        .gives::<view::Deployment>(200),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/runs",
            Environment(See),
            "Its one-off jobs that run or ended lately, newest first.",
            runs::list,
        )
        .query::<Turn>()
        .lists::<view::OneOff>(),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/runs",
            Environment(Enter),
            "Run a command once, in a job of its own.",
            runs::run,
        )
        .takes::<ask::Run>()
        .gives::<view::OneOff>(201),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/runs/{job}",
            Environment(See),
            "One one-off job.",
            runs::show,
        )
        .gives::<view::OneOff>(200),
        endpoint(
            delete.clone(),
            "/v1/services/{app}/{env}/{service}/runs/{job}",
            Environment(Enter),
            "End a one-off job.",
            runs::end,
        )
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/pause",
            Environment(Deploy),
            "End its jobs and keep all else.",
            pauses::pause,
        )
        .takes::<ask::Pause>()
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/resume",
            Environment(Deploy),
            "Start it again.",
            pauses::resume,
        )
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/envs/{app}/{env}/pause",
            Environment(Deploy),
            "Pause all services of an environment.",
            pauses::pause_all,
        )
        .takes::<ask::Pause>()
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/envs/{app}/{env}/resume",
            Environment(Deploy),
            "Resume all services of an environment.",
            pauses::resume_all,
        )
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/not-redeployable",
            Environment(Operate),
            "Keep people from giving it new jobs.",
            pauses::mark,
        )
        .takes::<ask::NotRedeployable>()
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            delete.clone(),
            "/v1/services/{app}/{env}/{service}/not-redeployable",
            Environment(Operate),
            "Let people give it new jobs again.",
            pauses::unmark,
        )
        .conditional()
        .gives::<view::Noted>(200),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/logs",
            Environment(See),
            "What its jobs write.",
            logs::stream,
        )
        .query::<logs::Which>()
        .weighs()
        .streams::<view::LogLine>(),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/exec",
            Environment(Enter),
            "A command in a job's container.",
            tunnels::exec,
        )
        .query::<tunnels::ExecQuery>()
        .upgrades(),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/forward",
            Environment(Enter),
            "A connection to a port of a job.",
            tunnels::forward,
        )
        .query::<tunnels::ForwardQuery>()
        .upgrades(),
        endpoint(
            get.clone(),
            "/v1/audit",
            Organization(ReadAudit),
            "Who tried what, and what came of it.",
            audit::list,
        )
        .query::<audit::Which>()
        .lists::<view::AuditRow>(),
        endpoint(get.clone(), "/v1/audit/head", Organization(ReadAudit), "The end of the audit's chain.", audit::head)
            .gives::<view::AuditHead>(200),
        endpoint(
            get.clone(),
            "/v1/envs/{app}/{env}/policy",
            Environment(See),
            "An environment's policy.",
            applications::policy,
        )
        .gives::<view::Policy>(200),
        endpoint(
            patch,
            "/v1/envs/{app}/{env}/policy",
            Environment(Operate),
            "Set its policy.",
            applications::set_policy,
        )
        .takes::<ask::SetPolicy>()
        .conditional()
        .gives::<view::Policy>(200),
        endpoint(get.clone(), "/v1/events", Shown(See), "What happened, and with `follow` what happens.", events::list)
            .query::<events::Which>()
            .lists::<view::Event>()
            .streams::<view::Event>(),
    ]
}

/// The list as a router. Each address is guarded by its own rule before its answer is looked for.
pub fn router(office: Arc<Office>) -> Router {
    let mut router = Router::new();
    for Endpoint { path, rule, route, .. } in endpoints() {
        let guarded = route.route_layer(middleware::from_fn_with_state((office.clone(), rule), guard));
        let named = guarded.route_layer(middleware::from_fn_with_state(path, counted::named));
        router = router.route(path, named);
    }
    router
        .fallback(async || ApiError::not_found("there is no such address; the interface begins at /v1/"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed("this address does not know the method"))
        .layer(middleware::from_fn_with_state(office.clone(), limits::by_address))
        .layer(middleware::from_fn(problem::caught))
        .layer(middleware::from_fn_with_state(office.clone(), counted::every_answer))
        .with_state(office)
}
