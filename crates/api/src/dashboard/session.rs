//! Logging in and out, and who a request comes from (`docs/adr/0014-dashboard-sessions.md`).
//!
//! The browser keeps a random token in a cookie that scripts cannot read and other sites cannot send; the database keeps
//! its digest, with the key that was logged in with. So any server knows a session that any other began, and it ends the
//! moment that somebody logs out or revokes the key. The key itself is nowhere but in the form that brought it.

use askama::Template;
use chrono::TimeDelta;
use multicredit_domain::OrganizationId;
use poem::http::header::{COOKIE, HOST, HeaderName, ORIGIN, SET_COOKIE, WWW_AUTHENTICATE};
use poem::http::uri::Authority;
use poem::http::{HeaderValue, StatusCode};
use poem::web::Form;
use poem::{FromRequest as _, Request, RequestBody, Response};

use super::PATH;
use super::answer::{self, Shell, Viewer};
use super::query::{Query, escape};
use crate::app::Context;
use crate::auth::scope::{Read, Requirement};
use crate::auth::{self, Auth, Principal};
use crate::limits::SESSION_LIFETIME;
use crate::middleware;
use crate::problem::{Code, Problem};

const COOKIE_NAME: &str = "multicredit_session";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The longest path that is come back to after logging in.
const NEXT_MAX_BYTES: usize = 500;

/// Somebody who is logged in.
pub struct Visit {
    context: Context,
    principal: Principal,
}

impl Visit {
    /// What they may do, if they meet the requirement.
    pub fn auth<R: Requirement>(&self) -> Result<Auth<R>, Problem> {
        Auth::of(self.context.clone(), self.principal.clone())
    }

    /// The only organization that they see.
    pub const fn bound_to(&self) -> Option<OrganizationId> {
        self.principal.bound_to
    }

    /// The frame of a page for them.
    pub fn shell(&self, active: &'static str) -> Shell {
        Shell::new(self.bound_to().map_or(Viewer::Fleet, Viewer::Bound), active)
    }
}

#[derive(Template)]
#[template(path = "dashboard/login.html")]
struct LoginPage<'a> {
    shell: Shell,
    /// Where to go afterwards.
    next: &'a str,
    /// What went wrong before.
    message: Option<&'static str>,
}

/// Who sent the request; where that is nobody who is logged in, the way to the page on which they can be.
pub async fn visit(context: &Context, request: &Request) -> Result<Result<Visit, Response>, Problem> {
    let token = token(request);
    if let Some(principal) = principal(context, token).await? {
        return Ok(Ok(Visit { context: context.clone(), principal }));
    }
    let wanted = request.uri().path_and_query().map_or(PATH, |wanted| wanted.as_str());
    let ended = if token.is_some() { "&ended=1" } else { "" };
    let next = if wanted == PATH { String::new() } else { format!("next={}", escape(wanted)) };
    let query = format!("{next}{ended}");
    let query = query.trim_start_matches('&');
    let separator = if query.is_empty() { "" } else { "?" };
    Ok(Err(answer::see_other(&format!("{PATH}/login{separator}{query}"))))
}

async fn principal(context: &Context, token: Option<&str>) -> Result<Option<Principal>, Problem> {
    let Some(token) = token else { return Ok(None) };
    let key = context.state().store.session_key(&auth::digest(token)).await?;
    Ok(key.as_ref().map(Principal::of))
}

/// The page to log in.
pub async fn login_page(context: &Context, request: &Request, query: &Query) -> Result<Response, Problem> {
    let next = query.get("next").map_or(PATH, checked);
    if principal(context, token(request)).await?.is_some() {
        return Ok(answer::see_other(next));
    }
    let ended = "Your session has ended: it lasts twelve hours, and no longer than its key. Log in again to go on.";
    let message = query.get("ended").map(|_| ended);
    answer::html(&LoginPage { shell: Shell::new(Viewer::Stranger, ""), next, message })
}

/// Logs in with the key of the form.
pub async fn log_in(context: &Context, request: &mut Request) -> Result<Response, Problem> {
    let again = |status, message, next: &str| {
        answer::with_status(
            status,
            &LoginPage { shell: Shell::new(Viewer::Stranger, ""), next, message: Some(message) },
        )
    };
    if !is_from_here(request) {
        return again(
            StatusCode::FORBIDDEN,
            "The form came from another site, so nothing was done. Try it here.",
            PATH,
        );
    }
    let form = form(request).await;
    let field = |name: &str| form.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim());
    let next = checked(field("next"));
    let principal = match auth::recognize(context, field("key")).await {
        Ok(principal) => principal,
        Err(problem) if problem.code() == Code::Unauthorized => {
            let message = "This key is not valid. Check that it was copied whole, and that it has not been revoked.";
            let mut response = again(StatusCode::UNAUTHORIZED, message, next)?;
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Ok(response);
        }
        Err(problem) => return Err(problem),
    };
    if Auth::<Read>::of(context.clone(), principal.clone()).is_err() {
        let message = "This key may not read. The dashboard needs one with the scope read (or admin).";
        return again(StatusCode::FORBIDDEN, message, next);
    }
    let Some(key) = principal.key() else { return Err(Problem::new(Code::Unauthorized)) };
    let store = &context.state().store;
    // Whoever logs in again in the same browser leaves no session behind.
    if let Some(token) = token(request) {
        store.end_session(&auth::digest(token)).await?;
    }
    let token = auth::new_secret();
    let lifetime = TimeDelta::from_std(SESSION_LIFETIME).unwrap_or(TimeDelta::MAX);
    store.begin_session(auth::digest(&token), key.id, lifetime).await?;
    Ok(with_cookie(answer::see_other(next), request, &token, SESSION_LIFETIME.as_secs()))
}

