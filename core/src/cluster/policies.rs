//! What an environment allows, and the fields of a spec that only operators change.

use crate::access::{Grant, Scope, Verb, decide};
use crate::assignment::ServicePath;
use crate::cluster::command::{Answer, Outcome, Refusal, RefusalKind, SetPolicy};
use crate::cluster::event::EventKind;
use crate::cluster::state::{Environment, Service};
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::EnvironmentId;
use crate::policy::{JOBS_PER_SERVICE, OperatorField, OperatorFields, Policy};
use crate::spec::ServiceSpec;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Cluster {
    /// Sets what is named and leaves the rest. What runs is not touched; a limit that it exceeds is refused.
    pub(crate) fn set_policy(&mut self, set: &SetPolicy, cx: &Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        let found =
            self.environment_named(&set.application, &set.environment).map_err(|refusal| Vec::from([refusal]))?;
        let (id, mut policy) = (found.id, found.policy);
        let mut refusals = Vec::new();
        if let Some(max_scale) = set.max_scale {
            refusals.extend(self.refuse_max_scale(id, max_scale));
            policy.max_scale = max_scale;
        }
        if let Some(names) = &set.operator_fields {
            refusals.extend(names.iter().filter(|name| OperatorField::named(name).is_none()).map(|name| unknown(name)));
            policy.operator_fields = OperatorFields::from(names.clone());
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let before = self.environments.get(&id).map(|environment| environment.policy);
        let answer = if before == Some(policy) { Answer::Unchanged } else { Answer::Recorded };
        if answer == Answer::Recorded {
            self.edit::<Environment>(&id, |environment| environment.policy = policy);
            let sentence = format!("{} set the policy: {}", cx.author, words(policy));
            self.tell(cx, EventKind::PolicyChanged, self.environment_path(id), sentence);
        }
        Ok(Outcome { answer, warnings: Vec::new(), touched: Touched::new() })
    }

    fn refuse_max_scale(&self, environment: EnvironmentId, max_scale: u32) -> Option<Refusal> {
        if max_scale == 0 || max_scale > JOBS_PER_SERVICE {
            let sentence = format!("max_scale is {max_scale}; it lies between 1 and the quota of {JOBS_PER_SERVICE}");
            return Some(Refusal::invalid(sentence));
        }
        let scale = |service: &Service| {
            let under_way = self.unfinished(service).map_or(0, |deployment| deployment.spec.scale);
            let active = service.active.map_or(0, |active| active.scale);
            service.spec.scale.max(under_way).max(active)
        };
        let larger: Vec<String> = self
            .services_of(environment)
            .filter(|service| scale(service) > max_scale)
            .map(|service| format!("{} with {}", self.path_of(service), scale(service)))
            .collect();
        (!larger.is_empty()).then(|| {
            Refusal::conflict(format!("services have more jobs than {max_scale}: {}", larger.join(", ")))
                .hint("`lap scale` them down first")
        })
    }

    /// The fields that a spec would change and that are reserved to operators, if the grant is not an operator's. A new
    /// service has to keep to the defaults there.
    pub(crate) fn refuse_reserved(
        &self,
        grant: &Grant,
        policy: Policy,
        path: &ServicePath,
        (before, after): (Option<&ServiceSpec>, &ServiceSpec),
    ) -> Vec<Refusal> {
        let scope = Scope::Environment(path.application.clone(), path.environment.clone());
        if decide(grant, Verb::Operate, &scope).is_ok() {
            return Vec::new();
        }
        let changes = |field: &OperatorField| {
            field.value(after) != before.map_or_else(|| field.default_value(), |before| field.value(before))
        };
        let refusal = |field: OperatorField| {
            let name = field.name();
            Refusal::new(RefusalKind::Forbidden, format!("{name} of {path} is reserved to operators of {scope}"))
                .at(format!("environments.{}.services.{}.{name}", path.environment, path.service))
                .hint("leave it as it is, or ask an operator to apply this")
        };
        policy.operator_fields.iter().filter(changes).map(refusal).collect()
    }
}

fn unknown(name: &str) -> Refusal {
    let known: Vec<&str> = OperatorField::ALL.into_iter().map(OperatorField::name).collect();
    Refusal::invalid(format!("\"{name}\" is no field that can be reserved"))
        .hint(format!("such are {}", known.join(", ")))
}

/// `max_scale 8, reserved to operators: deploy.overlap`.
fn words(policy: Policy) -> String {
    let names: Vec<String> = policy.operator_fields.into();
    let reserved = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
    format!("max_scale {}, reserved to operators: {reserved}", policy.max_scale)
}
