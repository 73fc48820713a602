//! Quotas of applications and environments: what counts against them, and how they are set.

use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{ApplicationId, EnvironmentId};
use crate::quota::{Amounts, Good, Holder, Quota};
use crate::spec::ServiceSpec;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A service that is asked for anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Its environment's name.
    pub environment: &'a str,
    /// Its name.
    pub service: &'a str,
    /// What is asked for.
    pub spec: &'a ServiceSpec,
}

/// The specs of an application's services, by environment and name.
type Specs<'a> = BTreeMap<(&'a str, &'a str), &'a ServiceSpec>;

impl Cluster {
    /// All that quotas have against these services of an application, which need not be there yet.
    pub(crate) fn refuse_quotas(&self, application: &str, asked: &[Asked<'_>]) -> Vec<Refusal> {
        let record = self.application_named(application).ok();
        let mut specs: Specs<'_> = record.map(|record| self.specs_of(record.id)).unwrap_or_default();
        let was = specs.clone();
        specs.extend(asked.iter().map(|asked| ((asked.environment, asked.service), asked.spec)));
        let mut refusals = Vec::new();
        let quota = record.map_or(Quota::default(), |record| record.quota);
        let against = quota.against(Holder::Application, application, amounts(&was, None), amounts(&specs, None));
        for (good, why) in against {
            refusals.push(refusal(application, good, why).at(place(&was, asked, None, good)));
        }
        for name in asked.iter().map(|asked| asked.environment).collect::<BTreeSet<_>>() {
            let Ok(environment) = self.environment_named(application, name) else { continue };
            let path = format!("{application}/{name}");
            let (was_here, becomes) = (amounts(&was, Some(name)), amounts(&specs, Some(name)));
            for (good, why) in environment.quota.against(Holder::Environment, &path, was_here, becomes) {
                refusals.push(refusal(&path, good, why).at(place(&was, asked, Some(name), good)));
            }
        }
        refusals
    }

    fn specs_of(&self, application: ApplicationId) -> Specs<'_> {
        let services = self.all::<Service>().filter_map(|service| {
            let environment = self.get::<Environment>(&service.environment)?;
            let of_it = environment.application == application;
            of_it.then_some(((environment.name.as_str(), service.name.as_str()), &service.spec))
        });
        services.collect()
    }

    /// What an application's services ask for together.
    pub fn asked_of_application(&self, application: ApplicationId) -> Amounts {
        amounts(&self.specs_of(application), None)
    }

    /// What an environment's services ask for together.
    pub fn asked_of_environment(&self, environment: EnvironmentId) -> Amounts {
        let mut amounts = Amounts::default();
        for service in self.services_of(environment) {
            amounts.services += 1;
            amounts.add(&service.spec);
        }
        amounts
    }

    /// Sets limits of an application or, with a name, of one of its environments; none is the default again. A quota below
    /// what is there is allowed: it keeps it from growing.
    pub(crate) fn set_quota(
        &mut self,
        application: &str,
        environment: Option<&str>,
        limits: &BTreeMap<Good, Option<u64>>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let with = |quota: Quota| limits.iter().fold(quota, |quota, (good, limit)| quota.with(*good, *limit));
        let (path, holder, before, has) = match environment {
            Some(name) => {
                let record = self.environment_named(application, name)?.clone();
                let (before, has) = (record.quota, self.asked_of_environment(record.id));
                self.put(Environment { quota: with(before), ..record });
                (format!("{application}/{name}"), Holder::Environment, before, has)
            }
            None => {
                let record = self.application_named(application)?.clone();
                let (before, has) = (record.quota, self.asked_of_application(record.id));
                self.put(Application { quota: with(before), ..record });
                (String::from(application), Holder::Application, before, has)
            }
        };
        let after = with(before);
        if after == before {
            return Ok(Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched: Touched::new() });
        }
        let word = |good: Good| match after.limit(holder, good) {
            Some(limit) => format!("{} {}", good.name(), good.amount(limit)),
            None => format!("{} without limit", good.name()),
        };
        let changed: Vec<String> =
            Good::ALL.into_iter().filter(|good| after.set(*good) != before.set(*good)).map(word).collect();
        self.tell(cx, EventKind::Quota, &path, format!("{} set its quota: {}", cx.author, changed.join(", ")));
        let over = Good::ALL.into_iter().filter_map(|good| {
            let limit = after.limit(holder, good).filter(|limit| has.of(good) > *limit)?;
            let (has, limit) = (good.amount(has.of(good)), good.amount(limit));
            Some(format!("{path} has {has} already, more than {limit}: what is there stays and cannot grow"))
        });
        let warnings = over.collect();
        Ok(Outcome { answer: Answer::Recorded, warnings, touched: Touched::new() })
    }

    /// The same for one service that is there, whose spec becomes another.
    pub(crate) fn refuse_growth(&self, path: &crate::assignment::ServicePath, spec: &ServiceSpec) -> Vec<Refusal> {
        let asked = Asked { environment: &path.environment, service: &path.service, spec };
        self.refuse_quotas(&path.application, &[asked])
    }
}

/// What these services ask for, of all environments or of one.
fn amounts(specs: &Specs<'_>, of: Option<&str>) -> Amounts {
    let mut amounts = Amounts::default();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for ((environment, service), spec) in specs {
        if of.is_none_or(|of| of == *environment) {
            names.insert(service);
            amounts.add(spec);
        }
    }
    amounts.services = names.len() as u64;
    amounts
}

/// The last service that asks for more of a good than it did: what an author would change.
fn place(was: &Specs<'_>, asked: &[Asked<'_>], environment: Option<&str>, good: Good) -> String {
    let grows = |asked: &&Asked<'_>| {
        let before = was.get(&(asked.environment, asked.service));
        let of = |spec: &ServiceSpec| {
            let mut amounts = Amounts { services: 1, ..Amounts::default() };
            amounts.add(spec);
            amounts.of(good)
        };
        environment.is_none_or(|of| of == asked.environment) && of(asked.spec) > before.map_or(0, |spec| of(spec))
    };
    match asked.iter().rev().find(grows) {
        Some(asked) => format!("environments.{}.services.{}", asked.environment, asked.service),
        None => "services".into(),
    }
}

fn refusal(path: &str, good: Good, why: String) -> Refusal {
    let name = good.name();
    let less = match good {
        Good::Services => "remove a service with `lap rm`",
        Good::Jobs => "ask for fewer jobs",
        Good::Cpu | Good::Memory => "ask for less with `size` or `scale`",
    };
    Refusal::refused(why).hint(format!("{less}; an operator raises the quota with `lap quota set {path} {name}=…`"))
}
