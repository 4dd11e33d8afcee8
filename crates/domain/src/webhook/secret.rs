//! Signatures by which a receiver knows that a webhook is from here, after the Standard Webhooks specification.
//!
//! The signature is the HMAC-SHA256 of the webhook's id, the seconds of the attempt since 1970 and the body, with dots
//! between them. The time is signed so that what somebody has overheard cannot be sent again a week later.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;

/// How a secret begins, so that people and scanners know it for one.
const PREFIX: &str = "whsec_";

/// The text is no secret of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be whsec_ and 24 to 64 bytes in base64")]
pub struct InvalidSecret;

/// What an endpoint's webhooks are signed with: 24 to 64 bytes. It can be read by [`expose`](Self::expose) alone.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// The secret of these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random.to_vec())
    }

    /// The secret that was written so.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(InvalidSecret) }
    }

    /// The secret as its owner gets it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The signature of a webhook: `v1,` and base64.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of every length.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The header `webhook-signature`: a signature by each of the secrets, for there are two while one takes the other's
    /// place.
    pub fn header<'a>(secrets: impl IntoIterator<Item = &'a Self>, id: &str, timestamp: i64, body: &[u8]) -> String {
        secrets.into_iter().map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    /// The example of the specification's libraries.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        assert_eq!(WebhookSecret::parse(TEXT).unwrap().sign(ID, AT, BODY), SIGNATURE);
    }

    #[test]
    fn whatever_is_changed_changes_the_signature() {
        let secret = WebhookSecret::parse(TEXT).unwrap();
        assert_ne!(secret.sign("msg_other", AT, BODY), SIGNATURE);
        assert_ne!(secret.sign(ID, AT + 1, BODY), SIGNATURE);
        assert_ne!(secret.sign(ID, AT, br#"{"test": 2432232315}"#), SIGNATURE);
        assert_ne!(WebhookSecret::new([7; 32]).sign(ID, AT, BODY), SIGNATURE);
    }

    #[test]
    fn two_secrets_sign_side_by_side() {
        let secrets = [WebhookSecret::new([7; 32]), WebhookSecret::parse(TEXT).unwrap()];
        let header = WebhookSecret::header(&secrets, ID, AT, BODY);
        let signatures = header.split(' ').collect::<Vec<_>>();
        assert_eq!(signatures, [secrets[0].sign(ID, AT, BODY).as_str(), SIGNATURE]);
    }

    #[test]
    fn a_secret_is_what_was_written_and_shows_nowhere_else() {
        let secret = WebhookSecret::new([7; 32]);
        assert_eq!(WebhookSecret::parse(&secret.expose()), Ok(secret.clone()));
        assert_eq!(WebhookSecret::parse(TEXT).unwrap().expose(), TEXT);
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
        let long = format!("whsec_{}", STANDARD.encode([0; 65]));
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_not base64", &long] {
            assert_eq!(WebhookSecret::parse(bad), Err(InvalidSecret), "{bad:?} was accepted");
        }
    }
}
