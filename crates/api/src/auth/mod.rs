//! Who calls, and what they may see: the one place where both are decided.
//!
//! [`Auth`] is the only way from a handler to the store, and its type says which scope the handler needs: a handler that
//! forgot to ask could not do anything. An organization's id that comes from outside, in a path or a body, is a
//! [`Tenant`], which only [`Auth::organization`] opens; a key that is bound to an organization opens no other, and the
//! answer is the one that an organization would get that does not exist.

pub mod cache;
mod key;
pub mod scope;
pub mod token;

pub use key::{KEY_NAME_MAX_CHARS, PREFIX_CHARS, digest, is_acceptable_admin_key, new_secret, prefix};

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use multicredit_domain::{Actor, ApiKeyId, ExternalId, OrganizationId, Refusal};
use multicredit_store::{ApiKey, AuditKey, Author, PageRequest, Scope, Store};
use poem::http::header::AUTHORIZATION;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSchema, MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::{Serialize as _, Serializer};
use tracing::Instrument as _;
use uuid::Uuid;

use self::cache::Known;
use self::scope::{Requirement, Scopes};
use self::token::{Claims, Tokens};
use crate::app::Context;
use crate::limits::API_KEY_MAX_BYTES;
use crate::param::Segment;
use crate::problem::{Code, Problem};
use crate::wire::{Reason, Text};

/// What the OpenAPI document calls the one way to authenticate.
pub const SECURITY_SCHEME: &str = "api_key";

/// The header in which a caller says who causes what it asks for, for the audit log.
pub const X_ACTOR: &str = "X-Actor";

/// By what a caller is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// An API key. Cloning shares it.
    Key(Arc<AuditKey>),
    /// A user, by a signed token.
    User(Arc<str>),
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// By what they are known.
    pub caller: Caller,
    /// What it may do.
    pub scopes: Scopes,
    /// The only organization that it sees; `None` is all.
    pub bound_to: Option<OrganizationId>,
}

impl Principal {
    /// Whoever has that key.
    pub fn of(key: &ApiKey) -> Self {
        let name = AuditKey { id: key.id, name: key.name.clone(), prefix: key.prefix.clone() };
        Self { caller: Caller::Key(Arc::new(name)), scopes: Scopes::of(&key.scopes), bound_to: key.organization_id }
    }

    /// The key, if they have one.
    pub const fn key(&self) -> Option<&Arc<AuditKey>> {
        match &self.caller {
            Caller::Key(key) => Some(key),
            Caller::User(_) => None,
        }
    }

    /// What requests are counted by: the key, or what stands for the user.
    fn counted_as(&self) -> ApiKeyId {
        match &self.caller {
            Caller::Key(key) => key.id,
            Caller::User(user) => {
                let mut id = [0; 16];
                id.copy_from_slice(&digest(user)[..16]);
                ApiKeyId::new(Uuid::from_bytes(id))
            }
        }
    }
}

/// A caller whose key is valid and meets the requirement `R`.
#[derive(Debug)]
pub struct Auth<R> {
    context: Context,
    principal: Principal,
    actor: Option<Actor>,
    requirement: PhantomData<fn() -> R>,
}

impl<R: Requirement> Auth<R> {
    /// What a caller may do who is known already, by a session of the dashboard.
    pub fn of(context: Context, principal: Principal) -> Result<Self, Problem> {
        authorize::<R>(&principal)?;
        Ok(Self { context, principal, actor: None, requirement: PhantomData })
    }
}

impl<R> Auth<R> {
    /// The store, to read and to spend.
    pub fn store(&self) -> &Store {
        &self.context.state().store
    }

    /// The store, to change anything else: the audit log names the caller.
    pub fn acting(&self) -> Store {
        self.store().acting_for(Author {
            key: self.principal.key().cloned(),
            actor: self.actor.clone(),
            request_id: Some(self.context.request_id().as_str().to_owned()),
        })
    }

    /// The request that is answered.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The only organization that the key sees; `None` is all.
    pub const fn bound_to(&self) -> Option<OrganizationId> {
        self.principal.bound_to
    }

    /// The organization that the caller named, if the key may know of it. Whether it exists is for the store to say.
    pub fn organization(&self, tenant: Tenant) -> Result<OrganizationId, Problem> {
        if self.sees(tenant.0) { self.counted(tenant.0) } else { Err(Refusal::UnknownOrganization.into()) }
    }

    /// The organization that the customer's system calls so, if there is one that the key may know of.
    pub async fn organization_of_subject(&self, subject: &ExternalId) -> Result<OrganizationId, Problem> {
        let state = self.context.state();
        let found = state.directory.organization(&state.store, subject).await?;
        let found = found.filter(|id| self.sees(*id)).ok_or(Refusal::UnknownOrganization)?;
        self.counted(found)
    }

