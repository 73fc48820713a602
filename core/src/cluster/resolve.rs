//! Binding an image: what a name means now is asked of nodes that are attached, because they are the ones to get it.

use crate::assignment::BoundImage;
use crate::cluster::live::{Ask, Live, RESOLVE_TIMEOUT};
use crate::cluster::paths::hosts_of;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{NodeId, RequestId, ServiceId, ValueId};
use crate::message::{ControllerWord, ResolvedImage};
use crate::reason::Reason;
use crate::spec::Pull;
use crate::time::earlier;
use crate::values::GivenValue;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What the answers so far amount to.
enum Verdict {
    /// It means this, and these nodes hold it; none named if any can get it.
    Bound(ResolvedImage, Vec<NodeId>),
    /// It means nothing; the whole sentence.
    Nothing(String),
    /// Not all answers are there.
    Open,
}

impl Cluster {
    /// Resolving: asks, waits, and binds. True if the deployment went on.
    pub(crate) fn resolve(
        &mut self,
        live: &mut Live,
        service: &Service,
        deployment: &Deployment,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let key = (service.id, deployment.number);
        give_up_waiting(live, key, cx);
        let ready: Vec<NodeId> = self
            .nodes_of(service.environment)
            .map(|node| node.id)
            .filter(|&node| live.is_reachable(node, cx.tick))
            .collect();
        if deployment.spec.image.pull == Pull::Local && self.holder_is_silent(live, key, service, cx, follow) {
            return false;
        }
        match self.verdict(live, key, deployment) {
            Verdict::Bound(image, holders) => {
                live.answers.remove(&key);
                self.bind_image(service, deployment, image, holders, cx);
                return true;
            }
            Verdict::Nothing(said) => {
                live.answers.remove(&key);
                self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx);
                return true;
            }
            Verdict::Open => {}
        }
        let waiting_for: Vec<NodeId> = live.asks.values().filter(|it| it.deployment == key).map(|it| it.node).collect();
        let answered = live.answers.get(&key);
        let known = |node: &NodeId| waiting_for.contains(node) || answered.is_some_and(|it| it.contains_key(node));
        let to_ask: Vec<NodeId> = match deployment.spec.image.pull {
            Pull::Registry if !waiting_for.is_empty() => Vec::new(),
            Pull::Registry => ready.iter().copied().filter(|node| !known(node)).take(1).collect(),
            Pull::Local => ready.iter().copied().filter(|node| !known(node)).collect(),
        };
        for node in to_ask {
            let login = self.login_of(service, deployment);
            ask(live, key, node, deployment, login, cx, follow);
        }
        self.wait_for_answers(live, key, service, deployment, cx, follow);
        false
    }

    /// A slot keeps its node, so it matters whether that holds an image which comes from nowhere else: its answer is waited
    /// for, and its silence is not taken for a no.
    fn holder_is_silent(
        &self,
        live: &Live,
        key: (ServiceId, u32),
        service: &Service,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let answered = |node: &NodeId| live.answers.get(&key).is_some_and(|answers| answers.contains_key(node));
        let mut silent = false;
        for slot in self.slots_of(service.id).filter(|slot| slot.job.is_some() && !answered(&slot.node)) {
            if !live.is_reachable(slot.node, cx.tick) {
                self.wait_for_slot(live, service, slot, cx, follow);
                silent = true;
            }
        }
        silent
    }

    fn verdict(&self, live: &Live, key: (ServiceId, u32), deployment: &Deployment) -> Verdict {
        let Some(answers) = live.answers.get(&key) else { return Verdict::Open };
        let image = &deployment.spec.image;
        match image.pull {
            // One node is asked, and what it says goes: the registry is the same for all.
            Pull::Registry => match answers.iter().next() {
                Some((_, Ok(resolved))) => Verdict::Bound(resolved.clone(), Vec::new()),
                Some((node, Err(said))) => Verdict::Nothing(format!(
                    "the image {} cannot be looked up: {} says: {said}",
                    image.reference,
                    self.node_name(*node)
                )),
                None => Verdict::Open,
            },
            Pull::Local if live.asks.values().any(|it| it.deployment == key) => Verdict::Open,
            Pull::Local => {
                let mut holders: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
                for (node, answer) in answers {
                    if let Ok(resolved) = answer {
                        holders.entry(&resolved.pinned).or_default().push(*node);
                    }
                }
                // Where nodes differ, the image of most of them.
                match holders.into_iter().max_by_key(|(_, nodes)| nodes.len()) {
                    Some((pinned, nodes)) => Verdict::Bound(ResolvedImage { pinned: pinned.to_string() }, nodes),
                    None => {
                        let each: Vec<String> = answers
                            .iter()
                            .filter_map(|(node, answer)| {
                                Some(format!("{} says: {}", self.node_name(*node), answer.as_ref().err()?))
                            })
                            .collect();
                        Verdict::Nothing(format!("no node holds the image {}: {}", image.reference, each.join("; ")))
                    }
                }
            }
        }
    }

    fn wait_for_answers(
        &self,
        live: &Live,
        key: (ServiceId, u32),
        service: &Service,
        deployment: &Deployment,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) {
        let asks: Vec<&Ask> = live.asks.values().filter(|it| it.deployment == key).collect();
        follow.wake = earlier(follow.wake, asks.iter().map(|ask| ask.until).min());
        let reason = if asks.is_empty() {
            let nodes = self.nodes_of(service.environment).map(|node| {
                let silence = live.pulse(node.id).silence(cx.tick);
                (node.name.clone(), format!("it has no session; it was last heard {silence} ago"))
            });
            Reason::NobodyToAsk { environment: self.environment_path(service.environment), nodes: nodes.collect() }
        } else {
            let nodes = asks.iter().map(|ask| self.node_name(ask.node)).collect();
            Reason::Resolving { image: deployment.spec.image.reference.clone(), nodes }
        };
        follow.wait(self.path_of(service), reason);
    }

    /// Gives the deployment its revision: the active one if nothing but the scale differs, else a new one.
    fn bind_image(
        &mut self,
        service: &Service,
        deployment: &Deployment,
        image: ResolvedImage,
        holders: Vec<NodeId>,
        cx: &mut Context<'_>,
    ) {
        let reference = deployment.spec.image.reference.clone();
        let image = match deployment.spec.image.pull {
            Pull::Registry => BoundImage::Digest { reference, pinned: image.pinned },
            Pull::Local => BoundImage::Id { reference, id: image.pinned },
        };
        let hosts = hosts_of(&deployment.spec, &self.path_of(service), self.domain());
        let active = service.active.and_then(|active| self.get::<Revision>(&(service.id, active.revision)));
        let same = active.filter(|active| {
            active.image == image
                && active.hosts == hosts
                && crate::cluster::apply::same_but_scale(&active.spec, &deployment.spec)
        });
        let number = match same {
            Some(active) => {
                let active = Revision { holders, ..active.clone() };
                let number = active.number;
                self.put(active);
                number
            }
            None => {
                let number = service.last_revision + 1;
                self.edit::<Service>(&service.id, |service| service.last_revision = number);
                self.put(Revision {
                    completed: false,
                    service: service.id,
                    number,
                    spec: deployment.spec.clone(),
                    image,
                    holders,
                    hosts,
                    created: cx.wall,
                    by: deployment.trigger.by.clone(),
                });
                number
            }
        };
        self.edit::<Deployment>(&(service.id, deployment.number), |it| it.revision = Some(number));
        let next = self.phase_with_image(service, deployment, number);
        self.enter(service, deployment.number, next, cx);
    }
}

fn ask(
    live: &mut Live,
    key: (ServiceId, u32),
    node: NodeId,
    deployment: &Deployment,
    login: Option<(ValueId, GivenValue)>,
    cx: &mut Context<'_>,
    follow: &mut Followup,
) {
    let Some(session) = live.session(node) else { return };
    let request = RequestId(cx.ids.mint());
    live.asks.insert(request, Ask { deployment: key, node, session, until: cx.tick + RESOLVE_TIMEOUT });
    follow.asks.push((node, ControllerWord::ResolveImage { request, image: deployment.spec.image.clone(), login }));
}

/// A question that was not answered in time counts as answered with no.
fn give_up_waiting(live: &mut Live, key: (ServiceId, u32), cx: &Context<'_>) {
    let late = |ask: &Ask| ask.deployment == key && cx.tick >= ask.until;
    let nodes: Vec<NodeId> = live.asks.values().filter(|ask| late(ask)).map(|ask| ask.node).collect();
    live.asks.retain(|_, ask| !late(ask));
    for node in nodes {
        let said = format!("nothing within {RESOLVE_TIMEOUT}");
        live.answers.entry(key).or_default().insert(node, Err(said));
    }
}
