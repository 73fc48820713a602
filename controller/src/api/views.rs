//! From records and readings to what people are shown. Nothing is decided here.

use crate::engine::Look;
use lapstrake_api::view;
use lapstrake_core::access::{Grant, Scope};
use lapstrake_core::cluster::paths::slot_word;
use lapstrake_core::cluster::rotation::RotationWait;
use lapstrake_core::cluster::state::{
    Allotment, Application, Authority, Deployment, DeploymentFailure, DeploymentPhase, Environment, Node, ReturnAnswer,
    Returning, Revision, Root, Service, Slot, SlotJob,
};
use lapstrake_core::cluster::status::{ServiceState, SlotJobStatus, SlotStatus};
use lapstrake_core::cluster::{Cluster, One};
use lapstrake_core::ids::{JobId, ServiceId, SlotId};
use lapstrake_core::policy::Policy;
use lapstrake_core::quota::{Amounts, Good, Holder, Quota};
use lapstrake_core::report::{Capacity, Health, JobPhase, ReplacementReport};
use lapstrake_core::spec::Size;

/// A word as the JSON form of a plain enum writes it.
fn word(value: impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}

/// All applications in which somebody sees anything, by name, with as much of them as they see.
pub fn applications(look: &Look<'_>, to: &Grant) -> Vec<view::Application> {
    let seen = look.cluster.all::<Application>().filter(|record| {
        let scope = Scope::Application(record.name.clone());
        to.scope.touches(&scope) && to.sees(&to.scope)
    });
    let mut views: Vec<_> = seen.map(|record| application(look.cluster, record, to)).collect();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

fn application(cluster: &Cluster, record: &Application, to: &Grant) -> view::Application {
    let sees = |environment: &&Environment| to.sees(&Scope::Environment(record.name.clone(), environment.name.clone()));
    let of_it = cluster.all::<Environment>().filter(|environment| environment.application == record.id);
    let mut environments: Vec<_> = of_it.filter(sees).collect();
    environments.sort_by_key(|environment| (environment.created, environment.id));
    let holds = |service: &&Service| environments.iter().any(|environment| environment.id == service.environment);
    view::Application {
        name: record.name.clone(),
        kind: word(record.kind),
        services: cluster.all::<Service>().filter(holds).count() as u32,
        environments: environments.iter().map(|environment| environment.name.clone()).collect(),
    }
}

/// All environments that somebody sees, each with its cursor, or those of one application, in the order in which an application moves through
/// them.
pub fn environments(look: &Look<'_>, application: Option<&str>, to: &Grant) -> Vec<(String, view::Environment)> {
    let cluster = look.cluster;
    let mut records: Vec<(&str, &Environment)> = cluster
        .all::<Environment>()
        .filter_map(|record| Some((cluster.get::<Application>(&record.application)?.name.as_str(), record)))
        .filter(|(name, _)| application.is_none_or(|wanted| wanted == *name))
        .filter(|(name, record)| to.sees(&Scope::Environment((*name).to_owned(), record.name.clone())))
        .collect();
    records.sort_by_key(|(name, record)| (*name, record.created, record.id));
    // In a cursor `!` comes before all that a name may have, so that cursors are in the order of the list.
    let cursor = |name: &str, record: &Environment| format!("{name}!{:020}!{}", record.created.0, record.id);
    records.into_iter().map(|(name, record)| (cursor(name, record), environment(cluster, name, record))).collect()
}

fn environment(cluster: &Cluster, application: &str, record: &Environment) -> view::Environment {
    let allotted = cluster.all::<Allotment>().filter(|allotment| allotment.environment == record.id);
    let mut nodes: Vec<_> = allotted.map(|allotment| cluster.node_name(allotment.node)).collect();
    nodes.sort();
    let in_it = cluster.all::<Service>().filter(|service| service.environment == record.id);
    let mut services: Vec<_> = in_it.map(|service| service.name.clone()).collect();
    services.sort();
    view::Environment {
        path: format!("{application}/{}", record.name),
        nodes,
        services,
        max_scale: Some(record.policy.max_scale),
    }
}

/// What an environment allows.
pub fn policy(path: String, policy: Policy) -> view::Policy {
    view::Policy { path, max_scale: policy.max_scale, operator_fields: policy.operator_fields.into() }
}

/// The quotas that somebody sees, or those below a path: each application before its environments. Whoever sees only an
/// environment does not see what the whole application has.
pub fn quotas(look: &Look<'_>, below: Option<&str>, to: &Grant) -> Vec<view::Quota> {
    let cluster = look.cluster;
    let mut views = Vec::new();
    for record in cluster.all::<Application>() {
        let asked = cluster.asked_of_application(record.id);
        views.push(quota(record.name.clone(), Holder::Application, record.quota, asked));
    }
    for record in cluster.all::<Environment>() {
        let asked = cluster.asked_of_environment(record.id);
        let path = cluster.environment_path(record.id);
        views.push(quota(path, Holder::Environment, record.quota, asked));
    }
    views.retain(|view| below.is_none_or(|below| is_below(&view.path, below)) && to.sees(&Scope::of_path(&view.path)));
    views.sort_by(|a, b| a.path.cmp(&b.path));
    views
}

fn quota(path: String, holder: Holder, quota: Quota, asked: Amounts) -> view::Quota {
    let share = |good: Good| view::Share { asked: asked.of(good), limit: quota.limit(holder, good) };
    view::Quota {
        path,
        services: share(Good::Services),
        jobs: share(Good::Jobs),
        cpu_milli: share(Good::Cpu),
        memory_bytes: share(Good::Memory),
    }
}

/// The nodes that somebody sees, by name: who sees the organization, all; everybody else those that are given to an
/// environment which they see, without the names of the other environments on them.
pub fn nodes(look: &Look<'_>, to: &Grant) -> Vec<view::Node> {
    let everywhere = to.sees(&Scope::Organization);
    let mut views: Vec<_> = look.cluster.all::<Node>().map(|record| node(look, record)).collect();
    views.retain_mut(|node| {
        node.environments.retain(|path| to.sees(&Scope::of_path(path)));
        everywhere || !node.environments.is_empty()
    });
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

fn amount(capacity: Capacity) -> view::Amount {
    view::Amount { cpu_milli: capacity.cpu_milli, memory_bytes: capacity.memory_bytes }
}

fn node(look: &Look<'_>, record: &Node) -> view::Node {
    let cluster = look.cluster;
    let live = look.live.nodes.get(&record.id);
    let slots: Vec<&Slot> = cluster.all::<Slot>().filter(|slot| slot.node == record.id).collect();
    let committed =
        slots.iter().filter_map(|slot| size_of(cluster, slot)).fold(view::Amount::default(), |sum, size| {
            view::Amount {
                cpu_milli: sum.cpu_milli + size.cpu_milli,
                memory_bytes: sum.memory_bytes + size.memory_bytes,
            }
        });
    let allotted = cluster.all::<Allotment>().filter(|allotment| allotment.node == record.id);
    let mut environments: Vec<_> = allotted.map(|allotment| cluster.environment_path(allotment.environment)).collect();
    environments.sort();
    let report = look.live.report(record.id);
    let mut troubles = report.map(|report| report.troubles.clone()).unwrap_or_default();
    troubles.extend(record.standing_troubles());
    view::Node {
        name: record.name.clone(),
        id: record.id.to_string(),
        liveness: match record.boot {
            Some(_) => look.live.liveness(record.id, look.now).word().into(),
            None => "joining".into(),
        },
        standing: record.standing.word().into(),
        returning: record.returning.as_ref().map(returning),
        silent_ms: look.live.pulse(record.id).silence(look.now).0,
        version: live.map(|live| live.version.clone()).unwrap_or_default(),
        architecture: record.architecture.clone(),
        labels: record.labels.clone(),
        cordon: record.wish.cordon().map(|cordon| view::Cordon {
            by: cordon.by.clone(),
            reason: cordon.reason.clone(),
            since_ms: cordon.since.0,
        }),
        capacity: amount(record.capacity),
        committed,
        used: live
            .map(|live| view::Amount { cpu_milli: live.used.cpu_milli, memory_bytes: live.used.memory_bytes })
            .unwrap_or_default(),
        environments,
        jobs: slots.len() as u32,
        troubles,
        joined_ms: record.joined.0,
    }
}

fn returning(record: &Returning) -> view::Returning {
    view::Returning {
        key: record.key.clone(),
        address: record.address.clone(),
        asked_ms: record.asked.0,
        ended_ms: record.ended.0,
        answer: match record.answer {
            ReturnAnswer::Waiting => "waiting",
            ReturnAnswer::Admitted => "admitted",
            ReturnAnswer::Refused => "refused",
        }
        .into(),
    }
}

/// The authority as the store has it, and whom its rotation waits for.
pub fn authority(look: &Look<'_>) -> Option<view::Authority> {
    let record = look.cluster.get::<Authority>(&One)?;
    let root = |root: &Root| view::Root {
        fingerprint: root.id.to_string(),
        made_ms: root.made.0,
        ends_ms: root.ends.0,
        signs: root.id == record.signing().id,
    };
    let wait = |wait: RotationWait| view::RotationWait { node: wait.node, why: wait.why.into() };
    Some(view::Authority {
        roots: record.trusted().into_iter().map(root).collect(),
        rotation: record.rotation.as_ref().map(|rotation| view::Rotation {
            stage: rotation.stage.word().into(),
            begun_ms: rotation.begun.0,
            since_ms: rotation.since.0,
            by: rotation.by.clone(),
            waits: look.cluster.rotation_waits(look.live).into_iter().map(wait).collect(),
        }),
    })
}

fn size_of(cluster: &Cluster, slot: &Slot) -> Option<Size> {
    let job = slot.job.as_ref()?;
    Some(cluster.get::<Revision>(&(slot.id.service, job.revision))?.spec.size)
}

/// All services that somebody sees, or those of them below a path, by path.
pub fn services(look: &Look<'_>, below: Option<&str>, to: &Grant) -> Vec<view::Service> {
    let shown = |record: &&Service| {
        let path = look.cluster.path_of(record).to_string();
        below.is_none_or(|below| is_below(&path, below)) && to.sees(&Scope::of_path(&path))
    };
    let mut views: Vec<_> = look.cluster.all::<Service>().filter(shown).map(|record| service(look, record)).collect();
    views.sort_by(|a, b| a.path.cmp(&b.path));
    views
}

fn is_below(path: &str, below: &str) -> bool {
    path == below || path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'))
}

/// One service with its jobs and its newest deployment.
pub fn service(look: &Look<'_>, record: &Service) -> view::Service {
    let cluster = look.cluster;
    let path = cluster.path_of(record).to_string();
    let status = look.cluster.status(look.live, record.id, look.now);
    let active = record.active.as_ref().map(|active| active.revision);
    let revision = active.and_then(|number| cluster.get::<Revision>(&(record.id, number)));
    let slots = status.as_ref().map(|status| status.slots.as_slice()).unwrap_or_default();
    let routes = revision.or_else(|| cluster.get::<Revision>(&(record.id, record.last_revision)));
    view::Service {
        service_type: record.spec.service_type.name().into(),
        state: status.as_ref().map(|status| word(status.state)).unwrap_or_else(|| word(ServiceState::Starting)),
        message: status.as_ref().map(|status| status.message.clone()).unwrap_or_default(),
        image: revision.map_or(&record.spec, |revision| &revision.spec).image.reference.clone(),
        pinned: revision.map(|revision| revision.image.pinned().to_owned()),
        revision: active,
        scale: record.spec.scale,
        healthy: status.as_ref().map_or(0, |status| status.healthy),
        routes: routes.map(routes_of).unwrap_or_default(),
        ports: routes.map_or(&record.spec, |revision| &revision.spec).ports.iter().map(|port| port.port).collect(),
        jobs: slots.iter().flat_map(|slot| jobs_of(look, &path, slot)).collect(),
        deployment: newest_deployment(look, record),
        paused: record.wanted.pause().map(|pause| view::Hold {
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            since_ms: pause.since.0,
        }),
        not_redeployable: record.not_redeployable.as_ref().map(|mark| view::Hold {
            by: mark.by.clone(),
            reason: Some(mark.reason.clone()),
            since_ms: mark.since.0,
        }),
        path,
    }
}

fn routes_of(revision: &Revision) -> Vec<String> {
    let ports = revision.spec.ports.iter().zip(&revision.hosts);
    ports
        .filter_map(|(port, host)| {
            let path = port.path.as_deref().unwrap_or("/");
            host.as_ref().map(|host| format!("http://{host}{path}"))
        })
        .collect()
}

fn jobs_of(look: &Look<'_>, path: &str, slot: &SlotStatus) -> Vec<view::Job> {
    let held = look.cluster.get::<Slot>(&slot.slot);
    let wanted = held.and_then(|held| held.job);
    let limit_of = |record: &SlotJob| {
        let revision = look.cluster.get::<Revision>(&(slot.slot.service, record.revision))?;
        let Size { cpu_milli, memory_bytes, .. } = revision.spec.size;
        Some(view::Amount { cpu_milli, memory_bytes })
    };
    let job_view = |job: JobId, seen: Option<&SlotJobStatus>| {
        let record = held.and_then(|held| held.job.iter().chain(&held.previous).find(|record| record.job == job));
        let silent = seen.is_none();
        view::Job {
            id: job.to_string(),
            service: path.to_owned(),
            slot: slot_word(&slot.slot),
            node: Some(look.cluster.node_name(slot.node)),
            revision: record.map_or(slot.revision.unwrap_or(0), |record| record.revision),
            phase: seen.map_or_else(|| "unknown".into(), |seen| word(seen.phase)),
            health: word(seen.map_or(Health::Unknown, |seen| seen.health)),
            attempt: seen.map_or(0, |seen| seen.attempt),
            role: role_of(job, wanted.map(|wanted| wanted.job), slot.replacement.as_ref()).into(),
            message: seen
                .and_then(|seen| seen.failure.as_ref().map(ToString::to_string))
                .or_else(|| silent.then(|| slot.trouble.clone()).flatten()),
            address: seen.and_then(|seen| seen.address).map(|address| address.to_string()),
            memory_bytes: seen.map_or(0, |seen| seen.memory_bytes),
            cpu_milli: seen.map_or(0, |seen| seen.cpu_milli),
            limit: record.and_then(limit_of).unwrap_or_default(),
        }
    };
    let shown = |seen: &&SlotJobStatus| !matches!(seen.phase, JobPhase::Stopped | JobPhase::Rejected);
    let mut views: Vec<_> = slot.jobs.iter().filter(shown).map(|seen| job_view(seen.job, Some(seen))).collect();
    if let Some(wanted) = wanted
        && !slot.jobs.iter().any(|seen| seen.job == wanted.job)
    {
        views.push(job_view(wanted.job, None));
    }
    views
}

fn role_of(job: JobId, wanted: Option<JobId>, replacement: Option<&ReplacementReport>) -> &'static str {
    match replacement.filter(|replacement| !replacement.phase.is_final()) {
        Some(replacement) if replacement.new == Some(job) => "new",
        Some(replacement) if replacement.old == Some(job) => "old",
        Some(_) | None if wanted == Some(job) => "current",
        Some(_) | None => "old",
    }
}

fn newest_deployment(look: &Look<'_>, service: &Service) -> Option<view::Deployment> {
    let record = look.cluster.get::<Deployment>(&(service.id, service.last_deployment))?;
    Some(deployment(look, service, record))
}

/// The jobs of all services below a path that somebody sees, each with its cursor: by service and slot, the oldest first.
pub fn jobs(look: &Look<'_>, below: Option<&str>, to: &Grant) -> Vec<(String, view::Job)> {
    let services = services(look, below, to);
    let cursor = |job: &view::Job| {
        let number = job.slot.rsplit_once('.').and_then(|(_, number)| number.parse::<u32>().ok()).unwrap_or(0);
        format!("{}!{number:010}!{}", job.service, job.id)
    };
    let all = services.into_iter().flat_map(|service| service.jobs);
    let mut jobs: Vec<_> = all.map(|job| (cursor(&job), job)).collect();
    jobs.sort_by(|a, b| a.0.cmp(&b.0));
    jobs
}

/// The deployments of a service, newest first.
pub fn deployments(look: &Look<'_>, service: &Service) -> Vec<view::Deployment> {
    let of_it = look.cluster.all::<Deployment>().filter(|record| record.service == service.id);
    let mut views: Vec<_> = of_it.map(|record| deployment(look, service, record)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.number));
    views
}

