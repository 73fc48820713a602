//! Where ids come from: the rim mints them, the decisions never do.

use lapstrake_core::time::Wall;
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock. Zero when it stands before 1970.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// The bits of a new id: 48 of milliseconds, then 80 random ones. `JobId(mint::id())`.
pub fn id() -> u128 {
    let mut random = [0; 16];
    random[6..].copy_from_slice(&bytes::<10>());
    let time = u128::from(wall().0) << 80;
    time | u128::from_be_bytes(random)
}

/// Random bytes from the kernel.
///
/// # Panics
/// When the kernel has none to give, which on Linux it always has after its start.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_begin_with_the_time() {
        let before = wall().0;
        let (a, b) = (id(), id());
        assert_ne!(a, b);
        assert!((a >> 80) as u64 >= before);
    }
}
