//! What the images of this world do when they run. The name says it, so that every machine agrees.

use lapstrake_core::spec::{ImageSource, Pull};

/// How the processes of an image behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// Listens at once, and is healthy.
    Good,
    /// Needs a few seconds before it listens.
    Slow,
    /// Its name means nothing to the registry.
    Unknown,
    /// The registry knows the name and cannot give the image.
    Missing,
    /// The engine refuses to start it.
    Refused,
    /// Ends at once with code 3.
    Exits,
    /// Is killed at its memory limit.
    Hungry,
    /// Never answers its check.
    Sick,
    /// Is healthy for a few seconds and then never again.
    Sours,
    /// Does not end on its stop signal.
    Stubborn,
}

/// Those that end well, more often than each of the others.
const GOOD: [Behaviour; 3] = [Behaviour::Good, Behaviour::Slow, Behaviour::Stubborn];

/// All others.
const BAD: [Behaviour; 7] = [
    Behaviour::Unknown,
    Behaviour::Missing,
    Behaviour::Refused,
    Behaviour::Exits,
    Behaviour::Hungry,
    Behaviour::Sick,
    Behaviour::Sours,
];

impl Behaviour {
    /// One of them; a bad one so often out of a hundred.
    pub fn any(rng: &mut crate::rng::Rng, bad: u64) -> Behaviour {
        if rng.percent(bad) { rng.pick(&BAD) } else { rng.pick(&GOOD) }
    }

    /// Whether a deployment of it comes to its end, and its jobs stay healthy.
    pub fn is_good(self) -> bool {
        GOOD.contains(&self)
    }

    const fn word(self) -> &'static str {
        match self {
            Behaviour::Good => "good",
            Behaviour::Slow => "slow",
            Behaviour::Unknown => "unknown",
            Behaviour::Missing => "missing",
            Behaviour::Refused => "refused",
            Behaviour::Exits => "exits",
            Behaviour::Hungry => "hungry",
            Behaviour::Sick => "sick",
            Behaviour::Sours => "sours",
            Behaviour::Stubborn => "stubborn",
        }
    }

    /// The name that a person writes.
    pub fn source(self, version: u64, pull: Pull) -> ImageSource {
        ImageSource { reference: format!("{}:{version}", self.word()), pull }
    }

    /// Of an image by the name that a person wrote, or that the engine is asked for.
    pub fn of(name: &str) -> Behaviour {
        let name = name.strip_prefix("sha256:").unwrap_or(name);
        let all = GOOD.iter().chain(&BAD);
        all.copied().find(|one| name.starts_with(one.word())).unwrap_or(Behaviour::Unknown)
    }
}

/// What a name means, or why it means nothing.
pub fn resolve(image: &ImageSource) -> Result<String, String> {
    if Behaviour::of(&image.reference) == Behaviour::Unknown {
        return Err(format!("manifest for {} unknown", image.reference));
    }
    let (name, version) = image.reference.split_once(':').unwrap_or((&image.reference, "latest"));
    Ok(match image.pull {
        Pull::Registry => format!("{name}@sha256:{version}"),
        Pull::Local => format!("sha256:{name}{version}"),
    })
}
