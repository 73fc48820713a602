//! Every address of the interface: what it is for, what a caller needs for it, and who answers. The router is made from
//! this list and from nothing else, so no address can be reached without a rule.

use super::caller::{Rule, guard};
use super::{ApiError, Office};
use super::{applications, audit, authority, events, logs, nodes, quotas, services, spec, tokens, wishes};
use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
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
    Endpoint { method, path, rule, summary, route: on(filter, answer) }
}

/// The list. `Rule::Shown` answers everybody who has the verb somewhere, and the answer is cut to what the caller sees;
/// `Rule::Asked` leaves the scope to the command that the body makes, which core judges (`Command::needs`).
pub fn endpoints() -> Vec<Endpoint> {
    use Rule::{Asked, Environment, Open, Organization, Own, Shown};
    use Verb::{Deploy, ManageAuthority, ManageNodes, ManageTokens, Operate, ReadAudit, See};
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        endpoint(get.clone(), "/v1/version", Open, "Version, cluster and organization.", applications::version),
        endpoint(get.clone(), "/v1/whoami", Own, "Whose token this is, and what it gives.", tokens::whoami),
        endpoint(
            get.clone(),
            "/v1/tokens",
            Shown(ManageTokens),
            "Operators' tokens, without their secrets.",
            tokens::list,
        ),
        endpoint(post.clone(), "/v1/tokens", Asked(ManageTokens), "Make an operator's token.", tokens::create),
        endpoint(delete.clone(), "/v1/tokens/{token}", Asked(ManageTokens), "End a token at once.", tokens::remove),
        endpoint(get.clone(), "/v1/apps", Shown(See), "Applications.", applications::list),
        endpoint(post.clone(), "/v1/apps", Organization(Operate), "Create an application.", applications::create),
        endpoint(get.clone(), "/v1/envs", Shown(See), "Environments.", applications::environments),
        endpoint(post.clone(), "/v1/envs", Asked(Operate), "Create an environment.", applications::create_environment),
        endpoint(
            post.clone(),
            "/v1/envs/{app}/{env}/nodes",
            Organization(ManageNodes),
            "Give a node to an environment.",
            nodes::attach,
        ),
        endpoint(
            delete.clone(),
            "/v1/envs/{app}/{env}/nodes/{node}",
            Organization(ManageNodes),
            "Take a node back.",
            nodes::detach,
        ),
        endpoint(get.clone(), "/v1/nodes", Shown(See), "Nodes.", nodes::list),
        endpoint(get.clone(), "/v1/nodes/{node}", Shown(See), "One node.", nodes::show),
        endpoint(delete.clone(), "/v1/nodes/{node}", Organization(ManageNodes), "Remove a node.", nodes::remove),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/cordon",
            Organization(ManageNodes),
            "Keep new jobs from a node.",
            wishes::cordon,
        ),
        endpoint(
            delete.clone(),
            "/v1/nodes/{node}/cordon",
            Organization(ManageNodes),
            "Let new jobs come to a node again.",
            wishes::uncordon,
        ),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/labels",
            Organization(ManageNodes),
            "Set and remove labels of a node.",
            wishes::label,
        ),
        endpoint(get.clone(), "/v1/quotas", Shown(See), "Quotas, with what is asked for.", quotas::list),
        endpoint(
            post.clone(),
            "/v1/quotas/{app}",
            Organization(Operate),
            "Set limits of an application.",
            quotas::of_application,
        ),
        endpoint(
            post.clone(),
            "/v1/quotas/{app}/{env}",
            Asked(Operate),
            "Set limits of an environment.",
            quotas::of_environment,
        ),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/revoke",
            Organization(ManageNodes),
            "End the use of a node's certificate, for good.",
            nodes::revoke,
        ),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/unquarantine",
            Organization(ManageNodes),
            "End a node's quarantine.",
            nodes::unquarantine,
        ),
        endpoint(
            post.clone(),
            "/v1/nodes/{node}/return",
            Organization(ManageNodes),
            "Let a node return whose certificate has ended.",
            nodes::readmit,
        ),
        endpoint(
            delete.clone(),
            "/v1/nodes/{node}/return",
            Organization(ManageNodes),
            "Do not let a node return.",
            nodes::refuse_return,
        ),
        endpoint(
            get.clone(),
            "/v1/authority",
            Organization(See),
            "The authority's roots and their rotation.",
            authority::show,
        ),
        endpoint(
            post.clone(),
            "/v1/authority/rotate",
            Organization(ManageAuthority),
            "Begin to replace the authority's root.",
            authority::rotate,
        ),
        endpoint(
            post.clone(),
            "/v1/authority/advance",
            Organization(ManageAuthority),
            "Go to the next stage of the rotation.",
            authority::advance,
        ),
        endpoint(post.clone(), "/v1/node-tokens", Organization(ManageNodes), "Make a join token.", nodes::create_token),
        endpoint(post.clone(), "/v1/plan", Asked(Deploy), "What applying a spec would do.", spec::plan),
        endpoint(post.clone(), "/v1/apply", Asked(Deploy), "Apply a spec.", spec::apply),
        endpoint(get.clone(), "/v1/jobs", Shown(See), "Jobs.", services::jobs),
        endpoint(get.clone(), "/v1/services", Shown(See), "Services.", services::list),
        endpoint(get.clone(), "/v1/services/{app}/{env}/{service}", Environment(See), "One service.", services::show),
        endpoint(
            delete.clone(),
            "/v1/services/{app}/{env}/{service}",
            Environment(Operate),
            "Remove a service.",
            services::remove,
        ),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/why",
            Environment(See),
            "Why a service is as it is.",
            services::why,
        ),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/deployments",
            Environment(See),
            "Its deployments, newest first.",
            services::deployments,
        ),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/deployments/{number}",
            Environment(See),
            "One deployment with its timeline.",
            services::deployment,
        ),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/deploy",
            Environment(Deploy),
            "Another image.",
            services::deploy,
        ),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/redeploy",
            Environment(Deploy),
            "New jobs of the same revision.",
            services::redeploy,
        ),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/rollback",
            Environment(Deploy),
            "Back to an older revision.",
            services::rollback,
        ),
        endpoint(
            post.clone(),
            "/v1/services/{app}/{env}/{service}/scale",
            Environment(Deploy),
            "Another number of jobs.",
            services::scale,
        ),
        endpoint(
            get.clone(),
            "/v1/services/{app}/{env}/{service}/logs",
            Environment(See),
            "What its jobs write.",
            logs::stream,
        ),
        endpoint(
            get.clone(),
            "/v1/audit",
            Organization(ReadAudit),
            "Who tried what, and what came of it.",
            audit::list,
        ),
        endpoint(get.clone(), "/v1/audit/head", Organization(ReadAudit), "The end of the audit's chain.", audit::head),
        endpoint(
            get.clone(),
            "/v1/envs/{app}/{env}/policy",
            Environment(See),
            "An environment's policy.",
            applications::policy,
        ),
        endpoint(
            patch,
            "/v1/envs/{app}/{env}/policy",
            Environment(Operate),
            "Set its policy.",
            applications::set_policy,
        ),
        endpoint(get.clone(), "/v1/events", Shown(See), "What happened, and with `follow` what happens.", events::list),
    ]
}

/// The list as a router. Each address is guarded by its own rule before its answer is looked for.
pub fn router(office: Arc<Office>) -> Router {
    let mut router = Router::new();
    for Endpoint { path, rule, route, .. } in endpoints() {
        let guarded = route.route_layer(middleware::from_fn_with_state((office.clone(), rule), guard));
        router = router.route(path, guarded);
    }
    router
        .fallback(async || ApiError::not_found("there is no such address; the interface begins at /v1/"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed("this address does not know the method"))
        .with_state(office)
}
