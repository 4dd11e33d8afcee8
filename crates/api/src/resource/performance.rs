//! `/v1/performance`: how the database is, measured now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use multicredit_domain::Timestamp;
use multicredit_store::performance::{Finding, Latency, Measured, PerformanceReport, PoolFigures};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use tokio::sync::Mutex;

use super::example;
use crate::app::State;
use crate::auth::{Auth, scope};
use crate::openapi::Tag;
use crate::payload::Json;
use crate::problem::{Failure, Problem, failures};
use crate::report;
use crate::wire::{Shape, Wire};

/// How long a report is shown again: making one runs a dozen statements, some of which spend and take back.
const SHOWN_FOR: Duration = Duration::from_secs(10);

/// The last report that was made here. Whoever asks while one is made waits for that one.
#[derive(Debug, Default)]
pub struct LastReport(Mutex<Option<(Instant, Arc<PerformanceReport>)>>);

impl LastReport {
    /// A report that is not older than some seconds.
    pub async fn get(&self, state: &State) -> Result<Arc<PerformanceReport>, Problem> {
        let mut last = self.0.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < SHOWN_FOR
        {
            return Ok(Arc::clone(report));
        }
        let consumption = state.http.route("consume").and_then(|route| report::latency_of(&route.successes()));
        let report = Arc::new(state.store.performance(consumption, &state.settings.thresholds).await?);
        *last = Some((Instant::now(), Arc::clone(&report)));
        Ok(report)
    }
}

/// Something that is not as it should be, and what to do about it.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "PerformanceFinding")]
struct FindingBody {
    /// `critical`, `warning` or `notice`.
    severity: String,
    /// What it is about.
    subject: String,
    /// What was found, with the figure and the threshold.
    detail: String,
    /// The exact command that helps, or that shows more.
    command: String,
}

impl From<&Finding> for FindingBody {
    fn from(finding: &Finding) -> Self {
        Self {
            severity: finding.severity.as_str().to_owned(),
            subject: finding.subject.clone(),
            detail: finding.detail.clone(),
            command: finding.command.clone(),
        }
    }
}

/// How the database is.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Performance {
    /// When it was measured.
    created_at: Wire<Timestamp>,
    /// `A+` to `F`.
    grade: String,
    /// The rule that gave the grade.
    rule: String,
    /// What is not as it should be, the worst first.
    findings: Vec<FindingBody>,
    /// The figures.
    measured: Wire<Arc<Measured>>,
}

impl Example for Performance {
    fn example() -> Self {
        Self {
            created_at: example::time(),
            grade: "B".to_owned(),
            rule: "one or two warnings (0 critical, 1 warnings, 0 notices)".to_owned(),
            findings: vec![FindingBody {
                severity: "warning".to_owned(),
                subject: "organization_credits".to_owned(),
                detail: "1500 dead rows, more than 1000".to_owned(),
                command: "VACUUM (ANALYZE) organization_credits;".to_owned(),
            }],
            measured: Wire(Arc::new(Measured {
                at: example::time().0,
                engine: "postgres".to_owned(),
                version: "15.14".to_owned(),
                size_bytes: Some(16_777_216),
                counting_since: Some(example::time().0),
                consumption: Some(Latency {
                    source: "POST .../consume of this server since its start".to_owned(),
                    count: 4_711,
                    mean_ms: 2.5,
                    p50_ms: 1.9,
                    p95_ms: 6.2,
                    p99_ms: 11.0,
                }),
                queries: Vec::new(),
                tables: Vec::new(),
                indexes: Vec::new(),
                buffer_hit_ratio: Some(0.998),
                caches: Vec::new(),
                pool: PoolFigures {
                    max: 12,
                    open: 4,
                    idle: 3,
                    wait_p95_ms: Some(0.25),
                    timeouts: 0,
                    database_connections: Some(9),
                    database_connections_max: Some(100),
                },
                statements: Vec::new(),
                unknown: Vec::new(),
            })),
        }
    }
}

impl Shape for Arc<Measured> {
    const NAME: &'static str = "PerformanceFigures";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "Queries with their plans and times, tables, indexes, caches, connections, and what the engine cannot \
                 tell; the same as `multicredit report --format json` has under `measured`. Fields may be added.",
            ),
            additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
            ..MetaSchema::new("object")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Measured::deserialize(deserializer).map(Self::new)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Performance")]
impl Api {
    /// How is the database?
    ///
    /// Measures indexes, critical queries, tables, caches and connections, and judges them; not older than 10 seconds.
    /// Latency is that of this server. Scope: `read`, with a key that is bound to no organization.
    #[oai(path = "/performance", method = "get", operation_id = "getPerformance")]
    async fn get(&self, auth: Auth<scope::Observe>) -> Result<Json<Performance>, Failure<failures::Listing>> {
        let report = auth.context().state().report.get(auth.context().state()).await?;
        Ok(Json(Performance {
            created_at: Wire(report.measured.at),
            grade: report.assessment.grade.clone(),
            rule: report.assessment.rule.clone(),
            findings: report.assessment.findings.iter().map(FindingBody::from).collect(),
            measured: Wire(Arc::new(report.measured.clone())),
        }))
    }
}
