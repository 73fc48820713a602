//! Which of the node's images are garbage.
//!
//! Only what this agent itself has brought to the node is ever removed, and only by the name that it was brought by. An image
//! that was there before, that somebody has tagged or that any container uses is not ours to judge. What a later
//! deployment may go back to (`Ledger::kept_images`) stays, so that a rollback needs no registry where the revision has run. A disk
//! above its critical mark keeps the node from every new job, which is worse than a rollback that asks a registry: where nothing
//! else can go, the oldest of those goes then, one for each look at the disk. Not a firm one
//! (`Ledger::firm_images`): with those a paused service or a deployment goes on.

use crate::assignment::BoundImage;
use crate::node::disk::Fullness;
use crate::node::ledger::{Job, Ledger};
use crate::node::seen::{Image, NodeConfig, Seen};
use crate::time::{Millis, Tick};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// An image that this agent has brought to its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// The engine's id of it.
    pub id: String,
    /// What the engine calls it, which may be shorter than what it was asked for: `nginx@sha256:…`.
    pub name: String,
    /// When it had come; 0 when that was before the machine's last start.
    pub at: Tick,
    /// Which of those that the ledger knows came first: it counts up, also over the machine's starts. 0 before the ledger has it.
    #[serde(default)]
    pub order: u64,
    /// Since when nothing has needed it; none while something does.
    pub unneeded_since: Option<Tick>,
}

/// The engine's images, all of them, as one list has told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// When it was asked for: it does not know what came later.
    pub asked: Tick,
    /// By the engine's id.
    pub images: BTreeMap<String, HeldImage>,
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldImage {
    /// Everything that it is called: tags, and repositories with a digest.
    pub names: BTreeSet<String>,
    /// Whether any container is made of it, running or not, ours or not.
    pub in_use: bool,
}

impl Listing {
    /// Whether the engine has the image by its name.
    fn holds(&self, one: &Brought) -> bool {
        self.images.get(&one.id).is_some_and(|image| image.names.contains(&one.name))
    }

    /// Forgets a name that was taken away since.
    pub fn forget(&mut self, name: &str) {
        self.images.retain(|_, image| !image.names.remove(name) || !image.names.is_empty());
    }
}

impl Seen {
    /// Takes in a newer list. An image that had come before it and is not in it has gone, and if it comes again, it is not this
    /// agent that has brought it. Says whether the list is another one than before.
    pub fn take_listing(&mut self, listing: Listing) -> bool {
        self.brought.retain(|_, one| one.at >= listing.asked || listing.holds(one));
        let is_news = self.listing.as_ref().is_none_or(|held| held.images != listing.images);
        if is_news {
            // What stood against a removal may be gone.
            self.not_removed.clear();
        }
        self.listing = Some(listing);
        is_news
    }

    /// Notes that an image that this agent had brought was removed. What was built on others may have gone with it, so every
    /// refusal is open again.
    pub fn image_removed(&mut self, pinned: &str, name: &str) {
        self.brought.remove(pinned);
        self.listing.iter_mut().for_each(|listing| listing.forget(name));
        self.not_removed.clear();
        self.freed = true;
    }

    /// Forgets that an image is here, under all that it was asked for as, before it is removed: whoever comes to need it gets it
    /// again. Says whether that changed anything.
    pub fn forget_image(&mut self, pinned: &str, id: &str) -> bool {
        let before = self.images.len();
        let is_it = |held: &str| digest(held) == digest(pinned) || held == id;
        self.images.retain(|held, image| *image != Image::Present || !is_it(held));
        self.images.len() != before
    }
}

/// What becomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep(Kept),
    /// It goes.
    Remove(Garbage),
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A job, or a revision that its service may go back to, needs it.
    Needed,
    /// The engine has not told of it, or does not hold it.
    NotSeen,
    /// A container is made of it.
    InUse,
    /// Somebody calls it otherwise.
    Named(String),
    /// The engine refused to remove it, for a reason that its list does not show, and the list is still the same.
    Refused(String),
    /// Nothing needs it, since so short a time that something may need it again.
    Recent {
        /// When that time is over.
        until: Tick,
    },
}

