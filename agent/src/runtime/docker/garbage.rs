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

impl DockerRuntime {
    async fn list_images(&self, with_layers: bool) -> Result<Vec<ImageSummary>, RuntimeError> {
        let options = ListImagesOptionsBuilder::default().all(with_layers).build();
        within(ASK, "list images", self.engine().await?.list_images(Some(options))).await
    }

    /// The ids of all images, also of those that are only layers of others.
    pub(super) async fn image_ids(&self) -> Result<BTreeSet<String>, RuntimeError> {
        Ok(self.list_images(true).await?.into_iter().map(|image| image.id).collect())
    }

    /// What a pull has done, after which the engine holds the image. It is ours only if the engine had nothing of it before
    /// and calls it nothing else now.
    pub(super) async fn brought(&self, pinned: &str, before: &BTreeSet<String>) -> Result<Got, RuntimeError> {
        let found = within(ASK, "inspect image", self.engine().await?.inspect_image(pinned)).await?;
        let id = found.id.unwrap_or_default();
        let tags = found.repo_tags.unwrap_or_default();
        let digests = found.repo_digests.unwrap_or_default();
        let mut names: Vec<String> = tags.into_iter().chain(digests).filter(|name| !name.contains(NONE)).collect();
        match names.pop() {
            Some(name) if names.is_empty() && name.contains('@') && !before.contains(&id) => {
                Ok(Got::Brought { id, name })
            }
            Some(_) | None => Ok(Got::WasHere),
        }
    }

    pub(super) async fn held_images(&self) -> Result<BTreeMap<String, HeldImage>, RuntimeError> {
        let images = self.list_images(false).await?;
        // Asked for after the images: a container that is made meanwhile is one more reason to keep its image.
        let used = self.images_in_use().await?;
        let held = |image: ImageSummary| {
            let names = image.repo_tags.into_iter().chain(image.repo_digests).filter(|name| !name.contains(NONE));
            (image.id.clone(), HeldImage { names: names.collect(), in_use: used.contains(&image.id) })
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
