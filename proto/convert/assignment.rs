//! Assignment sets.

use super::field::{self, Malformed, Why, id_bytes, list, required, rising};
use crate::{limits, v1};
use lapstrake_core::assignment::{
    Assignment, AssignmentSet, BoundImage, Generation, KeptImages, Once, RunSpec, ServicePath, Traffic,
};
use lapstrake_core::ids::{ApplicationId, DeploymentId, EnvironmentId, EpochId, JobId, ServiceId, SlotId, ValueId};
use lapstrake_core::time::Millis;
use lapstrake_core::values::{Binding, GivenValue};
use std::collections::BTreeSet;

impl From<Generation> for v1::Generation {
    fn from(core: Generation) -> Self {
        v1::Generation { epoch_id: id_bytes(core.epoch.0), number: core.number }
    }
}

impl TryFrom<v1::Generation> for Generation {
    type Error = Malformed;
    fn try_from(wire: v1::Generation) -> Result<Self, Malformed> {
        let number = field::at_most("number", wire.number, limits::GENERATION)?;
        Ok(Generation { epoch: EpochId(field::id("epoch_id", &wire.epoch_id)?), number })
    }
}

impl From<AssignmentSet> for v1::AssignmentSet {
    fn from(core: AssignmentSet) -> Self {
        v1::AssignmentSet {
            generation: Some(core.generation.into()),
            stop_absent: core.stop_absent,
            assignments: core.assignments.into_iter().map(Into::into).collect(),
            values: core.values.into_iter().map(Into::into).collect(),
            kept_images: core.kept_images.map(|kept| v1::KeptImages {
                digests: kept.all.into_iter().collect(),
                firm_digests: kept.firm.into_iter().collect(),
            }),
        }
    }
}

