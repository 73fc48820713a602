//! Listings: one row for each thing.

use super::amount::{ago, ahead, bytes, cores, span};
use super::table::{Cell, Column, Table};
use super::timeline::took_ms;
use crate::address::ValueOwner;
use crate::output::{Style, Surface, printable, without_subject};
use lapstrake_api::view::{
    Application, Deployment, Environment, Job, Node, OperatorToken, Quota, Service, Share, Value,
};

/// `lap app ls`.
pub fn applications(applications: &[Application]) -> Table {
    let mut table = Table::new([
        Column::new("APPLICATION"),
        Column::new("KIND").leaves(2),
        Column::new("SERVICES").right().leaves(1),
        Column::new("ENVIRONMENTS").cut_to(12),
    ]);
    for application in applications {
        table.row([
            (&application.name).into(),
            (&application.kind).into(),
            application.services.to_string().into(),
            application.environments.join(", ").into(),
        ]);
    }
    table
}

/// `lap env ls`.
pub fn environments(environments: &[Environment]) -> Table {
    let mut table = Table::new([
        Column::new("ENVIRONMENT"),
        Column::new("NODES").cut_to(8),
        Column::new("SERVICES").leaves(1).cut_to(8),
        Column::new("MAX SCALE").right().leaves(2),
    ]);
    for environment in environments {
        let nodes = if environment.nodes.is_empty() {
            Cell::styled("none", Style::Faint)
        } else {
            environment.nodes.join(", ").into()
        };
        let max_scale = environment.max_scale.map(|scale| scale.to_string()).unwrap_or_default();
        table.row([(&environment.path).into(), nodes, environment.services.join(", ").into(), max_scale.into()]);
    }
    table
}

/// `lap token ls`.
pub fn tokens(tokens: &[OperatorToken], now_ms: u64) -> Table {
    let mut table = Table::new([
        Column::new("TOKEN"),
        Column::new("ROLE"),
        Column::new("SCOPE"),
        Column::new("ENDS"),
        Column::new("MADE").leaves(2),
        Column::new("BY").leaves(1),
        Column::new("ID").leaves(3),
    ]);
    for token in tokens {
        let ends = match token.expires_ms {
            Some(_) if token.expired => Cell::styled("expired", Style::Bad),
            Some(at) => ahead(at, now_ms).into(),
            None => Cell::styled("not by itself", Style::Faint),
        };
        table.row([
            (&token.name).into(),
            (&token.role).into(),
            token.scope.as_deref().unwrap_or("(organization)").into(),
            ends,
            ago(token.created_ms, now_ms).into(),
            (&token.by).into(),
            (&token.id).into(),
        ]);
    }
    table
}

/// `lap quota ls`.
pub fn quotas(quotas: &[Quota]) -> Table {
    let mut table = Table::new([
        Column::new("PATH"),
        Column::new("SERVICES").right(),
        Column::new("JOBS").right(),
        Column::new("CPU").right().leaves(2),
        Column::new("MEMORY").right().leaves(1),
    ]);
    let of = |share: &Share, shown: &dyn Fn(u64) -> String| {
        let limit = share.limit.map_or("-".to_owned(), shown);
        let style = match share.limit {
            Some(limit) if share.asked > limit => Style::Bad,
            Some(limit) if share.asked == limit => Style::Warn,
            Some(_) | None => Style::Plain,
        };
        Cell::styled(format!("{}/{limit}", shown(share.asked)), style)
    };
    let milli = |amount: u64| cores(u32::try_from(amount).unwrap_or(u32::MAX));
    for quota in quotas {
        table.row([
            (&quota.path).into(),
            of(&quota.services, &|amount| amount.to_string()),
            of(&quota.jobs, &|amount| amount.to_string()),
            of(&quota.cpu_milli, &milli),
            of(&quota.memory_bytes, &bytes),
        ]);
    }
    table
}

