//! Tokens: what a person carries from one machine to another.
//!
//! ```text
//! lapj1_<cluster id>_<SHA-256 of the CA>_<token id>_<secret and checksum>
//! ```
//!
//! `lapj` lets a machine join, `lapo` lets a person operate; the digit is the version of the form. The underscores and
//! the lower-case letters are all taken by a double click. The checksum covers everything before it, so that a slip of
//! the hand is told apart from a token that the controller does not know. The CA's hash lets the holder recognise the
//! controller before a word is said.

use crate::base32;
use crate::fingerprint::{Fingerprint, sha256};
use crate::mint;
use lapstrake_core::ids::{ClusterId, TokenId};
use std::fmt;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A machine becomes a node with it, once.
    Join,
    /// A person's requests carry it.
    Operator,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Kind::Join => "lapj1",
            Kind::Operator => "lapo1",
        }
    }
}

/// Why a text is not the token that was asked for. Its `Display` is the sentence for the person who pasted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was pasted.
    #[error("the token is empty")]
    Empty,
    /// Something else was pasted.
    #[error("this is not a Lapstrake token: a join token begins with lapj1_, an operator's token with lapo1_")]
    NotAToken,
    /// A later version made it.
    #[error("this token is of a newer form than this version understands; update this program")]
    Newer,
    /// The checksum does not fit.
    #[error("the token was cut off, or a character of it was changed; copy it again")]
    Altered,
    /// A join token was wanted.
    #[error("this is an operator's token, not a join token; `lap node token create` prints one")]
    NotForJoining,
    /// An operator's token was wanted.
    #[error("this is a join token, not an operator's token; it only lets a machine join")]
    NotForOperating,
}

/// 256 random bits. Never printed except in a token's own text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From the wire.
    pub const fn new(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }
    /// For the wire.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// What the controller keeps of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash(sha256(&self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a secret: enough to recognise it. A slow hash would protect a guessable secret; 256 random bits are
/// not guessable, and the slowness would be a gift to whoever floods the door.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// As the controller's store holds it: 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From the controller's store; `None` when it is not such a hash.
    pub fn from_hex(text: &str) -> Option<SecretHash> {
        let bytes = text.as_bytes();
        let digit = |at: usize| (bytes[at] as char).to_digit(16).map(|digit| digit as u8);
        if bytes.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
        }
        Some(SecretHash(hash))
    }
}

impl PartialEq for SecretHash {
    /// In a time that does not depend on where they differ.
    fn eq(&self, other: &SecretHash) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

/// A token, whole. Only its holder has it; the controller keeps the id and the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is for.
    pub kind: Kind,
    /// Whose cluster.
    pub cluster: ClusterId,
    /// The certificate of the cluster's authority, by which the holder recognises the controller.
    pub authority: Fingerprint,
    /// Which token; not secret.
    pub id: TokenId,
    /// What proves it.
    pub secret: Secret,
}

impl Token {
    /// A new token with a new id and a new secret.
    pub fn mint(kind: Kind, cluster: ClusterId, authority: Fingerprint) -> Token {
        Token { kind, cluster, authority, id: TokenId(mint::id()), secret: Secret(mint::bytes()) }
    }

    /// The text that a person copies. The only way to see the secret.
    pub fn text(&self) -> String {
        let open = format!("{}_{}_{}_{}", self.kind.prefix(), self.cluster, self.authority.to_base32(), self.id);
        let mut closed = [0; 36];
        closed[..32].copy_from_slice(&self.secret.0);
        closed[32..].copy_from_slice(&checksum(&open, &self.secret));
        format!("{open}_{}", base32::encode(&closed))
    }

    /// Reads a join token.
    pub fn join(text: &str) -> Result<Token, TokenError> {
        let token = Token::read(text)?;
        if token.kind == Kind::Join { Ok(token) } else { Err(TokenError::NotForJoining) }
    }

    /// Reads an operator's token.
    pub fn operator(text: &str) -> Result<Token, TokenError> {
        let token = Token::read(text)?;
        if token.kind == Kind::Operator { Ok(token) } else { Err(TokenError::NotForOperating) }
    }