/// One deployment with its timeline.
pub fn deployment(look: &Look<'_>, service: &Service, record: &Deployment) -> view::Deployment {
    let ended = record.phase.is_final();
    let revision = record.revision.and_then(|number| look.cluster.get::<Revision>(&(service.id, number)));
    view::Deployment {
        id: record.id.to_string(),
        service: look.cluster.path_of(service).to_string(),
        number: record.number,
        trigger: record.trigger.kind.word().into(),
        by: record.trigger.by.clone(),
        why: record.trigger.why.clone(),
        image: revision.map_or(&record.spec, |revision| &revision.spec).image.reference.clone(),
        from: record.from,
        revision: record.revision,
        strategy: record.spec.deploy.strategy.name().into(),
        canary: canary(record).filter(|_| !ended),
        phase: record.phase.word().into(),
        ended,
        message: message_of(look, service, record),
        created_ms: record.reached.first().map_or(0, |(_, at)| at.0),
        reached: record.reached.iter().map(|(phase, at)| moment(phase.word(), at.0)).collect(),
        slots: timelines(look, service, record),
    }
}

fn canary(record: &Deployment) -> Option<view::Canary> {
    let trial = record.trial.filter(|_| record.phase == DeploymentPhase::Rolling)?;
    let steps = &record.spec.deploy.steps;
    let weight = steps.get(trial.step as usize)?.weight;
    Some(view::Canary { step: trial.step + 1, steps: steps.len() as u32, weight, held: trial.held })
}