    /// The organization, for which a request is counted.
    fn counted(&self, id: OrganizationId) -> Result<OrganizationId, Problem> {
        self.context.state().rates.take_of_organization(id, self.context.standing())?;
        Ok(id)
    }

    fn sees(&self, id: OrganizationId) -> bool {
        self.principal.bound_to.is_none_or(|bound_to| bound_to == id)
    }
}

impl<'a, R: Requirement> ApiExtractor<'a> for Auth<R> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SECURITY_SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "An API key: `Authorization: Bearer KEY`. What a key may do is in its scopes (`read`, `consume`, \
                     `credit`, `admin`); a key that is bound to an organization sees nothing but that organization. \
                     Where the server is configured so, also a signed token (JWT) of a user, who reads what a bound key \
                     with the scope `read` does: of the organization that `sub` is a member of, or of the one of several \
                     that the claim `organization_id` names.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("API key or JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    /// The scope, from which [`crate::openapi`] makes the reference to the one scheme there is.
    fn security_schemes() -> Vec<&'static str> {
        vec![R::SCOPE.as_str()]
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        let context = Context::of(request)?;
        let principal = authenticate(&context, request).await?;
        context.state().rates.take_of_key(principal.counted_as(), context.standing())?;
        let actor = match &principal.caller {
            Caller::Key(_) => actor(request)?,
            // Users speak for themselves.
            Caller::User(user) => Actor::parse(user).ok(),
        };
        Ok(Self { actor, ..Self::of(context, principal)? })
    }
}

/// Who sent the request.
async fn authenticate(context: &Context, request: &Request) -> Result<Principal, Problem> {
    let bearer = bearer(request).ok_or_else(|| Problem::new(Code::Unauthorized))?;
    match context.state().settings.tokens.as_ref().and_then(|tokens| tokens.verify(bearer)) {
        // Boxed, as what is seldom done below: every request would keep room for it.
        Some(claims) => Box::pin(user(context, &claims)).await,
        None => recognize(context, bearer).await,
    }
}

/// Who holds a valid token; [`Code::Unauthorized`] if that is no member, or of several organizations and names none.
async fn user(context: &Context, claims: &Claims) -> Result<Principal, Problem> {
    let only = claims.organization_id.map(OrganizationId::new);
    let found = context.state().store.memberships(claims.user.as_str(), only, PageRequest::first(2)).await?.items;
    let [membership] = found[..] else { return Err(Problem::new(Code::Unauthorized)) };
    let scopes = Scopes::of(&[Scope::Read]);
    Ok(Principal {
        caller: Caller::User(claims.user.as_str().into()),
        scopes,
        bound_to: Some(membership.organization_id),
    })
}

/// Who has that key; [`Code::Unauthorized`] if nobody has.
pub async fn recognize(context: &Context, key: &str) -> Result<Principal, Problem> {
    let unauthorized = || Problem::new(Code::Unauthorized);
    let digest = digest(Some(key).filter(|key| could_be_one(key)).ok_or_else(unauthorized)?);
    let state = context.state();
    let (generation, fallback) = match state.keys.get(&digest, Instant::now()) {
        Known::Valid(principal) => return Ok(principal),
        Known::Invalid => return Err(unauthorized()),
        Known::Stale(principal, generation) => (generation, Some(principal)),
        Known::Nothing(generation) => (generation, None),
    };
    match Box::pin(state.store.api_key_by_digest(&digest)).await {
        Ok(key) => {
            let principal = key.filter(|key| key.revoked_at.is_none()).as_ref().map(Principal::of);
            state.keys.learn(digest, principal.clone(), generation, Instant::now());
            principal.ok_or_else(unauthorized)
        }
        // What is known still holds; whether the database answers is for the operation to find out.
        Err(error) => fallback.ok_or_else(|| error.into()),
    }
}

/// Lets a request pass whose key is valid and meets the requirement `R`: for pages, which are no operations.
pub async fn require<R: Requirement>(context: &Context, request: &Request) -> Result<(), Problem> {
    authorize::<R>(&authenticate(context, request).await?)
}

fn authorize<R: Requirement>(principal: &Principal) -> Result<(), Problem> {
    if !principal.scopes.allow(R::SCOPE) {
        return Err(Problem::new(Code::ForbiddenScope));
    }
    if R::UNBOUND && principal.bound_to.is_some() {
        return Err(Problem::new(Code::ForbiddenBoundKey));
    }
    Ok(())
}