/// `lap secret ls` and `lap var ls`.
pub fn values(values: &[Value], owner: &ValueOwner, now_ms: u64) -> Table {
    let mut table = Table::new([
        Column::new("NAME"),
        Column::new("KIND").leaves(5),
        Column::new("VALUE").cut_to(12),
        Column::new("ORIGIN").leaves(2).cut_to(12),
        Column::new("VERSION").right().leaves(4),
        Column::new("SET").leaves(3).cut_to(10),
        Column::new("STATE").leaves(1).cut_to(16),
    ]);
    for value in values {
        // Of variables nothing else is in the list.
        let kind = if value.kind == "variable" { "" } else { value.kind.as_str() };
        let origin = match (value.origin.as_str(), &value.of) {
            ("inherited", Some(of)) if of.is_empty() => "inherited from the organization".to_owned(),
            ("inherited", Some(of)) => format!("inherited from {of}"),
            (origin, _) => origin.to_owned(),
        };
        let when = value.changed_ms.map(|at| ago(at, now_ms));
        let by = value.by.as_ref().map(|by| format!("by {by}"));
        table.row([
            (&value.name).into(),
            kind.into(),
            value.value.as_deref().unwrap_or("").into(),
            origin.into(),
            value.version.map(|version| format!("v{version}")).unwrap_or_default().into(),
            when.into_iter().chain(by).collect::<Vec<_>>().join(" ").into(),
            deployed(value, owner),
        ]);
    }
    table
}

/// Whether the jobs that should have a value have it; of what nobody has set there is no such question.
fn deployed(value: &Value, owner: &ValueOwner) -> Cell {
    if let Some(trouble) = &value.trouble {
        return Cell::styled(trouble, Style::Bad);
    }
    let services: Vec<&str> =
        value.not_deployed.iter().map(|path| owner.short(path)).filter(|path| !path.is_empty()).collect();
    match (value.not_deployed.is_empty(), services.is_empty()) {
        (true, _) if value.version.is_none() => Cell::default(),
        (true, _) => Cell::styled("deployed", Style::Good),
        (false, true) => Cell::styled("not deployed", Style::Warn),
        (false, false) => Cell::styled(format!("not deployed: {}", services.join(", ")), Style::Warn),
    }
}

/// `lap node ls`.
pub fn nodes(nodes: &[Node]) -> Table {
    let mut table = Table::new([
        Column::new("NODE"),
        Column::new("STATE"),
        Column::new("SILENT").right().leaves(3),
        Column::new("JOBS").right().leaves(1),
        Column::new("CPU USED/ALL").right().leaves(4),
        Column::new("MEMORY USED/ALL").right().leaves(4),
        Column::new("ENVIRONMENTS").leaves(2).cut_to(12),
        Column::new("LABELS").leaves(3).cut_to(10),
        Column::new("ARCH").leaves(6),
        Column::new("VERSION").leaves(5),
        Column::new("TROUBLE").leaves(1).cut_to(16),
    ]);
    for node in nodes {
        let silent = if node.liveness == "ready" { String::new() } else { span(node.silent_ms) };
        table.row([
            (&node.name).into(),
            state_of(node),
            silent.into(),
            node.jobs.to_string().into(),
            format!("{}/{}", cores(node.used.cpu_milli), cores(node.capacity.cpu_milli)).into(),
            format!("{}/{}", bytes(node.used.memory_bytes), bytes(node.capacity.memory_bytes)).into(),
            node.environments.join(", ").into(),
            labels_of(node).into(),
            (&node.architecture).into(),
            (&node.version).into(),
            Cell::styled(node.troubles.join("; "), Style::Bad),
        ]);
    }
    table
}

/// How a node is, and whether it gets new jobs: two axes in one cell.
fn state_of(node: &Node) -> Cell {
    match &node.cordon {
        Some(_) => Cell::styled(format!("{}, cordoned", node.liveness), Style::of_word(&node.liveness).or_warn()),
        None => Cell::word(&node.liveness),
    }
}

