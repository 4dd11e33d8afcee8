//! How pages are answered: the headers that every one has, the frame around it, and errors.

use askama::Template;
use multicredit_domain::OrganizationId;
use poem::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE as CONTENT_TYPE_HEADER, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use poem::http::{HeaderMap, HeaderValue, StatusCode};
use poem::{Body, Response};

use super::assets;
use crate::problem::{Code, Problem};

/// The media type of every page.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Nothing but our own style sheet and icon, no script of any kind, forms that go nowhere else, and no frame around us.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// The same for a page that keeps itself as things are: our own script, which asks nobody but us.
const LIVE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the frame around a page needs to know.
pub struct Shell {
    /// Where the style sheet is.
    pub style: String,
    /// Where the icon is.
    pub icon: String,
    /// Which entry of the navigation the page belongs to.
    pub active: &'static str,
    /// Who looks.
    pub viewer: Viewer,
}

/// Who looks at a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Nobody who is logged in, or nobody knows.
    Stranger,
    /// Somebody who sees all organizations.
    Fleet,
    /// Somebody who sees one.
    Bound(OrganizationId),
}

impl Shell {
    /// The frame for somebody.
    pub fn new(viewer: Viewer, active: &'static str) -> Self {
        Self { style: assets::STYLE.url(), icon: assets::ICON.url(), active, viewer }
    }

    pub fn is_stranger(&self) -> bool {
        self.viewer == Viewer::Stranger
    }

    pub fn is_fleet(&self) -> bool {
        self.viewer == Viewer::Fleet
    }

    pub fn own(&self) -> Option<OrganizationId> {
        if let Viewer::Bound(own) = self.viewer { Some(own) } else { None }
    }
}

/// An error as a page.
#[derive(Template)]
#[template(path = "dashboard/error.html")]
struct ErrorPage<'a> {
    shell: Shell,
    status: u16,
    title: &'a str,
    detail: &'a str,
    request_id: &'a str,
}

/// A page.
pub fn html(page: &impl Template) -> Result<Response, Problem> {
    with_status(StatusCode::OK, page)
}

/// A page that has the script.
pub fn live_html(page: &impl Template) -> Result<Response, Problem> {
    let mut response = html(page)?;
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(LIVE_POLICY));
    Ok(response)
}

/// A page that is answered with that status.
pub fn with_status(status: StatusCode, page: &impl Template) -> Result<Response, Problem> {
    let text = page.render().map_err(|error| Problem::internal(format!("a page cannot be written: {error}")))?;
    let mut response = Response::builder().status(status).content_type(CONTENT_TYPE).body(Body::from_string(text));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    protect(response.headers_mut());
    Ok(response)
}

/// Sends the browser to another page, by GET.
pub fn see_other(path: &str) -> Response {
    let mut response = Response::builder().status(StatusCode::SEE_OTHER).finish();
    let headers = response.headers_mut();
    // A path that no header can carry is none of ours.
    headers.insert(LOCATION, HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static(super::PATH)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    protect(headers);
    response
}

/// The headers that keep a page to itself. Forms must say where they come from, which `no-referrer` would forbid them.
pub fn protect(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

/// A problem as a page, with the status and the headers that it has everywhere.
pub fn problem_page(problem: Problem, request_id: &str) -> Response {
    let (status, code) = (problem.status(), problem.code());
    let (title, detail) = in_words(code);
    let mut response = problem.into_answer(request_id);
    let page = ErrorPage {
        shell: Shell::new(Viewer::Stranger, ""),
        status: status.as_u16(),
        title: title.unwrap_or(code.title()),
        detail: detail.unwrap_or(code.detail()),
        request_id,
    };
    if let Ok(text) = page.render() {
        response.set_body(text);
        response.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    protect(response.headers_mut());
    response
}

/// What to say to people, where the words of the API are for programs.
const fn in_words(code: Code) -> (Option<&'static str>, Option<&'static str>) {
    match code {
        Code::UnknownOrganization => (
            Some("No such organization"),
            Some("There is no organization under this address, or your key does not cover it."),
        ),
        Code::UnknownPath => (
            Some("There is no such page"),
            Some("The address leads nowhere. It may have been mistyped, or belong to another release."),
        ),
        Code::ForbiddenScope => (
            Some("Your key may not read"),
            Some("The dashboard needs a key with the scope read (or admin). Log in with another key."),
        ),
        Code::ForbiddenBoundKey => (
            Some("Your key covers one organization"),
            Some("This page is about all organizations, and your key is bound to one."),
        ),
        Code::InvalidRequest => (
            Some("This address does not work"),
            Some("Something in it is not valid, perhaps a link that was cut. Begin at the first page again."),
        ),
        Code::Internal => (None, Some("Something went wrong on our side. The server's log has it under the id below.")),
        Code::Unavailable | Code::Overloaded => (
            Some("Not available just now"),
            Some("The database cannot answer at present. Try again in a moment; nothing is lost."),
        ),
        _ => (None, None),
    }
}
