//! Bytes as text: Crockford's base 32 in lower case, the alphabet of ids, first bit first, no padding.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Writes bytes; five bits a character, the last one filled up with zeros.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let mut held: u32 = 0;
    let mut bits = 0;
    for &byte in bytes {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    text
}

/// Reads exactly `N` bytes. `None` for another length, a strange character, or filling that is not zero: one value has
/// one text.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = [0; N];
    let mut at = 0;
    let mut held: u32 = 0;
    let mut bits = 0;
    for character in text.bytes() {
        let digit = ALPHABET.iter().position(|&known| known == character)?;
        held = (held << 5 | digit as u32) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes[at] = (held >> bits) as u8;
            at += 1;
        }
    }
    (held & ((1 << bits) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_are_read_back_as_they_were_written(bytes: [u8; 32], others: [u8; 20]) {
            prop_assert_eq!(decode::<32>(&encode(&bytes)), Some(bytes));
            prop_assert_eq!(decode::<20>(&encode(&others)), Some(others));
        }
    }

    #[test]
    fn one_value_has_one_text() {
        assert_eq!(encode(&[0xff]), "zw");
        assert_eq!(decode::<1>("zw"), Some([0xff]));
        for other in ["zx", "z", "zw0", "zi", "Zw", "zü"] {
            assert_eq!(decode::<1>(other), None, "{other}");
        }
    }
}
