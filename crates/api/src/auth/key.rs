//! The secrets themselves: how they are made, and what is kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::limits::API_KEY_MAX_BYTES;

/// The least length of an admin key that somebody chooses: 32 characters of anything are hard to guess.
pub const ADMIN_KEY_MIN_BYTES: usize = 32;

/// How many of a secret's first characters are kept to recognize it by. The nine random ones among them leave over 200
/// unknown bits.
pub const PREFIX_CHARS: usize = 12;

/// The most characters of a key's name: a line of a list.
pub const KEY_NAME_MAX_CHARS: usize = 100;

/// A new secret: `mc_` and 256 random bits in base64url.
///
/// # Panics
///
/// Where the operating system has no randomness to give, which leaves nothing sensible to do.
pub fn new_secret() -> String {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).expect("the operating system gives random bytes");
    format!("mc_{}", URL_SAFE_NO_PAD.encode(bits))
}

/// What is kept of a secret: its SHA-256. A fast digest is enough, for a secret is as hard to guess as its digest.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The first characters of a secret, to recognize it by.
pub fn prefix(secret: &str) -> String {
    secret.chars().take(PREFIX_CHARS).collect()
}

/// Whether somebody may choose this text as an admin key: 32 to 255 visible ASCII characters.
pub fn is_acceptable_admin_key(text: &str) -> bool {
    (ADMIN_KEY_MIN_BYTES..=API_KEY_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let secret = new_secret();
        assert_eq!(secret.len(), 46);
        assert!(secret.starts_with("mc_") && is_acceptable_admin_key(&secret));
        assert_ne!(secret, new_secret());
        assert_eq!(prefix(&secret), secret[..12]);
    }

    #[test]
    fn the_digest_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = digest("abc").iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(digest, expected);
    }

    #[test]
    fn an_admin_key_is_32_to_255_visible_characters() {
        assert!(is_acceptable_admin_key(&"k".repeat(32)) && is_acceptable_admin_key(&"k".repeat(255)));
        for bad in [&"k".repeat(31), &"k".repeat(256), &format!("{} ", "k".repeat(32)), &"ü".repeat(32)] {
            assert!(!is_acceptable_admin_key(bad), "{bad}");
        }
    }
}