/// Ends the session, in the database too.
pub async fn log_out(context: &Context, request: &Request) -> Result<Response, Problem> {
    if !is_from_here(request) {
        return Err(Problem::new(Code::ForbiddenOrigin));
    }
    if let Some(token) = token(request) {
        context.state().store.end_session(&auth::digest(token)).await?;
    }
    Ok(with_cookie(answer::see_other(&format!("{PATH}/login")), request, "", 0))
}

async fn form(request: &mut Request) -> Vec<(String, String)> {
    let mut body = RequestBody::new(request.take_body());
    let form = Form::<Vec<(String, String)>>::from_request(request, &mut body).await;
    // A form that cannot be read has no key in it.
    form.map(|Form(fields)| fields).unwrap_or_default()
}

/// The token that the browser sent.
fn token(request: &Request) -> Option<&str> {
    let cookies = request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value).filter(|value| !value.is_empty())
}

fn with_cookie(mut response: Response, request: &Request, token: &str, seconds: u64) -> Response {
    let secure = if is_behind_tls(request) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={token}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Whether the browser speaks TLS, be it to a proxy before us: the proxy says so, or the browser does by the form's origin.
fn is_behind_tls(request: &Request) -> bool {
    middleware::is_forwarded_from_tls(request)
        || request.header(ORIGIN).is_some_and(|origin| origin.starts_with("https://"))
}

/// Whether a form was sent from one of our own pages. Browsers say so themselves, in a header that no page can set; those
/// that do not (old ones, and where neither TLS nor the own machine makes the connection trustworthy) say the origin.
fn is_from_here(request: &Request) -> bool {
    if let Some(site) = request.header(SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    let Some((_, origin)) = request.header(ORIGIN).and_then(|origin| origin.split_once("://")) else { return false };
    let authority = request.uri().authority().map(Authority::as_str);
    [request.header(HOST), request.header(X_FORWARDED_HOST), authority].contains(&Some(origin))
}

/// Where to go after logging in: a page of the dashboard and nothing else.
fn checked(next: &str) -> &str {
    let path = next.split('?').next().unwrap_or_default();
    let is_plain = next.len() <= NEXT_MAX_BYTES && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_plain && super::is_below(path) && !path.contains("//") && !path.contains("/.") { next } else { PATH }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_in_leads_to_a_page_of_the_dashboard_and_nowhere_else() {
        for good in ["/dashboard", "/dashboard/performance", "/dashboard/organizations?q=a%20b&cursor=x"] {
            assert_eq!(checked(good), good);
        }
        let long = format!("/dashboard/{}", "x".repeat(NEXT_MAX_BYTES));
        for bad in [
            "",
            "/",
            "//evil.example",
            "https://evil.example/dashboard",
            "/dashboards",
            "/dashboard//evil",
            "/v1",
            "/dashboard/../v1",
            "/dashboard\\evil",
            "/dashboard/a b",
            "/dashboard/\r\nSet-Cookie: a=b",
            &long,
        ] {
            assert_eq!(checked(bad), PATH, "{bad}");
        }
    }

    fn from_here(headers: &[(&str, &str)]) -> bool {
        let builder = headers.iter().fold(Request::builder(), |builder, (name, value)| builder.header(*name, *value));
        is_from_here(&builder.finish())
    }

    #[test]
    fn a_form_of_another_site_is_told_apart() {
        assert!(from_here(&[("sec-fetch-site", "same-origin"), ("host", "a:1")]));
        assert!(from_here(&[("origin", "https://a.example"), ("host", "a.example")]));
        assert!(from_here(&[("origin", "https://a.example"), ("host", "10.0.0.1"), ("x-forwarded-host", "a.example")]));
        for bad in [
            &[][..],
            &[("host", "a:1")],
            &[("origin", "null"), ("host", "a:1")],
            &[("origin", "http://a:2"), ("host", "a:1")],
            &[("origin", "http://b"), ("host", "a")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://a"), ("host", "a")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://a"), ("host", "a")],
        ] {
            assert!(!from_here(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let found = |cookies: &[&str]| {
            let builder = cookies.iter().fold(Request::builder(), |builder, value| builder.header("cookie", *value));
            token(&builder.finish()).map(str::to_owned)
        };
        assert_eq!(found(&["a=b; multicredit_session=mc_x; c=d"]).as_deref(), Some("mc_x"));
        assert_eq!(found(&["a=b", "multicredit_session=mc_x"]).as_deref(), Some("mc_x"));
        assert_eq!(found(&["a=b; xmulticredit_session=mc_x"]), None);
        assert_eq!(found(&["multicredit_session="]), None);
    }
}
