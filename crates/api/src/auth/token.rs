//! Signed tokens (JWT) of users, where a server is configured to take them (`docs/adr/0018-users-by-signed-tokens.md`).
//!
//! What verifies a token is chosen by the key that is configured and never by the token: each key has one algorithm. So a
//! token cannot ask for none, or have a public key taken for a secret.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::signature::{Error as WrongSignature, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation, decode, decode_header};
use ring::{hmac, signature};
use serde::Deserialize;
use uuid::Uuid;

use crate::config::Secret;
use crate::limits::{TOKEN_KEYS_AGE, TOKEN_LEEWAY, TOKEN_MAX_BYTES};
use crate::wire::{Text as _, UserId};

/// The least length of a secret: as many bytes as HMAC-SHA-256 has of strength.
pub const SECRET_MIN_BYTES: usize = 32;

/// What verifies tokens.
#[derive(Debug, Clone)]
pub enum Source {
    /// A secret that whoever signs has as well.
    Secret(Secret),
    /// A file of public keys, a JWK set (RFC 7517).
    File(PathBuf),
}

/// How tokens are verified.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// By what.
    pub source: Source,
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// Whom they must be for.
    pub audience: Option<String>,
}

/// What a token says of whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// The organization that is meant, of those that the user belongs to.
    pub organization_id: Option<Uuid>,
}

#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    #[serde(default)]
    organization_id: Option<Uuid>,
}

/// A key that verifies by one algorithm.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: DecodingKey,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Tokens {
    settings: TokenSettings,
    keys: RwLock<Arc<Vec<Key>>>,
    looked: Mutex<Looked>,
}

/// When the file was last looked at, and what it was then.
#[derive(Debug)]
struct Looked {
    at: Instant,
    file: Option<Version>,
}

/// By what a change of a file is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Tokens {
    /// By these settings; an error that repeats no secret where they make no sense.
    pub fn open(settings: TokenSettings) -> anyhow::Result<Self> {
        // Somebody who has installed it before has installed the same one.
        let _ = PROVIDER.install_default();
        let (keys, file) = match &settings.source {
            Source::Secret(secret) => (vec![of_secret(secret)?], None),
            Source::File(path) => {
                let file = version(path);
                (read_keys(path)?, file)
            }
        };
        let looked = Mutex::new(Looked { at: Instant::now(), file });
        Ok(Self { settings, keys: RwLock::new(Arc::new(keys)), looked })
    }

    /// Whether a text has the form of a token, which no API key of ours has.
    pub fn could_be_one(text: &str) -> bool {
        text.len() <= TOKEN_MAX_BYTES
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && text.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// What a token says, if it is valid now.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        let header = decode_header(token).ok().filter(|header| header.crit.is_none())?;
        let keys = self.keys();
        let key = match &header.kid {
            Some(id) => keys.iter().find(|key| key.id.as_ref() == Some(id)).or_else(|| sole(&keys)?.if_nameless())?,
            None => sole(&keys)?,
        };
        let claims = decode::<RawClaims>(token, &key.material, &self.validation(key.algorithm)).ok()?.claims;
        Some(Claims { user: UserId::parse(&claims.sub).ok()?, organization_id: claims.organization_id })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let TokenSettings { issuer, audience, .. } = &self.settings;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation.leeway = TOKEN_LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation
    }

    /// The keys, as the file has them. It is small and of this machine, and looked at by one caller from time to time.
    fn keys(&self) -> Arc<Vec<Key>> {
        if let Source::File(path) = &self.settings.source
            && let Ok(mut looked) = self.looked.try_lock()
            && looked.at.elapsed() >= TOKEN_KEYS_AGE
        {
            looked.at = Instant::now();
            let file = version(path);
            if file != looked.file {
                looked.file = file;
                match read_keys(path) {
                    Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
                    Err(error) => tracing::warn!("the keys of tokens stay as they were: {error:#}"),
                }
            }
        }
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The only key there is.
fn sole(keys: &[Key]) -> Option<&Key> {
    keys.first().filter(|_| keys.len() == 1)
}

impl Key {
    /// Whether it has no id by which it could be meant or not.
    fn if_nameless(&self) -> Option<&Self> {
        self.id.is_none().then_some(self)
    }
}

fn version(path: &Path) -> Option<Version> {
    let file = fs::metadata(path).ok()?;
    Some(Version { modified: file.modified().ok(), bytes: file.len() })
}

fn of_secret(secret: &Secret) -> anyhow::Result<Key> {
    let secret = secret.expose().as_bytes();
    ensure!(
        secret.len() >= SECRET_MIN_BYTES,
        "--jwt-secret (MULTICREDIT_JWT_SECRET) must have {SECRET_MIN_BYTES} bytes or more"
    );
    Ok(Key { id: None, algorithm: Algorithm::HS256, material: DecodingKey::from_secret(secret) })
}

/// The keys of a file that can be used. Others may stand beside them.
fn read_keys(path: &Path) -> anyhow::Result<Vec<Key>> {
    const WHAT: &str = "--jwt-jwks-file (MULTICREDIT_JWT_JWKS_FILE)";
    let text = fs::read(path).with_context(|| format!("{WHAT} cannot be read"))?;
    let Ok(set) = serde_json::from_slice::<JwkSet>(&text) else { bail!("{WHAT} is no set of keys (RFC 7517)") };
    let keys: Vec<Key> = set.keys.iter().filter_map(of_jwk).collect();
    ensure!(!keys.is_empty(), "{WHAT} has no public key for RS256, ES256 or EdDSA");
    Ok(keys)
}

fn of_jwk(jwk: &Jwk) -> Option<Key> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let is_said = |said: &KeyAlgorithm| *said == KeyAlgorithm::from(algorithm);
    let is_to_sign = |usage: &PublicKeyUse| *usage == PublicKeyUse::Signature;
    let is_usable = jwk.common.key_algorithm.as_ref().is_none_or(is_said)
        && jwk.common.public_key_use.as_ref().is_none_or(is_to_sign);
    let key = DecodingKey::from_jwk(jwk).ok().filter(|_| is_usable)?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm, material: key })
}

/// Signatures are verified by the library that verifies those of TLS. Nothing is signed, and no key is made or told.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(Ring::new(*algorithm, key.clone())?)),
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Ring {
    /// A key of another family than the algorithm's verifies nothing.
    fn new(algorithm: Algorithm, key: DecodingKey) -> jsonwebtoken::errors::Result<Self> {
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        Ok(Self { algorithm, key })
    }
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), WrongSignature> {
        let wrong = |_| WrongSignature::new();
        let by = |algorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signed).map_err(wrong)
        };
        match (self.algorithm, self.key.kind()) {
            // In a time that does not depend on where the two differ.
            (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signed).map_err(wrong)
            }
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = signature::RsaPublicKeyComponents { n, e };
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signed).map_err(wrong)
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(key)) => by(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(key)) => by(&signature::ED25519, key),
            _ => Err(WrongSignature::new()),
        }
    }
}