/// Whom the request names as the one who causes it.
fn actor(request: &Request) -> Result<Option<Actor>, Problem> {
    let mut values = request.headers().get_all(X_ACTOR).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(X_ACTOR, "must not be given twice"));
    }
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Problem::invalid(X_ACTOR, "must be UTF-8"))?;
    Actor::parse(text).map(Some).map_err(|reason| Problem::invalid(X_ACTOR, reason))
}

/// The key that came with the request, if exactly one did that could be one.
pub(crate) fn bearer(request: &Request) -> Option<&str> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case("bearer") && (could_be_one(key) || Tokens::could_be_one(key))).then_some(key)
}

/// Whether a text could be a key.
fn could_be_one(key: &str) -> bool {
    key.len() <= API_KEY_MAX_BYTES && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Ends a key's validity, in the database and then at once in this process; `false` if there is no such key.
///
/// It goes on even if the caller hangs up: between the two steps this process would believe a key that is revoked.
pub async fn revoke<R>(auth: &Auth<R>, id: ApiKeyId) -> Result<bool, Problem> {
    let (context, store) = (auth.context().clone(), auth.acting());
    let revoking = async move {
        let existed = store.revoke_api_key(id).await;
        context.state().keys.forget(id);
        existed
    };
    let revoking = tokio::spawn(revoking.in_current_span());
    Ok(revoking.await.map_err(|error| Problem::internal(error.to_string()))??)
}

/// An organization as a caller names it: an id that is not yet known to be theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant(OrganizationId);

impl Tenant {
    /// For examples in the documentation.
    pub const fn example() -> Self {
        Self(crate::resource::example::ORGANIZATION_ID)
    }
}

impl Text for Tenant {
    const NAME: &'static str = "Uuid";

    fn schema() -> MetaSchema {
        <Uuid as Text>::schema()
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        <Uuid as Text>::parse(text).map(OrganizationId::new).map(Self)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Segment for Tenant {
    const PARAMETER: &'static str = "organization_id";
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;

    fn bearer_of(values: &[&str]) -> Option<String> {
        let request = values.iter().fold(Request::builder(), |request, value| request.header(AUTHORIZATION, *value));
        bearer(&request.finish()).map(str::to_owned)
    }

    #[test]
    fn one_bearer_key_is_read_and_anything_else_is_none() {
        assert_eq!(bearer_of(&["Bearer mc_abc"]).as_deref(), Some("mc_abc"));
        assert_eq!(bearer_of(&["bearer   mc_abc"]).as_deref(), Some("mc_abc"));
        for bad in
            [&[][..], &[""], &["Bearer"], &["Bearer "], &["Basic mc_abc"], &["Bearer a b"], &["Bearer a", "Bearer a"]]
        {
            assert_eq!(bearer_of(bad), None, "{bad:?}");
        }
        assert_eq!(bearer_of(&[&format!("Bearer {}", "k".repeat(256))]), None);
    }

    fn principal(scopes: &[Scope], bound_to: Option<OrganizationId>) -> Principal {
        let key = AuditKey { id: ApiKeyId::new(Uuid::from_u128(1)), name: String::new(), prefix: String::new() };
        Principal { caller: Caller::Key(Arc::new(key)), scopes: Scopes::of(scopes), bound_to }
    }

    #[test]
    fn an_actor_is_a_name_of_any_script_and_there_once() {
        let actor_of = |values: &[&[u8]]| {
            let mut request = Request::builder().finish();
            for value in values {
                request.headers_mut().append(X_ACTOR, HeaderValue::from_bytes(value).unwrap());
            }
            actor(&request).map(|actor| actor.map(|actor| actor.to_string())).ok()
        };
        assert_eq!(actor_of(&[]), Some(None));
        assert_eq!(actor_of(&["Jürgen".as_bytes()]), Some(Some("Jürgen".to_owned())));
        for bad in [&[&b""[..]][..], &[b"\xff"], &[b"a\tb"], &[&[b'a'; 201]], &[b"a", b"a"]] {
            assert_eq!(actor_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_bound_key_cannot_do_what_concerns_all_organizations() {
        let bound = principal(&[Scope::Admin], Some(OrganizationId::new(Uuid::from_u128(2))));
        assert!(authorize::<scope::Admin>(&bound).is_ok());
        assert_eq!(authorize::<scope::Operate>(&bound).unwrap_err().code(), Code::ForbiddenBoundKey);
        let reader = principal(&[Scope::Read], None);
        assert_eq!(authorize::<scope::Operate>(&reader).unwrap_err().code(), Code::ForbiddenScope);
    }
}