/// `disk=ssd, zone=a`.
fn labels_of(node: &Node) -> String {
    node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// `cordoned by alice 3 h ago: disk swap`.
fn cordon_of(node: &Node, now_ms: u64) -> Option<String> {
    let cordon = node.cordon.as_ref()?;
    let reason = cordon.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(printable(&format!("by {} {}{reason}; it gets no new jobs", cordon.by, ago(cordon.since_ms, now_ms))))
}

/// `lap node show`.
pub fn node(node: &Node, now_ms: u64, surface: Surface) -> String {
    let state = Style::of_word(&node.liveness).paint(&printable(&node.liveness), surface.colour);
    let silent =
        if node.liveness == "ready" { String::new() } else { format!(", silent for {}", span(node.silent_ms)) };
    let amounts = |amount: &lapstrake_api::view::Amount| {
        format!("{} cores, {}", cores(amount.cpu_milli), bytes(amount.memory_bytes))
    };
    let environments = if node.environments.is_empty() {
        "none; `lap env attach-node` gives it to one".to_owned()
    } else {
        printable(&node.environments.join(", "))
    };
    let mut shown = format!("{} is {state}{silent}\n", Style::Strong.paint(&printable(&node.name), surface.colour));
    for (what, value) in [
        ("offers", amounts(&node.capacity)),
        ("promised", format!("{} to its jobs", amounts(&node.committed))),
        ("used", format!("{} by the machine", amounts(&node.used))),
        ("jobs", node.jobs.to_string()),
        ("environments", environments),
        ("labels", printable(&labels_of(node))),
        ("cordoned", cordon_of(node, now_ms).unwrap_or_default()),
        ("agent", printable(&format!("{} on {}", node.version, node.architecture))),
        ("joined", ago(node.joined_ms, now_ms)),
        ("id", printable(&node.id)),
    ] {
        if value.is_empty() {
            continue;
        }
        shown.push_str(&format!("  {}  {value}\n", Style::Faint.paint(&format!("{what:<12}"), surface.colour)));
    }
    for trouble in &node.troubles {
        shown.push_str(&format!("  {} {}\n", Style::Bad.paint("trouble:", surface.colour), printable(trouble)));
    }
    shown
}

/// `lap ps`.
pub fn jobs(jobs: &[Job]) -> Table {
    let mut table = Table::new([
        Column::new("JOB"),
        Column::new("NODE").leaves(2),
        Column::new("REV").right().leaves(3),
        Column::new("PHASE").leaves(4),
        Column::new("HEALTH"),
        Column::new("ROLE").leaves(5),
        Column::new("ATTEMPT").right().leaves(7),
        Column::new("CPU").right().leaves(6),
        Column::new("MEMORY").right().leaves(6),
        Column::new("ADDRESS").leaves(8),
        Column::new("MESSAGE").leaves(1).cut_to(16),
    ]);
    for job in jobs {
        let attempt = if job.attempt > 1 { job.attempt.to_string() } else { String::new() };
        // That a job carries its slot is the rule, and not said of each.
        let role = if job.role == "current" { "" } else { job.role.as_str() };
        table.row([
            format!("{}/{}", job.service, job.slot).into(),
            job.node.as_deref().unwrap_or("").into(),
            format!("r{}", job.revision).into(),
            Cell::word(&job.phase),
            Cell::word(&job.health),
            role.into(),
            attempt.into(),
            cores(job.cpu_milli).into(),
            bytes(job.memory_bytes).into(),
            job.address.as_deref().unwrap_or("").into(),
            job.message.as_deref().unwrap_or("").into(),
        ]);
    }
    table
}

/// `lap status`.
pub fn services(services: &[Service]) -> Table {
    let mut table = Table::new([
        Column::new("SERVICE"),
        Column::new("TYPE").leaves(5),
        Column::new("STATE"),
        Column::new("HEALTHY").right().leaves(1),
        Column::new("REV").right().leaves(3),
        Column::new("IMAGE").leaves(4).cut_to(16),
        Column::new("MESSAGE").leaves(2).cut_to(20),
    ]);
    for service in services {
        table.row([
            (&service.path).into(),
            (&service.service_type).into(),
            Cell::word(&service.state),
            format!("{}/{}", service.healthy, service.scale).into(),
            service.revision.map(|revision| format!("r{revision}")).unwrap_or_default().into(),
            (&service.image).into(),
            without_subject(&service.message, &service.path).into(),
        ]);
    }
    table
}

/// `lap deployments PATH`.
pub fn deployments(deployments: &[Deployment], now_ms: u64) -> Table {
    let mut table = Table::new([
        Column::new("NO").right(),
        Column::new("PHASE"),
        Column::new("TRIGGER").leaves(3),
        Column::new("REV").right().leaves(2),
        Column::new("IMAGE").leaves(4).cut_to(16),
        Column::new("BY").leaves(6),
        Column::new("ASKED").leaves(1),
        Column::new("TOOK").right().leaves(5),
        Column::new("MESSAGE").leaves(2).cut_to(16),
    ]);
    for deployment in deployments {
        table.row([
            deployment.number.to_string().into(),
            Cell::word(&deployment.phase),
            (&deployment.trigger).into(),
            deployment.revision.map(|revision| format!("r{revision}")).unwrap_or_default().into(),
            (&deployment.image).into(),
            (&deployment.by).into(),
            ago(deployment.created_ms, now_ms).into(),
            took_ms(deployment).map(span).unwrap_or_default().into(),
            without_subject(deployment.message.as_deref().unwrap_or(""), &deployment.service).into(),
        ]);
    }
    table
}
