//! The application: everything that answers HTTP, put together.

use std::sync::Arc;
use std::time::Duration;

use multicredit_domain::webhook::Network;
use multicredit_store::Store;
use multicredit_store::performance::Thresholds;
use poem::{Endpoint, EndpointExt as _, IntoEndpoint as _, Request, Response};
use tokio::sync::watch;

use crate::auth::cache::KeyCache;
use crate::auth::token::Tokens;
use crate::config::MetricsAccess;
use crate::dashboard::{self, LastFleet};
use crate::directory::Directory;
use crate::limits;
use crate::live::Streams;
use crate::metrics::http::HttpStats;
use crate::middleware::{Envelope, RequestId};
use crate::problem::Problem;
use crate::rate_limit::{RateLimitSettings, RateLimits, Standing};
use crate::resource::LastReport;
use crate::server::Connections;
use crate::webhook::courier::Courier;
use crate::{metrics, openapi, resource, router};

/// What requests for pages that are no operations are counted as.
const DOCUMENT: &str = "openapi_document";
const SWAGGER_UI: &str = "docs";

/// What can be set about the application. Everything else is a limit with a reason ([`limits`]).
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// The version that the OpenAPI document carries.
    pub version: &'static str,
    /// Whether `/health/ready` may say so; keep a clone to switch it off at shutdown.
    pub readiness: Readiness,
    /// The connections that are served; keep a clone for the server.
    pub connections: Connections,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// Who may see `/metrics`.
    pub metrics: MetricsAccess,
    /// From where on a figure of the performance report is worth a word.
    pub thresholds: Thresholds,
    /// How many requests a second are answered.
    pub rate_limits: RateLimitSettings,
    /// Whether requests are told of in spans, as parts of the callers' traces.
    pub traced: bool,
    /// Which networks webhooks may go to beside public addresses.
    pub webhook_networks: Vec<Network>,
    /// What verifies signed tokens of users, if any are taken.
    pub tokens: Option<Arc<Tokens>>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            readiness: Readiness::default(),
            connections: Connections::default(),
            body_timeout: limits::BODY_TIMEOUT,
            metrics: MetricsAccess::Open,
            thresholds: Thresholds::default(),
            rate_limits: RateLimitSettings::default(),
            traced: false,
            webhook_networks: Vec::new(),
            tokens: None,
        }
    }
}

/// Whether this process wants new requests. Its clones are one switch.
#[derive(Debug, Clone)]
pub struct Readiness(watch::Sender<bool>);

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Readiness {
    /// Wants no more requests, for good: load balancers see it at their next look.
    pub fn end(&self) {
        self.0.send_replace(false);
    }

    /// Whether it wants requests.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// The same, to be told when it ends.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// What all requests share.
pub struct State {
    /// The store.
    pub store: Store,
    /// Which keys are valid.
    pub keys: KeyCache,
    /// Which organization a customer's own name stands for.
    pub directory: Directory,
    /// The settings.
    pub settings: AppSettings,
    /// How requests were answered.
    pub http: HttpStats,
    /// How many requests a second are answered.
    pub rates: RateLimits,
    /// What sends webhooks that are sent by hand.
    pub courier: Courier,
    /// The last performance report.
    pub report: LastReport,
    /// What the dashboard last said of all organizations.
    pub fleet: LastFleet,
    /// The streams that are open.
    pub streams: Streams,
}

impl State {
    /// What all requests share to begin with.
    pub fn new(store: Store, settings: AppSettings) -> Self {
        let caches = &store.stats().caches;
        let keys = KeyCache::new(caches.cache("api_keys"));
        let directory = Directory::new(caches.cache("external_ids"));
        let pages = [
            (DOCUMENT, "/openapi.json"),
            (SWAGGER_UI, "/docs"),
            (metrics::OPERATION, "/metrics"),
            (dashboard::OPERATION, dashboard::PATH),
        ];
        let http = HttpStats::new(resource::stated(), &pages);
        let rates = RateLimits::new(settings.rate_limits);
        let courier = Courier::new(settings.webhook_networks.clone());
        let (report, fleet, streams) = (LastReport::default(), LastFleet::default(), Streams::default());
        Self { store, keys, directory, settings, http, rates, courier, report, fleet, streams }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What a request carries: which one it is, and what all requests share.
#[derive(Debug, Clone)]
pub struct Context {
    state: Arc<State>,
    request_id: RequestId,
    /// Only where there are rate limits.
    standing: Option<Arc<Standing>>,
}

impl Context {
    /// The context of a request.
    pub fn new(state: Arc<State>, request_id: RequestId) -> Self {
        let standing = state.rates.is_on().then(Arc::default);
        Self { state, request_id, standing }
    }

    /// The context that the outermost middleware gave to the request.
    pub fn of(request: &Request) -> Result<Self, Problem> {
        request.data::<Self>().cloned().ok_or_else(|| Problem::internal("a request without its context"))
    }

    /// What all requests share.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How the rate limits of the request stand; none where there are none.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_deref()
    }

    /// The same, for whoever writes the answer's headers when the request has the context no longer.
    pub fn shared_standing(&self) -> Option<Arc<Standing>> {
        self.standing.clone()
    }

    /// The request's id.
    pub const fn request_id(&self) -> &RequestId {
        &self.request_id
    }
}

/// Everything that the service answers: `/v1`, `/health/*`, `/metrics`, `/openapi.json`, `/docs` and `/dashboard`,
/// behind the middleware.
pub fn endpoint(store: Store, settings: AppSettings) -> impl Endpoint<Output = Response> + 'static {
    let document = openapi::Document::new(settings.version);
    let pages = [
        ("/openapi.json", router::page(DOCUMENT, "application/json", document.json)),
        ("/docs", router::page(SWAGGER_UI, "text/html; charset=utf-8", document.swagger_ui)),
        ("/metrics", metrics::page()),
    ];
    let routes = router::routes(resource::api(), pages);
    let routes = dashboard::PATHS.into_iter().fold(routes, |routes, path| routes.at(path, dashboard::endpoint()));
    let routes = routes.into_endpoint().map_to_response();
    Envelope::new(routes, Arc::new(State::new(store, settings)))
}

/// The OpenAPI document: pretty, in a fixed order, the same for every run.
pub fn openapi_json() -> String {
    openapi::Document::new(AppSettings::default().version).json
}
