//! The list of organizations: what there is, searched and in pages.

use askama::Template;
use multicredit_domain::{Organization, OrganizationId};
use multicredit_store::{Page as StorePage, PageRequest, Search};
use poem::Response;

use super::answer::{self, Shell};
use super::organization;
use super::query::{Query, escape};
use super::session::Visit;
use super::show::{self, Moment};
use crate::auth::scope;
use crate::limits::DASHBOARD_ROWS;
use crate::page;
use crate::problem::Problem;

/// The longest text that is searched for: as long as a name can be, and a little.
const SEARCH_MAX_CHARS: usize = 250;

#[derive(Template)]
#[template(path = "dashboard/organizations.html")]
struct OrganizationsPage {
    shell: Shell,
    search: String,
    items: Vec<Item>,
    /// Whether this is not the first page.
    is_later: bool,
    first: String,
    next: Option<String>,
}

struct Item {
    path: String,
    name: String,
    external_id: Option<String>,
    status: &'static str,
    time_zone: String,
    created: Moment,
}

impl From<Organization> for Item {
    fn from(organization: Organization) -> Self {
        Self {
            path: organization::path(organization.id, ""),
            name: organization.name,
            external_id: organization.external_id.map(String::from),
            status: organization.status.as_str(),
            time_zone: organization.time_zone.as_str().to_owned(),
            created: show::moment(organization.created_at),
        }
    }
}

/// The page.
pub async fn page(visit: &Visit, query: &Query) -> Result<Response, Problem> {
    let auth = visit.auth::<scope::Read>()?;
    let text: String = query.get("q").unwrap_or_default().chars().take(SEARCH_MAX_CHARS).collect();
    let wanted = PageRequest { after: query.cursor::<OrganizationId>()?, limit: DASHBOARD_ROWS };
    let is_later = wanted.after.is_some();
    let found = match auth.bound_to() {
        None => auth.store().organizations(Search::new(&text).as_ref(), wanted).await?,
        // There is one, and no need to look for it.
        Some(own) => StorePage { items: vec![auth.store().organization(own).await?], next: None },
    };
    let path = format!("{}/organizations", super::PATH);
    let first = if text.is_empty() { path.clone() } else { format!("{path}?q={}", escape(&text)) };
    let next = found.next.as_ref().map(|next| {
        let search = if text.is_empty() { String::new() } else { format!("q={}&", escape(&text)) };
        format!("{path}?{search}cursor={}", page::encode(next))
    });
    answer::html(&OrganizationsPage {
        shell: visit.shell("organizations"),
        search: text,
        items: found.items.into_iter().map(Item::from).collect(),
        is_later,
        first,
        next,
    })
}