/// Why an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// Nothing has needed it for so long.
    Unneeded(Millis),
    /// Nothing needs it, and a disk is above its high mark.
    DiskFull,
    /// It stayed for rollbacks alone, and the disk that holds it is above its critical mark.
    GivenUp,
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbage::Unneeded(span) => write!(f, "nothing has needed it for {span}"),
            Garbage::DiskFull => f.write_str("nothing needs it and the disk is nearly full"),
            Garbage::GivenUp => f.write_str(
                "it stayed for rollbacks alone, the disk is full and nothing else can go; a rollback to it asks its registry",
            ),
        }
    }
}

/// What an image is, wherever it was got: its digest. Two names of one digest are one image.
fn digest(pinned: &str) -> &str {
    pinned.rsplit_once('@').map_or(pinned, |(_, digest)| digest)
}

/// Whether what is needed names this image: by its digest, or by its id, as who has an image on the node itself does.
fn names(needed: &BTreeSet<&str>, pinned: &str, one: &Brought) -> bool {
    needed.contains(digest(pinned)) || needed.contains(one.id.as_str())
}

/// Whether the engine holds an image, so that nothing of it has to come: as it was got, by its id, or by its digest.
pub(super) fn is_here(seen: &Seen, pinned: &str) -> bool {
    let is_it = |name: &String| name.contains('@') && digest(name) == digest(pinned) || name == pinned;
    let listed = seen.listing.as_ref().is_some_and(|listing| {
        listing.images.contains_key(pinned) || listing.images.values().any(|image| image.names.iter().any(is_it))
    });
    listed || seen.images.get(pinned) == Some(&Image::Present)
}

/// What this node needs, by digest or id. None when that is not known, and then everything is needed: no
/// controller has said what it keeps, or it may have forgotten (a restored store).
fn needed(ledger: &Ledger) -> Option<BTreeSet<&str>> {
    let kept = ledger.kept_images.as_ref().filter(|_| ledger.stop_absent)?;
    let mut needed = needed_by_jobs(ledger);
    needed.extend(kept.iter().map(|pinned| digest(pinned)));
    Some(needed)
}

fn needed_by_jobs(ledger: &Ledger) -> BTreeSet<&str> {
    let wanted = ledger.wanted.values().map(|one| &one.run.image);
    let here = ledger.jobs.values().filter(|job| may_run(ledger, job)).map(|job| &job.assignment.run.image);
    wanted.chain(here).map(BoundImage::pinned).map(digest).collect()
}

/// The images that stay for rollbacks alone and that a registry has. None where nobody has said what is kept: everything stays
/// there, for another reason. One that is kept by its id is the node's own, and nobody would have it again. What is firm does not
/// stay for rollbacks alone.
fn spare(ledger: &Ledger) -> impl Iterator<Item = (&String, &Brought)> {
    let kept = needed(ledger).and(ledger.kept_images.as_ref());
    let mut needed_now = needed_by_jobs(ledger);
    needed_now.extend(firm(ledger));
    let is_spare = move |(pinned, one): &(&String, &Brought)| {
        let has_a_registry = kept.is_some_and(|kept| !kept.contains(&one.id));
        has_a_registry && one.unneeded_since.is_none() && !names(&needed_now, pinned, one)
    };
    ledger.brought.iter().filter(is_spare)
}

/// The images that a full disk does not take, by digest or id.
fn firm(ledger: &Ledger) -> impl Iterator<Item = &str> {
    ledger.firm_images.iter().map(|pinned| digest(pinned))
}

/// Whether the disk that holds the images keeps the node from beginning jobs.
fn is_critical(seen: &Seen) -> bool {
    seen.disks.iter().flatten().any(|disk| disk.holds_images && disk.fullness == Fullness::Critical)
}

/// What a person is told of the images that no job of a full node uses: those that are given up, and those that are not.
pub(super) fn troubles(ledger: &Ledger, seen: &Seen) -> Vec<String> {
    let (left, stay) = (can_be_given_up(ledger, seen).len(), stay_though_full(ledger, seen));
    let given_up = alloc::format!(
        "images that no job here uses and that stay for rollbacks: {left}; until there is room the oldest goes next, and a rollback \
         to one that is gone asks its registry"
    );
    let kept = alloc::format!(
        "images that no job here uses and that stay because a paused service or a deployment goes on with them: {stay}"
    );
    [(left, given_up), (stay, kept)].into_iter().filter(|(count, _)| *count > 0).map(|(_, said)| said).collect()
}

