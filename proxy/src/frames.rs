//! Watching the frames that a client sends on HTTP/2, for what costs it little and us much.
//!
//! h2 bounds what a client may make us store: streams, sizes of heads, CONTINUATIONs of one head, streams that were reset
//! before anybody saw them. It does not bound how often: a client that opens and resets streams for ever is within all of
//! that, and each of them costs a connection to a job. So frames are counted here, in two allowances that grow with time:
//! *resets*, of which an ordinary client has few, and *idle frames*, which carry nothing (PING, SETTINGS, PRIORITY, empty
//! DATA, and kinds that nobody knows).

use crate::tap::Ear;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The preface is no frame.
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;

/// A page that is left while it loads resets as many streams as it has open, a hundred by default; twice that at once.
/// After that twenty a second, which costs no more than twenty connections of HTTP/1.1.
const RESETS: Allowance = Allowance { most: 200, per_second: 20 };

/// gRPC's libraries measure the line with a PING for each round trip that has data: a thousand at once and two hundred a
/// second are far beyond it.
const IDLE_FRAMES: Allowance = Allowance { most: 1000, per_second: 200 };

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Debug, Clone, Copy)]
struct Allowance {
    most: u64,
    per_second: u64,
}

#[derive(Debug)]
struct Purse {
    allowance: Allowance,
    left: u64,
    since: Instant,
}

impl Purse {
    fn new(allowance: Allowance) -> Purse {
        Purse { allowance, left: allowance.most, since: Instant::now() }
    }

    /// Whether there was one left. The clock is looked at only when there is not.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            let grown = self.since.elapsed().as_millis() as u64 * self.allowance.per_second / 1000;
            if grown == 0 {
                return false;
            }
            self.left = grown.min(self.allowance.most);
            self.since = Instant::now();
        }
        self.left -= 1;
        true
    }
}

/// The frames of one connection.
#[derive(Debug)]
pub struct Frames(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    /// Bytes that are not looked at: what is left of the preface or of a frame's payload.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    resets: Purse,
    idle: Purse,
    /// When a head began that is not whole yet.
    head_since: Option<Instant>,
    /// Whether the payload that is skipped now is the last of a head.
    head_ends: bool,
    excess: Option<&'static str>,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames(Mutex::new(Counted {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            have: 0,
            resets: Purse::new(RESETS),
            idle: Purse::new(IDLE_FRAMES),
            head_since: None,
            head_ends: false,
            excess: None,
        }))
    }
}

impl Frames {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client sent too much of.
    pub fn excess(&self) -> Option<&'static str> {
        self.lock().excess
    }

    /// When a head began that is not whole yet.
    pub fn head_since(&self) -> Option<Instant> {
        self.lock().head_since
    }
}

impl Ear for Frames {
    fn hear(&self, mut bytes: &[u8]) {
        let mut counted = self.lock();
        while !bytes.is_empty() {
            if counted.skip > 0 {
                let skipped = counted.skip.min(bytes.len());
                counted.skip -= skipped;
                bytes = &bytes[skipped..];
                counted.end_head();
                continue;
            }
            let (have, part) = (counted.have, (HEADER_BYTES - counted.have).min(bytes.len()));
            counted.header[have..have + part].copy_from_slice(&bytes[..part]);
            counted.have += part;
            bytes = &bytes[part..];
            if counted.have == HEADER_BYTES {
                counted.have = 0;
                counted.count();
            }
        }
    }
}

impl Counted {
    /// A head is whole with the last byte of its last frame, which may come long after that frame's header.
    fn end_head(&mut self) {
        if self.skip == 0 && self.head_ends {
            self.head_ends = false;
            self.head_since = None;
        }
    }

    /// A frame's header is whole.
    fn count(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.skip = length;
        match kind {
            HEADERS | CONTINUATION => {
                self.head_since = self.head_since.or_else(|| Some(Instant::now()));
                self.head_ends = flags & END_HEADERS != 0;
                self.end_head();
            }
            RST_STREAM if !self.resets.take() => self.excess = Some("streams that it reset"),
            RST_STREAM | WINDOW_UPDATE => {}
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            _ if !self.idle.take() => self.excess = Some("frames that carry nothing"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER_BYTES + length, 0);
        bytes
    }

    fn heard(frames: impl IntoIterator<Item = Vec<u8>>, at_once: usize) -> Frames {
        let watched = Frames::default();
        let bytes: Vec<u8> = std::iter::repeat_n(0, PREFACE_BYTES).chain(frames.into_iter().flatten()).collect();
        bytes.chunks(at_once).for_each(|part| watched.hear(part));
        watched
    }

    #[test]
    fn a_flood_is_found_however_its_bytes_come() {
        for at_once in [1, 7, 4096] {
            let resets = (0..1000).map(|_| frame(RST_STREAM, 0, 4));
            assert_eq!(heard(resets, at_once).excess(), Some("streams that it reset"));
            let pings = (0..2000).map(|_| frame(6, 0, 8));
            assert_eq!(heard(pings, at_once).excess(), Some("frames that carry nothing"));
        }
    }

    #[test]
    fn ordinary_frames_are_no_flood() {
        let ordinary =
            (0..3000).flat_map(|_| [frame(HEADERS, END_HEADERS, 30), frame(DATA, 0, 100), frame(WINDOW_UPDATE, 0, 4)]);
        let watched = heard(ordinary.chain([frame(DATA, END_STREAM, 0)]), 1000);
        assert_eq!((watched.excess(), watched.head_since()), (None, None));
    }

    #[test]
    fn a_head_is_begun_until_its_last_part_has_come() {
        let begun = [frame(HEADERS, 0, 10), frame(CONTINUATION, 0, 10)];
        assert!(heard(begun.clone(), 64).head_since().is_some());
        let ended = begun.into_iter().chain([frame(CONTINUATION, END_HEADERS, 1)]);
        assert!(heard(ended, 64).head_since().is_none());
    }

    #[test]
    fn a_head_whose_bytes_drip_is_not_whole_before_the_last_one() {
        let whole = frame(HEADERS, END_HEADERS, 1000);
        assert!(heard([whole[..HEADER_BYTES + 999].to_vec()], 64).head_since().is_some());
        assert!(heard([whole], 64).head_since().is_none());
        let empty = frame(HEADERS, END_HEADERS, 0);
        assert!(heard([empty], 64).head_since().is_none());
    }
}
