//! What operators say of nodes: whether they may get new jobs, and what their machines are.

use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::NodeId;
use crate::label::{ARCHITECTURE, LABELS_PER_NODE, why_not_a_key, why_not_a_value};
use crate::quote::{is_acting, quoted};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The longest reason of a cordon or a pause, in characters: it stands in one line with what it is the reason of.
const LONGEST_REASON: usize = 200;

impl Cluster {
    /// Keeps new jobs from a node. Done twice, nothing more happens; another reason takes the place of the first.
    pub(crate) fn cordon_node(
        &mut self,
        live: &Live,
        name: &str,
        reason: Option<&str>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let node = self.node_named(name)?.clone();
        let reason = reason_of(reason)?;
        if let Some(cordon) = node.wish.cordon()
            && (reason.is_none() || reason == cordon.reason)
        {
            return Ok(unchanged());
        }
        let cordon = Cordon { by: cx.by(), reason, since: cx.wall };
        let sentence = format!("it is {cordon}: it gets no new jobs and keeps those that it has");
        let sentence = if cordon.reason.is_some() { format!("it is {cordon}") } else { sentence };
        self.tell(cx, EventKind::NodeWish, format!("node/{name}"), sentence);
        self.put(Node { wish: Wish::Cordoned(cordon), ..node.clone() });
        Ok(recorded(self.touched_by_node(live, node.id)))
    }

    /// Lets new jobs come to a node again. The services that wait for a node are looked at at once.
    pub(crate) fn uncordon_node(&mut self, live: &Live, name: &str, cx: &Context<'_>) -> Result<Outcome, Refusal> {
        let node = self.node_named(name)?.clone();
        if node.wish == Wish::Open {
            return Ok(unchanged());
        }
        self.tell(
            cx,
            EventKind::NodeWish,
            format!("node/{name}"),
            format!("{} lets new jobs come to it again", cx.author),
        );
        self.put(Node { wish: Wish::Open, ..node.clone() });
        Ok(recorded(self.touched_by_node(live, node.id)))
    }

    /// Sets and removes labels of a node, all or none. No job that runs is moved by it: the next deployment of a service
    /// places by what the labels are then. What no longer fits is answered as warnings.
    pub(crate) fn label_node(
        &mut self,
        live: &Live,
        name: &str,
        set: &BTreeMap<String, String>,
        remove: &BTreeSet<String>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let node = self.node_named(name).map_err(|refusal| Vec::from([refusal]))?.clone();
        let mut refusals: Vec<Refusal> = Vec::new();
        for (key, value) in set {
            let reserved =
                (key == ARCHITECTURE).then(|| format!("{ARCHITECTURE} is what the machine is, and no label"));
            let why = [why_not_a_key(key).or(reserved), why_not_a_value(value)];
            let twice = remove.contains(key).then(|| format!("the label {} is both set and removed", quoted(key)));
            let wrong = why.into_iter().chain([twice]).flatten();
            refusals.extend(wrong.map(|why| Refusal::invalid(why).at(format!("labels.{}", quoted(key)))));
        }
        let mut labels = node.labels.clone();
        labels.retain(|key, _| !remove.contains(key));
        labels.extend(set.clone());
        if labels.len() > LABELS_PER_NODE {
            let count = labels.len();
            refusals.push(
                Refusal::refused(format!("{name} would have {count} labels; {LABELS_PER_NODE} are allowed"))
                    .hint("remove some with --rm"),
            );
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        if labels == node.labels {
            return Ok(unchanged());
        }
        let said = |key: &String, value: &String| format!("{key}={value}");
        let changed = labels.iter().filter(|(key, value)| node.labels.get(*key) != Some(*value));
        let mut words: Vec<String> = changed.map(|(key, value)| said(key, value)).collect();
        words.extend(node.labels.keys().filter(|key| !labels.contains_key(*key)).map(|key| format!("no {key}")));
        let sentence = format!("{} labelled it: {}", cx.author, words.join(", "));
        self.tell(cx, EventKind::NodeLabels, format!("node/{name}"), sentence);
        self.put(Node { labels, ..node.clone() });
        let warnings = self.misplaced_on(node.id);
        Ok(Outcome { warnings, ..recorded(self.touched_by_node(live, node.id)) })
    }

    /// Why a slot's node is not one that its job's revision asks for; none if it is. Such a slot is left where it is until
    /// the next deployment, which moves it.
    pub(crate) fn misplaced(&self, slot: &Slot) -> Option<String> {
        let revision = self.get::<Revision>(&(slot.id.service, slot.job?.revision))?;
        self.unmet(revision, slot.node)
    }

    /// The first constraint of a revision that does not hold of a node, as a sentence about the node.
    pub(crate) fn unmet(&self, revision: &Revision, node: NodeId) -> Option<String> {
        let node = self.get::<Node>(&node)?;
        revision.spec.constraints.iter().find_map(|it| it.why_not(&node.architecture, &node.labels))
    }

    fn misplaced_on(&self, node: NodeId) -> Vec<String> {
        let slots = self.slots_on(node).filter(|slot| slot.node == node);
        let found = slots.filter_map(|slot| {
            let (why, service) = (self.misplaced(slot)?, self.get::<Service>(&slot.id.service)?);
            Some(format!("{}: {}", self.path_of(service), self.why_it_stays(slot, &why)))
        });
        found.collect()
    }

    /// `web.1 stays on worker-1 until its next deployment, though its label zone is b, a is wanted`.
    pub(crate) fn why_it_stays(&self, slot: &Slot, why: &str) -> String {
        let (slot, node) = (slot_word(&slot.id), self.node_name(slot.node));
        format!("{slot} stays on {node} until its next deployment, though {why}")
    }
}

/// What somebody gives as a reason, as it is recorded; none if they say nothing.
pub(crate) fn reason_of(said: Option<&str>) -> Result<Option<String>, Refusal> {
    let reason = said.map(str::trim).filter(|reason| !reason.is_empty());
    match reason.and_then(why_not_a_reason) {
        Some(why) => Err(Refusal::invalid(why).at("reason")),
        None => Ok(reason.map(String::from)),
    }
}

/// Why a text cannot be a reason; none if it can.
fn why_not_a_reason(text: &str) -> Option<String> {
    let length = text.chars().count();
    if length > LONGEST_REASON {
        return Some(format!("the reason has {length} characters; {LONGEST_REASON} are allowed"));
    }
    text.contains(is_acting).then(|| format!("the reason {} is not one line of plain text", quoted(text)))
}

fn recorded(touched: Touched) -> Outcome {
    Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched }
}

fn unchanged() -> Outcome {
    Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched: Touched::new() }
}
