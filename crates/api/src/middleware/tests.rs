use multicredit_store::{Store, StoreConfig};
use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::{EndpointExt as _, IntoResponse};
use serde_json::Value;

use super::*;
use crate::app::{self, AppSettings, Readiness};

/// A database without tables: enough for whatever does not get so far.
async fn store() -> Store {
    Store::open(StoreConfig::new("sqlite::memory:")).await.unwrap()
}

async fn send(endpoint: &impl Endpoint<Output = Response>, method: Method, uri: &str) -> (Response, Value) {
    let request = Request::builder().method(method).uri_str(uri).finish();
    let mut response = endpoint.call(request).await.unwrap();
    let body = response.take_body().into_vec().await.unwrap();
    (response, serde_json::from_slice(&body).unwrap_or_default())
}

/// The application.
async fn service() -> impl Endpoint<Output = Response> {
    app::endpoint(store().await, AppSettings::default())
}

/// What the layer makes of a route of the test's own.
async fn answer_of<T>(route: impl Fn() -> poem::Result<T> + Send + Sync) -> (Response, Value)
where
    T: IntoResponse + Sync,
{
    let routes = make_sync(move |_| route()).map_to_response();
    let state = State::new(store().await, AppSettings::default());
    send(&Envelope::new(routes, Arc::new(state)), Method::GET, "/v1/x").await
}

fn assert_problem((response, body): &(Response, Value), status: StatusCode, code: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(response.content_type(), Some("application/problem+json"));
    assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.as_u16().into()));
    assert_eq!(body["request_id"].as_str(), response.header("X-Request-Id"));
    assert_eq!(response.header("X-Content-Type-Options"), Some("nosniff"));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let service = service().await;
    for path in ["/", "/v1", "/v1/nothing", "/v1/organizations/", "//v1/organizations", "/v1/%00", "/docs/"] {
        assert_problem(&send(&service, Method::GET, path).await, StatusCode::NOT_FOUND, "unknown_path");
    }
}

