//! Sealing: what a store holds of a secret, and the keys that open it.
//!
//! ```text
//! version (1) | key id (8) | nonce (12) | ciphertext and tag
//! ```
//!
//! AES-256-GCM. The key of a domain is derived from the master key (HKDF-SHA256), so that each environment has one of its
//! own: an environment's nonces are not counted with another's, and what was sealed for one opens in no other. The place is
//! authenticated and not written down: whoever moves sealed bytes to another place of the store gets nothing opened there.

use crate::fingerprint::sha256;
use crate::mint;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use std::fmt;

/// The only version of the form.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;
const TAG_BYTES: usize = 16;
/// Derived keys of this form differ from those of every later one.
const SALT: &[u8] = b"lapstrake-values-1";
const KEY_PREFIX: &str = "lapk1_";

/// 256 random bits that everything else is derived from. Never shown except in its own text.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A new one.
    pub fn generate() -> MasterKey {
        MasterKey(mint::bytes())
    }

    /// From where it is kept.
    pub fn from_bytes(bytes: [u8; 32]) -> MasterKey {
        MasterKey(bytes)
    }

    /// What it is called. Says nothing about the key.
    pub fn id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = sha256(&self.0);
        KeyId([a, b, c, d, e, f, g, h])
    }

    /// The line that is kept in a file. The only way to see the key.
    pub fn to_text(&self) -> String {
        let mut text = String::with_capacity(KEY_PREFIX.len() + 64);
        text.push_str(KEY_PREFIX);
        for byte in self.0 {
            text.extend([byte >> 4, byte & 15].map(|nibble| char::from(b"0123456789abcdef"[usize::from(nibble)])));
        }
        text
    }

    /// From that line.
    pub fn from_text(text: &str) -> Result<MasterKey, NotAKey> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(KEY_PREFIX) else {
            return Err(if is_newer(text) { NotAKey::Newer } else { NotAKey::Form });
        };
        // Only digits, as a sign would be taken for half a byte elsewhere.
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotAKey::Altered);
        }
        let mut key = MasterKey([0; 32]);
        for (byte, pair) in key.0.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).map_or(0, |digit| digit as u8);
            *byte = digit(0) << 4 | digit(1);
        }
        Ok(key)
    }

    /// The key of a domain.
    fn derived(&self, domain: &str) -> LessSafeKey {
        let master = Salt::new(HKDF_SHA256, SALT).extract(&self.0);
        // It would refuse more than 255 blocks; this is one.
        let info = [domain.as_bytes()];
        let okm = master.expand(&info, &AES_256_GCM).expect("one key is short enough");
        LessSafeKey::new(UnboundKey::from(okm))
    }

    /// The nonce is the caller's, so that a test can know the answer. Never twice the same under one key.
    fn seal_with(&self, domain: &str, place: &str, nonce: [u8; NONCE_LEN], clear: &[u8]) -> Vec<u8> {
        let mut body = clear.to_vec();
        body.reserve_exact(TAG_BYTES);
        let aad = Aad::from(place.as_bytes());
        self.derived(domain)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("a value is far below the 64 GiB that one nonce seals");
        let mut sealed = Vec::with_capacity(HEAD_BYTES + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id().0);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }
}

impl fmt::Debug for MasterKey {
    /// Without the key, because what is printed ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl Drop for MasterKey {
    /// Overwritten as well as a compiler lets: a core dump or a page in swap has one copy less.
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// Whether it looks like `lapk2_…`.
fn is_newer(text: &str) -> bool {
    let version = text.strip_prefix("lapk").and_then(|rest| rest.split_once('_')).map(|(version, _)| version);
    version.is_some_and(|version| version.parse::<u32>().is_ok_and(|version| version > 1))
}

/// By what a key is recognised: the first 8 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no key or no ring of keys. Says nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// Something else was given.
    #[error("this is not a key: a key begins with lapk1_")]
    Form,
    /// A later version made it.
    #[error("this key is of a newer form than this version understands; update this program")]
    Newer,
    /// Its length or a character is wrong.
    #[error("the key was cut off, or a character of it was changed: after lapk1_ it has 64 hexadecimal digits")]
    Altered,
    /// No line holds a key.
    #[error("there is no key in it: a key is a line that begins with lapk1_")]
    Empty,
    /// A line of several is none.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: Box<NotAKey>,
    },
}

/// Why sealed bytes stay closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// Shorter than the shortest sealed value.
    #[error("the sealed bytes were cut off")]
    TooShort,
    /// A later version sealed it, or it is something else.
    #[error("the sealed bytes are of the form {0}, and this version understands only the form 1")]
    UnknownFormat(u8),
    /// It may be whole, but its key is not here.
    #[error("it was sealed with the key {0}, which is not here")]
    UnknownKey(KeyId),
    /// Some of it was changed, or it was sealed for another place.
    #[error("the sealed bytes were altered, or belong to another place")]
    Altered,
}

/// The keys that somebody holds: the first seals, all of them open.
#[derive(Debug, Clone)]
pub struct KeyRing {
    first: MasterKey,
    others: Vec<MasterKey>,
}