impl TryFrom<v1::AssignmentSet> for AssignmentSet {
    type Error = Malformed;
    fn try_from(wire: v1::AssignmentSet) -> Result<Self, Malformed> {
        let assignments = list("assignments", wire.assignments, limits::JOBS)?;
        rising("assignments", &assignments, |assignment: &Assignment| assignment.slot.clone())?;
        let values = list("values", wire.values, limits::VALUES)?;
        rising("values", &values, |(id, _): &(ValueId, GivenValue)| *id)?;
        Ok(AssignmentSet {
            generation: required("generation", wire.generation)?,
            stop_absent: wire.stop_absent,
            assignments,
            values: values.into_iter().collect(),
            kept_images: wire.kept_images.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::KeptImages> for KeptImages {
    type Error = Malformed;
    fn try_from(wire: v1::KeptImages) -> Result<Self, Malformed> {
        Ok(KeptImages {
            all: names("kept_images.digests", wire.digests)?,
            firm: names("kept_images.firm_digests", wire.firm_digests)?,
        })
    }
}

fn names(field: &'static str, wire: Vec<String>) -> Result<BTreeSet<String>, Malformed> {
    field::length(field, wire.len(), limits::KEPT_IMAGES)?;
    rising(field, &wire, String::clone)?;
    wire.into_iter().map(|pinned| field::reference(field, pinned)).collect()
}

impl From<Assignment> for v1::Assignment {
    fn from(core: Assignment) -> Self {
        v1::Assignment {
            slot: Some(core.slot.into()),
            job_id: id_bytes(core.job.0),
            deployment_id: id_bytes(core.deployment.0),
            run: Some(core.run.into()),
            held: match core.traffic {
                Traffic::Full => None,
                Traffic::Held => Some(v1::HeldTraffic { percent: 0 }),
                Traffic::Share(percent) => Some(v1::HeldTraffic { percent }),
            },
            once: core.once.map(Into::into),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = Malformed;
    fn try_from(wire: v1::Assignment) -> Result<Self, Malformed> {
        Ok(Assignment {
            slot: required("slot", wire.slot)?,
            job: JobId(field::id("job_id", &wire.job_id)?),
            deployment: DeploymentId(field::id("deployment_id", &wire.deployment_id)?),
            run: required("run", wire.run)?,
            traffic: match wire.held.map(|held| held.percent) {
                None => Traffic::Full,
                Some(0) => Traffic::Held,
                Some(percent @ 1..=99) => Traffic::Share(percent),
                Some(percent) => {
                    let why = Why::OutOfBounds { is: percent.into(), least: 0, most: 99 };
                    return Err(Malformed::new("held.percent", why));
                }
            },
            once: wire.once.map(Into::into),
        })
    }
}

impl From<Once> for v1::RunOnce {
    fn from(core: Once) -> Self {
        v1::RunOnce { timeout_ms: core.timeout.0, start_timeout_ms: core.start_timeout.0, stop: core.stop }
    }
}

impl From<v1::RunOnce> for Once {
    fn from(wire: v1::RunOnce) -> Self {
        Once { timeout: Millis(wire.timeout_ms), start_timeout: Millis(wire.start_timeout_ms), stop: wire.stop }
    }
}

impl From<SlotId> for v1::SlotId {
    fn from(core: SlotId) -> Self {
        v1::SlotId { service_id: id_bytes(core.service.0), target: core.target, number: core.number }
    }
}

impl TryFrom<v1::SlotId> for SlotId {
    type Error = Malformed;
    fn try_from(wire: v1::SlotId) -> Result<Self, Malformed> {
        Ok(SlotId {
            service: ServiceId(field::id("service_id", &wire.service_id)?),
            target: field::name("target", wire.target)?,
            number: field::at_least_one("number", wire.number)?,
        })
    }
}

impl From<RunSpec> for v1::RunSpec {
    fn from(core: RunSpec) -> Self {
        v1::RunSpec {
            environment_id: id_bytes(core.environment.0),
            application_id: id_bytes(core.application.0),
            path: Some(core.path.into()),
            revision: core.revision,
            image: Some(core.image.into()),
            spec: Some(core.spec.into()),
            hosts: core.hosts.into_iter().map(|host| v1::PortHost { host }).collect(),
            values: core.values.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::RunSpec> for RunSpec {
    type Error = Malformed;
    fn try_from(wire: v1::RunSpec) -> Result<Self, Malformed> {
        let spec: lapstrake_core::spec::ServiceSpec = required("spec", wire.spec)?;
        // The route to a port is found by the port's place in the list, so one host less would move all after it.
        if wire.hosts.len() != spec.ports.len() {
            return Err(Malformed::new("hosts", Why::Unequal { is: wire.hosts.len(), other: spec.ports.len() }));
        }
        let hosts =
            wire.hosts.into_iter().map(|of_port| of_port.host.map(|host| field::host("hosts", host)).transpose());
        let values = list("values", wire.values, limits::BINDINGS)?;
        rising("values", &values, |binding: &Binding| binding.place.clone())?;
        Ok(RunSpec {
            environment: EnvironmentId(field::id("environment_id", &wire.environment_id)?),
            application: ApplicationId(field::id("application_id", &wire.application_id)?),
            path: required("path", wire.path)?,
            revision: wire.revision,
            image: required("image", wire.image)?,
            spec,
            hosts: hosts.collect::<Result<_, _>>()?,
            values,
        })
    }
}

impl From<ServicePath> for v1::ServicePath {
    fn from(core: ServicePath) -> Self {
        v1::ServicePath { application: core.application, environment: core.environment, service: core.service }
    }
}

impl TryFrom<v1::ServicePath> for ServicePath {
    type Error = Malformed;
    fn try_from(wire: v1::ServicePath) -> Result<Self, Malformed> {
        Ok(ServicePath {
            application: field::name("application", wire.application)?,
            environment: field::name("environment", wire.environment)?,
            service: field::name("service", wire.service)?,
        })
    }
}

impl From<BoundImage> for v1::BoundImage {
    fn from(core: BoundImage) -> Self {
        use v1::bound_image::Binding;
        let (reference, binding) = match core {
            BoundImage::Digest { reference, pinned } => (reference, Binding::Digest(pinned)),
            BoundImage::Id { reference, id } => (reference, Binding::Id(id)),
        };
        v1::BoundImage { reference, binding: Some(binding) }
    }
}

impl TryFrom<v1::BoundImage> for BoundImage {
    type Error = Malformed;
    fn try_from(wire: v1::BoundImage) -> Result<Self, Malformed> {
        use v1::bound_image::Binding;
        let reference = field::reference("reference", wire.reference)?;
        match wire.binding {
            Some(Binding::Digest(pinned)) => {
                Ok(BoundImage::Digest { reference, pinned: field::reference("digest", pinned)? })
            }
            Some(Binding::Id(id)) => Ok(BoundImage::Id { reference, id: field::reference("id", id)? }),
            None => Err(Malformed::new("binding", Why::Missing)),
        }
    }
}
