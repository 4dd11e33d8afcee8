//! Which request goes where.
//!
//! poem-openapi knows the operations; the table is built here rather than by its service, for what that leaves open: a
//! method that a path does not have is answered with `Allow`, a query parameter that an operation does not document is
//! refused, and there is no layer in between that costs without giving.

use std::collections::{BTreeMap, HashMap};
use std::future::ready;

use bytes::Bytes;
use futures_util::future::Either;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::http::{HeaderValue, Method};
use poem::{Body, Endpoint, EndpointExt as _, Request, Response, Route};
use poem_openapi::registry::MetaParamIn;
use poem_openapi::{OpenApi, OperationId};

use crate::param::QueryPairs;
use crate::problem::{Problem, presentable};

/// One operation.
struct Operation {
    endpoint: BoxEndpoint<'static>,
    /// The query parameters that it documents.
    query: Vec<String>,
}

/// The operations of one path.
struct Methods {
    operations: Vec<(Method, Operation)>,
    allow: HeaderValue,
}

/// The routes of all operations, and of pages that are no operations.
pub fn routes<A: OpenApi, const N: usize>(api: A, pages: [(&'static str, BoxEndpoint<'static>); N]) -> Route {
    let mut query = documented_queries::<A>();
    let mut table: HashMap<String, HashMap<Method, BoxEndpoint<'static>>> = HashMap::new();
    api.add_routes(&mut table);
    for (path, page) in pages {
        table.insert(path.to_owned(), HashMap::from([(Method::GET, page)]));
    }
    // In order of their paths, so that the order of the table does not change from run to run.
    table.into_iter().collect::<BTreeMap<_, _>>().into_iter().fold(Route::new(), |route, (path, endpoints)| {
        let operations = endpoints.into_iter().map(|(method, endpoint)| {
            let query = query.remove(&(path.clone(), method.clone())).unwrap_or_default();
            (method, Operation { endpoint, query })
        });
        let methods = Methods::new(operations.collect());
        route.at(path, methods)
    })
}

/// A page that never changes, with the name that requests for it are counted under.
pub fn page(name: &'static str, content_type: &'static str, text: String) -> BoxEndpoint<'static> {
    // Shared by all answers: the documentation is over a megabyte.
    let text = Bytes::from(text);
    make_sync(move |_| {
        let mut response = Response::builder().content_type(content_type).body(Body::from_bytes(text.clone()));
        response.set_data(OperationId(name));
        response
    })
    .boxed()
}

/// The names of the query parameters of every operation.
fn documented_queries<A: OpenApi>() -> HashMap<(String, Method), Vec<String>> {
    let paths = A::meta().into_iter().flat_map(|api| api.paths);
    let operations = paths.flat_map(|path| {
        let pattern = pattern(&path.path);
        path.operations.into_iter().map(move |operation| (pattern.clone(), operation))
    });
    operations
        .map(|(pattern, operation)| {
            let query = operation.params.into_iter().filter(|parameter| parameter.in_type == MetaParamIn::Query);
            ((pattern, operation.method), query.map(|parameter| parameter.name).collect())
        })
        .collect()
}

/// The routing table's form of a documented path: `/a/{id}/b/{c}` is `/a/:param0/b/:param1` there.
fn pattern(path: &str) -> String {
    let mut parameters = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return segment.to_owned();
        }
        let name = format!(":param{parameters}");
        parameters += 1;
        name
    });
    segments.collect::<Vec<_>>().join("/")
}

impl Methods {
    fn new(mut operations: Vec<(Method, Operation)>) -> Self {
        operations.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let mut allow: Vec<&str> = operations.iter().map(|(method, _)| method.as_str()).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        let allow = HeaderValue::from_str(&allow.join(", ")).expect("methods are visible characters");
        Self { operations, allow }
    }

    fn find(&self, method: &Method) -> Option<&Operation> {
        // HEAD is GET, whose body the outermost middleware leaves out.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.operations.iter().find(|(other, _)| other == method).map(|(_, operation)| operation)
    }

    /// The operation that is asked for, once the query string is known to be one of it.
    fn operation(&self, request: &mut Request) -> Result<&Operation, Problem> {
        let operation = self.find(request.method()).ok_or_else(|| Problem::method_not_allowed(self.allow.clone()))?;
        if request.uri().query().is_some() {
            let pairs = query_pairs(request, &operation.query)?;
            request.set_data(pairs);
        }
        Ok(operation)
    }
}

impl Endpoint for Methods {
    type Output = Response;

    // No `async fn`: its future would keep room for the request twice, for as long as the request is in hand.
    fn call(&self, mut request: Request) -> impl Future<Output = poem::Result<Response>> + Send {
        match self.operation(&mut request) {
            Ok(operation) => Either::Left(operation.endpoint.call(request)),
            Err(problem) => Either::Right(ready(Err(problem.into()))),
        }
    }
}

/// Takes the query string apart and refuses what the operation does not have.
fn query_pairs(request: &Request, documented: &[String]) -> Result<QueryPairs, Problem> {
    let pairs: Vec<(String, String)> =
        request.params().map_err(|_| Problem::invalid("", "the query string is malformed"))?;
    for (index, (name, _)) in pairs.iter().enumerate() {
        if !documented.contains(name) {
            return Err(Problem::invalid(
                presentable(name).unwrap_or_default(),
                "is not a query parameter of this operation",
            ));
        }
        if pairs[..index].iter().any(|(other, _)| other == name) {
            return Err(Problem::invalid(name.as_str(), "must not be given twice"));
        }
    }
    Ok(QueryPairs(pairs.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_paths_are_found_in_the_routing_table() {
        assert_eq!(pattern("/v1/a"), "/v1/a");
        assert_eq!(pattern("/v1/a/{id}/b/{other}"), "/v1/a/:param0/b/:param1");
    }

    fn pairs(query: &str) -> Result<QueryPairs, Problem> {
        let request = Request::builder().uri_str(format!("/x?{query}")).finish();
        query_pairs(&request, &["limit".to_owned(), "cursor".to_owned()])
    }

    #[test]
    fn only_documented_query_parameters_pass_and_each_once() {
        let pairs_of = |query| pairs(query).unwrap().0.to_vec();
        assert_eq!(pairs_of(""), []);
        assert_eq!(
            pairs_of("limit=1&cursor=a%20b"),
            [("limit".to_owned(), "1".to_owned()), ("cursor".to_owned(), "a b".to_owned())]
        );
        for bad in ["page=2", "limit=1&limit=1", "Limit=1", "limit[]=1", "=1"] {
            assert!(pairs(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn what_is_sent_as_a_name_is_not_said_back_unless_it_is_plain() {
        let field = |query| pairs(query).unwrap_err().into_field_errors().into_vec().remove(0).field;
        assert_eq!(field("page=2"), "page");
        assert_eq!(field("%3Cscript%3E=1"), "");
    }
}
