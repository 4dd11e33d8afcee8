//! `/dashboard`: what the API tells, for people.
//!
//! Pages are made on the server, from the same readers of the store that the API has, behind the same
//! [`Auth`]: a handler here can see nothing that a request with the key could not. Charts are SVG, style and icon come
//! from the program itself, and the content policy of every page allows nothing else. There is one script, on one page,
//! which works without it: it keeps the balances of an organization as they are.
//! Errors are [`Problem`]s as everywhere, and the outermost middleware writes them as a page.

mod answer;
mod assets;
mod charts;
mod fleet;
mod lists;
mod organization;
mod organizations;
mod performance;
mod query;
mod session;
mod show;
mod usage;

pub use self::answer::{CONTENT_TYPE, problem_page};
pub use self::fleet::LastFleet;

use multicredit_domain::OrganizationId;
use poem::endpoint::BoxEndpoint;
use poem::http::header::CACHE_CONTROL;
use poem::http::{HeaderValue, Method};
use poem::{Endpoint, EndpointExt as _, Request, Response};
use poem_openapi::OperationId;
use uuid::Uuid;

use self::query::Query;
use self::session::Visit;
use crate::app::Context;
use crate::auth::{Auth, Tenant, scope};
use crate::live;
use crate::param::last_event_id;
use crate::problem::{Code, Problem};
use crate::wire::Text as _;

/// Where it is.
pub const PATH: &str = "/dashboard";

/// What the routing table knows of it.
pub const PATHS: [&str; 2] = [PATH, "/dashboard/*"];

/// What requests for its pages are counted as.
pub const OPERATION: &str = "dashboard";

/// Whether a path belongs to it.
pub fn is_below(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All of its pages.
pub fn endpoint() -> BoxEndpoint<'static> {
    Dashboard.boxed()
}

struct Dashboard;

impl Endpoint for Dashboard {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let context = Context::of(&request)?;
        match answer(&context, &mut request).await {
            Ok(mut response) => {
                response.set_data(OperationId(OPERATION));
                Ok(response)
            }
            Err(problem) => {
                let mut error = poem::Error::from(problem);
                error.set_data(OperationId(OPERATION));
                Err(error)
            }
        }
    }
}

async fn answer(context: &Context, request: &mut Request) -> Result<Response, Problem> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).skip(1).collect();
    match parts[..] {
        ["assets", name] => {
            only(request, &Method::GET)?;
            return assets::answer(request, name);
        }
        ["login"] if request.method() == Method::POST => return session::log_in(context, request).await,
        ["logout"] => {
            only(request, &Method::POST)?;
            return session::log_out(context, request).await;
        }
        _ => {}
    }
    only(request, &Method::GET)?;
    let query = Query::of(request)?;
    if parts[..] == ["login"] {
        return session::login_page(context, request, &query).await;
    }
    let visit = match session::visit(context, request).await? {
        Ok(visit) => visit,
        Err(redirect) => return Ok(redirect),
    };
    if let ["organizations", id, "stream"] = parts[..] {
        let subject = Subject::of(&visit, id)?;
        let mut response = live::open(context, subject.id, last_event_id(request)?).await?;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer::protect(response.headers_mut());
        return Ok(response);
    }
    page(&visit, &query, &parts).await
}

/// The page of a path below `/dashboard`, for somebody who is logged in.
async fn page(visit: &Visit, query: &Query, parts: &[&str]) -> Result<Response, Problem> {
    match *parts {
        [] => match visit.bound_to() {
            Some(own) => Ok(answer::see_other(&organization::path(own, ""))),
            None => fleet::page(visit, query).await,
        },
        ["organizations"] => organizations::page(visit, query).await,
        ["organizations", id] => organization::page(&Subject::of(visit, id)?).await,
        ["organizations", id, "usage"] => usage::page(&Subject::of(visit, id)?, query).await,
        ["organizations", id, "lots"] => lists::lots(&Subject::of(visit, id)?, query).await,
        ["organizations", id, "holds"] => lists::holds(&Subject::of(visit, id)?, query).await,
        ["organizations", id, "statement"] => lists::statement(&Subject::of(visit, id)?, query).await,
        ["performance"] => performance::page(visit).await,
        _ => Err(Problem::new(Code::UnknownPath)),
    }
}

/// One organization, as somebody may see it who has `read`.
struct Subject<'a> {
    visit: &'a Visit,
    auth: Auth<scope::Read>,
    id: OrganizationId,
}

impl<'a> Subject<'a> {
    fn of(visit: &'a Visit, id: &str) -> Result<Self, Problem> {
        let auth = visit.auth::<scope::Read>()?;
        // An id that is none is the id of nothing: to a person that is the same.
        let tenant = Tenant::parse(id).or_else(|_| Tenant::parse(&Uuid::nil().to_string()));
        let tenant = tenant.map_err(|reason| Problem::internal(reason.into_owned()))?;
        let id = auth.organization(tenant)?;
        Ok(Self { visit, auth, id })
    }
}

/// Refuses every other method. HEAD is GET, whose body the outermost middleware leaves out.
fn only(request: &Request, method: &Method) -> Result<(), Problem> {
    let is_head_of_get = method == Method::GET && request.method() == Method::HEAD;
    if request.method() == method || is_head_of_get {
        return Ok(());
    }
    let allow = if method == Method::GET { "GET, HEAD" } else { "POST" };
    Err(Problem::method_not_allowed(HeaderValue::from_static(allow)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboard_is_its_path_and_what_is_below_it() {
        assert!(is_below("/dashboard") && is_below("/dashboard/") && is_below("/dashboard/performance"));
        assert!(!is_below("/dashboards") && !is_below("/v1/dashboard") && !is_below("/"));
    }
}