impl KeyRing {
    /// These keys. One that is there twice counts once.
    pub fn new(first: MasterKey, others: Vec<MasterKey>) -> KeyRing {
        let mut ring = KeyRing { first, others: Vec::new() };
        for key in others {
            if !ring.ids().contains(&key.id()) {
                ring.others.push(key);
            }
        }
        ring
    }

    /// The key that seals.
    pub fn current(&self) -> KeyId {
        self.first.id()
    }

    /// All keys, the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys().map(MasterKey::id).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Seals for a place in a domain. Twice the same is never the same bytes.
    pub fn seal(&self, domain: &str, place: &str, clear: &[u8]) -> Vec<u8> {
        self.first.seal_with(domain, place, mint::bytes(), clear)
    }

    /// Opens what was sealed for this place in this domain.
    pub fn open(&self, domain: &str, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let parts = Parts::of(sealed)?;
        let key = self.keys().find(|key| key.id() == parts.key).ok_or(Unopened::UnknownKey(parts.key))?;
        let mut body = parts.body.to_vec();
        let nonce = Nonce::assume_unique_for_key(parts.nonce);
        let opened = key.derived(domain).open_in_place(nonce, Aad::from(place.as_bytes()), &mut body);
        let length = opened.map_err(|_| Unopened::Altered)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// From a file: a key in each line, the first one seals. Empty lines and lines that begin with `#` are skipped.
    pub fn from_text(text: &str) -> Result<KeyRing, NotAKey> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let key = MasterKey::from_text(line);
                keys.push(key.map_err(|why| NotAKey::Line { line: number + 1, why: Box::new(why) })?);
            }
        }
        if keys.is_empty() {
            return Err(NotAKey::Empty);
        }
        let first = keys.remove(0);
        Ok(KeyRing::new(first, keys))
    }

    /// For a file.
    pub fn to_text(&self) -> String {
        self.keys().map(|key| key.to_text() + "\n").collect()
    }

    /// This ring with a key before all others: it seals from now on.
    pub fn with_first(&self, first: MasterKey) -> KeyRing {
        KeyRing::new(first, self.keys().cloned().collect())
    }

    /// This ring, which also opens what another one opens.
    pub fn opening_also(&self, other: &KeyRing) -> KeyRing {
        KeyRing::new(self.first.clone(), self.others.iter().chain(other.keys()).cloned().collect())
    }

    /// This ring without the keys that only open.
    pub fn only_current(&self) -> KeyRing {
        KeyRing::new(self.first.clone(), Vec::new())
    }
}

/// Which key sealed it; `None` when it is no sealed value of a form that this version understands.
pub fn key_of(sealed: &[u8]) -> Option<KeyId> {
    Parts::of(sealed).ok().map(|parts| parts.key)
}