/// How many images stay on a full disk only because they are firm, and nothing else keeps them.
fn stay_though_full(ledger: &Ledger, seen: &Seen) -> usize {
    if !is_critical(seen) || needed(ledger).is_none() {
        return 0;
    }
    let (firm, by_jobs) = (firm(ledger).collect(), needed_by_jobs(ledger));
    let is_only_firm = |pinned: &str, one: &Brought| names(&firm, pinned, one) && !names(&by_jobs, pinned, one);
    let is_ours = |name: &String| ledger.brought.values().any(|one| one.name == *name);
    let stay = ledger.brought.iter().filter(|(pinned, one)| is_only_firm(pinned, one));
    let stay = stay.filter(|(_, one)| held_back(seen, one, is_ours).is_none());
    stay.map(|(_, one)| &one.id).collect::<BTreeSet<_>>().len()
}

/// Whether a job runs, or may be started again: one that has ended is only remembered, unless it is the one to go back to.
fn may_run(ledger: &Ledger, job: &Job) -> bool {
    !job.phase.is_final() || ledger.is_current(job) || ledger.under_way(&job.assignment.slot).is_some()
}

/// Takes in what came, forgets what went, and notes since when nothing needs what is left.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, now: Tick) {
    // A list that was asked for after an image had come, and does not have it: somebody took it away, be it ourselves. If it
    // comes again without us, it is not ours.
    let is_gone =
        |one: &Brought| seen.listing.as_ref().is_some_and(|listing| listing.asked > one.at && !listing.holds(one));
    let is_news = |(pinned, one): &(&String, &Brought)| {
        !is_gone(one) && ledger.brought.get(*pinned).is_none_or(|known| known.at < one.at)
    };
    let mut news: Vec<_> = seen.brought.iter().filter(is_news).collect();
    news.sort_by_key(|(_, one)| one.at);
    let newest = ledger.brought.values().map(|one| one.order).max().unwrap_or(0);
    for ((pinned, one), order) in news.into_iter().zip(newest + 1..) {
        ledger.brought.insert(pinned.clone(), Brought { order, ..one.clone() });
    }
    ledger.brought.retain(|_, one| !is_gone(one));
    let unneeded: Vec<String> = match needed(ledger) {
        Some(needed) => {
            let unneeded = ledger.brought.iter().filter(|(pinned, one)| !names(&needed, pinned, one));
            unneeded.map(|(pinned, _)| pinned.clone()).collect()
        }
        None => Vec::new(),
    };
    for (pinned, one) in &mut ledger.brought {
        let is_needed = !unneeded.contains(pinned);
        one.unneeded_since = if is_needed { None } else { one.unneeded_since.or(Some(now)) };
    }
}

/// After the machine's start its clock counts anew: every time restarts in full.
pub(super) fn rebase(ledger: &mut Ledger, now: Tick) {
    for one in ledger.brought.values_mut() {
        one.at = Tick(0);
        one.unneeded_since = one.unneeded_since.map(|_| now);
    }
}

/// What becomes of one of the images that this agent has brought.
pub fn judge(ledger: &Ledger, seen: &Seen, config: &NodeConfig, now: Tick, pinned: &str) -> Verdict {
    let Some(one) = ledger.brought.get(pinned) else { return Verdict::Keep(Kept::NotSeen) };
    let Some(since) = one.unneeded_since else { return Verdict::Keep(Kept::Needed) };
    // Another name of ours that is garbage as well is nobody's claim.
    let is_garbage =
        |name: &String| ledger.brought.values().any(|one| one.name == *name && one.unneeded_since.is_some());
    if let Some(why) = held_back(seen, one, is_garbage) {
        return Verdict::Keep(why);
    }
    if seen.disks.iter().flatten().any(|disk| disk.fullness >= Fullness::High) {
        return Verdict::Remove(Garbage::DiskFull);
    }
    let until = since + config.keep_images;
    if now < until {
        Verdict::Keep(Kept::Recent { until })
    } else {
        Verdict::Remove(Garbage::Unneeded(now.since(since)))
    }
}

