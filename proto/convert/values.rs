//! Secrets and variables on their way to a node.

use super::field::{self, Malformed, Why, id_bytes};
use crate::v1;
use lapstrake_core::ids::ValueId;
use lapstrake_core::values::{Binding, Body, Clear, GivenValue, Place, VALUE_BYTES};

impl From<(ValueId, GivenValue)> for v1::GivenValue {
    /// A value that is still sealed is told as one that nobody could open: under this side's key it would be noise to the
    /// other.
    fn from((id, core): (ValueId, GivenValue)) -> Self {
        use v1::given_value::Body as Wire;
        let body = match core.body {
            Body::Clear(clear) => Wire::Clear(clear.0.clone()),
            Body::Unreadable { said } => Wire::Unreadable(said),
            Body::Sealed(_) | Body::Stored { .. } => Wire::Unreadable("it was not opened before it was sent".into()),
        };
        v1::GivenValue { value_id: id_bytes(id.0), called: core.called, body: Some(body) }
    }
}

impl TryFrom<v1::GivenValue> for (ValueId, GivenValue) {
    type Error = Malformed;
    fn try_from(wire: v1::GivenValue) -> Result<Self, Malformed> {
        use v1::given_value::Body as Wire;
        let body = match wire.body {
            Some(Wire::Clear(clear)) => {
                field::length("clear", clear.len(), VALUE_BYTES)?;
                Body::Clear(Clear(clear))
            }
            Some(Wire::Unreadable(said)) => Body::Unreadable { said: field::sentence(said) },
            None => return Err(Malformed::new("body", Why::Missing)),
        };
        let id = ValueId(field::id("value_id", &wire.value_id)?);
        Ok((id, GivenValue { called: field::sentence(wire.called), body }))
    }
}

impl From<Binding> for v1::Binding {
    fn from(core: Binding) -> Self {
        use v1::binding::Place as Wire;
        let place = match core.place {
            Place::Variable(name) => Wire::Variable(name),
            Place::File { path, mode } => Wire::File(v1::MemoryFile { path, mode }),
            Place::Registry => Wire::Registry(v1::RegistryPlace {}),
        };
        v1::Binding { value_id: id_bytes(core.value.0), place: Some(place) }
    }
}

impl TryFrom<v1::Binding> for Binding {
    type Error = Malformed;
    fn try_from(wire: v1::Binding) -> Result<Self, Malformed> {
        use v1::binding::Place as Wire;
        let place = match wire.place {
            Some(Wire::Variable(name)) => Place::Variable(field::variable("variable", name)?),
            Some(Wire::File(file)) => {
                Place::File { path: field::file_path("file.path", file.path)?, mode: file_mode(file.mode)? }
            }
            Some(Wire::Registry(_)) => Place::Registry,
            None => return Err(Malformed::new("place", Why::Missing)),
        };
        Ok(Binding { place, value: ValueId(field::id("value_id", &wire.value_id)?) })
    }
}

/// Permission bits, and none that would let a file change who runs it.
fn file_mode(mode: u32) -> Result<u32, Malformed> {
    const MOST: u32 = 0o777;
    let out = || Malformed::new("file.mode", Why::OutOfBounds { is: mode.into(), least: 0, most: MOST.into() });
    if mode > MOST { Err(out()) } else { Ok(mode) }
}
