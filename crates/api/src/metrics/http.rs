//! What is measured of requests.
//!
//! A cell for every operation and class of status is made at start. An answered request finds its own by the name of
//! its operation and adds to it: no label is written, nothing is locked or allocated.

use std::collections::HashMap;
use std::time::Duration;

use multicredit_store::stats::{Distribution, Histogram};
use poem::http::StatusCode;
use poem_openapi::OperationId;
use poem_openapi::registry::MetaApi;

/// The classes of status, as metrics name them.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Where requests are counted that found no operation: unknown paths, methods that a path does not have.
const NO_ROUTE: &str = "none";

/// How long the answers to one operation took, by class of status.
#[derive(Debug)]
pub struct RouteStats {
    /// The path with its parameters' names.
    pub route: String,
    /// The method.
    pub method: String,
    /// In the order of [`CLASSES`].
    pub durations: [Histogram; CLASSES.len()],
}

impl RouteStats {
    /// How long the answers took that were a success.
    pub fn successes(&self) -> Distribution {
        self.durations[1].snapshot()
    }

    fn new(route: impl Into<String>, method: impl Into<String>) -> Self {
        let durations = CLASSES.map(|_| Histogram::of_durations());
        Self { route: route.into(), method: method.into(), durations }
    }
}

/// Every operation's answers.
#[derive(Debug)]
pub struct HttpStats {
    /// The last is for requests without an operation.
    routes: Vec<RouteStats>,
    by_operation: HashMap<&'static str, usize>,
}

impl HttpStats {
    /// Cells for all operations, and for pages that are none but have a name and a path.
    pub fn new(apis: Vec<MetaApi>, pages: &[(&'static str, &'static str)]) -> Self {
        let mut routes = Vec::new();
        let mut by_operation = HashMap::new();
        for path in apis.into_iter().flat_map(|api| api.paths) {
            for operation in path.operations {
                if let Some(id) = operation.operation_id {
                    by_operation.insert(id, routes.len());
                    routes.push(RouteStats::new(path.path.clone(), operation.method.as_str()));
                }
            }
        }
        for (name, path) in pages {
            by_operation.insert(*name, routes.len());
            routes.push(RouteStats::new(*path, "GET"));
        }
        routes.push(RouteStats::new(NO_ROUTE, NO_ROUTE));
        Self { routes, by_operation }
    }

    /// A request was answered.
    pub fn answered(&self, operation: Option<OperationId>, status: StatusCode, took: Duration) {
        let route = operation.and_then(|operation| self.by_operation.get(operation.0).copied());
        let route = route.and_then(|index| self.routes.get(index)).or_else(|| self.routes.last());
        let class = usize::from(status.as_u16() / 100).saturating_sub(1).min(CLASSES.len() - 1);
        if let Some(route) = route {
            route.durations[class].record_duration(took);
        }
    }

    /// All of them.
    pub fn routes(&self) -> &[RouteStats] {
        &self.routes
    }

    /// The answers to one operation.
    pub fn route(&self, operation: &str) -> Option<&RouteStats> {
        self.by_operation.get(operation).and_then(|index| self.routes.get(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_at_its_operation_and_class() {
        let stats = HttpStats::new(crate::resource::stated(), &[("docs", "/docs")]);
        stats.answered(Some(OperationId("consume")), StatusCode::CREATED, Duration::from_millis(1));
        stats.answered(Some(OperationId("docs")), StatusCode::OK, Duration::from_millis(1));
        stats.answered(None, StatusCode::NOT_FOUND, Duration::from_millis(1));
        let counted: Vec<_> = stats
            .routes()
            .iter()
            .flat_map(|route| {
                CLASSES.iter().zip(&route.durations).map(move |(class, durations)| {
                    (route.route.as_str(), route.method.as_str(), *class, durations.snapshot().count())
                })
            })
            .filter(|(.., count)| *count > 0)
            .collect();
        let expected = [
            ("/v1/organizations/{organization_id}/consume", "POST", "2xx", 1),
            ("/docs", "GET", "2xx", 1),
            ("none", "none", "4xx", 1),
        ];
        assert_eq!(counted, expected);
    }
}