/// Sealed bytes, taken apart.
struct Parts<'a> {
    key: KeyId,
    nonce: [u8; NONCE_LEN],
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Result<Parts<'a>, Unopened> {
        let (version, rest) = sealed.split_first().ok_or(Unopened::TooShort)?;
        if *version != VERSION {
            return Err(Unopened::UnknownFormat(*version));
        }
        let (key, rest) = rest.split_first_chunk().ok_or(Unopened::TooShort)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(Unopened::TooShort)?;
        if body.len() < TAG_BYTES {
            return Err(Unopened::TooShort);
        }
        Ok(Parts { key: KeyId(*key), nonce: *nonce, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    fn ring(first: u8, others: &[u8]) -> KeyRing {
        KeyRing::new(key(first), others.iter().copied().map(key).collect())
    }

    const DOMAIN: &str = "environment-7";
    const PLACE: &str = "organization/secret/api-key";

    #[test]
    fn the_form_of_sealed_bytes_does_not_change() {
        let master = MasterKey::from_bytes(std::array::from_fn(|at| at as u8));
        let nonce = std::array::from_fn(|at| 0xa0 + at as u8);
        let sealed = master.seal_with(DOMAIN, PLACE, nonce, b"hunter2");
        let text: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "01630dcd2966c43366a0a1a2a3a4a5a6a7a8a9aaab86b03aef76609b2abedda70bd4789e878cdc4766222be7");
        assert_eq!(KeyRing::new(master, Vec::new()).open(DOMAIN, PLACE, &sealed), Ok(b"hunter2".to_vec()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let ring = ring(1, &[]);
        let sealed = ring.seal(DOMAIN, PLACE, b"hunter2");
        for at in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[at / 8] ^= 1 << (at % 8);
            let error = ring.open(DOMAIN, PLACE, &altered).expect_err("altered");
            let fits = match at / 8 {
                0 => matches!(error, Unopened::UnknownFormat(_)),
                1..9 => matches!(error, Unopened::UnknownKey(_)),
                _ => error == Unopened::Altered,
            };
            assert!(fits, "bit {at}: {error}");
        }
    }

    #[test]
    fn sealed_bytes_that_were_cut_off_stay_closed() {
        let ring = ring(1, &[]);
        let sealed = ring.seal(DOMAIN, PLACE, b"hunter2");
        for length in 0..sealed.len() {
            let error = ring.open(DOMAIN, PLACE, &sealed[..length]).expect_err("cut off");
            let expected = if length < HEAD_BYTES + TAG_BYTES { Unopened::TooShort } else { Unopened::Altered };
            assert_eq!(error, expected, "{length} bytes");
        }
    }

    #[test]
    fn the_ids_and_the_debug_text_of_keys_do_not_show_them() {
        let ring = ring(0xab, &[0xcd]);
        let said = format!("{ring:?} {:?}", ring.ids());
        assert!(!said.contains("abab") && !said.contains("171"), "{said}");
        let text = key(0xab).to_text();
        let mut wrong = text.clone();
        wrong.replace_range(9..10, "x");
        for wrong in [&wrong, &text[..60], &text[6..], &format!("{text}00")] {
            let error = MasterKey::from_text(wrong).expect_err("no key");
            assert!(!format!("{error} {error:?}").contains("abab"), "{error}");
        }
    }

    #[test]
    fn a_ring_is_read_back_from_its_text_with_comments_and_empty_lines() {
        let ring = ring(1, &[2, 3]);
        let text = format!("# the new one\n\n{}\n  # the old ones\n", ring.to_text().replace('\n', "\r\n"));
        let read = KeyRing::from_text(&text).expect("a ring");
        assert_eq!(read.ids(), ring.ids());
        assert_eq!(read.to_text(), ring.to_text());
        assert_eq!(KeyRing::from_text("\n# nothing\n").map(drop), Err(NotAKey::Empty));
        let wrong = KeyRing::from_text(&format!("{}lapk1_00\n", ring.to_text())).map(drop).expect_err("wrong");
        assert!(wrong.to_string().starts_with("line 4: the key was cut off"), "{wrong}");
        assert_eq!(MasterKey::from_text("lapk2_00").map(drop), Err(NotAKey::Newer));
        assert_eq!(MasterKey::from_text("hunter2").map(drop), Err(NotAKey::Form));
    }

    #[test]
    fn a_key_is_exchanged_step_by_step() {
        let old = ring(1, &[]);
        let sealed = old.seal(DOMAIN, PLACE, b"hunter2");
        let both = old.with_first(key(2));
        assert_eq!(both.ids(), [key(2).id(), key(1).id()]);
        assert_eq!(both.open(DOMAIN, PLACE, &sealed).as_deref(), Ok(&b"hunter2"[..]));
        let again = both.seal(DOMAIN, PLACE, b"hunter2");
        assert_eq!((key_of(&sealed), key_of(&again)), (Some(key(1).id()), Some(key(2).id())));
        let new = both.only_current();
        assert_eq!(new.open(DOMAIN, PLACE, &again).as_deref(), Ok(&b"hunter2"[..]));
        assert_eq!(new.open(DOMAIN, PLACE, &sealed), Err(Unopened::UnknownKey(key(1).id())));
        assert_eq!(both.with_first(key(1)).ids(), [key(1).id(), key(2).id()], "a key counts once");
        assert_eq!(key_of(b"something else"), None);
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_where_it_was_sealed_and_nowhere_else(
            bytes in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            (domain, place, elsewhere) in ("[a-z0-9-]{0,20}", "[a-z0-9/-]{0,20}", "[a-z0-9/-]{0,20}"),
            clear in vec(any::<u8>(), 0..300),
        ) {
            prop_assume!(place != elsewhere && domain != elsewhere && bytes != other);
            let ring = KeyRing::new(MasterKey::from_bytes(bytes), Vec::new());
            let sealed = ring.seal(&domain, &place, &clear);
            prop_assert_eq!(ring.open(&domain, &place, &sealed), Ok(clear.clone()));
            prop_assert_eq!(ring.open(&domain, &elsewhere, &sealed), Err(Unopened::Altered));
            prop_assert_eq!(ring.open(&elsewhere, &place, &sealed), Err(Unopened::Altered));
            let stranger = KeyRing::new(MasterKey::from_bytes(other), Vec::new());
            prop_assert_eq!(stranger.open(&domain, &place, &sealed), Err(Unopened::UnknownKey(ring.current())));
            prop_assert_ne!(ring.seal(&domain, &place, &clear), sealed, "a nonce is never used twice");
        }

        #[test]
        fn strange_bytes_are_refused_without_harm(bytes in vec(any::<u8>(), 0..100), form in 0..3u8) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = form;
            }
            prop_assert!(ring(1, &[2]).open(DOMAIN, PLACE, &bytes).is_err());
        }

        #[test]
        fn a_key_is_read_back_from_its_text(bytes in any::<[u8; 32]>(), garbage in "\\PC{0,80}") {
            let key = MasterKey::from_bytes(bytes);
            let read = MasterKey::from_text(&format!(" {}\n", key.to_text()));
            prop_assert_eq!(read.map(|read| read.id()), Ok(key.id()));
            let _ = MasterKey::from_text(&format!("lapk1_{garbage}"));
            let _ = KeyRing::from_text(&garbage);
        }
    }
}
