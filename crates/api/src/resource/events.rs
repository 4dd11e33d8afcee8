//! `/v1/events`: consumptions that come as CloudEvents.

use futures_util::{StreamExt as _, stream};
use multicredit_store::{ConsumeItem, clock};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi};
use serde_json::value::RawValue;

use super::results::{self, Results};
use crate::auth::{Auth, scope};
use crate::cloud_event::{self, CloudEvent};
use crate::limits::{BATCH_ITEMS_MAX, DIRECTORY_LOOKUPS_MAX};
use crate::occurrence::OccurrenceWindow;
use crate::openapi::Tag;
use crate::payload::{self, Json};
use crate::problem::{Code, Failure, FieldErrors, Problem, failures};

/// What an array of events must be.
const MANY_EXPECTED: &str = {
    const _: () = assert!(BATCH_ITEMS_MAX == 1000, "the text names this limit");
    "must be an array of 1 to 1000 events"
};

/// The events of a request. One that is not valid is refused alone if it came with others.
pub struct Events(pub Vec<Result<CloudEvent, FieldErrors>>);

impl Events {
    fn one(text: &str) -> Result<Self, Problem> {
        Ok(Self(vec![Ok(payload::parse_object(text)?)]))
    }

    /// Reads an array of events.
    pub fn many(text: &str) -> Result<Self, Problem> {
        let events: Vec<&RawValue> = payload::parse_borrowed(text, MANY_EXPECTED)?;
        if !(1..=BATCH_ITEMS_MAX).contains(&events.len()) {
            return Err(Problem::invalid("", MANY_EXPECTED));
        }
        Ok(Self(events.into_iter().map(|event| CloudEvent::parse(event.get())).collect()))
    }
}

impl<'a> ApiExtractor<'a> for Events {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        payload::register_request::<CloudEvent>(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let many = MetaSchema {
            items: Some(Box::new(CloudEvent::schema_ref())),
            min_items: Some(1),
            max_items: Some(BATCH_ITEMS_MAX),
            ..MetaSchema::new("array")
        };
        let many = MetaSchemaRef::Inline(Box::new(many));
        let content = vec![
            MetaMediaType { content_type: cloud_event::ONE, schema: CloudEvent::schema_ref() },
            MetaMediaType { content_type: cloud_event::MANY, schema: many },
        ];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = payload::take(body).await?;
        let events = match payload::content_type(request)? {
            Some(cloud_event::ONE) => Self::one(payload::text(&bytes)?),
            Some(cloud_event::MANY) => Self::many(payload::text(&bytes)?),
            _ => Err(Problem::new(Code::UnsupportedMediaType)),
        };
        Ok(events?)
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::Consumption")]
impl Api {
    /// Report events
    ///
    /// Takes CloudEvents 1.0, one or up to 1000: `type` is the action, `subject` the organization's `external_id`,
    /// `source` and `id` together the idempotency key, `data.quantity` how much, `time` when. Each has a result with the
    /// status and body that the consumption would have had alone, in order; an event that was charged before has
    /// `replayed: true`. An event that is not valid is refused alone if it came in an array.
    ///
    /// Scope: `consume`.
    #[oai(path = "/events", method = "post", operation_id = "reportEvents")]
    async fn report(
        &self,
        auth: Auth<scope::Consume>,
        events: Events,
    ) -> Result<Json<Results>, Failure<failures::Batching>> {
        let window = OccurrenceWindow::around(clock::now());
        // In order, but with several look-ups under way: subjects that were never seen cost a round trip each.
        let items = stream::iter(events.0).map(|event| item(&auth, event, window)).buffered(DIRECTORY_LOOKUPS_MAX);
        let items = items.collect().await;
        Ok(Json(results::consume(&auth, items).await))
    }
}

async fn item<R>(
    auth: &Auth<R>,
    event: Result<CloudEvent, FieldErrors>,
    window: OccurrenceWindow,
) -> Result<ConsumeItem, Problem> {
    let event = event?;
    let organization_id = auth.organization_of_subject(event.subject()).await?;
    Ok(event.into_item(organization_id, window)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"sms","subject":"acme"}"#;

    #[test]
    fn an_event_that_is_not_valid_is_refused_alone_among_others() {
        let events = Events::many(&format!("[{GOOD}, {{}}, 7, {GOOD}]")).unwrap().0;
        let valid: Vec<bool> = events.iter().map(Result::is_ok).collect();
        assert_eq!(valid, [true, false, false, true]);
        assert!(Events::one("{}").is_err());
    }

    #[test]
    fn what_is_no_array_of_1_to_1000_is_refused_as_a_whole() {
        let array = |length: usize| format!("[{}]", vec![GOOD; length].join(","));
        assert_eq!(Events::many(&array(BATCH_ITEMS_MAX)).unwrap().0.len(), BATCH_ITEMS_MAX);
        for bad in ["", "{}", "[]", GOOD, "[1", "null", &array(BATCH_ITEMS_MAX + 1), &"[".repeat(5000)] {
            assert!(Events::many(bad).is_err(), "{} was accepted", &bad[..bad.len().min(20)]);
        }
    }
}
