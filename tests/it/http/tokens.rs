//! Signed tokens of users: who gets in by one, what they see, and everything that is no such token.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Method;
use multicredit::app::AppSettings;
use multicredit::auth::token::{Source, TokenSettings, Tokens};
use multicredit::config::Secret;
use multicredit_store::StoreConfig;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};
use tests::app::{Client, Organization, TestApp};
use tests::{Engine, TestDb, both_engines, run};
use tokio::process::Command;

use super::scopes::scope_of;
use super::walk::{ABSENT, Document, World};

const SECRET: &str = "the-secret-of-a-test-0123456789abcdef";
const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "multicredit";

/// How long a changed file of keys may take to be noticed: it is looked at every five seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let signature = encoded(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn mac(algorithm: hmac::Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

/// A token that is signed with a secret.
pub fn by_secret(secret: impl AsRef<[u8]>, claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, |it| mac(hmac::HMAC_SHA256, secret.as_ref(), it))
}

/// So many seconds from now.
pub fn in_seconds(seconds: i64) -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + seconds
}

/// The claims of a user's token that is valid for a minute, with others in their place; `null` leaves one out.
fn claims(user: &str, others: &Value) -> Value {
    let mut claims = json!({ "sub": user, "exp": in_seconds(60), "iss": ISSUER, "aud": AUDIENCE });
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn token(user: &str, others: &Value) -> String {
    by_secret(SECRET, &claims(user, others))
}

async fn app(db: TestDb, source: Source) -> TestApp {
    let issuer = matches!(source, Source::Secret(_)).then(|| ISSUER.to_owned());
    let settings = TokenSettings { source, audience: issuer.as_ref().map(|_| AUDIENCE.to_owned()), issuer };
    let tokens = Some(Arc::new(Tokens::open(settings).unwrap()));
    let config = StoreConfig::new(db.url());
    TestApp::with_settings(db, config, AppSettings { tokens, ..AppSettings::default() }).await
}

async fn with_secret(db: TestDb) -> TestApp {
    app(db, Source::Secret(Secret::from(SECRET.to_owned()))).await
}

async fn member(app: &TestApp, organization: &Organization, user: &str) {
    app.admin.put(&organization.path(&format!("/members/{user}"))).await.expect(200);
}

/// Asserts that a token is answered like a key that nobody has.
async fn assert_nobody(app: &TestApp, path: &str, token: &str, what: &str) {
    let unknown = app.admin.with_key("mc_0123456789012345678901234567890123456789012").get(path).await;
    let answer = app.admin.with_key(token).get(path).await;
    answer.refused(401, "unauthorized");
    assert_eq!(answer.without_request_id(), unknown.without_request_id(), "{what}");
}

both_engines!(a_valid_token_reads_the_organization_that_the_user_belongs_to, async |db| {
    let app = with_secret(db).await;
    let (acme, other) =
        (app.organization("acme", json!({ "ai": 5 })).await, app.organization("other", json!({})).await);
    member(&app, &acme, "user-1").await;
    for organization in [&acme, &other] {
        member(&app, organization, "user-2").await;
    }
    let path = acme.path("/balance?fresh=true");
    let one = app.admin.with_key(&token("user-1", &json!({})));
    let expected = app.admin.get(&path).await.expect(200);
    assert_eq!(one.get(&path).await.expect(200)["available"], expected["available"]);
    let barely = token("user-1", &json!({ "exp": in_seconds(-20), "nbf": in_seconds(20), "aud": ["x", AUDIENCE] }));
    app.admin.with_key(&barely).get(&path).await.expect(200);
    // Of another organization as of none.
    let foreign = one.get(&other.path("/balance")).await;
    foreign.refused(404, "unknown_organization");
    let absent = one.get(&format!("/v1/organizations/{ABSENT}/balance")).await;
    assert_eq!(foreign.without_request_id(), absent.without_request_id());
    let seen = one.all("/v1/organizations", 10).await;
    assert_eq!(seen.iter().map(|it| it["id"].as_str().unwrap()).collect::<Vec<_>>(), [&*acme.id]);
    // Who belongs to several says which one is meant.
    let of = |organization: &Organization| {
        app.admin.with_key(&token("user-2", &json!({ "organization_id": organization.id })))
    };
    of(&acme).get(&path).await.expect(200);
    of(&other).get(&other.path("/balance")).await.expect(200);
    of(&other).get(&path).await.refused(404, "unknown_organization");
    assert_nobody(&app, &path, &token("user-2", &json!({})), "a user of two").await;
    // A token is no way into the dashboard.
    let form = format!("key={}", token("user-1", &json!({})));
    let log_in = app.stranger().post("/dashboard/login").header("Sec-Fetch-Site", "same-origin");
    assert_eq!(log_in.body("application/x-www-form-urlencoded", form).await.status, 401);
    // Whoever is removed is out, however long the token lasts.
    app.admin.delete(&acme.path("/members/user-1")).await.expect(204);
    assert_nobody(&app, &path, one.key().unwrap(), "somebody who was removed").await;
    app.finish().await;
});

both_engines!(whatever_is_not_a_valid_token_is_answered_like_a_wrong_key, async |db| {
    let app = with_secret(db).await;
    let (acme, other) = (app.organization("acme", json!({})).await, app.organization("other", json!({})).await);
    member(&app, &acme, "user-1").await;
    let path = acme.path("/balance");
    let good = token("user-1", &json!({}));
    app.admin.with_key(&good).get(&path).await.expect(200);
    let wrong = [
        ("expired", json!({ "exp": in_seconds(-40) })),
        ("without an end", json!({ "exp": null })),
        ("with an end that is none", json!({ "exp": "never" })),
        ("not valid yet", json!({ "nbf": in_seconds(60) })),
        ("of another issuer", json!({ "iss": "https://evil.example" })),
        ("of no issuer", json!({ "iss": null })),
        ("for somebody else", json!({ "aud": "other" })),
        ("for nobody", json!({ "aud": null })),
        ("of nobody", json!({ "sub": null })),
        ("of a user whom nobody knows", json!({ "sub": "user-9" })),
        ("of a user with no name", json!({ "sub": "" })),
        ("of a user with a line break", json!({ "sub": "user-1\n" })),
        ("of a user that is no text", json!({ "sub": 1 })),
        ("for an organization of others", json!({ "organization_id": other.id })),
        ("for an organization that is none", json!({ "organization_id": ABSENT })),
        ("for an organization that is no id", json!({ "organization_id": "acme" })),
    ];
    for (what, others) in &wrong {
        assert_nobody(&app, &path, &token("user-1", others), what).await;
    }
    let right = claims("user-1", &json!({}));
    let header = |header: Value| signed(&header, &right, |it| mac(hmac::HMAC_SHA256, SECRET.as_bytes(), it));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other_payload = claims("user-2", &json!({}));
    let forged = [
        ("by another secret", by_secret("another-secret-0123456789abcdef-0123", &right)),
        ("by no secret", by_secret("", &right)),
        ("by nobody", signed(&json!({ "alg": "none" }), &right, |_| Vec::new())),
        ("by nobody, with a signature", header(json!({ "alg": "none" }))),
        ("by nobody, in capitals", signed(&json!({ "alg": "NONE" }), &right, |_| Vec::new())),
        ("by HS512", signed(&json!({ "alg": "HS512" }), &right, |it| mac(hmac::HMAC_SHA512, SECRET.as_bytes(), it))),
        ("by HS256 that is called RS256", header(json!({ "alg": "RS256" }))),
        ("by nothing that is said", header(json!({}))),
        ("with something that must be understood", header(json!({ "alg": "HS256", "crit": ["exp"] }))),
        ("with no signature", format!("{message}.")),
        ("with half a signature", format!("{message}.{}", &signature[..20])),
        (
            "with other claims",
            format!("{}.{}.{signature}", message.split_once('.').unwrap().0, encoded(other_payload.to_string())),
        ),
        ("that is too long", token("user-1", &json!({ "x": "x".repeat(4_000) }))),
        ("of two points alone", "..".to_owned()),
        ("of four parts", format!("{good}.x")),
    ];
    for (what, token) in &forged {
        assert_nobody(&app, &path, token, what).await;
    }
    app.finish().await;
});

both_engines!(a_user_reads_and_does_nothing_else_whatever_the_operation, async |db| {
    let app = with_secret(db).await;
    let document = Document::of(&app).await;
    let (own, foreign) = (World::new(&app, "own").await, World::new(&app, "foreign-one").await);
    member(&app, &own.organization, "owner").await;
    let role = json!({ "role": "owner" });
    app.admin.put(&own.organization.path("/members/owner")).json(role).await.expect(200);
    let user = app.admin.with_key(&token("owner", &json!({})));
    let key = app.bound_key(&["read"], &own.organization).await;
    let reader = app.db().contents().await.unwrap();
    let before = reader.read().await.unwrap();
    for operation in document.operations() {
        for world in [&own, &foreign] {
            let said = |client: &Client| world.call(client, &document, &operation);
            let (by_user, by_key) = (said(&user).await, said(&key).await);
            assert_eq!(by_user.status, by_key.status, "{by_user}");
            if scope_of(&operation) != "read" {
                by_user.refused(403, "forbidden_scope");
            } else if by_user.status >= 400 {
                assert_eq!(by_user.without_request_id(), by_key.without_request_id());
            }
            if operation.is_of_an_organization() && world.external_id == "foreign-one" {
                assert!(by_user.status == 403 || by_user.status == 404, "{by_user}");
            }
            assert!(operation.method != Method::GET || by_user.status != 401, "{by_user}");
        }
    }
    let after = reader.read().await.unwrap();
    assert_eq!(after.differences(&before), Vec::<&str>::new(), "changed by a user");
    app.finish().await;
});

/// Keys of an identity provider, by whose private halves tokens are signed.
enum Signer {
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    fn ec() -> Self {
        let (algorithm, random) = (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ec(Box::new(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap()))
    }

    fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Box::new(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap()))
    }

    async fn rsa() -> Self {
        let mut make = Command::new("openssl");
        make.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"]);
        let made = make.output().await.expect("openssl is there");
        // In the one form or the other, by the version of the program.
        let key = RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout));
        Self::Rsa(Box::new(key.unwrap()))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public half, as the file has it.
    fn jwk(&self, id: &str) -> Value {
        let mut jwk = match self {
            Self::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y) })
            }
            Self::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key()) }),
            Self::Rsa(key) => {
                let key = signature::RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": encoded(key.n), "e": encoded(key.e) })
            }
        };
        jwk["kid"] = id.into();
        jwk
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn token(&self, header: &Value) -> String {
        let claims = json!({ "sub": "user-1", "exp": in_seconds(600) });
        signed(header, &claims, |message| self.sign(message))
    }
}