/// Why the engine or somebody else keeps an image here that could be done without. `is_ours` says which of its names are nobody
/// else's claim.
fn held_back(seen: &Seen, one: &Brought, is_ours: impl Fn(&String) -> bool) -> Option<Kept> {
    let held = seen.listing.as_ref().filter(|_| seen.engine_answers).and_then(|listing| listing.images.get(&one.id));
    let Some(held) = held.filter(|held| held.names.contains(&one.name)) else { return Some(Kept::NotSeen) };
    if held.in_use {
        return Some(Kept::InUse);
    }
    if let Some(name) = held.names.iter().find(|name| !is_ours(name)) {
        return Some(Kept::Named(name.clone()));
    }
    seen.not_removed.get(&one.id).map(|said| Kept::Refused(said.clone()))
}

/// Those that may be given up though a rollback may want them: none while the disk has room, and none that would stay anyway.
fn can_be_given_up<'a>(ledger: &'a Ledger, seen: &Seen) -> Vec<(&'a String, &'a Brought)> {
    let spare: Vec<_> = if is_critical(seen) { spare(ledger).collect() } else { Vec::new() };
    // Neither another one of them nor garbage of ours is anybody's claim.
    let garbage = || ledger.brought.values().filter(|one| one.unneeded_since.is_some());
    let is_ours = |name: &String| spare.iter().map(|(_, one)| *one).chain(garbage()).any(|one| one.name == *name);
    spare.iter().copied().filter(|(_, one)| held_back(seen, one, is_ours).is_none()).collect()
}

/// The one of them that goes next: the oldest. The disk is looked at after each.
fn given_up<'a>(ledger: &'a Ledger, seen: &Seen) -> Option<(&'a str, &'a Brought, Garbage)> {
    let can_go = can_be_given_up(ledger, seen).into_iter().filter(|_| !seen.freed);
    can_go.min_by_key(|(_, one)| (one.order, one.at)).map(|(pinned, one)| (pinned.as_str(), one, Garbage::GivenUp))
}

/// The one that goes next, by what the engine was asked for, with the reason: that which nothing has needed for longest. They go
/// one at a time, because a removal keeps the engine and its disk busy, and jobs come first.
pub(super) fn garbage<'a>(
    ledger: &'a Ledger,
    seen: &Seen,
    config: &NodeConfig,
    now: Tick,
) -> Option<(&'a str, &'a Brought, Garbage)> {
    let garbage = ledger.brought.iter().filter_map(|(pinned, one)| match judge(ledger, seen, config, now, pinned) {
        Verdict::Remove(why) => Some((pinned.as_str(), one, why)),
        Verdict::Keep(_) => None,
    });
    garbage.min_by_key(|(_, one, _)| one.unneeded_since).or_else(|| given_up(ledger, seen))
}

/// When the first of them is to go that time alone keeps here.
pub(super) fn wake(ledger: &Ledger, seen: &Seen, config: &NodeConfig, now: Tick) -> Option<Tick> {
    let until = |pinned: &String| match judge(ledger, seen, config, now, pinned) {
        Verdict::Keep(Kept::Recent { until }) => Some(until),
        Verdict::Keep(_) | Verdict::Remove(_) => None,
    };
    ledger.brought.keys().filter_map(until).min()
}

/// Whether an image of this name must stay, for the invariants.
pub(crate) fn is_needed(ledger: &Ledger, seen: &Seen, pinned: &str) -> bool {
    let mut always = needed_by_jobs(ledger);
    always.extend(firm(ledger));
    if ledger.brought.get(pinned).is_some_and(|one| names(&always, pinned, one)) {
        return true;
    }
    let is_given_up = is_critical(seen) && spare(ledger).any(|(one, _)| one == pinned);
    !is_given_up
        && needed(ledger).is_none_or(|needed| {
            let is_named = ledger.brought.get(pinned).is_some_and(|one| names(&needed, pinned, one));
            is_named || needed.contains(digest(pinned))
        })
}
