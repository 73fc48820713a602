//! Which images the engine holds, which of them came by a pull of ours, and how one of those goes.
//!
//! Nothing is forced. The engine itself refuses to take the last name of an image away that a container is made of.

use super::{ASK, DockerRuntime, WORK, wire, within};
use crate::runtime::{Got, HeldImage, RuntimeError};
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// What the engine writes where an image has no repository, tag or digest.
const NONE: &str = "<none>";

/// What images are called, by the engine's ids.
pub(super) type Names = BTreeMap<String, BTreeSet<String>>;

fn named(told: impl Iterator<Item = String>) -> BTreeSet<String> {
    told.filter(|name| !name.contains(NONE)).collect()
}

/// The name that a pull has given to an image which is called so now. It is ours if nothing else has named the image meanwhile;
/// of an image that was there before, if it had names then, which keep it as long as they are not all ours. One without any was
/// somebody's own, or a layer of it.
fn given(id: &str, names: &BTreeSet<String>, before: &Names) -> Option<String> {
    let had = before.get(id);
    if had.is_some_and(BTreeSet::is_empty) {
        return None;
    }
    let mut new = names.iter().filter(|name| had.is_none_or(|had| !had.contains(*name)));
    new.next().filter(|name| name.contains('@') && new.next().is_none()).cloned()
}

impl DockerRuntime {
    async fn list_images(&self, with_layers: bool) -> Result<Vec<ImageSummary>, RuntimeError> {
        let options = ListImagesOptionsBuilder::default().all(with_layers).build();
        within(ASK, "list images", self.engine().await?.list_images(Some(options))).await
    }

    /// What all images are called, also those that are only layers of others.
    pub(super) async fn image_names(&self) -> Result<Names, RuntimeError> {
        let told = |image: ImageSummary| (image.id, named(image.repo_tags.into_iter().chain(image.repo_digests)));
        Ok(self.list_images(true).await?.into_iter().map(told).collect())
    }

    /// What a pull has done, after which the engine holds the image.
    pub(super) async fn brought(&self, pinned: &str, before: &Names) -> Result<Got, RuntimeError> {
        let found = within(ASK, "inspect image", self.engine().await?.inspect_image(pinned)).await?;
        let id = found.id.unwrap_or_default();
        let tags = found.repo_tags.unwrap_or_default();
        let digests = found.repo_digests.unwrap_or_default();
        Ok(match given(&id, &named(tags.into_iter().chain(digests)), before) {
            Some(name) => Got::Brought { id, name },
            None => Got::WasHere,
        })
    }

    pub(super) async fn held_images(&self) -> Result<BTreeMap<String, HeldImage>, RuntimeError> {
        let images = self.list_images(false).await?;
        // Asked for after the images: a container that is made meanwhile is one more reason to keep its image.
        let used = self.images_in_use().await?;
        let held = |image: ImageSummary| {
            let in_use = used.contains(&image.id);
            (image.id, HeldImage { names: named(image.repo_tags.into_iter().chain(image.repo_digests)), in_use })
        };
        Ok(images.into_iter().map(held).collect())
    }

    /// The ids of the images that containers are made of, whoever made them.
    async fn images_in_use(&self) -> Result<BTreeSet<String>, RuntimeError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = within(ASK, "list", self.engine().await?.list_containers(Some(options))).await?;
        Ok(listed.into_iter().filter_map(|container| container.image_id).collect())
    }

    pub(super) async fn untag(&self, name: &str, id: &str) -> Result<(), RuntimeError> {
        let docker = self.engine().await?;
        let found = match within(ASK, "inspect image", docker.inspect_image(name)).await {
            Ok(found) => found,
            Err(RuntimeError::NoSuchImage(said)) => return Err(RuntimeError::NotThere(said)),
            Err(error) => return Err(error),
        };
        let refused = |why: &str| Err(RuntimeError::Refused(format!("the image {name} is kept: {why}")));
        if found.id.as_deref() != Some(id) {
            return refused("the name means another image now");
        }
        if let Some(tag) = found.repo_tags.unwrap_or_default().iter().find(|tag| !tag.contains(NONE)) {
            return refused(&format!("somebody calls it {tag}"));
        }
        if self.list_images(true).await?.iter().any(|image| image.parent_id == id) {
            return refused("another image is built on it");
        }
        if self.images_in_use().await?.contains(id) {
            return refused("a container is made of it");
        }
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(false).build();
        match within(WORK, "remove image", docker.remove_image(name, Some(options), wire::credentials(None))).await {
            Ok(_) => Ok(()),
            Err(RuntimeError::NoSuchImage(said)) => Err(RuntimeError::NotThere(said)),
            Err(RuntimeError::NameTaken(said)) => refused(&said),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_ours_if_a_pull_of_ours_gave_it_and_nobody_else_named_the_image_meanwhile() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let (a, b) = ("a/web@sha256:1", "b/web@sha256:1");
        for (had, now, ours) in [
            (None, vec![a], Some(a)),
            (Some(vec![a]), vec![a, b], Some(b)),
            (Some(vec!["mine:1"]), vec![a, "mine:1"], Some(a)),
            // Somebody else has named it in the same moment, or had it without a name, or nothing came.
            (None, vec![a, "mine:1"], None),
            (None, vec!["mine:1"], None),
            (Some(vec![]), vec![a], None),
            (Some(vec![a]), vec![a], None),
        ] {
            let before: Names = had.iter().map(|had| ("id".to_owned(), set(had))).collect();
            assert_eq!(given("id", &set(&now), &before).as_deref(), ours, "{had:?} {now:?}");
        }
    }
}