/// Puts keys into a file, as an identity provider publishes them.
fn write(file: &Path, keys: &[Value]) {
    std::fs::write(file, json!({ "keys": keys }).to_string()).unwrap();
}

async fn status(app: &TestApp, path: &str, token: &str) -> u16 {
    app.admin.with_key(token).get(path).await.status
}

/// On one engine: the file has nothing to do with the database.
#[test]
fn public_keys_verify_what_their_type_is_for_and_follow_their_file() {
    run(Engine::Sqlite, async |db| {
        let scratch = tests::scratch::Scratch::start(false).unwrap();
        let file = scratch.path().join("keys.json");
        let signers = [("ec", Signer::ec()), ("ed", Signer::ed()), ("rsa", Signer::rsa().await)];
        let mut keys: Vec<Value> = signers.iter().map(|(id, signer)| signer.jwk(id)).collect();
        keys.push(json!({ "kty": "oct", "kid": "oct", "k": encoded(SECRET) }));
        let mut other_use = signers[0].1.jwk("encrypts");
        other_use["use"] = "enc".into();
        keys.push(other_use);
        write(&file, &keys);
        let app = app(db, Source::File(file.clone())).await;
        let acme = app.organization("acme", json!({})).await;
        member(&app, &acme, "user-1").await;
        let path = acme.path("/balance");
        for (id, signer) in &signers {
            let right = signer.token(&json!({ "alg": signer.algorithm(), "kid": id }));
            assert_eq!(status(&app, &path, &right).await, 200, "{id}");
            for header in [
                json!({ "alg": signer.algorithm() }),
                json!({ "alg": signer.algorithm(), "kid": "nobody's" }),
                json!({ "alg": signer.algorithm(), "kid": "encrypts" }),
                json!({ "alg": "HS256", "kid": id }),
                json!({ "alg": "none", "kid": id }),
                json!({ "alg": "PS256", "kid": id }),
                json!({ "alg": signer.algorithm(), "kid": if *id == "ec" { "ed" } else { "ec" } }),
            ] {
                assert_nobody(&app, &path, &signer.token(&header), &format!("{id} {header}")).await;
            }
            // What is public is no secret.
            let jwk = signer.jwk(id);
            let texts = ["x", "n"].into_iter().filter_map(|name| jwk[name].as_str());
            let raw = texts.clone().map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
            let known = [jwk.to_string().into_bytes(), std::fs::read(&file).unwrap()];
            for secret in texts.map(|text| text.as_bytes().to_vec()).chain(raw).chain(known) {
                let claims = json!({ "sub": "user-1", "exp": in_seconds(60) });
                let header = json!({ "alg": "HS256", "kid": id });
                let forged = signed(&header, &claims, |it| mac(hmac::HMAC_SHA256, &secret, it));
                assert_nobody(&app, &path, &forged, &format!("{id} as a secret")).await;
            }
        }
        let symmetric = json!({ "alg": "HS256", "kid": "oct" });
        let claims = json!({ "sub": "user-1", "exp": in_seconds(60) });
        let symmetric = signed(&symmetric, &claims, |it| mac(hmac::HMAC_SHA256, SECRET.as_bytes(), it));
        assert_nobody(&app, &path, &symmetric, "a secret in the file").await;

        // Another key takes their place; what is broken then changes nothing.
        let next = Signer::ec();
        write(&file, &[next.jwk("next")]);
        let (old, new) =
            (signers[0].1.token(&json!({ "alg": "ES256", "kid": "ec" })), next.token(&json!({ "alg": "ES256" })));
        let changed = async {
            while status(&app, &path, &new).await != 200 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(NOTICED_WITHIN, changed).await.expect("the new key is noticed");
        assert_nobody(&app, &path, &old, "a key that is gone").await;
        std::fs::write(&file, "{").unwrap();
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        for _ in 0..2 {
            assert_eq!(status(&app, &path, &new).await, 200);
        }
        app.finish().await;
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_without_repeating_a_secret() {
    let open = |source| {
        let settings = TokenSettings { source, issuer: None, audience: None };
        format!("{:#}", Tokens::open(settings).unwrap_err())
    };
    let short = "too-short-a-secret";
    let said = open(Source::Secret(Secret::from(short.to_owned())));
    assert!(said.contains("MULTICREDIT_JWT_SECRET") && !said.contains(short), "{said}");
    let scratch = tests::scratch::Scratch::start(false).unwrap();
    let file = scratch.path().join("keys.json");
    assert!(open(Source::File(file.clone())).contains("MULTICREDIT_JWT_JWKS_FILE"));
    for keys in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#] {
        std::fs::write(&file, keys).unwrap();
        assert!(open(Source::File(file.clone())).contains("MULTICREDIT_JWT_JWKS_FILE"), "{keys}");
    }
}