#[tokio::test]
async fn a_browser_that_came_over_tls_is_told_to_come_no_other_way() {
    let service = service().await;
    for (forwarded, told) in [
        (None, None),
        (Some("http"), None),
        (Some("http, https"), None),
        (Some("https"), Some("max-age=31536000")),
        (Some("HTTPS, http"), Some("max-age=31536000")),
    ] {
        for path in ["/health/live", "/v1/actions", "/dashboard/login", "/nothing"] {
            let request = Request::builder().uri_str(path);
            let request = forwarded.into_iter().fold(request, |request, by| request.header("X-Forwarded-Proto", by));
            let response = service.call(request.finish()).await.unwrap();
            assert_eq!(response.header("Strict-Transport-Security"), told, "{path} by {forwarded:?}");
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_answered_with_those_it_has() {
    let service = service().await;
    for (path, method, allow) in [
        ("/v1/organizations", Method::DELETE, "GET, POST, HEAD"),
        ("/v1/consume/batch", Method::GET, "POST"),
        ("/v1/consume/batch", Method::HEAD, "POST"),
        ("/health/live", Method::OPTIONS, "GET, HEAD"),
        ("/openapi.json", Method::POST, "GET, HEAD"),
    ] {
        let answer = send(&service, method, path).await;
        assert_eq!(answer.0.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.0.header("Allow"), Some(allow), "{path}");
    }
}

#[tokio::test]
async fn without_a_key_every_operation_gives_one_and_the_same_answer() {
    let service = service().await;
    let mut operations = 0;
    for path in crate::resource::stated().into_iter().flat_map(|api| api.paths) {
        let uri = path.path.replace(['{', '}'], "");
        for operation in path.operations {
            if operation.security.is_empty() {
                continue;
            }
            operations += 1;
            let answer = send(&service, operation.method, &uri).await;
            assert_problem(&answer, StatusCode::UNAUTHORIZED, "unauthorized");
            assert_eq!(answer.0.header("WWW-Authenticate"), Some("Bearer"));
        }
    }
    assert!(operations >= 18, "only {operations} operations were tried");
}

#[tokio::test]
async fn a_panic_is_a_problem_without_its_text() {
    let answer = answer_of(|| -> poem::Result<&'static str> { panic!("secret") }).await;
    assert_problem(&answer, StatusCode::INTERNAL_SERVER_ERROR, "internal");
    assert!(!answer.1.to_string().contains("secret"));
}

#[tokio::test]
async fn errors_of_the_framework_are_problems_without_their_texts() {
    let error = |status| move || -> poem::Result<&'static str> { Err(poem::Error::from_string("secret", status)) };
    for (status, code) in [
        (StatusCode::BAD_REQUEST, "invalid_request"),
        (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    ] {
        let answer = answer_of(error(status)).await;
        assert_problem(&answer, status, code);
        assert!(!answer.1.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn an_error_status_without_a_problem_becomes_one() {
    let answer = answer_of(|| Ok("secret".with_status(StatusCode::INTERNAL_SERVER_ERROR))).await;
    assert_problem(&answer, StatusCode::INTERNAL_SERVER_ERROR, "internal");
    let answer = answer_of(|| Ok("secret".with_status(StatusCode::NOT_FOUND))).await;
    assert_problem(&answer, StatusCode::NOT_FOUND, "unknown_path");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_answered() {
    let service = service().await;
    let body = vec![b' '; crate::limits::BODY_MAX_BYTES + 1];
    let request = Request::builder().method(Method::POST).uri_str("/v1/consume/batch").body(body);
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_callers_request_id_comes_back() {
    let request = Request::builder().uri_str("/health/live").header("X-Request-Id", "trace-1").finish();
    let response = service().await.call(request).await.unwrap();
    assert_eq!(response.header("X-Request-Id"), Some("trace-1"));
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let service = service().await;
    let (get, body) = send(&service, Method::GET, "/health/live").await;
    let (head, nothing) = send(&service, Method::HEAD, "/health/live").await;
    assert_eq!((get.status(), body["status"].as_str()), (StatusCode::OK, Some("live")));
    assert_eq!((head.status(), nothing), (StatusCode::OK, Value::Null));
    assert_eq!(head.header("Content-Length"), Some(body.to_string().len().to_string().as_str()));
}

#[tokio::test]
async fn answers_of_the_api_are_not_to_be_stored() {
    let service = service().await;
    let cache = |answer: (Response, Value)| answer.0.header("Cache-Control").map(str::to_owned);
    assert_eq!(cache(send(&service, Method::GET, "/v1/actions").await).as_deref(), Some("no-store"));
    assert_eq!(cache(send(&service, Method::GET, "/openapi.json").await), None);
}

#[tokio::test]
async fn a_process_that_ends_is_alive_but_not_ready() {
    let readiness = Readiness::default();
    let service = app::endpoint(store().await, AppSettings { readiness: readiness.clone(), ..AppSettings::default() });
    assert_eq!(send(&service, Method::GET, "/health/ready").await.1["status"], "ready");
    readiness.end();
    let answer = send(&service, Method::GET, "/health/ready").await;
    assert_problem(&answer, StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    assert_eq!(send(&service, Method::GET, "/health/live").await.1["status"], "live");
}

#[tokio::test]
async fn the_documentation_is_served_and_needs_nothing_from_elsewhere() {
    let service = service().await;
    let (_, document) = send(&service, Method::GET, "/openapi.json").await;
    assert_eq!(document, serde_json::from_str::<Value>(&app::openapi_json()).unwrap());
    let request = Request::builder().uri_str("/docs").finish();
    let page = service.call(request).await.unwrap().into_body().into_string().await.unwrap();
    assert!(page.contains(&app::openapi_json()), "the page shows the document that is served");
    for (start, _) in page.match_indices("<script") {
        assert!(!page[start..start + 40].contains("src="), "a script from elsewhere");
    }
    assert!(!page.contains("<link "), "a style from elsewhere");
}