    fn read(text: &str) -> Result<Token, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        let (prefix, rest) = text.split_once('_').unwrap_or((text, ""));
        let kind = match prefix {
            "lapj1" => Kind::Join,
            "lapo1" => Kind::Operator,
            _ if is_newer(prefix) => return Err(TokenError::Newer),
            _ => return Err(TokenError::NotAToken),
        };
        Token::read_parts(kind, text, rest).ok_or(TokenError::Altered)
    }

    fn read_parts(kind: Kind, text: &str, rest: &str) -> Option<Token> {
        let mut parts = rest.split('_');
        let cluster = parts.next()?.parse().ok()?;
        let authority = Fingerprint::from_base32(parts.next()?)?;
        let id = parts.next()?.parse().ok()?;
        let closed: [u8; 36] = base32::decode(parts.next()?)?;
        if parts.next().is_some() {
            return None;
        }
        let (secret, sum) = closed.split_first_chunk::<32>()?;
        let secret = Secret(*secret);
        let (open, _) = text.rsplit_once('_')?;
        (checksum(open, &secret) == sum).then_some(Token { kind, cluster, authority, id, secret })
    }
}

/// Whether it looks like `lapj2` or `lapo12`.
fn is_newer(prefix: &str) -> bool {
    let digits = prefix.strip_prefix("lapj").or_else(|| prefix.strip_prefix("lapo"));
    digits.is_some_and(|digits| digits.parse::<u32>().is_ok_and(|version| version > 1))
}

/// The first four bytes of a SHA-256: one slip in four thousand million goes unnoticed, and is then an unknown token.
fn checksum(open: &str, secret: &Secret) -> [u8; 4] {
    let mut all = open.as_bytes().to_vec();
    all.extend_from_slice(&secret.0);
    let [a, b, c, d, ..] = sha256(&all);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::audit::Deed;

    fn token(kind: Kind) -> Token {
        Token::mint(kind, ClusterId(7 << 90), Fingerprint::of(b"a certificate"))
    }

    #[test]
    fn a_token_is_read_back_as_it_was_printed() {
        let join = token(Kind::Join);
        assert_eq!(Token::join(&format!("  {}\n", join.text())), Ok(join));
        let operator = token(Kind::Operator);
        assert_eq!(Token::operator(&operator.text()), Ok(operator));
    }

    #[test]
    fn a_token_is_selected_by_one_double_click() {
        let text = token(Kind::Join).text();
        assert!(text.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()), "{text}");
    }

    #[test]
    fn the_audit_knows_a_tokens_form() {
        for kind in [Kind::Join, Kind::Operator] {
            let text = token(kind).text();
            let (open, _) = text.rsplit_once('_').expect("parts");
            let shown = |text: &str| Deed::new("exec", "shop/production/web", text).detail;
            assert_eq!(shown(&format!("{text}-and-more")), "(a token)-and-more");
            // Of its secret not even a character is shown; what comes before that may be.
            assert_eq!(shown(&text[..open.len() + 2]), "(a token)");
            assert_eq!(shown(&text[..=open.len()]), text[..=open.len()]);
        }
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = token(Kind::Join).text();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'q' { b'r' } else { b'q' };
            let changed = String::from_utf8(changed).expect("ASCII");
            let error = Token::join(&changed).expect_err(&changed);
            let expected = if at < 6 { TokenError::NotAToken } else { TokenError::Altered };
            assert_eq!(error, expected, "{changed}");
        }
    }

    #[test]
    fn a_token_that_was_cut_off_is_told_from_another_text() {
        let text = token(Kind::Join).text();
        assert_eq!(Token::join(&text[..text.len() - 1]), Err(TokenError::Altered));
        assert_eq!(Token::join(&text[..40]), Err(TokenError::Altered));
        assert_eq!(Token::join(""), Err(TokenError::Empty));
        assert_eq!(Token::join("hunter2"), Err(TokenError::NotAToken));
        assert_eq!(Token::join("lapj2_rest"), Err(TokenError::Newer));
    }

    #[test]
    fn a_token_of_the_other_kind_is_named() {
        assert_eq!(Token::join(&token(Kind::Operator).text()), Err(TokenError::NotForJoining));
        assert_eq!(Token::operator(&token(Kind::Join).text()), Err(TokenError::NotForOperating));
    }

    #[test]
    fn a_secret_does_not_show_in_a_log_line() {
        let token = token(Kind::Join);
        let text = token.text();
        let (_, closed) = text.rsplit_once('_').expect("parts");
        assert!(!format!("{token:?}").contains(&closed[..8]));
    }
}