fn moment(phase: &str, at_ms: u64) -> view::Moment {
    view::Moment { phase: phase.into(), at_ms }
}

fn message_of(look: &Look<'_>, service: &Service, record: &Deployment) -> Option<String> {
    match &record.failure {
        Some(DeploymentFailure::Job { slot, node, failure }) => {
            return Some(format!("{} on {node}: {failure}", slot_word(slot)));
        }
        Some(
            failure @ (DeploymentFailure::Image { .. }
            | DeploymentFailure::Values { .. }
            | DeploymentFailure::Release { .. }
            | DeploymentFailure::Cancelled { .. }),
        ) => return Some(failure.to_string()),
        None => {}
    }
    match record.phase {
        // Nothing newer has superseded it: a pause did, or the service's end.
        DeploymentPhase::Superseded if record.number == service.last_deployment => {
            Some(if service.deleting { "the service is being removed" } else { "the service was paused" }.into())
        }
        DeploymentPhase::Complete
        | DeploymentPhase::Superseded
        | DeploymentPhase::Failed
        | DeploymentPhase::Cancelled => None,
        DeploymentPhase::Queued
        | DeploymentPhase::Resolving
        | DeploymentPhase::Preparing
        | DeploymentPhase::Placing
        | DeploymentPhase::Rolling
        | DeploymentPhase::Reverting => waits_of(look, service.id),
    }
}

