//! References to images: what belongs to the repository, and whether an answer can be one to a question.

use crate::spec::{ImageSource, Pull};

/// What begins every digest and every engine's id of an image.
const DIGEST: &str = "sha256:";

/// The reference without its tag and digest.
pub fn repository(reference: &str) -> &str {
    let reference = reference.split_once('@').map_or(reference, |(before, _)| before);
    match reference.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((before, after)) if !after.contains('/') => before,
        Some(_) | None => reference,
    }
}

/// Whether what a node says that a reference means can be that. Of a registry's image only the digest is the node's to say:
/// one node answers for all, and it must not choose whose image the others run. The engine's own id of a local image
/// names nothing that could be fetched.
pub fn may_mean(image: &ImageSource, pinned: &str) -> bool {
    match image.pull {
        Pull::Registry => {
            let digest = pinned.strip_prefix(repository(&image.reference)).and_then(|rest| rest.strip_prefix('@'));
            let asked = image.reference.split_once('@').map(|(_, digest)| digest);
            digest.is_some_and(|digest| is_digest(digest) && asked.is_none_or(|asked| asked == digest))
        }
        Pull::Local => is_digest(pinned),
    }
}

/// Whether an image may be another one tomorrow under the same reference.
pub fn may_move(image: &ImageSource) -> bool {
    !is_digest(image.reference.rsplit('@').next().unwrap_or_default())
}

fn is_digest(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    text.strip_prefix(DIGEST).is_some_and(|hash| !hash.is_empty() && hash.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_reference_without_tag_and_digest() {
        for (reference, wanted) in [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("registry.example.com/shop/web:1.4.2", "registry.example.com/shop/web"),
            ("127.0.0.1:5000/web", "127.0.0.1:5000/web"),
            ("127.0.0.1:5000/web:1@sha256:00", "127.0.0.1:5000/web"),
        ] {
            assert_eq!(repository(reference), wanted);
        }
    }

    #[test]
    fn only_the_digest_of_the_image_that_was_asked_about_is_a_nodes_to_say() {
        let means =
            |reference: &str, pull, pinned: &str| may_mean(&ImageSource { reference: reference.into(), pull }, pinned);
        let (registry, local) = (Pull::Registry, Pull::Local);
        assert!(means("shop/web:2", registry, "shop/web@sha256:0a1b"));
        assert!(means("r:5000/web", registry, "r:5000/web@sha256:0a1b"));
        assert!(means("shop/web@sha256:0a", registry, "shop/web@sha256:0a"));
        assert!(means("web:2", local, "sha256:0a1b"));
        for pinned in [
            "",
            "evil.example/web@sha256:0a1b",
            "shop/web-evil@sha256:0a1b",
            "shop/web",
            "shop/web:3",
            "shop/web@",
            "shop/web@sha256:",
            "shop/web@sha256:0A",
            "shop/web@sha256:0a@sha256:1b",
            "shop/web@sha256:../../0a",
            "shop/web@md5:0a",
            "shop/../evil/web@sha256:0a",
            "sha256:0a1b",
        ] {
            assert!(!means("shop/web:2", registry, pinned), "{pinned}");
        }
        assert!(!means("shop/web@sha256:0a", registry, "shop/web@sha256:0b"), "another digest than the spec's");
        for pinned in ["", "web:2", "sha256:", "evil.example/web@sha256:0a", "sha256:0a/../b", "sha256:0a b"] {
            assert!(!means("web:2", local, pinned), "{pinned}");
        }
    }
}
