//! Spans for a collector of OpenTelemetry, by OTLP over HTTP: a span for each request, within the caller's trace, and one
//! for each batch of the ledger's writer.
//!
//! They say what the log says: methods, operations, statuses, ids of requests; never a key, a body or a path as it was
//! sent. Who wants all of this names a collector; without one nothing of it runs. What the collector does not take is
//! dropped: no request waits for it.
//!
//! The endpoint is ours to read; what else there is to say (`OTEL_SERVICE_NAME`, `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_TRACES_SAMPLER`, `OTEL_BSP_...`) the SDK reads from the environment as its specification says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use poem::http::HeaderMap;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// What a service is called that is not told its name.
const SERVICE_NAME: &str = "multicredit";

/// Whose spans are sent: those of our crates, whose names begin so.
const TARGET: &str = "multicredit";

/// How long the collector may take for a parcel of spans.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end of the process waits for the last spans to be taken.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sends spans until it is finished.
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Sends to the collector at that address (`http://host:port`), by the connections of that runtime.
    pub fn start(endpoint: &str, runtime: &Handle) -> anyhow::Result<Self> {
        let _entered = runtime.enter();
        let client = HyperClient::with_default_connector(TIMEOUT, None);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OnRuntime { client: Arc::new(client), runtime: runtime.clone() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()
            .context("cannot send spans")?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE_NAME);
        }
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        Ok(Self { provider })
    }

    /// What takes the spans from where they are made.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer = self.provider.tracer(SERVICE_NAME);
        let wanted = Targets::new().with_target(TARGET, tracing::Level::INFO);
        tracing_opentelemetry::layer()
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_tracer(tracer)
            .with_filter(wanted)
    }

    /// Sends what is left, if it is taken soon. It blocks.
    pub fn finish(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes the span a part of the caller's trace, if the request's headers name one (`traceparent`, W3C Trace Context).
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
    // It fails where nobody takes spans, and then there is nothing to continue.
    let _ = span.set_parent(caller);
}

/// Names a span that has begun.
pub fn rename(span: &Span, name: &'static str) {
    span.context().span().update_name(name);
}

/// A client whose requests are driven by a runtime, whoever waits for them: the SDK does on a thread of its own.
#[derive(Debug)]
struct OnRuntime {
    client: Arc<HyperClient>,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