fn waits_of(look: &Look<'_>, service: ServiceId) -> Option<String> {
    look.waits.get(&service).and_then(|waits| waits.first().cloned())
}

fn timelines(look: &Look<'_>, service: &Service, record: &Deployment) -> Vec<view::SlotTimeline> {
    let place = |slot: &SlotId| look.cluster.get::<Slot>(slot).map(|slot| look.cluster.node_name(slot.node));
    let told = record.outcomes.iter().map(|outcome| view::SlotTimeline {
        slot: slot_word(&outcome.slot),
        node: place(&outcome.slot).unwrap_or_default(),
        old: outcome.old.map(|job| job.to_string()),
        new: outcome.new.map(|job| job.to_string()),
        phase: outcome.phase.word().into(),
        reached: outcome.reached.iter().map(|(phase, at)| moment(phase.word(), at.0)).collect(),
        stopped_ms: outcome.stopped_at.map(|at| at.0),
        good_ms: outcome.good_at.map(|at| at.0),
        bad_answer: outcome.bad_answer.clone(),
        message: outcome.failure.as_ref().map(ToString::to_string).or_else(|| outcome.waits_for.clone()),
    });
    let untold = |slot: &&Slot| {
        !record.phase.is_final()
            && slot.id.service == service.id
            && !record.outcomes.iter().any(|outcome| outcome.slot == slot.id)
    };
    let waiting = look.cluster.all::<Slot>().filter(untold).map(|slot| view::SlotTimeline {
        slot: slot_word(&slot.id),
        node: look.cluster.node_name(slot.node),
        old: slot.previous.first().map(|job| job.job.to_string()),
        new: None,
        phase: "waiting".into(),
        reached: Vec::new(),
        stopped_ms: None,
        good_ms: None,
        bad_answer: None,
        message: None,
    });
    told.chain(waiting).collect()
}
